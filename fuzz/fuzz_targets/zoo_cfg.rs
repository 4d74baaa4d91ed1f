//! A configuration file: the syntax, and then the meaning of what it says.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use oxkeeper_server::config::{load_file, properties};

static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("oxkeeper-fuzz-{}.cfg", std::process::id())));

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

    fs::write(&*FILE, bytes).expect("the temporary directory can be written");
    match load_file(FILE.to_str().expect("the path is plain")) {
        Ok(loaded) => drop(format!("{loaded:?}")),
        Err(error) => drop(error.to_string()),
    }
});
