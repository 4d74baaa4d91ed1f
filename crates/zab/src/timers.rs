//! All deadlines of a server in one table, so that one number wakes the shell.

/// What can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// Nobody answered for a while: send the vote again.
    NotificationResend,
    /// A quorum agrees; when no better vote came until then, the election is over.
    ElectionSettle,
    /// The phase must be over by then, or the role is given up.
    InitLimit,
    /// The leader, or the learners, must have been heard by then.
    SyncLimit,
    /// The leader's next ping.
    Ping,
    /// Dial the leader again.
    ConnectRetry,
}

const COUNT: usize = 6;

/// The deadlines, in ms of the shell's monotonic clock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers([Option<u64>; COUNT]);

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, at_ms: u64) {
        self.0[timer as usize] = Some(at_ms);
    }

    pub(crate) fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.0[timer as usize].is_some()
    }

    pub(crate) fn stop_all(&mut self) {
        *self = Timers::default();
    }

    /// Whether the deadline has come; it is gone then.
    pub(crate) fn fires(&mut self, timer: Timer, now_ms: u64) -> bool {
        let due = self.0[timer as usize].is_some_and(|at_ms| at_ms <= now_ms);
        if due {
            self.stop(timer);
        }
        due
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<u64> {
        self.0.iter().flatten().min().copied()
    }
}
