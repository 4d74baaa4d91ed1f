//! The load: one client with one session at a time, which moves between the servers and checks every reply.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use oxkeeper_types::{
    CreateMode, ErrorCode, OpResult, Outcome, ReadRequest, SessionId, Stat, VERSION_ANY, WatchPaths,
    WriteRequest, Zxid,
};
use oxkeeper_wire::{Decoder, Request, decode_data_and_stat, decode_names, decode_stat};

use super::ledger::Ledger;
use crate::client::create_request;
use crate::crash::model::{Token, data_of, set_request, token_of};
use crate::{Client, ClientError, Reply, Session};

/// Registers that are one znode each.
pub(super) const SINGLES: usize = 6;
/// Registers that are two znodes, changed by one multi.
pub(super) const PAIRS: usize = 2;
const HOLDS_MAX: usize = 8;
const BATCH_MAX: usize = 8;
const HISTORY_MAX: usize = 400;
/// A server that does not take a connection in this time is left alone for now.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// After everything is whole, clients are answered, and everything is served, within this time.
pub(super) const WHOLE_WITHIN: Duration = Duration::from_secs(60);
/// A server that does not answer in this time is left.
const REPLY_WITHIN: Duration = Duration::from_secs(2);
/// Timeouts in ms of sessions that may be left to expire.
const SHORT_TIMEOUTS_MS: std::ops::RangeInclusive<i32> = 1_000..=2_000;
/// Timeouts in ms of sessions that must not expire while their client can reach a server.
const LONG_TIMEOUTS_MS: std::ops::RangeInclusive<i32> = 6_000..=12_000;

/// Where everything of one chapter is.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) root: String,
}

impl Layout {
    /// The znodes of a register.
    pub(super) fn register(&self, register: usize) -> Vec<String> {
        match register {
            0..SINGLES => vec![format!("{}/r{register}", self.root)],
            _ => vec![
                format!("{}/p{register}a", self.root),
                format!("{}/p{register}b", self.root),
            ],
        }
    }

    /// The parent of sequential znodes.
    pub(super) fn queue(&self) -> String {
        format!("{}/queue", self.root)
    }

    /// The parent of ephemerals.
    pub(super) fn holds(&self) -> String {
        format!("{}/holds", self.root)
    }
}

/// What the one who makes the faults and the workers tell one another.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) servers: Vec<SocketAddr>,
    /// Finish what is in flight and stop.
    pub(super) stop: AtomicBool,
    /// Somebody found a violation.
    pub(super) failed: AtomicBool,
    /// A server is paused or cut off, or was so shortly ago: it may not know yet that it is not the leader any
    /// more, and sync does not ask a quorum.
    pub(super) is_split: AtomicBool,
    /// A Java server may lead: it answers a sync of its own clients like a read, while followers may have applied
    /// and answered more than it has.
    pub(super) sync_may_lag: bool,
    /// So long after a server heard a client the leader may not have heard of it.
    pub(super) touch_delay: Duration,
    pub(super) began: Instant,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked has ended the run.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A sequential znode that was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queued {
    pub(super) token: Token,
    pub(super) session: SessionId,
    /// Which connection of the worker asked for it.
    pub(super) connection: u32,
    /// Its number and czxid, when it was acknowledged.
    pub(super) acknowledged: Option<(u32, Zxid)>,
}

/// An ephemeral that was asked for.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    pub(super) path: String,
    token: Token,
    /// Its czxid, when it was acknowledged.
    pub(super) created: Option<Zxid>,
    /// Whether its deletion was asked for.
    pub(super) releasing: bool,
    /// Whether its deletion was acknowledged.
    pub(super) released: bool,
}

/// A session, and what it owns.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) session: Session,
    pub(super) holds: Vec<Hold>,
    /// Watches that were left and have not fired: the path, and the zxid of what was read with them.
    armed: BTreeMap<String, Zxid>,
    /// The newest zxid of any reply.
    seen: Zxid,
    /// When the last request that was answered was sent.
    touched: Instant,
    /// A close was sent whose reply never came.
    closing: bool,
}

/// How a session that is not used any more ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Closed, or found expired.
    Gone,
    /// Left to its timeout.
    Left,
}

/// What was asked for.
#[derive(Clone, Debug)]
enum Asked {
    Set {
        register: usize,
        token: Token,
        version: i32,
    },
    SetPair {
        register: usize,
        token: Token,
    },
    /// A read of one znode of a register. `floor` is the newest acknowledged write before the sync before it.
    Get {
        register: usize,
        path: String,
        watch: bool,
        floor: Option<Zxid>,
    },
    Enqueue {
        index: usize,
    },
    Hold {
        index: usize,
    },
    Release {
        index: usize,
    },
    /// A look at an own ephemeral.
    Look {
        index: usize,
    },
    Children {
        watch: bool,
    },
    Sync,
    Rearm,
    Close,
}

#[derive(Debug)]
struct Pending {
    asked: Asked,
    /// The newest zxid acknowledged to anybody when it was sent.
    floor: Zxid,
    sent: Instant,
}

/// Why a worker stopped using a connection.
#[derive(Debug)]
enum Stop {
    Violation(String),
    Connection(ClientError),
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Stop {
        match error {
            ClientError::Io(_) | ClientError::Closed => Stop::Connection(error),
            other => Stop::Violation(other.to_string()),
        }
    }
}

impl From<oxkeeper_wire::DecodeError> for Stop {
    fn from(error: oxkeeper_wire::DecodeError) -> Stop {
        Stop::Violation(error.to_string())
    }
}

impl From<String> for Stop {
    fn from(text: String) -> Stop {
        Stop::Violation(text)
    }
}

/// See the module.
pub(super) struct Worker {
    pub(super) index: usize,
    rng: fastrand::Rng,
    tokens: u64,
    connections: u32,
    client: Option<Client>,
    pub(super) owned: Option<Owned>,
    pub(super) former: Vec<(Owned, End)>,
    pub(super) queued: Vec<Queued>,
    pending: VecDeque<Pending>,
    history: VecDeque<String>,
    layout: Layout,
}

impl Worker {
    pub(super) fn new(index: usize, seed: u64, layout: Layout) -> Worker {
        Worker {
            index,
            layout,
            rng: fastrand::Rng::with_seed(seed),
            tokens: 0,
            connections: 0,
            client: None,
            owned: None,
            former: Vec::new(),
            queued: Vec::new(),
            pending: VecDeque::new(),
            history: VecDeque::new(),
        }
    }

    fn note(&mut self, control: &Control, text: String) {
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        let at = control.began.elapsed().as_secs_f64();
        self.history.push_back(format!("{at:9.4}  {text}"));
    }

    /// The last lines of what happened, oldest first.
    pub(super) fn history(&self, lines: usize) -> String {
        let skip = self.history.len().saturating_sub(lines);
        let lines = self.history.iter().skip(skip);
        lines.fold(String::new(), |text, line| text + "    " + line + "\n")
    }

    /// A number that no other write has.
    pub(super) fn token(&mut self) -> Token {
        self.tokens += 1;
        (u64::try_from(self.index).expect("few workers") + 1) << 40 | self.tokens
    }

    /// Works until told to stop. The error is a violation.
    pub(super) fn run(&mut self, ledger: &Mutex<Ledger>, control: &Control) -> Result<(), String> {
        while !control.stop.load(Ordering::SeqCst) && !control.failed.load(Ordering::SeqCst) {
            match self.step(ledger, control) {
                Ok(()) => {}
                Err(Stop::Violation(text)) => return Err(text),
                Err(Stop::Connection(error)) => self.disconnect(ledger, control, &error.to_string()),
            }
        }
        Ok(())
    }

    /// Gives the connection up. What was not answered may have happened or not.
    fn disconnect(&mut self, ledger: &Mutex<Ledger>, control: &Control, why: &str) {
        self.note(
            control,
            format!("connection given up, {} unanswered: {why}", self.pending.len()),
        );
        if let (Some(client), Some(owned)) = (self.client.take(), &mut self.owned) {
            owned.session = client.session().clone();
            owned.closing |= self
                .pending
                .iter()
                .any(|pending| matches!(pending.asked, Asked::Close));
        }
        lock(ledger).counts.unanswered += self
            .pending
            .drain(..)
            .filter(|pending| pending.asked.is_write())
            .count() as u64;
    }

    fn step(&mut self, ledger: &Mutex<Ledger>, control: &Control) -> Result<(), Stop> {
        if self.client.is_none() {
            let server = self.rng.usize(0..control.servers.len());
            if !self.connect(server, ledger, control)? {
                sleep(Duration::from_millis(self.rng.u64(5..60)));
                return Ok(());
            }
        }
        for _ in 0..self.rng.usize(1..=BATCH_MAX) {
            self.send_something(ledger);
        }
        self.receive_all(ledger, control)?;
        sleep(Duration::from_millis(self.rng.u64(0..12)));
        match self.rng.u8(..) {
            0..6 => self.disconnect(ledger, control, "to move"),
            6..9 => {
                self.send(Asked::Close, ledger);
                self.receive_all(ledger, control)?;
            }
            9..15
                if self
                    .owned
                    .as_ref()
                    .is_some_and(|owned| owned.session.timeout_ms < 4_000) =>
            {
                // In the midst of requests, some of which may be done after that.
                self.send_something(ledger);
                self.client
                    .as_mut()
                    .expect("connected")
                    .flush()
                    .map_err(ClientError::from)?;
                self.disconnect(ledger, control, "left to its timeout");
                let owned = self.owned.take().expect("a session is used");
                self.former.push((owned, End::Left));
            }
            _ => {}
        }
        Ok(())
    }

    /// Connects, with the session there is or a new one. False when the server does not take it now.
    fn connect(&mut self, server: usize, ledger: &Mutex<Ledger>, control: &Control) -> Result<bool, Stop> {
        let timeouts = if self.rng.bool() {
            SHORT_TIMEOUTS_MS
        } else {
            LONG_TIMEOUTS_MS
        };
        let session = match &self.owned {
            Some(owned) => owned.session.clone(),
            None => Session::to_begin(self.rng.i32(timeouts)),
        };
        let sent = Instant::now();
        let connected = Client::renew_within(control.servers[server], &session, CONNECT_WITHIN);
        let mut client = match connected {
            Ok(client) => client,
            Err(ClientError::Io(_) | ClientError::Closed) => return Ok(false),
            Err(ClientError::SessionEnded) => {
                self.note(
                    control,
                    format!("server {} says session {} has ended", server + 1, session.id),
                );
                self.session_ended(ledger, control)?;
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        client
            .set_reply_timeout(REPLY_WITHIN)
            .map_err(ClientError::from)?;
        self.connections += 1;
        let id = client.session().id;
        let timeout = client.session().timeout_ms;
        self.note(
            control,
            format!("session {id} at server {}, timeout {timeout} ms", server + 1),
        );
        match &mut self.owned {
            Some(owned) => {
                owned.touched = sent;
                owned.closing = false;
                lock(ledger).counts.moves += 1;
            }
            None => {
                self.owned = Some(Owned {
                    session: client.session().clone(),
                    holds: Vec::new(),
                    armed: BTreeMap::new(),
                    seen: Zxid::ZERO,
                    touched: sent,
                    closing: false,
                });
                lock(ledger).counts.sessions += 1;
            }
        }
        self.client = Some(client);
        if self.owned.as_ref().is_some_and(|owned| !owned.armed.is_empty()) {
            self.send(Asked::Rearm, ledger);
            self.receive_all(ledger, control)?;
        }
        Ok(true)
    }

    /// A server refused the session: it must have been closed, or not been heard of for its timeout.
    fn session_ended(&mut self, ledger: &Mutex<Ledger>, control: &Control) -> Result<(), String> {
        let Some(owned) = self.owned.take() else {
            return Err("a new session was refused as ended".to_owned());
        };
        let silent = owned.touched.elapsed() + control.touch_delay;
        let timeout = Duration::from_millis(u64::try_from(owned.session.timeout_ms).unwrap_or(0));
        let early = silent < timeout && !owned.closing;
        let id = owned.session.id;
        lock(ledger).counts.expired += 1;
        self.former.push((owned, End::Gone));
        match early {
            true => Err(format!(
                "session {id} with a timeout of {timeout:?} has ended, but a server answered it {:?} ago",
                silent.saturating_sub(control.touch_delay)
            )),
            false => Ok(()),
        }
    }

    /// Puts one request, or a sync and a read, into the output.
    fn has_short_timeout(&self) -> bool {
        let timeout = self.owned.as_ref().map(|owned| owned.session.timeout_ms);
        timeout.is_some_and(|timeout| timeout <= *SHORT_TIMEOUTS_MS.end())
    }

    fn send_something(&mut self, ledger: &Mutex<Ledger>) {
        let asked = match self.rng.u8(0..100) {
            0..18 => Asked::Set {
                register: self.rng.usize(0..SINGLES),
                token: self.token(),
                version: VERSION_ANY,
            },
            18..30 => {
                // The version that was current a moment ago, which somebody may be quicker to replace.
                let register = self.rng.usize(0..SINGLES);
                let newest = lock(ledger).registers[register]
                    .versions
                    .last_key_value()
                    .map(|(version, _)| *version);
                Asked::Set {
                    register,
                    token: self.token(),
                    version: newest.expect("version 0 is known"),
                }
            }
            30..38 => Asked::SetPair {
                register: self.rng.usize(SINGLES..SINGLES + PAIRS),
                token: self.token(),
            },
            38..44 => {
                let (connection, token) = (self.connections, self.token());
                let session = self.owned.as_ref().expect("a session is used").session.id;
                self.queued.push(Queued {
                    token,
                    session,
                    connection,
                    acknowledged: None,
                });
                Asked::Enqueue {
                    index: self.queued.len() - 1,
                }
            }
            44..50 => self.hold_or_release(),
            50..54 => self.look(),
            54..58 => Asked::Children {
                watch: self.rng.bool(),
            },
            58..66 => {
                let register = self.rng.usize(0..SINGLES + PAIRS);
                let floor = lock(ledger).registers[register].acknowledged;
                self.send(Asked::Sync, ledger);
                self.get(register, Some(floor))
            }
            _ => {
                let register = self.rng.usize(0..SINGLES + PAIRS);
                self.get(register, None)
            }
        };
        self.send(asked, ledger);
    }

    fn get(&mut self, register: usize, floor: Option<Zxid>) -> Asked {
        let mut paths = self.layout.register(register);
        Asked::Get {
            register,
            path: paths.swap_remove(self.rng.usize(0..paths.len())),
            watch: self.rng.u8(0..3) == 0,
            floor,
        }
    }

    fn hold_or_release(&mut self) -> Asked {
        let token = self.token();
        let owned = self.owned.as_mut().expect("a session is used");
        let held: Vec<usize> = owned
            .holds
            .iter()
            .enumerate()
            .filter(|(_, hold)| !hold.releasing)
            .map(|(i, _)| i)
            .collect();
        if held.len() >= HOLDS_MAX || self.rng.u8(0..3) == 0 {
            let acknowledged = held
                .into_iter()
                .find(|index| owned.holds[*index].created.is_some());
            if let Some(index) = acknowledged {
                owned.holds[index].releasing = true;
                return Asked::Release { index };
            }
        }
        let path = format!("{}/{:x}-{token:x}", self.layout.holds(), owned.session.id.0);
        owned.holds.push(Hold {
            path,
            token,
            created: None,
            releasing: false,
            released: false,
        });
        Asked::Hold {
            index: owned.holds.len() - 1,
        }
    }

    fn look(&mut self) -> Asked {
        let owned = self.owned.as_ref().expect("a session is used");
        let held = |hold: &Hold| hold.created.is_some() && !hold.releasing;
        match owned.holds.iter().position(held) {
            Some(index) => Asked::Look { index },
            None => Asked::Sync,
        }
    }

    fn send(&mut self, asked: Asked, ledger: &Mutex<Ledger>) {
        let request = self.request(&asked);
        let floor = {
            let mut ledger = lock(ledger);
            if let Asked::Set { register, token, .. } | Asked::SetPair { register, token } = &asked {
                ledger.note_sent(*register, *token);
            }
            ledger.acknowledged
        };
        self.client.as_mut().expect("connected").send(&request);
        let sent = Instant::now();
        self.pending.push_back(Pending { asked, floor, sent });
    }

    fn request(&self, asked: &Asked) -> Request<'static> {
        let owned = self.owned.as_ref().expect("a session is used");
        match asked {
            Asked::Set {
                register,
                token,
                version,
            } => {
                let path = self.layout.register(*register).swap_remove(0);
                Request::Write(set_request(path, *token, *version))
            }
            Asked::SetPair { register, token } => {
                let set = |path| set_request(path, *token, VERSION_ANY);
                let parts = self.layout.register(*register).into_iter().map(set).collect();
                Request::Write(WriteRequest::Multi(parts))
            }
            Asked::Get { path, watch, .. } => Request::Read(ReadRequest::GetData {
                path: path.clone().into(),
                watch: *watch,
            }),
            Asked::Enqueue { index } => {
                let token = self.queued[*index].token;
                let path = format!("{}/{token:x}-", self.layout.queue());
                Request::Write(create_request(&path, b"", CreateMode::PersistentSequential))
            }
            Asked::Hold { index } => {
                let hold = &owned.holds[*index];
                let data = data_of(hold.token);
                Request::Write(create_request(&hold.path, &data, CreateMode::Ephemeral))
            }
            Asked::Release { index } => Request::Write(WriteRequest::Delete {
                path: owned.holds[*index].path.clone(),
                version: VERSION_ANY,
            }),
            Asked::Look { index } => Request::Read(ReadRequest::Exists {
                path: owned.holds[*index].path.clone().into(),
                watch: false,
            }),
            Asked::Children { watch } => Request::Read(ReadRequest::GetChildren {
                path: self.layout.holds().into(),
                watch: *watch,
                with_stat: true,
            }),
            Asked::Sync => Request::Sync {
                path: Some(self.layout.root.clone().into()),
            },
            Asked::Rearm => {
                let holds = self.layout.holds();
                let (child, data) = owned.armed.keys().cloned().partition(|path| *path == holds);
                Request::Read(ReadRequest::SetWatches(Box::new(WatchPaths {
                    relative_zxid: owned.session.last_zxid,
                    data,
                    exist: Vec::new(),
                    child,
                    persistent: Vec::new(),
                    persistent_recursive: Vec::new(),
                })))
            }
            Asked::Close => Request::CloseSession,
        }
    }

    /// Waits for the replies to everything.
    fn receive_all(&mut self, ledger: &Mutex<Ledger>, control: &Control) -> Result<(), Stop> {
        while !self.pending.is_empty() {
            let client = self.client.as_mut().expect("connected");
            let received = client.receive();
            // What came before the reply, or before the end of the connection.
            while let Some(event) = self.client.as_mut().and_then(Client::pop_event) {
                let owned = self.owned.as_mut().expect("a session is used");
                lock(ledger).counts.events += 1;
                if owned.armed.remove(&event.path).is_none() {
                    return Err(Stop::Violation(format!(
                        "an event that no watch waits for: {event:?}"
                    )));
                }
            }
            let reply = received?;
            let pending = self.pending.pop_front().expect("not empty");
            self.note(
                control,
                format!("{:?} -> zxid {}, error {}", pending.asked, reply.zxid, reply.err),
            );
            self.check_reply(pending, &reply, ledger, control)?;
        }
        Ok(())
    }

    fn check_reply(
        &mut self,
        pending: Pending,
        reply: &Reply,
        ledger: &Mutex<Ledger>,
        control: &Control,
    ) -> Result<(), Stop> {
        let error = match reply.err {
            0 => None,
            code => Some(ErrorCode::from_code(code).ok_or_else(|| format!("error {code}"))?),
        };
        if let Some(ErrorCode::SessionExpired | ErrorCode::SessionMoved) = error {
            // The server has heard that the session is not its own any more; this request did not happen.
            self.pending.push_front(pending);
            return Err(Stop::Connection(ClientError::Closed));
        }
        let owned = self.owned.as_mut().expect("a session is used");
        if reply.zxid < owned.seen {
            let (seen, zxid) = (owned.seen, reply.zxid);
            return Err(format!("the session was shown zxid {seen}, and now {zxid}").into());
        }
        owned.seen = reply.zxid;
        owned.touched = pending.sent;
        let mut decoder = Decoder::new(&reply.body);
        let mut ledger = lock(ledger);
        match (&pending.asked, error) {
            (Asked::Set { token, version, .. }, Some(ErrorCode::BadVersion)) if *version != VERSION_ANY => {
                ledger.note_refused(*token)?;
            }
            (asked, Some(error)) => return Err(format!("{asked:?} was refused: {error}").into()),
            (
                Asked::Set {
                    register,
                    token,
                    version,
                },
                None,
            ) => {
                let stat = changed(&reply.outcome()?)?;
                if *version != VERSION_ANY && stat.version != version + 1 {
                    return Err(format!("{:?} gave {stat:?}", pending.asked).into());
                }
                ledger.note_register_written(*register, stat.version, *token, stat.mzxid, pending.floor)?;
                for path in self.layout.register(*register) {
                    owned.check_watch(&path, stat.mzxid)?;
                }
            }
            (Asked::SetPair { register, token }, None) => {
                let stats = match reply.outcome()? {
                    Outcome::Multi(results) => {
                        results.iter().map(changed_part).collect::<Result<Vec<_>, _>>()?
                    }
                    other => return Err(format!("{other:?} for a multi").into()),
                };
                let paths = self.layout.register(*register);
                let [first, second] = stats[..] else {
                    return Err(format!("{stats:?} for a multi of two parts").into());
                };
                if (first.version, first.mzxid) != (second.version, second.mzxid) {
                    return Err(format!("{paths:?} were changed together, but became {stats:?}").into());
                }
                ledger.note_register_written(*register, first.version, *token, first.mzxid, pending.floor)?;
                for path in paths {
                    owned.check_watch(&path, first.mzxid)?;
                }
            }
            (
                Asked::Get {
                    register,
                    path,
                    watch,
                    floor,
                },
                None,
            ) => {
                let (data, stat) = decode_data_and_stat(&mut decoder)?;
                let data = data.unwrap_or_default();
                let token =
                    token_of(data).ok_or_else(|| format!("no write made the data of {path}: {data:02x?}"))?;
                ledger.counts.reads += 1;
                ledger.note_seen(*register, stat.version, token, stat.mzxid, reply.zxid)?;
                owned.check_watch(path, stat.mzxid)?;
                if *watch {
                    owned.armed.insert(path.clone(), stat.mzxid);
                }
                if let Some(floor) = floor {
                    ledger.counts.synced_reads += 1;
                    let may_lag = control.sync_may_lag || control.is_split.load(Ordering::SeqCst);
                    if stat.mzxid < *floor && may_lag {
                        ledger.counts.stale_synced_reads += 1;
                    } else if stat.mzxid < *floor {
                        return Err(format!(
                            "after a sync {path} is of zxid {}, but {floor} was acknowledged before the sync",
                            stat.mzxid
                        )
                        .into());
                    }
                }
            }
            (Asked::Enqueue { index }, None) => {
                let queued = &mut self.queued[*index];
                let (path, stat) = created(reply.outcome()?)?;
                let name = path.rsplit('/').next().unwrap_or_default();
                let (_, number) = queue_name(name)
                    .filter(|(token, _)| *token == queued.token)
                    .ok_or_else(|| format!("{:?} made {path}", pending.asked))?;
                queued.acknowledged = Some((number, stat.czxid));
                ledger.note_acknowledged(queued.token, stat.czxid, pending.floor)?;
            }
            (Asked::Hold { index }, None) => {
                let hold = &mut owned.holds[*index];
                let (path, stat) = created(reply.outcome()?)?;
                if path != hold.path || stat.ephemeral_owner != owned.session.id {
                    return Err(format!("{hold:?} became {path} with {stat:?}").into());
                }
                hold.created = Some(stat.czxid);
                ledger.note_acknowledged(hold.token, stat.czxid, pending.floor)?;
                owned.check_watch(&self.layout.holds(), stat.czxid)?;
            }
            (Asked::Release { index }, None) => {
                owned.holds[*index].released = true;
                ledger.counts.writes += 1;
                if reply.zxid <= pending.floor {
                    let (zxid, floor) = (reply.zxid, pending.floor);
                    return Err(format!("a deletion has zxid {zxid}, but {floor} was before it").into());
                }
                ledger.acknowledged = ledger.acknowledged.max(reply.zxid);
                owned.check_watch(&self.layout.holds(), reply.zxid)?;
            }
            (Asked::Look { index }, None) => {
                let stat = decode_stat(&mut decoder)?;
                let hold = &owned.holds[*index];
                if Some(stat.czxid) != hold.created || stat.ephemeral_owner != owned.session.id {
                    return Err(format!("{hold:?} has {stat:?}").into());
                }
            }
            (Asked::Children { watch }, None) => {
                let names = decode_names(&mut decoder)?;
                let stat = decode_stat(&mut decoder)?;
                ledger.counts.reads += 1;
                let path = self.layout.holds();
                owned.check_watch(&path, stat.pzxid)?;
                owned.check_children(&names)?;
                for name in &names {
                    let owner = hold_owner(name).ok_or_else(|| format!("nobody made {path}/{name}"))?;
                    if let Some(closed) = ledger.closed.get(&owner).filter(|closed| **closed <= reply.zxid) {
                        return Err(format!(
                            "{path}/{name} is there at {}, but its session was closed at {closed}",
                            reply.zxid
                        )
                        .into());
                    }
                }
                if *watch {
                    owned.armed.insert(path, stat.pzxid);
                }
            }
            (Asked::Sync | Asked::Rearm, None) => {}
            (Asked::Close, None) => {
                let owned = self.owned.take().expect("a session is used");
                ledger.closed.insert(owned.session.id, reply.zxid);
                ledger.counts.closed += 1;
                self.former.push((owned, End::Gone));
                self.client = None;
            }
        }
        Ok(())
    }

    /// When all servers serve again: connects, and looks at all that was watched and held. A session with a long
    /// timeout is kept and must have all of its ephemerals; another one might expire before they are counted.
    pub(super) fn finish(&mut self, ledger: &Mutex<Ledger>, control: &Control) -> Result<(), String> {
        self.insist(ledger, control, Worker::try_to_finish)
    }

    /// Keeps the session alive, if there is one.
    pub(super) fn keep_alive(&mut self, ledger: &Mutex<Ledger>, control: &Control) -> Result<(), String> {
        self.insist(ledger, control, |worker, ledger, control| {
            if worker.is_connected(ledger, control)? {
                worker.send(Asked::Sync, ledger);
                worker.receive_all(ledger, control)?;
            }
            Ok(())
        })
    }

    /// Ends the session, if there is one.
    pub(super) fn close(&mut self, ledger: &Mutex<Ledger>, control: &Control) -> Result<(), String> {
        self.insist(ledger, control, |worker, ledger, control| {
            if worker.is_connected(ledger, control)? {
                worker.send(Asked::Close, ledger);
                worker.receive_all(ledger, control)?;
            }
            Ok(())
        })
    }

    /// Does something when all servers serve, again while connections are lost: on a busy machine servers may
    /// still give one another up.
    fn insist(
        &mut self,
        ledger: &Mutex<Ledger>,
        control: &Control,
        mut act: impl FnMut(&mut Worker, &Mutex<Ledger>, &Control) -> Result<(), Stop>,
    ) -> Result<(), String> {
        let deadline = Instant::now() + WHOLE_WITHIN;
        loop {
            match act(self, ledger, control) {
                Ok(()) => return Ok(()),
                Err(Stop::Violation(text)) => return Err(text),
                Err(Stop::Connection(error)) => {
                    self.disconnect(ledger, control, &error.to_string());
                    if Instant::now() > deadline {
                        return Err(format!(
                            "all servers serve, but for {WHOLE_WITHIN:?} none answered this client: {error}"
                        ));
                    }
                    sleep(Duration::from_millis(50));
                }
            }
        }
    }

    /// Connects when there is a session without a connection. False when there is no session (any more).
    fn is_connected(&mut self, ledger: &Mutex<Ledger>, control: &Control) -> Result<bool, Stop> {
        if self.owned.is_some() && self.client.is_none() {
            let server = self.rng.usize(0..control.servers.len());
            if !self.connect(server, ledger, control)? && self.owned.is_some() {
                return Err(Stop::Connection(ClientError::Closed));
            }
        }
        Ok(self.owned.is_some())
    }

    fn try_to_finish(&mut self, ledger: &Mutex<Ledger>, control: &Control) -> Result<(), Stop> {
        if !self.is_connected(ledger, control)? {
            return Ok(());
        }
        self.send(Asked::Sync, ledger);
        for register in 0..SINGLES + PAIRS {
            let floor = Some(lock(ledger).registers[register].acknowledged);
            for path in self.layout.register(register) {
                let watch = false;
                self.send(
                    Asked::Get {
                        register,
                        path,
                        watch,
                        floor,
                    },
                    ledger,
                );
            }
        }
        self.send(Asked::Children { watch: false }, ledger);
        if self.has_short_timeout() {
            self.send(Asked::Close, ledger);
        }
        self.receive_all(ledger, control)
    }
}

impl Asked {
    fn is_write(&self) -> bool {
        match self {
            Asked::Set { .. } | Asked::SetPair { .. } | Asked::Enqueue { .. } => true,
            Asked::Hold { .. } | Asked::Release { .. } | Asked::Close => true,
            Asked::Get { .. } | Asked::Look { .. } | Asked::Children { .. } => false,
            Asked::Sync | Asked::Rearm => false,
        }
    }
}

impl Owned {
    /// A reply shows that a znode last changed with `zxid`: a watch left before that must have fired first.
    fn check_watch(&self, path: &str, zxid: Zxid) -> Result<(), String> {
        match self.armed.get(path) {
            Some(armed) if *armed < zxid => Err(format!(
                "{path} changed with zxid {zxid}, and the watch left at {armed} has not fired before"
            )),
            _ => Ok(()),
        }
    }

    /// The children of the parent of ephemerals: all of the session's own must be among them, and none that
    /// was deleted.
    fn check_children(&self, names: &[String]) -> Result<(), String> {
        for hold in &self.holds {
            let name = hold.path.rsplit('/').next().unwrap_or_default();
            let is_there = names.iter().any(|other| other == name);
            if hold.created.is_some() && !hold.releasing && !is_there {
                return Err(format!(
                    "the session lives, but its ephemeral is not there: {hold:?}"
                ));
            }
            if hold.released && is_there {
                return Err(format!("it was deleted, but is there: {hold:?}"));
            }
        }
        Ok(())
    }
}

/// The session whose ephemeral has this name.
pub(super) fn hold_owner(name: &str) -> Option<SessionId> {
    let (session, _) = name.split_once('-')?;
    // An id is shown as the 64 bits it has, whatever its sign.
    u64::from_str_radix(session, 16)
        .ok()
        .map(|id| SessionId(id.cast_signed()))
}

/// The token and the number in the name of a sequential znode.
pub(super) fn queue_name(name: &str) -> Option<(Token, u32)> {
    let (token, number) = name.split_once('-')?;
    let digits = (number.len() == 10).then_some(number)?;
    Some((Token::from_str_radix(token, 16).ok()?, digits.parse().ok()?))
}

fn changed(outcome: &Outcome) -> Result<Stat, String> {
    match outcome {
        Outcome::Changed(stat) => Ok(*stat),
        other => Err(format!("{other:?} for a setData")),
    }
}

fn changed_part(result: &OpResult) -> Result<Stat, String> {
    match result {
        OpResult::Ok { outcome, .. } => changed(outcome),
        OpResult::Error(code) => Err(format!("a part of a multi failed with {code}")),
    }
}

fn created(outcome: Outcome) -> Result<(String, Stat), String> {
    match outcome {
        Outcome::Created {
            path,
            stat: Some(stat),
        } => Ok((path, stat)),
        other => Err(format!("{other:?} for a create2")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_who_made_them() {
        assert_eq!(queue_name("1000000002f-0000000012"), Some((0x100_0000_002f, 12)));
        assert_eq!(queue_name("1f-12"), None);
        assert_eq!(hold_owner("ffffffffffffffff-1"), Some(SessionId(-1)));
        assert_eq!(hold_owner("q"), None);
    }
}
