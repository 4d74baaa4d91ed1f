//! The client's end: requests in few words, and what comes back.

use std::collections::HashMap;

use oxkeeper_types::{
    Acl, AddWatchMode, CreateMode, CreateRequest, Id, OpCode, Outcome, Permissions, ReadRequest, SubRead,
    WatchEventKind, WatchPaths, WatchSelector, WriteRequest, Zxid,
};
use oxkeeper_wire::{
    ConnectResponse, Decoder, ReplyHeader, Request, XID_WATCH_EVENT, decode_data_and_stat, decode_names,
    decode_outcome, decode_watch_event, next_frame,
};

/// What a client receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Connected(ConnectResponse),
    Event {
        zxid: Zxid,
        kind: WatchEventKind,
        path: String,
    },
    Reply {
        xid: i32,
        zxid: Zxid,
        err: i32,
        body: Vec<u8>,
    },
}

/// The frames in `bytes`, which must be whole. The first of a connection is the connect response.
pub fn split_frames(bytes: &[u8], is_greeted: &mut bool) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let range = next_frame(rest, usize::MAX).unwrap().expect("whole frames");
        let body = &rest[range.clone()];
        rest = &rest[range.end..];
        if !std::mem::replace(is_greeted, true) {
            frames.push(Frame::Connected(ConnectResponse::decode(body).unwrap()));
            continue;
        }
        let (ReplyHeader { xid, zxid, err }, body) = ReplyHeader::decode(body).unwrap();
        frames.push(if xid == XID_WATCH_EVENT {
            assert_eq!(err, 0);
            let (kind, path) = decode_watch_event(body).unwrap();
            Frame::Event { zxid, kind, path }
        } else {
            let body = body.to_vec();
            Frame::Reply { xid, zxid, err, body }
        });
    }
    frames
}

/// A frame in few words: `1=/a` a reply, `2:-101` an error, `DataChanged /a` an event.
pub fn brief(frame: &Frame, asked: &HashMap<i32, OpCode>) -> String {
    match frame {
        Frame::Connected(response) => format!("session {} for {}", response.session, response.timeout_ms),
        Frame::Event { kind, path, .. } => format!("{kind:?} {path}"),
        Frame::Reply { xid, err, .. } if *err != 0 => format!("{xid}:{err}"),
        Frame::Reply { xid, body, .. } => match asked.get(xid).map(|op| content(*op, body)) {
            Some(content) if !content.is_empty() => format!("{xid}={content}"),
            _ => format!("{xid}"),
        },
    }
}

fn content(op: OpCode, body: &[u8]) -> String {
    match op {
        OpCode::GetData => {
            let (data, _) = decode_data_and_stat(&mut Decoder::new(body)).unwrap();
            data.map_or("null".to_owned(), |data| {
                String::from_utf8_lossy(data).into_owned()
            })
        }
        OpCode::GetChildren | OpCode::GetEphemerals => {
            let mut names = decode_names(&mut Decoder::new(body)).unwrap();
            names.sort_unstable();
            format!("[{}]", names.join(","))
        }
        OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
            match decode_outcome(op, 0, body).unwrap() {
                Outcome::Created { path, .. } => path,
                other => format!("{other:?}"),
            }
        }
        OpCode::WhoAmI => {
            let mut infos = oxkeeper_wire::decode_client_infos(&mut Decoder::new(body)).unwrap();
            infos.sort_unstable();
            let infos: Vec<String> = infos
                .into_iter()
                .map(|(scheme, user)| format!("{scheme}:{user}"))
                .collect();
            infos.join(",")
        }
        _ => String::new(),
    }
}

pub fn open_acl() -> Vec<Acl> {
    vec![Acl::world(Permissions::ALL)]
}

/// Everything for whoever authenticates by the scheme digest as `u:p`, nothing for others.
pub fn private_acl() -> Vec<Acl> {
    vec![Acl {
        permissions: Permissions::ALL,
        id: Id::new("digest", "u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ="),
    }]
}

/// The request that authenticates as `u:p`.
pub fn auth() -> Request<'static> {
    Request::Auth {
        scheme: Some("digest".into()),
        data: Some(b"u:p"),
    }
}

pub fn create_with(path: &str, mode: CreateMode, acl: Vec<Acl>, data: &str) -> WriteRequest {
    let op = match mode {
        CreateMode::Container => OpCode::CreateContainer,
        mode if mode.has_ttl() => OpCode::CreateTtl,
        _ => OpCode::Create,
    };
    WriteRequest::Create(CreateRequest {
        op,
        path: path.to_owned(),
        data: Some(data.as_bytes().into()),
        acl,
        flags: mode as i32,
        ttl: -1,
    })
}

pub fn create(path: &str) -> Request<'static> {
    Request::Write(create_with(path, CreateMode::Persistent, open_acl(), ""))
}

pub fn ephemeral(path: &str) -> Request<'static> {
    Request::Write(create_with(path, CreateMode::Ephemeral, open_acl(), ""))
}

pub fn delete(path: &str) -> Request<'static> {
    Request::Write(WriteRequest::Delete {
        path: path.to_owned(),
        version: -1,
    })
}

pub fn set(path: &str, data: &str) -> Request<'static> {
    Request::Write(set_data(path, data, -1))
}

pub fn set_data(path: &str, data: &str, version: i32) -> WriteRequest {
    WriteRequest::SetData {
        path: path.to_owned(),
        data: Some(data.as_bytes().into()),
        version,
    }
}

pub fn set_acl(path: &str, acl: Vec<Acl>) -> Request<'static> {
    Request::Write(WriteRequest::SetAcl {
        path: path.to_owned(),
        acl,
        version: -1,
    })
}

pub fn multi(parts: Vec<WriteRequest>) -> Request<'static> {
    Request::Write(WriteRequest::Multi(parts))
}

pub fn get(path: &str) -> Request<'static> {
    Request::Read(ReadRequest::GetData {
        path: path.to_owned().into(),
        watch: false,
    })
}

pub fn get_and_watch(path: &str) -> Request<'static> {
    Request::Read(ReadRequest::GetData {
        path: path.to_owned().into(),
        watch: true,
    })
}

pub fn exists_and_watch(path: &str) -> Request<'static> {
    Request::Read(ReadRequest::Exists {
        path: path.to_owned().into(),
        watch: true,
    })
}

pub fn children(path: &str) -> Request<'static> {
    Request::Read(ReadRequest::GetChildren {
        path: path.to_owned().into(),
        watch: false,
        with_stat: false,
    })
}

pub fn children_and_watch(path: &str) -> Request<'static> {
    Request::Read(ReadRequest::GetChildren {
        path: path.to_owned().into(),
        watch: true,
        with_stat: false,
    })
}

pub fn add_watch(path: &str, mode: AddWatchMode) -> Request<'static> {
    Request::Read(ReadRequest::AddWatch {
        path: path.to_owned().into(),
        mode,
    })
}

pub fn remove_watches(path: &str, selector: WatchSelector) -> Request<'static> {
    Request::Read(ReadRequest::RemoveWatches {
        path: path.to_owned().into(),
        selector,
    })
}

pub fn set_watches(paths: WatchPaths) -> Request<'static> {
    Request::Read(ReadRequest::SetWatches(Box::new(paths)))
}

pub fn multi_read(paths: &[&str]) -> Request<'static> {
    Request::Read(ReadRequest::MultiRead(
        paths
            .iter()
            .map(|path| SubRead::GetData((*path).to_owned().into()))
            .collect(),
    ))
}

pub fn ephemerals() -> Request<'static> {
    Request::Read(ReadRequest::GetEphemerals { prefix: None })
}

pub fn who_am_i() -> Request<'static> {
    Request::Read(ReadRequest::WhoAmI)
}

pub fn sync(path: &str) -> Request<'static> {
    Request::Sync {
        path: Some(path.to_owned().into()),
    }
}
