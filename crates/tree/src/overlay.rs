//! What the tree will be once the txns in flight are applied: checks of later requests look through it.
//!
//! Per path there is the newest pending record. It is dropped when its txn is applied, and taken back when the
//! multi that made it fails.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use foldhash::quality::FixedState;
use oxkeeper_types::{Acl, OwnerKind, SessionId, StoredStat, Zxid};

use crate::tree::Tree;

/// What is known of a znode, in the tree or pending.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) stat: StoredStat,
    pub(crate) child_count: u32,
    pub(crate) acl: Arc<[Acl]>,
    pub(crate) data_len: usize,
    /// CRC-32 of path and data.
    pub(crate) content_crc: u32,
    /// Part of the tree digest.
    pub(crate) digest: u32,
}

#[derive(Clone, Debug)]
struct Pending {
    zxid: Zxid,
    /// `None` when the znode will be deleted.
    record: Option<Record>,
    /// The owner, when the znode will be an ephemeral.
    owner: Option<SessionId>,
}

/// The changes of txns that were prepared but not yet applied.
#[derive(Debug, Default)]
pub struct Overlay {
    by_path: HashMap<Arc<str>, Pending, FixedState>,
    /// The paths each txn changes, in the order of txns.
    order: VecDeque<(Zxid, Arc<str>)>,
    /// Exactly the paths that `by_path` says will be ephemerals, by owner.
    ephemerals: HashMap<SessionId, BTreeSet<Arc<str>>, FixedState>,
    /// The tree digest after all pending changes; `None` when there are none.
    digest: Option<u64>,
}

/// Where an overlay was before a request, to go back to when the request fails half way.
#[derive(Debug)]
pub(crate) struct Mark {
    /// What the request replaced, in order.
    replaced: Vec<(Arc<str>, Option<Pending>)>,
    order_len: usize,
    digest: Option<u64>,
}

impl Overlay {
    /// An overlay without changes.
    pub fn new() -> Overlay {
        Overlay::default()
    }

    /// The number of paths with pending changes.
    pub fn len(&self) -> usize {
        self.by_path.len()
    }

    /// Whether nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.by_path.is_empty()
    }

    /// Drops the changes of all txns up to `zxid`, which were applied. To be called before the next prepare.
    pub fn committed(&mut self, zxid: Zxid) {
        while let Some((of, path)) = self.order.pop_front_if(|(of, _)| *of <= zxid) {
            if self.by_path.get(&path).is_some_and(|pending| pending.zxid == of) {
                self.set(&path, None);
            }
        }
        if self.order.is_empty() {
            assert!(self.by_path.is_empty(), "pending records without an order");
            self.digest = None;
        }
    }

    /// Drops all changes: the txns in flight will not be committed by this server.
    pub fn clear(&mut self) {
        *self = Overlay::default();
    }

    /// The tree digest after all pending changes.
    pub(crate) fn digest(&self, tree: &Tree) -> u64 {
        self.digest.unwrap_or_else(|| tree.digest().tree_digest)
    }

    /// What is pending for `path`: `Some(None)` when it will be deleted.
    pub(crate) fn pending(&self, path: &str) -> Option<Option<&Record>> {
        self.by_path.get(path).map(|pending| pending.record.as_ref())
    }

    /// What a path will be: pending, or else as in the tree.
    pub(crate) fn record(&self, tree: &Tree, path: &str) -> Option<Record> {
        match self.pending(path) {
            Some(pending) => pending.cloned(),
            None => {
                let znode = &tree.znodes[tree.znodes.lookup(path)?];
                Some(Record {
                    stat: znode.stat,
                    child_count: znode.child_count,
                    acl: Arc::clone(tree.acls.list(znode.acl)),
                    data_len: znode.data_len(),
                    content_crc: znode.content_crc,
                    digest: znode.digest,
                })
            }
        }
    }

    /// Whether something will be at a path.
    pub(crate) fn exists(&self, tree: &Tree, path: &str) -> bool {
        match self.pending(path) {
            Some(pending) => pending.is_some(),
            None => tree.znodes.lookup(path).is_some(),
        }
    }

    /// The paths that will be ephemerals of a session, sorted, without repetition.
    pub(crate) fn ephemerals_of(&self, tree: &Tree, session: SessionId) -> Vec<String> {
        let mut paths = tree.ephemerals_of(session);
        // What is pending for a path decides, whatever the tree has there.
        paths.retain(|path| !self.by_path.contains_key(path.as_str()));
        paths.extend(
            self.ephemerals
                .get(&session)
                .into_iter()
                .flatten()
                .map(|path| path.to_string()),
        );
        paths.sort_unstable();
        paths
    }

    /// Where the overlay is now.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            replaced: Vec::new(),
            order_len: self.order.len(),
            digest: self.digest,
        }
    }

    /// Goes back to where the overlay was.
    pub(crate) fn roll_back(&mut self, mark: Mark) {
        for (path, pending) in mark.replaced.into_iter().rev() {
            self.set(&path, pending);
        }
        self.order.truncate(mark.order_len);
        self.digest = mark.digest;
    }

    /// Puts what `path` will be after txn `zxid` (`None`: deleted), and notes in `mark` what was pending before.
    /// `old_digest` is the part of the tree digest that the path had, 0 when there was nothing.
    pub(crate) fn put(
        &mut self,
        tree: &Tree,
        mark: &mut Mark,
        zxid: Zxid,
        path: &str,
        old_digest: u32,
        mut record: Option<Record>,
    ) {
        let mut owner = None;
        let mut new_digest = 0;
        if let Some(record) = &mut record {
            new_digest = tree.digest_of(path, record.content_crc, &record.stat);
            record.digest = new_digest;
            if let OwnerKind::Session(session) = tree.owner_kind(&record.stat) {
                owner = Some(session);
            }
        }
        let digest = self
            .digest(tree)
            .wrapping_sub(old_digest.into())
            .wrapping_add(new_digest.into());
        self.digest = Some(digest);
        let path = match self.by_path.get_key_value(path) {
            Some((path, _)) => Arc::clone(path),
            None => Arc::from(path),
        };
        let replaced = self.set(&path, Some(Pending { zxid, record, owner }));
        self.order.push_back((zxid, Arc::clone(&path)));
        mark.replaced.push((path, replaced));
    }

    /// Replaces what is pending for a path, and keeps the index of ephemerals in step.
    fn set(&mut self, path: &Arc<str>, pending: Option<Pending>) -> Option<Pending> {
        let new_owner = pending.as_ref().and_then(|pending| pending.owner);
        let old = match pending {
            Some(pending) => self.by_path.insert(Arc::clone(path), pending),
            None => self.by_path.remove(path),
        };
        let old_owner = old.as_ref().and_then(|old| old.owner);
        if old_owner != new_owner {
            if let Some(session) = old_owner
                && let Some(paths) = self.ephemerals.get_mut(&session)
            {
                paths.remove(path);
                if paths.is_empty() {
                    self.ephemerals.remove(&session);
                }
            }
            if let Some(session) = new_owner {
                self.ephemerals
                    .entry(session)
                    .or_default()
                    .insert(Arc::clone(path));
            }
        }
        old
    }
}
