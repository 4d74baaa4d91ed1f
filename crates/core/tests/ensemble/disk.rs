//! A member whose disk takes its time.

use std::sync::Arc;

use oxkeeper_core::{Action, CoreSettings, Event, Now, Replica, ServerCore, Shared, Standing};
use oxkeeper_types::{ServerId, Zxid};
use oxkeeper_zab::{
    Action as ZabAction, Event as ZabEvent, LinkId, Message, NOTIFICATION_VERSION, Notification, PeerState,
    QuorumVerifier, Recovered, Settings, Vote, Write, WriteId,
};

const LINK: LinkId = LinkId(1);

/// Server 1 of three, whose peers, clock and disk are played by a test.
struct Server {
    core: ServerCore,
    settings: CoreSettings,
    now: Now,
}

impl Server {
    /// Its history ends at `last`.
    fn start(settings: CoreSettings, last: Zxid) -> Server {
        let now = Now {
            monotonic_ms: 10_000,
            wall_ms: 1_700_000_000_000,
        };
        let shared = Arc::new(Shared::new(Replica::empty(&settings.tree), settings.clone()));
        let quorum = QuorumVerifier::majority([1, 2, 3].map(ServerId), []);
        let recovered = Recovered {
            accepted_epoch: last.epoch(),
            current_epoch: last.epoch(),
            window_start: last,
            window: Vec::new(),
        };
        let core = ServerCore::member(shared, Settings::new(ServerId(1), quorum), recovered, now);
        Server { core, settings, now }
    }

    /// Returns the writes that were asked for.
    fn tell(&mut self, event: Event) -> Vec<(WriteId, Write)> {
        self.core.handle_event(self.now, event);
        let mut writes = Vec::new();
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::Ensemble(ZabAction::Write { id, write }) => writes.push((id, write)),
                Action::Ensemble(ZabAction::ConnectToLeader { incarnation, .. }) => {
                    let link = LINK;
                    let connected = ZabEvent::LeaderConnected { incarnation, link };
                    self.core.handle_event(self.now, Event::Ensemble(connected));
                }
                _ => {}
            }
        }
        writes
    }

    fn hear(&mut self, message: Message) -> Vec<(WriteId, Write)> {
        self.tell(Event::Ensemble(ZabEvent::Received { link: LINK, message }))
    }

    /// Finds that 3 leads.
    fn find_leader(&mut self) {
        for (from, state) in [(2, PeerState::Following), (3, PeerState::Leading)] {
            let vote = Vote {
                leader: ServerId(3),
                zxid: Zxid::ZERO,
                peer_epoch: 2,
            };
            let notification = Notification {
                state,
                vote,
                election_epoch: 7,
                version: NOTIFICATION_VERSION,
            };
            self.tell(Event::Ensemble(ZabEvent::Notification {
                from: ServerId(from),
                notification,
            }));
        }
    }

    fn wait_ms(&mut self, ms: u64) {
        let end_ms = self.now.monotonic_ms + ms;
        while self.core.next_deadline_ms() <= end_ms {
            self.now.monotonic_ms = self.core.next_deadline_ms().max(self.now.monotonic_ms);
            self.tell(Event::DeadlineReached);
        }
        self.now.monotonic_ms = end_ms;
    }
}

/// Who lost its leader in the middle of a truncation gets another tree when the disk is done. Reads that were answered
/// before that would have seen what comes after it.
#[test]
fn reads_are_not_answered_without_a_leader_before_the_disk_has_done_what_the_last_one_asked_for() {
    let settings = CoreSettings {
        tick_ms: 100,
        read_only_mode: true,
        ..CoreSettings::default()
    };
    let mut server = Server::start(settings, Zxid::new(1, 5));
    server.find_leader();
    let promise = server.hear(Message::LeaderInfo { epoch: 2 });
    let [(write, Write::AcceptedEpoch(2))] = promise[..] else {
        panic!("{promise:?}");
    };
    server.tell(Event::Ensemble(ZabEvent::Durable { write }));
    server.hear(Message::Trunc(Zxid::new(1, 3)));
    let truncation = server.hear(Message::NewLeader {
        epoch: 2,
        configuration: None,
    });
    let [(write, Write::Truncate { reload: true, .. })] = truncation[..] else {
        panic!("{truncation:?}");
    };
    server.tell(Event::Ensemble(ZabEvent::LinkClosed { link: LINK }));
    server.wait_ms(10_000);
    assert_eq!(server.core.standing(), Standing::Looking);

    let reloaded = Box::new(Replica::empty(&server.settings.tree));
    server.tell(Event::ReplicaReloaded(reloaded));
    server.tell(Event::Ensemble(ZabEvent::Durable { write }));
    server.wait_ms(1000);
    assert_eq!(server.core.standing(), Standing::ReadOnly);
}
