//! How long the consensus itself takes for a proposal, without any network or disk:
//! `cargo run -p oxkeeper-zab --release --example proposals`.

#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use oxkeeper_types::{ServerId, Zxid};
use oxkeeper_zab::{
    Action, Event, LinkId, Message, Notification, PeerState, QuorumVerifier, Recovered, Settings, Vote,
    WriteId, Zab,
};

const ROUNDS: u32 = 20_000;

/// A server and the number of its last write.
struct Server {
    zab: Zab,
    last_write: u64,
    /// How much it wanted done, so that nothing is optimised away.
    actions: u64,
}

impl Server {
    fn start(me: i64, voters: i64) -> Server {
        let quorum = QuorumVerifier::majority((1..=voters).map(ServerId), []);
        let recovered = Recovered {
            accepted_epoch: 0,
            current_epoch: 0,
            window_start: Zxid::ZERO,
            window: Vec::new(),
        };
        let zab = Zab::new(Settings::new(ServerId(me), quorum), recovered, 0);
        Server {
            zab,
            last_write: 0,
            actions: 0,
        }
    }

    fn tell(&mut self, event: Event) {
        self.zab.handle(event, 0);
        while let Some(action) = self.zab.poll_action() {
            self.actions += 1;
            if let Action::Write { id, .. } = black_box(action) {
                self.last_write = id.0;
            }
        }
    }

    fn hear(&mut self, link: u64, message: Message) {
        let link = LinkId(link);
        self.tell(Event::Received { link, message });
    }

    fn make_durable(&mut self) {
        let write = WriteId(self.last_write);
        self.tell(Event::Durable { write });
    }

    fn notify(&mut self, from: i64, leader: i64, state: PeerState) {
        let vote = Vote {
            leader: ServerId(leader),
            zxid: Zxid::ZERO,
            peer_epoch: 0,
        };
        let notification = Notification {
            state,
            vote,
            election_epoch: 1,
            version: 2,
        };
        let from = ServerId(from);
        self.tell(Event::Notification { from, notification });
    }

    fn leading(voters: i64) -> Server {
        let mut server = Server::start(voters, voters);
        for from in 1..voters {
            server.notify(from, voters, PeerState::Looking);
        }
        for learner in 1..voters {
            let link = LinkId(learner.unsigned_abs());
            server.tell(Event::LearnerConnected { link });
            let info = Message::LearnerInfo {
                server: ServerId(learner),
                observer: false,
                accepted_epoch: 0,
                config_version: 0,
            };
            server.hear(link.0, info);
        }
        server.make_durable();
        for learner in 1..voters {
            let promise = Message::AckEpoch {
                last_zxid: Zxid::ZERO,
                current_epoch: Some(0),
            };
            server.hear(learner.unsigned_abs(), promise);
        }
        server.make_durable();
        for learner in 1..voters {
            server.hear(learner.unsigned_abs(), Message::Ack(Zxid::new(1, 0)));
        }
        assert!(server.zab.next_zxid().is_some(), "it leads");
        server
    }

    fn following() -> Server {
        let mut server = Server::start(1, 3);
        server.notify(2, 3, PeerState::Following);
        server.notify(3, 3, PeerState::Leading);
        let incarnation = oxkeeper_zab::Incarnation(2);
        let link = LinkId(1);
        server.tell(Event::LeaderConnected { incarnation, link });
        server.hear(1, Message::LeaderInfo { epoch: 1 });
        server.make_durable();
        server.hear(1, Message::Diff(Zxid::ZERO));
        server.hear(
            1,
            Message::NewLeader {
                epoch: 1,
                configuration: None,
            },
        );
        server.make_durable();
        server.hear(1, Message::UpToDate);
        assert_eq!(server.zab.peer_state(), "following - broadcast");
        server
    }
}

/// Proposed, durable, acknowledged by all and committed, `group` at a time.
fn lead(voters: i64, group: u32, txn: &Arc<[u8]>) -> f64 {
    let mut server = Server::leading(voters);
    let rounds = ROUNDS / group;
    let started = Instant::now();
    for _ in 0..rounds {
        let mut zxids = Vec::with_capacity(group as usize);
        for _ in 0..group {
            let zxid = server.zab.next_zxid().expect("it leads");
            let txn = txn.clone();
            server.tell(Event::Propose { zxid, txn });
            zxids.push(zxid);
        }
        server.make_durable();
        for learner in 1..voters {
            for zxid in &zxids {
                server.hear(learner.unsigned_abs(), Message::Ack(*zxid));
            }
        }
    }
    let took = started.elapsed();
    assert!(server.actions > u64::from(rounds * group) * 4, "commits");
    took.as_secs_f64() * 1e9 / f64::from(rounds * group)
}

/// Received, durable, acknowledged, committed and delivered, `group` at a time.
fn follow(group: u32, txn: &Arc<[u8]>) -> f64 {
    let mut server = Server::following();
    let rounds = ROUNDS / group;
    let mut next = Zxid::new(1, 1);
    let started = Instant::now();
    for _ in 0..rounds {
        let first = next;
        for _ in 0..group {
            let txn = txn.clone();
            let entry = oxkeeper_zab::Entry { zxid: next, txn };
            server.hear(1, Message::Proposal(entry));
            next = next.next();
        }
        server.make_durable();
        let mut zxid = first;
        while zxid < next {
            server.hear(1, Message::Commit(zxid));
            zxid = zxid.next();
        }
    }
    let took = started.elapsed();
    assert!(server.actions > u64::from(rounds * group) * 3, "deliveries");
    took.as_secs_f64() * 1e9 / f64::from(rounds * group)
}

fn main() {
    let txn: Arc<[u8]> = vec![7; 200].into();
    let best = |run: &dyn Fn() -> f64| (0..20).map(|_| run()).fold(f64::INFINITY, f64::min);
    for group in [1, 16, 400] {
        for voters in [3, 5, 7] {
            let ns = best(&|| lead(voters, group, &txn));
            println!("leader of {voters}, {group:>3} in flight: {ns:>6.0} ns per proposal");
        }
        let ns = best(&|| follow(group, &txn));
        println!("follower,    {group:>3} in flight: {ns:>6.0} ns per proposal");
    }
}
