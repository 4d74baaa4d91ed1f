//! Random requests on few paths, so that they meet.

use oxkeeper_types::{Acl, CreateMode, CreateRequest, Id, OpCode, SessionId, WriteRequest};
use proptest::prelude::*;

use super::{acl, open};

pub(crate) const BUILT_IN: [&str; 4] = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"];

#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) session: SessionId,
    pub(crate) ids: Vec<Id>,
    pub(crate) request: WriteRequest,
    /// How many txns may stay in flight after this one.
    pub(crate) in_flight_max: usize,
}

fn path() -> impl Strategy<Value = String> {
    let name = prop_oneof![6 => Just("a"), 5 => Just("b"), 1 => Just("zookeeper"), 1 => Just("config")];
    prop::collection::vec(name, 0..4).prop_map(|names| format!("/{}", names.join("/")))
}

fn acl_list() -> impl Strategy<Value = Vec<Acl>> {
    prop_oneof![
        6 => Just(open()),
        1 => Just(vec![acl(31, "digest", "u:h"), acl(1, "world", "anyone")]),
        1 => (0..32).prop_map(|permissions| vec![acl(permissions, "world", "anyone")]),
    ]
}

fn data() -> impl Strategy<Value = Option<Box<[u8]>>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..5).prop_map(Vec::into))
}

fn version() -> impl Strategy<Value = i32> {
    prop_oneof![4 => Just(-1), 2 => 0..3]
}

fn create_request() -> impl Strategy<Value = WriteRequest> {
    (path(), 0..7, any::<bool>(), acl_list(), data(), 1_i64..60).prop_map(
        |(path, flags, plain, acl, data, ttl)| {
            let mode = CreateMode::from_flags(flags).unwrap();
            let op = match mode {
                CreateMode::Container => OpCode::CreateContainer,
                mode if mode.has_ttl() => OpCode::CreateTtl,
                _ if plain => OpCode::Create,
                _ => OpCode::Create2,
            };
            // The root is created nowhere: its path is not valid with a number.
            let path = if path == "/" { "/a".to_owned() } else { path };
            let ttl = if mode.has_ttl() { ttl } else { -1 };
            WriteRequest::Create(CreateRequest {
                op,
                path,
                data,
                acl,
                flags,
                ttl,
            })
        },
    )
}

fn part() -> impl Strategy<Value = WriteRequest> {
    prop_oneof![
        5 => create_request(),
        3 => (path(), version()).prop_map(|(path, version)| WriteRequest::Delete { path, version }),
        3 => (path(), data(), version())
            .prop_map(|(path, data, version)| WriteRequest::SetData { path, data, version }),
        1 => (path(), version()).prop_map(|(path, version)| WriteRequest::Check { path, version }),
    ]
}

fn request() -> impl Strategy<Value = WriteRequest> {
    let not_check = part().prop_map(|part| match part {
        WriteRequest::Check { .. } => WriteRequest::Multi(vec![part]),
        part => part,
    });
    prop_oneof![
        12 => not_check,
        3 => prop::collection::vec(part(), 0..6).prop_map(WriteRequest::Multi),
        2 => (path(), acl_list(), version()).prop_map(|(path, acl, version)| WriteRequest::SetAcl { path, acl, version }),
        1 => Just(WriteRequest::CloseSession),
        1 => path().prop_filter("not built in", |path| !BUILT_IN.contains(&path.as_str()))
            .prop_map(|path| WriteRequest::DeleteContainer { path }),
    ]
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (1_i64..4, prop::bool::weighted(0.3), request(), 0_usize..5).prop_map(
        |(session, is_user, request, in_flight_max)| Step {
            session: SessionId(session),
            ids: if is_user {
                vec![Id::new("digest", "u:h")]
            } else {
                vec![]
            },
            request,
            in_flight_max,
        },
    );
    prop::collection::vec(step, 1..80)
}

/// Creates and deletes of few paths, by a caller who may do anything, so that the same path comes and goes, with
/// children and without.
pub(crate) fn churn() -> impl Strategy<Value = Vec<Step>> {
    let path = prop::collection::vec(prop_oneof![3 => Just("a"), 1 => Just("b")], 1..4);
    let path = path.prop_map(|names| format!("/{}", names.join("/")));
    let request = (path, 0..20, acl_list(), data()).prop_map(|(path, what, acl, data)| {
        let create = |op, flags, ttl| {
            let (path, acl, data) = (path.clone(), acl.clone(), data.clone());
            WriteRequest::Create(CreateRequest {
                op,
                path,
                data,
                acl,
                flags,
                ttl,
            })
        };
        match what {
            0..6 => create(OpCode::Create, 0, -1),
            6 => create(OpCode::Create2, 0, -1),
            7 => create(OpCode::Create, 1, -1),
            8 => create(OpCode::CreateContainer, 4, -1),
            9 => create(OpCode::CreateTtl, 5, 20),
            10..16 => WriteRequest::Delete { path, version: -1 },
            16 => WriteRequest::SetData {
                path,
                data,
                version: -1,
            },
            17 => WriteRequest::SetAcl {
                path,
                acl,
                version: -1,
            },
            18 => WriteRequest::Multi(vec![
                WriteRequest::Delete {
                    path: path.clone(),
                    version: -1,
                },
                create(OpCode::Create2, 1, -1),
            ]),
            _ => WriteRequest::CloseSession,
        }
    });
    let step = (1_i64..3, request, 0_usize..8).prop_map(|(session, request, in_flight_max)| Step {
        session: SessionId(session),
        ids: vec![Id::new("super", "")],
        request,
        in_flight_max,
    });
    prop::collection::vec(step, 1..120)
}
