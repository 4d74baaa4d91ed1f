//! Log files. The first byte says whether the bytes are the files as they are, or entries whose checksums are made
//! right; the second where the second file begins.

#![no_main]

use libfuzzer_sys::fuzz_target;
use oxkeeper_fuzz::{disk, log, pieces, read_log, storage};

fuzz_target!(|bytes: &[u8]| {
    let Some((&[mode, at], bytes)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let (first, second) = if mode & 1 == 0 {
        let (first, second) = bytes.split_at(bytes.len() * usize::from(at) / 256);
        (first.to_vec(), second.to_vec())
    } else {
        let entries = pieces(bytes);
        let (first, second) = entries.split_at(usize::from(at).min(entries.len()));
        (log(first, mode & 2 != 0), log(second, false))
    };
    let second_name = format!("log.{:x}", u32::from(mode >> 2) + 2);
    read_log(&storage(disk(&[("log.1", first), (&second_name, second)])));
});
