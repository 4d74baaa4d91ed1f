//! What holds the threads of a server that is paused.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Threads wait before it until it is opened.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_open: bool,
    waiting: usize,
}

impl Gate {
    /// Waits until the gate is opened.
    pub(crate) fn wait(&self) {
        let mut state = self.state();
        state.waiting += 1;
        self.changed.notify_all();
        while !state.is_open {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until so many threads have come to the gate. False when they have not in time.
    pub(crate) fn wait_for_threads(&self, count: usize, within: Duration) -> bool {
        let waited = self
            .changed
            .wait_timeout_while(self.state(), within, |state| state.waiting < count);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Lets all go on, and those that come later pass.
    pub(crate) fn open(&self) {
        self.state().is_open = true;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
