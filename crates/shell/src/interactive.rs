//! The shell in a terminal: prompt, editing, history, completion, and events above the line being typed.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{Config, Context, Editor, ExternalPrinter, Helper};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;
use tokio::time::timeout;
use zookeeper_client::SessionState;

use crate::failure::{EXIT_INTERRUPTED, Failure};
use crate::output::{Output, erase_before};
use crate::run::{Connection, Shell};
use crate::runtime::unless_interrupted;
use crate::session::{ConnectOptions, Events};
use crate::table::COMMANDS;
use crate::text::{escape, is_unsafe};
use crate::walk::child;
use crate::words::{last_word, quoted};

/// How long the first prompt waits for the session, so that it usually shows it.
const PROMPT_WAIT: Duration = Duration::from_secs(1);
/// How long completion waits for a server.
const COMPLETION_TIMEOUT: Duration = Duration::from_secs(2);
/// How often it is looked whether a command waits for a server, to say so.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many lines of history are kept.
const HISTORY_LINES_MAX: usize = 1000;
/// How many events may wait to be printed; what comes beyond is counted and not shown.
const EVENTS_WAITING_MAX: usize = 1000;

/// Runs until `quit` or Ctrl-D; returns the exit code of the last command.
pub(crate) fn run(runtime: &Runtime, servers: &str, options: ConnectOptions, output: Output) -> u8 {
    let _entered = runtime.enter();
    let config = Config::builder()
        .history_ignore_space(true)
        .auto_add_history(false);
    let config = match config.max_history_size(HISTORY_LINES_MAX) {
        Ok(config) => config.completion_type(rustyline::CompletionType::List).build(),
        Err(error) => return terminal_failure(output, &error),
    };
    let mut editor: Editor<Completion, FileHistory> = match Editor::with_config(config) {
        Ok(editor) => editor,
        Err(error) => return terminal_failure(output, &error),
    };
    let printer = match editor.create_external_printer() {
        Ok(printer) => printer,
        Err(error) => return terminal_failure(output, &error),
    };
    let mut shell = Shell::new(servers, options, output, printed_events(printer, output.colours));
    editor.set_helper(Some(Completion {
        connection: shell.connection(),
        runtime: runtime.handle().clone(),
    }));
    let history = history_file();
    if let Some(file) = &history {
        // The first time there is none.
        let _ = editor.load_history(file);
    }
    output.note("Welcome to Oxkeeper's shell. `help` lists the commands, Tab completes, Ctrl-D ends.");
    let mut code = 0;
    loop {
        let prompt = runtime.block_on(prompt(&shell));
        let line = match editor.readline(&(prompt.as_str(), styled(&prompt, output).as_ref())) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => {
                code = terminal_failure(output, &error);
                break;
            }
        };
        // Passwords are not for a file.
        let kept =
            !line.trim_start().starts_with("addauth") && editor.add_history_entry(&line).unwrap_or(false);
        if let Some(file) = history.as_ref().filter(|_| kept) {
            // A history that cannot be kept is no reason to refuse commands.
            let _ = editor.append_history(file);
        }
        code = match runtime.block_on(command(&mut shell, &line)) {
            Some(Ok(())) if shell.quits => break,
            Some(Ok(())) => 0,
            Some(Err(failure)) => {
                output.failure(&failure);
                failure.exit_code
            }
            None => {
                output.note("given up; what was asked may still be done");
                EXIT_INTERRUPTED
            }
        };
    }
    runtime.block_on(shell.close());
    code
}

fn terminal_failure(output: Output, error: &ReadlineError) -> u8 {
    let failure = Failure::new("Terminal", format!("the terminal cannot be used: {error}"))
        .hint("give the command as an argument, or commands on stdin");
    output.failure(&failure);
    failure.exit_code
}

/// Runs a line, and says when it waits for a server. `None`: Ctrl-C.
async fn command(shell: &mut Shell, line: &str) -> Option<Result<(), Failure>> {
    let (connection, output) = (shell.connection(), shell.output);
    let patience = async {
        let mut is_told = false;
        loop {
            tokio::time::sleep(PATIENCE).await;
            let waits = state_word(&connection.borrow()) == "CONNECTING";
            if waits && !is_told {
                output.note("no server answers yet; waiting, Ctrl-C gives up");
            }
            is_told = waits;
        }
    };
    let work = unless_interrupted(shell.run_line(line));
    tokio::select! {
        outcome = work => outcome,
        never = patience => never,
    }
}

/// The state of a connection as zkCli's prompt shows it.
fn state_word(connection: &Connection) -> &'static str {
    match connection {
        Connection::Connecting => "CONNECTING",
        Connection::Closed | Connection::Failed(_) => "CLOSED",
        Connection::Open(session) => match session.client.state() {
            SessionState::Disconnected => "CONNECTING",
            SessionState::SyncConnected => "CONNECTED",
            SessionState::ConnectedReadOnly => "CONNECTEDREADONLY",
            SessionState::AuthFailed => "AUTH_FAILED",
            SessionState::Expired => "EXPIRED",
            SessionState::Closed => "CLOSED",
        },
    }
}

async fn prompt(shell: &Shell) -> String {
    let mut connection = shell.connection();
    let decided = connection.wait_for(|state| !matches!(state, Connection::Connecting));
    // Whatever it is by then is shown.
    let _ = timeout(PROMPT_WAIT, decided).await;
    let word = state_word(&shell.connection().borrow());
    format!("[zk: {}({word}) {}] ", escape(&shell.servers), shell.count)
}

fn styled(prompt: &str, output: Output) -> Cow<'_, str> {
    if !output.colours {
        return Cow::Borrowed(prompt);
    }
    let colour = if prompt.contains("(CONNECTED") { 32 } else { 33 };
    Cow::Owned(format!("\x1b[{colour}m{prompt}\x1b[0m"))
}

/// Events are printed by a thread of their own, since the printer may wait for the editor.
fn printed_events(printer: impl ExternalPrinter + Send + 'static, colours: bool) -> Events {
    let (sender, receiver) = sync_channel::<String>(EVENTS_WAITING_MAX);
    let mut printer = printer;
    std::thread::spawn(move || {
        for text in receiver {
            let erased = erase_before();
            let text = if colours {
                format!("{erased}\x1b[36m{text}\x1b[0m\n")
            } else {
                format!("{erased}{text}\n")
            };
            // A terminal that is gone ends the editor too.
            if printer.print(text).is_err() {
                return;
            }
        }
    });
    let lost = AtomicU64::new(0);
    Events::new(true, false, move |text| send_event(&sender, &lost, text))
}

fn send_event(sender: &SyncSender<String>, lost: &AtomicU64, text: String) {
    let before = lost.swap(0, Ordering::Relaxed);
    let text = if before > 0 {
        format!("({before} events were too many to show)\n{text}")
    } else {
        text
    };
    if sender.try_send(text).is_err() {
        lost.fetch_add(before + 1, Ordering::Relaxed);
    }
}

/// Where the history is kept: `OXKEEPER_SHELL_HISTORY` (empty: nowhere), or the usual place for a program's state.
fn history_file() -> Option<PathBuf> {
    let given = |name| std::env::var_os(name);
    if let Some(file) = given("OXKEEPER_SHELL_HISTORY") {
        return (!file.is_empty()).then(|| PathBuf::from(file));
    }
    let state = match given("XDG_STATE_HOME").filter(|directory| !directory.is_empty()) {
        Some(directory) => PathBuf::from(directory),
        None => PathBuf::from(given("HOME").filter(|home| !home.is_empty())?).join(".local/state"),
    };
    let directory = state.join("oxkeeper");
    std::fs::create_dir_all(&directory).ok()?;
    Some(directory.join("shell_history"))
}

/// Completes commands, and paths with what the server has.
struct Completion {
    connection: watch::Receiver<Connection>,
    runtime: Handle,
}

impl Helper for Completion {}

impl Highlighter for Completion {}

impl Validator for Completion {}

impl Hinter for Completion {
    type Hint = String;
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = &line[..pos];
        let (start, quote, word) = last_word(typed);
        let before = typed[..start].trim();
        let pairs = if before.is_empty() || before == "help" {
            COMMANDS
                .iter()
                .filter(|command| command.name.starts_with(word))
                .map(|command| Pair {
                    display: command.name.to_owned(),
                    replacement: format!("{} ", command.name),
                })
                .collect()
        } else if word.starts_with('/') {
            self.paths(word, quote)
        } else {
            Vec::new()
        };
        Ok((start, pairs))
    }
}

impl Completion {
    /// The children whose paths begin with `word`. Without a server, or when it is slow, there are none.
    fn paths(&self, word: &str, quote: Option<char>) -> Vec<Pair> {
        let Connection::Open(session) = self.connection.borrow().clone() else {
            return Vec::new();
        };
        let slash = word.rfind('/').unwrap_or(0);
        let (directory, prefix) = (if slash == 0 { "/" } else { &word[..slash] }, &word[slash + 1..]);
        let asked = async { timeout(COMPLETION_TIMEOUT, session.client.list_children(directory)).await };
        let Ok(Ok(mut names)) = self.runtime.block_on(asked) else {
            return Vec::new();
        };
        names.sort();
        names
            .into_iter()
            .filter(|name| name.starts_with(prefix))
            .filter_map(|name| {
                let path = child(directory, &name);
                let replacement = match quote {
                    None => quoted(&path)?,
                    Some(_) if path.chars().any(is_unsafe) => return None,
                    Some(quote) if path.contains(quote) => return None,
                    Some(quote) => format!("{quote}{path}{quote}"),
                };
                Some(Pair {
                    display: escape(&name),
                    replacement,
                })
            })
            .collect()
    }
}
