//! What a test may rely on from a server in its process.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use oxkeeper_testkit::{Client, ClientError, CreateMode, Error, Server, Session, Standing};
use oxkeeper_types::{CreateRequest, ErrorCode, OpCode, SessionId, WriteRequest};

const TIMEOUT_MS: i32 = 10_000;
const PATIENCE: Duration = Duration::from_secs(20);
/// Nothing is expected to come within this time.
const SILENCE: Duration = Duration::from_millis(100);

fn connect(server: &Server) -> Client {
    Client::connect(server.address(), TIMEOUT_MS).expect("it serves")
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn is_closed(result: Result<(), ClientError>) -> bool {
    match result {
        Err(ClientError::Closed) => true,
        Err(ClientError::Io(error)) => {
            matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
        }
        _ => false,
    }
}

#[test]
fn a_server_is_empty_and_each_has_its_own_port_and_directory() {
    let (one, other) = (Server::start().unwrap(), Server::start().unwrap());
    assert_ne!(one.address(), other.address());
    assert_ne!(one.data_dir(), other.data_dir());
    assert_eq!(
        one.connect_string(),
        format!("127.0.0.1:{}", one.address().port())
    );
    assert_eq!(one.standing(), Some(Standing::Standalone));
    let mut client = connect(&one);
    client.create("/a", b"", CreateMode::Persistent).unwrap();
    assert_eq!(connect(&other).children("/", false).unwrap().0, ["zookeeper"]);
    assert_eq!(one.sessions(), [client.session().id]);
    assert_eq!(one.connections(), 1);
}

#[test]
fn what_was_acknowledged_and_the_sessions_survive_kill_and_restart_on_the_same_port() {
    let server = Server::start().unwrap();
    let address = server.address();
    let mut client = connect(&server);
    client.create("/kept", b"1", CreateMode::Persistent).unwrap();
    client.create("/mine", b"", CreateMode::Ephemeral).unwrap();
    for round in 0..20 {
        let (path, _) = client
            .create("/n-", b"", CreateMode::PersistentSequential)
            .unwrap();
        server.kill().unwrap();
        assert!(server.is_down() && !server.is_running());
        assert!(is_closed(client.ping()), "connections break");
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert!(matches!(
            server.expire_session(client.session().id),
            Err(Error::NotRunning { state: "down", .. })
        ));

        server.restart().unwrap();
        assert_eq!(server.address(), address);
        let session = client.session().clone();
        client = Client::renew(address, &session).expect("the session lives");
        assert!(client.exists(&path, false).unwrap().is_some(), "round {round}");
        assert_eq!(client.get("/kept").unwrap().0, b"1");
        assert!(client.exists("/mine", false).unwrap().is_some());
    }
    server.restart().unwrap();
    assert!(
        is_closed(client.ping()),
        "restarting a server that runs kills it first"
    );
}

/// Requests go out in one burst and the server is killed in the middle of them. What is there afterwards is a
/// beginning of them, and has all that was answered.
#[test]
fn a_kill_in_the_middle_of_writes_loses_a_tail_of_what_was_not_acknowledged() {
    let server = Server::start().unwrap();
    let mut lost_some = false;
    for round in 0..20_u64 {
        let mut client = connect(&server);
        let base = format!("/{round}");
        client.create(&base, b"", CreateMode::Persistent).unwrap();
        let request = |n: usize| {
            oxkeeper_wire::Request::Write(WriteRequest::Create(CreateRequest {
                op: OpCode::Create2,
                path: format!("{base}/{n}"),
                data: None,
                acl: vec![oxkeeper_types::Acl::world(oxkeeper_types::Permissions::ALL)],
                flags: 0,
                ttl: -1,
            }))
        };
        const WRITES: usize = 400;
        for n in 0..WRITES {
            client.send(&request(n));
        }
        client.flush().unwrap();
        let mut answered = 0;
        for _ in 0..round {
            client.receive().unwrap();
            answered += 1;
        }
        server.kill().unwrap();
        while let Ok(reply) = client.receive() {
            assert_eq!(reply.err, 0);
            answered += 1;
            if answered == WRITES {
                break;
            }
        }
        server.restart().unwrap();
        let mut numbers: Vec<usize> = connect(&server)
            .children(&base, false)
            .unwrap()
            .0
            .iter()
            .map(|name| name.parse().unwrap())
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>(), "no hole");
        assert!(numbers.len() >= answered, "{} of {answered}", numbers.len());
        lost_some |= numbers.len() < WRITES;
    }
    assert!(lost_some, "the server was always quicker than the kill");
}

#[test]
fn an_expired_session_loses_its_ephemerals_its_connection_and_its_right_to_come_back() {
    let server = Server::start().unwrap();
    let (mut client, mut watcher) = (connect(&server), connect(&server));
    client.create("/lock", b"", CreateMode::Ephemeral).unwrap();
    watcher.exists("/lock", true).unwrap();
    let began = Instant::now();
    assert!(server.expire_session(client.session().id).unwrap());
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "the timeout is not waited for"
    );
    assert_eq!(server.sessions(), [watcher.session().id]);
    assert_eq!(watcher.next_event().unwrap().path, "/lock");
    assert_eq!(watcher.exists("/lock", false).unwrap(), None);
    assert!(is_closed(client.ping()));
    let renewed = Client::renew(server.address(), client.session());
    assert!(matches!(renewed, Err(ClientError::SessionEnded)), "{renewed:?}");
    assert!(
        !server.expire_session(client.session().id).unwrap(),
        "it has ended already"
    );
    assert!(
        !server.expire_session(SessionId(77)).unwrap(),
        "there never was one"
    );
}

#[test]
fn a_session_without_its_connection_expires_as_well() {
    let server = Server::start().unwrap();
    let mut client = connect(&server);
    client.create("/mine", b"", CreateMode::Ephemeral).unwrap();
    let session = client.session().id;
    drop(client);
    wait_for("the connection ends", || server.connections() == 0);
    assert!(server.expire_session(session).unwrap());
    assert_eq!(connect(&server).exists("/mine", false).unwrap(), None);
}

#[test]
fn a_disconnected_client_comes_back_to_its_session() {
    let server = Server::start().unwrap();
    let (mut client, mut other) = (connect(&server), connect(&server));
    assert!(server.disconnect_session(client.session().id));
    assert!(is_closed(client.ping()));
    other.ping().expect("another connection stays");
    wait_for("it is gone", || server.connections() == 1);
    assert!(
        !server.disconnect_session(client.session().id),
        "it has none any more"
    );
    let mut client = Client::renew(server.address(), client.session()).unwrap();
    assert_eq!(server.disconnect_clients(), 2);
    assert!(is_closed(client.ping()) && is_closed(other.ping()));
    Client::renew(server.address(), client.session()).unwrap();
}

#[test]
fn a_server_that_is_cut_off_takes_no_client_until_it_is_healed_and_ends_sessions_meanwhile() {
    let server = Server::start().unwrap();
    let (mut client, short) = (connect(&server), Client::connect(server.address(), 200).unwrap());
    assert_eq!(short.session().timeout_ms, 200);
    server.cut();
    assert!(is_closed(client.ping()));
    let refused = Client::renew(server.address(), client.session());
    assert!(is_closed(refused.map(drop)), "nobody gets in");
    let lives = |session: &Session| server.sessions().contains(&session.id);
    wait_for("the short session ends", || !lives(short.session()));
    assert!(lives(client.session()));
    server.heal();
    let mut client = Client::renew(server.address(), client.session()).unwrap();
    client.ping().unwrap();
}

#[test]
fn a_restart_heals() {
    let server = Server::start().unwrap();
    server.cut();
    server.restart().unwrap();
    connect(&server).ping().unwrap();
}

#[test]
fn a_paused_server_says_nothing_and_goes_on_where_it_was() {
    let server = Server::start().unwrap();
    let mut client = connect(&server);
    server.pause().unwrap();
    server.pause().expect("once more is as well");
    assert!(server.is_paused() && !server.is_running() && !server.is_down());
    client.set_reply_timeout(SILENCE).unwrap();
    let read = client.exists("/", false);
    assert!(
        matches!(&read, Err(ClientError::Io(error)) if error.kind() == ErrorKind::WouldBlock),
        "{read:?}"
    );
    let stream = TcpStream::connect(server.address()).expect("the system takes connections for it");
    drop(stream);
    assert!(matches!(
        server.expire_session(client.session().id),
        Err(Error::NotRunning { state: "paused", .. })
    ));
    client.set_reply_timeout(PATIENCE).unwrap();
    server.resume();
    server.resume();
    assert!(client.receive().is_ok(), "the answer comes after all");
    client.create("/after", b"", CreateMode::Persistent).unwrap();
    connect(&server).ping().unwrap();
}

#[test]
fn a_client_does_not_wait_for_ever_for_a_paused_server_to_take_what_it_sends() {
    let server = Server::start().unwrap();
    let mut client = connect(&server);
    server.pause().unwrap();
    client.set_reply_timeout(SILENCE).unwrap();
    let big = oxkeeper_wire::Request::Write(WriteRequest::SetData {
        path: "/a".to_owned(),
        data: Some(vec![0; 1_000_000].into()),
        version: -1,
    });
    // More than the sockets of both sides hold.
    for _ in 0..64 {
        client.send(&big);
    }
    let sent = client.flush();
    assert!(
        matches!(&sent, Err(error) if error.kind() == ErrorKind::WouldBlock),
        "{sent:?}"
    );
}

#[test]
fn a_session_whose_time_is_over_during_a_pause_ends_when_the_server_goes_on() {
    let server = Server::start().unwrap();
    let client = Client::connect(server.address(), 200).unwrap();
    server.pause().unwrap();
    std::thread::sleep(Duration::from_millis(400));
    server.resume();
    wait_for("it ends", || !server.sessions().contains(&client.session().id));
}

#[test]
fn a_paused_server_that_is_killed_does_nothing_more() {
    let server = Server::start().unwrap();
    let mut client = connect(&server);
    server.pause().unwrap();
    let create = oxkeeper_wire::Request::Write(WriteRequest::Delete {
        path: "/never".to_owned(),
        version: -1,
    });
    let before = connect_is_taken(&server);
    client.send(&create);
    client.flush().unwrap();
    server.kill().unwrap();
    drop(before);
    assert!(client.receive().is_err());
    server.restart().unwrap();
    assert!(!server.is_paused());
    connect(&server).ping().unwrap();
}

fn connect_is_taken(server: &Server) -> TcpStream {
    TcpStream::connect(server.address()).expect("the system takes connections for a paused server")
}

#[test]
fn time_that_is_advanced_ends_what_has_no_connection_and_what_has_a_time_to_live() {
    let server = Server::start_with(|config| config.znode.extended_types = true).unwrap();
    let (gone, mut client) = (connect(&server), connect(&server));
    client.create("/container", b"", CreateMode::Container).unwrap();
    client
        .create("/container/child", b"", CreateMode::Persistent)
        .unwrap();
    client.delete("/container/child", -1).unwrap();
    let with_ttl = oxkeeper_wire::Request::Write(WriteRequest::Create(CreateRequest {
        op: OpCode::CreateTtl,
        path: "/ttl".to_owned(),
        data: None,
        acl: vec![oxkeeper_types::Acl::world(oxkeeper_types::Permissions::ALL)],
        flags: CreateMode::PersistentWithTtl as i32,
        ttl: 60_000,
    }));
    client.call(&with_ttl).unwrap().success().unwrap();
    let gone_session = gone.session().id;
    drop(gone);
    wait_for("its connection ends", || server.connections() == 1);
    server.advance(Duration::from_secs(120)).unwrap();
    wait_for("the session ends", || server.sessions() == [client.session().id]);
    assert_ne!(gone_session, client.session().id);
    for path in ["/container", "/ttl"] {
        wait_for(path, || client.exists(path, false).unwrap().is_none());
    }
}

#[test]
fn settings_a_port_and_a_directory_of_ones_own_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let port = oxkeeper_testkit::process::free_port().unwrap();
    let start = || {
        Server::start_with(|config| {
            config.client.port = port;
            config.storage.data_dir = dir.path().to_owned();
            config.storage.log_dir = dir.path().to_owned();
            config.session.timeout_ms_max = 3_000;
        })
        .unwrap()
    };
    let server = start();
    assert_eq!(server.address().port(), port);
    let mut client = connect(&server);
    assert_eq!(client.session().timeout_ms, 3_000);
    client.create("/kept", b"", CreateMode::Persistent).unwrap();
    drop(server);
    let server = start();
    assert!(connect(&server).exists("/kept", false).unwrap().is_some());
}

#[test]
fn a_port_that_is_taken_is_an_error_that_says_so() {
    let server = Server::start().unwrap();
    let error = Server::start_with(|config| config.client.port = server.address().port()).unwrap_err();
    assert!(
        error.to_string().contains("Is another server running there?"),
        "{error}"
    );
}

#[test]
fn many_servers_run_at_once_in_one_process() {
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..4 {
                    let server = Server::start().unwrap();
                    let mut client = connect(&server);
                    client.create("/a", b"", CreateMode::Persistent).unwrap();
                    let again = client.create("/a", b"", CreateMode::Persistent);
                    assert!(matches!(again, Err(ClientError::Refused(ErrorCode::NodeExists))));
                    assert_eq!(server.sessions(), [client.session().id]);
                }
            });
        }
    });
}

#[tokio::test]
async fn a_server_serves_a_test_whose_runtime_has_one_thread() {
    let server = Server::start().unwrap();
    let address = server.address();
    let mut client = tokio::task::spawn_blocking(move || Client::connect(address, TIMEOUT_MS).unwrap())
        .await
        .unwrap();
    client.create("/a", b"", CreateMode::Ephemeral).unwrap();
    assert!(server.expire_session(client.session().id).unwrap());
    server.pause().unwrap();
    drop(server);
}

#[test]
fn the_directory_goes_with_the_server() {
    let server = Server::start().unwrap();
    let dir = server.data_dir().to_owned();
    assert!(dir.join("version-2").is_dir());
    server.kill().unwrap();
    assert!(dir.is_dir(), "a killed server keeps it");
    drop(server);
    assert!(!Path::new(&dir).exists());
}
