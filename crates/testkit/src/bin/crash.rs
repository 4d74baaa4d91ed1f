//! Kills a server at random moments under load and checks that it keeps its word.
//!
//! `cargo run --release -p oxkeeper-testkit --bin crash -- --cycles 200 --seed 1`
//! needs the server built with the same profile (`cargo build --release -p oxkeeper`), or named in `OXKEEPER`.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use oxkeeper_testkit::crash::{CrashOptions, run};
use oxkeeper_testkit::process::ServerProgram;

/// Kill a server under load again and again, and check after each restart that every acknowledged write is
/// there, that none is there in part, and that sessions and their ephemerals live and die as they must.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// How many times the server is ended and started again.
    #[arg(long, default_value_t = 100)]
    cycles: u32,
    /// What the random choices come from; by default another one each time.
    #[arg(long)]
    seed: Option<u64>,
    /// How many sessions work at a time.
    #[arg(long, default_value_t = 6)]
    sessions: usize,
    /// Which server.
    #[arg(long, value_enum, default_value_t = Server::Oxkeeper)]
    server: Server,
    /// The server's directory, which is kept; by default a temporary one, kept after a violation only.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Cut so many bytes off the newest log after each kill, to see that the harness notices.
    #[arg(long, default_value_t = 0)]
    cut_log_bytes: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Server {
    Oxkeeper,
    Java,
}

fn main() -> ExitCode {
    match crash(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever closed stderr does not want to know.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn crash(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let program = match arguments.server {
        Server::Oxkeeper => ServerProgram::oxkeeper()?,
        Server::Java => ServerProgram::java()?,
    };
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    let temporary = tempfile::Builder::new().prefix("oxkeeper-crash.").tempdir()?;
    let dir = arguments.dir.unwrap_or_else(|| temporary.path().to_owned());
    let options = CrashOptions {
        cycles: arguments.cycles,
        workers: arguments.sessions,
        cut_log_bytes: arguments.cut_log_bytes,
        ..CrashOptions::new(program, dir, seed)
    };
    let mut out = io::stdout().lock();
    writeln!(out, "seed {seed}, {}", options.program.name())?;
    let ran = run(&options, |line| {
        // A closed stdout is no reason to stop.
        let _ = writeln!(io::stdout(), "{line}");
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
