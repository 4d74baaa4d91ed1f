//! The load generator: one thread, one poll, requests encoded beforehand. It must cost little, because it shares
//! the machine with the server it measures.
//!
//! The load is closed: each connection keeps a number of requests in flight and sends the next one when a reply
//! has come. So a server that stalls is asked less, and the percentiles do not show the whole stall.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use oxkeeper_testkit::{Client, ClientError, CreateMode};
use oxkeeper_types::{
    Acl, CreateRequest, ErrorCode, OpCode, Permissions, ReadRequest, SessionId, VERSION_ANY, WriteRequest,
    Zxid,
};
use oxkeeper_wire::{ConnectRequest, ConnectResponse, Request, encode_request, next_frame};

use crate::Error;
use crate::process::cpu_time;

/// The znode below which all of the benchmark is.
pub(crate) const ROOT: &str = "/bench";
/// The session timeout that clients ask for, in ms: longer than anything here takes.
pub(crate) const SESSION_TIMEOUT_MS: i32 = 120_000;
/// A reply must come in this time.
const STALL: Duration = Duration::from_secs(60);
/// Replies are small: the path of a create, or the data of a get.
const REPLY_LENGTH_MAX: usize = 16 << 20;
const BUFFER: usize = 64 << 10;

/// What a load asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// getData of a random znode.
    Get,
    /// setData of a random znode.
    Set,
    /// Sequential creates, each connection in a parent of its own.
    Create,
    /// Nine getData to one setData.
    Mixed,
}

impl Workload {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Workload::Get => "getData",
            Workload::Set => "setData",
            Workload::Create => "create",
            Workload::Mixed => "90% get 10% set",
        }
    }
}

/// A load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadOptions {
    pub(crate) workload: Workload,
    pub(crate) connections: usize,
    pub(crate) in_flight: usize,
    pub(crate) data_bytes: usize,
    pub(crate) znodes: usize,
    /// Load before the measurement begins.
    pub(crate) ramp: Duration,
    pub(crate) measured: Duration,
}

/// What was measured.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// Replies that came, all of them without an error.
    pub(crate) operations: u64,
    pub(crate) elapsed: Duration,
    /// From the write of the request to the read of the reply, in ns.
    pub(crate) latencies: Histogram<u64>,
    /// CPU time of the server, or of all servers of the ensemble.
    pub(crate) server_cpu: Option<Duration>,
    /// CPU time of this process: when it comes near `elapsed`, the generator is the limit.
    pub(crate) generator_cpu: Duration,
}

impl Measured {
    /// Takes another measurement of the same load in.
    pub(crate) fn add(&mut self, other: &Measured) -> Result<(), Error> {
        self.operations += other.operations;
        self.elapsed += other.elapsed;
        self.latencies.add(&other.latencies)?;
        self.server_cpu = self.server_cpu.zip(other.server_cpu).map(|(a, b)| a + b);
        self.generator_cpu += other.generator_cpu;
        Ok(())
    }
}

/// A request as bytes, and what its reply must be.
struct Template {
    /// The frame; the xid is in bytes 4 to 8.
    frame: Vec<u8>,
    /// The length of the reply's frame, when it is known.
    reply_length: Option<usize>,
}

impl Template {
    fn new(request: &Request<'_>, reply_length: Option<usize>) -> Template {
        let mut frame = Vec::new();
        encode_request(&mut frame, 0, request);
        Template { frame, reply_length }
    }
}

const REPLY_HEADER: usize = 16;

/// The requests of a load.
struct Templates {
    gets: Vec<Template>,
    sets: Vec<Template>,
    /// One per connection.
    creates: Vec<Template>,
}

impl Templates {
    fn new(options: &LoadOptions) -> Templates {
        let data = vec![b'x'; options.data_bytes];
        let stat = oxkeeper_wire::STAT_LENGTH;
        let get = |number| {
            let read = ReadRequest::GetData {
                path: znode_path(number).into(),
                watch: false,
            };
            Template::new(&Request::Read(read), Some(REPLY_HEADER + 4 + data.len() + stat))
        };
        let set = |number| {
            let write = WriteRequest::SetData {
                path: znode_path(number),
                data: Some(data.as_slice().into()),
                version: VERSION_ANY,
            };
            Template::new(&Request::Write(write), Some(REPLY_HEADER + stat))
        };
        let create = |connection| {
            let write = WriteRequest::Create(CreateRequest {
                op: OpCode::Create,
                path: format!("{}/n-", create_parent(connection)),
                data: Some(data.as_slice().into()),
                acl: vec![Acl::world(Permissions::ALL)],
                flags: CreateMode::PersistentSequential as i32,
                ttl: -1,
            });
            Template::new(&Request::Write(write), None)
        };
        Templates {
            gets: (0..options.znodes).map(get).collect(),
            sets: (0..options.znodes).map(set).collect(),
            creates: (0..options.connections).map(create).collect(),
        }
    }

    fn next(&self, workload: Workload, connection: usize, rng: &mut fastrand::Rng) -> &Template {
        match workload {
            Workload::Get => &self.gets[rng.usize(0..self.gets.len())],
            Workload::Set => &self.sets[rng.usize(0..self.sets.len())],
            Workload::Create => &self.creates[connection],
            Workload::Mixed => match rng.u8(0..10) {
                0 => &self.sets[rng.usize(0..self.sets.len())],
                _ => &self.gets[rng.usize(0..self.gets.len())],
            },
        }
    }
}

fn znode_path(number: usize) -> String {
    format!("{ROOT}/k{number}")
}

fn create_parent(connection: usize) -> String {
    format!("{ROOT}/c{connection}")
}

/// A connection of the generator.
struct Connection {
    stream: TcpStream,
    output: Vec<u8>,
    /// How much of the output is written.
    written: usize,
    input: Vec<u8>,
    /// How much of the input is filled.
    filled: usize,
    next_xid: i32,
    /// When each request in flight was written, and the length its reply must have.
    in_flight: VecDeque<(Instant, Option<usize>)>,
}

/// Opens a connection with a new session, for a caller that speaks the protocol itself.
pub(crate) fn open_session(address: SocketAddr) -> Result<std::net::TcpStream, Error> {
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STALL))?;
    let mut request = Vec::new();
    ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::ZERO,
        timeout_ms: SESSION_TIMEOUT_MS,
        session: SessionId::NONE,
        password: vec![0; 16],
        read_only: Some(false),
    }
    .encode(&mut request);
    stream.write_all(&request)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length))?;
    if length > 1_000 {
        return Err(format!("a connect response of {length} bytes").into());
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let response = ConnectResponse::decode(&body)?;
    if response.timeout_ms < SESSION_TIMEOUT_MS / 4 {
        return Err(format!(
            "the server gives session timeouts of {} ms only",
            response.timeout_ms
        )
        .into());
    }
    Ok(stream)
}

impl Connection {
    fn send(&mut self, template: &Template, now: Instant) {
        let start = self.output.len();
        self.output.extend_from_slice(&template.frame);
        self.output[start + 4..start + 8].copy_from_slice(&self.next_xid.to_be_bytes());
        self.next_xid = self.next_xid.wrapping_add(1) & i32::MAX;
        self.in_flight.push_back((now, template.reply_length));
    }

    fn write(&mut self) -> io::Result<()> {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads what has come, checks it, and calls `answered` with the time each reply was asked for.
    fn read(&mut self, mut answered: impl FnMut(Instant)) -> Result<(), Error> {
        loop {
            let room = self.input.len() - self.filled;
            let read = match self.stream.read(&mut self.input[self.filled..]) {
                Ok(0) => return Err("the server closed a connection".into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            self.filled += read;
            let mut start = 0;
            while let Some(body) = next_frame(&self.input[start..self.filled], REPLY_LENGTH_MAX)? {
                let (sent_at, length) = self
                    .in_flight
                    .pop_front()
                    .ok_or("a reply that nobody asked for")?;
                let reply = &self.input[start + body.start..start + body.end];
                check_reply(reply, length)?;
                answered(sent_at);
                start += body.end;
            }
            self.input.copy_within(start..self.filled, 0);
            self.filled -= start;
            if self.filled == self.input.len() {
                self.input.resize(self.filled * 2, 0);
            }
            // The poll is edge-triggered; a read that leaves room has emptied the socket.
            if read < room {
                return Ok(());
            }
        }
    }
}

/// A reply must be a success, and as long as it must be.
fn check_reply(reply: &[u8], length: Option<usize>) -> Result<(), Error> {
    let err = reply
        .get(12..16)
        .and_then(|bytes| bytes.try_into().ok())
        .map(i32::from_be_bytes);
    if err != Some(0) || length.is_some_and(|length| length != reply.len()) {
        return Err(format!(
            "a reply of {} bytes with error {err:?}, expected {length:?} bytes",
            reply.len()
        )
        .into());
    }
    Ok(())
}

/// Loads a server, or the servers of an ensemble in equal parts, and measures it. The CPU time of all processes
/// `pids` is measured, if any.
///
/// # Errors
/// When the connection fails, a reply is an error, or none comes for a minute.
pub(crate) fn run(servers: &[SocketAddr], options: &LoadOptions, pids: &[u32]) -> Result<Measured, Error> {
    let first = *servers.first().ok_or("no server to load")?;
    set_up(first, options)?;
    for server in servers {
        // Reads must find what was made through the first one.
        let mut client = Client::connect(*server, SESSION_TIMEOUT_MS)?;
        client.sync(ROOT)?;
        client.close()?;
    }
    let measured = drive(servers, options, pids)?;
    if options.workload == Workload::Create {
        empty_create_parents(first, options.connections)?;
    }
    Ok(measured)
}

/// The CPU time so far of all these processes together, `None` when there are none.
fn cpu_time_of_all(pids: &[u32]) -> io::Result<Option<Duration>> {
    let each: Vec<Duration> = pids.iter().map(|pid| cpu_time(*pid)).collect::<io::Result<_>>()?;
    Ok((!each.is_empty()).then(|| each.iter().sum()))
}

fn drive(servers: &[SocketAddr], options: &LoadOptions, pids: &[u32]) -> Result<Measured, Error> {
    let templates = Templates::new(options);
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(options.connections);
    let mut connections = Vec::with_capacity(options.connections);
    for number in 0..options.connections {
        let stream = open_session(servers[number % servers.len()])?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(
            &mut stream,
            Token(number),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        connections.push(Connection {
            stream,
            output: Vec::new(),
            written: 0,
            input: vec![0; BUFFER],
            filled: 0,
            next_xid: 1,
            in_flight: VecDeque::with_capacity(options.in_flight),
        });
    }
    let mut rng = fastrand::Rng::with_seed(1);
    let own = std::process::id();
    let cpu_times = || -> Result<_, Error> { Ok((cpu_time_of_all(pids)?, cpu_time(own)?)) };
    // Up to a minute, with three digits.
    let mut latencies = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3)?;
    let mut operations = 0;
    let start = Instant::now() + options.ramp;
    let mut began = None;
    for (number, connection) in connections.iter_mut().enumerate() {
        let now = Instant::now();
        for _ in 0..options.in_flight {
            connection.send(templates.next(options.workload, number, &mut rng), now);
        }
        connection.write()?;
    }
    let mut finished = None;
    loop {
        match poll.poll(&mut events, Some(STALL)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        if events.is_empty() {
            return Err(format!("no reply for {STALL:?}").into());
        }
        for event in &events {
            let number = event.token().0;
            let connection = &mut connections[number];
            if event.is_readable() {
                let mut replies = 0;
                let mut now = None;
                connection.read(|sent_at| {
                    // One look at the clock for all that one read brought.
                    let now = *now.get_or_insert_with(Instant::now);
                    replies += 1;
                    if began.is_some() {
                        operations += 1;
                        let nanos = u64::try_from((now - sent_at).as_nanos()).unwrap_or(u64::MAX);
                        latencies.saturating_record(nanos);
                    }
                })?;
                if let Some(now) = now
                    && finished.is_none()
                {
                    for _ in 0..replies {
                        connection.send(templates.next(options.workload, number, &mut rng), now);
                    }
                }
            }
            connection.write()?;
        }
        let now = Instant::now();
        match (began, &finished) {
            (None, _) if now >= start => {
                began = Some((now, cpu_times()?));
            }
            (Some((since, before)), None) if now >= since + options.measured => {
                // Replies to what is in flight still come, but they count no more.
                let after = cpu_times()?;
                finished = Some(Measured {
                    operations,
                    elapsed: now - since,
                    latencies: latencies.clone(),
                    server_cpu: after.0.zip(before.0).map(|(after, before)| after - before),
                    generator_cpu: after.1 - before.1,
                });
            }
            _ => {}
        }
        if finished.is_some()
            && connections
                .iter()
                .all(|connection| connection.in_flight.is_empty())
        {
            break;
        }
    }
    close(connections)?;
    finished.ok_or_else(|| "the load ended before it began".into())
}

/// Ends the sessions, so that they do not burden the server in the next round.
fn close(connections: Vec<Connection>) -> Result<(), Error> {
    let template = Template::new(&Request::CloseSession, None);
    for mut connection in connections {
        connection.send(&template, Instant::now());
        connection.write()?;
    }
    Ok(())
}

/// Makes the znodes of a load where they are missing, with data of the right size.
fn set_up(address: SocketAddr, options: &LoadOptions) -> Result<(), Error> {
    let mut client = Client::connect(address, SESSION_TIMEOUT_MS)?;
    let data = vec![b'x'; options.data_bytes];
    let mut ensure = |path: &str, data: &[u8]| match client.create(path, data, CreateMode::Persistent) {
        Err(ClientError::Refused(ErrorCode::NodeExists)) => client.set(path, data, VERSION_ANY).map(drop),
        created => created.map(drop),
    };
    ensure(ROOT, b"")?;
    if options.workload == Workload::Create {
        for connection in 0..options.connections {
            ensure(&create_parent(connection), b"")?;
        }
    } else {
        for number in 0..options.znodes {
            ensure(&znode_path(number), &data)?;
        }
    }
    client.close()?;
    Ok(())
}

/// Deletes what a load of creates made, some hundred znodes in one txn.
fn empty_create_parents(address: SocketAddr, connections: usize) -> Result<(), Error> {
    let mut client = Client::connect(address, SESSION_TIMEOUT_MS)?;
    for connection in 0..connections {
        let parent = create_parent(connection);
        let (names, _) = client.children(&parent, false)?;
        for names in names.chunks(500) {
            let delete = |name: &String| WriteRequest::Delete {
                path: format!("{parent}/{name}"),
                version: VERSION_ANY,
            };
            client.multi(names.iter().map(delete).collect())?;
        }
        client.delete(&parent, VERSION_ANY)?;
    }
    client.close()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_with_an_error_or_of_another_length_is_refused() {
        let mut reply = vec![0; 20];
        assert!(check_reply(&reply, Some(20)).is_ok());
        assert!(check_reply(&reply, None).is_ok());
        assert!(check_reply(&reply, Some(19)).is_err());
        reply[15] = 1;
        assert!(check_reply(&reply, None).is_err());
        assert!(check_reply(&reply[..10], None).is_err());
    }

    #[test]
    fn templates_are_what_the_codec_reads() {
        let options = LoadOptions {
            workload: Workload::Mixed,
            connections: 2,
            in_flight: 1,
            data_bytes: 10,
            znodes: 3,
            ramp: Duration::ZERO,
            measured: Duration::ZERO,
        };
        let templates = Templates::new(&options);
        let all = templates
            .gets
            .iter()
            .chain(&templates.sets)
            .chain(&templates.creates);
        for template in all {
            let body = next_frame(&template.frame, 1_000).unwrap().unwrap();
            let (header, body) = oxkeeper_wire::RequestHeader::decode(&template.frame[body]).unwrap();
            let op = OpCode::from_code(header.op).unwrap();
            oxkeeper_wire::decode_request(op, body).unwrap();
        }
    }
}
