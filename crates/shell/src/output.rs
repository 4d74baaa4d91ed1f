//! What is printed: results on stdout, failures and progress on stderr, as text or as JSON.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde_json::Value;
use zookeeper_client::Stat;

use crate::failure::{Failure, Outcome, READER_GONE};
use crate::text::{escape, json_line, stat_json, stat_text};

/// What erases a terminal's line.
const ERASE: &str = "\r\x1b[K";

/// Whether the terminal's cursor is behind a line that will be erased. There is one terminal, and one command at a time.
static UNFINISHED_LINE: AtomicBool = AtomicBool::new(false);

/// How results and failures are printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// One JSON value per line.
    pub(crate) json: bool,
    /// Whether stdout takes colours.
    pub(crate) colours: bool,
    /// Whether stderr takes colours.
    pub(crate) error_colours: bool,
}

impl Output {
    /// For this process: colours on terminals, unless NO_COLOR is set (<https://no-color.org>).
    pub(crate) fn new(json: bool) -> Output {
        let wanted =
            !json && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && !is_dumb_terminal();
        Output {
            json,
            colours: wanted && io::stdout().is_terminal(),
            error_colours: wanted && io::stderr().is_terminal(),
        }
    }

    /// Prints a result: `plain` (lines, without the last newline), or `json` as one line.
    ///
    /// # Errors
    /// When stdout cannot be written, as after `| head`.
    pub(crate) fn result(&self, plain: &str, json: &Value) -> Outcome {
        let text = if self.json {
            json_line(json)
        } else {
            plain.to_owned()
        };
        line(&mut io::stdout(), text).map_err(|error| Failure::output(&error))
    }

    /// Prints a result, with a Stat when there is one.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub(crate) fn with_stat(&self, shown: &str, mut value: Value, stat: Option<&Stat>) -> Outcome {
        let mut shown = shown.to_owned();
        if let Some(stat) = stat {
            shown = format!("{shown}\n{}", stat_text(stat));
            value["stat"] = stat_json(stat);
        }
        self.result(&shown, &value)
    }

    /// Prints what only scripts want to know: `json`, or nothing.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub(crate) fn done(&self, json: &Value) -> Outcome {
        if self.json { self.result("", json) } else { Ok(()) }
    }

    /// Prints what is worth knowing besides the result, to stderr. Not for scripts.
    pub(crate) fn note(&self, text: &str) {
        if !self.json {
            // Whoever closed stderr does not want to know.
            let _ = line(&mut io::stderr(), format!("{}{}", erase_before(), escape(text)));
        }
    }

    /// Prints a failure to stderr.
    pub(crate) fn failure(&self, failure: &Failure) {
        if failure.code == READER_GONE {
            return;
        }
        let text = if self.json {
            json_line(&failure.json())
        } else if self.error_colours {
            failure.plain("\x1b[31m", "\x1b[2m", "\x1b[0m")
        } else {
            failure.plain("", "", "")
        };
        // Whoever closed stderr does not want to know.
        let _ = line(&mut io::stderr(), text);
    }
}

/// Whether a terminal is of a type that knows no sequences at all, as those inside editors are: lines come and go. The
/// types are those on which the line editor does not work.
pub(crate) fn is_dumb_terminal() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb" || term == "cons25" || term == "emacs")
}

/// Writes a line with one call, so that an event that is printed meanwhile comes before or behind it.
fn line(to: &mut impl io::Write, mut text: String) -> io::Result<()> {
    text.push('\n');
    to.write_all(text.as_bytes())
}

/// Writes a line on the terminal's stderr that is erased before the next; an empty one only erases.
pub(crate) fn unfinished_line(text: &str) {
    UNFINISHED_LINE.store(!text.is_empty(), Relaxed);
    // Whoever closed stderr does not want to know.
    let _ = write!(io::stderr(), "{ERASE}{text}");
}

/// What is to be written before a line that comes behind an unfinished one.
pub(crate) fn erase_before() -> &'static str {
    if UNFINISHED_LINE.swap(false, Relaxed) {
        ERASE
    } else {
        ""
    }
}
