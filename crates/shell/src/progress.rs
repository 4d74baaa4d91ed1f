//! A line on a terminal's stderr that tells how far a long command is.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use crate::output::{Output, is_dumb_terminal, unfinished_line};

/// How often the line is written anew.
const INTERVAL: Duration = Duration::from_millis(100);
const BAR_WIDTH: usize = 30;

/// How far a command is. Shown only on a terminal, and erased at the end.
pub(crate) struct Progress {
    what: &'static str,
    total: Option<u64>,
    done: u64,
    began: Instant,
    drawn: Option<Instant>,
    shown: bool,
}

impl Progress {
    pub(crate) fn new(output: Output, what: &'static str, total: Option<u64>) -> Progress {
        let shown = !output.json && io::stderr().is_terminal() && !is_dumb_terminal();
        Progress {
            what,
            total,
            done: 0,
            began: Instant::now(),
            drawn: None,
            shown,
        }
    }

    /// So much more is done.
    pub(crate) fn add(&mut self, amount: u64) {
        self.done += amount;
        let now = Instant::now();
        // Short commands show nothing at all.
        let due = self.drawn.unwrap_or(self.began) + INTERVAL;
        if self.shown && now >= due {
            self.drawn = Some(now);
            unfinished_line(&self.line());
        }
    }

    fn line(&self) -> String {
        let per_second = self.done as f64 / self.began.elapsed().as_secs_f64().max(0.001);
        match self.total {
            // The tree may grow while it is walked.
            Some(total) if total > 0 => {
                let done = self.done.min(total);
                let filled = usize::try_from(done * BAR_WIDTH as u64 / total).unwrap_or_default();
                let bar = "#".repeat(filled) + &".".repeat(BAR_WIDTH - filled);
                let (percent, what, count) = (done * 100 / total, self.what, self.done);
                format!("[{bar}] {percent:>3} % {what} {count} of {total}, {per_second:.0}/s")
            }
            _ => format!("{} {}, {per_second:.0}/s", self.what, self.done),
        }
    }

    /// Erases the line.
    pub(crate) fn finish(self) {}
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            unfinished_line("");
        }
    }
}
