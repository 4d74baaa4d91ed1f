//! What the server's state should be after each txn: requests done one after the other on a map of paths, every
//! number derived anew. Nothing of it comes from the code that is tested.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use oxkeeper_tree::Tree;
use oxkeeper_types::{CreateMode, SessionId, Stat, WatchEventKind, WriteRequest, Zxid, join_path};

use crate::client::private_acl;

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub data: Option<Vec<u8>>,
    pub stat: Stat,
    /// Children ever created.
    created: i32,
    is_container: bool,
    /// Readable and writable for `u:p` alone, else for everybody.
    pub is_private: bool,
    pub children: BTreeSet<String>,
}

/// A change that watches hear of.
#[derive(Clone, Debug)]
pub struct Change {
    pub kind: WatchEventKind,
    pub path: Rc<str>,
    pub is_private: bool,
    pub parent_is_private: bool,
}

/// What a write comes to. Errors are codes.
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    Created(Rc<str>),
    Changed(Rc<str>),
    Nothing,
    /// The list of servers is this from here on.
    Reconfigured(Rc<[u8]>),
    Multi(Vec<Result<Done, i32>>),
}

/// The circumstances of a write.
#[derive(Clone, Copy, Debug)]
pub struct At {
    pub zxid: Zxid,
    pub time: i64,
    pub session: SessionId,
    /// Whether the caller is `u:p`.
    pub is_friend: bool,
}

#[derive(Clone, Debug)]
pub struct State {
    pub nodes: BTreeMap<Rc<str>, Rc<Node>>,
    /// Timeouts by session, ms.
    pub sessions: BTreeMap<SessionId, i32>,
}

pub(crate) const NO_NODE: i32 = -101;
pub(crate) const NO_AUTH: i32 = -102;
const BAD_VERSION: i32 = -103;
const PARENT_EPHEMERAL: i32 = -108;
const NODE_EXISTS: i32 = -110;
const NOT_EMPTY: i32 = -111;

pub(crate) fn parent_of(path: &str) -> &str {
    match path.rfind('/').unwrap() {
        0 => "/",
        at => &path[..at],
    }
}

impl Default for State {
    fn default() -> State {
        let node = |children: &[&str]| {
            Rc::new(Node {
                data: Some(Vec::new()),
                stat: Stat {
                    cversion: -i32::try_from(children.len()).unwrap(),
                    num_children: i32::try_from(children.len()).unwrap(),
                    ..Stat::default()
                },
                created: 0,
                is_container: false,
                is_private: false,
                children: children.iter().map(|&name| name.to_owned()).collect(),
            })
        };
        State {
            nodes: BTreeMap::from([
                ("/".into(), node(&["zookeeper"])),
                ("/zookeeper".into(), node(&["quota", "config"])),
            ]),
            sessions: BTreeMap::new(),
        }
    }
}

impl State {
    pub fn node(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path).map(|node| &**node)
    }

    /// The node, if there is one and it may be read (or, as permissions are all or nothing here, written).
    pub fn permitted(&self, path: &str, is_friend: bool) -> Result<&Node, i32> {
        let node = self.node(path).ok_or(NO_NODE)?;
        if node.is_private && !is_friend {
            return Err(NO_AUTH);
        }
        Ok(node)
    }

    fn change(&mut self, path: &str, change: impl FnOnce(&mut Node)) {
        change(Rc::make_mut(self.nodes.get_mut(path).unwrap()));
    }

    pub fn ephemerals_of(&self, session: SessionId) -> Vec<String> {
        self.nodes
            .iter()
            .filter(|(_, node)| session != SessionId::NONE && node.stat.ephemeral_owner == session)
            .map(|(path, _)| path.to_string())
            .collect()
    }

    fn touch_parent(&mut self, parent: &str, name: &str, at: &At, is_create: bool) {
        self.change(parent, |node| {
            if is_create {
                node.children.insert(name.to_owned());
                node.created += 1;
            } else {
                node.children.remove(name);
            }
            node.stat.pzxid = at.zxid;
            node.stat.num_children = i32::try_from(node.children.len()).unwrap();
            node.stat.cversion = 2 * node.created - node.stat.num_children;
        });
    }

    pub fn remove(&mut self, path: &str, at: &At, changes: &mut Vec<Change>) {
        let node = self.nodes.remove(path).unwrap();
        let parent = parent_of(path);
        self.touch_parent(parent, path.rsplit('/').next().unwrap(), at, false);
        changes.push(Change {
            kind: WatchEventKind::Deleted,
            path: path.into(),
            is_private: node.is_private,
            parent_is_private: self.node(parent).unwrap().is_private,
        });
    }

    /// Does a write, or says why not; then nothing has changed.
    pub fn execute(
        &mut self,
        at: &At,
        request: &WriteRequest,
        changes: &mut Vec<Change>,
    ) -> Result<Done, i32> {
        match request {
            WriteRequest::Create(create) => {
                let mode = CreateMode::from_flags(create.flags).unwrap();
                let parent = parent_of(&create.path);
                let parent_node = self.permitted(parent, at.is_friend)?;
                let mut path = create.path.clone();
                if mode.is_sequential() {
                    path.push_str(&format!("{:010}", parent_node.created));
                }
                let parent_is_private = parent_node.is_private;
                if self.nodes.contains_key(&*path) {
                    return Err(NODE_EXISTS);
                }
                if parent_node.stat.ephemeral_owner != SessionId::NONE {
                    return Err(PARENT_EPHEMERAL);
                }
                let owner = if mode.is_ephemeral() {
                    assert!(
                        self.sessions.contains_key(&at.session),
                        "T3: {path} is made by session {}, which has ended",
                        at.session
                    );
                    at.session
                } else {
                    SessionId::NONE
                };
                let is_private = create.acl == private_acl();
                let data = create.data.as_ref().map(|data| data.to_vec());
                let node = Node {
                    stat: Stat {
                        czxid: at.zxid,
                        mzxid: at.zxid,
                        pzxid: at.zxid,
                        ctime: at.time,
                        mtime: at.time,
                        ephemeral_owner: owner,
                        data_length: i32::try_from(data.as_ref().map_or(0, Vec::len)).unwrap(),
                        ..Stat::default()
                    },
                    data,
                    created: 0,
                    is_container: mode == CreateMode::Container,
                    is_private,
                    children: BTreeSet::new(),
                };
                self.touch_parent(parent, path.rsplit('/').next().unwrap(), at, true);
                let path: Rc<str> = path.into();
                self.nodes.insert(path.clone(), Rc::new(node));
                changes.push(Change {
                    kind: WatchEventKind::Created,
                    path: path.clone(),
                    is_private,
                    parent_is_private,
                });
                Ok(Done::Created(path))
            }
            WriteRequest::Delete { path, version } => {
                self.permitted(parent_of(path), at.is_friend)?;
                let node = self.node(path).ok_or(NO_NODE)?;
                check_version(node.stat.version, *version)?;
                if !node.children.is_empty() {
                    return Err(NOT_EMPTY);
                }
                self.remove(path, at, changes);
                Ok(Done::Nothing)
            }
            WriteRequest::SetData { path, data, version } => {
                let node = self.permitted(path, at.is_friend)?;
                check_version(node.stat.version, *version)?;
                let is_private = node.is_private;
                let data = data.as_ref().map(|data| data.to_vec());
                self.change(path, |node| {
                    node.stat.version += 1;
                    node.stat.mzxid = at.zxid;
                    node.stat.mtime = at.time;
                    node.stat.data_length = i32::try_from(data.as_ref().map_or(0, Vec::len)).unwrap();
                    node.data = data;
                });
                let path: Rc<str> = path.as_str().into();
                changes.push(Change {
                    kind: WatchEventKind::DataChanged,
                    path: path.clone(),
                    is_private,
                    parent_is_private: false,
                });
                Ok(Done::Changed(path))
            }
            WriteRequest::SetAcl { path, acl, version } => {
                let node = self.permitted(path, at.is_friend)?;
                check_version(node.stat.aversion, *version)?;
                self.change(path, |node| {
                    node.stat.aversion += 1;
                    node.is_private = *acl == private_acl();
                });
                Ok(Done::Changed(path.as_str().into()))
            }
            WriteRequest::Check { path, version } => {
                let node = self.permitted(path, at.is_friend)?;
                check_version(node.stat.version, *version)?;
                Ok(Done::Nothing)
            }
            WriteRequest::Multi(parts) => {
                let (before, changes_before) = (self.clone(), changes.len());
                let mut results = Vec::new();
                for (n, part) in parts.iter().enumerate() {
                    match self.execute(at, part, changes) {
                        Ok(done) => results.push(Ok(done)),
                        Err(code) => {
                            *self = before;
                            changes.truncate(changes_before);
                            let codes = (0..parts.len()).map(|m| match m.cmp(&n) {
                                std::cmp::Ordering::Less => 0,
                                std::cmp::Ordering::Equal => code,
                                std::cmp::Ordering::Greater => -2,
                            });
                            return Ok(Done::Multi(codes.map(Err).collect()));
                        }
                    }
                }
                Ok(Done::Multi(results))
            }
            other => panic!("no client sends {other:?}"),
        }
    }

    /// Whether the server may remove a znode by itself.
    pub fn is_reapable(&self, path: &str) -> bool {
        self.node(path)
            .is_some_and(|node| node.is_container && node.children.is_empty() && node.created > 0)
    }

    /// That `tree` is this state in every detail.
    pub fn assert_is(&self, tree: &Tree) {
        let mut paths = vec!["/".to_owned()];
        let mut count = 0;
        while let Some(path) = paths.pop() {
            if path.starts_with("/zookeeper/") {
                continue;
            }
            count += 1;
            let there = tree
                .znode(&path)
                .unwrap_or_else(|| panic!("{path} is listed only"));
            let node = self
                .node(&path)
                .unwrap_or_else(|| panic!("{path} should not exist"));
            assert_eq!(there.stat(), node.stat, "the Stat of {path}");
            assert_eq!(there.data(), node.data.as_deref(), "the data of {path}");
            assert_eq!(there.acl() == private_acl(), node.is_private, "the ACL of {path}");
            let names: BTreeSet<String> = there.children().map(str::to_owned).collect();
            assert_eq!(names, node.children, "the children of {path}");
            paths.extend(names.iter().map(|name| join_path(&path, name)));
        }
        assert_eq!(count, self.nodes.len());
        for (session, count) in tree.sessions_with_ephemerals() {
            assert!(
                self.sessions.contains_key(&session),
                "T3: {session} has {count} ephemerals and does not exist"
            );
        }
    }
}

fn check_version(present: i32, expected: i32) -> Result<(), i32> {
    match expected == -1 || expected == present {
        true => Ok(()),
        false => Err(BAD_VERSION),
    }
}
