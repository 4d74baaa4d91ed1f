//! A stream of a connection: cut into frames, the first a connect request, the others requests.

#![no_main]

use libfuzzer_sys::fuzz_target;
use oxkeeper_types::OpCode;
use oxkeeper_wire::{ConnectRequest, REQUEST_LENGTH_MAX_DEFAULT, RequestHeader, decode_request, next_frame};

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let mut is_first = true;
    loop {
        match next_frame(rest, REQUEST_LENGTH_MAX_DEFAULT) {
            Ok(Some(range)) => {
                assert!(range.start == 4 && range.end <= rest.len());
                // It is the same frame when it has just arrived whole, and none before.
                assert_eq!(
                    next_frame(&rest[..range.end], REQUEST_LENGTH_MAX_DEFAULT),
                    Ok(Some(range.clone()))
                );
                assert_eq!(
                    next_frame(&rest[..range.end - 1], REQUEST_LENGTH_MAX_DEFAULT),
                    Ok(None)
                );
                let body = &rest[range.clone()];
                if is_first {
                    if let Ok(request) = ConnectRequest::decode(body) {
                        assert!(request.password.len() <= body.len());
                    }
                } else if let Ok((header, body)) = RequestHeader::decode(body)
                    && let Some(op) = OpCode::from_code(header.op)
                {
                    let _ = decode_request(op, body);
                }
                is_first = false;
                rest = &rest[range.end..];
            }
            Ok(None) => break,
            Err(error) => {
                assert!(error.length < 0 || error.length > 1_048_575, "{error}");
                break;
            }
        }
    }
});
