//! Random histories against a model that is as naive as the specification allows: a map of paths, every request
//! checked and done at once, every derived number counted anew.

#![allow(clippy::unwrap_used, reason = "a test may stop where it is")]

mod common;

use std::collections::BTreeMap;

use common::requests::{BUILT_IN, Step, churn, steps};
use common::*;
use oxkeeper_tree::TreeSettings;
use oxkeeper_types::{
    Acl, CreateMode, CreateRequest, ErrorCode, Id, OpCode, OpResult, Outcome, SessionId, Stat, StoredStat,
    WriteRequest, Zxid,
};
use proptest::prelude::*;

#[derive(Clone, Debug, PartialEq)]
struct Node {
    data: Option<Vec<u8>>,
    acl: Vec<Acl>,
    stat: StoredStat,
}

#[derive(Clone)]
struct Model(BTreeMap<String, Node>);

fn parent_of(path: &str) -> String {
    let parent = &path[..path.rfind('/').unwrap()];
    if parent.is_empty() {
        "/".into()
    } else {
        parent.into()
    }
}

impl Model {
    fn new() -> Model {
        let node = |acl, aversion| Node {
            data: Some(vec![]),
            acl,
            stat: StoredStat {
                aversion,
                ..StoredStat::default()
            },
        };
        Model(BTreeMap::from([
            ("/".into(), node(open(), 0)),
            ("/zookeeper".into(), node(open(), 0)),
            ("/zookeeper/quota".into(), node(open(), 0)),
            (
                "/zookeeper/config".into(),
                node(vec![acl(1, "world", "anyone")], -1),
            ),
        ]))
    }

    fn children(&self, path: &str) -> Vec<&String> {
        self.0
            .keys()
            .filter(|child| *child != "/" && parent_of(child) == path)
            .collect()
    }

    fn stat(&self, path: &str) -> Stat {
        let node = &self.0[path];
        let owner = node.stat.ephemeral_owner;
        let shown = if owner > 0 {
            SessionId(owner)
        } else {
            SessionId::NONE
        };
        let children = i32::try_from(self.children(path).len()).unwrap();
        let data_length = i32::try_from(node.data.as_ref().map_or(0, Vec::len)).unwrap();
        node.stat.to_stat(shown, data_length, children)
    }

    fn digest(&self) -> u64 {
        let mut sum = 0_u64;
        for (path, node) in &self.0 {
            if path.starts_with("/zookeeper/") {
                continue;
            }
            let mut bytes = if path == "/" {
                vec![]
            } else {
                path.clone().into_bytes()
            };
            bytes.extend(node.data.iter().flatten());
            let s = &node.stat;
            for long in [s.czxid.0, s.mzxid.0, s.pzxid.0, s.ctime, s.mtime] {
                bytes.extend(long.to_be_bytes());
            }
            for int in [s.version, s.cversion, s.aversion] {
                bytes.extend(int.to_be_bytes());
            }
            bytes.extend(s.ephemeral_owner.to_be_bytes());
            sum = sum.wrapping_add(crc32(&bytes).into());
        }
        sum
    }

    fn permits(&self, path: &str, wanted: i32, ids: &[Id]) -> Result<(), ErrorCode> {
        let is_super = ids.iter().any(|id| &*id.scheme == "super");
        let passes = is_super
            || self.0[path].acl.iter().any(|entry| {
                entry.permissions.0 & wanted != 0
                    && (entry.id == Id::new("world", "anyone") || ids.contains(&entry.id))
            });
        if passes { Ok(()) } else { Err(ErrorCode::NoAuth) }
    }

    fn run(&mut self, at: &At, request: &WriteRequest) -> Outcome {
        let WriteRequest::Multi(parts) = request else {
            return self.single(at, request).unwrap_or_else(Outcome::Failed);
        };
        let before = self.clone();
        let mut results = Vec::new();
        for (done, part) in parts.iter().enumerate() {
            match self.single(at, part) {
                Ok(outcome) => {
                    let op = match (part, &outcome) {
                        (_, Outcome::Created { stat: None, .. }) => OpCode::Create,
                        (_, Outcome::Created { .. }) => OpCode::Create2,
                        (WriteRequest::Delete { .. }, _) => OpCode::Delete,
                        (WriteRequest::SetData { .. }, _) => OpCode::SetData,
                        _ => OpCode::Check,
                    };
                    results.push(OpResult::Ok { op, outcome });
                }
                Err(code) => {
                    *self = before;
                    let error = |n| match n {
                        n if n < done => 0,
                        n if n == done => code.code(),
                        _ => -2,
                    };
                    return Outcome::Multi((0..parts.len()).map(|n| OpResult::Error(error(n))).collect());
                }
            }
        }
        Outcome::Multi(results)
    }

    fn single(&mut self, at: &At, request: &WriteRequest) -> Result<Outcome, ErrorCode> {
        use ErrorCode::*;
        let version_fits = |have: i32, want: i32| {
            if want == -1 || want == have {
                Ok(())
            } else {
                Err(BadVersion)
            }
        };
        match request {
            WriteRequest::Create(create) => self.create(at, create),
            WriteRequest::Delete { path, version } => {
                let node = self.0.get(path);
                let parent = parent_of(path);
                if BUILT_IN.contains(&path.as_str()) {
                    return Err(BadArguments);
                }
                self.0.contains_key(&parent).then_some(()).ok_or(NoNode)?;
                self.permits(&parent, 8, &at.ids)?;
                version_fits(node.ok_or(NoNode)?.stat.version, *version)?;
                self.delete(at, path)
            }
            WriteRequest::DeleteContainer { path } => {
                let node = self.0.get(path).ok_or(NoNode)?;
                if !self.children(path).is_empty() {
                    return Err(NotEmpty);
                }
                let owner = node.stat.ephemeral_owner;
                let expired = owner == i64::MIN && node.stat.cversion > 0
                    || owner < 0 && owner != i64::MIN && at.time - node.stat.mtime > owner & 0xff_ffff_ffff;
                if !expired {
                    return Err(BadVersion);
                }
                self.delete(at, path)
            }
            WriteRequest::SetData { path, data, version } => {
                self.0.contains_key(path).then_some(()).ok_or(NoNode)?;
                self.permits(path, 2, &at.ids)?;
                let node = self.0.get_mut(path).unwrap();
                version_fits(node.stat.version, *version)?;
                node.stat.version += 1;
                node.stat.mzxid = at.zxid;
                node.stat.mtime = at.time;
                node.data = data.as_ref().map(|data| data.to_vec());
                Ok(Outcome::Changed(self.stat(path)))
            }
            WriteRequest::SetAcl { path, acl, version } => {
                self.0.contains_key(path).then_some(()).ok_or(NoNode)?;
                self.permits(path, 16, &at.ids)?;
                let node = self.0.get_mut(path).unwrap();
                version_fits(node.stat.aversion, *version)?;
                node.stat.aversion += 1;
                node.acl = acl.clone();
                Ok(Outcome::Changed(self.stat(path)))
            }
            WriteRequest::Check { path, version } => {
                self.0.contains_key(path).then_some(()).ok_or(NoNode)?;
                self.permits(path, 1, &at.ids)?;
                version_fits(self.0[path].stat.version, *version)?;
                Ok(Outcome::Done)
            }
            WriteRequest::CloseSession => {
                let owned = self
                    .0
                    .iter()
                    .filter(|(_, node)| node.stat.ephemeral_owner == at.session.0);
                for path in owned.map(|(path, _)| path.clone()).collect::<Vec<_>>() {
                    self.delete(at, &path)?;
                }
                Ok(Outcome::Done)
            }
            other => panic!("{other:?} is not in the model"),
        }
    }

    fn create(&mut self, at: &At, create: &CreateRequest) -> Result<Outcome, ErrorCode> {
        use ErrorCode::*;
        let mode = CreateMode::from_flags(create.flags).unwrap();
        let parent = parent_of(&create.path);
        let parent_stat = self.0.get(&parent).ok_or(NoNode)?.stat;
        self.permits(&parent, 4, &at.ids)?;
        let mut path = create.path.clone();
        if mode.is_sequential() {
            path += &format!("{:010}", parent_stat.cversion);
        }
        if self.0.contains_key(&path) {
            return Err(NodeExists);
        }
        if parent_stat.ephemeral_owner > 0 {
            return Err(NoChildrenForEphemerals);
        }
        let of_parent = &mut self.0.get_mut(&parent).unwrap().stat;
        of_parent.cversion += 1;
        of_parent.pzxid = at.zxid;
        let ephemeral_owner = match create.op {
            OpCode::CreateContainer => i64::MIN,
            OpCode::CreateTtl => 0xff00_0000_0000_0000_u64.cast_signed() + create.ttl,
            _ if mode.is_ephemeral() => at.session.0,
            _ => 0,
        };
        let stat = StoredStat {
            czxid: at.zxid,
            mzxid: at.zxid,
            pzxid: at.zxid,
            ctime: at.time,
            mtime: at.time,
            ephemeral_owner,
            ..StoredStat::default()
        };
        let data = create.data.as_ref().map(|data| data.to_vec());
        self.0.insert(
            path.clone(),
            Node {
                data,
                acl: create.acl.clone(),
                stat,
            },
        );
        let stat = (create.op != OpCode::Create).then(|| self.stat(&path));
        Ok(Outcome::Created { path, stat })
    }

    fn delete(&mut self, at: &At, path: &str) -> Result<Outcome, ErrorCode> {
        if !self.children(path).is_empty() {
            return Err(ErrorCode::NotEmpty);
        }
        self.0.remove(path);
        self.0.get_mut(&parent_of(path)).unwrap().stat.pzxid = at.zxid;
        Ok(Outcome::Done)
    }
}

/// The CRC-32 of zlib, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    })
}

/// Who asks, and when.
struct At {
    session: SessionId,
    ids: Vec<Id>,
    zxid: Zxid,
    time: i64,
}

fn check_history(steps: Vec<Step>) {
    let mut world = World::new(TreeSettings {
        extended_types: true,
        ..TreeSettings::default()
    });
    let mut model = Model::new();
    let mut expected = std::collections::VecDeque::new();
    for step in steps {
        let ids = step.ids;
        world.ids = ids.clone();
        world.prepare(step.session, step.request.clone());
        let at = At {
            session: step.session,
            ids,
            zxid: world.zxid,
            time: world.time,
        };
        let outcome = model.run(&at, &step.request);
        expected.push_back((step.request, outcome, model.digest()));
        while world.in_flight.len() > step.in_flight_max {
            let (request, outcome, digest) = expected.pop_front().unwrap();
            assert_eq!(world.apply_one(), outcome, "{request:?}");
            assert_eq!(world.tree.digest().tree_digest, digest, "{request:?}");
        }
    }
    while let Some((request, outcome, digest)) = expected.pop_front() {
        assert_eq!(world.apply_one(), outcome, "{request:?}");
        assert_eq!(world.tree.digest().tree_digest, digest, "{request:?}");
    }
    assert!(world.overlay.is_empty());
    let stored: BTreeMap<String, Node> = dump(&world.tree)
        .into_iter()
        .map(|(path, (data, acl, stat))| (path, Node { data, acl, stat }))
        .collect();
    assert_eq!(stored, model.0);
    for path in model.0.keys() {
        assert_eq!(world.stat(path), model.stat(path), "{path}");
        let below = if path == "/" {
            "/".to_owned()
        } else {
            format!("{path}/")
        };
        let descendants = model
            .0
            .keys()
            .filter(|other| other.starts_with(&below) && *other != "/")
            .count();
        assert_eq!(
            world.tree.znode(path).unwrap().descendants(),
            descendants,
            "{path}"
        );
    }
    for session in 1..4 {
        let owned = model
            .0
            .iter()
            .filter(|(_, node)| node.stat.ephemeral_owner == session);
        let owned: Vec<String> = owned.map(|(path, _)| path.clone()).collect();
        assert_eq!(world.tree.ephemerals_of(SessionId(session)), owned);
    }
    let size: usize = model
        .0
        .iter()
        .map(|(path, node)| path.len() + node.data.as_ref().map_or(0, Vec::len))
        .sum();
    assert_eq!(world.tree.approximate_data_size(), size as u64);
    assert_eq!(world.tree.znode_count(), model.0.len() + 1);
}

/// Usage of a quota as it must be: counted anew.
fn usage(world: &World, path: &str, excluded: &str) -> String {
    let below = format!("{path}/");
    let all = dump(&world.tree);
    let counted: Vec<usize> = all
        .iter()
        .filter(|(at, _)| *at == path || at.starts_with(&below))
        .filter(|(at, _)| *at != excluded && !at.starts_with(&format!("{excluded}/")))
        .map(|(_, (data, _, _))| data.as_ref().map_or(0, Vec::len))
        .collect();
    format!("count={},bytes={}", counted.len(), counted.iter().sum::<usize>())
}

fn check_usage(history: Vec<Step>) {
    let mut world = World::new(TreeSettings {
        extended_types: true,
        ..TreeSettings::default()
    });
    world.ids = vec![Id::new("super", "")];
    for path in ["/a", "/a/b"] {
        world.ok(create_with(path, b"123", open()));
        let quota = format!("/zookeeper/quota{path}");
        world.ok(create_with(&quota, b"", open()));
        world.ok(create_with(
            &format!("{quota}/zookeeper_limits"),
            b"count=1,bytes=1",
            open(),
        ));
        world.ok(create_with(&format!("{quota}/zookeeper_stats"), b"", open()));
    }
    // The quota of /a counted /a/b before that had one of its own.
    let stats = |world: &World, path: &str| {
        let znode = world
            .tree
            .znode(&format!("/zookeeper/quota{path}/zookeeper_stats"))
            .unwrap();
        String::from_utf8(znode.data().unwrap().to_vec()).unwrap()
    };
    world.ok(set_data(
        "/zookeeper/quota/a/zookeeper_stats",
        b"count=1,bytes=3",
        -1,
    ));
    for step in history {
        world.run_by(step.session, step.request);
        assert_eq!(stats(&world, "/a"), usage(&world, "/a", "/a/b"));
        assert_eq!(stats(&world, "/a/b"), usage(&world, "/a/b", "/none"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Outcomes, Stats, digests and indexes are the model's, however many txns are in flight.
    #[test]
    fn histories_are_those_of_the_model(steps in steps()) {
        check_history(steps);
    }

    /// The same for paths that come and go all the time.
    #[test]
    fn histories_of_churn_are_those_of_the_model(steps in churn()) {
        check_history(steps);
    }

    /// Each change counts for the nearest quota, and for that alone.
    #[test]
    fn usage_of_quotas_is_what_is_there(history in churn()) {
        check_usage(history);
    }
}
