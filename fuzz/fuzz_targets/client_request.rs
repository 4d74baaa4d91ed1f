//! The body of a request. The first byte chooses the operation. What can be decoded means the same when it is encoded
//! and decoded again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use oxkeeper_types::{CreateMode, OpCode, WriteRequest};
use oxkeeper_wire::{Request, RequestHeader, decode_request, encode_request};

/// In a multi only a createTTL may have such flags. It becomes a create, which may not.
fn has_flags_of_no_mode(part: &WriteRequest) -> bool {
    matches!(part, WriteRequest::Create(create) if CreateMode::from_flags(create.flags).is_none())
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&op, body)) = bytes.split_first() else {
        return;
    };
    let Some(op) = OpCode::from_code(i32::from(op.cast_signed())) else {
        return;
    };
    let Ok(request) = decode_request(op, body) else {
        return;
    };
    match &request {
        Request::Write(WriteRequest::Invalid(_)) => return,
        Request::Write(WriteRequest::Multi(parts)) if parts.iter().any(has_flags_of_no_mode) => return,
        _ => {}
    }
    let mut frame = Vec::new();
    encode_request(&mut frame, 7, &request);
    let (header, body) = RequestHeader::decode(&frame[4..]).expect("we wrote a header");
    let again = OpCode::from_code(header.op).expect("we wrote an operation");
    // A setWatches2 without persistent watches is a setWatches.
    assert!(again == op || op == OpCode::SetWatches2);
    assert_eq!(decode_request(again, body).as_ref(), Ok(&request));
});
