//! One server whose peers, disk and clock are played by a test.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::sync::Arc;

use oxkeeper_types::{ServerId, Zxid};
use oxkeeper_zab::{
    Action, CloseReason, Entry, Event, Incarnation, LinkId, Message, NOTIFICATION_VERSION, Notification,
    PeerState, PlantedBug, QuorumVerifier, Reason, Recovered, Settings, Vote, Write, WriteId, Zab,
};

/// The link to the leader, or of the first learner.
pub(crate) const LINK: LinkId = LinkId(1);

/// One server, of 1, 2 and 3, and all that is told to it and heard from it.
pub(crate) struct Server {
    pub(crate) zab: Zab,
    pub(crate) last_write: u64,
    pub(crate) now_ms: u64,
    links: u64,
}

pub(crate) fn z(epoch: u32, counter: u32) -> Zxid {
    Zxid::new(epoch, counter)
}

pub(crate) fn entry(zxid: Zxid) -> Entry {
    Entry {
        zxid,
        txn: Arc::from(zxid.0.to_be_bytes()),
    }
}

pub(crate) fn recovered(epoch: u32, history: &[Zxid], window_start: Zxid) -> Recovered {
    Recovered {
        accepted_epoch: epoch,
        current_epoch: epoch,
        window_start,
        window: history.iter().copied().map(entry).collect(),
    }
}

pub(crate) fn settled(state: PeerState, leader: i64) -> Notification {
    let vote = Vote {
        leader: ServerId(leader),
        zxid: Zxid::ZERO,
        peer_epoch: 1,
    };
    Notification {
        state,
        vote,
        election_epoch: 77,
        version: NOTIFICATION_VERSION,
    }
}

/// Those of one of 1, 2 and 3, with the observer 4.
pub(crate) fn settings(me: i64, planted: &[PlantedBug]) -> Settings {
    let quorum = QuorumVerifier::majority([1, 2, 3].map(ServerId), [ServerId(4)]);
    let mut settings = Settings::new(ServerId(me), quorum);
    settings.planted = planted.to_vec();
    settings
}

impl Server {
    pub(crate) fn start(me: i64, recovered: Recovered, planted: &[PlantedBug]) -> Server {
        Server::start_with(settings(me, planted), recovered)
    }

    pub(crate) fn start_with(settings: Settings, recovered: Recovered) -> Server {
        let mut server = Server {
            zab: Zab::new(settings, recovered, 0),
            now_ms: 0,
            last_write: 0,
            links: 0,
        };
        server.actions();
        server
    }

    pub(crate) fn actions(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(action) = self.zab.poll_action() {
            if let Action::Write { id, .. } = &action {
                self.last_write = id.0;
            }
            actions.push(action);
        }
        actions
    }

    pub(crate) fn tell(&mut self, event: Event) -> Vec<Action> {
        self.zab.handle(event, self.now_ms);
        self.actions()
    }

    pub(crate) fn hear(&mut self, link: LinkId, message: Message) -> Vec<Action> {
        self.tell(Event::Received { link, message })
    }

    /// All writes so far become durable, and those that follow from it.
    pub(crate) fn settle_disk(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut durable = 0;
        while durable < self.last_write {
            durable = self.last_write;
            actions.extend(self.tell(Event::Durable {
                write: WriteId(durable),
            }));
        }
        actions
    }

    /// Finds 3 leading, with 2 following it, and is linked to it.
    pub(crate) fn find_leader(&mut self) -> LinkId {
        let incarnation = self.elect_3();
        self.connect(incarnation)
    }

    /// Finds 3 leading, with 2 following it.
    pub(crate) fn elect_3(&mut self) -> Incarnation {
        self.tell(Event::Notification {
            from: ServerId(2),
            notification: settled(PeerState::Following, 3),
        });
        let found = self.tell(Event::Notification {
            from: ServerId(3),
            notification: settled(PeerState::Leading, 3),
        });
        let incarnation = found.iter().find_map(|action| match action {
            Action::ConnectToLeader { incarnation, .. } => Some(*incarnation),
            _ => None,
        });
        incarnation.expect("it dials the leader")
    }

    /// It closed its link to the leader to open another.
    pub(crate) fn dial_again(&mut self, actions: &[Action]) -> LinkId {
        let [
            Action::CloseLink(LINK, CloseReason::AsksForSnapshot),
            Action::ConnectToLeader {
                leader: ServerId(3),
                incarnation,
            },
        ] = actions
        else {
            panic!("{actions:?}");
        };
        self.connect(*incarnation)
    }

    pub(crate) fn connect(&mut self, incarnation: Incarnation) -> LinkId {
        self.links += 1;
        let link = LinkId(self.links);
        self.tell(Event::LeaderConnected { incarnation, link });
        link
    }

    /// A follower that has promised `epoch` and awaits its history.
    pub(crate) fn follower(recovered: Recovered, epoch: u32, planted: &[PlantedBug]) -> Server {
        Server::follower_with(settings(1, planted), recovered, epoch)
    }

    pub(crate) fn follower_with(settings: Settings, recovered: Recovered, epoch: u32) -> Server {
        let mut server = Server::start_with(settings, recovered);
        assert_eq!(server.find_leader(), LINK);
        server.hear(LINK, Message::LeaderInfo { epoch });
        server.settle_disk();
        server
    }

    /// A follower in broadcast.
    pub(crate) fn serving_follower(recovered: Recovered, epoch: u32, planted: &[PlantedBug]) -> Server {
        let mut server = Server::follower(recovered, epoch, planted);
        for message in [
            Message::Diff(Zxid::ZERO),
            Message::NewLeader {
                epoch,
                configuration: None,
            },
        ] {
            server.hear(LINK, message);
        }
        server.settle_disk();
        server.hear(LINK, Message::UpToDate);
        server
    }

    /// 3, elected by all.
    pub(crate) fn elected(recovered: Recovered, planted: &[PlantedBug]) -> Server {
        Server::elected_with(settings(3, planted), recovered)
    }

    pub(crate) fn elected_with(settings: Settings, recovered: Recovered) -> Server {
        let mut server = Server::start_with(settings, recovered);
        server.vote_for_3(1);
        assert_eq!(server.zab.state(), PeerState::Leading);
        server
    }

    fn vote_for_3(&mut self, election_epoch: i64) {
        let zxid = self.zab.last_zxid();
        let vote = Vote {
            leader: ServerId(3),
            zxid,
            peer_epoch: i64::from(self.zab.current_epoch()),
        };
        for from in [1, 2] {
            let notification = Notification {
                state: PeerState::Looking,
                vote,
                election_epoch,
                version: NOTIFICATION_VERSION,
            };
            self.tell(Event::Notification {
                from: ServerId(from),
                notification,
            });
        }
    }

    fn info(&mut self, id: i64, observer: bool, accepted_epoch: u32) -> (LinkId, Vec<Action>) {
        self.links += 1;
        let link = LinkId(self.links);
        self.tell(Event::LearnerConnected { link });
        let info = Message::LearnerInfo {
            server: ServerId(id),
            observer,
            accepted_epoch,
            config_version: 0,
        };
        (link, self.hear(link, info))
    }

    /// A follower comes and tells who it is.
    pub(crate) fn learner(&mut self, id: i64, accepted_epoch: u32) -> LinkId {
        self.info(id, false, accepted_epoch).0
    }

    /// The same, with what the leader does.
    pub(crate) fn late_learner(&mut self, id: i64, accepted_epoch: u32) -> Vec<Action> {
        self.info(id, false, accepted_epoch).1
    }

    pub(crate) fn observer(&mut self, id: i64, accepted_epoch: u32) -> LinkId {
        self.info(id, true, accepted_epoch).0
    }

    /// All vote for 3 again, and 1 comes.
    pub(crate) fn elect_again(&mut self) -> LinkId {
        self.settle_disk();
        self.vote_for_3(2);
        assert_eq!(self.zab.state(), PeerState::Leading);
        self.learner(1, 5)
    }

    /// The only server of its ensemble.
    pub(crate) fn alone(recovered: Recovered) -> Server {
        let settings = Settings::new(ServerId(1), QuorumVerifier::majority([ServerId(1)], []));
        Server::start_with(settings, recovered)
    }

    /// 3, leading `epoch` + 1 with follower 1.
    pub(crate) fn leader(recovered: Recovered, planted: &[PlantedBug]) -> Server {
        Server::leader_with(settings(3, planted), recovered)
    }

    pub(crate) fn leader_with(settings: Settings, recovered: Recovered) -> Server {
        let (epoch, last) = (
            recovered.current_epoch,
            recovered.window.last().map_or(recovered.window_start, |e| e.zxid),
        );
        let mut server = Server::elected_with(settings, recovered);
        let link = server.learner(1, epoch);
        server.settle_disk();
        server.hear(
            link,
            Message::AckEpoch {
                last_zxid: last,
                current_epoch: Some(epoch),
            },
        );
        server.settle_disk();
        server.hear(link, Message::Ack(z(epoch + 1, 0)));
        assert_eq!(server.zab.next_zxid(), Some(z(epoch + 1, 1)));
        server
    }

    pub(crate) fn wait_for_timer(&mut self) -> Vec<Action> {
        self.now_ms = self.zab.next_deadline_ms().expect("something is waited for");
        self.tell(Event::DeadlineReached)
    }

    pub(crate) fn wait_ms(&mut self, ms: u64) -> Vec<Action> {
        let end_ms = self.now_ms + ms;
        let mut actions = Vec::new();
        while let Some(deadline) = self.zab.next_deadline_ms().filter(|deadline| *deadline <= end_ms) {
            self.now_ms = deadline;
            actions.extend(self.tell(Event::DeadlineReached));
        }
        self.now_ms = end_ms;
        actions
    }
}

pub(crate) fn sent(actions: &[Action]) -> Vec<Message> {
    let messages = actions.iter().filter_map(|action| match action {
        Action::Send { message, .. } => Some(message.clone()),
        _ => None,
    });
    messages.collect()
}

pub(crate) fn written(actions: &[Action]) -> Vec<Write> {
    let writes = actions.iter().filter_map(|action| match action {
        Action::Write { write, .. } => Some(write.clone()),
        _ => None,
    });
    writes.collect()
}

pub(crate) fn delivered(actions: &[Action]) -> Vec<Zxid> {
    let entries = actions.iter().filter_map(|action| match action {
        Action::Deliver(entry) => Some(entry.zxid),
        _ => None,
    });
    entries.collect()
}

pub(crate) fn ended(actions: &[Action]) -> Option<Reason> {
    actions.iter().find_map(|action| match action {
        Action::StopServing(reason) => Some(*reason),
        _ => None,
    })
}

pub(crate) fn commits(actions: &[Action]) -> Vec<Zxid> {
    let commits = sent(actions).into_iter().filter_map(|message| match message {
        Message::Commit(zxid) => Some(zxid),
        _ => None,
    });
    commits.collect()
}
