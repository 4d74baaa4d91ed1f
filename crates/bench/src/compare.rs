//! Servers side by side under the same loads.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use oxkeeper_testkit::process::{Ensemble, ServerOptions, ServerProcess, ServerProgram};

use crate::load::{self, LoadOptions, SESSION_TIMEOUT_MS, Workload};
use crate::report::LoadTable;
use crate::{Error, Server};

/// The programs to compare.
///
/// # Errors
/// When one is not there.
pub(crate) fn programs(servers: &[Server], heap: &str) -> Result<Vec<ServerProgram>, Error> {
    let program = |server: &Server| -> Result<ServerProgram, Error> {
        Ok(match server {
            Server::Oxkeeper => ServerProgram::oxkeeper()?,
            Server::Java => ServerProgram::java()?.with_heap(heap),
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

/// A server or an ensemble that runs and is to be loaded.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) servers: Servers,
}

pub(crate) enum Servers {
    One(ServerProcess),
    Ensemble(Ensemble),
}

impl Contender {
    fn addresses(&self) -> Vec<SocketAddr> {
        match &self.servers {
            Servers::One(server) => vec![server.address()],
            Servers::Ensemble(ensemble) => ensemble.addresses(),
        }
    }

    fn pids(&self) -> Vec<u32> {
        match &self.servers {
            Servers::One(server) => vec![server.pid()],
            Servers::Ensemble(ensemble) => ensemble.ids().map(|id| ensemble.server(id).pid()).collect(),
        }
    }

    fn log_tails(&self) -> String {
        match &self.servers {
            Servers::One(server) => server.log_tail(),
            Servers::Ensemble(ensemble) => ensemble.log_tails(),
        }
    }

    fn load(&self, load: &LoadOptions, pids: &[u32]) -> Result<load::Measured, Error> {
        load::run(&self.addresses(), load, pids).map_err(|error| {
            let (name, workload, log) = (self.name, load.workload.name(), self.log_tails());
            format!("{name}, {workload}: {error}; its log ends:\n{log}").into()
        })
    }
}

/// Starts one server of each program and compares them.
///
/// # Errors
/// When a server cannot be started or a load fails.
pub(crate) fn compare_servers(
    programs: &[ServerProgram],
    dir: &Path,
    loads: &[LoadOptions],
    rounds: usize,
    warm_up: Duration,
) -> Result<(), Error> {
    let mut contenders = Vec::new();
    for program in programs {
        contenders.push(Contender {
            name: program.name(),
            servers: Servers::One(ServerProcess::start(server_options(program, dir))?),
        });
    }
    compare_loads(&contenders, loads, rounds, warm_up)
}

/// Runs each load on each contender in turn, round after round, and prints them side by side. All run all the
/// time; the one that is not asked idles.
///
/// # Errors
/// When a load fails.
pub(crate) fn compare_loads(
    contenders: &[Contender],
    loads: &[LoadOptions],
    rounds: usize,
    warm_up: Duration,
) -> Result<(), Error> {
    let Some(first) = loads.first() else { return Ok(()) };
    for contender in contenders {
        say(&format!(
            "warming {} up for {:.0} s",
            contender.name,
            warm_up.as_secs_f64()
        ))?;
        // Reads, writes and creates, so that the JVM compiles all of them.
        let parts = [
            (Workload::Mixed, 16, 2),
            (Workload::Set, 16, 4),
            (Workload::Create, 4, 4),
        ];
        for (workload, in_flight, share) in parts {
            let load = LoadOptions {
                workload,
                in_flight,
                ramp: Duration::from_millis(100),
                measured: warm_up / share,
                ..*first
            };
            contender.load(&load, &[])?;
        }
    }
    let mut table = LoadTable::new();
    for load in loads {
        let mut results: Vec<Option<load::Measured>> = contenders.iter().map(|_| None).collect();
        for _ in 0..rounds.max(1) {
            for (contender, result) in contenders.iter().zip(&mut results) {
                let measured = contender.load(load, &contender.pids())?;
                match result {
                    Some(result) => result.add(&measured)?,
                    None => *result = Some(measured),
                }
            }
        }
        let results: Vec<_> = results.into_iter().flatten().collect();
        for (contender, measured) in contenders.iter().zip(&results) {
            table.row(load, contender.name, measured)?;
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
