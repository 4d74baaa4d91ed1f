//! Exchanges that the simulation does not meet, because only Java servers, or broken disks, bring them about.

mod driver;

use std::sync::Arc;

use driver::{LINK, Server, commits, delivered, ended, entry, recovered, sent, settings, written, z};
use oxkeeper_types::{ServerId, Zxid};
use oxkeeper_zab::{
    Action, CloseReason, Configuration, Event, LearnerView, LinkId, Message, NO_HISTORY,
    NOTIFICATION_VERSION, Notification, PeerFault, PeerState, PlantedBug, QuorumVerifier, Reason, SyncMethod,
    Vote, Write, WriteId,
};

/// A Java leader may tell to truncate to a zxid that this server does not have: its history is another, and cutting
/// off its end would not mend that.
#[test]
fn who_cannot_be_truncated_asks_for_everything() {
    let mut follower = Server::follower(recovered(4, &[z(3, 1), z(4, 7)], Zxid::ZERO), 5, &[]);
    follower.hear(LINK, Message::Trunc(z(4, 2)));
    follower.hear(
        LINK,
        Message::NewLeader {
            epoch: 5,
            configuration: None,
        },
    );
    let refused = follower.tell(Event::TruncateRefused {
        write: WriteId(follower.last_write),
    });
    assert_eq!(
        follower.zab.last_zxid(),
        z(4, 7),
        "what it has is kept: it may have voted for it"
    );

    let link = follower.dial_again(&refused);
    let answer = sent(&follower.hear(link, Message::LeaderInfo { epoch: 5 }));
    let denied = Message::AckEpoch {
        last_zxid: Zxid::ZERO,
        current_epoch: None,
    };
    assert_eq!(answer, [denied]);
    follower.hear(link, Message::Snap(z(4, 2)));
    follower.tell(Event::SnapshotReceived { link });
    let writes = written(&follower.hear(
        link,
        Message::NewLeader {
            epoch: 5,
            configuration: None,
        },
    ));
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
    let link = follower.dial_again(&gap);
    follower.tell(Event::LinkClosed { link });
    let link = follower.find_leader();
    follower.hear(link, Message::LeaderInfo { epoch: 6 });
    let told = Message::AckEpoch {
        last_zxid: z(4, 1),
        current_epoch: Some(4),
    };
    assert_eq!(sent(&follower.settle_disk()), [told]);
}

#[test]
fn a_leader_that_does_not_mend_the_history_when_asked_is_given_up() {
    let mut follower = Server::follower(recovered(4, &[z(4, 1)], Zxid::ZERO), 5, &[]);
    follower.hear(LINK, Message::Diff(z(4, 3)));
    let gap = follower.hear(LINK, Message::Proposal(entry(z(4, 3))));
    let link = follower.dial_again(&gap);
    follower.hear(link, Message::LeaderInfo { epoch: 5 });
    follower.hear(link, Message::Diff(z(4, 3)));
    let again = follower.hear(link, Message::Proposal(entry(z(4, 3))));
    let fault = PeerFault::ProposalGap {
        last: Zxid::ZERO,
        got: z(4, 3),
    };
    assert_eq!(ended(&again), Some(Reason::Fault(fault)));
}

#[test]
fn a_leader_sends_a_snapshot_when_a_diff_would_be_more_than_a_learner_keeps() {
    for (backlog_entries_max, expected) in [(6, Message::Diff(z(4, 4))), (5, Message::Snap(z(4, 4)))] {
        let mut settings = settings(3, &[]);
        settings.backlog_entries_max = backlog_entries_max;
        let history: Vec<Zxid> = (1..=4).map(|counter| z(4, counter)).collect();
        let mut leader = Server::leader_with(settings, recovered(4, &history, Zxid::ZERO));
        let link = leader.learner(2, 4);
        let ack_epoch = Message::AckEpoch {
            last_zxid: z(4, 1),
            current_epoch: Some(4),
        };
        assert_eq!(sent(&leader.hear(link, ack_epoch))[0], expected);
    }
}

/// 2 has a snapshot named by the beginning of epoch 3, whose leader was given up before anybody else had its history:
/// what it has may never have been committed, and later leaders, 3 the last of them, never had it. Nor is it known of
/// epoch 4, though the leader followed it: it may have forgotten that history for a later leader and ended before it
/// had saved that epoch.
#[test]
fn a_history_named_by_an_epoch_without_a_quorum_is_replaced() {
    let mut leader = Server::leader(recovered(4, &[z(1, 1), z(2, 8)], Zxid::ZERO), &[]);
    let zxid = leader.zab.next_zxid().unwrap();
    leader.tell(Event::Propose {
        zxid,
        txn: entry(zxid).txn,
    });
    leader.settle_disk();
    assert_eq!(commits(&leader.hear(LINK, Message::Ack(zxid))), [zxid]);
    for (last_zxid, expected) in [
        (z(3, 0), Message::Snap(zxid)),
        (z(4, 0), Message::Snap(zxid)),
        (z(5, 0), Message::Diff(zxid)),
    ] {
        let link = leader.learner(2, 5);
        let ack_epoch = Message::AckEpoch {
            last_zxid,
            current_epoch: None,
        };
        assert_eq!(sent(&leader.hear(link, ack_epoch))[0], expected, "{last_zxid}");
    }
}

/// A DIFF from the very beginning to a server that denied its history replaces that history.
#[test]
fn a_diff_from_the_beginning_replaces_a_denied_history() {
    let mut follower = Server::follower(recovered(4, &[z(3, 1), z(4, 7)], Zxid::ZERO), 5, &[]);
    follower.hear(LINK, Message::Diff(z(4, 9)));
    let gap = follower.hear(LINK, Message::Proposal(entry(z(4, 9))));
    let link = follower.dial_again(&gap);
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
        written(&follower.hear(
            link,
            Message::NewLeader {
                epoch: 5,
                configuration: None
            }
        )),
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
    let writes = written(&follower.hear(
        LINK,
        Message::NewLeader {
            epoch: 5,
            configuration: None,
        },
    ));
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
    let actions = follower.hear(
        LINK,
        Message::NewLeader {
            epoch: 5,
            configuration: None,
        },
    );
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
        assert!(
            matches!(
                answer[0],
                Action::Synchronizing { method: SyncMethod::Snap, from, .. } if from == z(3, 9)
            ),
            "the operator hears of it: {answer:?}"
        );
        assert_eq!(
            answer[1..],
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
        let configuration = Some(leader.zab.configuration().clone());
        let new_leader = Message::NewLeader {
            epoch: 5,
            configuration,
        };
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
    let is_dropped = |actions: &[Action]| {
        actions
            .iter()
            .any(|action| matches!(action, Action::CloseLink(of, _) if *of == link))
    };
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
    observer.hear(
        link,
        Message::NewLeader {
            epoch: 5,
            configuration: None,
        },
    );
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

/// A Java leader sends no PINGs before it has a quorum, and may wait for that as long as `initLimit` says.
#[test]
fn a_follower_that_has_the_history_waits_for_the_quorum_of_its_leader() {
    let mut follower = Server::follower(recovered(4, &[], Zxid::ZERO), 5, &[]);
    follower.hear(LINK, Message::Diff(Zxid::ZERO));
    follower.hear(
        LINK,
        Message::NewLeader {
            epoch: 5,
            configuration: None,
        },
    );
    follower.settle_disk();
    assert_eq!(ended(&follower.wait_ms(19_999)), None);
    follower.hear(LINK, Message::UpToDate);
    assert_eq!(ended(&follower.wait_ms(9_999)), None);
    assert_eq!(ended(&follower.wait_ms(1)), Some(Reason::LeaderSilent));
}

#[test]
fn a_leader_that_an_elector_has_left_before_it_had_followers_may_be_told_to_give_up() {
    let looks = |server: &mut Server, from, zxid| {
        let notification = Notification {
            state: PeerState::Looking,
            vote: Vote {
                leader: ServerId(from),
                zxid,
                peer_epoch: 4,
            },
            election_epoch: 2,
            version: NOTIFICATION_VERSION,
        };
        ended(&server.tell(Event::Notification {
            from: ServerId(from),
            notification,
        }))
    };
    for (epoch_wait_max_ms, reason) in [(None, None), (Some(500), Some(Reason::ElectorLost))] {
        let mut settings = settings(3, &[]);
        settings.epoch_wait_max_ms = epoch_wait_max_ms;
        let mut leader = Server::elected_with(settings.clone(), recovered(4, &[], Zxid::ZERO));
        assert_eq!(
            looks(&mut leader, 1, Zxid::ZERO),
            None,
            "it may have been elected later"
        );
        leader.wait_ms(501);
        assert_eq!(
            looks(&mut leader, 4, Zxid::ZERO),
            None,
            "an observer elects nobody"
        );
        assert_eq!(looks(&mut leader, 1, Zxid::ZERO), reason);
        // With a quorum it leads on.
        let mut leader = Server::leader_with(settings, recovered(4, &[], Zxid::ZERO));
        leader.wait_ms(501);
        assert_eq!(looks(&mut leader, 1, Zxid::ZERO), None);
    }
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
                .filter(|action| matches!(action, Action::CloseLink(..))),
        );
    }
    assert_eq!(closed, [Action::CloseLink(link, CloseReason::TooLate)]);
    assert_eq!(
        leader.zab.next_zxid(),
        Some(z(5, 2)),
        "the leader goes on with the other"
    );
}

/// Who cannot keep the txns that it lacks in memory gets a snapshot, which it need not keep there.
#[test]
fn a_follower_that_would_have_to_keep_too_much_asks_for_a_snapshot() {
    // A txn of the tests has 8 bytes.
    for (entries_max, bytes_max) in [(2, usize::MAX), (usize::MAX, 20)] {
        let mut settings = settings(1, &[]);
        settings.backlog_entries_max = entries_max;
        settings.backlog_bytes_max = bytes_max;
        let mut follower = Server::follower_with(settings, recovered(4, &[z(4, 1)], Zxid::ZERO), 5);
        follower.hear(LINK, Message::Diff(z(4, 9)));
        for counter in 2..=3 {
            assert_eq!(
                ended(&follower.hear(LINK, Message::Proposal(entry(z(4, counter))))),
                None
            );
            assert_eq!(ended(&follower.hear(LINK, Message::Commit(z(4, counter)))), None);
        }
        let third = follower.hear(LINK, Message::Proposal(entry(z(4, 4))));
        let link = follower.dial_again(&third);
        let denied = Message::AckEpoch {
            last_zxid: Zxid::ZERO,
            current_epoch: None,
        };
        let answer = sent(&follower.hear(link, Message::LeaderInfo { epoch: 5 }));
        assert_eq!(answer, [denied]);
        follower.hear(link, Message::Snap(z(4, 9)));
        follower.tell(Event::SnapshotReceived { link });
        follower.hear(
            link,
            Message::NewLeader {
                epoch: 5,
                configuration: None,
            },
        );
        follower.settle_disk();
        assert_eq!(ended(&follower.hear(link, Message::UpToDate)), None);
    }
}

#[test]
fn a_follower_keeps_a_bounded_number_of_txns_that_are_not_durable_or_not_committed() {
    let serving = || {
        let mut settings = settings(1, &[]);
        settings.backlog_entries_max = 3;
        let mut follower = Server::follower_with(settings, recovered(4, &[], Zxid::ZERO), 5);
        follower.hear(LINK, Message::Diff(Zxid::ZERO));
        follower.hear(
            LINK,
            Message::NewLeader {
                epoch: 5,
                configuration: None,
            },
        );
        follower.settle_disk();
        follower.hear(LINK, Message::UpToDate);
        follower
    };
    // Its leader commits nothing.
    let mut follower = serving();
    for counter in 1..=3 {
        assert_eq!(
            ended(&follower.hear(LINK, Message::Proposal(entry(z(5, counter))))),
            None
        );
        follower.settle_disk();
    }
    let fourth = follower.hear(LINK, Message::Proposal(entry(z(5, 4))));
    assert_eq!(ended(&fourth), Some(Reason::BacklogTooLarge));
    // Its disk stands still.
    let mut follower = serving();
    for counter in 1..=3 {
        assert_eq!(
            ended(&follower.hear(LINK, Message::Proposal(entry(z(5, counter))))),
            None
        );
        follower.hear(LINK, Message::Commit(z(5, counter)));
    }
    let fourth = follower.hear(LINK, Message::Proposal(entry(z(5, 4))));
    assert_eq!(ended(&fourth), Some(Reason::BacklogTooLarge));
    // Neither.
    let mut follower = serving();
    for counter in 1..=100 {
        follower.hear(LINK, Message::Proposal(entry(z(5, counter))));
        follower.settle_disk();
        assert_eq!(ended(&follower.hear(LINK, Message::Commit(z(5, counter)))), None);
    }
}

#[test]
fn a_leader_whose_proposals_are_not_committed_gives_up() {
    let mut settings = settings(3, &[]);
    settings.backlog_entries_max = 7;
    let mut leader = Server::leader_with(settings, recovered(4, &[], Zxid::ZERO));
    let propose = |leader: &mut Server, counter| {
        let txn = entry(z(5, counter)).txn;
        let zxid = z(5, counter);
        let actions = leader.tell(Event::Propose { zxid, txn });
        leader.settle_disk();
        ended(&actions)
    };
    for counter in 1..=20 {
        assert_eq!(propose(&mut leader, counter), None);
        leader.hear(LINK, Message::Ack(z(5, counter)));
    }
    for counter in 21..=23 {
        assert_eq!(propose(&mut leader, counter), None);
    }
    assert_eq!(propose(&mut leader, 24), Some(Reason::BacklogTooLarge));
}

#[test]
fn connections_that_do_not_tell_who_they_are_are_few_and_go_in_time() {
    let mut settings = settings(3, &[]);
    settings.unnamed_links_max = 3;
    let mut leader = Server::leader_with(settings, recovered(4, &[], Zxid::ZERO));
    let connect = |leader: &mut Server, link| leader.tell(Event::LearnerConnected { link: LinkId(link) });
    for link in 101..=103 {
        assert_eq!(connect(&mut leader, link), []);
    }
    assert_eq!(
        connect(&mut leader, 104),
        [Action::CloseLink(LinkId(101), CloseReason::TooManyUnnamed)]
    );
    let mut closed = Vec::new();
    for _ in 0..5 {
        leader.hear(LINK, Message::Pong(z(5, 0), [].into()));
        closed.extend(
            leader
                .wait_ms(4_200)
                .into_iter()
                .filter(|action| matches!(action, Action::CloseLink(..))),
        );
    }
    let others = [102, 103, 104].map(|link| Action::CloseLink(LinkId(link), CloseReason::TooLate));
    assert_eq!(closed, others, "after initLimit");
    assert_eq!(leader.zab.learners().count(), 1, "the follower stays");
}

#[test]
fn a_server_without_data_votes_for_nobody_and_takes_over_what_its_leader_has() {
    let mut server = Server::start(1, recovered(0, &[], NO_HISTORY), &[]);
    let looking = |from: i64| Event::Notification {
        from: ServerId(from),
        notification: Notification {
            state: PeerState::Looking,
            vote: Vote {
                leader: ServerId(3),
                zxid: z(4, 1),
                peer_epoch: 4,
            },
            election_epoch: 1,
            version: NOTIFICATION_VERSION,
        },
    };
    for from in [2, 3] {
        let answers = server.tell(looking(from));
        assert!(
            !answers
                .iter()
                .any(|action| matches!(action, Action::ConnectToLeader { .. })),
            "{answers:?}"
        );
    }
    let link = server.find_leader();
    server.hear(link, Message::LeaderInfo { epoch: 5 });
    let promised = sent(&server.settle_disk());
    assert_eq!(
        promised,
        [Message::AckEpoch {
            last_zxid: NO_HISTORY,
            current_epoch: Some(0)
        }]
    );
    // Whatever it is sent, it begins at the very beginning, with a snapshot of nothing.
    server.hear(link, Message::Diff(z(4, 1)));
    server.hear(link, Message::Proposal(entry(z(4, 1))));
    server.hear(link, Message::Commit(z(4, 1)));
    let configuration = None;
    let writes = written(&server.hear(
        link,
        Message::NewLeader {
            epoch: 5,
            configuration,
        },
    ));
    assert_eq!(
        writes,
        [Write::Install {
            snapshot: None,
            zxid: Zxid::ZERO,
            entries: vec![entry(z(4, 1))]
        }]
    );
}

#[test]
fn two_servers_without_data_do_not_elect_each_other() {
    let mut settings = settings(1, &[]);
    settings.election_settle_ms = 0;
    let mut server = Server::start_with(settings, recovered(0, &[], NO_HISTORY));
    let vote = Vote {
        leader: ServerId(1),
        zxid: NO_HISTORY,
        peer_epoch: 0,
    };
    for from in [2, 3] {
        server.tell(Event::Notification {
            from: ServerId(from),
            notification: Notification {
                state: PeerState::Looking,
                vote,
                election_epoch: 1,
                version: NOTIFICATION_VERSION,
            },
        });
    }
    server.wait_ms(100);
    assert_eq!(server.zab.state(), PeerState::Looking);
}

#[test]
fn a_leader_serves_a_bounded_number_of_servers_that_are_not_in_its_configuration() {
    let mut settings = settings(3, &[]);
    settings.strangers_max = 2;
    let mut leader = Server::leader_with(settings, recovered(4, &[], Zxid::ZERO));
    for id in 50..52 {
        let link = leader.learner(id, 4);
        assert!(leader.zab.learners().any(|learner| learner.link == link), "{id}");
    }
    let refused = leader.late_learner(52, 4);
    assert!(
        matches!(refused[..], [Action::CloseLink(_, CloseReason::TooManyStrangers)]),
        "{refused:?}"
    );
    let link = leader.learner(51, 4);
    assert!(
        leader.zab.learners().any(|learner| learner.link == link),
        "who comes again takes its own place"
    );
    let link = leader.learner(2, 4);
    assert!(
        leader.zab.learners().any(|learner| learner.link == link),
        "members are always served"
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
    follower.hear(
        link,
        Message::NewLeader {
            epoch: 5,
            configuration: None,
        },
    );
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

/// A configuration is noted before the txn that proposes it. Who dies between the two has acknowledged nothing, and must
/// not ask for a quorum of that configuration: who has the txn is fresher, would be refused, and may have no vote.
#[test]
fn a_proposed_configuration_whose_txn_never_came_is_forgotten() {
    let next_after_start = |version: Zxid, epoch: u32, planted: &[PlantedBug]| {
        let next = Configuration {
            version: version.0,
            ..Configuration::new(QuorumVerifier::majority([ServerId(4)], []))
        };
        let mut settings = settings(1, planted);
        settings.next_configuration = Some(Arc::new(next));
        settings.find_configuration = Some(|_| None);
        let mut server = Server::start_with(settings, recovered(epoch, &[z(1, 1), z(1, 2)], Zxid::ZERO));
        server.last_write = 1;
        let noted = server.zab.next_configuration().map(|next| next.version);
        let actions = match noted {
            None => server.tell(Event::Durable { write: WriteId(1) }),
            Some(_) => Vec::new(),
        };
        let votes = |action: &Action| matches!(action, Action::SendNotification { .. });
        assert!(
            noted.is_some() || actions.iter().any(votes),
            "it votes when that is on disk"
        );
        noted
    };
    assert_eq!(next_after_start(z(1, 3), 1, &[]), None);
    assert_eq!(
        next_after_start(z(1, 3), 1, &[PlantedBug::MissedProposalCounts]),
        Some(z(1, 3).0)
    );
    assert_eq!(
        next_after_start(z(1, 2), 1, &[]),
        Some(z(1, 2).0),
        "the txn is in the log"
    );
    assert_eq!(
        next_after_start(z(1, 3), 2, &[]),
        Some(z(1, 3).0),
        "the leader of epoch 2 told it: it may have been established by it"
    );
}

/// While it was synchronised, one reconfig was committed and the next one proposed.
#[test]
fn a_configuration_that_was_committed_before_uptodate_counts_although_another_is_proposed() {
    let mut settings = settings(1, &[]);
    settings.find_configuration = Some(|entry| {
        (entry.zxid.counter() % 2 == 1).then(|| Configuration {
            version: entry.zxid.0,
            ..Configuration::new(QuorumVerifier::majority([1, 2, 3].map(ServerId), []))
        })
    });
    let mut follower = Server::follower_with(settings, recovered(1, &[z(1, 1)], Zxid::ZERO), 2);
    follower.hear(LINK, Message::Diff(z(1, 1)));
    follower.hear(
        LINK,
        Message::NewLeader {
            epoch: 2,
            configuration: None,
        },
    );
    follower.settle_disk();
    for counter in 1..=4 {
        follower.hear(LINK, Message::Proposal(entry(z(2, counter))));
    }
    let (zxid, leader) = (z(2, 1), ServerId(3));
    follower.hear(LINK, Message::CommitAndActivate { zxid, leader });
    follower.hear(LINK, Message::Commit(z(2, 2)));
    let actions = follower.hear(LINK, Message::UpToDate);
    assert_eq!(delivered(&actions), [z(2, 1), z(2, 2)]);
    let version = |of: &Arc<Configuration>| Zxid(of.version);
    assert_eq!(version(follower.zab.configuration()), z(2, 1));
    assert_eq!(follower.zab.next_configuration().map(version), Some(z(2, 3)));
    let saved = written(&actions);
    let at = |wanted: &dyn Fn(&Write) -> bool| saved.iter().position(wanted);
    let committed = at(&|write| matches!(write, Write::Configuration(of) if version(of) == z(2, 1)));
    let proposed = at(&|write| matches!(write, Write::NextConfiguration(Some(of)) if version(of) == z(2, 3)));
    assert!(committed.is_some() && committed < proposed, "{saved:?}");
}
