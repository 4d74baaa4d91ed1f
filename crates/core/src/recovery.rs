//! From files to a replica and back: here tree and storage, strangers to each other, meet.

use std::collections::{BTreeMap, VecDeque};

use oxkeeper_storage::{LogEnd, Origin, SnapshotFile, SnapshotSink, SnapshotWriter, Storage, StorageError};
use oxkeeper_tree::{SnapshotCursor, Tree, TreeSettings};
use oxkeeper_types::{Acl, SessionId, StoredStat, Txn, TxnDigest, Zxid};
use oxkeeper_wire::{SnapshotDigest, decode_txn_entry};
use oxkeeper_zab::Entry;
use parking_lot::RwLock;

use crate::Replica;

/// Znodes written to a snapshot under one hold of the replica.
const ZNODES_PER_HOLD: usize = 500;

/// What a start has found on disk.
#[derive(Debug)]
pub struct Recovered {
    /// The state after all txns of the log.
    pub replica: Replica,
    /// Where the log ends; to open it for writing.
    pub log_end: LogEnd,
    /// The last txns of the log, without a gap. The replica has them all.
    pub window: Vec<Entry>,
    /// The txn before the window, or the end of the snapshot when no txn is.
    pub window_start: Zxid,
    /// Whether there was nothing: then a snapshot must be written before the log is opened.
    pub is_new: bool,
    /// Whether there was nothing although nobody said that an empty tree is meant (`db.autocreate`, `initialize`).
    pub is_unexplained: bool,
    /// What the operator should know: what was cut, rejected or found to differ.
    pub notes: Vec<String>,
}

/// Takes in a snapshot.
pub(crate) struct Restoring {
    pub(crate) tree: Tree,
    pub(crate) sessions: BTreeMap<SessionId, i32>,
}

impl Restoring {
    pub(crate) fn new(settings: &TreeSettings) -> Restoring {
        Restoring {
            tree: Tree::begin_restore(settings),
            sessions: BTreeMap::new(),
        }
    }
}

impl SnapshotSink for Restoring {
    fn session(&mut self, session: SessionId, timeout_ms: i32) -> Result<(), String> {
        self.sessions.insert(session, timeout_ms);
        Ok(())
    }

    fn acl(&mut self, key: i64, acl: Vec<Acl>) -> Result<(), String> {
        self.tree.restore_acl(key, acl).map_err(|error| error.to_string())
    }

    fn znode(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        acl_key: i64,
        stat: &StoredStat,
    ) -> Result<(), String> {
        self.tree
            .restore_znode(path, data.map(Box::from), acl_key, *stat)
            .map_err(|error| error.to_string())
    }
}

/// Loads the newest valid snapshot and replays the log on it (storage spec, sections 8 and 10). Keeps the last
/// `window_max` txns that it has replayed; a standalone server has no use for them.
///
/// # Errors
/// When the files are damaged, do not belong together, or hold nothing although something was expected.
pub fn recover(
    storage: &Storage,
    settings: &TreeSettings,
    window_max: usize,
) -> Result<Recovered, StorageError> {
    let loaded = storage.load(|| Restoring::new(settings))?;
    let mut notes: Vec<String> = loaded
        .rejected
        .iter()
        .map(|error| format!("a snapshot was passed over: {error}"))
        .collect();
    let Restoring {
        mut tree,
        mut sessions,
    } = loaded.state;
    // What the log must reach, or else effects of lost txns are in the snapshot.
    let mut walk_end = Zxid::ZERO;
    // The digest at the end of the snapshot's walk. Until replay reaches its zxid the tree is fuzzy, and cannot be
    // compared with the digests of txns.
    let mut pending_digest = None;
    // In a snapshot from another server that moment is not known: the tree may differ until it is equal once.
    let mut was_equal = true;
    match &loaded.origin {
        Origin::Snapshot { file, tail } => {
            tree.finish_restore().map_err(|error| StorageError::Corrupt {
                file: file.clone(),
                offset: 0,
                what: error.to_string(),
                remedy: "Restore the file from a backup".to_owned(),
            })?;
            walk_end = tail.walk_end();
            pending_digest = tail
                .digest
                .filter(|digest| digest.zxid > Zxid::ZERO && digest.zxid >= loaded.zxid);
            was_equal = pending_digest.is_some();
        }
        Origin::TrustedLog | Origin::Fresh | Origin::Unknown => tree = Tree::new(settings),
    }
    let mut zxid = loaded.zxid;
    let mut mismatches = 0_u64;
    let fits_snapshot_digest = |tree: &Tree, zxid: Zxid, pending: &mut Option<SnapshotDigest>| {
        let Some(digest) = pending.take_if(|digest| digest.zxid == zxid) else {
            return true;
        };
        let here = tree.digest();
        digest.version != here.version || digest.tree_digest == here.tree_digest
    };
    let mut window: VecDeque<Entry> = VecDeque::new();
    let mut window_start = zxid.max(Zxid::ZERO);
    let mut log = storage.read_log(window_start)?;
    mismatches += u64::from(!fits_snapshot_digest(&tree, zxid, &mut pending_digest));
    while let Some(entry) = log.next_entry()? {
        let (header, txn, digest) = match decode_txn_entry(entry.bytes) {
            Ok(decoded) => decoded,
            Err(error) => return Err(log.refuse_entry(&error.to_string())),
        };
        match &txn {
            Txn::CreateSession { timeout_ms } => _ = sessions.insert(header.session, *timeout_ms),
            Txn::CloseSession { .. } => _ = sessions.remove(&header.session),
            _ => {}
        }
        if window_max == 0 {
            window_start = entry.zxid;
        } else {
            if window.len() == window_max
                && let Some(oldest) = window.pop_front()
            {
                window_start = oldest.zxid;
            }
            let (zxid, txn) = (entry.zxid, entry.bytes.into());
            window.push_back(Entry { zxid, txn });
        }
        // What does not fit is an effect that the fuzzy snapshot holds already.
        let _passed_over = tree.replay(&header, txn);
        zxid = zxid.max(header.zxid);
        if pending_digest.is_some() {
            mismatches += u64::from(!fits_snapshot_digest(&tree, zxid, &mut pending_digest));
        } else if let Some(digest) = digest {
            let here = tree.digest();
            if digest == here && !was_equal {
                was_equal = true;
                mismatches = 0;
            }
            mismatches += u64::from(digest.version == here.version && digest != here);
        }
    }
    let log_end = log.finish();
    notes.extend(log_end.cuts.iter().map(|cut| {
        format!(
            "{}: the log ends at offset {} ({}); what was not acknowledged was left out",
            cut.file.display(),
            cut.offset,
            cut.reason
        )
    }));
    if walk_end > zxid {
        notes.push(format!(
            "the snapshot may have effects of txns up to {walk_end}, but the log ends at {zxid}"
        ));
    }
    if settings.digest_enabled && mismatches > 0 {
        notes.push(format!(
            "the tree differs from the one that was logged, at {mismatches} txns"
        ));
    }
    let strangers: Vec<SessionId> = tree
        .sessions_with_ephemerals()
        .map(|(session, _)| session)
        .filter(|session| !sessions.contains_key(session))
        .collect();
    for session in strangers {
        notes.push(format!(
            "the ephemerals of session {session} were deleted: it does not exist any more"
        ));
        tree.delete_ephemerals_of(session, zxid);
    }
    let is_unexplained = matches!(loaded.origin, Origin::Unknown);
    let is_new = is_unexplained || matches!(loaded.origin, Origin::Fresh);
    let mut replica = Replica::new(tree, zxid.max(Zxid::ZERO), sessions);
    replica.history = loaded.history;
    Ok(Recovered {
        replica,
        log_end,
        window: window.into(),
        window_start,
        is_new,
        is_unexplained,
        notes,
    })
}

/// Takes a snapshot while the replica goes on changing: it is held for reading a few hundred znodes at a time. `None`
/// when it was given up, because another history took the place of the one it is of.
///
/// # Errors
/// When the file cannot be written.
pub fn write_snapshot(
    replica: &RwLock<Replica>,
    storage: &Storage,
    with_last_zxid: bool,
    with_digest: bool,
) -> Result<Option<SnapshotFile>, StorageError> {
    let mut walk = SnapshotWalk::begin(replica, storage)?;
    while walk.visit(replica, ZNODES_PER_HOLD)? {}
    walk.finish(with_last_zxid, with_digest)
}

/// A snapshot that is being taken, hold by hold; txns may be applied between the holds.
pub struct SnapshotWalk {
    writer: SnapshotWriter,
    cursor: SnapshotCursor,
    /// Of the moment of the last visit.
    end: (Zxid, TxnDigest),
    /// Another state took the place of the one it is of.
    is_overtaken: bool,
}

impl SnapshotWalk {
    /// Begins the snapshot of the replica as it is now: this moment gives its name.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn begin(replica: &RwLock<Replica>, storage: &Storage) -> Result<SnapshotWalk, StorageError> {
        // Sessions and ACL lists come from the moment that gives the name; later ones are in the log.
        let (history, zxid, sessions, acls, cursor, digest) = {
            let replica = replica.read();
            let sessions = replica.sessions.clone();
            (
                replica.history,
                replica.last_processed,
                sessions,
                replica.tree.acl_table(),
                replica.tree.snapshot_cursor(),
                replica.tree.digest(),
            )
        };
        Ok(SnapshotWalk {
            writer: storage.begin_snapshot(history, zxid, sessions.into_iter(), acls.into_iter())?,
            cursor,
            end: (zxid, digest),
            is_overtaken: false,
        })
    }

    /// Writes up to `znodes_max` further znodes, taken under one hold of the replica. False when those were the
    /// last, or another state took the place of the one that the walk was begun on.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn visit(&mut self, replica: &RwLock<Replica>, znodes_max: usize) -> Result<bool, StorageError> {
        let more = {
            let replica = replica.read();
            if !replica.tree.is_walked_by(&self.cursor) {
                self.is_overtaken = true;
                return Ok(false);
            }
            let mut visit = |path: &str, data: Option<&[u8]>, acl_key: i64, stat: &StoredStat| {
                self.writer.znode(path, data, acl_key, stat);
            };
            let more = replica.tree.next_znodes(&mut self.cursor, znodes_max, &mut visit);
            self.end = (replica.last_processed, replica.tree.digest());
            more
        };
        self.writer.write_out()?;
        Ok(more)
    }

    /// The newest txn that it may have an effect of, so far. The log must be durable up to there when it is finished:
    /// a leader may apply a txn that a quorum has before its own disk has it, and a snapshot with an effect of a txn
    /// that is lost would be of no history.
    pub fn end_zxid(&self) -> Zxid {
        self.end.0
    }

    /// Makes it a snapshot, once all znodes were visited. `None` when it was given up, because another history took
    /// the place of the one it is of.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(
        self,
        with_last_zxid: bool,
        with_digest: bool,
    ) -> Result<Option<SnapshotFile>, StorageError> {
        if self.is_overtaken {
            return Ok(None);
        }
        assert!(self.cursor.is_finished(), "znodes are missing in the snapshot");
        let (last_zxid, digest) = self.end;
        let digest = with_digest.then_some(SnapshotDigest {
            zxid: last_zxid,
            version: digest.version,
            // Java knows no digest before the first txn.
            tree_digest: if last_zxid == Zxid::ZERO {
                0
            } else {
                digest.tree_digest
            },
        });
        self.writer.finish(digest, with_last_zxid.then_some(last_zxid))
    }
}
