//! The `oxkeeper` command: starts a server or an ensemble, or checks a configuration.
//!
//! Exit codes are ZooKeeper's: 0 after a clean stop (ZooKeeper's own server ends with 143 on SIGTERM), 1 for an
//! unexpected error, 2 for an invalid invocation or configuration, 3 for a data directory error, 4 when the admin
//! server cannot start, 10 when a snapshot cannot be taken, 14 when the election port cannot be used.

mod dev;
mod serve;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// What one thread allocates for a request, another frees when it is answered. The system's allocator is slow at that:
/// with this one an ensemble does a seventh more creates a second, in the same memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code of an unexpected error.
pub(crate) const EXIT_UNEXPECTED: u8 = 1;
/// Exit code of an invalid invocation or configuration.
pub(crate) const EXIT_INVALID: u8 = 2;

/// Oxkeeper serves the ZooKeeper protocol to any ZooKeeper client.
#[derive(Parser)]
#[command(version, disable_help_subcommand = true, after_help = AFTER_HELP)]
struct CommandLine {
    /// What goes into the log on stderr: error, warn, info, debug, trace, or a filter such as `info,oxkeeper_server=debug`.
    /// Without it: info for servers, error for dev, nothing for the shell and status.
    #[arg(long, global = true, env = "OXKEEPER_LOG", value_name = "LEVEL")]
    log_level: Option<String>,

    #[command(subcommand)]
    command: Option<Command>,
}

const AFTER_HELP: &str = "\
Without a command, `oxkeeper` does the same as `oxkeeper serve`.

Exit codes: 0 stopped cleanly, also by SIGTERM or SIGINT (Java's server: 143); 1 unexpected error;
2 invalid arguments or configuration; 3 data directory; 4 admin server; 10 snapshot;
14 election port.";

#[derive(Subcommand)]
enum Command {
    /// Run a server until SIGINT (Ctrl-C) or SIGTERM.
    Serve(ServeArguments),
    /// Run servers on this machine, for trying out, for development and for tests in any language.
    Dev(dev::DevArguments),
    /// A shell with zkCli's commands and more, for any ZooKeeper server: one command, or typed ones.
    #[command(disable_help_flag = true)]
    Shell(ClientArguments),
    /// What each server of a list is doing, once or as a live view.
    #[command(disable_help_flag = true)]
    Status(ClientArguments),
    /// Check a zoo.cfg, say what would be done with each setting that has no effect, and stop.
    CheckConfig {
        /// The configuration file.
        #[arg(value_name = "ZOO.CFG")]
        file: String,
    },
}

/// Arguments in zkCli's style, `-server HOST:PORT`, which the command reads itself.
#[derive(Args)]
struct ClientArguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

/// Either nothing, or a file, or ZooKeeper's short form.
#[derive(Args, Default)]
#[command(after_help = SERVE_AFTER_HELP, override_usage = "oxkeeper serve [ZOO.CFG]\n       oxkeeper serve PORT DATADIR [TICKTIME] [MAXCNXNS]")]
struct ServeArguments {
    /// A configuration file; or client port, data directory, tick time in ms, connections per client address.
    #[arg(num_args = 0..=4, allow_negative_numbers = true, value_name = "ZOO.CFG | PORT DATADIR [TICKTIME] [MAXCNXNS]", hide_possible_values = true)]
    arguments: Vec<String>,
}

const SERVE_AFTER_HELP: &str = "\
Without arguments the server listens on 127.0.0.1:2181 and keeps its data in ./oxkeeper-data.
docs/configuration.md lists the keys of zoo.cfg.";

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    // What a client's library logs is for those who ask.
    let default = match command_line.command {
        Some(Command::Shell(_) | Command::Status(_)) => "off",
        // It says itself what its servers do, and that they are killed is no news.
        Some(Command::Dev(_)) => "error",
        _ => "info",
    };
    // An empty variable is as good as none.
    let log_level = command_line
        .log_level
        .as_deref()
        .filter(|level| !level.is_empty())
        .unwrap_or(default);
    let filter = match EnvFilter::try_new(log_level) {
        Ok(filter) => filter,
        Err(error) => {
            say(&format!("error: log level `{log_level}` is not valid: {error}"));
            say("write one of error, warn, info, debug, trace in --log-level or OXKEEPER_LOG");
            return ExitCode::from(EXIT_INVALID);
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    match command_line
        .command
        .unwrap_or(Command::Serve(ServeArguments::default()))
    {
        Command::Serve(ServeArguments { arguments }) => serve::serve(&arguments),
        Command::Dev(arguments) => dev::dev(&arguments),
        Command::Shell(given) => oxkeeper_shell::shell(&given.arguments),
        Command::Status(given) => oxkeeper_shell::status(&given.arguments),
        Command::CheckConfig { file } => serve::check_config(&file),
    }
}

/// Writes a line to stderr. Whoever closed stderr does not want to know.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
