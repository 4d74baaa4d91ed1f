//! Trees into snapshots and back.
//!
//! A walk visits the znodes in several short holds of the tree; txns may be applied in between. It goes from parents
//! to children and from newer siblings to older ones, and keeps as its place the next znode to visit; a delete of
//! that znode moves the place on (`znodes.rs`). So every znode that lives through the walk is visited exactly once,
//! and one that is created meanwhile is visited only when its parent was not yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use oxkeeper_types::{Acl, StoredStat, split_path};

use crate::arena::ZnodeId;
use crate::settings::TreeSettings;
use crate::tree::{NewZnode, Tree};

/// Takes what a snapshot has of a znode: path (the root's is empty), data, ACL key and stat.
pub type VisitZnode<'a> = dyn FnMut(&str, Option<&[u8]>, i64, &StoredStat) + 'a;

/// The place of a walk over the tree it was begun on.
#[derive(Debug)]
pub struct SnapshotCursor(Arc<AtomicU32>);

impl SnapshotCursor {
    /// Whether all znodes were visited.
    pub fn is_finished(&self) -> bool {
        ZnodeId::from_number(self.0.load(Ordering::Acquire)) == ZnodeId::NONE
    }
}

/// Why a snapshot cannot be a tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// A list has a key that no list can have, or one that came before.
    #[error("ACL key {key} is not possible or came before")]
    AclKey {
        /// The key.
        key: i64,
    },
    /// A znode came before its parent.
    #[error("znode {path:?} has no parent")]
    Orphan {
        /// The znode.
        path: String,
    },
    /// A path came twice.
    #[error("znode {path:?} came twice")]
    Duplicate {
        /// The path.
        path: String,
    },
    /// The path cannot be one of a znode.
    #[error("{path:?} is not the path of a znode")]
    Path {
        /// The path.
        path: String,
    },
    /// There was no root.
    #[error("the snapshot has no root")]
    NoRoot,
}

/// What is known while a tree is being restored.
#[derive(Debug, Default)]
pub(crate) struct Restoration {
    has_root: bool,
}

impl Tree {
    /// Begins a walk over all znodes.
    pub fn snapshot_cursor(&self) -> SnapshotCursor {
        SnapshotCursor(self.znodes.begin_walk())
    }

    /// Whether the walk was begun on this tree, and not on one that it has replaced.
    pub fn is_walked_by(&self, cursor: &SnapshotCursor) -> bool {
        self.znodes.knows_walk(&cursor.0)
    }

    /// Visits up to `max` further znodes. False when those were the last. The tree must be held for reading meanwhile.
    ///
    /// # Panics
    /// When the walk was begun on another tree.
    pub fn next_znodes(&self, cursor: &mut SnapshotCursor, max: usize, visit: &mut VisitZnode<'_>) -> bool {
        assert!(self.is_walked_by(cursor), "the walk is of another tree");
        let mut next = ZnodeId::from_number(cursor.0.load(Ordering::Acquire));
        let (mut parent, mut path, mut parent_len) = (ZnodeId::NONE, String::new(), 0);
        for _ in 0..max {
            let Some(id) = next.some() else { break };
            let znode = &self.znodes[id];
            if id == self.znodes.root() {
                path.clear();
            } else {
                if znode.parent != parent {
                    parent = znode.parent;
                    path = self.znodes.path(parent);
                    parent_len = if path == "/" { 0 } else { path.len() };
                }
                path.truncate(parent_len);
                path.push('/');
                path.push_str(znode.name.as_str());
            }
            visit(
                &path,
                znode.data.as_deref(),
                self.acls.key(znode.acl),
                &znode.stat,
            );
            next = self.znodes.next_in_preorder(id);
        }
        cursor.0.store(next.number(), Ordering::Release);
        next != ZnodeId::NONE
    }

    /// The ACL lists by key (all at least 1), in the order of keys.
    pub fn acl_table(&self) -> Vec<(i64, Arc<[Acl]>)> {
        self.acls.by_key()
    }

    /// A tree to be filled by [`Tree::restore_acl`] and [`Tree::restore_znode`].
    pub fn begin_restore(settings: &TreeSettings) -> Tree {
        let mut tree = Tree::with_root(settings);
        tree.restoration = Some(Box::default());
        tree
    }

    /// Adds an ACL list of a snapshot. All lists come before the znodes.
    ///
    /// # Errors
    /// When the key is below 1 or came before.
    ///
    /// # Panics
    /// When the tree is not one of [`Tree::begin_restore`].
    pub fn restore_acl(&mut self, key: i64, list: Vec<Acl>) -> Result<(), RestoreError> {
        assert!(self.restoration.is_some(), "the tree is not being restored");
        if self.acls.restore(key, list) {
            Ok(())
        } else {
            Err(RestoreError::AclKey { key })
        }
    }

    /// Adds a znode of a snapshot; the root has an empty path. Of an ACL key that has no list, the list is taken to
    /// be one that permits nothing, until the log brings the right one.
    ///
    /// # Errors
    /// When the path cannot be one of a znode or came before, or the parent has not come yet.
    ///
    /// # Panics
    /// When the tree is not one of [`Tree::begin_restore`].
    pub fn restore_znode(
        &mut self,
        path: &str,
        data: Option<Box<[u8]>>,
        acl_key: i64,
        stat: StoredStat,
    ) -> Result<(), RestoreError> {
        let Some(restoration) = &mut self.restoration else {
            panic!("the tree is not being restored")
        };
        if path.is_empty() {
            if std::mem::replace(&mut restoration.has_root, true) {
                return Err(RestoreError::Duplicate {
                    path: path.to_owned(),
                });
            }
            let acl = self.acls.restored(acl_key);
            let root = self.znodes.root();
            self.znodes[root].acl = acl;
            self.update_data(root, "/", data, |of_root| *of_root = stat);
            return Ok(());
        }
        if !restoration.has_root {
            return Err(RestoreError::Orphan {
                path: path.to_owned(),
            });
        }
        let (parent_path, name) = split_path(path)
            .filter(|(_, name)| path.starts_with('/') && !name.is_empty())
            .ok_or_else(|| RestoreError::Path {
                path: path.to_owned(),
            })?;
        let parent = self
            .znodes
            .lookup(parent_path)
            .ok_or_else(|| RestoreError::Orphan {
                path: path.to_owned(),
            })?;
        if self.znodes.child(parent, name).is_some() {
            return Err(RestoreError::Duplicate {
                path: path.to_owned(),
            });
        }
        let acl = self.acls.restored(acl_key);
        self.insert(parent, name, path, NewZnode { data, acl, stat });
        Ok(())
    }

    /// Makes the tree ready for replay and for use: lists that no znode has are dropped, built-in znodes that the
    /// snapshot does not have (of old releases) are added, and quotas are found and their usage computed.
    ///
    /// # Errors
    /// When there was no root.
    ///
    /// # Panics
    /// When the tree is not one of [`Tree::begin_restore`].
    pub fn finish_restore(&mut self) -> Result<(), RestoreError> {
        let Some(restoration) = self.restoration.take() else {
            panic!("the tree is not being restored")
        };
        if !restoration.has_root {
            return Err(RestoreError::NoRoot);
        }
        self.acls.finish_restore();
        self.add_missing_builtins();
        self.rescan_quotas();
        Ok(())
    }
}
