//! The shape of the tree: names, parents, siblings, and the one look-up by (parent, name).
//!
//! The look-up tables are many small ones, so that when one has to grow only one in thousands of the names is hashed
//! anew. New children become the first of their parent; a walk (see `snapshot.rs`) rests on that.

use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::quality::FixedState;
use hashbrown::HashTable;

use crate::arena::{Arena, Znode, ZnodeId};

/// The number of look-up tables; a power of two.
const SHARDS: usize = 1 << 12;

/// The znodes and how to find them.
#[derive(Debug)]
pub(crate) struct Znodes {
    arena: Arena,
    /// By the hash of (parent, name).
    shards: Box<[HashTable<ZnodeId>]>,
    hash_state: FixedState,
    root: ZnodeId,
    /// The next znode of each walk under way. A delete moves a walk on that was to visit the deleted znode.
    walks: Mutex<Vec<Arc<AtomicU32>>>,
}

fn hash(state: &FixedState, parent: ZnodeId, name: &[u8]) -> u64 {
    let mut hasher = state.build_hasher();
    hasher.write_u32(parent.number());
    hasher.write(name);
    hasher.finish()
}

/// The table uses the hash's highest bits for tags and its lowest for places; in between are bits of our own.
fn shard(hash: u64) -> usize {
    usize::try_from((hash >> 40) & (SHARDS as u64 - 1)).unwrap_or_default()
}

impl Znodes {
    /// Znodes with the given root alone.
    pub(crate) fn new(hash_seed: u64, root: Znode) -> Znodes {
        let mut arena = Arena::new();
        let root = arena.insert(root);
        Znodes {
            arena,
            shards: (0..SHARDS).map(|_| HashTable::new()).collect(),
            hash_state: FixedState::with_seed(hash_seed),
            root,
            walks: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.arena.len()
    }

    pub(crate) fn root(&self) -> ZnodeId {
        self.root
    }

    /// The child `name` of `parent`.
    pub(crate) fn child(&self, parent: ZnodeId, name: &str) -> Option<ZnodeId> {
        let hash = hash(&self.hash_state, parent, name.as_bytes());
        self.shards[shard(hash)]
            .find(hash, |&id| {
                self.arena[id].parent == parent && self.arena[id].name.as_bytes() == name.as_bytes()
            })
            .copied()
    }

    /// The znode of a path; both `/` and the empty path are the root. Paths that are not valid find nothing.
    pub(crate) fn lookup(&self, path: &str) -> Option<ZnodeId> {
        if path.is_empty() || path == "/" {
            return Some(self.root);
        }
        let mut id = self.root;
        for name in path.strip_prefix('/')?.split('/') {
            id = self.child(id, name)?;
        }
        Some(id)
    }

    /// Adds a znode under its parent, whose stat stays as it is.
    ///
    /// # Panics
    /// When its name is empty, or the parent has a child of that name.
    pub(crate) fn insert(&mut self, parent: ZnodeId, mut znode: Znode) -> ZnodeId {
        assert!(!znode.name.as_bytes().is_empty(), "a child must have a name");
        let hash = hash(&self.hash_state, parent, znode.name.as_bytes());
        debug_assert!(
            self.child(parent, znode.name.as_str()).is_none(),
            "a second child named {:?}",
            znode.name
        );
        let next = self.arena[parent].first_child;
        znode.parent = parent;
        znode.previous_sibling = ZnodeId::NONE;
        znode.next_sibling = next;
        let id = self.arena.insert(znode);
        if let Some(next) = next.some() {
            self.arena[next].previous_sibling = id;
        }
        self.arena[parent].first_child = id;
        self.arena[parent].child_count += 1;
        let (arena, state) = (&self.arena, &self.hash_state);
        self.shards[shard(hash)].insert_unique(hash, id, |&id| {
            let znode = &arena[id];
            self::hash(state, znode.parent, znode.name.as_bytes())
        });
        id
    }

    /// Takes out a znode without children; the parent's stat stays as it is.
    ///
    /// # Panics
    /// When it has children or is the root.
    pub(crate) fn remove(&mut self, id: ZnodeId) -> Znode {
        assert_eq!(
            self.arena[id].child_count, 0,
            "znode {:?} has children",
            self.arena[id].name
        );
        assert!(id != self.root, "the root stays");
        self.move_walks_on(id);
        let znode = self.arena.remove(id);
        let hash = hash(&self.hash_state, znode.parent, znode.name.as_bytes());
        self.shards[shard(hash)]
            .find_entry(hash, |&other| other == id)
            .unwrap_or_else(|_| unreachable!("child {:?} was never entered", znode.name))
            .remove();
        let parent = &mut self.arena[znode.parent];
        parent.child_count -= 1;
        match znode.previous_sibling.some() {
            None => parent.first_child = znode.next_sibling,
            Some(previous) => self.arena[previous].next_sibling = znode.next_sibling,
        }
        if let Some(next) = znode.next_sibling.some() {
            self.arena[next].previous_sibling = znode.previous_sibling;
        }
        znode
    }

    /// The path of a znode, as clients write it.
    pub(crate) fn path(&self, id: ZnodeId) -> String {
        if id == self.root {
            return "/".to_owned();
        }
        let ancestors = || {
            std::iter::successors(Some(id), |&at| Some(self.arena[at].parent))
                .take_while(|&at| at != self.root)
        };
        let mut names: smallvec::SmallVec<[&str; 16]> =
            ancestors().map(|at| self.arena[at].name.as_str()).collect();
        names.reverse();
        let mut path = String::with_capacity(names.iter().map(|name| name.len() + 1).sum());
        for name in names {
            path.push('/');
            path.push_str(name);
        }
        path
    }

    /// The children of a znode, the newest first.
    pub(crate) fn children(&self, id: ZnodeId) -> impl Iterator<Item = ZnodeId> {
        std::iter::successors(self.arena[id].first_child.some(), |&child| {
            self.arena[child].next_sibling.some()
        })
    }

    /// The znode after `id` when parents come before their children.
    pub(crate) fn next_in_preorder(&self, id: ZnodeId) -> ZnodeId {
        match self.arena[id].first_child.some() {
            Some(child) => child,
            None => self.next_after_subtree(id),
        }
    }

    /// The znode after `id` and all its descendants, in the same order.
    pub(crate) fn next_after_subtree(&self, id: ZnodeId) -> ZnodeId {
        let mut at = id;
        while at != self.root {
            let znode = &self.arena[at];
            if znode.next_sibling != ZnodeId::NONE {
                return znode.next_sibling;
            }
            at = znode.parent;
        }
        ZnodeId::NONE
    }

    /// `id` and all its descendants, parents before children.
    pub(crate) fn subtree(&self, id: ZnodeId) -> impl Iterator<Item = ZnodeId> {
        let end = self.next_after_subtree(id);
        std::iter::successors(Some(id), move |&at| {
            let next = self.next_in_preorder(at);
            (next != end).then_some(next)
        })
    }

    /// Begins a walk over all znodes at the root.
    pub(crate) fn begin_walk(&self) -> Arc<AtomicU32> {
        let walk = Arc::new(AtomicU32::new(self.root.number()));
        let mut walks = self.walks.lock().unwrap_or_else(PoisonError::into_inner);
        walks.retain(|walk| Arc::strong_count(walk) > 1);
        walks.push(Arc::clone(&walk));
        walk
    }

    /// Whether the walk was begun here.
    pub(crate) fn knows_walk(&self, walk: &Arc<AtomicU32>) -> bool {
        let walks = self.walks.lock().unwrap_or_else(PoisonError::into_inner);
        walks.iter().any(|known| Arc::ptr_eq(known, walk))
    }

    /// Sees to it that no walk goes on at a znode that is about to be removed.
    fn move_walks_on(&mut self, id: ZnodeId) {
        let mut walks = std::mem::take(self.walks.get_mut().unwrap_or_else(PoisonError::into_inner));
        if !walks.is_empty() {
            walks.retain(|walk| Arc::strong_count(walk) > 1);
            for walk in &walks {
                if walk.load(Ordering::Acquire) == id.number() {
                    walk.store(self.next_after_subtree(id).number(), Ordering::Release);
                }
            }
        }
        *self.walks.get_mut().unwrap_or_else(PoisonError::into_inner) = walks;
    }
}

impl std::ops::Index<ZnodeId> for Znodes {
    type Output = Znode;

    fn index(&self, id: ZnodeId) -> &Znode {
        &self.arena[id]
    }
}

impl std::ops::IndexMut<ZnodeId> for Znodes {
    fn index_mut(&mut self, id: ZnodeId) -> &mut Znode {
        &mut self.arena[id]
    }
}
