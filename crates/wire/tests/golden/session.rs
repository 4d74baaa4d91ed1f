//! Frames of a Java client and a Java server: session.hex.

use std::collections::BTreeSet;

use oxkeeper_types::{ErrorCode, OpCode, OpResult, Outcome, WatchEventKind, WriteRequest, Zxid};
use oxkeeper_wire::*;

use crate::Golden;

const SESSION: &str = include_str!("session.hex");

fn body_of(frame: &[u8]) -> &[u8] {
    let range = next_frame(frame, REQUEST_LENGTH_MAX_DEFAULT)
        .expect("a possible length")
        .expect("a whole frame");
    assert_eq!(range, 4..frame.len());
    for cut in 0..frame.len() {
        assert_eq!(next_frame(&frame[..cut], REQUEST_LENGTH_MAX_DEFAULT), Ok(None));
    }
    &frame[range]
}

fn request_of(frame: &[u8]) -> (RequestHeader, OpCode, Result<Request<'_>, DecodeError>) {
    let (header, body) = RequestHeader::decode(body_of(frame)).expect("a header");
    let op = OpCode::from_code(header.op).expect("an operation of ours");
    (header, op, decode_request(op, body))
}

#[test]
fn requests_of_a_java_client_decode_and_encode_to_the_same_bytes() {
    let golden = Golden::load(SESSION);
    let mut ops = BTreeSet::new();
    for name in &golden.names {
        if !name.contains(".request") || name.starts_with("odd") {
            continue;
        }
        let frame = golden.bytes(name);
        let mut ours = Vec::new();
        if name.contains(".connect.") {
            let connect = ConnectRequest::decode(body_of(frame)).unwrap();
            assert_eq!(connect.read_only.is_none(), name.starts_with("old."), "{name}");
            connect.encode(&mut ours);
        } else {
            let (header, op, request) = request_of(frame);
            ops.insert(op.code());
            encode_request(
                &mut ours,
                header.xid,
                &request.unwrap_or_else(|error| panic!("{name}: {error}")),
            );
        }
        assert_eq!(ours, frame, "{name}");
    }
    let expected = [
        -11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 14, 15, 16, 17, 18, 19, 21, 22, 100, 101, 103, 104, 105, 106,
        107,
    ];
    assert_eq!(ops.into_iter().collect::<Vec<_>>(), expected);
}

/// Encodes again what a reply to `op` says.
fn reencoded_reply(op: OpCode, header: ReplyHeader, body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    let decoder = &mut Decoder::new(body);
    let ReplyHeader { xid, zxid, err } = header;
    if err != 0 {
        reply_header(&mut out, xid, zxid, err);
        return Ok(out);
    }
    match op {
        OpCode::Exists => {
            let stat = decode_stat(decoder)?;
            reply(&mut out, xid, zxid, |encoder| encode_stat(encoder, &stat));
        }
        OpCode::GetData => {
            let (data, stat) = decode_data_and_stat(decoder)?;
            reply(&mut out, xid, zxid, |encoder| {
                encode_data_and_stat(encoder, data, &stat)
            });
        }
        OpCode::GetAcl => {
            let (acl, stat) = decode_acl_and_stat(decoder)?;
            reply(&mut out, xid, zxid, |encoder| {
                encode_acl_and_stat(encoder, &acl, &stat)
            });
        }
        OpCode::GetChildren | OpCode::GetEphemerals | OpCode::GetChildren2 => {
            let names = decode_names(decoder)?;
            let stat = (op == OpCode::GetChildren2)
                .then(|| decode_stat(decoder))
                .transpose()?;
            reply(&mut out, xid, zxid, |encoder| {
                encode_names(encoder, names.len(), names.iter().map(String::as_str));
                if let Some(stat) = stat {
                    encode_stat(encoder, &stat);
                }
            });
        }
        OpCode::GetAllChildrenNumber | OpCode::AddWatch => {
            let number = decoder.int()?;
            reply(&mut out, xid, zxid, |encoder| encoder.int(number));
        }
        OpCode::Sync => {
            let path = decoder.string()?;
            reply(&mut out, xid, zxid, |encoder| {
                encoder.buffer(path.as_deref().map(str::as_bytes))
            });
        }
        OpCode::WhoAmI => {
            let infos = decode_client_infos(decoder)?;
            reply(&mut out, xid, zxid, |encoder| {
                encode_client_infos(
                    encoder,
                    infos.len(),
                    infos.iter().map(|(s, u)| (s.as_str(), u.as_str())),
                );
            });
        }
        OpCode::MultiRead => {
            let results = decode_multi_read(body)?;
            reply(&mut out, xid, zxid, |encoder| {
                for result in &results {
                    match result {
                        MultiReadResult::Data { data, stat } => {
                            encode_multi_data(encoder, data.as_deref(), stat)
                        }
                        MultiReadResult::Children(names) => {
                            encode_multi_names(encoder, names.len(), names.iter().map(String::as_str));
                        }
                        MultiReadResult::Error(code) => encode_multi_error(encoder, *code),
                    }
                }
                encode_multi_end(encoder);
            });
        }
        OpCode::Ping
        | OpCode::Auth
        | OpCode::SetWatches
        | OpCode::SetWatches2
        | OpCode::CheckWatches
        | OpCode::RemoveWatches => reply_header(&mut out, xid, zxid, 0),
        _ => encode_outcome(&mut out, xid, zxid, &decode_outcome(op, err, body)?),
    }
    Ok(out)
}

#[test]
fn replies_and_events_of_a_java_server_decode_and_encode_to_the_same_bytes() {
    let golden = Golden::load(SESSION);
    let mut events = Vec::new();
    for name in &golden.names {
        let frame = golden.bytes(name);
        if name.contains(".connect.reply") {
            let response = ConnectResponse::decode(body_of(frame)).unwrap();
            assert_eq!(response.read_only.is_none(), name.starts_with("old."), "{name}");
            let mut ours = Vec::new();
            response.encode(&mut ours);
            assert_eq!(ours, frame, "{name}");
        } else if name.contains(".reply") {
            // Java sends U+1F600 as two halves; see the test on malformed UTF-8.
            if name.contains("not-utf8") {
                continue;
            }
            let (request, op, decoded) = request_of(golden.bytes(&name.replace("reply", "request")));
            let (header, body) = ReplyHeader::decode(body_of(frame)).unwrap();
            assert_eq!(header.xid, request.xid, "{name}");
            let ours = match decoded {
                Err(error) => {
                    let mut ours = Vec::new();
                    reply_undecodable(&mut ours, header.xid, header.zxid, &error);
                    ours
                }
                Ok(_) => reencoded_reply(op, header, body).unwrap_or_else(|error| panic!("{name}: {error}")),
            };
            assert_eq!(ours, frame, "{name}");
        } else if name.contains(".event") {
            let (header, body) = ReplyHeader::decode(body_of(frame)).unwrap();
            let (kind, path) = decode_watch_event(body).unwrap();
            let mut ours = Vec::new();
            watch_event(&mut ours, header.zxid, kind, &path);
            assert_eq!(ours, frame, "{name}");
            events.push((kind, path));
        }
    }
    assert_eq!(events[0], (WatchEventKind::DataChanged, "/a".to_owned()));
    assert!(events.contains(&(WatchEventKind::ChildrenChanged, "/a".to_owned())));
}

#[test]
fn replies_of_a_java_server_say_what_happened() {
    let golden = Golden::load(SESSION);
    let outcome = |name: &str| {
        let (_, op, _) = request_of(golden.bytes(&format!("{name}.request")));
        let (header, body) = ReplyHeader::decode(body_of(golden.bytes(&format!("{name}.reply")))).unwrap();
        decode_outcome(op, header.err, body).unwrap()
    };
    assert_eq!(
        outcome("create"),
        Outcome::Created {
            path: "/a".to_owned(),
            stat: None
        }
    );
    assert_eq!(outcome("create-exists"), Outcome::Failed(ErrorCode::NodeExists));
    let Outcome::Created {
        path,
        stat: Some(stat),
    } = outcome("create2")
    else {
        panic!("no Stat");
    };
    assert_eq!(
        (&*path, stat.data_length, stat.czxid, stat.version),
        ("/a/e", 4, stat.pzxid, 0)
    );
    let session = ConnectResponse::decode(body_of(golden.bytes("connect.connect.reply")))
        .unwrap()
        .session;
    assert_eq!(stat.ephemeral_owner, session);
    assert!(stat.ctime > 1_700_000_000_000 && stat.mtime == stat.ctime);
    let Outcome::Changed(stat) = outcome("setData") else {
        panic!("no Stat")
    };
    assert_eq!(
        (stat.version, stat.cversion, stat.num_children, stat.data_length),
        (1, 2, 2, 3)
    );
    assert!(stat.mzxid > stat.czxid && stat.pzxid > stat.czxid);
    assert_eq!(outcome("setData-version"), Outcome::Failed(ErrorCode::BadVersion));
    assert_eq!(outcome("delete-not-empty"), Outcome::Failed(ErrorCode::NotEmpty));
    assert_eq!(outcome("reconfig"), Outcome::Failed(ErrorCode::ReconfigDisabled));
    assert_eq!(
        outcome("multi-failed"),
        Outcome::Multi(vec![
            OpResult::Error(0),
            OpResult::Error(-101),
            OpResult::Error(-2)
        ])
    );
    let Outcome::Multi(results) = outcome("multi") else {
        panic!("no results")
    };
    let ops: Vec<OpCode> = results
        .iter()
        .map(|result| match result {
            OpResult::Ok { op, .. } => *op,
            OpResult::Error(code) => panic!("{code}"),
        })
        .collect();
    use OpCode::*;
    assert_eq!(ops, [Create, Create2, SetData, Check, Delete]);
}

/// What Java says to odd requests tells what it made of them: an undecodable one takes no zxid of its own, an
/// invalid one takes the next.
#[test]
fn odd_requests_are_taken_as_java_takes_them() {
    let golden = Golden::load(SESSION);
    let mut last_zxid = Zxid::ZERO;
    let mut count = 0;
    for name in &golden.names {
        if !name.starts_with("odd.") || !name.ends_with(".request") || name.contains("connect") {
            continue;
        }
        let (_, op, request) = request_of(golden.bytes(name));
        let reply = golden.lines.get(&name.replace("request", "reply"));
        // The reply of a ping has the name of pings.
        let Some(reply) = reply else {
            assert_eq!(request, Ok(Request::Ping), "{name}");
            continue;
        };
        count += 1;
        let (reply, _) = ReplyHeader::decode(body_of(reply)).unwrap();
        let zxids = reply.zxid.0 - last_zxid.0;
        match request {
            Err(_) => assert_eq!(
                (reply.err, zxids),
                (ErrorCode::MarshallingError.code(), 0),
                "{name}"
            ),
            Ok(Request::Write(WriteRequest::Invalid(error))) => {
                assert_eq!((reply.err, zxids), (error.code(), 1), "{name}");
            }
            Ok(Request::Write(_) | Request::CloseSession) => {
                assert_ne!(reply.err, ErrorCode::MarshallingError.code(), "{name}");
                assert_eq!(zxids, 1, "{name}");
            }
            Ok(_) => {
                assert_ne!(reply.err, ErrorCode::MarshallingError.code(), "{name}");
                assert_eq!(zxids, if count == 1 { zxids } else { 0 }, "{name}");
            }
        }
        // What a create in a multi turned into shows in the type of its result.
        if let (OpCode::Multi, Ok(Request::Write(WriteRequest::Multi(parts)))) =
            (op, request_of(golden.bytes(name)).2)
            && let [WriteRequest::Create(create)] = &parts[..]
        {
            let (header, body) =
                ReplyHeader::decode(body_of(&golden.lines[&name.replace("request", "reply")])).unwrap();
            let Ok(Outcome::Multi(results)) = decode_outcome(OpCode::Multi, header.err, body) else {
                panic!("{name}");
            };
            let expected = match create.op {
                OpCode::Create => OpCode::Create,
                _ => OpCode::Create2,
            };
            if let OpResult::Ok { op, .. } = &results[0] {
                assert_eq!(*op, expected, "{name}");
            }
        }
        last_zxid = reply.zxid;
    }
    assert!(count > 50, "only {count} odd requests");
}

#[test]
fn malformed_utf8_is_read_as_java_reads_it() {
    let golden = Golden::load(SESSION);
    let (_, _, request) = request_of(golden.bytes("odd.create-not-utf8.request"));
    let Ok(Request::Write(WriteRequest::Create(create))) = request else {
        panic!("{request:?}");
    };
    let (_, body) = ReplyHeader::decode(body_of(golden.bytes("odd.getACL-not-utf8.reply"))).unwrap();
    // Java writes U+1F600 as two halves, which read as two U+FFFD; we kept it whole.
    let (acl, _) = decode_acl_and_stat(&mut Decoder::new(body)).unwrap();
    let ours = create.acl[1].id.id.replace('\u{1f600}', "\u{fffd}\u{fffd}");
    assert_eq!(&*acl[1].id.id, ours);
}
