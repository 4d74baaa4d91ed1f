//! The server's word after kills and on full disks: what was acknowledged is there.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends at the first surprise, also in what it calls"
)]

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::Duration;

use oxkeeper_testkit::crash::{CrashError, CrashOptions, run};
use oxkeeper_testkit::process::{ServerOptions, ServerProcess, ServerProgram, TinyDisk};
use oxkeeper_testkit::{Client, ClientError, CreateMode};

fn program() -> ServerProgram {
    ServerProgram::Oxkeeper(env!("CARGO_BIN_EXE_oxkeeper").into())
}

fn short_run(dir: &Path, seed: u64) -> CrashOptions {
    CrashOptions {
        cycles: 5,
        workers: 4,
        load_ms: 5..=150,
        settle_every: 5,
        timeouts_ms: 400..=1_200,
        ..CrashOptions::new(program(), dir, seed)
    }
}

#[test]
fn acknowledged_writes_and_sessions_survive_kills() {
    let dir = tempfile::tempdir().unwrap();
    let summary = run(&short_run(dir.path(), 1), |_| {}).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(summary.cycles, 5);
    assert!(
        summary.writes > 0 && summary.unanswered > 0,
        "it was under load: {summary}"
    );
}

#[test]
fn the_crash_harness_notices_when_an_acknowledged_write_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let options = CrashOptions {
        cut_log_bytes: 20_000,
        ..short_run(dir.path(), 2)
    };
    match run(&options, |_| {}) {
        Err(CrashError::Violation(_)) => {}
        other => panic!("expected a violation, got {other:?}"),
    }
}

/// Creates znodes until the server does not acknowledge any more; gives how many it did.
fn create_until_refused(server: &ServerProcess) -> usize {
    let mut client = Client::connect(server.address(), 30_000).unwrap();
    client.create("/full", b"", CreateMode::Persistent).unwrap();
    for number in 0..10_000 {
        match client.create(&format!("/full/{number}"), &data(number), CreateMode::Persistent) {
            Ok(_) => {}
            Err(ClientError::Io(_) | ClientError::Closed) => return number,
            Err(error) => panic!("znode {number}: {error}"),
        }
    }
    panic!("the disk was not full");
}

fn data(number: usize) -> Vec<u8> {
    number.to_be_bytes().repeat(1_000)
}

/// Fills the place that `wrapper` gives the server, then lets it start where there is room.
fn acknowledged_writes_survive(
    mut server: ServerProcess,
    reason: &str,
    make_room: impl FnOnce(&mut ServerOptions) -> io::Result<()>,
) {
    let acknowledged = create_until_refused(&server);
    assert!(acknowledged > 0, "there was room for nothing");
    let status = server.wait_for_exit(Duration::from_secs(20)).unwrap();
    let log = server.log().unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains(reason), "the log does not say `{reason}`: {log}");

    make_room(server.options_mut()).unwrap();
    server.restart().unwrap();
    let mut client = Client::connect(server.address(), 30_000).unwrap();
    let (children, _) = client.children("/full", false).unwrap();
    // The one that was not acknowledged may be there.
    assert!(
        (acknowledged..=acknowledged + 1).contains(&children.len()),
        "{acknowledged}: {children:?}"
    );
    for number in 0..acknowledged {
        assert_eq!(
            client.get(&format!("/full/{number}")).unwrap().0,
            data(number),
            "znode {number}"
        );
    }
    client.create("/full/after", b"", CreateMode::Persistent).unwrap();
}

#[test]
fn a_full_disk_ends_the_server_and_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    std::fs::create_dir(&data_dir).unwrap();
    let mut disk = match TinyDisk::mount(&data_dir, 1 << 20) {
        Ok(disk) => disk,
        // Only root may mount; the limit on file sizes below is for everybody.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return,
        Err(error) => panic!("{error}"),
    };
    let mut options = ServerOptions::new(program(), dir.path()).set("preAllocSize", 64);
    options.wrapper = disk.wrapper();
    let server = ServerProcess::start(options).unwrap();
    acknowledged_writes_survive(server, "No space left on device", |_| disk.resize(32 << 20));
}

#[test]
fn a_log_that_may_not_grow_ends_the_server_and_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = ServerOptions::new(program(), dir.path()).set("preAllocSize", 64);
    // The signal for too large a file would end the process before it could say why.
    let limit = ["env", "--ignore-signal=XFSZ", "prlimit", "--fsize=500000"];
    options.wrapper = limit.map(OsString::from).into();
    let server = ServerProcess::start(options).unwrap();
    acknowledged_writes_survive(server, "File too large", |options| {
        options.wrapper.clear();
        Ok(())
    });
}
