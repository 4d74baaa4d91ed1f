//! What a client sends: random requests on few paths, so that they meet.

use fastrand::Rng;
use oxkeeper_types::{
    Acl, AddWatchMode, CreateMode, OpCode, ReadRequest, SubRead, WatchPaths, WatchSelector, WriteRequest,
    Zxid,
};
use oxkeeper_wire::Request;

use crate::client::{create_with, open_acl, private_acl, set_data};

/// What a client sent.
#[derive(Clone, Debug)]
pub enum Ask {
    Request(Request<'static>),
    /// An operation with a body that cannot be decoded.
    Garbage(OpCode),
}

const PATHS: [&str; 8] = [
    "/a",
    "/b",
    "/c",
    "/a/x",
    "/a/y",
    "/b/x",
    "/a/x/z",
    "/a/s-0000000001",
];

fn path(rng: &mut Rng) -> String {
    rng.choice(PATHS).unwrap().to_owned()
}

/// A path, or the root.
fn any_path(rng: &mut Rng) -> String {
    match rng.u32(0..8) {
        0 => "/".to_owned(),
        _ => path(rng),
    }
}

fn acl(rng: &mut Rng) -> Vec<Acl> {
    match rng.u32(0..8) {
        0 => private_acl(),
        _ => open_acl(),
    }
}

fn version(rng: &mut Rng) -> i32 {
    match rng.u32(0..3) {
        0 => rng.i32(0..3),
        _ => -1,
    }
}

fn data(rng: &mut Rng) -> String {
    "d".repeat(rng.usize(0..40))
}

fn create(rng: &mut Rng) -> WriteRequest {
    let (mode, path) = match rng.u32(0..16) {
        0..7 => (CreateMode::Persistent, path(rng)),
        7..11 => (CreateMode::Ephemeral, path(rng)),
        11..13 => (CreateMode::PersistentSequential, format!("{}/s-", path(rng))),
        13..14 => (CreateMode::EphemeralSequential, format!("{}/s-", path(rng))),
        _ => (CreateMode::Container, path(rng)),
    };
    create_with(&path, mode, acl(rng), &data(rng))
}

fn part(rng: &mut Rng) -> WriteRequest {
    match rng.u32(0..11) {
        0..4 => create(rng),
        4..7 => WriteRequest::Delete {
            path: path(rng),
            version: version(rng),
        },
        7..10 => set_data(&any_path(rng), &data(rng), version(rng)),
        _ => WriteRequest::Check {
            path: path(rng),
            version: version(rng),
        },
    }
}

fn write(rng: &mut Rng) -> WriteRequest {
    match rng.u32(0..20) {
        0..13 => match part(rng) {
            part @ WriteRequest::Check { .. } => WriteRequest::Multi(vec![part]),
            part => part,
        },
        13..19 => WriteRequest::Multi((0..rng.usize(0..5)).map(|_| part(rng)).collect()),
        _ => WriteRequest::SetAcl {
            path: path(rng),
            acl: acl(rng),
            version: version(rng),
        },
    }
}

fn selector(rng: &mut Rng) -> WatchSelector {
    WatchSelector::from_code(rng.i32(1..=5)).unwrap()
}

fn paths(rng: &mut Rng) -> Vec<String> {
    (0..rng.usize(0..3)).map(|_| path(rng)).collect()
}

fn read(rng: &mut Rng, newest: Zxid) -> ReadRequest<'static> {
    let path = any_path(rng).into();
    let watch = rng.bool();
    match rng.u32(0..40) {
        0..8 => ReadRequest::Exists { path, watch },
        8..17 => ReadRequest::GetData { path, watch },
        17..25 => ReadRequest::GetChildren {
            path,
            watch,
            with_stat: rng.bool(),
        },
        25..27 => ReadRequest::MultiRead(vec![
            SubRead::GetData(path),
            SubRead::GetChildren(any_path(rng).into()),
        ]),
        27..29 => ReadRequest::GetEphemerals { prefix: None },
        29 => ReadRequest::GetAllChildrenNumber { path },
        30..34 => ReadRequest::AddWatch {
            path,
            mode: *rng
                .choice(&[AddWatchMode::Persistent, AddWatchMode::PersistentRecursive])
                .unwrap(),
        },
        34..36 => ReadRequest::CheckWatches {
            path,
            selector: selector(rng),
        },
        36..38 => ReadRequest::RemoveWatches {
            path,
            selector: selector(rng),
        },
        38 => ReadRequest::SetWatches(Box::new(WatchPaths {
            relative_zxid: Zxid(rng.i64(0..=newest.0)),
            data: paths(rng),
            exist: paths(rng),
            child: paths(rng),
            persistent: paths(rng),
            persistent_recursive: paths(rng),
        })),
        _ => ReadRequest::WhoAmI,
    }
}

/// A request of any kind that keeps the connection open, or, rarely, one that ends the session.
pub fn random(rng: &mut Rng, newest: Zxid, only_reads: bool) -> Ask {
    let first = if only_reads { 180 } else { 0 };
    Ask::Request(match rng.u32(first..404) {
        0..180 => Request::Write(write(rng)),
        180..360 => Request::Read(read(rng, newest)),
        360..378 => Request::Sync {
            path: Some(any_path(rng).into()),
        },
        378..392 => Request::Ping,
        392..398 => {
            let ops = [
                OpCode::GetData,
                OpCode::SetData,
                OpCode::Create,
                OpCode::Sync,
                OpCode::AddWatch,
            ];
            return Ask::Garbage(rng.choice(ops).unwrap());
        }
        _ => Request::CloseSession,
    })
}
