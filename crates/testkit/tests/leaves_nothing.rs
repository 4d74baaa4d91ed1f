//! A server that is dropped leaves no thread, no open file or socket, and no directory. The only test of its process,
//! since all of these are counted for the whole of it.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oxkeeper_testkit::{Client, CreateMode, Ensemble, Proxy, Server};

const PATIENCE: Duration = Duration::from_secs(20);

/// What each thread is called, and what each descriptor stands for.
fn threads_and_files() -> (Vec<String>, BTreeMap<String, PathBuf>) {
    let entries = |dir: &str| fs::read_dir(dir).expect("Linux has it").filter_map(Result::ok);
    let mut threads: Vec<String> = entries("/proc/self/task")
        .filter_map(|task| fs::read_to_string(task.path().join("comm")).ok())
        .collect();
    threads.sort_unstable();
    let files = entries("/proc/self/fd")
        .filter_map(|file| {
            Some((
                file.file_name().into_string().ok()?,
                fs::read_link(file.path()).ok()?,
            ))
        })
        // What this listing itself has open.
        .filter(|(_, of)| !of.starts_with("/proc"))
        .collect();
    (threads, files)
}

/// The system may take a moment to end a thread that was joined.
fn expect_as_before(before: &(Vec<String>, BTreeMap<String, PathBuf>), what: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let now = threads_and_files();
        if now == *before {
            return;
        }
        assert!(
            Instant::now() < until,
            "{what} leaves {now:#?}, before there was {before:#?}"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn nothing_is_left_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let is_empty = |dir: &Path| fs::read_dir(dir).unwrap().next().is_none();
    let server_in = |dir: &Path| {
        let data = dir.join("data");
        Server::start_with(move |config| {
            config.storage.data_dir = data.clone();
            config.storage.log_dir = data;
        })
    };
    // tokio keeps a pair of sockets for signals from its first runtime on, one for the whole process.
    drop(Server::start().unwrap());
    let before = threads_and_files();

    let server = Server::start().unwrap();
    let (dir, address) = (server.data_dir().to_owned(), server.address());
    let mut client = Client::connect(address, 10_000).unwrap();
    client.create("/a", b"", CreateMode::Ephemeral).unwrap();
    assert!(threads_and_files() != before && dir.is_dir());
    drop(server);
    assert!(client.ping().is_err());
    drop(client);
    expect_as_before(&before, "a server");
    assert!(!dir.exists());
    TcpListener::bind(address).expect("its port is free");

    let server = Server::start().unwrap();
    server.kill().unwrap();
    drop(server);
    expect_as_before(&before, "a server that was killed");

    let server = Server::start().unwrap();
    let client = Client::connect(server.address(), 10_000).unwrap();
    server.pause().unwrap();
    drop(server);
    drop(client);
    expect_as_before(&before, "a server that is paused");

    fs::write(temporary.path().join("data"), "no directory").unwrap();
    server_in(temporary.path()).expect_err("it cannot be started there");
    fs::remove_file(temporary.path().join("data")).unwrap();
    expect_as_before(&before, "a server that could not start");
    assert!(is_empty(temporary.path()));

    let server = Server::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let mut client = Client::connect(proxy.address(), 10_000).unwrap();
    proxy.stall();
    drop(proxy);
    assert!(client.ping().is_err());
    drop((client, server));
    expect_as_before(&before, "a proxy that is stalled");

    // A test that fails unwinds with its server, in whatever state.
    let (dirs_of, dirs) = std::sync::mpsc::channel();
    let failed = std::thread::spawn(move || {
        let server = Server::start().unwrap();
        let ensemble = Ensemble::start(3).unwrap();
        let proxy = Proxy::start(server.address()).unwrap();
        let mut client = Client::connect(proxy.address(), 10_000).unwrap();
        client.create("/a", b"", CreateMode::Ephemeral).unwrap();
        ensemble.server(1).isolate();
        ensemble.server(2).pause().unwrap();
        server.cut();
        let all = ensemble.servers().iter().chain([&server]);
        dirs_of
            .send(all.map(|server| server.data_dir().to_owned()).collect::<Vec<_>>())
            .unwrap();
        panic!("this test fails on purpose");
    });
    failed.join().expect_err("it failed");
    expect_as_before(&before, "a test that failed");
    assert!(dirs.recv().unwrap().iter().all(|dir| !dir.exists()));

    let ensemble = Ensemble::start(3).unwrap();
    let dirs: Vec<PathBuf> = ensemble
        .servers()
        .iter()
        .map(|server| server.data_dir().to_owned())
        .collect();
    let leader = ensemble.wait_for_leader().unwrap();
    ensemble.server(leader).kill().unwrap();
    ensemble.wait_for_leader().unwrap();
    ensemble.server(leader).restart().unwrap();
    drop(ensemble);
    expect_as_before(&before, "an ensemble");
    assert!(
        dirs.iter()
            .all(|dir| !dir.exists() && !dir.parent().unwrap().exists())
    );
}
