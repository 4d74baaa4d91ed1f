//! No decoder takes memory for what bytes only claim. One test in a program of its own, as it counts all
//! allocations.

use std::alloc::System;

use oxkeeper_types::{OpCode, Txn, TxnHeader, WatchPaths};
use oxkeeper_types::{ReadRequest, SessionId, WriteRequest, Zxid};
use oxkeeper_wire::*;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes taken for each byte of input, at most. The dearest value is a multi of many small parts.
const FACTOR: usize = 16;
const CONSTANT: usize = 512;

fn assert_bounded(what: &str, bytes: &[u8], decode: impl FnOnce(&[u8])) -> usize {
    let region = Region::new(ALLOCATOR);
    decode(bytes);
    let taken = region.change().bytes_allocated;
    let bound = FACTOR * bytes.len() + CONSTANT;
    assert!(
        taken <= bound,
        "{what}: {taken} bytes for {} of input",
        bytes.len()
    );
    taken
}

fn assert_all_bounded(bytes: &[u8]) {
    for code in -11..=107 {
        if let Some(op) = OpCode::from_code(code) {
            assert_bounded(&format!("{op:?} request"), bytes, |bytes| {
                drop(decode_request(op, bytes))
            });
            assert_bounded(&format!("{op:?} reply"), bytes, |bytes| {
                drop(decode_outcome(op, 0, bytes))
            });
        }
    }
    assert_bounded("multiRead reply", bytes, |bytes| drop(decode_multi_read(bytes)));
    assert_bounded("connect", bytes, |bytes| drop(ConnectRequest::decode(bytes)));
    assert_bounded("txn", bytes, |bytes| drop(decode_txn_entry(bytes)));
    assert_bounded("ACL entry", bytes, |bytes| {
        drop(decode_acl_entry(&mut Decoder::new(bytes)))
    });
    assert_bounded("znode", bytes, |bytes| {
        drop(decode_znode(&mut Decoder::new(bytes)))
    });
    assert_bounded("names", bytes, |bytes| {
        drop(decode_names(&mut Decoder::new(bytes)))
    });
}

/// The body of the frame of a request.
fn request(request: &Request<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_request(&mut frame, 1, request);
    frame.split_off(12)
}

#[test]
fn memory_is_taken_for_what_is_there_and_not_for_what_is_claimed() {
    // Counts and lengths of 2 GiB, everywhere.
    for lead in 0..40 {
        let mut bytes = vec![0; lead];
        for _ in 0..20 {
            bytes.extend_from_slice(&i32::MAX.to_be_bytes());
        }
        assert_all_bounded(&bytes);
        bytes.resize(bytes.len() + 1000, 0);
        assert_all_bounded(&bytes);
    }

    // Many of the smallest parts there are.
    let many = 10_000;
    let empty = || vec![String::new(); many];
    let check = WriteRequest::Check {
        path: String::new(),
        version: 0,
    };
    let multi = request(&Request::Write(WriteRequest::Multi(vec![check; many])));
    let taken = assert_bounded("multi", &multi, |bytes| {
        assert!(decode_request(OpCode::Multi, bytes).is_ok());
    });
    assert!(taken > multi.len(), "the count counts");
    let watches = request(&Request::Read(ReadRequest::SetWatches(Box::new(WatchPaths {
        data: empty(),
        ..WatchPaths::default()
    }))));
    assert_bounded("setWatches", &watches, |bytes| {
        assert!(decode_request(OpCode::SetWatches, bytes).is_ok());
    });
    let mut acl = Vec::new();
    let mut encoder = Encoder::new(&mut acl);
    encoder.string("/a");
    encoder.length(many);
    for _ in 0..many {
        encoder.int(0);
        encoder.string("");
        encoder.string("");
    }
    encoder.int(0);
    assert_bounded("ACL list", &acl, |bytes| {
        assert!(decode_request(OpCode::SetAcl, bytes).is_ok())
    });
    let header = TxnHeader {
        session: SessionId::NONE,
        cxid: 0,
        zxid: Zxid(1),
        time: 0,
    };
    let mut txn = Vec::new();
    encode_txn_entry(
        &mut txn,
        &header,
        &Txn::Multi(vec![Txn::Error { code: 0 }; many]),
        None,
    );
    assert_bounded("multi txn", &txn, |bytes| {
        assert!(decode_txn_entry(bytes).is_ok())
    });

    // Text that grows threefold when it is read.
    let mut malformed = Vec::new();
    Encoder::new(&mut malformed).buffer(Some(&[0xff; 10_000]));
    assert_bounded("text", &malformed, |bytes| {
        assert_eq!(
            Decoder::new(bytes)
                .string()
                .map(|text| text.map(|text| text.len())),
            Ok(Some(30_000))
        );
    });
}
