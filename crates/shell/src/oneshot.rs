//! `oxkeeper shell`: its own arguments, and the three ways to run: one command, lines from stdin, or a terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::failure::{EXIT_INTERRUPTED, EXIT_INVALID, Failure, Outcome};
use crate::output::{Output, is_dumb_terminal};
use crate::run::Shell;
use crate::runtime::{runtime, unless_interrupted};
use crate::session::{ConnectOptions, Events};
use crate::text::escape;

/// The servers that are asked when none are named, as zkCli.
const SERVERS_DEFAULT: &str = "localhost:2181";
/// The session timeout asked for unless `-timeout` says otherwise, as zkCli.
const TIMEOUT_MS_DEFAULT: u64 = 30_000;

/// How long a command and its session may take to end after Ctrl-C.
const STUCK_AFTER: Duration = Duration::from_secs(3);

const USAGE: &str = "\
Usage: oxkeeper shell [-server host:port[,host:port…][/chroot]] [-timeout ms] [-r] [-waitforconnection]
                      [--json] [command [arguments]]

A shell for any ZooKeeper server, with the commands of zkCli.sh and some more. With a command it runs that one and
ends; else it reads commands from the terminal, or from stdin line by line.

  -server LIST          the servers, localhost:2181 unless given
  -timeout MS           the session timeout to ask for, 30000 unless given
  -r                    a server without a quorum will do, for reading
  -waitforconnection    wait for the session as long as the timeout, instead of asking each server once
  --json                results, events and errors as one JSON object per line
  -h, --help            this

`oxkeeper shell help` lists the commands. Exit codes: 0 done, 1 failed, 2 invalid arguments, 127 no such command, 130
after Ctrl-C. docs/shell.md tells the rest.";

/// The arguments before the command.
#[derive(Debug, PartialEq, Eq)]
struct Invocation {
    servers: String,
    timeout: Duration,
    read_only: bool,
    wait: bool,
    json: bool,
    help: bool,
    command: Vec<String>,
}

fn invocation(arguments: &[String]) -> Result<Invocation, String> {
    let mut invocation = Invocation {
        servers: SERVERS_DEFAULT.to_owned(),
        timeout: Duration::from_millis(TIMEOUT_MS_DEFAULT),
        read_only: false,
        wait: false,
        json: false,
        help: false,
        command: Vec::new(),
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let Some(name) = argument.strip_prefix('-') else {
            invocation.command.push(argument.clone());
            invocation.command.extend(rest.cloned());
            break;
        };
        let name = name.strip_prefix('-').unwrap_or(name);
        let mut value = || {
            rest.next()
                .cloned()
                .ok_or_else(|| format!("no argument found for option {argument}"))
        };
        match name {
            "server" => invocation.servers = value()?,
            "timeout" => {
                let text = value()?;
                let ms: u32 = text
                    .parse()
                    .map_err(|_| format!("-timeout must be followed by ms, not {}", escape(&text)))?;
                if ms == 0 || i32::try_from(ms).is_err() {
                    return Err("-timeout must be 1 to 2147483647 ms".to_owned());
                }
                invocation.timeout = Duration::from_millis(u64::from(ms));
            }
            "r" => invocation.read_only = true,
            "waitforconnection" => invocation.wait = true,
            "json" => invocation.json = true,
            "h" | "help" => invocation.help = true,
            "client-configuration" | "secure" => {
                return Err(format!(
                    "{argument} is not supported: it is for TLS and SASL, which this shell does not speak; zkCli.sh does"
                ));
            }
            _ => return Err(format!("unknown option {}", escape(argument))),
        }
    }
    Ok(invocation)
}

/// `oxkeeper shell` with its arguments, without the program's and the command's names. Prints, reads stdin, and
/// returns what the process is to end with.
pub fn shell(arguments: &[String]) -> ExitCode {
    let invocation = match invocation(arguments) {
        Ok(invocation) => invocation,
        Err(reason) => {
            let output = Output::new(arguments.iter().any(|argument| argument == "--json"));
            output.failure(&Failure::new("Usage", reason).hint("`oxkeeper shell --help` shows the options"));
            return ExitCode::from(EXIT_INVALID);
        }
    };
    if invocation.help {
        // Whoever closed stdout does not want to know.
        let _ = writeln!(io::stdout(), "{USAGE}");
        return ExitCode::SUCCESS;
    }
    let output = Output::new(invocation.json);
    let Some(runtime) = runtime(output) else {
        return ExitCode::FAILURE;
    };
    let code = if !invocation.command.is_empty() {
        one_command(&runtime, &invocation, output)
    } else if io::stdin().is_terminal()
        && io::stdout().is_terminal()
        && !invocation.json
        && !is_dumb_terminal()
    {
        crate::interactive::run(&runtime, &invocation.servers, invocation.options(false), output)
    } else {
        lines(&runtime, &invocation, output)
    };
    // A request nobody answers must not keep the process.
    runtime.shutdown_background();
    ExitCode::from(code)
}

impl Invocation {
    fn options(&self, once: bool) -> ConnectOptions {
        ConnectOptions {
            timeout: self.timeout,
            read_only: self.read_only,
            once: once && !self.wait,
        }
    }

    fn events(&self, printed: bool) -> Events {
        Events::new(printed, self.json, |text| {
            // Whoever closed stdout does not want to know of events either.
            let _ = writeln!(io::stdout().lock(), "{text}");
        })
    }
}

fn exit_code(output: Output, outcome: Outcome) -> u8 {
    match outcome {
        Ok(()) => 0,
        Err(failure) => {
            output.failure(&failure);
            failure.exit_code
        }
    }
}

/// Ends the process after Ctrl-C when the command, blocked in a file that gives nothing, cannot.
async fn end_when_stuck() {
    if tokio::signal::ctrl_c().await.is_ok() {
        tokio::time::sleep(STUCK_AFTER).await;
        std::process::exit(i32::from(EXIT_INTERRUPTED));
    }
}

fn one_command(runtime: &Runtime, invocation: &Invocation, output: Output) -> u8 {
    runtime.block_on(async {
        // Wrong words need no server.
        if let Err(failure) = crate::command::parse(&invocation.command) {
            return exit_code(output, Err(failure));
        }
        // One command is over before a watch could tell of anything.
        let mut shell = Shell::new(
            &invocation.servers,
            invocation.options(true),
            output,
            invocation.events(false),
        );
        shell.has_stdin = true;
        tokio::spawn(end_when_stuck());
        let code = match unless_interrupted(shell.run_words(&invocation.command)).await {
            Some(outcome) => exit_code(output, outcome),
            None => EXIT_INTERRUPTED,
        };
        shell.close().await;
        code
    })
}

/// The lines of stdin, read by a thread, so that Ctrl-C is heard while none comes. The thread ends with the process.
fn typed_lines() -> mpsc::Receiver<io::Result<String>> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in io::stdin().lines() {
            let is_last = line.is_err();
            if sender.blocking_send(line).is_err() || is_last {
                return;
            }
        }
    });
    receiver
}

/// Runs the lines of stdin; the exit code is that of the last one.
fn lines(runtime: &Runtime, invocation: &Invocation, output: Output) -> u8 {
    let _entered = runtime.enter();
    let mut shell = Shell::new(
        &invocation.servers,
        invocation.options(false),
        output,
        invocation.events(true),
    );
    let mut code = 0;
    let mut typed = typed_lines();
    loop {
        let line = match runtime.block_on(unless_interrupted(typed.recv())) {
            Some(Some(Ok(line))) => line,
            Some(Some(Err(error))) => {
                let failure = Failure::new("Input", format!("stdin cannot be read: {error}"));
                code = exit_code(output, Err(failure.hint("commands are lines of UTF-8")));
                break;
            }
            Some(None) => break,
            None => {
                code = EXIT_INTERRUPTED;
                break;
            }
        };
        if line.trim().is_empty() {
            continue;
        }
        match runtime.block_on(unless_interrupted(shell.run_line(&line))) {
            Some(Ok(())) if shell.quits => break,
            Some(outcome) => code = exit_code(output, outcome),
            None => {
                code = EXIT_INTERRUPTED;
                break;
            }
        }
    }
    runtime.block_on(shell.close());
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Invocation, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        invocation(&words)
    }

    #[test]
    fn options_of_zkcli_come_before_the_command() {
        let given = read("-server a:1,b:2/x -timeout 5000 -r -waitforconnection --json get -s /x").unwrap();
        assert_eq!(given.servers, "a:1,b:2/x");
        assert_eq!(given.timeout, Duration::from_secs(5));
        assert!(given.read_only && given.wait && given.json);
        assert_eq!(given.command, ["get", "-s", "/x"]);
        assert_eq!(read("--server a:1").unwrap().servers, "a:1");
        let bare = read("").unwrap();
        assert_eq!(
            (
                bare.servers.as_str(),
                bare.timeout.as_millis(),
                bare.command.len()
            ),
            ("localhost:2181", 30_000, 0)
        );
    }

    #[test]
    fn what_cannot_be_taken_is_named() {
        assert!(
            read("-client-configuration f")
                .unwrap_err()
                .contains("TLS and SASL")
        );
        assert!(
            read("-server")
                .unwrap_err()
                .contains("no argument found for option -server")
        );
        assert!(read("-timeout soon ls /").unwrap_err().contains("not soon"));
        assert!(read("-timeout 0").unwrap_err().contains("1 to 2147483647"));
        assert!(read("-x ls /").unwrap_err().contains("unknown option -x"));
    }
}
