//! Links of the quorum port over loopback: the test stands in for the core threads of a leader and a learner.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use oxkeeper_core::{CoreSettings, Event, Shared, empty_snapshot, recover};
use oxkeeper_storage::{RealDisk, Storage, StorageSettings};
use oxkeeper_tree::TreeSettings;
use oxkeeper_types::{Acl, CreateTxn, Permissions, ServerId, SessionId, Txn, TxnHeader, ZnodeKind, Zxid};
use oxkeeper_zab::{Entry, Event as ZabEvent, Incarnation, LinkId, Message, QuorumVerifier};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::channels::{CoreHandle, CoreMessage, DiskJob, DiskQueue, DiskQueueFill, LinkMessage};
use crate::config::{EnsembleConfig, Groups, Member, PeerAddress};
use crate::peer_link::OUTBOX_BYTES_MAX;

const PATIENCE: Duration = Duration::from_secs(20);
const PACKET_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One server without a core.
struct Side {
    links: LearnerLinks,
    messages: Receiver<CoreMessage>,
    disk: Arc<DiskQueueFill>,
    shared: Arc<Shared>,
    storage: Storage,
    _dir: TempDir,
}

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Servers 1 and 2 with free ports.
fn config(me: i64) -> Arc<EnsembleConfig> {
    use std::sync::OnceLock;
    thread_local!(static PORTS: OnceLock<[u16; 2]> = const { OnceLock::new() });
    let ports = PORTS.with(|ports| *ports.get_or_init(|| [free_port(), free_port()]));
    let servers: BTreeMap<ServerId, Member> = (1..)
        .zip(ports)
        .map(|(id, quorum_port)| {
            let address = PeerAddress {
                host: "127.0.0.1".to_owned(),
                quorum_port,
                election_port: 1,
            };
            let member = Member {
                is_observer: false,
                addresses: vec![address],
                client: None,
            };
            (ServerId(id), member)
        })
        .collect();
    let quorum = QuorumVerifier::majority(servers.keys().copied(), []);
    Arc::new(EnsembleConfig::new(
        ServerId(me),
        servers,
        quorum,
        &Groups::default(),
        0,
    ))
}

fn free_port() -> u16 {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A server whose tree has `znodes` znodes of 1000 bytes.
fn side(me: i64, znodes: i64, runtime: &Runtime) -> Side {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(
        Arc::new(RealDisk::new(dir.path())),
        None,
        StorageSettings::default(),
    )
    .unwrap();
    let settings = TreeSettings::default();
    let mut replica = recover(&storage, &settings, 0).unwrap().replica;
    for zxid in 1..=znodes {
        let header = TxnHeader {
            session: SessionId(1),
            cxid: 1,
            zxid: Zxid(zxid),
            time: 1,
        };
        let txn = Txn::Create(CreateTxn {
            path: format!("/znode-{zxid}"),
            data: Some([7; 1000].as_slice().into()),
            acl: vec![Acl::world(Permissions::ALL)],
            kind: ZnodeKind::Persistent,
            parent_cversion: -1,
            with_stat: false,
        });
        replica.tree.replay(&header, txn);
        replica.last_processed = Zxid(zxid);
    }
    let shared = Arc::new(Shared::new(replica, CoreSettings::default()));
    let (sender, messages) = channel();
    let disk = Arc::new(DiskQueueFill::default());
    let context = LinkContext {
        core: CoreHandle::new(sender),
        disk: disk.clone(),
        shared: shared.clone(),
        storage: storage.clone(),
        packet_bytes_max: PACKET_BYTES_MAX,
    };
    Side {
        links: LearnerLinks::new(config(me), context, runtime.handle().clone()),
        messages,
        disk,
        shared,
        storage,
        _dir: dir,
    }
}

impl Side {
    fn next(&self) -> CoreMessage {
        self.messages.recv_timeout(PATIENCE).expect("something happens")
    }

    /// The next thing is a new link, or that there is none; links that end meanwhile are forgotten.
    fn opened(&mut self) -> ZabEvent {
        loop {
            match self.next() {
                CoreMessage::Link(LinkMessage::Opened(link, Event::Ensemble(event))) => {
                    self.links.opened(link);
                    return event;
                }
                CoreMessage::Event(Event::Ensemble(event)) => return event,
                CoreMessage::Link(LinkMessage::Closed(link)) => {
                    let _closed_from_here = self.links.closed(link);
                }
                _ => panic!("no new link"),
            }
        }
    }

    /// The packets that come before anything else, at least `count`.
    fn received(&self, count: usize) -> Vec<Message> {
        let mut received = Vec::new();
        while received.len() < count {
            match self.next() {
                CoreMessage::Received(events, _place) => received.extend(events.into_iter().map(message)),
                _ => panic!("no packet, after {}", received.len()),
            }
        }
        received
    }

    /// Waits for the end of the link; whether it was not closed from here before.
    fn closed(&mut self, link: LinkId) -> bool {
        loop {
            if let CoreMessage::Link(LinkMessage::Closed(closed)) = self.next() {
                assert_eq!(closed, link);
                return self.links.closed(link);
            }
        }
    }
}

fn message(event: Event) -> Message {
    match event {
        Event::Ensemble(ZabEvent::Received { message, .. }) => message,
        other => panic!("{other:?} is no packet"),
    }
}

/// A leader, a learner, and the link between them as each of them calls it.
struct Pair {
    leader: Side,
    learner: Side,
    down: LinkId,
    up: LinkId,
    _runtime: Runtime,
}

fn pair(znodes: i64) -> Pair {
    let runtime = runtime();
    let (mut leader, mut learner) = (side(1, znodes, &runtime), side(2, 0, &runtime));
    leader.links.accept_learners(true);
    let up = connect(&mut learner);
    let ZabEvent::LearnerConnected { link: down } = leader.opened() else {
        panic!("another event")
    };
    Pair {
        leader,
        learner,
        down,
        up,
        _runtime: runtime,
    }
}

/// Dials server 1 until it answers.
fn connect(learner: &mut Side) -> LinkId {
    let until = Instant::now() + PATIENCE;
    loop {
        learner.links.connect_to_leader(ServerId(1), Incarnation(3));
        match learner.opened() {
            ZabEvent::LeaderConnected { incarnation, link } => {
                assert_eq!(incarnation, Incarnation(3));
                return link;
            }
            ZabEvent::LeaderUnreachable { .. } => assert!(Instant::now() < until, "nobody listens"),
            other => panic!("{other:?}"),
        }
    }
}

/// A proposal with the begin of a txn's header and `bytes` of anything.
fn proposal(zxid: i64, bytes: usize) -> Message {
    let mut txn = [&[0; 12], &zxid.to_be_bytes()[..]].concat();
    txn.resize(20 + bytes, u8::try_from(zxid % 251).unwrap());
    Message::Proposal(Entry {
        zxid: Zxid(zxid),
        txn: txn.into(),
    })
}

#[test]
fn packets_arrive_in_order_in_both_directions() {
    let mut pair = pair(0);
    let (mut down, mut up) = (Vec::new(), Vec::new());
    for round in 0..40 {
        for n in 0..100 {
            let zxid = round * 100 + n + 1;
            // Now and then more than a socket takes at once.
            let bytes = if n == 50 { 3_000_000 } else { 10 };
            down.push(proposal(zxid, bytes));
            up.push(Message::Ack(Zxid(zxid)));
            pair.leader.links.send(pair.down, down.last().unwrap());
            pair.learner.links.send(pair.up, up.last().unwrap());
        }
        pair.leader.links.flush();
        pair.learner.links.flush();
        let done = down.len() - usize::try_from(round % 5).unwrap() * 20;
        if round % 5 == 4 {
            // The learner reads on while much waits for it.
            let received = pair.learner.received(done.min(down.len()));
            assert!(received[..] == down[..received.len()], "round {round}");
            down.drain(..received.len());
        }
    }
    let received = pair.learner.received(down.len());
    assert!(received == down, "{} packets", down.len());
    assert!(pair.leader.received(up.len()) == up, "{} packets", up.len());
}

#[test]
fn what_was_sent_before_the_close_still_arrives_and_the_close_is_told_to_the_other_side_alone() {
    let mut pair = pair(0);
    pair.leader.links.send(pair.down, &proposal(1, 3_000_000));
    pair.leader.links.send(pair.down, &Message::Commit(Zxid(1)));
    pair.leader.links.close(pair.down);
    assert_eq!(
        pair.learner.received(2),
        [proposal(1, 3_000_000), Message::Commit(Zxid(1))]
    );
    assert!(pair.learner.closed(pair.up), "the learner is told");
    assert!(!pair.leader.closed(pair.down), "the leader has closed it itself");
}

#[test]
fn a_leader_listens_only_while_it_accepts_learners() {
    let runtime = runtime();
    let (mut leader, mut learner) = (side(1, 0, &runtime), side(2, 0, &runtime));
    let unreachable = |learner: &mut Side| {
        learner.links.connect_to_leader(ServerId(1), Incarnation(3));
        matches!(
            learner.opened(),
            ZabEvent::LeaderUnreachable {
                incarnation: Incarnation(3)
            }
        )
    };
    assert!(unreachable(&mut learner), "nobody listens yet");
    for _ in 0..3 {
        leader.links.accept_learners(true);
        connect(&mut learner);
        leader.links.accept_learners(false);
        let until = Instant::now() + PATIENCE;
        while !unreachable(&mut learner) {
            assert!(Instant::now() < until, "somebody still listens");
        }
    }
}

#[test]
fn a_learner_that_does_not_read_loses_its_link_when_too_much_waits_for_it() {
    let runtime = runtime();
    let mut leader = side(1, 0, &runtime);
    leader.links.accept_learners(true);
    let port = config(1).servers[&ServerId(1)].addresses[0].quorum_port;
    let until = Instant::now() + PATIENCE;
    let silent = loop {
        match std::net::TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
    };
    let ZabEvent::LearnerConnected { link } = leader.opened() else {
        panic!("another event")
    };
    // The history that it lacks may be longer than the limit.
    for zxid in 1..=20 {
        leader.links.send(link, &proposal(zxid, 4_000_000));
    }
    leader.links.flush();
    leader.links.send(link, &proposal(21, 1_000_000));
    leader.links.flush();
    std::thread::sleep(Duration::from_millis(50));
    assert!(leader.messages.try_recv().is_err(), "the link is as it was");
    for zxid in 22..=22 + i64::try_from(OUTBOX_BYTES_MAX / 4_000_000).unwrap() {
        leader.links.send(link, &proposal(zxid, 4_000_000));
        leader.links.flush();
    }
    assert!(leader.closed(link));
    drop(silent);
}

#[test]
fn packets_are_left_in_the_socket_while_too_much_waits_for_the_disk() {
    let mut pair = pair(0);
    let (sender, jobs) = channel();
    let queue = DiskQueue::new(sender, pair.learner.disk.clone());
    let txn = |bytes: usize| DiskJob::Append {
        zxid: Zxid(1),
        entry: vec![0; bytes],
    };
    queue.send(vec![txn(64 * 1024 * 1024)]);
    pair.leader.links.send(pair.down, &proposal(1, 10));
    pair.leader.links.flush();
    let silence = Duration::from_millis(100);
    assert!(
        pair.learner.messages.recv_timeout(silence).is_err(),
        "a packet was taken"
    );
    queue.send(vec![txn(10)]);
    for _ in 0..2 {
        pair.learner.disk.done(DiskJob::cost(&jobs.recv().unwrap()));
    }
    assert_eq!(pair.learner.received(1), [proposal(1, 10)]);
}

#[test]
fn a_malformed_packet_ends_the_link() {
    use std::io::Write as _;
    let runtime = runtime();
    let mut leader = side(1, 0, &runtime);
    leader.links.accept_learners(true);
    let port = config(1).servers[&ServerId(1)].addresses[0].quorum_port;
    // A packet that only a leader sends, and one with more data than there may be.
    let claimed = u32::try_from(PACKET_BYTES_MAX + 1).unwrap().to_be_bytes();
    let snap = [&15_u32.to_be_bytes()[..], &[0; 8], &[0xff; 8]].concat();
    let too_long = [&1_u32.to_be_bytes()[..], &[0xff; 8], &claimed].concat();
    for bytes in [snap, too_long] {
        let until = Instant::now() + PATIENCE;
        let mut stranger = loop {
            match std::net::TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
        };
        let ZabEvent::LearnerConnected { link } = leader.opened() else {
            panic!("another event")
        };
        stranger.write_all(&bytes).unwrap();
        assert!(leader.closed(link));
    }
}

#[test]
fn a_snapshot_arrives_whole_between_the_packets_before_and_after_it() {
    let mut pair = pair(5000);
    let links = &mut pair.leader.links;
    links.send(pair.down, &Message::Snap(Zxid(5000)));
    links.send_snapshot(pair.down);
    links.send(pair.down, &Message::Ping(Zxid(1)));
    links.flush();
    match pair.leader.next() {
        CoreMessage::Event(Event::Ensemble(ZabEvent::SnapshotSent { link })) => assert_eq!(link, pair.down),
        _ => panic!("the end of the walk was not told"),
    }
    pair.leader.links.send(
        pair.down,
        &Message::NewLeader {
            epoch: 1,
            configuration: None,
        },
    );
    pair.leader.links.flush();

    assert_eq!(pair.learner.received(1), [Message::Snap(Zxid(5000))]);
    let CoreMessage::Link(LinkMessage::Snapshot(link, snapshot)) = pair.learner.next() else {
        panic!("the snapshot comes before the packets after it")
    };
    assert_eq!(link, pair.up);
    assert!(pair.learner.links.keep_snapshot(link, snapshot));
    let after = [
        Message::Ping(Zxid(1)),
        Message::NewLeader {
            epoch: 1,
            configuration: None,
        },
    ];
    assert_eq!(pair.learner.received(2), after);
    let snapshot = pair.learner.links.take_snapshot(link).unwrap();
    let sent = pair.leader.shared.replica.read();
    assert_eq!(snapshot.replica.last_processed, Zxid(5000));
    assert_eq!(snapshot.replica.tree.digest(), sent.tree.digest());
    assert_eq!(snapshot.replica.tree.znode_count(), sent.tree.znode_count());
}

#[test]
fn a_snapshot_that_breaks_off_leaves_nothing() {
    let mut pair = pair(5000);
    pair.leader.links.send(pair.down, &Message::Snap(Zxid(5000)));
    pair.leader.links.send_snapshot(pair.down);
    pair.leader.links.flush();
    assert_eq!(pair.learner.received(1), [Message::Snap(Zxid(5000))]);
    pair.leader.links.close(pair.down);
    assert!(pair.learner.closed(pair.up));
    // A whole snapshot that is not wanted any more is removed, too.
    let unwanted = empty_snapshot(&pair.learner.storage, &TreeSettings::default()).unwrap();
    assert!(!pair.learner.links.keep_snapshot(pair.up, Box::new(unwanted)));
    let dir = pair.learner._dir.path().join("version-2");
    let until = Instant::now() + PATIENCE;
    while std::fs::read_dir(&dir).unwrap().count() > 0 {
        assert!(Instant::now() < until, "files are left in {}", dir.display());
        std::thread::yield_now();
    }
}

/// `localhost` is `::1` first on many machines, and a Java learner dials 127.0.0.1.
#[test]
fn of_a_name_with_addresses_of_both_families_the_one_of_ipv4_is_listened_on() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let found = ["[::1]:0", "127.0.0.1:0"].map(|address| address.parse().unwrap());
    let listener = bind_first(found.to_vec()).unwrap();
    assert!(listener.local_addr().unwrap().is_ipv4());
}
