//! An entry of the log. What can be decoded means the same when it is encoded and decoded again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use oxkeeper_types::Txn;
use oxkeeper_wire::{decode_txn_entry, encode_txn_entry};

fuzz_target!(|bytes: &[u8]| {
    let Ok((header, txn, digest)) = decode_txn_entry(bytes) else {
        return;
    };
    // Two empty paths without a digest look like a digest without paths; there is no empty path.
    if matches!(&txn, Txn::CloseSession { ephemerals: Some(paths) } if paths.iter().all(String::is_empty)) {
        return;
    }
    // A failed write carries no digest, and without a list of paths only one of the known version is found again.
    let has_no_list = matches!(txn, Txn::CloseSession { ephemerals: None });
    let digest = digest
        .filter(|_| !matches!(txn, Txn::Error { .. }))
        .filter(|digest| !has_no_list || digest.version == 2);
    let mut again = Vec::new();
    encode_txn_entry(&mut again, &header, &txn, digest.as_ref());
    assert_eq!(decode_txn_entry(&again), Ok((header, txn, digest)));
});
