//! The tree itself and what can be read from it. Changes are in `apply.rs`.

use std::collections::{BTreeMap, BTreeSet};

use oxkeeper_types::{
    Acl, CONFIG_PATH, OwnerKind, Permissions, QUOTA_PATH, RESERVED_PATH, SessionId, Stat, StoredOwner,
    StoredStat, TxnDigest, Zxid,
};

use crate::acl_table::{AclSlot, AclTable};
use crate::arena::{self, ZnodeId};
use crate::digest::{DIGEST_VERSION, content_crc, is_excluded, znode_digest};
use crate::name::Name;
use crate::quota::Quotas;
use crate::settings::TreeSettings;
use crate::snapshot::Restoration;
use crate::znodes::Znodes;

/// All znodes of a server, as of the last applied txn.
///
/// # Invariants
/// The indexes (ephemerals, containers, znodes with a time to live, quotas) hold exactly what the znodes' owner
/// words and names say; `digest` is the sum of the znodes' digests; no counter of a parent ever goes back (T4).
#[derive(Debug)]
pub struct Tree {
    pub(crate) znodes: Znodes,
    pub(crate) acls: AclTable,
    pub(crate) quotas: Quotas,
    ephemerals: BTreeMap<SessionId, BTreeSet<ZnodeId>>,
    ephemerals_count: usize,
    containers: BTreeSet<ZnodeId>,
    with_ttl: BTreeSet<ZnodeId>,
    digest: u64,
    /// UTF-16 units of all paths and bytes of all data.
    data_size: u64,
    digest_mismatches: u64,
    digest_enabled: bool,
    extended_types: bool,
    emulate_353: bool,
    /// Present while the tree is being restored.
    pub(crate) restoration: Option<Box<Restoration>>,
}

/// What Java counts of a path: its UTF-16 units.
fn path_size(path: &str) -> u64 {
    if path.is_ascii() {
        path.len() as u64
    } else {
        path.encode_utf16().count() as u64
    }
}

/// A znode to be put into the tree.
pub(crate) struct NewZnode {
    pub(crate) data: Option<Box<[u8]>>,
    /// The znode counts as a user of it.
    pub(crate) acl: AclSlot,
    pub(crate) stat: StoredStat,
}

impl Tree {
    /// The tree of a server that starts for the first time (client spec, section 5.6).
    pub fn new(settings: &TreeSettings) -> Tree {
        let mut tree = Tree::with_root(settings);
        tree.add_missing_builtins();
        tree
    }

    /// A tree with the root alone.
    pub(crate) fn with_root(settings: &TreeSettings) -> Tree {
        let root = arena::Znode {
            name: Name::new(""),
            data: Some(Box::default()),
            stat: StoredStat::default(),
            acl: AclSlot::OPEN,
            parent: ZnodeId::NONE,
            first_child: ZnodeId::NONE,
            next_sibling: ZnodeId::NONE,
            previous_sibling: ZnodeId::NONE,
            child_count: 0,
            content_crc: content_crc("/", None),
            digest: 0,
        };
        let mut tree = Tree {
            znodes: Znodes::new(settings.hash_seed, root),
            acls: AclTable::new(settings.hash_seed),
            quotas: Quotas::default(),
            ephemerals: BTreeMap::new(),
            ephemerals_count: 0,
            containers: BTreeSet::new(),
            with_ttl: BTreeSet::new(),
            digest: 0,
            // Java counts the root's alias "/" too.
            data_size: 1,
            digest_mismatches: 0,
            digest_enabled: settings.digest_enabled,
            extended_types: settings.extended_types,
            emulate_353: settings.emulate_353,
            restoration: None,
        };
        let root = tree.znodes.root();
        tree.update(root, "/", |_| {});
        tree
    }

    /// Adds what every tree has and this one has not.
    pub(crate) fn add_missing_builtins(&mut self) {
        for path in [RESERVED_PATH, QUOTA_PATH, CONFIG_PATH] {
            if self.znodes.lookup(path).is_some() {
                continue;
            }
            let (acl, aversion) = match path {
                // Nobody may write it but the server itself.
                CONFIG_PATH => (self.acls.intern(&[Acl::world(Permissions::READ)]), -1),
                _ => (AclSlot::OPEN, 0),
            };
            let stat = StoredStat {
                aversion,
                ..StoredStat::default()
            };
            let (parent, name) = oxkeeper_types::split_path(path).expect("a built-in path has a parent");
            let parent = self.znodes.lookup(parent).expect("built-in parents come first");
            self.insert(
                parent,
                name,
                path,
                NewZnode {
                    data: Some(Box::default()),
                    acl,
                    stat,
                },
            );
        }
    }

    /// What an owner word stands for under this tree's settings.
    pub(crate) fn owner_kind(&self, stat: &StoredStat) -> OwnerKind {
        StoredOwner(stat.ephemeral_owner).kind(self.extended_types, self.emulate_353)
    }

    /// Whether such a znode goes with a session, and so may not have children.
    pub(crate) fn is_ephemeral(&self, stat: &StoredStat) -> bool {
        matches!(self.owner_kind(stat), OwnerKind::Session(_))
    }

    /// A znode's part of the digest.
    pub(crate) fn digest_of(&self, path: &str, content_crc: u32, stat: &StoredStat) -> u32 {
        if self.digest_enabled && !is_excluded(path) {
            znode_digest(content_crc, stat)
        } else {
            0
        }
    }

    /// CRC-32 of path and data when the digest needs it.
    pub(crate) fn content_crc_of(&self, path: &str, data: Option<&[u8]>) -> u32 {
        if self.digest_enabled && !is_excluded(path) {
            content_crc(path, data)
        } else {
            0
        }
    }

    /// Changes the stat or the ACL of the znode `id` at `path`, and the digest with it.
    pub(crate) fn update(&mut self, id: ZnodeId, path: &str, change: impl FnOnce(&mut arena::Znode)) {
        let znode = &mut self.znodes[id];
        change(znode);
        let (old, content_crc, stat) = (znode.digest, znode.content_crc, znode.stat);
        let new = self.digest_of(path, content_crc, &stat);
        self.znodes[id].digest = new;
        self.digest = self.digest.wrapping_sub(old.into()).wrapping_add(new.into());
    }

    /// Replaces the data of the znode `id` at `path` and changes its stat.
    pub(crate) fn update_data(
        &mut self,
        id: ZnodeId,
        path: &str,
        data: Option<Box<[u8]>>,
        change: impl FnOnce(&mut StoredStat),
    ) {
        let crc = self.content_crc_of(path, data.as_deref());
        let old_len = self.znodes[id].data_len() as u64;
        let new_len = data.as_ref().map_or(0, |data| data.len()) as u64;
        self.data_size = self.data_size - old_len + new_len;
        self.update(id, path, |znode| {
            znode.data = data;
            znode.content_crc = crc;
            change(&mut znode.stat);
        });
    }

    /// Puts a znode under its parent and into the indexes; neither the parent's stat nor quotas change.
    pub(crate) fn insert(&mut self, parent: ZnodeId, name: &str, path: &str, new: NewZnode) -> ZnodeId {
        let content_crc = self.content_crc_of(path, new.data.as_deref());
        let digest = self.digest_of(path, content_crc, &new.stat);
        self.digest = self.digest.wrapping_add(digest.into());
        let kind = self.owner_kind(&new.stat);
        let znode = arena::Znode {
            name: Name::new(name),
            data: new.data,
            stat: new.stat,
            acl: new.acl,
            parent,
            first_child: ZnodeId::NONE,
            next_sibling: ZnodeId::NONE,
            previous_sibling: ZnodeId::NONE,
            child_count: 0,
            content_crc,
            digest,
        };
        self.data_size += path_size(path) + znode.data_len() as u64;
        let id = self.znodes.insert(parent, znode);
        match kind {
            OwnerKind::Nobody => {}
            OwnerKind::Session(session) => {
                self.ephemerals.entry(session).or_default().insert(id);
                self.ephemerals_count += 1;
            }
            OwnerKind::Container => {
                self.containers.insert(id);
            }
            OwnerKind::Ttl(_) => {
                self.with_ttl.insert(id);
            }
        }
        id
    }

    /// Takes a znode without children out of the tree and the indexes; neither the parent's stat nor quotas
    /// change. The caller releases the ACL.
    pub(crate) fn remove(&mut self, id: ZnodeId, path: &str) -> arena::Znode {
        let znode = self.znodes.remove(id);
        self.digest = self.digest.wrapping_sub(znode.digest.into());
        self.data_size -= path_size(path) + znode.data_len() as u64;
        match self.owner_kind(&znode.stat) {
            OwnerKind::Nobody => {}
            OwnerKind::Session(session) => {
                self.ephemerals_count -= 1;
                let of_session = self.ephemerals.get_mut(&session);
                let of_session = of_session.unwrap_or_else(|| unreachable!("{path} is not in the index"));
                of_session.remove(&id);
                if of_session.is_empty() {
                    self.ephemerals.remove(&session);
                }
            }
            OwnerKind::Container => {
                self.containers.remove(&id);
            }
            OwnerKind::Ttl(_) => {
                self.with_ttl.remove(&id);
            }
        }
        znode
    }

    /// The Stat that a client sees of a znode.
    pub(crate) fn stat_of(&self, id: ZnodeId) -> Stat {
        let znode = &self.znodes[id];
        let owner = match self.owner_kind(&znode.stat) {
            OwnerKind::Session(session) => session,
            OwnerKind::Nobody | OwnerKind::Container | OwnerKind::Ttl(_) => SessionId::NONE,
        };
        let data_length = i32::try_from(znode.data_len()).unwrap_or(i32::MAX);
        let num_children = i32::try_from(znode.child_count).unwrap_or(i32::MAX);
        znode.stat.to_stat(owner, data_length, num_children)
    }

    /// The znode at a path. `""` is an alias of `/`; nothing is at a path that is not valid.
    pub fn znode(&self, path: &str) -> Option<Znode<'_>> {
        self.znodes.lookup(path).map(|id| Znode { tree: self, id })
    }

    /// The digest after the last applied txn; 0 when digests are switched off.
    pub fn digest(&self) -> TxnDigest {
        TxnDigest {
            version: DIGEST_VERSION,
            tree_digest: self.digest,
        }
    }

    /// Compares the digest with the one that a txn or a snapshot promised, and counts a mismatch. Digests of
    /// another version are not compared, and nothing is when digests are switched off.
    pub fn compare_digest(&mut self, expected: &TxnDigest) -> bool {
        let agrees =
            !self.digest_enabled || expected.version != DIGEST_VERSION || expected.tree_digest == self.digest;
        self.digest_mismatches += u64::from(!agrees);
        agrees
    }

    /// How often [`Tree::compare_digest`] found a mismatch.
    pub fn digest_mismatches(&self) -> u64 {
        self.digest_mismatches
    }

    /// The number of znodes as `mntr` shows it: the root counts twice, as it has two names.
    pub fn znode_count(&self) -> usize {
        self.znodes.len() + 1
    }

    /// The number of ephemerals of all sessions.
    pub fn ephemerals_count(&self) -> usize {
        self.ephemerals_count
    }

    /// UTF-16 units of all paths and bytes of all data, as `mntr` shows it.
    pub fn approximate_data_size(&self) -> u64 {
        self.data_size
    }

    /// The paths of the ephemerals of a session, sorted.
    pub fn ephemerals_of(&self, session: SessionId) -> Vec<String> {
        let ids = self.ephemerals.get(&session).into_iter().flatten();
        let mut paths: Vec<String> = ids.map(|&id| self.znodes.path(id)).collect();
        paths.sort_unstable();
        paths
    }

    /// The sessions that own ephemerals, and how many.
    pub fn sessions_with_ephemerals(&self) -> impl Iterator<Item = (SessionId, usize)> {
        self.ephemerals.iter().map(|(&session, ids)| (session, ids.len()))
    }

    /// The paths of znodes that the server should delete by itself at the wall clock time `now_ms`: containers
    /// that lost their last child, and znodes whose time to live is over (client spec, section 5.4).
    pub fn expired_candidates(&self, now_ms: i64, settings: &TreeSettings) -> Vec<String> {
        self.containers
            .iter()
            .chain(&self.with_ttl)
            .filter(|&&id| {
                let znode = &self.znodes[id];
                self.is_expired(&znode.stat, znode.child_count, now_ms, settings)
            })
            .map(|&id| self.znodes.path(id))
            .collect()
    }

    /// Whether the server should delete such a znode by itself.
    pub(crate) fn is_expired(
        &self,
        stat: &StoredStat,
        child_count: u32,
        now_ms: i64,
        settings: &TreeSettings,
    ) -> bool {
        let elapsed_ms = now_ms.saturating_sub(stat.mtime);
        child_count == 0
            && match self.owner_kind(stat) {
                OwnerKind::Nobody | OwnerKind::Session(_) => false,
                OwnerKind::Container => {
                    let unused_ms_max = settings.container_never_used_ms_max;
                    stat.cversion > 0 || unused_ms_max != 0 && elapsed_ms > unused_ms_max
                }
                OwnerKind::Ttl(ttl_ms) => ttl_ms != 0 && elapsed_ms > ttl_ms,
            }
    }

    /// The newest zxid that any znode shows. A tree restored without knowing its zxid is at least that old.
    pub fn newest_zxid(&self) -> Zxid {
        self.znodes
            .subtree(self.znodes.root())
            .map(|id| {
                let stat = &self.znodes[id].stat;
                stat.czxid.max(stat.mzxid).max(stat.pzxid)
            })
            .max()
            .unwrap_or_default()
    }
}

/// A znode as it is while the tree is held for reading.
#[derive(Clone, Copy)]
pub struct Znode<'a> {
    tree: &'a Tree,
    id: ZnodeId,
}

impl<'a> Znode<'a> {
    /// The data; null is kept apart from empty.
    pub fn data(&self) -> Option<&'a [u8]> {
        self.tree.znodes[self.id].data.as_deref()
    }

    /// The Stat that a client sees.
    pub fn stat(&self) -> Stat {
        self.tree.stat_of(self.id)
    }

    /// What is stored of the Stat.
    pub fn stored_stat(&self) -> &'a StoredStat {
        &self.tree.znodes[self.id].stat
    }

    /// The ACL list.
    pub fn acl(&self) -> &'a [Acl] {
        self.tree.acls.list(self.tree.znodes[self.id].acl)
    }

    /// The number of children.
    pub fn child_count(&self) -> usize {
        self.tree.znodes[self.id].child_count as usize
    }

    /// The names of the children, in no particular order.
    pub fn children(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let tree = self.tree;
        tree.znodes
            .children(self.id)
            .map(move |child| tree.znodes[child].name.as_str())
    }

    /// The number of all descendants, not counting the znode itself. Takes time in proportion to it, but for the
    /// root.
    pub fn descendants(&self) -> usize {
        if self.id == self.tree.znodes.root() {
            return self.tree.znodes.len() - 1;
        }
        self.tree.znodes.subtree(self.id).count() - 1
    }
}
