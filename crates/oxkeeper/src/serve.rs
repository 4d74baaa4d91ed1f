//! `oxkeeper serve` and `oxkeeper check-config`.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use oxkeeper_server::config::{
    self, EnsembleConfig, InvalidConfig, LoadedConfig, Notice, NoticeLevel, ServerConfig,
};
use oxkeeper_server::{Running, ServeError};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{EXIT_INVALID, EXIT_UNEXPECTED, say};

/// Runs a server from a file (one argument), from `port datadir [ticktime] [maxcnxns]`, or from defaults (none).
pub(crate) fn serve(arguments: &[String]) -> ExitCode {
    let loaded = match arguments {
        [] => Ok(LoadedConfig {
            config: ServerConfig::embedded(),
            notices: Vec::new(),
        }),
        [file] => config::load_file(file),
        several => config::load_arguments(several),
    };
    let LoadedConfig { config, notices } = match loaded {
        Ok(loaded) => loaded,
        Err(invalid) => return refuse(&invalid),
    };
    for notice in &notices {
        match notice.level {
            NoticeLevel::Info => tracing::info!("{notice}"),
            NoticeLevel::Warning => tracing::warn!("{notice}"),
        }
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return fail(
                EXIT_UNEXPECTED,
                &format!("the runtime cannot be started: {error}"),
            );
        }
    };
    match runtime.block_on(run(config, arguments.is_empty())) {
        Ok(()) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

async fn run(config: ServerConfig, say_banner: bool) -> Result<(), ExitCode> {
    let handlers =
        signal(SignalKind::interrupt()).and_then(|int| Ok((int, signal(SignalKind::terminate())?)));
    let (interrupt, terminate) = match handlers {
        Ok(handlers) => handlers,
        Err(error) => {
            return Err(fail(
                EXIT_UNEXPECTED,
                &format!("signals cannot be handled: {error}"),
            ));
        }
    };
    let (data_dir, is_member) = (config.storage.data_dir.clone(), config.ensemble.is_some());
    let on_ready = move |server: Running| {
        let address = server.address();
        // A member serves them once it is in step with a leader, and says so then.
        let what = if is_member {
            "open to clients"
        } else {
            "serving clients"
        };
        tracing::info!(%address, data_dir = %data_dir.display(), "{what}");
        if say_banner {
            let mut out = io::stdout().lock();
            // A closed stdout is no reason to stop serving.
            let _ = out
                .write_all(banner(address, &data_dir).as_bytes())
                .and_then(|()| out.flush());
        }
    };
    let shutdown = stop_signal(interrupt, terminate);
    let served = oxkeeper_server::serve(config, on_ready, shutdown).await;
    served.map_err(|error| fail_serving(&error))
}

/// Completes at the first SIGINT or SIGTERM. A signal after that ends the process at once, with code 1, in case stopping
/// cleanly takes longer than the operator will wait.
async fn stop_signal(mut interrupt: Signal, mut terminate: Signal) {
    let name = next_signal(&mut interrupt, &mut terminate).await;
    tracing::info!("{name} received, stopping");
    tokio::spawn(async move {
        let name = next_signal(&mut interrupt, &mut terminate).await;
        tracing::error!("{name} received while stopping, giving up");
        std::process::exit(EXIT_UNEXPECTED.into());
    });
}

async fn next_signal(interrupt: &mut Signal, terminate: &mut Signal) -> &'static str {
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}

/// What a server that was started without arguments says on stdout once it serves.
fn banner(address: SocketAddr, data_dir: &Path) -> String {
    let version = env!("CARGO_PKG_VERSION");
    // A path that cannot be made absolute is still worth showing.
    let data_dir = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    [
        format!("Oxkeeper {version} serves the ZooKeeper protocol on {address}."),
        format!("  data       {}", data_dir.display()),
        format!("  connect    zkCli.sh -server {address}   (or any ZooKeeper client)"),
        "  configure  oxkeeper serve zoo.cfg".to_owned(),
        "  stop       Ctrl-C\n".to_owned(),
    ]
    .join("\n")
}

/// `oxkeeper check-config`: the notices on stdout, the problems on stderr.
pub(crate) fn check_config(file: &str) -> ExitCode {
    match config::load_file(file) {
        Err(invalid) => refuse(&invalid),
        Ok(LoadedConfig { config, notices }) => match print_check(file, &config, &notices) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(EXIT_UNEXPECTED, &format!("stdout cannot be written: {error}")),
        },
    }
}

fn print_check(file: &str, config: &ServerConfig, notices: &[Notice]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for notice in notices {
        let level = match notice.level {
            NoticeLevel::Info => "note",
            NoticeLevel::Warning => "warning",
        };
        writeln!(out, "{level}: {notice}")?;
    }
    let interface = config
        .client
        .address
        .map_or("every interface".to_owned(), |address| address.to_string());
    let (storage, session) = (&config.storage, &config.session);
    writeln!(out, "{file}: valid")?;
    writeln!(out, "  clients   port {} on {interface}", config.client.port)?;
    writeln!(out, "  snapshots {}", storage.snapshot_dir().display())?;
    writeln!(out, "  logs      {}", storage.txn_log_dir().display())?;
    writeln!(
        out,
        "  sessions  {} to {} ms, tick {} ms",
        session.timeout_ms_min, session.timeout_ms_max, session.tick_time_ms
    )?;
    if let Some(ensemble) = &config.ensemble {
        print_membership(&mut out, ensemble)?;
    }
    out.flush()
}

fn print_membership(out: &mut impl io::Write, ensemble: &EnsembleConfig) -> io::Result<()> {
    let own = ensemble.own();
    let role = match own.is_observer {
        true => "an observer",
        false => "a participant",
    };
    let list = |ids: &BTreeSet<_>| match ids.is_empty() {
        true => "none".to_owned(),
        false => ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    };
    writeln!(
        out,
        "  ensemble  server {}, {role}; participants {}; observers {}",
        ensemble.me,
        list(ensemble.quorum.voters()),
        list(ensemble.quorum.observers())
    )?;
    for address in &own.addresses {
        let host = match ensemble.quorum_listen_on_all_ips {
            true => "every interface",
            false => &address.host,
        };
        writeln!(
            out,
            "  servers   quorum port {} and election port {} of {host}",
            address.quorum_port, address.election_port
        )?;
    }
    writeln!(
        out,
        "  patience  initLimit {} ms, syncLimit {} ms",
        ensemble.tick_ms * ensemble.init_limit_ticks,
        ensemble.tick_ms * ensemble.sync_limit_ticks
    )
}

/// Says every reason, then ZooKeeper's sentence.
fn refuse(invalid: &InvalidConfig) -> ExitCode {
    for problem in &invalid.problems {
        say(&format!("error: {problem}"));
    }
    say("Invalid config, exiting abnormally");
    ExitCode::from(EXIT_INVALID)
}

/// Says why the server did not start or had to stop, then ZooKeeper's sentence for that exit code.
fn fail_serving(error: &ServeError) -> ExitCode {
    let code = error.exit_code();
    let exit = fail(code, &error.to_string());
    match code {
        2 => say("Invalid config, exiting abnormally"),
        3 => say("Unable to access datadir, exiting abnormally"),
        4 => say("Unable to start AdminServer, exiting abnormally"),
        _ => {}
    }
    exit
}

fn fail(code: u8, reason: &str) -> ExitCode {
    say(&format!("error: {reason}"));
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banner_says_what_is_served_where_the_data_is_how_to_connect_and_how_to_stop() {
        let text = banner("127.0.0.1:2181".parse().unwrap(), Path::new("/var/data"));
        let expected = [
            concat!(
                "Oxkeeper ",
                env!("CARGO_PKG_VERSION"),
                " serves the ZooKeeper protocol on 127.0.0.1:2181."
            ),
            "  data       /var/data",
            "  connect    zkCli.sh -server 127.0.0.1:2181   (or any ZooKeeper client)",
            "  configure  oxkeeper serve zoo.cfg",
            "  stop       Ctrl-C",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        assert!(
            banner("[::1]:1".parse().unwrap(), Path::new("data")).contains("data       /"),
            "absolute"
        );
    }
}
