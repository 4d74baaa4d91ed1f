//! What the threads of a server send one another.

use std::sync::mpsc::Sender;

use oxkeeper_core::{Event, ServerCore};
use oxkeeper_types::Zxid;

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

/// A txn on its way to the disk.
pub(crate) struct Append {
    pub(crate) zxid: Zxid,
    pub(crate) entry: Vec<u8>,
}
