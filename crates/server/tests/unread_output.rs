//! A client that does not read must not keep its place for ever.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use oxkeeper_testkit::{Client, CreateMode, Server};
use oxkeeper_types::{ReadRequest, SessionId, WriteRequest, Zxid};
use oxkeeper_wire::{ConnectRequest, Request, encode_request};
use socket2::{Domain, Socket, Type};

/// More than fits into the buffers between the two.
const READS: i32 = 12;

#[test]
fn a_client_that_closes_its_session_and_does_not_read_loses_its_connection() {
    let server = Server::start().unwrap();
    let mut client = Client::connect(server.address(), 30_000).unwrap();
    client
        .create("/large", &vec![b'x'; 1_000_000], CreateMode::Persistent)
        .unwrap();
    client.close().unwrap();

    // A small window, so that little of the output fits between the two.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    socket.connect(&server.address().into()).unwrap();
    let mut stream: TcpStream = socket.into();
    let mut bytes = Vec::new();
    let connect = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::ZERO,
        timeout_ms: 500,
        session: SessionId::NONE,
        password: vec![0; 16],
        read_only: Some(false),
    };
    connect.encode(&mut bytes);
    stream.write_all(&bytes).unwrap();
    let mut response = [0; 41];
    stream.read_exact(&mut response).unwrap();

    // With its session the client gives up what would expire; only the connection itself can end now.
    bytes.clear();
    let write = WriteRequest::SetData {
        path: "/".to_owned(),
        data: None,
        version: -1,
    };
    encode_request(&mut bytes, 1, &Request::Write(write));
    for xid in 2..2 + READS {
        let read = ReadRequest::GetData {
            path: "/large".into(),
            watch: false,
        };
        encode_request(&mut bytes, xid, &Request::Read(read));
    }
    encode_request(&mut bytes, 2 + READS, &Request::CloseSession);
    stream.write_all(&bytes).unwrap();

    let deadline = Instant::now() + Duration::from_secs(20);
    let alone = "Connections: 1\n";
    while !server.four_letter("srvr").unwrap().contains(alone) {
        assert!(Instant::now() < deadline, "the connection is still there");
        std::thread::yield_now();
    }
    // It was really in the way: most of the answers were never sent.
    let mut received = Vec::new();
    let _reset = stream.read_to_end(&mut received);
    assert!(
        received.len() < 1_000_000 * usize::try_from(READS).unwrap(),
        "{} bytes fitted into the buffers",
        received.len()
    );
}
