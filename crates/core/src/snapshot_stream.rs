//! A whole state on its way from a leader to a learner (quorum spec, section 4.4): what stands in a snapshot file
//! between its header and its first seal, and a signature.
//!
//! ```text
//! sessions: count, then (id, timeout) each · ACL lists: count, then (key, list) each · znodes, parents before
//! their children · "/" · "BenWasHere"
//! ```
//!
//! The walk is fuzzy as one to a file is: it lacks nothing of the txns before its begin, and may have effects of those
//! that are applied meanwhile. The learner gets these txns behind it, and replays them.

use std::collections::{BTreeMap, btree_map};
use std::sync::Arc;

use oxkeeper_storage::{SetAside, SnapshotSink, SnapshotWriter, Storage, StorageError};
use oxkeeper_tree::{SnapshotCursor, Tree, TreeSettings};
use oxkeeper_types::{Acl, SessionId, StoredStat, TxnDigest, Zxid};
use oxkeeper_wire::{
    DecodeError, Decoder, Encoder, SNAPSHOT_END, SNAPSHOT_SIGNATURE, SnapshotDigest, decode_acl,
    decode_session, decode_znode, encode_acl_entry, encode_session, encode_znode,
};
use parking_lot::RwLock;

use crate::Replica;
use crate::recovery::Restoring;

/// A chunk ends with the record that makes it this long.
const CHUNK_BYTES: usize = 256 * 1024;
/// Znodes written to a chunk under one hold of the replica, at most.
const ZNODES_PER_HOLD: usize = 500;
/// Znodes visited before the length of the chunk is looked at.
const ZNODES_AT_ONCE: usize = 8;

/// A leader's side: the state as bytes, chunk by chunk; txns may be applied between the chunks.
pub struct SnapshotStream {
    part: Part,
    acls: std::vec::IntoIter<(i64, Arc<[Acl]>)>,
    cursor: SnapshotCursor,
    chunk_bytes: usize,
}

/// What comes next.
enum Part {
    SessionCount(BTreeMap<SessionId, i32>),
    Sessions(btree_map::IntoIter<SessionId, i32>),
    Acls,
    Znodes,
    End,
}

impl SnapshotStream {
    /// Begins the stream of the replica as it is now.
    pub fn begin(replica: &RwLock<Replica>) -> SnapshotStream {
        let replica = replica.read();
        SnapshotStream {
            part: Part::SessionCount(replica.sessions.clone()),
            acls: replica.tree.acl_table().into_iter(),
            cursor: replica.tree.snapshot_cursor(),
            chunk_bytes: CHUNK_BYTES,
        }
    }

    /// The same in chunks of about this many bytes, so that a small tree takes several.
    pub fn in_chunks_of(self, chunk_bytes: usize) -> SnapshotStream {
        SnapshotStream { chunk_bytes, ..self }
    }

    /// Appends the next chunk to `out`. False when that was the last.
    ///
    /// When the tree was replaced since [`SnapshotStream::begin`], the stream ends without its signature, so that
    /// no learner takes it for whole: a leader's tree is not replaced, so the link is about to be closed.
    pub fn next_chunk(&mut self, replica: &RwLock<Replica>, out: &mut Vec<u8>) -> bool {
        let end = out.len() + self.chunk_bytes;
        loop {
            match &mut self.part {
                Part::SessionCount(sessions) => {
                    Encoder::new(out).length(sessions.len());
                    self.part = Part::Sessions(std::mem::take(sessions).into_iter());
                }
                Part::Sessions(sessions) => match sessions.next() {
                    Some((session, timeout_ms)) => {
                        encode_session(&mut Encoder::new(out), session, timeout_ms);
                    }
                    None => {
                        Encoder::new(out).length(self.acls.len());
                        self.part = Part::Acls;
                    }
                },
                Part::Acls => match self.acls.next() {
                    Some((key, acl)) => encode_acl_entry(&mut Encoder::new(out), key, &acl),
                    None => self.part = Part::Znodes,
                },
                Part::Znodes => {
                    let replica = replica.read();
                    if !replica.tree.is_walked_by(&self.cursor) {
                        self.part = Part::End;
                        return false;
                    }
                    let mut more = true;
                    for _ in 0..ZNODES_PER_HOLD / ZNODES_AT_ONCE {
                        let mut visit = |path: &str, data: Option<&[u8]>, acl_key: i64, stat: &StoredStat| {
                            encode_znode(&mut Encoder::new(out), path, data, acl_key, stat);
                        };
                        more = replica
                            .tree
                            .next_znodes(&mut self.cursor, ZNODES_AT_ONCE, &mut visit);
                        if !more || out.len() >= end {
                            break;
                        }
                    }
                    if more {
                        return true;
                    }
                    self.part = Part::End;
                    let mut encoder = Encoder::new(out);
                    encoder.raw(&SNAPSHOT_END);
                    encoder.string(SNAPSHOT_SIGNATURE);
                    return false;
                }
                Part::End => return false,
            }
            if out.len() >= end {
                return true;
            }
        }
    }
}

/// Why a state could not be taken in.
#[derive(Clone, Debug, thiserror::Error)]
pub enum IntakeError {
    /// The stream cannot be of a snapshot: its link is to be closed.
    #[error("the snapshot of the leader is wrong at byte {offset}: {what}")]
    Stream {
        /// Where the wrong record begins, in bytes from the begin of the stream.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },
    /// It cannot be stored: the disk of this server is at fault.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What [`SnapshotIntake::feed`] did with the bytes it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntakeProgress {
    /// How many of them, from the first, belong to the snapshot; the others are packets that follow it. All of them
    /// as long as it is not complete.
    pub consumed: usize,
    /// Whether the snapshot is complete.
    pub is_complete: bool,
}

/// A leader's state, whole and well formed, on disk and in memory.
pub struct ReceivedSnapshot {
    /// The state in memory; `last_processed` is the zxid of the SNAP packet.
    pub replica: Replica,
    /// The state on disk, not part of this server's history before [`Storage::install`].
    pub file: SetAside,
}

/// A learner's side: takes a leader's state in as its bytes come, builds the tree, and writes the file that will be
/// its snapshot. Dropped before its end, it removes the file. Memory is taken for what came, a record at a time and
/// the tree itself, never for a length or count that was only claimed (B2).
pub struct SnapshotIntake {
    records: Records,
    writer: SnapshotWriter,
    zxid: Zxid,
    digest_enabled: bool,
    record_bytes_max: usize,
    /// What came and could not be decoded yet: the begin of one record.
    buffer: Vec<u8>,
    /// How many bytes that record has, at least.
    record_bytes_min: usize,
    /// Where that record begins in the stream.
    offset: u64,
}

/// The place in the stream and what came before it.
struct Records {
    state: Restoring,
    next: Next,
}

/// The record that comes next. Lists are taken in element by element, so that no record is decoded over and over
/// as it grows.
enum Next {
    SessionCount,
    /// So many sessions.
    Session(i32),
    AclCount,
    /// So many lists.
    AclKey(i32),
    Acl {
        lists_left: i32,
        key: i64,
        acls_left: i32,
        list: Vec<Acl>,
        list_bytes: usize,
    },
    Znode,
    Signature,
    Nothing,
    /// After an error.
    Failed,
}

/// Why a record was not taken.
enum Refusal {
    Undecodable(DecodeError),
    Unacceptable(String),
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Refusal {
        Refusal::Undecodable(error)
    }
}

impl From<String> for Refusal {
    fn from(what: String) -> Refusal {
        Refusal::Unacceptable(what)
    }
}

impl SnapshotIntake {
    /// Begins to take in the stream behind a SNAP packet with this zxid.
    ///
    /// # Errors
    /// When the zxid is negative, or the file cannot be made.
    pub fn begin(
        storage: &Storage,
        settings: &TreeSettings,
        zxid: Zxid,
    ) -> Result<SnapshotIntake, IntakeError> {
        if zxid < Zxid::ZERO {
            return Err(IntakeError::Stream {
                offset: 0,
                what: format!("no snapshot can be of txn {zxid}"),
            });
        }
        let state = Restoring::new(settings);
        Ok(SnapshotIntake {
            records: Records {
                state,
                next: Next::SessionCount,
            },
            writer: storage.begin_set_aside(zxid)?,
            zxid,
            digest_enabled: settings.digest_enabled,
            record_bytes_max: usize::try_from(storage.limits().entry_bytes_max).unwrap_or(usize::MAX),
            buffer: Vec::new(),
            record_bytes_min: 0,
            offset: 0,
        })
    }

    /// Takes in the next bytes, any number of them. Blocks for the disk.
    ///
    /// # Errors
    /// When they cannot be of a snapshot, or the file cannot be written. The intake is to be dropped then.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<IntakeProgress, IntakeError> {
        self.buffer.extend_from_slice(bytes);
        let mut decoded = 0;
        while !matches!(self.records.next, Next::Nothing) {
            let unread = &self.buffer[decoded..];
            if unread.len() < self.record_bytes_min {
                break;
            }
            let mut decoder = Decoder::new(unread);
            match self.records.take(&mut decoder, self.record_bytes_max) {
                Ok(()) => {
                    let length = unread.len() - decoder.remaining();
                    // The writer adds the end of the znodes itself.
                    if !matches!(self.records.next, Next::Signature | Next::Nothing) {
                        self.writer.records(&unread[..length]);
                    }
                    decoded += length;
                    self.offset += length as u64;
                    self.record_bytes_min = 0;
                }
                Err(Refusal::Undecodable(DecodeError::Short { needed, left })) => {
                    let least = unread.len().saturating_add(needed - left);
                    if least > self.record_bytes_max {
                        return Err(self.fail(format!(
                            "a record of {least} bytes or more, the limit is {}",
                            self.record_bytes_max
                        )));
                    }
                    self.record_bytes_min = least;
                    break;
                }
                Err(Refusal::Undecodable(error)) => return Err(self.fail(error.to_string())),
                Err(Refusal::Unacceptable(what)) => return Err(self.fail(what)),
            }
        }
        self.buffer.drain(..decoded);
        self.writer.write_out()?;
        let is_complete = matches!(self.records.next, Next::Nothing);
        let mut consumed = bytes.len();
        if is_complete {
            // The signature ended in these bytes, so what is left is of them.
            consumed -= self.buffer.len();
            self.buffer = Vec::new();
        }
        Ok(IntakeProgress {
            consumed,
            is_complete,
        })
    }

    /// The state, once it is complete. Blocks until the file is synced.
    ///
    /// # Errors
    /// When it is not complete, or the file cannot be written.
    pub fn finish(self) -> Result<ReceivedSnapshot, IntakeError> {
        if !matches!(self.records.next, Next::Nothing) {
            return Err(IntakeError::Stream {
                offset: self.offset,
                what: "it ends early".to_owned(),
            });
        }
        let Restoring { tree, sessions } = self.records.state;
        let TxnDigest { version, tree_digest } = tree.digest();
        let zxid = self.zxid;
        let digest = SnapshotDigest {
            zxid,
            version,
            tree_digest,
        };
        let file = self.writer.set_aside(self.digest_enabled.then_some(digest))?;
        let mut replica = Replica::new(tree, self.zxid, sessions);
        replica.history = file.history();
        Ok(ReceivedSnapshot { replica, file })
    }

    /// How many bytes of an unfinished record it holds.
    #[cfg(test)]
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    fn fail(&mut self, what: String) -> IntakeError {
        self.records.next = Next::Failed;
        IntakeError::Stream {
            offset: self.offset,
            what,
        }
    }
}

impl Records {
    /// Takes in the next record. Changes nothing when the bytes are too few.
    fn take(&mut self, decoder: &mut Decoder<'_>, record_bytes_max: usize) -> Result<(), Refusal> {
        let before = decoder.remaining();
        self.next = match &mut self.next {
            Next::SessionCount => Next::session(decoder.int()?),
            Next::Session(left) => {
                let left = *left - 1;
                let (session, timeout_ms) = decode_session(decoder)?;
                self.state.session(session, timeout_ms)?;
                Next::session(left)
            }
            Next::AclCount => Next::acl_list(decoder.int()?),
            Next::AclKey(lists) => {
                let lists_left = *lists - 1;
                let key = decoder.long()?;
                let acls = decoder.int()?;
                if acls == -1 {
                    return Err(DecodeError::UnexpectedNull("a list of the ACL map").into());
                }
                self.acl(lists_left, key, acls, Vec::new(), 0)?
            }
            Next::Acl {
                lists_left,
                key,
                acls_left,
                list,
                list_bytes,
            } => {
                let acl = decode_acl(decoder)?;
                let bytes = *list_bytes + (before - decoder.remaining());
                if bytes > record_bytes_max {
                    return Err(
                        format!("an ACL list is longer than the limit of {record_bytes_max} bytes").into(),
                    );
                }
                let (lists_left, key, acls_left, mut list) =
                    (*lists_left, *key, *acls_left - 1, std::mem::take(list));
                list.push(acl);
                self.acl(lists_left, key, acls_left, list, bytes)?
            }
            Next::Znode => match decode_znode(decoder)? {
                Some(znode) => {
                    let (path, data) = (&znode.path, znode.data);
                    self.state.znode(path, data, znode.acl_key, &znode.stat)?;
                    Next::Znode
                }
                None => {
                    let finished = self.state.tree.finish_restore();
                    finished.map_err(|error| error.to_string())?;
                    Next::Signature
                }
            },
            Next::Signature => {
                let length = i32::try_from(SNAPSHOT_SIGNATURE.len()).expect("a short text");
                if decoder.int()? != length
                    || decoder.take(SNAPSHOT_SIGNATURE.len())? != SNAPSHOT_SIGNATURE.as_bytes()
                {
                    return Err(format!("{SNAPSHOT_SIGNATURE} does not follow the znodes").into());
                }
                Next::Nothing
            }
            Next::Nothing => Next::Nothing,
            Next::Failed => return Err("the record before was refused".to_owned().into()),
        };
        Ok(())
    }

    /// What comes when `acls_left` elements of a list are missing.
    fn acl(
        &mut self,
        lists_left: i32,
        key: i64,
        acls_left: i32,
        list: Vec<Acl>,
        list_bytes: usize,
    ) -> Result<Next, String> {
        if acls_left > 0 {
            return Ok(Next::Acl {
                lists_left,
                key,
                acls_left,
                list,
                list_bytes,
            });
        }
        self.state.acl(key, list)?;
        Ok(Next::acl_list(lists_left))
    }
}

/// A count below 1 is one of nothing, as in Java.
impl Next {
    fn session(left: i32) -> Next {
        if left > 0 {
            Next::Session(left)
        } else {
            Next::AclCount
        }
    }

    fn acl_list(left: i32) -> Next {
        if left > 0 { Next::AclKey(left) } else { Next::Znode }
    }
}

/// The state of a server that has nothing, for a learner whose leader has nothing.
///
/// # Errors
/// When the file cannot be written.
pub fn empty_snapshot(storage: &Storage, settings: &TreeSettings) -> Result<ReceivedSnapshot, IntakeError> {
    let empty = RwLock::new(Replica::new(Tree::new(settings), Zxid::ZERO, BTreeMap::new()));
    let mut stream = SnapshotStream::begin(&empty);
    let mut intake = SnapshotIntake::begin(storage, settings, Zxid::ZERO)?;
    let mut chunk = Vec::new();
    while stream.next_chunk(&empty, &mut chunk) {}
    intake.feed(&chunk)?;
    intake.finish()
}
