//! The `bench` command: loads a server and measures it, or Oxkeeper and Java's server side by side.
//! docs/benchmarks.md says how to read the numbers.

mod compare;
mod ensemble;
mod load;
mod memory;
mod process;
mod report;

use std::io::{self, Write as _};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::ensemble::FailoverOptions;
use crate::load::{LoadOptions, Workload};

/// Any failure, said in one line.
pub(crate) type Error = Box<dyn std::error::Error>;

/// Load a ZooKeeper server and measure it.
#[derive(Parser)]
#[command(version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start Oxkeeper and Java's server with equal settings and measure them in turn.
    Compare(CompareArguments),
    /// Start ensembles of Oxkeeper and of Java's server with equal settings: how long writes pause when the leader
    /// is killed, how soon a follower serves again that missed much, and what they bear.
    Ensemble(EnsembleArguments),
    /// Measure a server that runs already. Its znode /bench is made and, after creates, emptied.
    Run(RunArguments),
}

#[derive(Args, Clone)]
struct LoadArguments {
    /// How many connections, each with a session of its own.
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Requests in flight on each connection; each number is a load of its own.
    #[arg(long, value_delimiter = ',', default_value = "1,16")]
    in_flight: Vec<usize>,
    /// What is asked for; each is a load of its own.
    #[arg(long, value_delimiter = ',', default_value = "get,set,create,mixed")]
    workloads: Vec<Workload>,
    /// How long a round is measured, in seconds, after a second that is not.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// The size of the data, in bytes.
    #[arg(long, default_value_t = 100)]
    data_bytes: usize,
    /// How many znodes are read and written.
    #[arg(long, default_value_t = 1_000)]
    znodes: usize,
}

impl LoadArguments {
    /// Every load that was asked for.
    fn loads(&self) -> Result<Vec<LoadOptions>, Error> {
        if self.connections == 0 || self.znodes == 0 || self.in_flight.contains(&0) {
            return Err("connections, znodes and requests in flight are at least 1".into());
        }
        let measured = Duration::try_from_secs_f64(self.seconds)?;
        let each = self
            .workloads
            .iter()
            .flat_map(|workload| self.in_flight.iter().map(move |n| (workload, n)));
        let loads = each.map(|(workload, in_flight)| LoadOptions {
            workload: *workload,
            connections: self.connections,
            in_flight: *in_flight,
            data_bytes: self.data_bytes,
            znodes: self.znodes,
            ramp: Duration::from_secs(1),
            measured,
        });
        Ok(loads.collect())
    }
}

#[derive(Args)]
struct CompareArguments {
    #[command(flatten)]
    load: LoadArguments,
    /// How often each load is measured on each server, in turn.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// The load before the first measurement, on each server, in seconds.
    #[arg(long, default_value_t = 10.0)]
    warm_up: f64,
    /// Which servers.
    #[arg(long, value_delimiter = ',', default_value = "oxkeeper,java")]
    servers: Vec<Server>,
    /// Where the servers keep their data, both on one disk; by default the directory for temporary files.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The heap of the Java server (-Xmx).
    #[arg(long, default_value = "1g")]
    heap: String,
    /// Measure load, memory or both.
    #[arg(long, value_delimiter = ',', default_value = "load,memory")]
    parts: Vec<Part>,
    /// Znodes in the tree whose memory is measured, of --data-bytes each.
    #[arg(long, default_value_t = 200_000)]
    memory_znodes: usize,
    /// Idle sessions whose memory is measured.
    #[arg(long, default_value_t = 2_000)]
    idle_sessions: usize,
}

#[derive(Args)]
struct EnsembleArguments {
    #[command(flatten)]
    load: LoadArguments,
    /// What to measure.
    #[arg(long, value_delimiter = ',', default_value = "failover,rejoin,load")]
    parts: Vec<EnsemblePart>,
    /// Which servers.
    #[arg(long, value_delimiter = ',', default_value = "oxkeeper,java")]
    servers: Vec<Server>,
    /// How many servers an ensemble has.
    #[arg(long, default_value_t = 3)]
    members: usize,
    /// How often the leader is killed, and how often a follower rejoins.
    #[arg(long, default_value_t = 10)]
    runs: usize,
    /// The load while the leader is killed.
    #[arg(long, default_value_t = 500)]
    writes_per_second: u32,
    /// How many connections make that load.
    #[arg(long, default_value_t = 10)]
    failover_connections: u32,
    /// What the follower that rejoins has missed.
    #[arg(long, default_value_t = 10_000)]
    missed_txns: usize,
    /// How often each load is measured on each ensemble, in turn.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// The load before the first measurement of loads, on each ensemble, in seconds.
    #[arg(long, default_value_t = 10.0)]
    warm_up: f64,
    /// Where the servers keep their data; by default the directory for temporary files.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The heap of each Java server (-Xmx).
    #[arg(long, default_value = "1g")]
    heap: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EnsemblePart {
    Failover,
    Rejoin,
    Load,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Server {
    Oxkeeper,
    Java,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Load,
    Memory,
}

#[derive(Args)]
struct RunArguments {
    #[command(flatten)]
    load: LoadArguments,
    /// The server.
    #[arg(long, value_name = "HOST:PORT")]
    server: String,
    /// The id of its process, when it is on this machine: its CPU time is measured too.
    #[arg(long)]
    pid: Option<u32>,
}

fn main() -> ExitCode {
    let ran = match CommandLine::parse().command {
        Command::Compare(arguments) => compare(&arguments),
        Command::Ensemble(arguments) => measure_ensembles(&arguments),
        Command::Run(arguments) => run(&arguments),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever closed stderr does not want to know.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(arguments: &CompareArguments) -> Result<(), Error> {
    process::raise_file_limit()?;
    let temporary = directory(arguments.dir.as_deref())?;
    let contenders = compare::programs(&arguments.servers, &arguments.heap)?;
    if arguments.parts.contains(&Part::Load) {
        let warm_up = Duration::try_from_secs_f64(arguments.warm_up)?;
        let dir = temporary.path().join("load");
        compare::compare_servers(
            &contenders,
            &dir,
            &arguments.load.loads()?,
            arguments.rounds,
            warm_up,
        )?;
    }
    if arguments.parts.contains(&Part::Memory) {
        let dir = temporary.path().join("memory");
        let (znodes, sessions) = (arguments.memory_znodes, arguments.idle_sessions);
        memory::compare_memory(&contenders, &dir, znodes, arguments.load.data_bytes, sessions)?;
    }
    Ok(())
}

fn measure_ensembles(arguments: &EnsembleArguments) -> Result<(), Error> {
    process::raise_file_limit()?;
    let temporary = directory(arguments.dir.as_deref())?;
    let programs = compare::programs(&arguments.servers, &arguments.heap)?;
    let dir = temporary.path();
    if arguments.parts.contains(&EnsemblePart::Failover) {
        let options = FailoverOptions {
            members: arguments.members,
            writes_per_second: arguments.writes_per_second,
            connections: arguments.failover_connections,
        };
        ensemble::compare_failovers(&programs, &dir.join("failover"), options, arguments.runs)?;
    }
    if arguments.parts.contains(&EnsemblePart::Rejoin) {
        let (members, missed) = (arguments.members, arguments.missed_txns);
        ensemble::compare_rejoins(&programs, &dir.join("rejoin"), members, missed, arguments.runs)?;
    }
    if arguments.parts.contains(&EnsemblePart::Load) {
        let warm_up = Duration::try_from_secs_f64(arguments.warm_up)?;
        let (loads, rounds) = (arguments.load.loads()?, arguments.rounds);
        let dir = dir.join("load");
        ensemble::compare_ensembles(&programs, &dir, arguments.members, &loads, rounds, warm_up)?;
    }
    Ok(())
}

/// A temporary directory, in `dir` or where temporary directories are.
fn directory(dir: Option<&std::path::Path>) -> io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("oxkeeper-bench.");
    match dir {
        Some(dir) => builder.tempdir_in(dir),
        None => builder.tempdir(),
    }
}

fn run(arguments: &RunArguments) -> Result<(), Error> {
    process::raise_file_limit()?;
    let address: SocketAddr = arguments
        .server
        .to_socket_addrs()?
        .next()
        .ok_or("the server's name has no address")?;
    let mut table = report::LoadTable::new();
    for load in arguments.load.loads()? {
        let measured = load::run(&[address], &load, arguments.pid.as_slice())?;
        table.row(&load, "", &measured)?;
    }
    Ok(())
}
