//! One server in memory and its clients, driven step by step: a real [`ServerCore`], real [`Connection`]s and real
//! storage on a simulated disk, with clocks, disk, threads and network replaced by calls. What the shell does
//! concurrently is done here in whatever order the test asks for, so every order can be tried and repeated.
//!
//! Some promises are checked at every step of every test: nothing is applied, sent or answered that is not durable
//! (Z9), zxids go up by one, and the digests predicted for the log are those that come to be (T1).

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, reason = "a test may stop where it is")]

pub(crate) use oxkeeper_model::client;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use oxkeeper_core::{
    Action, Client, CloseReason, Connection, CoreSettings, Event, Now, ServerCore, Shared, SnapshotWalk,
    Verdict, recover, write_snapshot,
};
use oxkeeper_storage::{LogSettings, SimDisk, Storage, StorageError, StorageSettings, TxnLog};
use oxkeeper_tree::ConnectionId;
use oxkeeper_types::{OpCode, ServerId, SessionId, Txn, TxnDigest, TxnHeader, Zxid};
use oxkeeper_wire::{ConnectRequest, ConnectResponse, Request, decode_txn_entry, encode_request};

use client::{Frame, brief, split_frames};

/// How the machine or the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The machine loses power: what was not synced is lost in part or whole.
    Power,
    /// The process is killed: what was written stays.
    Kill,
}

/// What has become of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// The server waits for input.
    Open,
    /// The server does not read, and looks again only when woken.
    Paused,
    /// The server closed it.
    Closed(CloseReason),
    /// The client hung up, or the server is gone.
    Lost,
}

/// A connection with both its ends.
pub(crate) struct Link {
    pub(crate) client: Arc<Client>,
    pub(crate) connection: Connection,
    pub(crate) state: LinkState,
    woken: Arc<AtomicBool>,
    /// Arrived at the server and not taken by it yet.
    input: Vec<u8>,
    /// How many bytes the server has taken.
    pub(crate) taken: usize,
    has_new_input: bool,
    /// Output the server could not get rid of, because the client does not read.
    unsent: Vec<u8>,
    pub(crate) client_reads: bool,
    /// Output on its way to the client's eyes.
    received: Vec<Frame>,
    is_greeted: bool,
    /// The session, once the client knows it.
    pub(crate) session: SessionId,
    pub(crate) password: Vec<u8>,
    next_xid: i32,
    asked: HashMap<i32, OpCode>,
}

impl Link {
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, LinkState::Open | LinkState::Paused)
    }

    fn is_ready(&self) -> bool {
        let woken = self.woken.load(Relaxed);
        if !self.unsent.is_empty() {
            // The task waits for the client to read; only the core's word ends that.
            return self.is_up() && woken && self.client.is_closed_by_core();
        }
        match self.state {
            LinkState::Open => woken || self.has_new_input,
            LinkState::Paused => woken,
            LinkState::Closed(_) | LinkState::Lost => false,
        }
    }

    /// Bytes that the server has not taken.
    pub(crate) fn untaken(&self) -> usize {
        self.input.len()
    }
}

/// A txn that the core gave to the log.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    pub(crate) header: TxnHeader,
    pub(crate) txn: Txn,
    pub(crate) digest: Option<TxnDigest>,
}

/// A session got a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    pub(crate) session: SessionId,
    pub(crate) timeout_ms: i32,
    pub(crate) link: usize,
    /// The newest txn that was proposed then.
    pub(crate) after: Zxid,
}

struct Server {
    storage: Storage,
    shared: Arc<Shared>,
    core: ServerCore,
    log: TxnLog,
    notes: Vec<String>,
}

/// See the module documentation.
pub(crate) struct Sim {
    pub(crate) now: Now,
    pub(crate) settings: CoreSettings,
    pub(crate) disk: SimDisk,
    pub(crate) storage_settings: StorageSettings,
    pub(crate) storage: Storage,
    pub(crate) shared: Arc<Shared>,
    pub(crate) core: ServerCore,
    pub(crate) log: TxnLog,
    pub(crate) links: Vec<Link>,
    /// On their way to the core.
    pub(crate) to_core: VecDeque<Event>,
    /// On their way to the disk.
    to_log: VecDeque<(Zxid, Vec<u8>)>,
    /// All that was ever given to the log, less what a crash took; the txn of zxid n is at n - 1.
    pub(crate) history: Vec<Logged>,
    /// The newest txn that a commit made durable.
    pub(crate) durable: Zxid,
    snapshot: Option<SnapshotWalk>,
    pub(crate) snapshots_finished: usize,
    /// What the last recovery had to say.
    pub(crate) notes: Vec<String>,
    pub(crate) quota_reports: usize,
    /// Sessions that were opened or renewed; for whoever takes them out.
    pub(crate) begun: Vec<Begun>,
}

/// The settings of the tests: short ticks, and the rest as by default.
pub(crate) fn settings() -> CoreSettings {
    CoreSettings {
        tick_ms: 500,
        session_timeout_ms_min: 1000,
        session_timeout_ms_max: 60_000,
        ..CoreSettings::default()
    }
}

fn start(
    disk: &SimDisk,
    settings: &CoreSettings,
    storage_settings: StorageSettings,
    now: Now,
) -> Result<Server, StorageError> {
    let storage = Storage::open(Arc::new(disk.clone()), None, storage_settings)?;
    let recovered = recover(&storage, &settings.tree, 0)?;
    let shared = Arc::new(Shared::new(recovered.replica, settings.clone()));
    if recovered.is_new {
        write_snapshot(&shared.replica, &storage, true, true)?;
    }
    let log = storage.open_log(&recovered.log_end, || Duration::ZERO)?;
    Ok(Server {
        core: ServerCore::new(shared.clone(), ServerId(1), now),
        storage,
        shared,
        log,
        notes: recovered.notes,
    })
}

impl Sim {
    pub(crate) fn new() -> Sim {
        Sim::with(settings(), 0)
    }

    /// A server over an empty disk.
    pub(crate) fn with(settings: CoreSettings, seed: u64) -> Sim {
        let storage_settings = StorageSettings {
            log: LogSettings {
                preallocation_bytes: 4096,
                ..LogSettings::default()
            },
            ..StorageSettings::default()
        };
        Sim::on(SimDisk::new(seed), settings, storage_settings)
    }

    pub(crate) fn on(disk: SimDisk, settings: CoreSettings, storage_settings: StorageSettings) -> Sim {
        let now = Now {
            monotonic_ms: 10_000,
            wall_ms: 1_700_000_000_000,
        };
        let server = start(&disk, &settings, storage_settings, now).unwrap();
        Sim {
            now,
            settings,
            disk,
            storage_settings,
            storage: server.storage,
            shared: server.shared,
            core: server.core,
            log: server.log,
            links: Vec::new(),
            to_core: VecDeque::new(),
            to_log: VecDeque::new(),
            history: Vec::new(),
            durable: Zxid::ZERO,
            snapshot: None,
            snapshots_finished: 0,
            notes: server.notes,
            quota_reports: 0,
            begun: Vec::new(),
        }
    }

    // ---- the network -----------------------------------------------------------------------------------------

    /// A new connection; nothing is sent yet.
    pub(crate) fn dial(&mut self) -> usize {
        self.dial_from("10.0.0.1:4711".parse().unwrap())
    }

    pub(crate) fn dial_from(&mut self, peer: SocketAddr) -> usize {
        let woken = Arc::new(AtomicBool::new(false));
        let wake = woken.clone();
        let id = ConnectionId(self.links.len() as u64 + 1);
        let client = Arc::new(Client::new(
            id,
            peer,
            self.now.monotonic_ms,
            Box::new(move || wake.store(true, Relaxed)),
        ));
        self.links.push(Link {
            connection: Connection::new(client.clone(), self.shared.clone()),
            client,
            state: LinkState::Open,
            woken,
            input: Vec::new(),
            taken: 0,
            has_new_input: false,
            unsent: Vec::new(),
            client_reads: true,
            received: Vec::new(),
            is_greeted: false,
            session: SessionId::NONE,
            password: Vec::new(),
            next_xid: 1,
            asked: HashMap::new(),
        });
        self.links.len() - 1
    }

    /// Bytes of the client arrive at the server.
    pub(crate) fn send(&mut self, at: usize, bytes: &[u8]) {
        let link = &mut self.links[at];
        link.input.extend_from_slice(bytes);
        link.has_new_input = true;
    }

    pub(crate) fn send_connect(&mut self, at: usize, session: SessionId, password: &[u8], timeout_ms: i32) {
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid::ZERO,
            timeout_ms,
            session,
            password: password.to_vec(),
            read_only: Some(false),
        };
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        self.send(at, &bytes);
    }

    /// Sends a request with the next xid of the connection, and says which that is.
    pub(crate) fn ask(&mut self, at: usize, request: &Request<'_>) -> i32 {
        let link = &mut self.links[at];
        let xid = link.next_xid;
        link.next_xid += 1;
        link.asked.insert(xid, request.op());
        let mut bytes = Vec::new();
        encode_request(&mut bytes, xid, request);
        self.send(at, &bytes);
        xid
    }

    /// A connection with a new session, all of it durable.
    pub(crate) fn open(&mut self) -> usize {
        self.open_with(10_000)
    }

    pub(crate) fn open_with(&mut self, timeout_ms: i32) -> usize {
        let at = self.dial();
        self.send_connect(at, SessionId::NONE, &[], timeout_ms);
        self.run();
        let response = self.greeting(at);
        assert!(response.timeout_ms > 0, "a new session was refused");
        at
    }

    /// A connection that goes on with the session of `before`.
    pub(crate) fn reopen(&mut self, before: usize) -> usize {
        let at = self.dial();
        let (session, password) = (self.links[before].session, self.links[before].password.clone());
        self.send_connect(at, session, &password, 10_000);
        self.run();
        let response = self.greeting(at);
        assert_eq!(response.session, session, "the session was not renewed");
        at
    }

    /// Takes the connect response, which must be what came first.
    pub(crate) fn greeting(&mut self, at: usize) -> ConnectResponse {
        let link = &mut self.links[at];
        match link.received.first() {
            Some(Frame::Connected(response)) => {
                let response = *response;
                link.received.remove(0);
                response
            }
            other => panic!("no connect response but {other:?}, and {:?}", link.state),
        }
    }

    /// What the client has received since it looked last.
    pub(crate) fn take(&mut self, at: usize) -> Vec<Frame> {
        std::mem::take(&mut self.links[at].received)
    }

    /// The same as short texts: `1=/a` a reply, `2:-101` an error, `DataChanged /a` an event.
    pub(crate) fn seen(&mut self, at: usize) -> Vec<String> {
        let frames = self.take(at);
        let asked = &self.links[at].asked;
        frames.iter().map(|frame| brief(frame, asked)).collect()
    }

    /// The client reads again.
    pub(crate) fn let_read(&mut self, at: usize) {
        self.links[at].client_reads = true;
        self.flush(at);
    }

    /// The connection breaks.
    pub(crate) fn hang_up(&mut self, at: usize) {
        self.end(at, LinkState::Lost);
    }

    fn end(&mut self, at: usize, state: LinkState) {
        let link = &mut self.links[at];
        if link.is_up() {
            link.state = state;
            let to_core = &mut self.to_core;
            link.connection.finish(&mut |event| to_core.push_back(event));
        }
    }

    pub(crate) fn state(&self, at: usize) -> &LinkState {
        &self.links[at].state
    }

    pub(crate) fn assert_closed(&self, at: usize, reason: &CloseReason) {
        assert_eq!(self.links[at].state, LinkState::Closed(reason.clone()));
    }

    // ---- the steps -------------------------------------------------------------------------------------------

    /// The connection's task looks at its input and its box, once.
    pub(crate) fn look(&mut self, at: usize) {
        let link = &mut self.links[at];
        if !link.is_up() {
            return;
        }
        if !link.unsent.is_empty() {
            if !(link.woken.load(Relaxed) && link.client.is_closed_by_core()) {
                return;
            }
            link.unsent.clear();
        }
        link.woken.store(false, Relaxed);
        link.has_new_input = false;
        let to_core = &mut self.to_core;
        let progress = link
            .connection
            .process(self.now, &link.input, &mut link.unsent, &mut |event| {
                to_core.push_back(event);
            });
        link.input.drain(..progress.consumed);
        link.taken += progress.consumed;
        if progress.verdict == Verdict::Paused && !link.unsent.is_empty() {
            // Only the output may have been in the way: the task looks again once it is sent.
            link.woken.store(true, Relaxed);
        }
        match progress.verdict {
            Verdict::Open => link.state = LinkState::Open,
            Verdict::Paused => link.state = LinkState::Paused,
            Verdict::Close(reason) => self.end(at, LinkState::Closed(reason)),
        }
        self.flush(at);
    }

    fn flush(&mut self, at: usize) {
        let link = &mut self.links[at];
        if !link.client_reads {
            return;
        }
        let bytes = std::mem::take(&mut link.unsent);
        for frame in split_frames(&bytes, &mut link.is_greeted) {
            // Z9, at the moment the server lets it go.
            match &frame {
                Frame::Connected(response) => {
                    link.session = response.session;
                    link.password = response.password.to_vec();
                    let begun = self.history.iter().find(|logged| {
                        logged.header.session == response.session
                            && matches!(logged.txn, Txn::CreateSession { .. })
                    });
                    if response.session != SessionId::NONE {
                        let begun = begun.unwrap_or_else(|| panic!("nobody made {}", response.session));
                        assert!(
                            begun.header.zxid <= self.durable,
                            "Z9: the session is not durable"
                        );
                    }
                }
                Frame::Reply { zxid, .. } | Frame::Event { zxid, .. } => {
                    assert!(
                        *zxid <= self.durable,
                        "Z9: {frame:?} was sent, but durable is {}",
                        self.durable
                    );
                }
            }
            link.received.push(frame);
        }
    }

    /// The core handles the oldest event that waits for it. Its actions wait for [`Sim::carry_out`].
    pub(crate) fn handle_one(&mut self) -> bool {
        let Some(event) = self.to_core.pop_front() else {
            return false;
        };
        let begins = match &event {
            Event::OpenSession {
                client, timeout_ms, ..
            }
            | Event::RenewSession {
                client, timeout_ms, ..
            } => Some((client.clone(), *timeout_ms)),
            _ => None,
        };
        self.core.handle_event(self.now, event);
        self.check_core();
        if let Some((client, timeout_ms)) = begins
            && let Some((session, _)) = client.session()
        {
            self.begun.push(Begun {
                session: session.id,
                timeout_ms,
                link: usize::try_from(client.id.0).unwrap() - 1,
                after: self.core.last_proposed(),
            });
        }
        true
    }

    fn check_core(&self) {
        let last_processed = self.shared.replica.read().last_processed;
        assert!(
            last_processed <= self.durable,
            "Z9: {last_processed} is applied, but durable is {}",
            self.durable
        );
        let mismatches = self.shared.stats.digest_mismatches.load(Relaxed);
        assert_eq!(mismatches, 0, "T1: a digest is not the predicted one");
    }

    /// What the core wants done is done: connections are woken, txns are on their way to the disk.
    pub(crate) fn carry_out(&mut self) {
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::AppendToLog { zxid, entry } => {
                    let (header, txn, digest) = decode_txn_entry(&entry).unwrap();
                    assert_eq!(header.zxid, zxid);
                    assert_eq!(zxid.0, self.history.len() as i64 + 1, "zxids go up by one");
                    self.history.push(Logged { header, txn, digest });
                    self.to_log.push_back((zxid, entry));
                }
                Action::Wake(client) => client.wake(),
                Action::ReportQuota(_) => self.quota_reports += 1,
                Action::ReportPeer { .. } | Action::ReportReadOnly | Action::Ensemble(_) => {
                    unreachable!("a standalone server has no ensemble")
                }
            }
        }
    }

    /// Txns that wait for the disk are written, not synced.
    pub(crate) fn write_log(&mut self, count: usize) -> Result<(), StorageError> {
        for (zxid, entry) in self.to_log.drain(..count) {
            self.log.append(zxid, &entry)?;
        }
        Ok(())
    }

    pub(crate) fn waiting_for_log(&self) -> usize {
        self.to_log.len()
    }

    /// What was written is synced, and the core is told.
    pub(crate) fn sync_log(&mut self) -> Result<(), StorageError> {
        self.durable = self.log.commit()?.up_to;
        self.to_core.push_back(Event::LogDurable { up_to: self.durable });
        Ok(())
    }

    /// Whether there are txns of which the core was not told yet that they are durable.
    pub(crate) fn awaits_disk(&self) -> bool {
        !self.to_log.is_empty() || self.durable < self.log.last_zxid()
    }

    /// Everything the core gave to the log so far becomes durable.
    pub(crate) fn commit(&mut self) {
        self.write_log(self.to_log.len()).unwrap();
        self.sync_log().unwrap();
    }

    /// Connections and core work until nothing is left to do but to wait for the disk.
    pub(crate) fn settle(&mut self) {
        loop {
            let mut worked = false;
            for at in 0..self.links.len() {
                while self.links[at].is_ready() {
                    self.look(at);
                    worked = true;
                }
            }
            while self.handle_one() {
                worked = true;
            }
            self.carry_out();
            if !worked {
                return;
            }
        }
    }

    /// Everything works until nothing is left to do.
    pub(crate) fn run(&mut self) {
        self.settle();
        while self.awaits_disk() {
            self.commit();
            self.settle();
        }
    }

    /// Time goes by; the core is told of each deadline in time.
    pub(crate) fn advance(&mut self, ms: u64) {
        let target = self.now.monotonic_ms + ms;
        loop {
            let due = self.core.next_deadline_ms();
            if due > target {
                break;
            }
            self.jump(due.saturating_sub(self.now.monotonic_ms));
            self.reach_deadline();
        }
        self.jump(target - self.now.monotonic_ms);
    }

    /// Time goes by and nobody is told.
    pub(crate) fn jump(&mut self, ms: u64) {
        self.now.monotonic_ms += ms;
        self.now.wall_ms += i64::try_from(ms).unwrap();
    }

    /// The core is told of its deadline, if that has come.
    pub(crate) fn reach_deadline(&mut self) {
        if self.now.monotonic_ms >= self.core.next_deadline_ms() {
            self.core.handle_event(self.now, Event::DeadlineReached);
            self.carry_out();
        }
    }

    // ---- snapshots, crashes ----------------------------------------------------------------------------------

    pub(crate) fn is_taking_snapshot(&self) -> bool {
        self.snapshot.is_some()
    }

    /// The log is rolled and a snapshot begun, as after `snapCount` txns.
    pub(crate) fn begin_snapshot(&mut self) -> Result<(), StorageError> {
        self.log.roll()?;
        self.log.restart_size();
        self.snapshot = Some(SnapshotWalk::begin(&self.shared.replica, &self.storage)?);
        Ok(())
    }

    /// The snapshot in work goes on by a few znodes, or is finished.
    pub(crate) fn step_snapshot(&mut self, znodes: usize) -> Result<(), StorageError> {
        let Some(mut walk) = self.snapshot.take() else {
            return Ok(());
        };
        if walk.visit(&self.shared.replica, znodes)? {
            self.snapshot = Some(walk);
        } else {
            walk.finish(true, true)?;
            self.snapshots_finished += 1;
        }
        Ok(())
    }

    /// The server ends without warning; all connections with it.
    pub(crate) fn crash(&mut self, end: End) {
        // Dropping would tidy up, which nobody does who is dead.
        std::mem::forget(self.snapshot.take());
        match end {
            End::Power => self.disk.crash(),
            End::Kill => self.disk.kill_process(),
        }
        for link in &mut self.links {
            if link.is_up() {
                link.state = LinkState::Lost;
            }
        }
        self.to_core.clear();
        self.to_log.clear();
    }

    /// A new process over what the crash has left. The history forgets what is lost.
    pub(crate) fn recover(&mut self) -> Result<(), StorageError> {
        let server = start(&self.disk, &self.settings, self.storage_settings, self.now)?;
        self.storage = server.storage;
        self.shared = server.shared;
        self.core = server.core;
        self.log = server.log;
        self.notes = server.notes;
        let last = self.shared.replica.read().last_processed;
        assert!(
            last >= self.durable,
            "D1: durable was {}, recovered is {last}",
            self.durable
        );
        let kept = usize::try_from(last.0).unwrap();
        assert!(kept <= self.history.len(), "D1: {last} was never proposed");
        self.history.truncate(kept);
        self.durable = last;
        Ok(())
    }

    pub(crate) fn restart(&mut self, end: End) {
        self.crash(end);
        self.recover().unwrap();
    }
}
