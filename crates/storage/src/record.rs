//! A record of the txn log around its entry (storage spec, section 3): Adler-32, length, entry, end byte.

use oxkeeper_types::Zxid;
use oxkeeper_wire::{LOG_RECORD_END, decode_txn_header};

/// What every log file begins with: magic, version 2, dbid 0.
pub(crate) const FILE_HEADER: [u8; 16] = *b"ZKLG\0\0\0\x02\0\0\0\0\0\0\0\0";
/// How many of these bytes say that it is a log; version and dbid are not looked at.
pub(crate) const MAGIC_BYTES: usize = 4;
/// Checksum and length, before the entry.
pub(crate) const LEAD_BYTES: u64 = 12;
/// What a complete record ends with.
pub(crate) const END_BYTE: u8 = LOG_RECORD_END;
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

/// Zxid and type in the header of an entry, `None` when it is too short to have one.
pub(crate) fn zxid_and_type(entry: &[u8]) -> Option<(Zxid, i32)> {
    let (header, kind) = decode_txn_header(entry).ok()?;
    Some((header.zxid, kind))
}

#[cfg(test)]
mod tests {
    use oxkeeper_wire::{Encoder, FileHeader};

    use super::*;

    #[test]
    fn file_header_is_the_one_of_the_format() {
        let mut bytes = Vec::new();
        FileHeader::LOG.encode(&mut Encoder::new(&mut bytes));
        assert_eq!(bytes, FILE_HEADER);
    }
}
