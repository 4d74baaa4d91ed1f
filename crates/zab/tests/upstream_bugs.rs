//! Known bugs of ZooKeeper, each as a scenario that holds with our guard and fails when the guard is taken away.

mod driver;

use driver::{LINK, Server, commits, delivered, ended, entry, recovered, sent, written, z};
use oxkeeper_types::{ServerId, Zxid};
use oxkeeper_zab::{
    Action, CloseReason, Event, Message, NOTIFICATION_VERSION, Notification, PeerState, PlantedBug, Reason,
    Vote, Write, WriteId,
};

/// A scenario that holds with the guards `$given` away, and fails with `$guard` away as well.
macro_rules! guarded {
    ($name:ident, $guard:ident, $scenario:expr) => {
        guarded!($name, [], $guard, $scenario);
    };
    ($name:ident, [$($given:ident),*], $guard:ident, $scenario:expr) => {
        #[test]
        fn $name() {
            let scenario: fn(&[PlantedBug]) = $scenario;
            scenario(&[$(PlantedBug::$given),*]);
            let without = std::panic::catch_unwind(|| {
                scenario(&[$(PlantedBug::$given,)* PlantedBug::$guard]);
            });
            assert!(without.is_err(), "the scenario does not notice that the guard is gone");
        }
    };
}

guarded!(
    zookeeper_3911_the_synchronised_history_is_durable_before_newleader_is_acknowledged,
    AckNewLeaderBeforeHistory,
    |planted| {
        let mut follower = Server::follower(recovered(4, &[z(4, 1)], Zxid::ZERO), 5, planted);
        follower.hear(LINK, Message::Diff(z(4, 2)));
        follower.hear(LINK, Message::Proposal(entry(z(4, 2))));
        follower.hear(LINK, Message::Commit(z(4, 2)));
        assert_eq!(
            sent(&follower.hear(
                LINK,
                Message::NewLeader {
                    epoch: 5,
                    configuration: None
                }
            )),
            []
        );
        assert_eq!(sent(&follower.settle_disk()), [Message::Ack(z(5, 0))]);
    }
);

guarded!(
    zookeeper_4646_a_crash_after_the_ack_of_newleader_loses_nothing,
    AckNewLeaderBeforeHistory,
    |planted| {
        let mut follower = Server::follower(recovered(4, &[], Zxid::ZERO), 5, planted);
        follower.hear(LINK, Message::Diff(z(4, 3)));
        for counter in 1..=3 {
            follower.hear(LINK, Message::Proposal(entry(z(4, counter))));
            follower.hear(LINK, Message::Commit(z(4, counter)));
        }
        // The disk makes one write after the other durable. Whatever it has when the ACK leaves survives a crash.
        let mut on_disk = Vec::new();
        let mut queued = written(&follower.hear(
            LINK,
            Message::NewLeader {
                epoch: 5,
                configuration: None,
            },
        ));
        for done in 1..=4_u64 {
            let write = queued.remove(0);
            on_disk.push(write);
            // Write 1 was the accepted epoch.
            let actions = follower.tell(Event::Durable {
                write: WriteId(done + 1),
            });
            queued.extend(written(&actions));
            assert_eq!(sent(&actions).is_empty(), done < 4, "after {on_disk:?}");
        }
        let mut expected: Vec<Write> = (1..=3)
            .map(|counter| Write::Append(entry(z(4, counter))))
            .collect();
        expected.push(Write::CurrentEpoch(5));
        assert_eq!(on_disk, expected);
    }
);

guarded!(
    zookeeper_4785_neither_epoch_nor_ack_overtake_the_history_on_its_way_to_disk,
    EpochBeforeHistory,
    |planted| {
        let mut follower = Server::follower(recovered(4, &[z(4, 1)], Zxid::ZERO), 5, planted);
        follower.hear(LINK, Message::Diff(z(4, 2)));
        follower.hear(LINK, Message::Proposal(entry(z(4, 2))));
        follower.hear(LINK, Message::Commit(z(4, 2)));
        let writes = written(&follower.hear(
            LINK,
            Message::NewLeader {
                epoch: 5,
                configuration: None,
            },
        ));
        assert_eq!(
            writes,
            [Write::Append(entry(z(4, 2)))],
            "and nothing else before this is durable"
        );
        assert_eq!(written(&follower.settle_disk()), [Write::CurrentEpoch(5)]);
    }
);

guarded!(
    zookeeper_4643_a_crash_while_synchronising_leaves_no_new_epoch_over_an_old_history,
    EpochBeforeHistory,
    |planted| {
        let mut follower = Server::follower(recovered(4, &[z(4, 1), z(4, 2)], Zxid::ZERO), 6, planted);
        follower.hear(LINK, Message::Trunc(z(4, 1)));
        follower.hear(LINK, Message::Proposal(entry(z(5, 1))));
        follower.hear(LINK, Message::Commit(z(5, 1)));
        let truncation = Write::Truncate {
            to: z(4, 1),
            reload: true,
        };
        assert_eq!(
            written(&follower.hear(
                LINK,
                Message::NewLeader {
                    epoch: 6,
                    configuration: None
                }
            )),
            [truncation]
        );
        let rest = written(&follower.settle_disk());
        assert_eq!(rest, [Write::Append(entry(z(5, 1))), Write::CurrentEpoch(6)]);
    }
);

guarded!(
    zookeeper_3023_what_was_committed_while_synchronising_is_durable_and_shown_when_serving,
    AckNewLeaderBeforeHistory,
    |planted| {
        let mut follower = Server::follower(recovered(4, &[z(4, 1)], Zxid::ZERO), 5, planted);
        follower.hear(LINK, Message::Diff(z(4, 2)));
        follower.hear(LINK, Message::Proposal(entry(z(4, 2))));
        follower.hear(LINK, Message::Commit(z(4, 2)));
        let early = follower.hear(
            LINK,
            Message::NewLeader {
                epoch: 5,
                configuration: None,
            },
        );
        assert_eq!((sent(&early), delivered(&early)), (vec![], vec![]));
        follower.settle_disk();
        let actions = follower.hear(LINK, Message::UpToDate);
        assert_eq!(delivered(&actions), [z(4, 2)]);
        let place = |wanted: fn(&Action) -> bool| actions.iter().position(wanted);
        let applied = place(|action| matches!(action, Action::Deliver(_)));
        assert!(
            applied < place(|action| matches!(action, Action::Serve { .. })),
            "{actions:?}"
        );
    }
);

guarded!(
    zookeeper_4394_a_commit_after_newleader_finds_its_proposal_from_before,
    ForgetPendingAtNewLeader,
    |planted| {
        let mut follower = Server::follower(recovered(4, &[], Zxid::ZERO), 5, planted);
        follower.hear(LINK, Message::Diff(z(5, 1)));
        follower.hear(LINK, Message::Proposal(entry(z(5, 1))));
        follower.hear(LINK, Message::Proposal(entry(z(5, 2))));
        follower.hear(
            LINK,
            Message::NewLeader {
                epoch: 5,
                configuration: None,
            },
        );
        follower.settle_disk();
        assert_eq!(ended(&follower.hear(LINK, Message::Commit(z(5, 1)))), None);
        let actions = follower.hear(LINK, Message::UpToDate);
        assert_eq!(delivered(&actions), [z(5, 1)]);
        assert_eq!(
            written(&actions),
            [Write::Append(entry(z(5, 1))), Write::Append(entry(z(5, 2)))]
        );
        assert_eq!(
            delivered(&follower.hear(LINK, Message::Commit(z(5, 2)))),
            [z(5, 2)]
        );
    }
);

guarded!(
    zookeeper_4394_old_followers_get_newleader_before_what_is_not_committed,
    NewLeaderLast,
    |planted| {
        let mut leader = Server::leader(recovered(4, &[], Zxid::ZERO), planted);
        let txn = entry(z(5, 1)).txn;
        leader.tell(Event::Propose { zxid: z(5, 1), txn });
        let link = leader.learner(2, 4);
        let ack_epoch = Message::AckEpoch {
            last_zxid: Zxid::ZERO,
            current_epoch: Some(4),
        };
        let answer = sent(&leader.hear(link, ack_epoch));
        let configuration = Some(leader.zab.configuration().clone());
        let new_leader = Message::NewLeader {
            epoch: 5,
            configuration,
        };
        assert_eq!(
            answer,
            [
                Message::Diff(Zxid::ZERO),
                new_leader,
                Message::Proposal(entry(z(5, 1)))
            ]
        );
    }
);

guarded!(
    zookeeper_4685_a_follower_acknowledges_newleader_before_any_proposal,
    AckProposalBeforeNewLeader,
    |planted| {
        let mut follower = Server::follower(recovered(4, &[], Zxid::ZERO), 5, planted);
        follower.hear(LINK, Message::Diff(Zxid::ZERO));
        follower.hear(LINK, Message::Proposal(entry(z(5, 1))));
        follower.hear(
            LINK,
            Message::NewLeader {
                epoch: 5,
                configuration: None,
            },
        );
        assert_eq!(sent(&follower.settle_disk()), [Message::Ack(z(5, 0))]);
        assert_eq!(
            sent(&follower.hear(LINK, Message::UpToDate)),
            [Message::Ack(z(5, 0))]
        );
        assert_eq!(sent(&follower.settle_disk()), [Message::Ack(z(5, 1))]);
    }
);

guarded!(
    zookeeper_4685_a_leader_takes_no_proposals_ack_for_that_of_newleader,
    AnyAckIsNewLeaderAck,
    |planted| {
        // What a follower of 3.8 may do.
        let mut leader = Server::elected(recovered(4, &[z(4, 1)], Zxid::ZERO), planted);
        let link = leader.learner(1, 4);
        leader.settle_disk();
        leader.hear(
            link,
            Message::AckEpoch {
                last_zxid: Zxid::ZERO,
                current_epoch: Some(4),
            },
        );
        leader.settle_disk();
        leader.hear(link, Message::Ack(z(4, 1)));
        assert_eq!(leader.zab.next_zxid(), None, "nobody has acknowledged the epoch");
        assert_eq!(
            sent(&leader.hear(link, Message::Ack(z(5, 0)))),
            [Message::UpToDate]
        );
        assert_eq!(leader.zab.next_zxid(), Some(z(5, 1)));
    }
);

guarded!(
    zookeeper_4712_no_election_begins_while_the_old_role_still_writes,
    ElectWithWritesInFlight,
    |planted| {
        let mut follower = Server::serving_follower(recovered(4, &[], Zxid::ZERO), 5, planted);
        follower.settle_disk();
        follower.hear(LINK, Message::Proposal(entry(z(5, 1))));
        let votes = |actions: &[Action]| {
            actions
                .iter()
                .filter(|a| matches!(a, Action::SendNotification { .. }))
                .count()
        };
        assert_eq!(votes(&follower.tell(Event::LinkClosed { link: LINK })), 0);
        let actions = follower.settle_disk();
        assert_eq!(
            (votes(&actions), sent(&actions)),
            (2, vec![]),
            "now it votes; nobody is left to hear the ACK"
        );
    }
);

guarded!(
    late_durable_events_of_an_old_role_mean_nothing_to_the_new,
    [ElectWithWritesInFlight],
    LateEventsCount,
    |planted| {
        let mut follower = Server::start(1, recovered(4, &[], Zxid::ZERO), planted);
        let link = follower.find_leader();
        follower.hear(link, Message::LeaderInfo { epoch: 5 });
        follower.tell(Event::LinkClosed { link });
        let link = follower.find_leader();
        follower.hear(link, Message::LeaderInfo { epoch: 6 });
        let old = follower.tell(Event::Durable { write: WriteId(1) });
        assert_eq!(sent(&old), [], "only epoch 5 is on disk");
        let new = follower.tell(Event::Durable { write: WriteId(2) });
        assert_eq!(
            sent(&new),
            [Message::AckEpoch {
                last_zxid: Zxid::ZERO,
                current_epoch: Some(4)
            }]
        );
    }
);

guarded!(
    zookeeper_4882_a_server_whose_disk_failed_votes_no_more,
    ElectWithWritesInFlight,
    |planted| {
        let mut follower = Server::serving_follower(recovered(4, &[], Zxid::ZERO), 5, planted);
        follower.settle_disk();
        follower.hear(LINK, Message::Proposal(entry(z(5, 1))));
        // A quorum without this server commits, so that its tree has what its log will never have.
        assert_eq!(
            delivered(&follower.hear(LINK, Message::Commit(z(5, 1)))),
            [z(5, 1)]
        );
        let actions = follower.tell(Event::WriteFailed);
        assert_eq!(ended(&actions), Some(Reason::DiskFailed));
        let later = follower.wait_ms(60_000);
        let votes = actions
            .iter()
            .chain(&later)
            .any(|action| matches!(action, Action::SendNotification { .. }));
        assert!(!votes, "it claims a history that its disk does not have");
    }
);

guarded!(
    zookeeper_2845_a_tree_ahead_of_a_truncation_is_loaded_again,
    KeepTreeOnTruncate,
    |planted| {
        let mut follower = Server::follower(recovered(4, &[z(4, 1), z(4, 2)], Zxid::ZERO), 6, planted);
        follower.hear(LINK, Message::Trunc(z(4, 1)));
        let writes = written(&follower.hear(
            LINK,
            Message::NewLeader {
                epoch: 6,
                configuration: None,
            },
        ));
        assert_eq!(
            writes,
            [Write::Truncate {
                to: z(4, 1),
                reload: true
            }]
        );
    }
);

guarded!(
    zookeeper_2846_a_history_from_disk_is_sent_only_to_who_shares_it,
    DiskHistoryUnchecked,
    |planted| {
        // The window begins after (4, 2). The learner has (4, 9), which never was in this history.
        let history = recovered(5, &[z(5, 2)], z(5, 1));
        let mut leader = Server::leader(history, planted);
        let link = leader.learner(2, 5);
        let read = leader.hear(
            link,
            Message::AckEpoch {
                last_zxid: z(4, 9),
                current_epoch: Some(4),
            },
        );
        assert_eq!(
            read,
            [Action::ReadLog {
                link,
                from: z(4, 9),
                to: z(5, 1)
            }]
        );
        let entries = Some(vec![entry(z(5, 1))]);
        let answer = sent(&leader.tell(Event::LogRead { link, entries }));
        assert_eq!(answer.first(), Some(&Message::Snap(z(5, 2))));
    }
);

guarded!(
    zookeeper_2846_a_learner_ahead_in_an_unknown_epoch_is_not_truncated,
    TruncateAcrossEpochs,
    |planted| {
        let mut leader = Server::elected(recovered(2, &[z(2, 8), z(2, 9)], z(2, 7)), planted);
        let link = leader.learner(1, 3);
        leader.settle_disk();
        let promise = Message::AckEpoch {
            last_zxid: z(2, 9),
            current_epoch: Some(2),
        };
        leader.hear(link, promise);
        leader.settle_disk();
        leader.hear(link, Message::Ack(z(4, 0)));
        // It followed an epoch that began with (2, 7) and so lacks (2, 8): cutting off its end would not mend that.
        let link = leader.learner(2, 3);
        let answer = leader.hear(
            link,
            Message::AckEpoch {
                last_zxid: Zxid::new(3, 5),
                current_epoch: None,
            },
        );
        // The snapshot is that of the new epoch, or a Java server would find (3, 5) after it in its log again.
        assert_eq!(sent(&answer).first(), Some(&Message::Snap(z(4, 0))));
    }
);

guarded!(
    zookeeper_4925_a_gap_in_the_proposals_is_not_logged,
    GapsAccepted,
    |planted| {
        let mut follower = Server::follower(recovered(4, &[z(4, 1)], Zxid::ZERO), 5, planted);
        follower.hear(LINK, Message::Diff(z(4, 3)));
        let actions = follower.hear(LINK, Message::Proposal(entry(z(4, 3))));
        // It comes again and asks for everything; the leader has its promise and concludes nothing from this answer.
        let link = follower.dial_again(&actions);
        let answer = sent(&follower.hear(link, Message::LeaderInfo { epoch: 5 }));
        assert_eq!(
            answer,
            [Message::AckEpoch {
                last_zxid: Zxid::ZERO,
                current_epoch: None
            }]
        );
    }
);

guarded!(
    zookeeper_4352_the_votes_of_a_leader_carry_its_epoch,
    VoteKeepsOldEpoch,
    |planted| {
        let mut leader = Server::leader(recovered(4, &[], Zxid::ZERO), planted);
        let asks = Notification {
            state: PeerState::Looking,
            vote: Vote {
                leader: ServerId(2),
                zxid: Zxid::ZERO,
                peer_epoch: 0,
            },
            election_epoch: 1,
            version: NOTIFICATION_VERSION,
        };
        let actions = leader.tell(Event::Notification {
            from: ServerId(2),
            notification: asks,
        });
        let [Action::SendNotification { notification, .. }] = &actions[..] else {
            panic!("{actions:?}");
        };
        assert_eq!(
            (notification.state, notification.vote.peer_epoch),
            (PeerState::Leading, 5)
        );
    }
);

guarded!(
    a_leader_refuses_the_promise_of_who_is_fresher,
    FresherLearnerAccepted,
    |planted| {
        let mut leader = Server::elected(recovered(4, &[z(4, 1)], Zxid::ZERO), planted);
        let link = leader.learner(1, 4);
        leader.settle_disk();
        let actions = leader.hear(
            link,
            Message::AckEpoch {
                last_zxid: z(4, 2),
                current_epoch: Some(4),
            },
        );
        assert_eq!(actions, [Action::CloseLink(link, CloseReason::Fresher(z(4, 2)))]);
    }
);

guarded!(
    a_leader_begins_an_epoch_that_nobody_of_its_quorum_has_accepted,
    ReuseEpoch,
    |planted| {
        let mut leader = Server::elected(recovered(4, &[], Zxid::ZERO), planted);
        leader.learner(1, 8);
        assert_eq!(sent(&leader.settle_disk()), [Message::LeaderInfo { epoch: 9 }]);
    }
);

guarded!(
    what_a_follower_is_told_to_forget_counts_only_when_it_has_it_again,
    AcksSurviveReconnect,
    |planted| {
        let mut leader = Server::leader(recovered(4, &[], Zxid::ZERO), planted);
        let txn = entry(z(5, 1)).txn;
        leader.tell(Event::Propose { zxid: z(5, 1), txn });
        let write = WriteId(leader.last_write);
        leader.hear(LINK, Message::Ack(z(5, 1)));
        leader.tell(Event::LinkClosed { link: LINK });
        let link = leader.learner(1, 5);
        let answer = leader.hear(
            link,
            Message::AckEpoch {
                last_zxid: z(5, 1),
                current_epoch: None,
            },
        );
        assert_eq!(sent(&answer).first(), Some(&Message::Trunc(Zxid::ZERO)));
        leader.hear(link, Message::Ack(z(5, 0)));
        assert_eq!(
            commits(&leader.tell(Event::Durable { write })),
            [],
            "only the leader is known to have it"
        );
        assert_eq!(commits(&leader.hear(link, Message::Ack(z(5, 1)))), [z(5, 1)]);
    }
);

guarded!(
    a_leader_that_nobody_follows_stops_leading,
    LeadWithoutQuorum,
    |planted| {
        let mut leader = Server::leader(recovered(4, &[], Zxid::ZERO), planted);
        leader.tell(Event::LinkClosed { link: LINK });
        assert_eq!(ended(&leader.wait_ms(60_000)), Some(Reason::QuorumLost));
    }
);

guarded!(
    a_follower_promises_only_what_is_on_disk,
    AckEpochBeforeSaved,
    |planted| {
        let mut follower = Server::start(1, recovered(4, &[], Zxid::ZERO), planted);
        let link = follower.find_leader();
        assert_eq!(sent(&follower.hear(link, Message::LeaderInfo { epoch: 5 })), []);
        assert_eq!(sent(&follower.settle_disk()).len(), 1);
    }
);

guarded!(
    a_proposal_is_acknowledged_when_it_is_durable,
    AckBeforeDurable,
    |planted| {
        let mut follower = Server::serving_follower(recovered(4, &[], Zxid::ZERO), 5, planted);
        assert_eq!(sent(&follower.hear(LINK, Message::Proposal(entry(z(5, 1))))), []);
        assert_eq!(sent(&follower.hear(LINK, Message::Proposal(entry(z(5, 2))))), []);
        assert_eq!(
            sent(&follower.settle_disk()),
            [Message::Ack(z(5, 1)), Message::Ack(z(5, 2))]
        );
    }
);

/// A synchronisation that breaks off leaves disk and tree as they were (ZOOKEEPER-3642, 5094).
#[test]
fn nothing_is_written_before_newleader() {
    for method in [
        Message::Diff(z(5, 1)),
        Message::Trunc(z(4, 1)),
        Message::Snap(z(4, 1)),
    ] {
        let mut follower = Server::follower(recovered(4, &[z(4, 1), z(4, 2)], Zxid::ZERO), 6, &[]);
        let mut actions = follower.hear(LINK, method.clone());
        if matches!(method, Message::Snap(_)) {
            actions.extend(follower.tell(Event::SnapshotReceived { link: LINK }));
        }
        actions.extend(follower.hear(LINK, Message::Proposal(entry(z(5, 1)))));
        actions.extend(follower.hear(LINK, Message::Commit(z(5, 1))));
        actions.extend(follower.tell(Event::LinkClosed { link: LINK }));
        assert_eq!(
            (written(&actions), delivered(&actions)),
            (vec![], vec![]),
            "{method:?}"
        );
        assert_eq!(ended(&actions), Some(Reason::LeaderLost));
        assert_eq!(follower.zab.last_zxid(), z(4, 2));
    }
}

/// Acks are per zxid. When a follower's acks are taken back, a later txn may have its quorum first: it must wait for
/// the earlier one, and must not be forgotten then.
#[test]
fn txns_are_committed_in_order_even_when_quorums_come_out_of_order() {
    let mut leader = Server::leader(recovered(4, &[], Zxid::ZERO), &[]);
    for counter in 1..=2 {
        let txn = entry(z(5, counter)).txn;
        leader.tell(Event::Propose {
            zxid: z(5, counter),
            txn,
        });
    }
    assert_eq!(commits(&leader.hear(LINK, Message::Ack(z(5, 2)))), []);
    let actions = leader.tell(Event::Durable {
        write: WriteId(leader.last_write),
    });
    assert_eq!(commits(&actions), [], "(5, 1) is only on the leader's disk");
    assert_eq!(
        commits(&leader.hear(LINK, Message::Ack(z(5, 1)))),
        [z(5, 1), z(5, 2)]
    );
}

/// A role may end over one write of a group that became durable at once. The others are on disk all the same.
#[test]
fn writes_that_became_durable_together_with_the_last_of_a_role_are_not_waited_for() {
    let mut settings = driver::settings(3, &[]);
    settings.counter_max = 2;
    let mut leader = Server::leader_with(settings, recovered(4, &[], Zxid::ZERO));
    let other = leader.learner(2, 5);
    let ack_epoch = Message::AckEpoch {
        last_zxid: Zxid::ZERO,
        current_epoch: None,
    };
    leader.hear(other, ack_epoch);
    leader.hear(other, Message::Ack(z(5, 0)));
    for counter in 1..=2 {
        let txn = entry(z(5, counter)).txn;
        leader.tell(Event::Propose {
            zxid: z(5, counter),
            txn,
        });
    }
    // The quorum of the second is there before that of the first, so that the first commits both, and ends the epoch.
    for (link, counter) in [(LINK, 2), (other, 2), (LINK, 1)] {
        assert_eq!(commits(&leader.hear(link, Message::Ack(z(5, counter)))), []);
    }
    let actions = leader.settle_disk();
    assert_eq!(delivered(&actions), [z(5, 1), z(5, 2)]);
    assert_eq!(ended(&actions), Some(Reason::CounterUsedUp));
    let votes = actions
        .iter()
        .any(|action| matches!(action, Action::SendNotification { .. }));
    assert!(votes, "the disk is quiet: {actions:?}");
}
