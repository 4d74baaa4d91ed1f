//! Exchanges that the simulation does not meet, because only Java servers, or broken disks, bring them about.

mod driver;

use driver::{LINK, Server, commits, delivered, ended, entry, recovered, sent, written, z};
use oxkeeper_types::{ServerId, Zxid};
use oxkeeper_zab::{Action, Event, LearnerView, LinkId, Message, PeerFault, Reason, Write, WriteId};

/// A Java leader may tell to truncate to a zxid that this server does not have: its history is another, and cutting
/// off its end would not mend that.
#[test]
fn who_cannot_be_truncated_asks_for_everything() {
    let mut follower = Server::follower(recovered(4, &[z(3, 1), z(4, 7)], Zxid::ZERO), 5, &[]);
    follower.hear(LINK, Message::Trunc(z(4, 2)));
    follower.hear(LINK, Message::NewLeader { epoch: 5 });
    let refused = follower.tell(Event::TruncateRefused {
        write: WriteId(follower.last_write),
    });
    assert_eq!(ended(&refused), Some(Reason::TruncateRefused));
    assert_eq!(
        follower.zab.last_zxid(),
        z(4, 7),
        "what it has is kept: it may have voted for it"
    );

    let link = follower.find_leader();
    let answer = sent(&follower.hear(link, Message::LeaderInfo { epoch: 5 }));
    let denied = Message::AckEpoch {
        last_zxid: Zxid::ZERO,
        current_epoch: None,
    };
    assert_eq!(answer, [denied]);
    follower.hear(link, Message::Snap(z(4, 2)));
    follower.tell(Event::SnapshotReceived { link });
    let writes = written(&follower.hear(link, Message::NewLeader { epoch: 5 }));
    let install = Write::Install {
        snapshot: Some(link),
        zxid: z(4, 2),
        entries: vec![],
    };
    assert_eq!(writes, [install]);
    assert_eq!(sent(&follower.settle_disk()), [Message::Ack(z(5, 0))]);
    assert_eq!(follower.zab.last_zxid(), z(4, 2));
}

/// To another leader the own history must be told as it is: that leader concludes from it that it may lead.
#[test]
fn the_history_is_denied_to_the_leader_that_has_the_promise_and_to_no_other() {
    let mut follower = Server::follower(recovered(4, &[z(4, 1)], Zxid::ZERO), 5, &[]);
    follower.hear(LINK, Message::Diff(z(4, 3)));
    let gap = follower.hear(LINK, Message::Proposal(entry(z(4, 3))));
    let fault = PeerFault::ProposalGap {
        last: z(4, 1),
        got: z(4, 3),
    };
    assert_eq!(ended(&gap), Some(Reason::Fault(fault)));
    let link = follower.find_leader();
    follower.hear(link, Message::LeaderInfo { epoch: 6 });
    let told = Message::AckEpoch {
        last_zxid: z(4, 1),
        current_epoch: Some(4),
    };
    assert_eq!(sent(&follower.settle_disk()), [told]);
}

/// A DIFF from the very beginning to a server that denied its history replaces that history.
#[test]
fn a_diff_from_the_beginning_replaces_a_denied_history() {
    let mut follower = Server::follower(recovered(4, &[z(3, 1), z(4, 7)], Zxid::ZERO), 5, &[]);
    follower.hear(LINK, Message::Diff(z(4, 9)));
    follower.hear(LINK, Message::Proposal(entry(z(4, 9))));
    let link = follower.find_leader();
    follower.hear(link, Message::LeaderInfo { epoch: 5 });
    follower.hear(link, Message::Diff(z(1, 1)));
    follower.hear(link, Message::Proposal(entry(z(1, 1))));
    follower.hear(link, Message::Commit(z(1, 1)));
    let install = Write::Install {
        snapshot: None,
        zxid: Zxid::ZERO,
        entries: vec![entry(z(1, 1))],
    };
    assert_eq!(
        written(&follower.hear(link, Message::NewLeader { epoch: 5 })),
        [install]
    );
}

/// Java reads the end of a snapshot after it began to forward proposals, so that some come twice.
#[test]
fn proposals_that_a_snapshot_contains_are_passed_over() {
    let mut follower = Server::follower(recovered(0, &[], Zxid::ZERO), 5, &[]);
    follower.hear(LINK, Message::Snap(z(5, 3)));
    follower.tell(Event::SnapshotReceived { link: LINK });
    for counter in 2..=5 {
        follower.hear(LINK, Message::Proposal(entry(z(5, counter))));
    }
    for counter in 2..=4 {
        assert_eq!(ended(&follower.hear(LINK, Message::Commit(z(5, counter)))), None);
    }
    let writes = written(&follower.hear(LINK, Message::NewLeader { epoch: 5 }));
    let install = Write::Install {
        snapshot: Some(LINK),
        zxid: z(5, 3),
        entries: vec![entry(z(5, 4))],
    };
    assert_eq!(writes, [install]);
    follower.settle_disk();
    let actions = follower.hear(LINK, Message::UpToDate);
    assert_eq!(delivered(&actions), [z(5, 4)]);
    assert_eq!(written(&actions), [Write::Append(entry(z(5, 5)))]);
}

#[test]
fn newleader_before_the_snapshot_came_in_whole_is_a_fault() {
    let mut follower = Server::follower(recovered(0, &[], Zxid::ZERO), 5, &[]);
    follower.hear(LINK, Message::Snap(z(4, 3)));
    let actions = follower.hear(LINK, Message::NewLeader { epoch: 5 });
    assert_eq!(ended(&actions), Some(Reason::Fault(PeerFault::Unexpected)));
}

/// The stream shows effects of what is applied while it is taken. A learner must know them for history, and apply what
/// comes after NEWLEADER to exactly the tree that its leader had.
#[test]
fn what_is_committed_while_a_snapshot_is_sent_comes_as_history_and_newleader_after_it() {
    for is_observer in [false, true] {
        let mut leader = Server::leader(recovered(4, &[z(4, 1)], Zxid::ZERO), &[]);
        let propose = |leader: &mut Server, counter| {
            let txn = entry(z(5, counter)).txn;
            leader.tell(Event::Propose {
                zxid: z(5, counter),
                txn,
            });
            leader.settle_disk();
        };
        let to = |link, actions: &[Action]| {
            let of_link = actions.iter().filter_map(|action| match action {
                Action::Send { link: at, message } if *at == link => Some(message.clone()),
                _ => None,
            });
            of_link.collect::<Vec<_>>()
        };
        let link = if is_observer {
            leader.observer(4, 4)
        } else {
            leader.learner(2, 4)
        };
        let answer = leader.hear(
            link,
            Message::AckEpoch {
                last_zxid: z(3, 9),
                current_epoch: Some(3),
            },
        );
        assert_eq!(
            answer,
            [
                Action::Send {
                    link,
                    message: Message::Snap(z(4, 1))
                },
                Action::SendSnapshot(link)
            ]
        );
        propose(&mut leader, 1);
        propose(&mut leader, 2);
        let committed = leader.hear(LINK, Message::Ack(z(5, 1)));
        assert_eq!(
            to(link, &committed),
            [Message::Proposal(entry(z(5, 1))), Message::Commit(z(5, 1))]
        );
        let new_leader = Message::NewLeader { epoch: 5 };
        let outstanding = Message::Proposal(entry(z(5, 2)));
        let sent_whole = sent(&leader.tell(Event::SnapshotSent { link }));
        if is_observer {
            assert_eq!(sent_whole, [new_leader]);
        } else {
            assert_eq!(sent_whole, [new_leader, outstanding]);
        }
        let committed = leader.hear(LINK, Message::Ack(z(5, 2)));
        let expected = if is_observer {
            Message::Inform(entry(z(5, 2)))
        } else {
            Message::Commit(z(5, 2))
        };
        assert_eq!(to(link, &committed), [expected], "now as to all others");
    }
}

/// `initLimit` and `syncLimit` are limits of silence. A large snapshot may take longer.
#[test]
fn a_snapshot_may_take_longer_than_the_limits_while_it_makes_progress() {
    let limits_ms = 30_000;
    let mut follower = Server::follower(recovered(4, &[z(4, 1)], Zxid::ZERO), 5, &[]);
    follower.hear(LINK, Message::Snap(z(4, 9)));
    for _ in 0..10 {
        assert_eq!(ended(&follower.wait_ms(limits_ms / 2)), None);
        follower.tell(Event::SnapshotProgress { link: LINK });
    }
    assert_eq!(ended(&follower.wait_ms(limits_ms)), Some(Reason::LeaderSilent));

    let mut leader = Server::leader(recovered(4, &[z(4, 1)], Zxid::ZERO), &[]);
    let link = leader.learner(2, 4);
    leader.hear(
        link,
        Message::AckEpoch {
            last_zxid: z(3, 9),
            current_epoch: Some(3),
        },
    );
    let is_dropped = |actions: &[Action]| actions.contains(&Action::CloseLink(link));
    let wait = |leader: &mut Server, ms: u64| {
        let mut actions = Vec::new();
        for _ in 0..ms / 5_000 {
            leader.hear(LINK, Message::Pong(z(5, 0), [].into()));
            actions.extend(leader.wait_ms(5_000));
        }
        actions
    };
    for _ in 0..10 {
        let actions = wait(&mut leader, limits_ms / 2);
        assert!(!is_dropped(&actions), "{actions:?}");
        leader.tell(Event::SnapshotProgress { link });
    }
    assert!(is_dropped(&wait(&mut leader, limits_ms + 5_000)));
}

#[test]
fn an_observer_logs_and_delivers_what_it_is_informed_of_and_acknowledges_nothing() {
    let mut observer = Server::start(4, recovered(4, &[], Zxid::ZERO), &[]);
    let link = observer.find_leader();
    observer.hear(link, Message::LeaderInfo { epoch: 5 });
    observer.settle_disk();
    observer.hear(link, Message::Diff(Zxid::ZERO));
    // Commits go on while it is synchronised.
    observer.hear(link, Message::Inform(entry(z(5, 1))));
    observer.hear(link, Message::NewLeader { epoch: 5 });
    observer.hear(link, Message::Inform(entry(z(5, 2))));
    assert_eq!(sent(&observer.settle_disk()), [Message::Ack(z(5, 0))]);
    assert_eq!(
        delivered(&observer.hear(link, Message::UpToDate)),
        [z(5, 1), z(5, 2)]
    );
    let actions = observer.hear(link, Message::Inform(entry(z(5, 3))));
    assert_eq!(delivered(&actions), [z(5, 3)]);
    assert_eq!(sent(&observer.settle_disk()), []);
}

#[test]
fn observers_are_informed_and_their_acks_do_not_count() {
    let mut leader = Server::leader(recovered(4, &[], Zxid::ZERO), &[]);
    let link = leader.observer(4, 4);
    leader.hear(
        link,
        Message::AckEpoch {
            last_zxid: Zxid::ZERO,
            current_epoch: Some(4),
        },
    );
    assert_eq!(
        sent(&leader.hear(link, Message::Ack(z(5, 0)))),
        [Message::UpToDate]
    );
    let txn = entry(z(5, 1)).txn;
    let proposed = leader.tell(Event::Propose { zxid: z(5, 1), txn });
    assert_eq!(
        sent(&proposed),
        [Message::Proposal(entry(z(5, 1)))],
        "to the follower alone"
    );
    leader.settle_disk();
    assert_eq!(commits(&leader.hear(link, Message::Ack(z(5, 1)))), []);
    let committed = sent(&leader.hear(LINK, Message::Ack(z(5, 1))));
    assert_eq!(
        committed,
        [Message::Commit(z(5, 1)), Message::Inform(entry(z(5, 1)))]
    );
}

/// Java's leaders keep such a member out for ever.
#[test]
fn a_leader_makes_room_for_a_member_that_has_promised_a_later_epoch() {
    let mut leader = Server::leader(recovered(4, &[], Zxid::ZERO), &[]);
    leader.learner(77, 9);
    assert!(
        leader.zab.next_zxid().is_some(),
        "a stranger is no reason to step down"
    );
    let actions = leader.late_learner(2, 9);
    assert_eq!(ended(&actions), Some(Reason::LaterEpochPromised));
    // The next epoch of this server is one that the member can accept.
    leader.elect_again();
    leader.settle_disk();
    assert!(leader.zab.accepted_epoch() > 9, "{}", leader.zab.accepted_epoch());
}

/// A leader without a quorum in time gives up, and so does a follower that hears nothing.
#[test]
fn every_phase_ends_in_time() {
    let mut leader = Server::elected(recovered(4, &[], Zxid::ZERO), &[]);
    assert_eq!(ended(&leader.wait_ms(19_999)), None);
    assert_eq!(ended(&leader.wait_ms(1)), Some(Reason::InitLimit));

    let mut dialling = Server::start(1, recovered(4, &[], Zxid::ZERO), &[]);
    dialling.find_leader();
    assert_eq!(ended(&dialling.wait_ms(19_999)), None);
    assert_eq!(ended(&dialling.wait_ms(1)), Some(Reason::LeaderSilent));

    let mut serving = Server::serving_follower(recovered(4, &[], Zxid::ZERO), 5, &[]);
    serving.wait_ms(9_000);
    let answer = serving.hear(LINK, Message::Ping(z(5, 0)));
    let expected = Action::AnswerPing {
        link: LINK,
        zxid: z(5, 0),
    };
    assert_eq!(answer, [expected]);
    assert_eq!(ended(&serving.wait_ms(9_999)), None);
    assert_eq!(ended(&serving.wait_ms(1)), Some(Reason::LeaderSilent));
}

/// The elected may have died meanwhile: who cannot reach it does not wait for `initLimit`.
#[test]
fn a_leader_that_cannot_be_reached_is_given_up_after_some_tries() {
    let mut follower = Server::start(1, recovered(4, &[], Zxid::ZERO), &[]);
    let incarnation = follower.elect_3();
    let mut dialled_ms = vec![0];
    let mut actions = follower.tell(Event::LeaderUnreachable { incarnation });
    while ended(&actions).is_none() {
        actions = follower.wait_for_timer();
        assert_eq!(
            actions,
            [Action::ConnectToLeader {
                leader: ServerId(3),
                incarnation
            }]
        );
        dialled_ms.push(follower.now_ms);
        actions = follower.tell(Event::LeaderUnreachable { incarnation });
    }
    assert_eq!(dialled_ms, [0, 10, 30, 70, 150, 250, 350, 450, 550, 650]);
    assert_eq!(ended(&actions), Some(Reason::LeaderUnreachable));
}

#[test]
fn a_follower_that_answers_pings_but_not_proposals_is_dropped() {
    let mut leader = Server::leader(recovered(4, &[], Zxid::ZERO), &[]);
    let link = leader.learner(2, 4);
    let ack_epoch = Message::AckEpoch {
        last_zxid: Zxid::ZERO,
        current_epoch: Some(4),
    };
    leader.hear(link, ack_epoch);
    leader.hear(link, Message::Ack(z(5, 0)));
    let txn = entry(z(5, 1)).txn;
    leader.tell(Event::Propose { zxid: z(5, 1), txn });
    leader.settle_disk();
    leader.hear(LINK, Message::Ack(z(5, 1)));
    let mut closed = Vec::new();
    for _ in 0..14 {
        for link in [LINK, link] {
            leader.hear(link, Message::Pong(z(5, 0), [].into()));
        }
        closed.extend(
            leader
                .wait_ms(1_000)
                .into_iter()
                .filter(|action| matches!(action, Action::CloseLink(_))),
        );
    }
    assert_eq!(closed, [Action::CloseLink(link)]);
    assert_eq!(
        leader.zab.next_zxid(),
        Some(z(5, 2)),
        "the leader goes on with the other"
    );
}

#[test]
fn operators_are_shown_what_a_server_does() {
    let mut follower = Server::start(1, recovered(4, &[z(4, 1), z(4, 2)], Zxid::ZERO), &[]);
    let shows = |server: &Server, text: &str, epoch| {
        assert_eq!(
            (server.zab.peer_state().as_str(), server.zab.epoch()),
            (text, epoch)
        );
    };
    shows(&follower, "looking", None);
    let link = follower.find_leader();
    shows(&follower, "following - discovery", None);
    assert_eq!(follower.zab.leader_link(), Some(link));
    follower.hear(link, Message::LeaderInfo { epoch: 5 });
    follower.settle_disk();
    shows(&follower, "following - synchronization", Some(5));
    follower.hear(link, Message::Trunc(z(4, 1)));
    shows(&follower, "following - synchronization - trunc", Some(5));
    follower.hear(link, Message::NewLeader { epoch: 5 });
    follower.settle_disk();
    shows(&follower, "following - synchronization", Some(5));
    follower.hear(link, Message::UpToDate);
    shows(&follower, "following - broadcast", Some(5));
    assert_eq!(follower.zab.learners().count(), 0);
    follower.tell(Event::LinkClosed { link });
    shows(&follower, "looking", None);

    let mut leader = Server::elected(recovered(4, &[], Zxid::ZERO), &[]);
    shows(&leader, "leading - discovery", None);
    let link = leader.learner(1, 4);
    leader.settle_disk();
    shows(&leader, "leading - discovery", Some(5));
    leader.hear(
        link,
        Message::AckEpoch {
            last_zxid: Zxid::ZERO,
            current_epoch: Some(4),
        },
    );
    leader.settle_disk();
    shows(&leader, "leading - synchronization", Some(5));
    leader.hear(link, Message::Ack(z(5, 0)));
    shows(&leader, "leading - broadcast", Some(5));
    let txn = entry(z(5, 1)).txn;
    leader.tell(Event::Propose { zxid: z(5, 1), txn });
    leader.hear(link, Message::Ack(z(5, 1)));
    let observer = leader.observer(4, 4);
    leader.tell(Event::LearnerConnected { link: LinkId(77) });
    let follower = LearnerView {
        link,
        server: ServerId(1),
        is_observer: false,
        is_voter: true,
        is_synced: true,
        last_acked: z(5, 1),
    };
    let observer = LearnerView {
        link: observer,
        server: ServerId(4),
        is_observer: true,
        is_voter: false,
        is_synced: false,
        last_acked: Zxid::ZERO,
    };
    assert_eq!(leader.zab.learners().collect::<Vec<_>>(), [follower, observer]);
}

#[test]
fn a_server_alone_is_a_whole_ensemble() {
    let mut server = Server::alone(recovered(0, &[], Zxid::ZERO));
    server.settle_disk();
    assert_eq!(server.zab.next_zxid(), Some(z(1, 1)));
    let txn = entry(z(1, 1)).txn;
    assert_eq!(delivered(&server.tell(Event::Propose { zxid: z(1, 1), txn })), []);
    assert_eq!(delivered(&server.settle_disk()), [z(1, 1)]);
    assert_eq!(ended(&server.wait_ms(100_000)), None);
}
