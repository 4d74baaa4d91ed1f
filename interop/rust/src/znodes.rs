//! What one request does.

use futures::future::{join_all, try_join_all};
use std::time::Duration;
use zookeeper_client::{
    Acl, Acls, AuthId, AuthUser, CheckWriteError, CreateMode, EnsembleUpdate, Error, MultiReadResult,
    MultiWriteError, MultiWriteResult, Permission, SessionState,
};

use crate::harness::*;

/// jute.maxbuffer's default: the longest frame, its own length field not counted.
const FRAME_LIMIT: usize = 0xfffff;
/// What `user:password` becomes as a digest.
const USER: &str = "user:tpUq/4Pn5A64fVZyQ0gOJ8ZWqkY=";

fn anyone(mode: CreateMode) -> zookeeper_client::CreateOptions<'static> {
    mode.with_acls(Acls::anyone_all())
}

pub async fn create_modes(context: Context) {
    let zk = context.begin().await;
    let root = &context.root;
    let (stat, sequence) = zk
        .client
        .create(&format!("{root}/p"), b"data", PERSISTENT)
        .await
        .unwrap();
    assert_eq!(
        sequence.into_i64(),
        -1,
        "a persistent znode has no sequence number"
    );
    assert_eq!((stat.version, stat.cversion, stat.aversion), (0, 0, 0));
    assert_eq!(
        (stat.data_length, stat.num_children, stat.ephemeral_owner),
        (4, 0, 0)
    );
    assert_eq!(
        (stat.mzxid, stat.pzxid, stat.mtime),
        (stat.czxid, stat.czxid, stat.ctime)
    );
    assert_eq!(
        zk.get_data(&format!("{root}/p")).await.unwrap(),
        (b"data".to_vec(), stat)
    );
    let (stat, _) = zk
        .client
        .create(&format!("{root}/e"), b"", EPHEMERAL)
        .await
        .unwrap();
    assert_eq!(
        stat.ephemeral_owner,
        zk.session_id().0,
        "the session owns its ephemeral"
    );
    let child = zk
        .client
        .create(&format!("{root}/e/child"), b"", PERSISTENT)
        .await;
    assert_eq!(child.unwrap_err(), Error::NoChildrenForEphemerals);
    let (_, sequence) = zk
        .client
        .create(&format!("{root}/s-"), b"", SEQUENTIAL)
        .await
        .unwrap();
    assert_eq!(
        sequence.to_string(),
        "0000000002",
        "the number counts every create"
    );
    let ephemeral = anyone(CreateMode::EphemeralSequential);
    let (stat, sequence) = zk
        .client
        .create(&format!("{root}/"), b"", &ephemeral)
        .await
        .unwrap();
    assert_eq!(
        (sequence.into_i64(), stat.ephemeral_owner),
        (3, zk.session_id().0)
    );
    let (stat, _) = zk
        .client
        .create(&format!("{root}/c"), b"", &anyone(CreateMode::Container))
        .await
        .unwrap();
    assert_eq!(stat.ephemeral_owner, 0, "a container shows no owner");
    let hour = anyone(CreateMode::PersistentSequential).with_ttl(Duration::from_secs(3600));
    let (stat, sequence) = zk.client.create(&format!("{root}/t-"), b"", &hour).await.unwrap();
    assert_eq!(
        (sequence.into_i64(), stat.ephemeral_owner),
        (5, 0),
        "a TTL znode shows no owner"
    );
    assert_eq!(
        zk.names(root).await,
        ["0000000003", "c", "e", "p", "s-0000000002", "t-0000000005"]
    );
    zk.mkdir(&format!("{root}/a/b/c"), PERSISTENT).await.unwrap();
    assert!(zk.exists(&format!("{root}/a/b/c")).await);
}

pub async fn containers_and_ttl_znodes_are_deleted_by_the_server(context: Context) {
    let zk = context.begin().await;
    let root = &context.root;
    let container = anyone(CreateMode::Container);
    for name in ["used", "never-used"] {
        zk.client
            .create(&format!("{root}/{name}"), b"", &container)
            .await
            .unwrap();
    }
    let short = anyone(CreateMode::Persistent).with_ttl(Duration::from_millis(1000));
    zk.client
        .create(&format!("{root}/with-child"), b"", &short)
        .await
        .unwrap();
    zk.create(&format!("{root}/with-child/child"), "").await;
    zk.create(&format!("{root}/used/child"), "").await;
    zk.client
        .create(&format!("{root}/ttl"), b"", &short)
        .await
        .unwrap();
    zk.delete(&format!("{root}/used/child"), None).await.unwrap();
    eventually(
        "the emptied container and the old childless TTL znode go",
        || async { zk.names(root).await == ["never-used", "with-child"] },
    )
    .await;
    zk.delete(&format!("{root}/with-child/child"), None)
        .await
        .unwrap();
    eventually("the old TTL znode goes with its last child", || async {
        zk.names(root).await == ["never-used"]
    })
    .await;
}

pub async fn versions_stats_and_errors(context: Context) {
    let zk = context.begin().await;
    let root = &context.root;
    let (x, none) = (&format!("{root}/x"), &format!("{root}/none"));
    zk.create(x, "0").await;
    zk.create(&format!("{x}/child"), "").await;
    let stat = zk.set_data(x, b"one", Some(0)).await.unwrap();
    assert_eq!((stat.version, stat.data_length), (1, 3));
    assert!(
        stat.mzxid > stat.pzxid && stat.pzxid > stat.czxid,
        "a child moves pzxid, data moves mzxid"
    );
    assert_eq!(zk.set_data(x, b"", Some(0)).await.unwrap_err(), Error::BadVersion);
    assert_eq!(
        zk.set_data(x, b"", Some(-2)).await.unwrap_err(),
        Error::BadVersion,
        "-2 is no wildcard"
    );
    assert_eq!(
        zk.delete(&format!("{x}/child"), Some(4)).await.unwrap_err(),
        Error::BadVersion
    );
    assert_eq!(zk.delete(x, None).await.unwrap_err(), Error::NotEmpty);
    assert_eq!(zk.delete(none, None).await.unwrap_err(), Error::NoNode);
    assert_eq!(zk.set_data(none, b"", None).await.unwrap_err(), Error::NoNode);
    assert_eq!(zk.get_data(none).await.unwrap_err(), Error::NoNode);
    assert_eq!(zk.get_children(none).await.unwrap_err(), Error::NoNode);
    assert_eq!(zk.get_acl(none).await.unwrap_err(), Error::NoNode);
    assert_eq!(zk.check_stat(none).await.unwrap(), None);
    assert_eq!(
        zk.client.create(x, b"", PERSISTENT).await.unwrap_err(),
        Error::NodeExists
    );
    assert_eq!(
        zk.client
            .create(&format!("{none}/x"), b"", PERSISTENT)
            .await
            .unwrap_err(),
        Error::NoNode
    );
    let emoji = zk
        .client
        .create(&format!("{root}/\u{1f600}"), b"", PERSISTENT)
        .await
        .unwrap_err();
    assert!(
        matches!(emoji, Error::BadArguments(_) | Error::UnexpectedErrorCode(-8)),
        "an emoji in a path: {emoji}"
    );
    let (names, stat) = zk.get_children(x).await.unwrap();
    assert_eq!(
        (names, stat.num_children, stat.cversion, stat.version),
        (vec!["child".into()], 1, 1, 1)
    );
    zk.sync(root).await.unwrap();
}

pub async fn unicode_names(context: Context) {
    let zk = context.begin().await;
    let mut names = vec![
        "ñandú".to_owned(),
        "日本語".to_owned(),
        "a b".to_owned(),
        "...".to_owned(),
        "x".repeat(1000),
    ];
    names.sort();
    for name in &names {
        zk.create(&format!("{}/{name}", context.root), name).await;
    }
    assert_eq!(zk.names(&context.root).await, names);
    for name in &names {
        assert_eq!(zk.text(&format!("{}/{name}", context.root)).await, *name);
    }
}

pub async fn large_data_up_to_the_limit_and_refusal_beyond_it(context: Context) {
    let zk = context.begin().await;
    let path = &format!("{}/large", context.root);
    let size = FRAME_LIMIT - (8 + 4 + path.len() + 4 + (4 + 4 + 4 + 5 + 4 + 6) + 4);
    zk.client
        .create(path, &vec![b'd'; size], PERSISTENT)
        .await
        .expect("the longest frame is taken");
    assert_eq!(
        zk.get_data(path).await.unwrap().0,
        vec![b'd'; size],
        "and read back"
    );
    zk.delete(path, None).await.unwrap();
    let ephemeral = &format!("{}/e", context.root);
    zk.client.create(ephemeral, b"", EPHEMERAL).await.unwrap();
    let refused = zk.client.create(path, &vec![b'd'; size + 1], PERSISTENT).await;
    assert!(refused.is_err(), "a frame of one byte more closes the connection");
    zk.enters(SessionState::SyncConnected).await;
    let stat = zk
        .check_stat(ephemeral)
        .await
        .unwrap()
        .expect("the ephemeral outlives it");
    assert_eq!(stat.ephemeral_owner, zk.session_id().0, "the session outlives it");
    assert!(!zk.exists(path).await, "nothing was created");
}

pub async fn pipelined_requests_are_answered_in_order(context: Context) {
    let zk = context.begin().await;
    let root = &context.root;
    zk.create(&format!("{root}/x"), "").await;
    // The crate sends a request when its future is made; all are made before the first is awaited.
    let x = format!("{root}/x");
    let none = format!("{root}/none");
    let sequential = format!("{root}/s-");
    let (mut sets, mut gets, mut deletes, mut creates) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for turn in 0..1000 {
        sets.push(zk.set_data(&x, turn.to_string().as_bytes(), Some(turn)));
        gets.push(zk.get_data(&x));
        deletes.push(zk.delete(&none, None));
        creates.push(zk.client.create(&sequential, b"", SEQUENTIAL));
    }
    let (sets, gets, deletes, creates) = within("pipelined requests", async {
        (
            join_all(sets).await,
            join_all(gets).await,
            join_all(deletes).await,
            join_all(creates).await,
        )
    })
    .await;
    for turn in 0..1000_usize {
        assert_eq!(
            sets[turn].as_ref().unwrap().version,
            i32::try_from(turn).unwrap() + 1
        );
        assert_eq!(
            gets[turn].as_ref().unwrap().0,
            turn.to_string().into_bytes(),
            "a read sees the write before it"
        );
        assert_eq!(deletes[turn], Err(Error::NoNode));
        assert_eq!(
            creates[turn].as_ref().unwrap().1.into_i64(),
            i64::try_from(turn).unwrap() + 1
        );
    }
    let xids = |frames: Vec<Vec<u8>>| -> Vec<i32> {
        frames
            .iter()
            .skip(1)
            .map(|frame| int(frame, 0))
            .filter(|xid| *xid >= 0)
            .collect()
    };
    assert_eq!(
        xids(zk.proxy.received()),
        xids(zk.proxy.sent()),
        "the replies' order is the requests'"
    );
}

pub async fn racing_clients(context: Context) {
    let zk = context.begin().await;
    let (count, one) = (format!("{}/count", context.root), format!("{}/one", context.root));
    zk.create(&count, "0").await;
    let clients = join_all((0..6).map(|_| connect(15_000))).await;
    try_join_all(clients.iter().map(|client| async {
        for _ in 0..25 {
            loop {
                let (data, stat) = client.get_data(&count).await?;
                let next = String::from_utf8(data).unwrap().parse::<u32>().unwrap() + 1;
                match client
                    .set_data(&count, next.to_string().as_bytes(), Some(stat.version))
                    .await
                {
                    Ok(_) => break,
                    Err(Error::BadVersion) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }))
    .await
    .unwrap();
    assert_eq!(zk.text(&count).await, "150", "no update was lost");
    let made = join_all(
        clients
            .iter()
            .map(|client| client.client.create(&one, b"", EPHEMERAL)),
    )
    .await;
    let winners: Vec<_> = made.iter().filter_map(|made| made.as_ref().ok()).collect();
    assert_eq!(winners.len(), 1, "one of six creates of one path succeeds");
    assert_eq!(zk.check_stat(&one).await.unwrap().unwrap(), winners[0].0);
}

pub async fn descendants_are_counted_and_ephemerals_listed(context: Context) {
    let zk = context.begin().await;
    let root = &context.root;
    assert_eq!(zk.count_descendants_number(root).await.unwrap(), 0);
    for path in ["/a", "/a/b", "/a/b/c", "/d"] {
        zk.create(&format!("{root}{path}"), "").await;
    }
    assert_eq!(zk.count_descendants_number(root).await.unwrap(), 4);
    assert_eq!(
        zk.count_descendants_number(&format!("{root}/a")).await.unwrap(),
        2
    );
    assert!(
        zk.count_descendants_number("/").await.unwrap() >= 8,
        "the root's number includes /zookeeper"
    );
    assert_eq!(
        zk.count_descendants_number(&format!("{root}/none"))
            .await
            .unwrap_err(),
        Error::NoNode
    );
    let other = connect(15_000).await;
    for path in ["/a/e", "/ab", "/d/e"] {
        zk.client
            .create(&format!("{root}{path}"), b"", EPHEMERAL)
            .await
            .unwrap();
    }
    other
        .client
        .create(&format!("{root}/other"), b"", EPHEMERAL)
        .await
        .unwrap();
    let list = |prefix: String| {
        let zk = &zk;
        async move {
            let mut paths = zk.list_ephemerals(&prefix).await.unwrap();
            paths.sort();
            paths
        }
    };
    let all: Vec<_> = ["/a/e", "/ab", "/d/e"]
        .iter()
        .map(|path| format!("{root}{path}"))
        .collect();
    assert_eq!(
        list("/".into()).await,
        all,
        "all ephemerals of the own session, no others"
    );
    assert_eq!(
        list(format!("{root}/a")).await,
        all[..2],
        "a prefix need not end at a slash"
    );
    assert_eq!(list(format!("{root}/none")).await, Vec::<String>::new());
}

pub async fn multi_writes(context: Context) {
    let zk = context.begin().await;
    let root = &context.root;
    let path = |name: &str| format!("{root}/{name}");
    zk.create(&path("old"), "0").await;
    let mut writer = zk.new_multi_writer();
    writer.add_check_version(&path("old"), 0).unwrap();
    writer.add_create(&path("new"), b"new", PERSISTENT).unwrap();
    writer.add_create(&path("new/child"), b"", EPHEMERAL).unwrap();
    writer.add_create(&path("s-"), b"", SEQUENTIAL).unwrap();
    writer
        .add_create(&path("container"), b"", &anyone(CreateMode::Container))
        .unwrap();
    let hour = anyone(CreateMode::Persistent).with_ttl(Duration::from_secs(3600));
    writer.add_create(&path("ttl"), b"", &hour).unwrap();
    writer.add_set_data(&path("old"), b"one", Some(0)).unwrap();
    writer.add_set_data(&path("old"), b"two", Some(1)).unwrap();
    writer.add_delete(&path("new/child"), Some(0)).unwrap();
    let results = writer.commit().await.unwrap();
    assert_eq!(results.len(), 9);
    let mut zxids = Vec::new();
    for (index, name) in [
        (1, "new"),
        (2, "new/child"),
        (3, "s-0000000002"),
        (4, "container"),
        (5, "ttl"),
    ] {
        let MultiWriteResult::Create { path: made, stat } = &results[index] else {
            panic!("{:?}", results[index])
        };
        assert_eq!(*made, path(name));
        assert_eq!(stat.version, 0, "each create of a multi shows its Stat");
        zxids.push(stat.czxid);
    }
    for (index, version) in [(6, 1), (7, 2)] {
        let MultiWriteResult::SetData { stat } = &results[index] else {
            panic!("{:?}", results[index])
        };
        assert_eq!(stat.version, version);
        zxids.push(stat.mzxid);
    }
    assert!(
        zxids.iter().all(|zxid| *zxid == zxids[0]),
        "the parts share one zxid: {zxids:?}"
    );
    assert_eq!(
        (&results[0], &results[8]),
        (&MultiWriteResult::Check, &MultiWriteResult::Delete)
    );
    assert_eq!(zk.text(&path("old")).await, "two");

    let mut writer = zk.new_multi_writer();
    writer.add_create(&path("gone"), b"", PERSISTENT).unwrap();
    writer.add_create(&path("s-"), b"", SEQUENTIAL).unwrap();
    writer.add_delete(&path("new"), Some(5)).unwrap();
    writer.add_delete(&path("old"), None).unwrap();
    let failure = MultiWriteError::OperationFailed {
        index: 2,
        source: Error::BadVersion,
    };
    assert_eq!(writer.commit().await.unwrap_err(), failure);
    assert!(!zk.exists(&path("gone")).await, "a failed multi leaves nothing");
    let (_, sequence) = zk.client.create(&path("s-"), b"", SEQUENTIAL).await.unwrap();
    assert_eq!(sequence.into_i64(), 5, "and gives its sequence numbers back");

    let mut writer = zk.new_check_writer(&path("old"), Some(1)).unwrap();
    writer.add_create(&path("gone"), b"", PERSISTENT).unwrap();
    assert_eq!(
        writer.commit().await.unwrap_err(),
        CheckWriteError::CheckFailed {
            source: Error::BadVersion
        }
    );
    let mut writer = zk.new_check_writer(&path("old"), None).unwrap();
    writer.add_create(&path("checked"), b"", PERSISTENT).unwrap();
    assert_eq!(writer.commit().await.unwrap().len(), 1);

    let mut writer = zk.new_multi_writer();
    for number in 0..3000 {
        writer
            .add_create(&path(&format!("new/{number}")), &[b'x'; 100], PERSISTENT)
            .unwrap();
    }
    assert_eq!(writer.commit().await.unwrap().len(), 3000);
    assert_eq!(zk.count_descendants_number(&path("new")).await.unwrap(), 3000);
}

pub async fn multi_reads(context: Context) {
    let zk = context.begin().await;
    let root = &context.root;
    zk.create(&format!("{root}/x"), "data").await;
    let closed = &[Acl::new(Permission::ALL, AuthId::new("digest", USER))];
    let options = CreateMode::Persistent.with_acls(Acls::new(closed));
    zk.client
        .create(&format!("{root}/closed"), b"", &options)
        .await
        .unwrap();
    let mut reader = zk.new_multi_reader();
    reader.add_get_data(&format!("{root}/x")).unwrap();
    reader.add_get_data(&format!("{root}/none")).unwrap();
    reader.add_get_children(root).unwrap();
    reader.add_get_data(&format!("{root}/closed")).unwrap();
    reader.add_get_children(&format!("{root}/x")).unwrap();
    let results = reader.commit().await.unwrap();
    assert_eq!(results.len(), 5, "a failing read does not end a multiRead");
    let stat = zk.check_stat(&format!("{root}/x")).await.unwrap().unwrap();
    assert!(
        matches!(&results[0], MultiReadResult::Data { data, stat: shown } if data == b"data" && *shown == stat)
    );
    assert!(
        matches!(&results[1], MultiReadResult::Error { err: Error::NoNode }),
        "{:?}",
        results[1]
    );
    assert!(
        matches!(&results[2], MultiReadResult::Children { children } if children.len() == 2),
        "{:?}",
        results[2]
    );
    assert!(
        matches!(&results[3], MultiReadResult::Error { err: Error::NoAuth }),
        "{:?}",
        results[3]
    );
    assert!(
        matches!(&results[4], MultiReadResult::Children { children } if children.is_empty()),
        "{:?}",
        results[4]
    );
}

pub async fn acls_and_authentication(context: Context) {
    let zk = context.begin().await;
    let root = &context.root;
    let with = |auth: &str| Options {
        timeout_ms: 15_000,
        auth: Some(auth.into()),
        ..Options::default()
    };
    let user = connect_with(with("user:password")).await.unwrap();
    let stranger = connect_with(with("user:wrong")).await.unwrap();
    let d = &format!("{root}/d");
    let closed = &[Acl::new(Permission::ALL, AuthId::new("digest", USER))];
    zk.client
        .create(d, b"x", &CreateMode::Persistent.with_acls(Acls::new(closed)))
        .await
        .unwrap();
    for who in [&zk, &stranger] {
        assert_eq!(who.get_data(d).await.unwrap_err(), Error::NoAuth);
        assert_eq!(who.set_data(d, b"", None).await.unwrap_err(), Error::NoAuth);
        assert_eq!(who.check_stat(d).await.unwrap_err(), Error::NoAuth);
        assert_eq!(
            who.client
                .create(&format!("{d}/x"), b"", PERSISTENT)
                .await
                .unwrap_err(),
            Error::NoAuth
        );
    }
    assert_eq!(user.text(d).await, "x");
    let creator = CreateMode::Persistent.with_acls(Acls::creator_all());
    user.client
        .create(&format!("{root}/a"), b"", &creator)
        .await
        .unwrap();
    assert_eq!(
        user.get_acl(&format!("{root}/a")).await.unwrap().0,
        closed,
        "auth becomes the digest"
    );
    let nobody = zk.client.create(&format!("{root}/b"), b"", &creator).await;
    assert_eq!(
        nobody.unwrap_err(),
        Error::InvalidAcl,
        "auth without any identity"
    );

    let mixed = [closed[0].clone(), Acl::new(Permission::READ, AuthId::anyone())];
    let stat = user.set_acl(root, &mixed, Some(0)).await.unwrap();
    assert_eq!((stat.aversion, stat.version), (1, 0));
    assert_eq!(
        user.set_acl(root, &mixed, Some(0)).await.unwrap_err(),
        Error::BadVersion
    );
    let (shown, _) = zk.get_acl(root).await.unwrap();
    assert_eq!(
        shown[0].id(),
        "user:x",
        "a digest is hidden from those without ADMIN"
    );
    assert_eq!(
        user.get_acl(root).await.unwrap().0,
        mixed,
        "and not from those with it"
    );
    for (id, readable) in [("127.0.0.1", true), ("127.0.0.0/8", true), ("10.0.0.0/8", false)] {
        let acl = &[Acl::new(Permission::ALL, AuthId::new("ip", id))];
        let options = CreateMode::Persistent.with_acls(Acls::new(acl));
        let path = format!("{root}/{}", id.replace('/', "-"));
        user.client.create(&path, b"x", &options).await.unwrap();
        assert_eq!(zk.get_data(&path).await.is_ok(), readable, "ip {id}");
    }
    for (scheme, id) in [("nosuch", "x"), ("world", "x"), ("digest", "x"), ("ip", "x")] {
        let acl = [Acl::new(Permission::ALL, AuthId::new(scheme, id))];
        assert_eq!(
            user.set_acl(root, &acl, None).await.unwrap_err(),
            Error::InvalidAcl,
            "{scheme}:{id}"
        );
    }
    let whoami = |zk: &Zk| {
        let request = zk.list_auth_users();
        async {
            let mut users = request.await.unwrap();
            users.sort_by_key(|user| user.scheme().to_owned());
            users
        }
    };
    let here = AuthUser::new("ip", "127.0.0.1");
    assert_eq!(whoami(&zk).await, std::slice::from_ref(&here));
    assert_eq!(
        whoami(&user).await,
        [AuthUser::new("digest", "user"), here.clone()]
    );
    zk.auth("digest", b"super:secret").await.unwrap();
    assert_eq!(zk.text(d).await, "x", "super passes every ACL");
    assert_eq!(
        whoami(&zk).await.len(),
        3,
        "whoAmI shows address, digest and super"
    );
    assert_eq!(
        stranger.auth("nosuch", b"x").await.unwrap_err(),
        Error::AuthFailed
    );
    stranger.enters(SessionState::AuthFailed).await;
}

pub async fn chroots(context: Context) {
    let zk = context.begin().await;
    let root = &context.root;
    let below = zk.client.clone().chroot(root.as_str()).unwrap();
    let (_, watcher) = below.check_and_watch_stat("/x").await.unwrap();
    below.create("/x", b"data", PERSISTENT).await.unwrap();
    assert_eq!(
        within("creation below the chroot", watcher.changed()).await.path,
        "/x"
    );
    assert_eq!(zk.text(&format!("{root}/x")).await, "data");
    below.create("/e", b"", EPHEMERAL).await.unwrap();
    assert_eq!(below.list_ephemerals("/").await.unwrap(), ["/e"]);
    let mut writer = below.new_multi_writer();
    writer.add_create("/t", b"", PERSISTENT).unwrap();
    let results = writer.commit().await.unwrap();
    assert!(
        matches!(&results[0], MultiWriteResult::Create { path, .. } if path == "/t"),
        "{results:?}"
    );
    assert_eq!(zk.names(root).await, ["e", "t", "x"]);
    assert_eq!(below.count_descendants_number("/").await.unwrap(), 3);
}

pub async fn configuration(context: Context) {
    let zk = context.begin().await;
    let (data, stat) = zk.get_config().await.unwrap();
    assert_eq!(data, b"", "a standalone server's /zookeeper/config is empty");
    assert_eq!((stat.version, stat.aversion, stat.czxid), (0, -1, 0));
    let update = EnsembleUpdate::New {
        ensemble: ["server.1=127.0.0.1:1:2;3"].into_iter(),
    };
    assert_eq!(
        zk.update_ensemble(update, None).await.unwrap_err(),
        Error::ReconfigDisabled
    );
    assert_eq!(
        zk.set_data("/zookeeper/config", b"", None).await.unwrap_err(),
        Error::NoAuth
    );
}
