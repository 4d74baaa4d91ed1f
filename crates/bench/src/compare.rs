//! Servers side by side under the same loads.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use oxkeeper_testkit::{ServerOptions, ServerProcess, ServerProgram};

use crate::load::{self, LoadOptions, SESSION_TIMEOUT_MS, Workload};
use crate::report::LoadTable;
use crate::{Error, Server};

/// The programs to compare.
///
/// # Errors
/// When one is not there.
pub(crate) fn contenders(servers: &[Server], heap: &str) -> Result<Vec<ServerProgram>, Error> {
    let program = |server: &Server| -> Result<ServerProgram, Error> {
        Ok(match server {
            Server::Oxkeeper => ServerProgram::oxkeeper()?,
            Server::Java => match ServerProgram::java()? {
                ServerProgram::Java {
                    classpath, logback, ..
                } => ServerProgram::Java {
                    classpath,
                    logback,
                    heap: heap.to_owned(),
                },
                other => other,
            },
        })
    };
    servers.iter().map(program).collect()
}

/// How every server here is configured: ZooKeeper's defaults (so each write is synced before it is acknowledged),
/// without a limit on connections, without the admin server, and with session timeouts up to the generator's.
pub(crate) fn server_options(program: &ServerProgram, dir: &Path) -> ServerOptions {
    ServerOptions::new(program.clone(), dir.join(program.name()))
        .set("tickTime", 2_000)
        .set("maxSessionTimeout", SESSION_TIMEOUT_MS)
}

/// Runs each load on each server in turn, round after round, and prints them side by side. All servers run all
/// the time; the one that is not asked idles.
///
/// # Errors
/// When a server cannot be started or a load fails.
pub(crate) fn compare_loads(
    programs: &[ServerProgram],
    dir: &Path,
    loads: &[LoadOptions],
    rounds: usize,
    warm_up: Duration,
) -> Result<(), Error> {
    let mut servers = Vec::new();
    for program in programs {
        servers.push((
            program.name(),
            ServerProcess::start(server_options(program, dir))?,
        ));
    }
    let Some(first) = loads.first() else { return Ok(()) };
    for (name, server) in &servers {
        say(&format!("warming {name} up for {:.0} s", warm_up.as_secs_f64()))?;
        // Reads, writes and creates, so that the JVM compiles all of them.
        let parts = [
            (Workload::Mixed, 16, 2),
            (Workload::Set, 16, 4),
            (Workload::Create, 4, 4),
        ];
        for (workload, in_flight, share) in parts {
            let ramp = Duration::from_millis(100);
            let measured = warm_up / share;
            load::run(
                server.address(),
                &LoadOptions {
                    workload,
                    in_flight,
                    ramp,
                    measured,
                    ..*first
                },
                None,
            )?;
        }
    }
    let mut table = LoadTable::new();
    for load in loads {
        let mut results: Vec<Option<load::Measured>> = servers.iter().map(|_| None).collect();
        for _ in 0..rounds.max(1) {
            for ((name, server), result) in servers.iter().zip(&mut results) {
                let measured = load::run(server.address(), load, Some(server.pid())).map_err(|error| {
                    format!(
                        "{name}, {}: {error}; its log ends:\n{}",
                        load.workload.name(),
                        server.log_tail()
                    )
                })?;
                match result {
                    Some(result) => result.add(&measured)?,
                    None => *result = Some(measured),
                }
            }
        }
        let results: Vec<_> = results.into_iter().flatten().collect();
        for ((name, _), measured) in servers.iter().zip(&results) {
            table.row(load, name, measured)?;
        }
        if let [first, second] = &results[..] {
            table.ratio(first, second)?;
        }
    }
    Ok(())
}

/// A line on stderr about what goes on.
pub(crate) fn say(text: &str) -> io::Result<()> {
    writeln!(io::stderr(), "{text}")
}
