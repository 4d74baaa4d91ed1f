//! Writes of several clients, some prepared while others are still in flight. Whatever they ask for becomes a txn that
//! the log keeps as it is, that applies, and that leaves the tree with the digest foretold.
//!
//! The first byte chooses settings. Each piece is one step: a byte for session and pace, one for the operation, and
//! the body of its request.

#![no_main]

use std::collections::VecDeque;

use libfuzzer_sys::fuzz_target;
use oxkeeper_fuzz::pieces;
use oxkeeper_tree::{Caller, Overlay, Tree, TreeSettings};
use oxkeeper_types::{Id, OpCode, Outcome, SessionId, Txn, TxnDigest, TxnHeader, WriteRequest, Zxid};
use oxkeeper_wire::{Request, decode_request, decode_txn_entry, encode_outcome, encode_txn_entry};

fn apply(tree: &mut Tree, overlay: &mut Overlay, entry: &[u8], foretold: Option<TxnDigest>) {
    let (header, txn, digest) = decode_txn_entry(entry).expect("we wrote the entry");
    assert_eq!(digest, foretold);
    let has_failed = matches!(txn, Txn::Error { .. });
    let outcome = tree.apply(&header, txn, &mut |_| {});
    assert_eq!(matches!(outcome, Outcome::Failed(_)), has_failed, "{outcome:?}");
    encode_outcome(&mut Vec::new(), header.cxid, header.zxid, &outcome);
    if let Some(digest) = digest {
        assert_eq!(tree.digest(), digest, "after {}", header.zxid);
    }
    overlay.committed(header.zxid);
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&mode, bytes)) = bytes.split_first() else {
        return;
    };
    let settings = TreeSettings {
        extended_types: mode & 1 != 0,
        emulate_353: mode & 2 != 0,
        enforce_quota: mode & 4 != 0,
        skip_acl: mode & 8 != 0,
        close_session_txn: mode & 16 == 0,
        ..TreeSettings::default()
    };
    let ids = [Id::new("ip", "127.0.0.1"), Id::new("digest", "user:hash")];
    let mut tree = Tree::new(&settings);
    let mut overlay = Overlay::new();
    let mut in_flight = VecDeque::new();
    let mut zxid = Zxid::ZERO;
    for piece in pieces(bytes) {
        let Some((&[pace, op], body)) = piece.split_first_chunk::<2>() else {
            continue;
        };
        let Some(op) = OpCode::from_code(i32::from(op.cast_signed())) else {
            continue;
        };
        let request = match decode_request(op, body) {
            Ok(Request::Write(request)) => request,
            Ok(Request::CloseSession) => WriteRequest::CloseSession,
            _ => continue,
        };
        zxid = zxid.next();
        let session = SessionId(i64::from(pace & 3) + 1);
        let time = zxid.0 * 10;
        let caller = Caller::new(session, &ids[..usize::from(pace >> 2 & 1) + 1], time);
        let prepared = tree.prepare(&mut overlay, &settings, &caller, zxid, request);
        let header = TxnHeader {
            session,
            cxid: 7,
            zxid,
            time,
        };
        let mut entry = Vec::new();
        encode_txn_entry(&mut entry, &header, &prepared.txn, prepared.digest.as_ref());
        in_flight.push_back((entry, prepared.digest));
        for _ in 0..pace >> 4 {
            let Some((entry, digest)) = in_flight.pop_front() else {
                break;
            };
            apply(&mut tree, &mut overlay, &entry, digest);
        }
    }
    for (entry, digest) in in_flight {
        apply(&mut tree, &mut overlay, &entry, digest);
    }
    assert!(overlay.is_empty(), "nothing is in flight any more");
});
