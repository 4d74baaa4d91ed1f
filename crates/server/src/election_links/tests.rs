use std::collections::BTreeSet;

use oxkeeper_types::Zxid;
use oxkeeper_zab::{PeerState, QuorumVerifier, Vote};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::config::{Groups, Member, PeerAddress};

/// Nothing here takes a fraction of this.
const DEADLINE: Duration = Duration::from_secs(20);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future)
        .await
        .unwrap_or_else(|_| panic!("{what} did not happen"))
}

async fn any_port() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn address(election_port: u16) -> PeerAddress {
    PeerAddress {
        host: "127.0.0.1".to_owned(),
        quorum_port: 1,
        election_port,
    }
}

fn config(me: i64, ports: &[(i64, u16)]) -> EnsembleConfig {
    let member = |port| Member {
        is_observer: false,
        addresses: vec![address(port)],
        client: None,
    };
    let servers: BTreeMap<_, _> = ports
        .iter()
        .map(|&(id, port)| (ServerId(id), member(port)))
        .collect();
    let quorum = QuorumVerifier::majority(servers.keys().copied(), []);
    EnsembleConfig::new(ServerId(me), servers, quorum, &Groups::default(), 0)
}

struct Running {
    links: ElectionLinks,
    events: UnboundedReceiver<ElectionEvent>,
}

fn start_on(listener: TcpListener, config: EnsembleConfig) -> Running {
    let (sender, events) = unbounded_channel();
    let on_event = move |event| {
        let _test_is_over = sender.send(event);
    };
    Running {
        links: ElectionLinks::start_on(vec![listener], Arc::new(config), on_event),
        events,
    }
}

/// As [`start_on`], but it says its last word again to who connects, as a server does that elects.
fn start_electing(listener: TcpListener, config: EnsembleConfig) -> Electing {
    let Running { links, mut events } = start_on(listener, config);
    let (links, said) = (Arc::new(links), Arc::new(Mutex::new(BTreeMap::new())));
    let (sender, told) = unbounded_channel();
    let (weak, words) = (Arc::downgrade(&links), Arc::clone(&said));
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if let (ElectionEvent::Connected(id), Some(links)) = (&event, weak.upgrade())
                && let Some(round) = words.lock().get(id)
            {
                links.send(*id, &notification(*round));
            }
            let _test_is_over = sender.send(event);
        }
    });
    Electing { links, said, told }
}

struct Electing {
    links: Arc<ElectionLinks>,
    said: Arc<Mutex<BTreeMap<ServerId, i64>>>,
    told: UnboundedReceiver<ElectionEvent>,
}

impl Electing {
    fn say(&self, to: i64, round: i64) {
        self.said.lock().insert(ServerId(to), round);
        self.links.send(ServerId(to), &notification(round));
    }

    async fn hear(&mut self, id: i64, round: i64) {
        let heard = async {
            while let Some(event) = self.told.recv().await {
                if let ElectionEvent::Notification { from, notification } = event
                    && (from.0, notification.election_epoch) == (id, round)
                {
                    return;
                }
            }
        };
        soon("hearing it", heard).await;
    }
}

impl Running {
    fn say(&self, to: i64, round: i64) {
        self.links.send(ServerId(to), &notification(round));
    }

    async fn next_event(&mut self) -> ElectionEvent {
        soon("an event", self.events.recv())
            .await
            .expect("the links live")
    }

    async fn expect_connected(&mut self, id: i64) {
        let event = self.next_event().await;
        assert_eq!(event, ElectionEvent::Connected(ServerId(id)));
    }

    /// The round of the next notification; connections on the way are passed over.
    async fn hear(&mut self, id: i64) -> i64 {
        loop {
            match self.next_event().await {
                ElectionEvent::Notification { from, notification } => {
                    assert_eq!(from, ServerId(id));
                    return notification.election_epoch;
                }
                ElectionEvent::Connected(_) | ElectionEvent::Configuration(_) => {}
            }
        }
    }
}

fn notification(round: i64) -> Notification {
    Notification {
        state: PeerState::Looking,
        vote: Vote {
            leader: ServerId(3),
            zxid: Zxid::new(1, 2),
            peer_epoch: 1,
        },
        election_epoch: round,
        version: 2,
    }
}

fn notification_bytes(round: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_notification(&notification(round), "version=0", &mut bytes);
    bytes
}

fn hello_bytes(id: i64, told_port: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    let hello = ElectionHello {
        server: ServerId(id),
        addresses: vec![("127.0.0.1".to_owned(), told_port)],
    };
    hello.encode(false, &mut bytes);
    bytes
}

/// The other end of a connection, by hand.
struct Raw(TcpStream);

impl Raw {
    async fn dial(port: u16, id: i64, told_port: u16) -> Raw {
        let mut stream = soon("a dial", TcpStream::connect(("127.0.0.1", port)))
            .await
            .unwrap();
        stream.write_all(&hello_bytes(id, told_port)).await.unwrap();
        Raw(stream)
    }

    /// Accepts a connection and checks the hello.
    async fn accept(listener: &TcpListener, id: i64, told_port: u16) -> Raw {
        let (mut stream, _) = soon("being dialled", listener.accept()).await.unwrap();
        let mut hello = vec![0; hello_bytes(id, told_port).len()];
        soon("a hello", stream.read_exact(&mut hello)).await.unwrap();
        assert_eq!(hello, hello_bytes(id, told_port));
        Raw(stream)
    }

    async fn hear(&mut self) -> i64 {
        let mut length = [0; 4];
        soon("a notification", self.0.read_exact(&mut length))
            .await
            .unwrap();
        let mut bytes = vec![0; notification_length(&length).unwrap().unwrap()];
        soon("the rest of it", self.0.read_exact(&mut bytes))
            .await
            .unwrap();
        decode_notification(&bytes).unwrap().0.election_epoch
    }

    async fn say(&mut self, round: i64) {
        self.0.write_all(&notification_bytes(round)).await.unwrap();
    }

    async fn expect_closed(mut self) {
        let mut rest = [0; 64];
        let closed = soon("the end of the connection", self.0.read(&mut rest)).await;
        assert!(
            matches!(closed, Ok(0))
                || closed.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
        );
    }
}

#[tokio::test]
async fn three_servers_hear_one_another_whoever_speaks_first() {
    let mut listeners = Vec::new();
    let mut ports = Vec::new();
    for id in 1..=3 {
        let (listener, port) = any_port().await;
        listeners.push(listener);
        ports.push((id, port));
    }
    let mut servers: Vec<Electing> = listeners
        .into_iter()
        .zip(1..)
        .map(|(listener, me)| start_electing(listener, config(me, &ports)))
        .collect();
    for (from, to) in [(1, 2), (3, 1), (2, 3), (2, 1), (1, 3), (3, 2)] {
        let round = from * 10 + to;
        servers[usize::try_from(from).unwrap() - 1].say(to, round);
        servers[usize::try_from(to).unwrap() - 1].hear(from, round).await;
    }
}

#[tokio::test]
async fn all_servers_speaking_at_once_end_with_one_link_per_pair() {
    let mut listeners = Vec::new();
    let mut ports = Vec::new();
    for id in 1..=5 {
        let (listener, port) = any_port().await;
        listeners.push(listener);
        ports.push((id, port));
    }
    let mut servers: Vec<Running> = listeners
        .into_iter()
        .zip(1..)
        .map(|(listener, me)| start_on(listener, config(me, &ports)))
        .collect();
    // Each says its vote to all, and again to who connects, as the election does.
    let mut waited_for: BTreeSet<(i64, i64)> = BTreeSet::new();
    for (server, me) in servers.iter().zip(1..) {
        for to in (1..=5).filter(|to| *to != me) {
            server.say(to, me);
            waited_for.insert((me, to));
        }
    }
    let everything = async {
        while !waited_for.is_empty() {
            for (server, me) in servers.iter_mut().zip(1..) {
                while let Ok(event) = server.events.try_recv() {
                    match event {
                        ElectionEvent::Connected(with) => server.links.send(with, &notification(me)),
                        ElectionEvent::Notification { from, .. } => {
                            waited_for.remove(&(from.0, me));
                        }
                        ElectionEvent::Configuration(told) => panic!("nobody may tell {told:?}"),
                    }
                }
            }
            tokio::task::yield_now().await;
        }
    };
    soon("every vote", everything).await;
}

#[tokio::test]
async fn a_connection_of_a_higher_server_is_kept_and_used_in_both_directions() {
    let (listener, port) = any_port().await;
    let mut two = start_on(listener, config(2, &[(2, port), (3, 1)]));
    let mut three = Raw::dial(port, 3, 1).await;
    two.expect_connected(3).await;
    two.say(3, 7);
    assert_eq!(three.hear().await, 7);
    three.say(8).await;
    assert_eq!(two.hear(3).await, 8);

    // It came back: the new connection counts, the old one is closed.
    let mut again = Raw::dial(port, 3, 1).await;
    two.expect_connected(3).await;
    three.expect_closed().await;
    two.say(3, 9);
    assert_eq!(again.hear().await, 9);
}

#[tokio::test]
async fn what_comes_in_one_segment_with_the_hello_is_heard() {
    let (listener, port) = any_port().await;
    let mut two = start_on(listener, config(2, &[(2, port), (3, 1)]));
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut bytes = hello_bytes(3, 1);
    bytes.extend(notification_bytes(4));
    bytes.extend(&notification_bytes(5)[..9]);
    stream.write_all(&bytes).await.unwrap();
    assert_eq!(two.hear(3).await, 4);
    stream.write_all(&notification_bytes(5)[9..]).await.unwrap();
    assert_eq!(two.hear(3).await, 5);
}

#[tokio::test]
async fn a_lower_server_that_dials_is_hung_up_on_and_dialled_back() {
    let (listener, port) = any_port().await;
    let (of_one, port_one) = any_port().await;
    let mut two = start_on(listener, config(2, &[(1, port_one), (2, port)]));
    let knock = Raw::dial(port, 1, port_one).await;
    let mut one = Raw::accept(&of_one, 2, port).await;
    knock.expect_closed().await;
    two.expect_connected(1).await;
    one.say(3).await;
    assert_eq!(two.hear(1).await, 3);

    // It lost the connection without a word and knocks again: what there was is closed.
    let knock = Raw::dial(port, 1, port_one).await;
    let mut again = Raw::accept(&of_one, 2, port).await;
    knock.expect_closed().await;
    one.expect_closed().await;
    two.expect_connected(1).await;
    two.say(1, 4);
    assert_eq!(again.hear().await, 4);
}

#[tokio::test]
async fn a_higher_server_is_only_knocked_at_until_it_dials() {
    let (listener, port) = any_port().await;
    let (of_three, port_three) = any_port().await;
    let mut two = start_on(listener, config(2, &[(2, port), (3, port_three)]));
    two.say(3, 1);
    Raw::accept(&of_three, 2, port).await.expect_closed().await;
    // It does not dial: it is knocked at again.
    Raw::accept(&of_three, 2, port).await.expect_closed().await;
    let mut three = Raw::dial(port, 3, port_three).await;
    two.expect_connected(3).await;
    assert_eq!(three.hear().await, 1);
}

#[tokio::test]
async fn a_newer_notification_replaces_the_one_that_was_not_sent() {
    let (listener, port) = any_port().await;
    let (of_one, port_one) = any_port().await;
    drop(of_one);
    let mut two = start_on(listener, config(2, &[(1, port_one), (2, port)]));
    for round in 1..=50 {
        two.say(1, round);
        tokio::task::yield_now().await;
    }
    // Nothing is said any more, and still it is dialled when it is there.
    let of_one = TcpListener::bind(("127.0.0.1", port_one)).await.unwrap();
    let mut one = Raw::accept(&of_one, 2, port).await;
    assert_eq!(one.hear().await, 50);
    two.expect_connected(1).await;
    two.say(1, 51);
    assert_eq!(one.hear().await, 51);
}

#[tokio::test]
async fn a_server_that_died_and_came_back_is_heard_at_once() {
    for restarted in [1, 2] {
        let (listener_one, port_one) = any_port().await;
        let (listener_two, port_two) = any_port().await;
        let ports = [(1, port_one), (2, port_two)];
        let mut one = start_electing(listener_one, config(1, &ports));
        let mut two = start_electing(listener_two, config(2, &ports));
        one.say(2, 1);
        two.hear(1, 1).await;
        let (stays, port) = match restarted {
            1 => {
                drop(one);
                (&mut two, port_one)
            }
            _ => {
                drop(two);
                (&mut one, port_two)
            }
        };
        let bind = async {
            loop {
                match ports::bind_to(([127, 0, 0, 1], port).into(), None) {
                    Ok((listener, _)) => break listener,
                    Err(_) => sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let listener = soon("the port being free again", bind).await;
        let back = Instant::now();
        let mut other = start_electing(listener, config(restarted, &ports));
        other.say(3 - restarted, 2);
        stays.hear(restarted, 2).await;
        stays.say(restarted, 3);
        other.hear(3 - restarted, 3).await;
        assert!(
            back.elapsed() < Duration::from_secs(2),
            "{restarted}: {:?}",
            back.elapsed()
        );
    }
}

#[tokio::test]
async fn a_server_that_calls_itself_as_this_one_is_hung_up_on() {
    let (listener, port) = any_port().await;
    let mut two = start_on(listener, config(2, &[(2, port), (3, 1)]));
    Raw::dial(port, 2, port).await.expect_closed().await;
    assert!(two.events.try_recv().is_err());
}

#[tokio::test]
async fn servers_outside_of_the_configuration_are_answered() {
    let (listener, port) = any_port().await;
    let mut two = start_on(listener, config(2, &[(2, port), (3, 1)]));
    // A higher one keeps its connection.
    let mut nine = Raw::dial(port, 9, 1).await;
    two.expect_connected(9).await;
    nine.say(1).await;
    assert_eq!(two.hear(9).await, 1);
    two.say(9, 2);
    assert_eq!(nine.hear().await, 2);
    // A lower one, and one without an id, are dialled back where they say.
    for id in [1, i64::MAX] {
        let (of_stranger, told) = any_port().await;
        Raw::dial(port, id, told).await.expect_closed().await;
        let mut stranger = Raw::accept(&of_stranger, 2, port).await;
        let known_as = if id == 1 { 1 } else { -1 };
        two.expect_connected(known_as).await;
        stranger.say(3).await;
        assert_eq!(two.hear(known_as).await, 3);
        two.say(known_as, 4);
        assert_eq!(stranger.hear().await, 4);
    }
}

#[tokio::test]
async fn there_is_a_bound_on_strangers_and_members_come_in_all_the_same() {
    let (listener, port) = any_port().await;
    let mut two = start_on(listener, config(2, &[(2, port), (3, 1)]));
    let mut strangers = Vec::new();
    for id in (10..).take(STRANGERS_MAX) {
        strangers.push(Raw::dial(port, id, 1).await);
        two.expect_connected(id).await;
    }
    Raw::dial(port, 9, 1).await.expect_closed().await;
    let _three = Raw::dial(port, 3, 1).await;
    two.expect_connected(3).await;
    // One leaves: after a while there is room.
    drop(strangers.pop());
    let comes_in = async {
        loop {
            let mut nine = Raw::dial(port, 9, 1).await;
            nine.say(5).await;
            tokio::select! {
                event = two.events.recv() => break event,
                closed = nine.0.read_u8() => assert!(closed.is_err()),
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let event = soon("room for a stranger", comes_in).await;
    assert_eq!(event, Some(ElectionEvent::Connected(ServerId(9))));
}

#[tokio::test]
async fn connections_that_say_nothing_do_not_keep_a_server_out() {
    let (listener, port) = any_port().await;
    let mut two = start_on(listener, config(2, &[(2, port), (3, 1)]));
    let mut silent = Vec::new();
    for _ in 0..HELLOS_MAX {
        silent.push(Raw(TcpStream::connect(("127.0.0.1", port)).await.unwrap()));
    }
    let _three = Raw::dial(port, 3, 1).await;
    two.expect_connected(3).await;
}

#[tokio::test]
async fn hostile_bytes_end_their_own_connection_alone() {
    let (listener, port) = any_port().await;
    let mut two = start_on(listener, config(2, &[(2, port), (3, 1)]));
    let dial = || async { Raw(TcpStream::connect(("127.0.0.1", port)).await.unwrap()) };
    let silent = dial().await;
    let asked = Instant::now();
    for hello in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 64],
        &[
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0x7f, 0xff, 0xff, 0xff,
        ],
    ] {
        let mut raw = dial().await;
        raw.0.write_all(hello).await.unwrap();
        // "GET /" is an id before 3.5: that server is kept until it says something.
        raw.expect_closed().await;
    }
    for length in [0_i32, -1, i32::MIN, 524_289, i32::MAX] {
        let mut three = Raw::dial(port, 3, 1).await;
        three.0.write_all(&length.to_be_bytes()).await.unwrap();
        three.expect_closed().await;
    }
    // A frame that is no notification is dropped, the next one is heard.
    let mut three = Raw::dial(port, 3, 1).await;
    three.0.write_all(&[0, 0, 0, 2, 9, 9]).await.unwrap();
    three.say(6).await;
    assert_eq!(two.hear_past_strangers(3).await, 6);
    silent.expect_closed().await;
    assert!(asked.elapsed() >= HELLO_TIMEOUT);
}

impl Running {
    async fn hear_past_strangers(&mut self, id: i64) -> i64 {
        loop {
            if let ElectionEvent::Notification { from, notification } = self.next_event().await
                && from == ServerId(id)
            {
                return notification.election_epoch;
            }
        }
    }
}

#[tokio::test]
async fn a_flood_of_notifications_is_taken_in_slowly_and_whole() {
    let (listener, port) = any_port().await;
    let mut two = start_on(listener, config(2, &[(2, port), (3, 1)]));
    let three = Raw::dial(port, 3, 1).await;
    two.expect_connected(3).await;
    let began = Instant::now();
    let count = i64::from(INTAKE_MAX) * 4;
    let (_reading, mut writing) = three.0.into_split();
    let flood = tokio::spawn(async move {
        for round in 0..count {
            writing.write_all(&notification_bytes(round)).await.unwrap();
        }
        writing
    });
    for round in 0..count {
        assert_eq!(two.hear(3).await, round);
    }
    // The first interval may have been over already, the last needs no waiting.
    assert!(began.elapsed() >= INTAKE_INTERVAL * 2, "{:?}", began.elapsed());
    flood.await.unwrap();
}

#[tokio::test]
async fn every_address_of_a_server_is_tried() {
    let (listener, port) = any_port().await;
    let (of_one, port_one) = any_port().await;
    let (dead, dead_port) = any_port().await;
    drop(dead);
    let mut config = config(2, &[(1, dead_port), (2, port)]);
    config.multi_address_enabled = true;
    if let Some(one) = config.servers.get_mut(&ServerId(1)) {
        one.addresses.push(PeerAddress {
            host: "no.such.name.invalid".to_owned(),
            ..address(1)
        });
        one.addresses.push(address(port_one));
    }
    let two = start_on(listener, config);
    two.say(1, 1);
    let (mut stream, _) = soon("being dialled", of_one.accept()).await.unwrap();
    let mut opening = [0; 8];
    soon("a hello", stream.read_exact(&mut opening)).await.unwrap();
    assert_eq!(
        i64::from_be_bytes(opening),
        -65535,
        "the form with several addresses"
    );
}

#[tokio::test]
async fn the_first_success_does_not_wait_for_who_hangs() {
    let hangs = || -> std::pin::Pin<Box<dyn Future<Output = io::Result<u8>> + Send>> {
        Box::pin(std::future::pending())
    };
    let tries = [
        hangs(),
        Box::pin(async { Err(io::ErrorKind::Other.into()) }),
        Box::pin(async { Ok(7) }),
    ];
    assert_eq!(
        soon("a success", first_success(tries.into_iter())).await.unwrap(),
        7
    );
    let none: [std::future::Ready<io::Result<u8>>; 0] = [];
    assert_eq!(
        first_success(none.into_iter()).await.unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
}

#[tokio::test]
async fn an_election_port_in_use_is_tried_as_often_as_configured_and_exits_with_14() {
    let (taken, port) = any_port().await;
    let mut config = config(1, &[(1, port), (2, 1)]);
    config.election_bind_tries_max = Some(2);
    let config = Arc::new(config);
    let began = Instant::now();
    let Err(error) = ElectionLinks::start(config.clone(), |_| {}).await else {
        panic!("the port is in use");
    };
    assert!(began.elapsed() >= LISTEN_RETRY);
    assert_eq!(error.exit_code(), 14);
    assert!(
        error.to_string().contains(&format!("127.0.0.1:{port}")),
        "{error}"
    );
    drop(taken);
    let links = ElectionLinks::start(config, |_| {}).await.unwrap();
    let _connected = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    drop(links);
}

#[tokio::test]
async fn all_interfaces_are_listened_on_when_asked() {
    let (free, port) = any_port().await;
    drop(free);
    let mut config = config(1, &[(1, port), (2, 1)]);
    config.quorum_listen_on_all_ips = true;
    let _links = ElectionLinks::start(Arc::new(config), |_| {}).await.unwrap();
    let _other_address = TcpStream::connect(("127.0.0.9", port)).await.unwrap();
}

#[tokio::test]
async fn dropping_the_links_closes_connections_and_port() {
    let (listener, port) = any_port().await;
    let mut two = start_on(listener, config(2, &[(2, port), (3, 1)]));
    let three = Raw::dial(port, 3, 1).await;
    two.expect_connected(3).await;
    drop(two.links);
    three.expect_closed().await;
    let refused = async { while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {} };
    soon("the port being closed", refused).await;
    assert!(
        soon("the end of the tasks", two.events.recv()).await.is_none(),
        "they hold the other end"
    );
}

#[test]
fn the_hello_leaves_out_addresses_that_java_would_not_read() {
    let mut config = config(1, &[(1, 3888), (2, 1)]);
    config.multi_address_enabled = true;
    if let Some(own) = config.servers.get_mut(&ServerId(1)) {
        own.addresses = (0..100)
            .map(|n| PeerAddress {
                host: format!("{}{n}.example.org", "long".repeat(10)),
                ..address(3888)
            })
            .collect();
    }
    let (hello, length) = ElectionHello::decode(&own_hello(&config, &config.own().addresses))
        .unwrap()
        .unwrap();
    assert!(length <= HELLO_LENGTH_MAX && hello.addresses.len() > 30);
}
