//! A record of the txn log around its entry (storage spec, section 3): Adler-32, length, entry, end byte.

use oxkeeper_types::Zxid;

/// What every log file begins with: magic, version 2, dbid 0.
pub(crate) const FILE_HEADER: [u8; 16] = *b"ZKLG\0\0\0\x02\0\0\0\0\0\0\0\0";
/// How many of these bytes say that it is a log; version and dbid are not looked at.
pub(crate) const MAGIC_BYTES: usize = 4;
/// Checksum and length, before the entry.
pub(crate) const LEAD_BYTES: u64 = 12;
/// What a complete record ends with.
pub(crate) const END_BYTE: u8 = b'B';
/// The header of the txn, with which each entry begins.
pub(crate) const TXN_HEADER_BYTES: usize = 32;
/// The type of a txn that failed and changes nothing.
pub(crate) const TYPE_ERROR: i32 = -1;

/// The checksum of an entry.
pub(crate) fn checksum(entry: &[u8]) -> u32 {
    simd_adler32::adler32(&entry)
}

/// Appends the record of `entry`.
pub(crate) fn encode(out: &mut Vec<u8>, entry: &[u8]) {
    let length = i32::try_from(entry.len()).expect("an entry is bounded by the size of a frame");
    out.reserve(entry.len() + 13);
    out.extend_from_slice(&u64::from(checksum(entry)).to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(entry);
    out.push(END_BYTE);
}

/// The zxid in the header of an entry, `None` when it is too short to have one.
pub(crate) fn entry_zxid(entry: &[u8]) -> Option<Zxid> {
    if entry.len() < TXN_HEADER_BYTES {
        return None;
    }
    Some(Zxid(i64::from_be_bytes(entry[12..20].try_into().ok()?)))
}

/// The type in the header of an entry.
pub(crate) fn entry_type(entry: &[u8]) -> Option<i32> {
    Some(i32::from_be_bytes(entry.get(28..32)?.try_into().ok()?))
}
