//! The thread that drives the core: events in from connections, links and the disk, actions out to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use oxkeeper_core::{Action, Event, ServerCore};

use crate::channels::{CoreMessage, DiskJob, DiskQueue};
use crate::clock::Clock;
use crate::member::MemberLinks;

/// Messages handled before their actions are carried out: what came together is logged and sent together.
const MESSAGES_BATCH_MAX: usize = 1000;

/// The core, and where its actions go.
pub(crate) struct CoreThread {
    pub(crate) core: ServerCore,
    pub(crate) clock: Clock,
    pub(crate) disk: DiskQueue,
    /// The way to the other servers; `None` for a server that stands alone.
    pub(crate) member: Option<MemberLinks>,
    /// Set when nothing more is to be done.
    pub(crate) halted: Arc<AtomicBool>,
}

impl CoreThread {
    /// Drives the core until it is told to stop or nobody is left to tell it anything.
    pub(crate) fn run(mut self, messages: &Receiver<CoreMessage>) {
        self.carry_out();
        loop {
            let wait = self
                .core
                .next_deadline_ms()
                .saturating_sub(self.clock.now().monotonic_ms);
            let mut next = match messages.recv_timeout(Duration::from_millis(wait)) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let now = self.clock.now();
            if now.monotonic_ms >= self.core.next_deadline_ms() {
                self.core.handle_event(now, Event::DeadlineReached);
            }
            let mut handled = 0;
            while let Some(message) = next {
                if self.halted.load(Relaxed) {
                    return;
                }
                match message {
                    CoreMessage::Event(event) => self.core.handle_event(now, event),
                    CoreMessage::Received(events, _place) => {
                        for event in events {
                            self.core.handle_event(now, event);
                        }
                    }
                    CoreMessage::Link(message) => {
                        // What is to be done with the link so far comes before its end.
                        self.carry_out();
                        let member = self.member.as_mut();
                        if let Some(event) = member.and_then(|member| member.receive(message)) {
                            self.core.handle_event(now, event);
                        }
                    }
                    CoreMessage::Isolate(isolated) => {
                        if let Some(member) = &mut self.member {
                            member.isolate(isolated);
                        }
                    }
                    CoreMessage::Inspect(look) => look(&self.core),
                    CoreMessage::Stop => return,
                }
                handled += 1;
                next = match handled < MESSAGES_BATCH_MAX {
                    true => messages.try_recv().ok(),
                    false => None,
                };
            }
            if self.halted.load(Relaxed) {
                return;
            }
            self.carry_out();
        }
    }

    fn carry_out(&mut self) {
        let mut jobs = Vec::new();
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::AppendToLog { zxid, entry } => jobs.push(DiskJob::Append { zxid, entry }),
                Action::Wake(client) => client.wake(),
                Action::ReportQuota(exceeded) => tracing::warn!("{exceeded}"),
                Action::ReportPeer { link, what } => {
                    tracing::warn!("link {} is closed: {what}", link.0);
                }
                Action::ReportReadOnly => {
                    tracing::warn!("there is no leader; reads are answered to clients that take that");
                }
                Action::Ensemble(action) => match &mut self.member {
                    Some(member) => jobs.extend(member.carry_out(action)),
                    None => unreachable!("a server that stands alone has no ensemble"),
                },
            }
        }
        if !jobs.is_empty() {
            self.disk.send(jobs);
        }
        if let Some(member) = &mut self.member {
            member.learners.flush();
            member.tell(&self.core, self.clock.now());
        }
    }
}
