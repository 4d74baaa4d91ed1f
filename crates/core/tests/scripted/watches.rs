//! Watch events and what they come before: W1, W2, W3, and the catching up of setWatches.

use oxkeeper_types::{AddWatchMode, CreateMode, WatchPaths, WatchSelector, Zxid};
use oxkeeper_wire::Request;

use super::driver::client::*;
use super::driver::{End, Sim};

fn nothing() -> [&'static str; 0] {
    []
}

#[test]
fn w1_the_event_of_a_change_leaves_before_any_reply_that_shows_it() {
    let mut sim = Sim::new();
    let writer = sim.open();
    let readers = [sim.open(), sim.open(), sim.open()];
    sim.ask(writer, &create("/x"));
    sim.run();
    sim.seen(writer);
    for reader in readers {
        sim.ask(reader, &get_and_watch("/x"));
    }
    sim.ask(writer, &get_and_watch("/x"));
    sim.run();
    for reader in readers {
        sim.seen(reader);
    }
    sim.seen(writer);
    sim.ask(writer, &set("/x", "new"));
    sim.ask(writer, &get("/x"));
    sim.settle();
    // This one asks before the change is applied and is answered before.
    sim.ask(readers[0], &get("/x"));
    sim.settle();
    assert_eq!(sim.seen(readers[0]), ["2"]);
    // This one has its read behind a write of its own, which comes after the change.
    sim.ask(readers[1], &create("/other"));
    sim.ask(readers[1], &get("/x"));
    sim.settle();
    sim.commit();
    sim.handle_one();
    // The change is applied and nobody was woken yet; this one asks before it looks into its box.
    sim.ask(readers[2], &get("/x"));
    for reader in readers {
        sim.look(reader);
    }
    sim.look(writer);
    sim.run();
    assert_eq!(sim.seen(readers[0]), ["DataChanged /x"]);
    assert_eq!(sim.seen(readers[1]), ["DataChanged /x", "2=/other", "3=new"]);
    assert_eq!(sim.seen(readers[2]), ["DataChanged /x", "2=new"]);
    assert_eq!(sim.seen(writer), ["DataChanged /x", "3", "4=new"]);
}

#[test]
fn w1_replies_in_work_before_the_change_leave_before_its_event() {
    let mut sim = Sim::new();
    let (a, b) = (sim.open(), sim.open());
    sim.ask(a, &get_and_watch("/"));
    sim.ask(a, &children_and_watch("/"));
    sim.run();
    sim.seen(a);
    sim.ask(a, &set("/zookeeper", "first"));
    sim.ask(a, &children("/"));
    sim.settle();
    sim.ask(b, &create("/x"));
    sim.settle();
    sim.ask(a, &create("/y"));
    sim.ask(a, &children("/"));
    sim.run();
    assert_eq!(
        sim.seen(a),
        [
            "3",
            "4=[zookeeper]",
            "ChildrenChanged /",
            "5=/y",
            "6=[x,y,zookeeper]"
        ]
    );
}

#[test]
fn w2_no_change_falls_between_a_read_and_the_watch_it_leaves() {
    let mut sim = Sim::new();
    let (a, b) = (sim.open(), sim.open());
    sim.ask(a, &create("/x"));
    sim.run();
    sim.seen(a);
    // The read is in work behind a write, the change right behind it, and one commit takes all.
    sim.ask(a, &create("/p"));
    sim.ask(a, &get_and_watch("/x"));
    sim.ask(a, &exists_and_watch("/e"));
    sim.ask(a, &children_and_watch("/p"));
    sim.settle();
    for request in [set("/x", "new"), create("/e"), create("/p/c")] {
        sim.ask(b, &request);
    }
    sim.settle();
    sim.commit();
    sim.settle();
    assert_eq!(
        sim.seen(a),
        [
            "2=/p",
            "3",
            "4:-101",
            "5=[]",
            "DataChanged /x",
            "Created /e",
            "ChildrenChanged /p"
        ]
    );
}

#[test]
fn w3_a_one_shot_watch_fires_once_and_events_come_in_the_order_of_zxids() {
    let mut sim = Sim::new();
    let (a, b) = (sim.open(), sim.open());
    sim.ask(b, &create("/x"));
    sim.ask(b, &create("/y"));
    sim.run();
    for path in ["/x", "/y"] {
        sim.ask(a, &get_and_watch(path));
        // The same one twice is one, and so is one of exists.
        sim.ask(a, &get_and_watch(path));
        sim.ask(a, &exists_and_watch(path));
    }
    sim.run();
    sim.seen(a);
    for request in [
        set("/y", "1"),
        set("/x", "1"),
        set("/y", "2"),
        delete("/x"),
        delete("/y"),
    ] {
        sim.ask(b, &request);
    }
    sim.run();
    let events = sim.take(a);
    let [
        Frame::Event { zxid: first, .. },
        Frame::Event { zxid: second, .. },
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(second.0, first.0 + 1, "the zxid is that of the change");
    assert_eq!(sim.shared.replica.read().watch_count(), 0);
    sim.ask(a, &get_and_watch("/x"));
    sim.run();
    assert_eq!(sim.seen(a), ["7:-101"]);
    assert_eq!(
        sim.shared.replica.read().watch_count(),
        0,
        "getData leaves no watch where nothing is"
    );
}

#[test]
fn every_kind_of_watch_hears_of_what_it_is_for() {
    let mut sim = Sim::new();
    let (a, b) = (sim.open(), sim.open());
    sim.ask(a, &add_watch("/p", AddWatchMode::Persistent));
    sim.ask(b, &add_watch("/p", AddWatchMode::PersistentRecursive));
    sim.run();
    sim.seen(a);
    sim.seen(b);
    let writer = sim.open();
    for request in [
        create("/p"),
        create("/p/c"),
        set("/p/c", "1"),
        set("/p", "1"),
        delete("/p/c"),
        delete("/p"),
    ] {
        sim.ask(writer, &request);
    }
    sim.run();
    assert_eq!(
        sim.seen(a),
        [
            "Created /p",
            "ChildrenChanged /p",
            "DataChanged /p",
            "ChildrenChanged /p",
            "Deleted /p"
        ]
    );
    assert_eq!(
        sim.seen(b),
        [
            "Created /p",
            "Created /p/c",
            "DataChanged /p/c",
            "DataChanged /p",
            "Deleted /p/c",
            "Deleted /p"
        ]
    );
    sim.ask(a, &remove_watches("/p", WatchSelector::Data));
    sim.ask(a, &remove_watches("/p", WatchSelector::Persistent));
    sim.ask(a, &remove_watches("/p", WatchSelector::Persistent));
    sim.ask(writer, &create("/p"));
    sim.run();
    assert_eq!(sim.seen(a), ["2:-121", "3", "4:-121"]);
    assert_eq!(sim.seen(b), ["Created /p"]);
}

#[test]
fn the_parts_of_a_multi_fire_in_order_with_the_zxid_of_the_multi() {
    let mut sim = Sim::new();
    let (a, b) = (sim.open(), sim.open());
    sim.ask(a, &add_watch("/", AddWatchMode::PersistentRecursive));
    sim.run();
    sim.seen(a);
    sim.ask(
        b,
        &multi(vec![
            create_with("/m", CreateMode::Persistent, open_acl(), ""),
            create_with("/m/n", CreateMode::Persistent, open_acl(), ""),
            set_data("/m", "x", 0),
        ]),
    );
    sim.ask(b, &multi(vec![set_data("/m", "y", 1), set_data("/m/n", "y", 7)]));
    sim.run();
    let zxid = sim.durable.0 - 1;
    let frames = sim.take(a);
    assert!(
        frames
            .iter()
            .all(|frame| matches!(frame, Frame::Event { zxid: of, .. } if of.0 == zxid))
    );
    let texts: Vec<String> = frames
        .iter()
        .map(|frame| brief(frame, &Default::default()))
        .collect();
    assert_eq!(texts, ["Created /m", "Created /m/n", "DataChanged /m"]);
}

#[test]
fn events_go_to_nobody_who_may_not_read_and_their_one_shot_watch_is_gone() {
    let mut sim = Sim::new();
    let (owner, stranger, friend) = (sim.open(), sim.open(), sim.open());
    sim.ask(owner, &auth());
    sim.ask(
        owner,
        &Request::Write(create_with("/p", CreateMode::Persistent, private_acl(), "")),
    );
    sim.run();
    for watcher in [stranger, friend] {
        sim.ask(watcher, &add_watch("/p", AddWatchMode::Persistent));
        sim.ask(watcher, &exists_and_watch("/p/c"));
    }
    sim.run();
    assert_eq!(sim.seen(stranger), ["1", "2:-101"]);
    // Identities that come after the watch count when it fires.
    sim.ask(friend, &auth());
    sim.run();
    sim.seen(friend);
    sim.ask(
        owner,
        &Request::Write(create_with("/p/c", CreateMode::Persistent, private_acl(), "")),
    );
    sim.ask(owner, &set("/p", "1"));
    sim.run();
    assert_eq!(sim.seen(stranger), nothing());
    assert_eq!(
        sim.seen(friend),
        ["Created /p/c", "ChildrenChanged /p", "DataChanged /p"]
    );
    sim.ask(owner, &set_acl("/p/c", open_acl()));
    sim.ask(owner, &set("/p/c", "2"));
    sim.run();
    assert_eq!(sim.seen(stranger), nothing(), "the watch for /p/c was used up");
}

#[test]
fn set_watches_tells_at_once_of_what_was_missed_and_arms_the_rest() {
    let mut sim = Sim::new();
    let a = sim.open();
    for path in ["/changed", "/same", "/gone", "/parent", "/quiet", "/recreated"] {
        sim.ask(a, &create(path));
    }
    sim.run();
    let relative_zxid = sim.durable;
    sim.hang_up(a);
    let b = sim.open();
    for request in [
        set("/changed", "1"),
        delete("/gone"),
        create("/parent/c"),
        create("/new"),
        delete("/recreated"),
        create("/recreated"),
    ] {
        sim.ask(b, &request);
    }
    sim.run();
    let again = sim.reopen(a);
    let paths = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let watches = WatchPaths {
        relative_zxid,
        data: paths(&["/changed", "/same", "/gone", "/recreated"]),
        exist: paths(&["/new", "/never", "/same"]),
        child: paths(&["/parent", "/quiet", "/gone"]),
        persistent: paths(&["/same"]),
        persistent_recursive: paths(&["/quiet"]),
    };
    // Behind a write it is answered in its turn, and its events come right before its answer.
    sim.ask(again, &create("/w"));
    sim.ask(again, &set_watches(watches));
    sim.ask(again, &get("/changed"));
    sim.run();
    let frames = sim.take(again);
    for frame in &frames {
        assert!(!matches!(frame, Frame::Event { zxid, .. } if *zxid != Zxid(-1)));
    }
    let texts: Vec<String> = frames
        .iter()
        .map(|frame| brief(frame, &Default::default()))
        .collect();
    assert_eq!(
        texts,
        [
            "1",
            "DataChanged /changed",
            "Deleted /gone",
            "DataChanged /recreated",
            "Created /new",
            "Created /same",
            "ChildrenChanged /parent",
            "Deleted /gone",
            "2",
            "3"
        ]
    );
    for request in [
        set("/changed", "2"),
        set("/same", "1"),
        set("/same", "2"),
        create("/never"),
        create("/quiet/c"),
        create("/parent/d"),
    ] {
        sim.ask(b, &request);
    }
    sim.run();
    assert_eq!(
        sim.seen(again),
        [
            "DataChanged /same",
            "DataChanged /same",
            "Created /never",
            "Created /quiet/c",
            "ChildrenChanged /quiet"
        ]
    );
}

#[test]
fn set_watches_withholds_what_may_not_be_read_and_forgets_its_watch() {
    let mut sim = Sim::new();
    let (owner, a) = (sim.open(), sim.open());
    sim.ask(owner, &auth());
    sim.ask(
        owner,
        &Request::Write(create_with("/p", CreateMode::Persistent, private_acl(), "")),
    );
    sim.run();
    let paths = || vec!["/p".to_owned()];
    sim.ask(
        a,
        &set_watches(WatchPaths {
            data: paths(),
            exist: paths(),
            child: paths(),
            ..WatchPaths::default()
        }),
    );
    sim.run();
    assert_eq!(sim.seen(a), ["1"]);
    assert_eq!(sim.shared.replica.read().watch_count(), 0);
}

#[test]
fn watches_go_with_their_connection_and_leave_nothing_behind() {
    let mut sim = Sim::new();
    let (a, b) = (sim.open(), sim.open());
    for request in [
        get_and_watch("/"),
        children_and_watch("/"),
        add_watch("/", AddWatchMode::PersistentRecursive),
        exists_and_watch("/none"),
    ] {
        sim.ask(a, &request);
    }
    sim.run();
    sim.hang_up(a);
    let again = sim.reopen(a);
    sim.ask(b, &create("/x"));
    sim.run();
    assert_eq!(sim.seen(again), nothing());
    assert_eq!(sim.shared.replica.read().watch_count(), 0);
}

#[test]
fn reads_in_work_leave_no_watch_for_a_connection_that_is_gone() {
    for hang_up_late in [false, true] {
        let mut sim = Sim::new();
        let (a, b) = (sim.open(), sim.open());
        sim.ask(a, &create("/a"));
        sim.ask(a, &get_and_watch("/"));
        sim.ask(a, &add_watch("/", AddWatchMode::PersistentRecursive));
        if hang_up_late {
            sim.settle();
            sim.hang_up(a);
            sim.settle();
        } else {
            sim.look(a);
            sim.hang_up(a);
        }
        sim.ask(b, &create("/b"));
        sim.run();
        sim.run();
        assert_eq!(sim.seen(b), ["1=/b"]);
        assert_eq!(sim.shared.replica.read().watch_count(), 0);
        assert_eq!(
            sim.shared.outstanding.load(std::sync::atomic::Ordering::Relaxed),
            0
        );
    }
}

#[test]
fn the_end_of_a_session_fires_for_each_of_its_ephemerals() {
    let mut sim = Sim::new();
    let (a, b) = (sim.open(), sim.open());
    sim.ask(a, &create("/p"));
    sim.ask(a, &ephemeral("/p/1"));
    sim.ask(a, &ephemeral("/p/2"));
    sim.run();
    for request in [
        exists_and_watch("/p/1"),
        exists_and_watch("/p/2"),
        children_and_watch("/p"),
    ] {
        sim.ask(b, &request);
    }
    sim.run();
    sim.seen(b);
    sim.ask(a, &Request::CloseSession);
    sim.ask(b, &children("/p"));
    sim.settle();
    assert_eq!(sim.seen(b), ["4=[1,2]"]);
    sim.commit();
    sim.handle_one();
    sim.ask(b, &children("/p"));
    sim.run();
    let seen = sim.seen(b);
    assert_eq!(seen[seen.len() - 1], "5=[]");
    let mut events = seen[..seen.len() - 1].to_vec();
    events.sort_unstable();
    assert_eq!(events, ["ChildrenChanged /p", "Deleted /p/1", "Deleted /p/2"]);
}

#[test]
fn failed_writes_and_changes_of_acls_fire_nothing() {
    let mut sim = Sim::new();
    let (a, b) = (sim.open(), sim.open());
    sim.ask(a, &create("/x"));
    sim.ask(a, &add_watch("/", AddWatchMode::PersistentRecursive));
    sim.ask(a, &get_and_watch("/x"));
    sim.run();
    sim.seen(a);
    for request in [
        create("/x"),
        delete("/none"),
        Request::Write(set_data("/x", "", 9)),
        set_acl("/x", open_acl()),
        sync("/x"),
        multi(vec![set_data("/x", "", 0), set_data("/x", "", 0)]),
        multi(vec![]),
    ] {
        sim.ask(b, &request);
    }
    sim.run();
    assert_eq!(sim.seen(a), nothing());
}

#[test]
fn nobody_is_told_after_a_restart_but_those_who_set_their_watches_again() {
    let mut sim = Sim::new();
    let a = sim.open();
    sim.ask(a, &create("/x"));
    sim.ask(a, &get_and_watch("/x"));
    sim.run();
    let relative_zxid = sim.durable;
    sim.restart(End::Power);
    let again = sim.reopen(a);
    sim.ask(
        again,
        &set_watches(WatchPaths {
            relative_zxid,
            data: vec!["/x".to_owned()],
            ..WatchPaths::default()
        }),
    );
    sim.ask(again, &set("/x", "1"));
    sim.run();
    assert_eq!(sim.seen(again), ["1", "DataChanged /x", "2"]);
}
