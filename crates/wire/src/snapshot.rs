//! The records of a snapshot, one at a time, and the headers of both kinds of files (storage spec, sections 3
//! and 6).
//!
//! Decoders report [`DecodeError::Short`] when the bytes end early: a reader that feeds them piece by piece
//! then gets more bytes and decodes the record again from its start. How many bytes the error says are needed
//! is only what the input claims; memory is to be taken for what is really there.

use std::borrow::Cow;

use oxkeeper_types::{Acl, SessionId, StoredStat, Zxid};

use crate::{DecodeError, Decoder, Encoder, decode_acl_list, encode_acl_list};

/// What leads a transaction log: `ZKLG`.
pub const LOG_MAGIC: i32 = 0x5a4b_4c47;
/// What leads a snapshot: `ZKSN`.
pub const SNAPSHOT_MAGIC: i32 = 0x5a4b_534e;
/// The version of both kinds of files; nobody checks it.
pub const FILE_VERSION: i32 = 2;
/// The database id in a log; nobody checks it.
pub const LOG_DBID: i64 = 0;
/// The database id in a snapshot; nobody checks it.
pub const SNAPSHOT_DBID: i64 = -1;
/// How many bytes a [`FileHeader`] takes.
pub const FILE_HEADER_LENGTH: usize = 16;
/// What ends each record of a log.
pub const LOG_RECORD_END: u8 = b'B';
/// What ends the znodes and each seal of a snapshot: the string `/`. A whole snapshot ends with it.
pub const SNAPSHOT_END: [u8; 5] = [0, 0, 0, 1, b'/'];
/// The ACL key of a znode that lets everybody do everything; the ACL map never has it.
pub const ACL_KEY_OPEN: i64 = -1;
/// What ends a snapshot that goes over the network.
pub const SNAPSHOT_SIGNATURE: &str = "BenWasHere";

/// What leads a log or a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// [`LOG_MAGIC`] or [`SNAPSHOT_MAGIC`].
    pub magic: i32,
    /// [`FILE_VERSION`].
    pub version: i32,
    /// [`LOG_DBID`] or [`SNAPSHOT_DBID`].
    pub dbid: i64,
}

impl FileHeader {
    /// The header of a log.
    pub const LOG: FileHeader = FileHeader {
        magic: LOG_MAGIC,
        version: FILE_VERSION,
        dbid: LOG_DBID,
    };
    /// The header of a snapshot.
    pub const SNAPSHOT: FileHeader = FileHeader {
        magic: SNAPSHOT_MAGIC,
        version: FILE_VERSION,
        dbid: SNAPSHOT_DBID,
    };

    /// Appends the 16 bytes.
    pub fn encode(&self, encoder: &mut Encoder<'_>) {
        encoder.int(self.magic);
        encoder.int(self.version);
        encoder.long(self.dbid);
    }

    /// A header, whatever it says.
    ///
    /// # Errors
    /// When there are less than 16 bytes.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<FileHeader, DecodeError> {
        Ok(FileHeader {
            magic: decoder.int()?,
            version: decoder.int()?,
            dbid: decoder.long()?,
        })
    }
}

/// A session of a snapshot and its timeout in ms.
pub fn encode_session(encoder: &mut Encoder<'_>, session: SessionId, timeout_ms: i32) {
    encoder.long(session.0);
    encoder.int(timeout_ms);
}

/// A session of a snapshot and its timeout in ms.
///
/// # Errors
/// When there are less than 12 bytes.
pub fn decode_session(decoder: &mut Decoder<'_>) -> Result<(SessionId, i32), DecodeError> {
    Ok((SessionId(decoder.long()?), decoder.int()?))
}

/// An entry of the ACL map: the key znodes refer to, and the list.
pub fn encode_acl_entry(encoder: &mut Encoder<'_>, key: i64, acl: &[Acl]) {
    encoder.long(key);
    encode_acl_list(encoder, acl);
}

/// An entry of the ACL map: the key znodes refer to, and the list.
///
/// # Errors
/// When the bytes end early, a length is impossible or the list is null.
pub fn decode_acl_entry(decoder: &mut Decoder<'_>) -> Result<(i64, Vec<Acl>), DecodeError> {
    let key = decoder.long()?;
    let acl = decode_acl_list(decoder)?.ok_or(DecodeError::UnexpectedNull("a list of the ACL map"))?;
    Ok((key, acl))
}

/// A znode of a snapshot. Parents come before their children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZnodeRecord<'a> {
    /// The path; the root's is empty.
    pub path: Cow<'a, str>,
    /// The data; null is kept apart from empty.
    pub data: Option<&'a [u8]>,
    /// [`ACL_KEY_OPEN`] or a key of the ACL map.
    pub acl_key: i64,
    /// All else that is stored of it.
    pub stat: StoredStat,
}

/// A znode of a snapshot.
pub fn encode_znode(
    encoder: &mut Encoder<'_>,
    path: &str,
    data: Option<&[u8]>,
    acl_key: i64,
    stat: &StoredStat,
) {
    encoder.string(path);
    encoder.buffer(data);
    encoder.long(acl_key);
    encode_stored_stat(encoder, stat);
}

/// The next znode of a snapshot, `None` when [`SNAPSHOT_END`] stands there instead (it is read too).
///
/// # Errors
/// When the bytes end early, a length is impossible or the path is null.
pub fn decode_znode<'a>(decoder: &mut Decoder<'a>) -> Result<Option<ZnodeRecord<'a>>, DecodeError> {
    let path = decoder.required_string("the path of a znode")?;
    if path == "/" {
        return Ok(None);
    }
    Ok(Some(ZnodeRecord {
        path,
        data: decoder.buffer()?,
        acl_key: decoder.long()?,
        stat: decode_stored_stat(decoder)?,
    }))
}

/// The 60 bytes of a stored Stat.
pub fn encode_stored_stat(encoder: &mut Encoder<'_>, stat: &StoredStat) {
    encoder.long(stat.czxid.0);
    encoder.long(stat.mzxid.0);
    encoder.long(stat.ctime);
    encoder.long(stat.mtime);
    encoder.int(stat.version);
    encoder.int(stat.cversion);
    encoder.int(stat.aversion);
    encoder.long(stat.ephemeral_owner);
    encoder.long(stat.pzxid.0);
}

/// A stored Stat.
///
/// # Errors
/// When there are less than 60 bytes.
pub fn decode_stored_stat(decoder: &mut Decoder<'_>) -> Result<StoredStat, DecodeError> {
    Ok(StoredStat {
        czxid: Zxid(decoder.long()?),
        mzxid: Zxid(decoder.long()?),
        ctime: decoder.long()?,
        mtime: decoder.long()?,
        version: decoder.int()?,
        cversion: decoder.int()?,
        aversion: decoder.int()?,
        ephemeral_owner: decoder.long()?,
        pzxid: Zxid(decoder.long()?),
    })
}

/// A seal: the Adler-32 of all bytes before it, and [`SNAPSHOT_END`].
pub fn encode_seal(encoder: &mut Encoder<'_>, checksum: u32) {
    encoder.long(checksum.into());
    encoder.raw(&SNAPSHOT_END);
}

/// The checksum of a seal.
///
/// # Errors
/// When the bytes end early, the checksum has more than 32 bits or [`SNAPSHOT_END`] does not follow.
pub fn decode_seal(decoder: &mut Decoder<'_>) -> Result<u32, DecodeError> {
    let value = decoder.long()?;
    let checksum = u32::try_from(value).map_err(|_| DecodeError::BadValue {
        what: "the checksum of a seal",
        value,
    })?;
    let end = decoder.take(SNAPSHOT_END.len())?;
    if end != SNAPSHOT_END {
        return Err(DecodeError::BadValue {
            what: "the last byte of a seal",
            value: end[SNAPSHOT_END.len() - 1].into(),
        });
    }
    Ok(checksum)
}

/// The digest of the tree in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotDigest {
    /// The zxid that the tree must have reached for the digest to hold; zero when none is known.
    pub zxid: Zxid,
    /// The version of the algorithm; digests of different versions are never compared.
    pub version: i32,
    /// The sum of the digests of all znodes.
    pub tree_digest: u64,
}

impl SnapshotDigest {
    /// Appends the 20 bytes.
    ///
    /// # Panics
    /// For a version before 2, which had another form.
    pub fn encode(&self, encoder: &mut Encoder<'_>) {
        assert!(
            self.version >= 2,
            "digests of version {} are not written",
            self.version
        );
        encoder.long(self.zxid.0);
        encoder.int(self.version);
        encoder.long(self.tree_digest.cast_signed());
    }

    /// A digest of any version. One of a version before 2 was a text and reads as 0: it is never compared.
    ///
    /// # Errors
    /// When the bytes end early or a length is impossible.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<SnapshotDigest, DecodeError> {
        let zxid = Zxid(decoder.long()?);
        let version = decoder.int()?;
        let tree_digest = if version < 2 {
            decoder.string()?;
            0
        } else {
            decoder.long()?.cast_unsigned()
        };
        Ok(SnapshotDigest {
            zxid,
            version,
            tree_digest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_of_one_slash_ends_the_znodes() {
        let mut bytes = Vec::new();
        let stat = StoredStat {
            cversion: 3,
            ..StoredStat::default()
        };
        let mut encoder = Encoder::new(&mut bytes);
        encode_znode(&mut encoder, "", Some(b""), ACL_KEY_OPEN, &stat);
        encoder.raw(&SNAPSHOT_END);
        let mut decoder = Decoder::new(&bytes);
        let root = decode_znode(&mut decoder).unwrap().unwrap();
        assert_eq!(
            (&*root.path, root.data, root.acl_key, root.stat),
            ("", Some(&b""[..]), -1, stat)
        );
        assert_eq!(decode_znode(&mut decoder), Ok(None));
        assert_eq!(decoder.remaining(), 0);
    }

    #[test]
    fn seal_with_another_end_is_refused() {
        let mut bytes = Vec::new();
        encode_seal(&mut Encoder::new(&mut bytes), 0xc562_0ac0);
        assert_eq!(decode_seal(&mut Decoder::new(&bytes)), Ok(0xc562_0ac0));
        for at in [0, 3, 11, 12] {
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            assert!(decode_seal(&mut Decoder::new(&broken)).is_err(), "byte {at}");
        }
    }

    #[test]
    fn digest_of_an_old_version_is_skipped() {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes);
        encoder.long(9);
        encoder.int(1);
        encoder.string("51c6d660");
        encoder.int(77);
        let mut decoder = Decoder::new(&bytes);
        let digest = SnapshotDigest::decode(&mut decoder).unwrap();
        assert_eq!((digest.zxid, digest.version, digest.tree_digest), (Zxid(9), 1, 0));
        assert_eq!(decoder.int(), Ok(77));
    }
}
