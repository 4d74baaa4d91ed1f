//! What a txn does to the tree.
//!
//! There is one code for txns as they are committed and for txns of the log replayed over a snapshot. The snapshot
//! may hold effects of any of the txns that are replayed over it (it is fuzzy), so in replay what is already there
//! is kept, what is already gone is passed over, and counters only rise (storage spec, section 8).

use oxkeeper_types::{
    Acl, CreateTxn, ErrorCode, OpCode, OpResult, Outcome, SessionId, Stat, StoredOwner, StoredStat, Txn,
    TxnHeader, ZnodeKind, Zxid, split_path,
};
use std::sync::Arc;

use crate::arena::ZnodeId;
use crate::tree::{NewZnode, Tree};

/// A change that watches may tell of, with the ACLs that decide who may hear of it (client spec, section 8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// A znode was created.
    Created {
        /// Which.
        path: &'a str,
        /// Its ACL.
        acl: &'a [Acl],
        /// The ACL of its parent.
        parent_acl: &'a [Acl],
    },
    /// A znode was deleted.
    Deleted {
        /// Which.
        path: &'a str,
        /// The ACL it had.
        acl: &'a [Acl],
        /// The ACL of its parent.
        parent_acl: &'a [Acl],
    },
    /// The data of a znode was replaced, also when by the same.
    DataChanged {
        /// Which.
        path: &'a str,
        /// Its ACL.
        acl: &'a [Acl],
    },
}

/// Who hears of changes.
type OnChange<'a> = &'a mut dyn FnMut(Change<'_>);

/// Whether a txn must fit the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// It was prepared for the tree as it is; anything else is a broken invariant (T2).
    Live,
    /// The tree may hold later effects already.
    Replay,
}

impl Mode {
    /// The outcome of a txn that does not fit.
    fn unfit(self, header: &TxnHeader, path: &str, code: ErrorCode) -> Outcome {
        assert!(
            self == Mode::Replay,
            "txn {} was prepared for another tree: {code} for {path:?}",
            header.zxid
        );
        Outcome::Failed(code)
    }
}

/// The error of a code in the log; codes that this release does not know become one that it does.
fn logged_error(code: i32) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or(ErrorCode::MarshallingError)
}

fn as_difference(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

impl Tree {
    /// Applies a committed txn and tells of each change, in the order in which watches are to fire.
    ///
    /// # Panics
    /// When the txn does not fit the tree: whoever prepared it broke its promise (T2), and going on would let
    /// servers diverge.
    pub fn apply(&mut self, header: &TxnHeader, txn: Txn, on_change: &mut dyn FnMut(Change<'_>)) -> Outcome {
        self.run(header, txn, Mode::Live, on_change)
    }

    /// Applies a txn of the log to a tree that may hold its effects, or later ones, already. What does not fit
    /// is passed over; the outcome says why.
    pub fn replay(&mut self, header: &TxnHeader, txn: Txn) -> Outcome {
        self.run(header, txn, Mode::Replay, &mut |_| {})
    }

    /// Applies a txn of the leader to the tree of a learner, and tells of each change. The leader, maybe of another
    /// make, prepared it for its own tree; should that not be ours, this server must not fall over, so what does not
    /// fit is passed over as in [`Tree::replay`]. The digests tell that the trees differ.
    pub fn follow(&mut self, header: &TxnHeader, txn: Txn, on_change: &mut dyn FnMut(Change<'_>)) -> Outcome {
        self.run(header, txn, Mode::Replay, on_change)
    }

    /// Deletes the ephemerals of a session that the session table does not know, after a restart. This is no txn:
    /// every server that restores the same snapshot and log does the same.
    pub fn delete_ephemerals_of(&mut self, session: SessionId, zxid: Zxid) {
        self.delete_leftovers(session, zxid, &mut |_| {});
    }

    /// Puts the configuration of the ensemble into its znode, as Java does at every start, outside of all txns.
    pub fn set_config(&mut self, config: Box<[u8]>, config_version: Zxid, time_ms: i64) {
        let path = oxkeeper_types::CONFIG_PATH;
        let Some(id) = self.znodes.lookup(path) else {
            // A tree that came from elsewhere may lack it.
            return;
        };
        self.update_data(id, path, Some(config), |stat| {
            stat.version = -1;
            stat.mzxid = config_version;
            stat.mtime = time_ms;
        });
    }

    fn run(&mut self, header: &TxnHeader, txn: Txn, mode: Mode, on_change: OnChange<'_>) -> Outcome {
        match txn {
            Txn::Create(create) => self.apply_create(header, create, mode, on_change),
            Txn::Delete { path, .. } => match self.delete_path(&path, header.zxid, mode, on_change) {
                Ok(()) => Outcome::Done,
                Err(code) => mode.unfit(header, &path, code),
            },
            Txn::SetData { path, data, version } => {
                match self.apply_set_data(header, &path, data, version, on_change) {
                    Some(stat) => Outcome::Changed(stat),
                    None => mode.unfit(header, &path, ErrorCode::NoNode),
                }
            }
            Txn::Reconfig { path, data, version } => {
                let config = data.clone();
                match self.apply_set_data(header, &path, data, version, on_change) {
                    Some(stat) => Outcome::Reconfigured { config, stat },
                    None => mode.unfit(header, &path, ErrorCode::NoNode),
                }
            }
            Txn::SetAcl { path, acl, version } => self.apply_set_acl(header, &path, &acl, version, mode),
            Txn::Check { .. } | Txn::CreateSession { .. } => Outcome::Done,
            Txn::CloseSession { ephemerals } => {
                for path in ephemerals.unwrap_or_default() {
                    // Those that are gone already are no error, also while serving.
                    let _gone = self.delete_path(&path, header.zxid, Mode::Replay, on_change);
                }
                self.delete_leftovers(header.session, header.zxid, on_change);
                Outcome::Done
            }
            Txn::Error { code } => Outcome::Failed(logged_error(code)),
            Txn::Multi(parts) => Outcome::Multi(self.apply_multi(header, parts, mode, on_change)),
        }
    }

    fn apply_multi(
        &mut self,
        header: &TxnHeader,
        parts: Vec<Txn>,
        mode: Mode,
        on_change: OnChange<'_>,
    ) -> Vec<OpResult> {
        let first_error = parts.iter().position(|part| matches!(part, Txn::Error { .. }));
        if let Some(first_error) = first_error {
            let results = parts.iter().enumerate().map(|(at, part)| match part {
                Txn::Error { code } => OpResult::Error(*code),
                _ if at < first_error => OpResult::Error(0),
                _ => OpResult::Error(ErrorCode::RuntimeInconsistency.code()),
            });
            return results.collect();
        }
        parts
            .into_iter()
            .map(|part| {
                let kind = match part {
                    Txn::Delete { .. } => OpCode::Delete,
                    Txn::SetData { .. } => OpCode::SetData,
                    Txn::Check { .. } => OpCode::Check,
                    // The other kinds have no place in a multi; a strange log may have them all the same.
                    _ => OpCode::Create,
                };
                match self.run(header, part, mode, on_change) {
                    Outcome::Failed(code) => OpResult::Error(code.code()),
                    outcome @ Outcome::Created { stat: Some(_), .. } => OpResult::Ok {
                        op: OpCode::Create2,
                        outcome,
                    },
                    outcome => OpResult::Ok { op: kind, outcome },
                }
            })
            .collect()
    }

    fn apply_create(
        &mut self,
        header: &TxnHeader,
        create: CreateTxn,
        mode: Mode,
        on_change: OnChange<'_>,
    ) -> Outcome {
        let CreateTxn {
            path,
            data,
            acl,
            kind,
            parent_cversion,
            with_stat,
        } = create;
        let place = split_path(&path).filter(|(_, name)| !name.is_empty());
        let place = place.and_then(|(parent, name)| Some((parent, self.znodes.lookup(parent)?, name)));
        let Some((parent_path, parent, name)) = place else {
            return mode.unfit(header, &path, ErrorCode::NoNode);
        };
        let existing = self.znodes.child(parent, name);
        if existing.is_none() && mode == Mode::Live && self.is_ephemeral(&self.znodes[parent].stat) {
            return mode.unfit(header, &path, ErrorCode::NoChildrenForEphemerals);
        }
        // Also in replay when the znode is there: then a snapshot has it, but perhaps an older parent.
        self.update(parent, parent_path, |parent| {
            raise_child_counters(&mut parent.stat, parent_cversion, header.zxid);
        });
        let acl = self.acls.intern(&acl);
        if let Some(existing) = existing {
            let old = std::mem::replace(&mut self.znodes[existing].acl, acl);
            self.acls.release(old);
            return mode.unfit(header, &path, ErrorCode::NodeExists);
        }
        let stat = StoredStat {
            czxid: header.zxid,
            mzxid: header.zxid,
            ctime: header.time,
            mtime: header.time,
            version: 0,
            cversion: 0,
            aversion: 0,
            ephemeral_owner: owner_word(kind, header.session).0,
            pzxid: header.zxid,
        };
        let bytes = data.as_ref().map_or(0, |data| data.len());
        let id = self.insert(parent, name, &path, NewZnode { data, acl, stat });
        let with_stat = with_stat || matches!(kind, ZnodeKind::Container | ZnodeKind::Ttl(_));
        // Before quotas: their stats znodes get other data than they were created with.
        let stat = with_stat.then(|| self.stat_of(id));
        self.register_quota(parent_path, name);
        self.charge_quota(&path, 1, as_difference(bytes));
        let parent_acl = self.acls.list(self.znodes[parent].acl);
        on_change(Change::Created {
            path: &path,
            acl: self.acls.list(acl),
            parent_acl,
        });
        Outcome::Created { path, stat }
    }

    fn apply_set_data(
        &mut self,
        header: &TxnHeader,
        path: &str,
        data: Option<Box<[u8]>>,
        version: i32,
        on_change: OnChange<'_>,
    ) -> Option<Stat> {
        let id = self.znodes.lookup(path)?;
        let old_len = self.znodes[id].data_len();
        self.update_data(id, path, data, |stat| {
            stat.version = version;
            stat.mzxid = header.zxid;
            stat.mtime = header.time;
        });
        let stat = self.stat_of(id);
        let new_len = self.znodes[id].data_len();
        self.charge_quota(path, 0, as_difference(new_len) - as_difference(old_len));
        on_change(Change::DataChanged {
            path,
            acl: self.acls.list(self.znodes[id].acl),
        });
        Some(stat)
    }

    fn apply_set_acl(
        &mut self,
        header: &TxnHeader,
        path: &str,
        acl: &[Acl],
        version: i32,
        mode: Mode,
    ) -> Outcome {
        let Some(id) = self.znodes.lookup(path) else {
            return mode.unfit(header, path, ErrorCode::NoNode);
        };
        let acl = self.acls.intern(acl);
        let old = std::mem::replace(&mut self.znodes[id].acl, acl);
        self.acls.release(old);
        self.update(id, path, |znode| znode.stat.aversion = version);
        Outcome::Changed(self.stat_of(id))
    }

    /// Deletes the znode at `path`. In replay a znode that has children goes with all of them: they can only be
    /// of a later znode of that path, whose creates are still to be replayed.
    fn delete_path(
        &mut self,
        path: &str,
        zxid: Zxid,
        mode: Mode,
        on_change: OnChange<'_>,
    ) -> Result<(), ErrorCode> {
        let (parent_path, name) = split_path(path).ok_or(ErrorCode::NoNode)?;
        let parent = self.znodes.lookup(parent_path).ok_or(ErrorCode::NoNode)?;
        let id = self.znodes.child(parent, name);
        // Also when the znode is gone: a snapshot may have missed it, but have an older parent.
        self.update(parent, parent_path, |parent| {
            parent.stat.pzxid = parent.stat.pzxid.max(zxid);
        });
        let id = id.ok_or(ErrorCode::NoNode)?;
        if self.znodes[id].child_count > 0 {
            if mode == Mode::Live {
                return Err(ErrorCode::NotEmpty);
            }
            let subtree: Vec<ZnodeId> = self.znodes.subtree(id).collect();
            for &descendant in subtree[1..].iter().rev() {
                let path = self.znodes.path(descendant);
                self.delete_leaf(descendant, &path);
            }
        }
        let acl = self.delete_leaf(id, path);
        let parent_acl = self.acls.list(self.znodes[parent].acl);
        on_change(Change::Deleted {
            path,
            acl: &acl,
            parent_acl,
        });
        Ok(())
    }

    /// Takes a znode out of the tree, the indexes and the quotas, and returns the ACL it had.
    fn delete_leaf(&mut self, id: ZnodeId, path: &str) -> Arc<[Acl]> {
        let znode = self.remove(id, path);
        let acl = Arc::clone(self.acls.list(znode.acl));
        self.acls.release(znode.acl);
        if let Some((parent_path, name)) = split_path(path) {
            self.unregister_quota(parent_path, name);
        }
        self.charge_quota(path, -1, -as_difference(znode.data_len()));
        acl
    }

    /// Deletes the ephemerals that a session still has (T3).
    fn delete_leftovers(&mut self, session: SessionId, zxid: Zxid, on_change: OnChange<'_>) {
        for path in self.ephemerals_of(session) {
            // A strange snapshot may have ephemerals below ephemerals; those went with their parent.
            let _gone = self.delete_path(&path, zxid, Mode::Replay, on_change);
        }
        assert!(
            self.ephemerals_of(session).is_empty(),
            "ephemerals of {session} are in the index only"
        );
    }
}

/// The owner word of a new znode. A time to live that cannot be stored can only come from a strange log.
fn owner_word(kind: ZnodeKind, session: SessionId) -> StoredOwner {
    match kind {
        ZnodeKind::Ttl(ttl_ms) => StoredOwner::of(
            ZnodeKind::Ttl(ttl_ms.clamp(1, oxkeeper_types::TTL_MS_MAX)),
            session,
        ),
        _ => StoredOwner::of(kind, session),
    }
}

/// Counts a create under a parent. The counter stays where it is at the end of its range, as in Java.
pub(crate) fn raise_child_counters(parent: &mut StoredStat, cversion: i32, zxid: Zxid) {
    let cversion = if cversion == -1 {
        parent.cversion.wrapping_add(1)
    } else {
        cversion
    };
    if cversion > parent.cversion {
        parent.cversion = cversion;
        parent.pzxid = zxid;
    }
}
