//! A configuration file: the syntax, and then the meaning of what it says.

#![no_main]

use std::fs::File;
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use oxkeeper_server::config::load_file;
use oxkeeper_server::config::properties::{self, RawEntry};

/// Written over in place: a file system may flush one that is truncated and written again, and that is slow.
static FILE: LazyLock<(File, String)> = LazyLock::new(|| {
    let path = std::env::temp_dir().join(format!("oxkeeper-fuzz-{}.cfg", std::process::id()));
    let file = File::create(&path).expect("the temporary directory can be written");
    (file, path.to_str().expect("the path is plain").to_owned())
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(raw) = properties::parse(bytes) else {
        return;
    };
    let length: usize = raw
        .entries
        .iter()
        .map(|entry| entry.key.len() + entry.value.len())
        .sum();
    // A byte that is not ASCII becomes two, an escape of six bytes at most three.
    assert!(length <= 2 * bytes.len());
    let lines = bytes
        .iter()
        .filter(|&&byte| byte == b'\n' || byte == b'\r')
        .count()
        + 1;
    assert!(
        raw.entries
            .iter()
            .all(|entry| (1..=lines).contains(&(entry.line as usize)))
    );

    // Names of hosts would be looked up, anywhere in the world.
    let is_host =
        |entry: &&RawEntry| entry.key.ends_with("Address") && entry.value.parse::<IpAddr>().is_err();
    if raw.entries.iter().any(|entry| is_host(&entry)) {
        return;
    }
    let (file, path) = &*FILE;
    file.write_all_at(bytes, 0).expect("the file can be written");
    file.set_len(bytes.len() as u64).expect("the file can be cut");
    match load_file(path) {
        Ok(loaded) => drop(format!("{loaded:?}")),
        Err(error) => drop(error.to_string()),
    }
});
