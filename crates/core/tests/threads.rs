//! W1 with real threads: the core on one, a connection that writes and connections that read on others, as in the
//! shell. Single steps cannot show what happens between the moment the core lets go of the replica and the moment
//! an event is in its box; threads that wait for exactly that moment can.
//!
//! The test cannot fail by chance: whatever the threads' order, no reply may show a change before its event.

#![allow(clippy::unwrap_used, reason = "a test may stop where it is")]

mod driver;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use oxkeeper_core::{Action, Client, Connection, Event, Now, ServerCore, Shared, Verdict};
use oxkeeper_tree::ConnectionId;
use oxkeeper_types::{SessionId, Zxid};
use oxkeeper_wire::{ConnectRequest, Decoder, Request, decode_data_and_stat, encode_request};

use driver::Sim;
use driver::client::{Frame, create, get, get_and_watch, set, split_frames};

const NOW: Now = Now {
    monotonic_ms: 10_000,
    wall_ms: 1_700_000_000_000,
};
/// There are more when a thread had less than its share of the processor.
const WRITES_MIN: usize = 3000;
const EVENTS_MIN: usize = 20;
/// Writes on their way at once.
const WINDOW: usize = 8;

/// The core's thread, with a disk that is always in time.
fn drive(mut core: ServerCore, events: &Receiver<Event>) {
    while let Ok(event) = events.recv() {
        core.handle_event(NOW, event);
        loop {
            let mut durable = None;
            while let Some(action) = core.poll_action() {
                match action {
                    Action::AppendToLog { zxid, .. } => durable = Some(zxid),
                    Action::Wake(client) => client.wake(),
                    Action::ReportQuota(_) => {}
                    Action::ReportPeer { .. } | Action::ReportReadOnly | Action::Ensemble(_) => {
                        unreachable!("a standalone server has no ensemble")
                    }
                }
            }
            let Some(up_to) = durable else { break };
            core.handle_event(NOW, Event::LogDurable { up_to });
        }
    }
}

/// A connection whose task never sleeps.
struct Task {
    connection: Connection,
    core: Sender<Event>,
    input: Vec<u8>,
    is_greeted: bool,
    next_xid: i32,
}

impl Task {
    fn new(id: u64, shared: &Arc<Shared>, core: &Sender<Event>) -> Task {
        let peer = "10.0.0.1:4711".parse().unwrap();
        let client = Arc::new(Client::new(ConnectionId(id), peer, 0, Box::new(|| {})));
        let mut task = Task {
            connection: Connection::new(client, shared.clone()),
            core: core.clone(),
            input: Vec::new(),
            is_greeted: false,
            next_xid: 1,
        };
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid::ZERO,
            timeout_ms: 10_000,
            session: SessionId::NONE,
            password: Vec::new(),
            read_only: None,
        }
        .encode(&mut task.input);
        while task.look().is_empty() {
            thread::yield_now();
        }
        task
    }

    fn ask(&mut self, request: &Request<'_>) {
        encode_request(&mut self.input, self.next_xid, request);
        self.next_xid += 1;
    }

    fn look(&mut self) -> Vec<Frame> {
        let mut out = Vec::new();
        let core = &self.core;
        let progress = self.connection.process(NOW, &self.input, &mut out, &mut |event| {
            core.send(event).unwrap();
        });
        self.input.drain(..progress.consumed);
        assert!(!matches!(progress.verdict, Verdict::Close(_)), "{progress:?}");
        split_frames(&out, &mut self.is_greeted)
    }
}

/// Reads `/x` until nobody writes any more, mostly with a watch armed. Counts the events that come.
fn read(mut task: Task, is_over: &AtomicBool, events: &AtomicUsize) {
    // The version that was read when the watch was left, while it is armed.
    let mut armed: Option<i32> = None;
    let mut asks_watch = false;
    while !is_over.load(Relaxed) {
        if armed.is_none() && !asks_watch {
            task.ask(&get_and_watch("/x"));
            asks_watch = true;
        } else {
            task.ask(&get("/x"));
        }
        for frame in task.look() {
            match frame {
                Frame::Event { .. } => {
                    assert!(armed.take().is_some(), "W3: an event without a watch");
                    events.fetch_add(1, Relaxed);
                }
                Frame::Reply { err: 0, body, .. } => {
                    let (_, stat) = decode_data_and_stat(&mut Decoder::new(&body)).unwrap();
                    if let Some(version) = armed {
                        assert_eq!(stat.version, version, "W1: a change was shown before its event");
                    } else if asks_watch {
                        armed = Some(stat.version);
                        asks_watch = false;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn w1_no_reply_shows_a_change_before_its_event_whatever_the_order_of_threads() {
    let Sim { shared, core, .. } = Sim::new();
    let (sender, events) = channel();
    let core_thread = thread::spawn(move || drive(core, &events));
    let mut writer = Task::new(1, &shared, &sender);
    writer.ask(&create("/x"));
    while writer.look().is_empty() {
        thread::yield_now();
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (2..4)
        .map(|id| {
            let task = Task::new(id, &shared, &sender);
            let (is_over, events) = (is_over.clone(), Arc::new(AtomicUsize::new(0)));
            let count = events.clone();
            (thread::spawn(move || read(task, &is_over, &count)), events)
        })
        .collect();
    let (mut asked, mut answered) = (0, 0);
    // A reader that has failed is done, and its failure is told below.
    let is_content = || {
        readers
            .iter()
            .all(|(reader, events)| reader.is_finished() || events.load(Relaxed) >= EVENTS_MIN)
    };
    while answered < WRITES_MIN || !is_content() {
        while asked - answered < WINDOW {
            writer.ask(&set("/x", ""));
            asked += 1;
        }
        let frames = writer.look();
        if frames.is_empty() {
            thread::yield_now();
        }
        answered += frames.len();
    }
    is_over.store(true, Relaxed);
    for (reader, _) in readers {
        reader.join().unwrap();
    }
    drop((writer, sender));
    core_thread.join().unwrap();
}
