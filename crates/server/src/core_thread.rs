//! The thread that drives the core: events in from connections and the disk, actions out to them.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use oxkeeper_core::{Action, Event, ServerCore};

use crate::clock::Clock;
use crate::disk_worker::Append;

/// Events handled before their actions are carried out: what came together is logged together.
const EVENTS_BATCH_MAX: usize = 1000;

/// What the core thread is told.
pub(crate) enum CoreMessage {
    /// Something happened.
    Event(Event),
    /// Somebody wants to look at the core.
    Inspect(Box<dyn FnOnce(&ServerCore) + Send>),
    /// The server stops.
    Stop,
}

/// Where connections and workers put what they have for the core. The queue is bounded by what its senders may have
/// in work: each connection `requests_per_connection_max` requests, the disk worker one event per sync.
#[derive(Clone)]
pub(crate) struct CoreHandle {
    sender: Sender<CoreMessage>,
}

impl CoreHandle {
    pub(crate) fn new(sender: Sender<CoreMessage>) -> CoreHandle {
        CoreHandle { sender }
    }

    /// Hands an event to the core. Once the server stops there is no core, and nothing more is acknowledged.
    pub(crate) fn submit(&self, event: Event) {
        let _stopped = self.sender.send(CoreMessage::Event(event));
    }

    /// Lets `look` see the core, on its thread. It is dropped unseen when the server stops.
    pub(crate) fn inspect(&self, look: impl FnOnce(&ServerCore) + Send + 'static) {
        let _stopped = self.sender.send(CoreMessage::Inspect(Box::new(look)));
    }

    pub(crate) fn stop(&self) {
        let _stopped = self.sender.send(CoreMessage::Stop);
    }
}

/// Drives the core until it is told to stop or nobody is left to tell it anything.
pub(crate) fn run(
    mut core: ServerCore,
    messages: &Receiver<CoreMessage>,
    disk: &Sender<Vec<Append>>,
    clock: Clock,
) {
    loop {
        let wait = core.next_deadline_ms().saturating_sub(clock.now().monotonic_ms);
        let mut next = match messages.recv_timeout(Duration::from_millis(wait)) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let now = clock.now();
        if now.monotonic_ms >= core.next_deadline_ms() {
            core.handle_event(now, Event::DeadlineReached);
        }
        let mut handled = 0;
        while let Some(message) = next {
            match message {
                CoreMessage::Event(event) => core.handle_event(now, event),
                CoreMessage::Inspect(look) => look(&core),
                CoreMessage::Stop => return,
            }
            handled += 1;
            next = if handled < EVENTS_BATCH_MAX {
                messages.try_recv().ok()
            } else {
                None
            };
        }
        carry_out(&mut core, disk);
    }
}

fn carry_out(core: &mut ServerCore, disk: &Sender<Vec<Append>>) {
    let mut appends = Vec::new();
    while let Some(action) = core.poll_action() {
        match action {
            Action::AppendToLog { zxid, entry } => appends.push(Append { zxid, entry }),
            Action::Wake(client) => client.wake(),
            Action::ReportQuota(exceeded) => tracing::warn!("{exceeded}"),
        }
    }
    if !appends.is_empty() {
        // When the disk worker is gone, nothing becomes durable and nothing is acknowledged; its failure stops us.
        let _failed = disk.send(appends);
    }
}
