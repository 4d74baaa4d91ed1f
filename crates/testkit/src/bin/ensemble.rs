//! Kills, pauses, cuts off and starves the servers of an ensemble under load, and checks that it keeps its word.
//!
//! `cargo run --release -p oxkeeper-testkit --bin ensemble -- --minutes 5`
//! needs the server built with the same profile (`cargo build --release -p oxkeeper`), or named in `OXKEEPER`.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use oxkeeper_testkit::process::{MemberOptions, ServerProgram};
use oxkeeper_testkit::storm::{StormOptions, run};

/// Run an ensemble under load through kill -9, pauses, partitions and full disks, and check that no acknowledged
/// write is lost, none happens twice, sessions see one order, and in the end all servers have the same tree.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// No new chapter of load, faults and checks begins after so many minutes.
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// Of how many servers with a vote.
    #[arg(long, default_value_t = 3)]
    servers: usize,
    /// And how many without.
    #[arg(long, default_value_t = 0)]
    observers: usize,
    /// How many of all of these, from the first one on, are Java's (all without a number).
    #[arg(long, num_args = 0..=1, default_missing_value = "255", default_value_t = 0)]
    java: usize,
    /// Which release of Java's server, such as 3.8.4.
    #[arg(long)]
    java_release: Option<String>,
    /// What the random choices come from; by default another one each time.
    #[arg(long)]
    seed: Option<u64>,
    /// How many sessions work at a time.
    #[arg(long, default_value_t = 6)]
    sessions: usize,
    /// Without the faults that take root.
    #[arg(long)]
    rootless: bool,
    /// The servers' directory, which is kept; by default a temporary one, kept after a violation only.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Cut so many bytes off all logs when all servers are killed, to see that the harness notices.
    #[arg(long, default_value_t = 0)]
    cut_log_bytes: u64,
}

fn main() -> ExitCode {
    match ensemble(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever closed stderr does not want to know.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn ensemble(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    let temporary = tempfile::Builder::new().prefix("oxkeeper-ensemble.").tempdir()?;
    let dir = arguments.dir.unwrap_or_else(|| temporary.path().to_owned());
    let mut members = Vec::new();
    for index in 0..arguments.servers + arguments.observers {
        let program = match index < arguments.java {
            true => ServerProgram::java_release(arguments.java_release.as_deref())?.with_heap("256m"),
            false => ServerProgram::oxkeeper()?,
        };
        members.push(match index < arguments.servers {
            true => MemberOptions::participant(program),
            false => MemberOptions::observer(program),
        });
    }
    let names: Vec<&str> = members.iter().map(|member| member.program.name()).collect();
    let options = StormOptions {
        members: members.clone(),
        dir,
        seed,
        time: Duration::try_from_secs_f64(arguments.minutes * 60.0)?,
        chapters_max: u32::MAX,
        workers: arguments.sessions,
        use_root: !arguments.rootless,
        cut_log_bytes: arguments.cut_log_bytes,
    };
    let mut out = io::stdout().lock();
    writeln!(out, "seed {seed}, {}", names.join(" "))?;
    let ran = run(&options, |line| {
        // A closed stdout is no reason to stop.
        let _ = writeln!(out, "{line}");
    });
    match ran {
        Ok(summary) => {
            writeln!(out, "seed {seed}, no violation: {summary}")?;
            Ok(())
        }
        Err(error) => {
            let _kept = temporary.keep();
            Err(error.into())
        }
    }
}
