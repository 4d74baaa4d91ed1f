//! Whatever peers say, in whatever order: a server neither panics nor acknowledges what it does not have.

use std::sync::Arc;

use oxkeeper_types::{ServerId, Zxid};
use oxkeeper_zab::{
    Action, Configuration, Entry, Event, LinkId, Message, Notification, PeerState, QuorumVerifier, Recovered,
    Settings, Vote, WriteId, Zab,
};

fn some_number(rng: &mut fastrand::Rng) -> i64 {
    match rng.u8(..10) {
        0 => i64::MIN,
        1 => i64::MAX,
        2 => -1,
        3 => rng.i64(..),
        _ => rng.i64(0..4),
    }
}

fn some_zxid(rng: &mut fastrand::Rng) -> Zxid {
    match rng.u8(..10) {
        0 => Zxid(some_number(rng)),
        _ => Zxid::new(rng.u32(0..6), rng.u32(0..5)),
    }
}

fn some_epoch(rng: &mut fastrand::Rng) -> u32 {
    if rng.u8(..20) == 0 {
        rng.u32(..)
    } else {
        rng.u32(0..8)
    }
}

fn some_entry(rng: &mut fastrand::Rng) -> Entry {
    Entry {
        zxid: some_zxid(rng),
        txn: [].into(),
    }
}

fn some_configuration(rng: &mut fastrand::Rng) -> Configuration {
    let voters = (0..6).map(ServerId).filter(|_| rng.bool());
    let quorum = QuorumVerifier::majority(voters.collect::<Vec<_>>(), [ServerId(7)]);
    Configuration {
        version: some_zxid(rng).0,
        ..Configuration::new(quorum)
    }
}

/// Any txn may be one that changes the configuration.
fn find_configuration(entry: &Entry) -> Option<Configuration> {
    let mut rng = fastrand::Rng::with_seed(entry.zxid.0.unsigned_abs());
    rng.bool().then(|| Configuration {
        version: entry.zxid.0,
        ..some_configuration(&mut rng)
    })
}

fn some_message(rng: &mut fastrand::Rng) -> Message {
    match rng.u8(..18) {
        16 => Message::CommitAndActivate {
            zxid: some_zxid(rng),
            leader: ServerId(some_number(rng)),
        },
        17 => Message::InformAndActivate {
            entry: some_entry(rng),
            leader: ServerId(some_number(rng)),
        },
        0 => Message::LearnerInfo {
            server: ServerId(some_number(rng)),
            observer: rng.bool(),
            accepted_epoch: some_epoch(rng),
            config_version: 0,
        },
        1 => Message::LeaderInfo {
            epoch: some_epoch(rng),
        },
        2 => Message::AckEpoch {
            last_zxid: some_zxid(rng),
            current_epoch: rng.bool().then(|| some_epoch(rng)),
        },
        3 => Message::Diff(some_zxid(rng)),
        4 => Message::Trunc(some_zxid(rng)),
        5 => Message::Snap(some_zxid(rng)),
        6 | 7 => Message::Proposal(some_entry(rng)),
        8 | 9 => Message::Commit(some_zxid(rng)),
        10 => Message::Inform(some_entry(rng)),
        11 => Message::NewLeader {
            epoch: some_epoch(rng),
            configuration: rng.bool().then(|| Arc::new(some_configuration(rng))),
        },
        12 => Message::UpToDate,
        13 => Message::Ack(some_zxid(rng)),
        14 => Message::Ping(some_zxid(rng)),
        _ => Message::Opaque {
            kind: rng.i32(..),
            zxid: some_zxid(rng),
            payload: [].into(),
        },
    }
}

/// What an honest peer would say as its `step`th packet, so that the later phases are reached too.
fn honest_message(step: u32, accepted_epoch: u32, last: Zxid, leading: bool) -> Message {
    let entry = Entry {
        zxid: Zxid(last.0.saturating_add(1)),
        txn: [].into(),
    };
    match (leading, step) {
        (true, 0) => Message::LearnerInfo {
            server: ServerId(2),
            observer: false,
            accepted_epoch,
            config_version: 0,
        },
        (true, 1) => Message::AckEpoch {
            last_zxid: last,
            current_epoch: Some(0),
        },
        (true, _) => Message::Ack(Zxid::new(accepted_epoch, 0)),
        (false, 0) => Message::LeaderInfo {
            epoch: accepted_epoch + 1,
        },
        (false, 1) => Message::Diff(last),
        (false, 2 | 6) => Message::Proposal(entry),
        (false, 3) => Message::Commit(entry.zxid),
        (false, 4) => Message::NewLeader {
            epoch: accepted_epoch,
            configuration: None,
        },
        (false, 5) => Message::UpToDate,
        (false, _) => Message::Commit(last),
    }
}

fn some_notification(rng: &mut fastrand::Rng) -> Notification {
    let states = [
        PeerState::Looking,
        PeerState::Following,
        PeerState::Leading,
        PeerState::Observing,
    ];
    Notification {
        state: states[rng.usize(..4)],
        vote: Vote {
            leader: ServerId(if rng.bool() {
                rng.i64(1..4)
            } else {
                some_number(rng)
            }),
            zxid: some_zxid(rng),
            peer_epoch: some_number(rng),
        },
        election_epoch: some_number(rng),
        version: rng.i32(0..3),
    }
}

#[test]
fn no_peer_can_make_a_server_panic() {
    let mut reached = [0_u32; 4];
    let (mut served, mut acknowledged) = (0, 0);
    for seed in 0..1500 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let quorum = QuorumVerifier::majority([1, 2, 3].map(ServerId), [ServerId(4)]);
        let mut settings = Settings::new(ServerId(rng.i64(1..6)), quorum);
        settings.find_configuration = rng.bool().then_some(find_configuration);
        let history: Vec<Entry> = (1..=rng.u32(0..4))
            .map(|counter| Entry {
                zxid: Zxid::new(1, counter),
                txn: [].into(),
            })
            .collect();
        let recovered = Recovered {
            accepted_epoch: 1,
            current_epoch: 1,
            window_start: Zxid::ZERO,
            window: history,
        };
        let mut zab = Zab::new(settings, recovered, 0);
        let (mut links, mut now_ms, mut last_write, mut durable, mut step, mut dialled) =
            (0, 0, 0, 0, 0, None);
        let honesty = [0, 50, 90, 98][rng.usize(..4)];
        for _ in 0..200 {
            while let Some(action) = zab.poll_action() {
                match action {
                    Action::Write { id, .. } => last_write = id.0,
                    Action::ConnectToLeader { incarnation, .. } => dialled = Some(incarnation),
                    Action::Serve { .. } => served += 1,
                    Action::Send {
                        message: Message::Ack(_),
                        ..
                    } => acknowledged += 1,
                    _ => {}
                }
            }
            let link = LinkId(rng.u64(0..=links));
            // Some peers are mostly honest, others hardly ever.
            let honest = rng.u8(..100) < honesty;
            let event = match rng.u8(..20) {
                _ if honest && last_write > durable => {
                    durable = last_write;
                    Event::Durable {
                        write: WriteId(last_write),
                    }
                }
                _ if honest && dialled.is_none() && links > 0 && zab.state() != PeerState::Looking => {
                    let leading = zab.state() == PeerState::Leading;
                    let message = honest_message(step, zab.accepted_epoch(), zab.last_zxid(), leading);
                    step += 1;
                    Event::Received {
                        link: LinkId(links),
                        message,
                    }
                }
                0 if rng.bool() => Event::ConfigurationHeard(Arc::new(some_configuration(&mut rng))),
                0..3 => Event::Notification {
                    from: ServerId(rng.i64(0..6)),
                    notification: some_notification(&mut rng),
                },
                3..6 => match dialled.take().inspect(|_| step = 0) {
                    Some(incarnation) => {
                        links += 1;
                        Event::LeaderConnected {
                            incarnation,
                            link: LinkId(links),
                        }
                    }
                    None => {
                        links += 1;
                        step = 0;
                        Event::LearnerConnected { link: LinkId(links) }
                    }
                },
                6 => Event::LinkClosed { link },
                7..10 => Event::Received {
                    link,
                    message: some_message(&mut rng),
                },
                10 => Event::SnapshotReceived { link: LinkId(links) },
                11 => Event::LogRead {
                    link,
                    entries: rng.bool().then(|| vec![some_entry(&mut rng)]),
                },
                12 => {
                    now_ms += rng.u64(0..5000);
                    Event::DeadlineReached
                }
                _ if last_write > 0 => Event::Durable {
                    write: WriteId(last_write),
                },
                _ => Event::DeadlineReached,
            };
            zab.handle(event, now_ms);
            reached[zab.state() as usize] += 1;
        }
    }
    // Otherwise this would show nothing.
    assert!(reached.iter().all(|times| *times > 100), "{reached:?}");
    assert!(
        served > 10 && acknowledged > 10,
        "{served} served, {acknowledged} acknowledged"
    );
}
