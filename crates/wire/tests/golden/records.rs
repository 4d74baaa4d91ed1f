//! Single records: records.hex.

use oxkeeper_types::{
    Acl, AddWatchMode, CreateRequest, CreateTxn, ErrorCode, Id, OpCode, OpResult, Outcome, Permissions,
    ReadRequest, ReconfigRequest, SessionId, Stat, StoredStat, SubRead, Txn, TxnDigest, TxnHeader,
    WatchEventKind, WatchPaths, WatchSelector, WriteRequest, ZnodeKind, Zxid,
};
use oxkeeper_wire::*;

use crate::{Golden, encoded};

const RECORDS: &str = include_str!("records.hex");

fn stat() -> Stat {
    Stat {
        czxid: Zxid(1),
        mzxid: Zxid(2),
        ctime: 3,
        mtime: 4,
        version: 5,
        cversion: 6,
        aversion: 7,
        ephemeral_owner: SessionId(8),
        data_length: 9,
        num_children: 10,
        pzxid: Zxid(11),
    }
}

fn acl() -> Vec<Acl> {
    vec![
        Acl::world(Permissions::ALL),
        Acl {
            permissions: Permissions::READ,
            id: Id::new("digest", "user:hash"),
        },
    ]
}

fn data() -> Option<Box<[u8]>> {
    Some(Box::from(*b"data"))
}

fn path() -> String {
    "/a".to_owned()
}

fn create(op: OpCode, path: &str, data: Option<Box<[u8]>>, flags: i32, ttl: i64) -> WriteRequest {
    WriteRequest::Create(CreateRequest {
        op,
        path: path.to_owned(),
        data,
        acl: acl(),
        flags,
        ttl,
    })
}

#[test]
fn every_request_record_of_java_means_the_same_and_encodes_the_same() {
    let golden = Golden::load(RECORDS);
    let check = |name: &str, op: OpCode, expected: Request<'_>| {
        let bytes = golden.bytes(name);
        assert_eq!(decode_request(op, bytes).as_ref(), Ok(&expected), "{name}");
        if !matches!(name, "CreateRequest.nulls" | "AuthPacket.nulls") {
            let mut frame = Vec::new();
            encode_request(&mut frame, 7, &expected);
            assert_eq!(&frame[12..], bytes, "{name}");
            assert_eq!(
                RequestHeader::decode(&frame[4..12]),
                Ok((
                    RequestHeader {
                        xid: 7,
                        op: op.code()
                    },
                    &[][..]
                ))
            );
        }
    };
    let read = |name: &str, op, expected| check(name, op, Request::Read(expected));
    let write = |name: &str, op, expected| check(name, op, Request::Write(expected));

    for op in [OpCode::Create, OpCode::Create2, OpCode::CreateContainer] {
        write("CreateRequest", op, create(op, "/a", data(), 3, -1));
    }
    write(
        "CreateRequest.nulls",
        OpCode::Create,
        WriteRequest::Create(CreateRequest {
            op: OpCode::Create,
            path: path(),
            data: None,
            acl: Vec::new(),
            flags: 0,
            ttl: -1,
        }),
    );
    write(
        "CreateTTLRequest",
        OpCode::CreateTtl,
        create(OpCode::CreateTtl, "/a", data(), 5, 60_000),
    );
    write(
        "DeleteRequest",
        OpCode::Delete,
        WriteRequest::Delete {
            path: path(),
            version: 3,
        },
    );
    write(
        "SetDataRequest",
        OpCode::SetData,
        WriteRequest::SetData {
            path: path(),
            data: data(),
            version: 3,
        },
    );
    write(
        "SetACLRequest",
        OpCode::SetAcl,
        WriteRequest::SetAcl {
            path: path(),
            acl: acl(),
            version: 3,
        },
    );
    write(
        "ReconfigRequest",
        OpCode::Reconfig,
        WriteRequest::Reconfig(ReconfigRequest {
            joining: Some("server.1=a".to_owned()),
            leaving: Some("2".to_owned()),
            new_members: None,
            version: 5,
        }),
    );
    write(
        "MultiOperationRecord",
        OpCode::Multi,
        WriteRequest::Multi(vec![
            create(OpCode::Create, "/a", data(), 3, -1),
            create(OpCode::CreateContainer, "/c", None, 4, -1),
            create(OpCode::CreateTtl, "/t", data(), 5, 60_000),
            WriteRequest::Delete {
                path: path(),
                version: 3,
            },
            WriteRequest::SetData {
                path: path(),
                data: data(),
                version: -1,
            },
            WriteRequest::Check {
                path: path(),
                version: 4,
            },
        ]),
    );
    write(
        "MultiOperationRecord.empty",
        OpCode::Multi,
        WriteRequest::Multi(Vec::new()),
    );

    read(
        "ExistsRequest",
        OpCode::Exists,
        ReadRequest::Exists {
            path: "/a".into(),
            watch: true,
        },
    );
    read(
        "GetDataRequest",
        OpCode::GetData,
        ReadRequest::GetData {
            path: "/a".into(),
            watch: true,
        },
    );
    read(
        "GetACLRequest",
        OpCode::GetAcl,
        ReadRequest::GetAcl { path: "/a".into() },
    );
    read(
        "GetChildrenRequest",
        OpCode::GetChildren,
        ReadRequest::GetChildren {
            path: "/a".into(),
            watch: true,
            with_stat: false,
        },
    );
    read(
        "GetChildren2Request",
        OpCode::GetChildren2,
        ReadRequest::GetChildren {
            path: "/a".into(),
            watch: false,
            with_stat: true,
        },
    );
    read(
        "CheckWatchesRequest",
        OpCode::CheckWatches,
        ReadRequest::CheckWatches {
            path: "/a".into(),
            selector: WatchSelector::PersistentRecursive,
        },
    );
    read(
        "RemoveWatchesRequest",
        OpCode::RemoveWatches,
        ReadRequest::RemoveWatches {
            path: "/a".into(),
            selector: WatchSelector::Any,
        },
    );
    read(
        "SetWatches",
        OpCode::SetWatches,
        ReadRequest::SetWatches(Box::new(WatchPaths {
            relative_zxid: Zxid(9),
            data: vec!["/d".into()],
            exist: vec!["/e".into(), "/f".into()],
            ..WatchPaths::default()
        })),
    );
    read(
        "SetWatches2",
        OpCode::SetWatches2,
        ReadRequest::SetWatches(Box::new(WatchPaths {
            relative_zxid: Zxid(9),
            data: vec!["/d".into()],
            exist: Vec::new(),
            child: vec!["/c".into()],
            persistent: vec!["/p".into()],
            persistent_recursive: vec!["/r".into()],
        })),
    );
    read(
        "GetEphemeralsRequest",
        OpCode::GetEphemerals,
        ReadRequest::GetEphemerals {
            prefix: Some("/a".into()),
        },
    );
    read(
        "GetEphemeralsRequest.null",
        OpCode::GetEphemerals,
        ReadRequest::GetEphemerals { prefix: None },
    );
    read(
        "GetAllChildrenNumberRequest",
        OpCode::GetAllChildrenNumber,
        ReadRequest::GetAllChildrenNumber { path: "/a".into() },
    );
    read(
        "AddWatchRequest",
        OpCode::AddWatch,
        ReadRequest::AddWatch {
            path: "/a".into(),
            mode: AddWatchMode::PersistentRecursive,
        },
    );
    read(
        "MultiOperationRecord.read",
        OpCode::MultiRead,
        ReadRequest::MultiRead(vec![
            SubRead::GetData("/a".into()),
            SubRead::GetChildren("/b".into()),
        ]),
    );

    check(
        "SyncRequest",
        OpCode::Sync,
        Request::Sync {
            path: Some("/a".into()),
        },
    );
    check("SyncRequest.null", OpCode::Sync, Request::Sync { path: None });
    check(
        "AuthPacket",
        OpCode::Auth,
        Request::Auth {
            scheme: Some("digest".into()),
            data: Some(b"user:password"),
        },
    );
    check(
        "AuthPacket.nulls",
        OpCode::Auth,
        Request::Auth {
            scheme: None,
            data: None,
        },
    );
    check(
        "GetSASLRequest",
        OpCode::Sasl,
        Request::Sasl { token: Some(b"data") },
    );

    let connect = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::new(1, 2),
        timeout_ms: 30_000,
        session: SessionId(0x0123_4567_89ab_cdef),
        password: b"0123456789abcdef".to_vec(),
        read_only: Some(true),
    };
    let bytes = golden.bytes("ConnectRequest");
    assert_eq!(ConnectRequest::decode(bytes).as_ref(), Ok(&connect));
    let mut frame = Vec::new();
    connect.encode(&mut frame);
    assert_eq!(&frame[4..], bytes);
    let new = ConnectRequest::decode(golden.bytes("ConnectRequest.new")).unwrap();
    assert_eq!(
        (new.timeout_ms, new.session, new.password.len()),
        (4000, SessionId::NONE, 0)
    );
    let header = RequestHeader::decode(golden.bytes("RequestHeader"));
    assert_eq!(header, Ok((RequestHeader { xid: 7, op: 4 }, &[][..])));

    golden.assert_seen(|name| {
        ["Request", "Packet", "Watches", "MultiOperation"]
            .iter()
            .any(|word| name.contains(word))
    });
}

#[test]
fn every_response_record_of_java_means_the_same_and_encodes_the_same() {
    let golden = Golden::load(RECORDS);
    let outcome = |name: &str, op: OpCode, expected: Outcome| {
        let bytes = golden.bytes(name);
        assert_eq!(decode_outcome(op, 0, bytes).as_ref(), Ok(&expected), "{name}");
        let mut frame = Vec::new();
        encode_outcome(&mut frame, 7, Zxid(8), &expected);
        assert_eq!(&frame[20..], bytes, "{name}");
    };
    let created = |path: &str, stat| Outcome::Created {
        path: path.to_owned(),
        stat,
    };
    outcome("CreateResponse", OpCode::Create, created("/a", None));
    for op in [OpCode::Create2, OpCode::CreateContainer, OpCode::CreateTtl] {
        outcome("Create2Response", op, created("/a", Some(stat())));
    }
    outcome("SetDataResponse", OpCode::SetData, Outcome::Changed(stat()));
    outcome("SetACLResponse", OpCode::SetAcl, Outcome::Changed(stat()));
    outcome(
        "GetDataResponse",
        OpCode::Reconfig,
        Outcome::Reconfigured {
            config: data(),
            stat: stat(),
        },
    );
    let part = |op, outcome| OpResult::Ok { op, outcome };
    outcome(
        "MultiResponse",
        OpCode::Multi,
        Outcome::Multi(vec![
            part(OpCode::Create, created("/a", None)),
            part(OpCode::Create2, created("/b", Some(stat()))),
            part(OpCode::Delete, Outcome::Done),
            part(OpCode::SetData, Outcome::Changed(stat())),
            part(OpCode::Check, Outcome::Done),
        ]),
    );
    outcome(
        "MultiResponse.failed",
        OpCode::Multi,
        Outcome::Multi(vec![
            OpResult::Error(0),
            OpResult::Error(-110),
            OpResult::Error(-2),
        ]),
    );

    let bytes = golden.bytes("Stat");
    assert_eq!(bytes.len(), STAT_LENGTH);
    assert_eq!(decode_stat(&mut Decoder::new(bytes)), Ok(stat()));
    assert_eq!(encoded(|encoder| encode_stat(encoder, &stat())), bytes);
    assert_eq!(golden.bytes("ExistsResponse"), bytes);

    for (name, data) in [
        ("GetDataResponse", Some(&b"data"[..])),
        ("GetDataResponse.null", None),
    ] {
        let bytes = golden.bytes(name);
        assert_eq!(decode_data_and_stat(&mut Decoder::new(bytes)), Ok((data, stat())));
        assert_eq!(
            encoded(|encoder| encode_data_and_stat(encoder, data, &stat())),
            bytes
        );
    }

    let bytes = golden.bytes("GetACLResponse");
    assert_eq!(decode_acl_and_stat(&mut Decoder::new(bytes)), Ok((acl(), stat())));
    assert_eq!(
        encoded(|encoder| encode_acl_and_stat(encoder, &acl(), &stat())),
        bytes
    );

    let names = ["b", "c"];
    let bytes = golden.bytes("GetChildrenResponse");
    assert_eq!(decode_names(&mut Decoder::new(bytes)).unwrap(), names);
    assert_eq!(
        encoded(|encoder| encode_names(encoder, 2, names.into_iter())),
        bytes
    );
    let bytes = golden.bytes("GetChildren2Response");
    let mut decoder = Decoder::new(bytes);
    assert_eq!(decode_names(&mut decoder).unwrap(), names);
    assert_eq!(decode_stat(&mut decoder), Ok(stat()));
    let ours = encoded(|encoder| {
        encode_names(encoder, 2, names.into_iter());
        encode_stat(encoder, &stat());
    });
    assert_eq!(ours, bytes);
    let paths = ["/a/b", "/c"];
    let bytes = golden.bytes("GetEphemeralsResponse");
    assert_eq!(decode_names(&mut Decoder::new(bytes)).unwrap(), paths);
    assert_eq!(
        encoded(|encoder| encode_names(encoder, 2, paths.into_iter())),
        bytes
    );

    let infos = [("ip", "127.0.0.1"), ("digest", "user")];
    let bytes = golden.bytes("WhoAmIResponse");
    let decoded = decode_client_infos(&mut Decoder::new(bytes)).unwrap();
    assert_eq!(
        decoded,
        infos.map(|(scheme, user)| (scheme.to_owned(), user.to_owned()))
    );
    assert_eq!(
        encoded(|encoder| encode_client_infos(encoder, 2, infos.into_iter())),
        bytes
    );

    let bytes = golden.bytes("MultiResponse.read");
    let results = vec![
        MultiReadResult::Data {
            data: Some(b"data".to_vec()),
            stat: stat(),
        },
        MultiReadResult::Children(vec!["b".into(), "c".into()]),
        MultiReadResult::Error(-101),
    ];
    assert_eq!(decode_multi_read(bytes), Ok(results));
    let ours = encoded(|encoder| {
        encode_multi_data(encoder, Some(b"data"), &stat());
        encode_multi_names(encoder, 2, names.into_iter());
        encode_multi_error(encoder, ErrorCode::NoNode.code());
        encode_multi_end(encoder);
    });
    assert_eq!(ours, bytes);

    assert_eq!(
        golden.bytes("SyncResponse"),
        encoded(|encoder| encoder.string("/a"))
    );
    assert_eq!(
        golden.bytes("SetSASLResponse"),
        encoded(|encoder| encoder.buffer(Some(b"data")))
    );
    assert_eq!(
        golden.bytes("GetAllChildrenNumberResponse"),
        encoded(|encoder| encoder.int(42))
    );
    assert_eq!(golden.bytes("ErrorResponse"), encoded(|encoder| encoder.int(0)));

    let bytes = golden.bytes("WatcherEvent");
    assert_eq!(
        decode_watch_event(bytes),
        Ok((WatchEventKind::ChildrenChanged, path()))
    );
    let mut frame = Vec::new();
    watch_event(&mut frame, Zxid(9), WatchEventKind::ChildrenChanged, "/a");
    assert_eq!(&frame[20..], bytes);

    let header = ReplyHeader {
        xid: 7,
        zxid: Zxid::new(1, 2),
        err: -101,
    };
    let bytes = golden.bytes("ReplyHeader");
    assert_eq!(ReplyHeader::decode(bytes), Ok((header, &[][..])));
    let mut frame = Vec::new();
    reply_header(&mut frame, header.xid, header.zxid, header.err);
    assert_eq!(&frame[4..], bytes);

    let responses = [
        (
            "ConnectResponse",
            ConnectResponse {
                timeout_ms: 30_000,
                session: SessionId(0x0123_4567_89ab_cdef),
                password: *b"0123456789abcdef",
                read_only: Some(true),
            },
        ),
        ("ConnectResponse.invalid", ConnectResponse::invalid(Some(false))),
    ];
    for (name, response) in responses {
        let bytes = golden.bytes(name);
        assert_eq!(ConnectResponse::decode(bytes), Ok(response));
        let mut frame = Vec::new();
        response.encode(&mut frame);
        assert_eq!(&frame[4..], bytes);
    }

    golden.assert_seen(|name| name.contains("Response"));
}

fn txn_header() -> TxnHeader {
    TxnHeader {
        session: SessionId(0x0123_4567_89ab_cdef),
        cxid: 7,
        zxid: Zxid::new(1, 2),
        time: 1_700_000_000_000,
    }
}

#[test]
fn every_txn_and_file_record_of_java_means_the_same_and_encodes_the_same() {
    let golden = Golden::load(RECORDS);
    let digest = TxnDigest {
        version: 2,
        tree_digest: 0x51c6_d660,
    };
    let check_with = |name: &str, expected: Txn, digest: Option<TxnDigest>| {
        let bytes = golden.bytes(name);
        let header = txn_header();
        assert_eq!(
            decode_txn_entry(bytes),
            Ok((header, expected.clone(), digest)),
            "{name}"
        );
        assert_eq!(
            decode_txn_header(bytes),
            Ok((header, txn_op(&expected).code())),
            "{name}"
        );
        if name != "CreateTxnV0" {
            let mut ours = Vec::new();
            encode_txn_entry(&mut ours, &header, &expected, digest.as_ref());
            assert_eq!(ours, bytes, "{name}");
        }
    };
    let check = |name: &str, expected: Txn| check_with(name, expected, Some(digest));
    let create = |path: &str, data, acl, kind, parent_cversion, with_stat| {
        Txn::Create(CreateTxn {
            path: path.to_owned(),
            data,
            acl,
            kind,
            parent_cversion,
            with_stat,
        })
    };

    check(
        "CreateTxn",
        create("/a", data(), acl(), ZnodeKind::Ephemeral, 4, false),
    );
    check(
        "CreateTxn.2",
        create("/a", None, Vec::new(), ZnodeKind::Persistent, 4, true),
    );
    check_with(
        "CreateTxnV0",
        create("/a", data(), acl(), ZnodeKind::Ephemeral, -1, false),
        None,
    );
    check(
        "CreateTTLTxn",
        create("/a", data(), acl(), ZnodeKind::Ttl(60_000), 4, true),
    );
    check(
        "CreateContainerTxn",
        create("/a", data(), acl(), ZnodeKind::Container, 4, true),
    );
    let delete = |by_server| Txn::Delete {
        path: path(),
        by_server,
    };
    check("DeleteTxn", delete(false));
    check("DeleteTxn.container", delete(true));
    check(
        "SetDataTxn",
        Txn::SetData {
            path: path(),
            data: data(),
            version: 3,
        },
    );
    check(
        "SetDataTxn.reconfig",
        Txn::Reconfig {
            path: "/zookeeper/config".into(),
            data: data(),
            version: -1,
        },
    );
    check(
        "SetACLTxn",
        Txn::SetAcl {
            path: path(),
            acl: acl(),
            version: 3,
        },
    );
    check_with(
        "CheckVersionTxn",
        Txn::Check {
            path: path(),
            version: 3,
        },
        None,
    );
    check("CreateSessionTxn", Txn::CreateSession { timeout_ms: 30_000 });
    let close = |ephemerals| Txn::CloseSession { ephemerals };
    check("CloseSessionTxn", close(Some(vec!["/a".into(), "/b".into()])));
    check("CloseSessionTxn.empty", close(Some(Vec::new())));
    check("CloseSessionTxn.none", close(None));
    check_with("ErrorTxn", Txn::error(ErrorCode::NoNode), None);
    check(
        "MultiTxn",
        Txn::Multi(vec![
            create("/a", data(), acl(), ZnodeKind::Persistent, 4, false),
            create("/b", data(), acl(), ZnodeKind::Ephemeral, 5, true),
            create("/c", None, acl(), ZnodeKind::Container, 6, true),
            create("/d", data(), acl(), ZnodeKind::Ttl(1), 7, true),
            delete(false),
            Txn::SetData {
                path: "/b".into(),
                data: None,
                version: 1,
            },
            Txn::Check {
                path: "/b".into(),
                version: 2,
            },
        ]),
    );
    let failed = Txn::Multi(vec![
        delete(false),
        Txn::error(ErrorCode::NoNode),
        Txn::error(ErrorCode::RuntimeInconsistency),
    ]);
    assert!(failed.is_failed_multi());
    check("MultiTxn.failed", failed);

    for (name, header) in [
        ("FileHeader.log", FileHeader::LOG),
        ("FileHeader.snapshot", FileHeader::SNAPSHOT),
    ] {
        let bytes = golden.bytes(name);
        assert_eq!(FileHeader::decode(&mut Decoder::new(bytes)), Ok(header));
        assert_eq!(encoded(|encoder| header.encode(encoder)), bytes);
        assert_eq!(bytes.len(), FILE_HEADER_LENGTH);
    }
    let stored = StoredStat {
        czxid: Zxid(1),
        mzxid: Zxid(2),
        ctime: 3,
        mtime: 4,
        version: 5,
        cversion: 6,
        aversion: 7,
        ephemeral_owner: i64::MIN,
        pzxid: Zxid(9),
    };
    let bytes = golden.bytes("StatPersisted");
    assert_eq!(decode_stored_stat(&mut Decoder::new(bytes)), Ok(stored));
    assert_eq!(encoded(|encoder| encode_stored_stat(encoder, &stored)), bytes);

    golden.assert_seen(|name| {
        ["Txn", "FileHeader", "StatPersisted"]
            .iter()
            .any(|word| name.contains(word))
    });
}
