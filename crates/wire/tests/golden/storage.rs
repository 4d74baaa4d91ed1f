//! The log and the snapshot of a Java server: storage.hex.

use std::collections::BTreeSet;
use std::fmt::Write;

use oxkeeper_types::{Txn, Zxid};
use oxkeeper_wire::*;

use crate::Golden;

const STORAGE: &str = include_str!("storage.hex");

#[test]
fn log_entries_of_a_java_server_decode_and_encode_to_the_same_bytes() {
    let golden = Golden::load(STORAGE);
    let mut digests_on_errors = 0;
    let mut ops = BTreeSet::new();
    let mut last_zxid = Zxid::ZERO;
    for name in golden.names.iter().filter(|name| name.starts_with("log.")) {
        let record = golden.bytes(name);
        let mut decoder = Decoder::new(record);
        let checksum = decoder.long().unwrap();
        let entry = decoder.buffer().unwrap().unwrap();
        assert_eq!(decoder.rest(), [LOG_RECORD_END]);
        assert_eq!(i64::from(adler2::adler32_slice(entry)), checksum, "{name}");

        let (header, txn, digest) = decode_txn_entry(entry).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(header.zxid >= last_zxid, "{name}");
        last_zxid = header.zxid;
        ops.insert(txn_op(&txn).code());
        let mut ours = Vec::new();
        encode_txn_entry(&mut ours, &header, &txn, digest.as_ref());
        if matches!(txn, Txn::Error { .. }) && digest.is_some() {
            // Java writes one when a multi of reads fails half way.
            digests_on_errors += 1;
            assert_eq!(ours, entry[..36], "{name}");
        } else {
            // Java wrote U+1F600 as two halves, which read as two U+FFFD.
            let halves_replaced = hex(entry).replace("eda0bdedb880", "efbfbdefbfbd");
            assert_eq!(hex(&ours), halves_replaced, "{name}");
            assert_eq!(digest.is_some(), !matches!(txn, Txn::Error { .. }), "{name}");
        }
    }
    assert_eq!(digests_on_errors, 1);
    assert_eq!(
        ops.into_iter().collect::<Vec<_>>(),
        [-11, -10, -1, 1, 2, 5, 7, 14, 15, 19, 21]
    );
}

#[test]
fn snapshot_of_a_java_server_decodes_and_encodes_to_the_same_bytes() {
    let golden = Golden::load(STORAGE);
    let bytes = golden.bytes("snapshot");
    let decoder = &mut Decoder::new(bytes);
    let mut ours = Vec::new();
    let seal = |decoder: &mut Decoder<'_>, ours: &mut Vec<u8>| {
        let before = &bytes[..bytes.len() - decoder.remaining()];
        let checksum = adler2::adler32_slice(before);
        assert_eq!(decode_seal(decoder), Ok(checksum));
        let ours_so_far = adler2::adler32_slice(ours);
        encode_seal(&mut Encoder::new(ours), ours_so_far);
    };

    assert_eq!(FileHeader::decode(decoder), Ok(FileHeader::SNAPSHOT));
    FileHeader::SNAPSHOT.encode(&mut Encoder::new(&mut ours));
    let sessions = decoder.int().unwrap();
    Encoder::new(&mut ours).int(sessions);
    for _ in 0..sessions {
        let (session, timeout_ms) = decode_session(decoder).unwrap();
        encode_session(&mut Encoder::new(&mut ours), session, timeout_ms);
    }
    let lists = decoder.int().unwrap();
    assert!(lists > 0);
    Encoder::new(&mut ours).int(lists);
    let mut keys = BTreeSet::from([ACL_KEY_OPEN]);
    for _ in 0..lists {
        let (key, acl) = decode_acl_entry(decoder).unwrap();
        assert!(keys.insert(key));
        encode_acl_entry(&mut Encoder::new(&mut ours), key, &acl);
    }
    let mut paths = Vec::new();
    while let Some(znode) = decode_znode(decoder).unwrap() {
        assert!(keys.contains(&znode.acl_key), "{}", znode.path);
        match &*znode.path {
            "/a" => assert_eq!(
                (znode.data, znode.stat.version, znode.stat.aversion),
                (Some(&b"new"[..]), 1, 1)
            ),
            "/a/m" => assert_eq!((znode.data, znode.stat.version), (None, 1)),
            "/t" => assert_eq!(znode.stat.ephemeral_owner, (0xff << 56) | 3_600_000),
            "/c" => assert_eq!(znode.stat.ephemeral_owner, i64::MIN),
            _ => {}
        }
        let mut encoder = Encoder::new(&mut ours);
        encode_znode(&mut encoder, &znode.path, znode.data, znode.acl_key, &znode.stat);
        paths.push(znode.path.into_owned());
    }
    assert_eq!(paths[0], "", "the root comes first");
    paths.sort();
    let expected = [
        "",
        "/a",
        "/a/m",
        "/c",
        "/mc",
        "/mc2",
        "/mp",
        "/t",
        "/u",
        "/zookeeper",
        "/zookeeper/config",
        "/zookeeper/quota",
    ];
    assert_eq!(paths, expected);
    ours.extend_from_slice(&SNAPSHOT_END);
    seal(decoder, &mut ours);
    let digest = SnapshotDigest::decode(decoder).unwrap();
    assert_eq!(digest.version, 2);
    digest.encode(&mut Encoder::new(&mut ours));
    seal(decoder, &mut ours);
    let last_zxid = decoder.long().unwrap();
    assert_eq!(last_zxid, digest.zxid.0);
    Encoder::new(&mut ours).long(last_zxid);
    seal(decoder, &mut ours);
    assert_eq!(decoder.remaining(), 0);
    assert_eq!(ours, bytes);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("strings take all");
        text
    })
}
