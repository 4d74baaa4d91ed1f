//! The thread that drives the core: events in from connections and the disk, actions out to them.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use oxkeeper_core::{Action, Event, ServerCore};

use crate::channels::{Append, CoreMessage};
use crate::clock::Clock;

/// Events handled before their actions are carried out: what came together is logged together.
const EVENTS_BATCH_MAX: usize = 1000;

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
            Action::ReportPeer { what, .. } => tracing::warn!("{what}"),
            Action::ReportReadOnly => tracing::warn!("there is no leader; reads are answered to who takes that"),
            Action::Ensemble(_) => unreachable!("a standalone server has no ensemble"),
        }
    }
    if !appends.is_empty() {
        // When the disk worker is gone, nothing becomes durable and nothing is acknowledged; its failure stops us.
        let _failed = disk.send(appends);
    }
}
