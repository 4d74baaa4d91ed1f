//! What a proxy breaks, and what it leaves alone.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use oxkeeper_testkit::{Client, ClientError, CreateMode, Fault, FrameKind, OpCode, Proxy, Server};

const TIMEOUT_MS: i32 = 10_000;
const PATIENCE: Duration = Duration::from_secs(20);
/// Nothing is expected to come within this time.
const SILENCE: Duration = Duration::from_millis(100);

/// A server, a proxy before it, and a client of the server itself.
fn setting() -> (Server, Proxy, Client) {
    let server = Server::start().expect("it starts");
    let proxy = Proxy::start(server.address()).expect("it starts");
    let direct = Client::connect(server.address(), TIMEOUT_MS).expect("it serves");
    (server, proxy, direct)
}

fn connect(proxy: &Proxy) -> Client {
    Client::connect(proxy.address(), TIMEOUT_MS).expect("nothing is broken")
}

fn is_broken<T>(result: Result<T, ClientError>) -> bool {
    match result {
        Err(ClientError::Closed) => true,
        Err(ClientError::Io(error)) => matches!(
            error.kind(),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted
        ),
        _ => false,
    }
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_proxy_that_is_not_asked_for_anything_passes_everything_on() {
    let (server, proxy, mut direct) = setting();
    let mut client = connect(&proxy);
    assert_eq!(
        proxy.connect_string(),
        format!("127.0.0.1:{}", proxy.address().port())
    );
    let large = vec![7; 900_000];
    client.create("/large", &large, CreateMode::Persistent).unwrap();
    assert_eq!(client.get_and_watch("/large", true).unwrap().0, large);
    direct.delete("/large", -1).unwrap();
    assert_eq!(client.next_event().unwrap().path, "/large");
    assert_eq!(
        (proxy.requests(OpCode::Create2), proxy.requests(OpCode::Delete)),
        (1, 0)
    );
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    stream.write_all(b"ruok").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "imok", "four-letter words pass as well");
    assert_eq!(server.four_letter("ruok").unwrap(), "imok");
    assert_eq!(proxy.connections(), 2);
    client.close().unwrap();
    wait_for("the session is closed", || {
        server.sessions() == [direct.session().id]
    });
}

#[test]
fn a_request_cut_before_never_arrives() {
    let (_server, proxy, mut direct) = setting();
    let cut = proxy.fault_once(
        |frame| frame.is_create() && frame.path == Some("/a"),
        Fault::CutBefore,
    );
    let mut client = connect(&proxy);
    client.create("/other", b"", CreateMode::Persistent).unwrap();
    assert_eq!(cut.count(), 0);
    assert!(is_broken(client.create("/a", b"", CreateMode::Persistent)));
    assert_eq!(cut.count(), 1);
    assert_eq!(direct.exists("/a", false).unwrap(), None);
    let mut client = Client::renew(proxy.address(), client.session()).unwrap();
    client
        .create("/a", b"", CreateMode::Persistent)
        .expect("once is once");
}

#[test]
fn a_request_cut_after_is_done_and_its_client_does_not_know() {
    let (server, proxy, mut direct) = setting();
    for round in 0..50 {
        let path = format!("/{round}");
        let wanted = path.clone();
        let cut = proxy.fault_once(move |frame| frame.path == Some(&wanted), Fault::CutAfter);
        let mut client = connect(&proxy);
        assert!(is_broken(client.create(&path, b"", CreateMode::Persistent)));
        assert_eq!(cut.count(), 1);
        wait_for("it is done", || direct.exists(&path, false).unwrap().is_some());
        assert!(
            server.sessions().contains(&client.session().id),
            "the session goes on"
        );
    }
}

#[test]
fn a_reply_that_is_lost_is_that_of_a_request_that_was_done() {
    let (_server, proxy, mut direct) = setting();
    let lost = proxy.fault_always(|frame| frame.is_request(OpCode::Create2), Fault::LoseReply);
    for round in 1..=50 {
        let path = format!("/{round}");
        let mut client = connect(&proxy);
        client.ping().unwrap();
        assert!(is_broken(client.create(&path, b"", CreateMode::Persistent)));
        assert_eq!(lost.count(), round);
        assert!(
            direct.exists(&path, false).unwrap().is_some(),
            "at once, since the reply was there"
        );
    }
    proxy.clear_faults();
    connect(&proxy).create("/a", b"", CreateMode::Persistent).unwrap();
}

#[test]
fn replies_and_events_and_handshakes_can_be_cut_too() {
    let (_server, proxy, mut direct) = setting();
    direct.create("/a", b"", CreateMode::Persistent).unwrap();

    let reply = proxy.fault_once(
        |frame| frame.is_reply(OpCode::GetData) && frame.error == 0,
        Fault::CutBefore,
    );
    let mut client = connect(&proxy);
    client.get("/none").unwrap_err();
    assert_eq!(reply.count(), 0, "an error is another reply");
    assert!(is_broken(client.get("/a")));
    assert_eq!(reply.count(), 1);

    let event =
        |frame: &oxkeeper_testkit::Frame<'_>| frame.kind == FrameKind::WatchEvent && frame.is_below("/a");
    let event = proxy.fault_once(event, Fault::CutAfter);
    let mut client = connect(&proxy);
    client.exists("/a", true).unwrap();
    direct.delete("/a", -1).unwrap();
    assert_eq!(client.next_event().unwrap().path, "/a", "the event comes through");
    assert!(is_broken(client.ping()));
    assert_eq!(event.count(), 1);

    // The session is there, and the client never hears of it.
    let connected = proxy.fault_once(|frame| frame.kind == FrameKind::Connected, Fault::CutBefore);
    assert!(is_broken(Client::connect(proxy.address(), TIMEOUT_MS)));
    assert_eq!(connected.count(), 1);
    let connect_lost = proxy.fault_once(|frame| frame.kind == FrameKind::Connect, Fault::LoseReply);
    assert!(is_broken(Client::connect(proxy.address(), TIMEOUT_MS)));
    assert_eq!(connect_lost.count(), 1);
}

#[test]
fn the_nth_frame_can_be_chosen() {
    let (_server, proxy, mut direct) = setting();
    let mut creates = 0;
    let third = move |frame: &oxkeeper_testkit::Frame<'_>| {
        creates += usize::from(frame.is_create());
        creates == 3
    };
    let cut = proxy.fault_once(third, Fault::CutBefore);
    let mut client = connect(&proxy);
    client.create("/1", b"", CreateMode::Persistent).unwrap();
    client.create("/2", b"", CreateMode::Persistent).unwrap();
    assert!(is_broken(client.create("/3", b"", CreateMode::Persistent)));
    assert_eq!((cut.count(), proxy.requests(OpCode::Create2)), (1, 3));
    assert_eq!(
        direct.children("/", false).unwrap().0.len(),
        3,
        "/1, /2 and /zookeeper"
    );
}

#[test]
fn what_is_delayed_comes_later_and_in_order() {
    let (_server, proxy, mut direct) = setting();
    let by = Duration::from_millis(200);
    let delayed = proxy.fault_once(|frame| frame.path == Some("/late"), Fault::Delay(by));
    let mut client = connect(&proxy);
    let began = Instant::now();
    client.create("/late", b"", CreateMode::Persistent).unwrap();
    assert!(began.elapsed() >= by);
    assert_eq!(delayed.count(), 1);
    let (late, after) = (
        direct.get("/late").unwrap().1,
        client.create("/after", b"", CreateMode::Persistent),
    );
    assert!(after.unwrap().1.czxid > late.czxid);
}

#[test]
fn a_stalled_proxy_is_silent_and_goes_on_where_it_was() {
    let (server, proxy, mut direct) = setting();
    let mut client = connect(&proxy);
    let stall = proxy.fault_once(|frame| frame.is_create(), Fault::Stall);
    client.set_reply_timeout(SILENCE).unwrap();
    let silent = client.create("/a", b"", CreateMode::Persistent);
    assert!(
        matches!(&silent, Err(ClientError::Io(error)) if error.kind() == ErrorKind::WouldBlock),
        "{silent:?}"
    );
    assert_eq!(stall.count(), 1);
    assert_eq!(direct.exists("/a", false).unwrap(), None);
    proxy.heal();
    client.set_reply_timeout(PATIENCE).unwrap();
    assert_eq!(client.receive().unwrap().err, 0);
    assert!(direct.exists("/a", false).unwrap().is_some());

    proxy.stall();
    client.set_reply_timeout(SILENCE).unwrap();
    assert!(client.ping().is_err());
    proxy.cut();
    client.set_reply_timeout(PATIENCE).unwrap();
    assert!(
        is_broken(client.receive()),
        "a connection that is stalled can be cut"
    );
    assert_eq!(server.sessions().len(), 2);
}

#[test]
fn who_is_cut_off_comes_back_when_the_proxy_is_healed() {
    let (_server, proxy, mut direct) = setting();
    let (mut one, mut other) = (connect(&proxy), connect(&proxy));
    proxy.cut();
    assert!(is_broken(one.ping()) && is_broken(other.ping()));
    assert!(is_broken(Client::renew(proxy.address(), one.session())));
    direct.ping().expect("the server itself is not cut off");
    proxy.heal();
    let mut one = Client::renew(proxy.address(), one.session()).unwrap();
    proxy.disconnect_clients();
    assert!(is_broken(one.ping()));
    Client::renew(proxy.address(), one.session())
        .unwrap()
        .ping()
        .unwrap();
}

#[test]
fn a_proxy_outlives_its_server() {
    let (server, proxy, _direct) = setting();
    let mut client = connect(&proxy);
    server.kill().unwrap();
    assert!(is_broken(client.ping()));
    assert!(is_broken(Client::renew(proxy.address(), client.session())));
    server.restart().unwrap();
    Client::renew(proxy.address(), client.session())
        .unwrap()
        .ping()
        .unwrap();
}

#[test]
fn what_is_no_frame_ends_its_own_connection_alone() {
    let (_server, proxy, _direct) = setting();
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    stream.write_all(&[0, 0xff, 0xff, 0xff]).unwrap();
    stream.write_all(&[0; 100]).unwrap();
    drop(stream);
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    stream.write_all(&[0, 0, 0, 3, 1, 2, 3]).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(stream.read(&mut [0; 16]).unwrap_or(0), 0, "the server closes it");
    connect(&proxy).ping().unwrap();
}

#[tokio::test]
async fn a_test_with_a_runtime_waits_for_a_fault_to_happen() {
    let (_server, proxy, _direct) = setting();
    let cut = proxy.fault_once(|frame| frame.is_create(), Fault::CutAfter);
    let address = proxy.address();
    let creating = tokio::task::spawn_blocking(move || {
        let mut client = Client::connect(address, TIMEOUT_MS).unwrap();
        client.create("/a", b"", CreateMode::Persistent)
    });
    tokio::time::timeout(PATIENCE, cut.happened())
        .await
        .expect("it happens");
    assert!(is_broken(creating.await.unwrap()));
}
