//! A blocking client of one connection, for tests: it says what came, and hides nothing by retrying.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use oxkeeper_types::{
    Acl, CreateMode, CreateRequest, ErrorCode, OpCode, OpResult, Outcome, Permissions, ReadRequest,
    SessionId, Stat, WatchEventKind, WriteRequest, Zxid,
};
use oxkeeper_wire::{
    ConnectRequest, ConnectResponse, DecodeError, Decoder, FrameError, ReplyHeader, Request, XID_PING,
    XID_WATCH_EVENT, decode_data_and_stat, decode_error_code, decode_names, decode_outcome, decode_stat,
    decode_watch_event, encode_request, next_frame,
};

/// How long a client waits for bytes from the server, unless told otherwise.
pub const REPLY_TIMEOUT_DEFAULT: Duration = Duration::from_secs(20);

/// The longest reply that is taken, in bytes: a list of a great many children.
const REPLY_LENGTH_MAX: usize = 64 << 20;
const READ_CHUNK: usize = 64 << 10;

/// Why a call did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection failed, or nothing came in time ([`io::ErrorKind::WouldBlock`]).
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The session cannot be gone on with: it has ended, or has another password.
    #[error("the session has ended")]
    SessionEnded,
    /// The server answered with an error.
    #[error("refused: {0}")]
    Refused(ErrorCode),
    /// A part of a multi failed, so nothing of it happened.
    #[error("part {part} of the multi failed: {error}")]
    PartRefused {
        /// Which part, from 0.
        part: usize,
        /// Why.
        error: ErrorCode,
    },
    /// A frame cannot be.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Bytes cannot be decoded.
    #[error("undecodable: {0}")]
    Decode(#[from] DecodeError),
    /// A reply that no request asked for, or out of order.
    #[error("unexpected: {0}")]
    Unexpected(String),
}

/// What is needed to go on with a session on another connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Its password.
    pub password: [u8; 16],
    /// The negotiated timeout in ms.
    pub timeout_ms: i32,
    /// The newest zxid its client has seen.
    pub last_zxid: Zxid,
}

impl Session {
    /// No session yet; connecting with it begins one. The server may negotiate the timeout.
    pub fn to_begin(timeout_ms: i32) -> Session {
        Session {
            id: SessionId::NONE,
            password: [0; 16],
            timeout_ms,
            last_zxid: Zxid::ZERO,
        }
    }
}

/// A reply as it came.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The number of the request.
    pub xid: i32,
    /// What was asked for.
    pub op: OpCode,
    /// The zxid of the reply.
    pub zxid: Zxid,
    /// The error code, 0 for success.
    pub err: i32,
    /// What followed the header.
    pub body: Vec<u8>,
}

impl Reply {
    /// The reply, unless it is an error.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when it is.
    pub fn success(self) -> Result<Reply, ClientError> {
        match self.err {
            0 => Ok(self),
            err => Err(ClientError::Refused(decode_error_code(err)?)),
        }
    }

    /// The outcome that the reply to a write tells.
    ///
    /// # Errors
    /// When it cannot be decoded.
    pub fn outcome(&self) -> Result<Outcome, DecodeError> {
        decode_outcome(self.op, self.err, &self.body)
    }
}

/// A watch event as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    /// What happened.
    pub kind: WatchEventKind,
    /// To which znode.
    pub path: String,
    /// The zxid of the txn that fired it, or -1 in an event that makes up for what was missed.
    pub zxid: Zxid,
}

/// A connection with a session. Dropping it closes the connection and leaves the session to its timeout.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    session: Session,
    output: Vec<u8>,
    input: Vec<u8>,
    input_start: usize,
    last_xid: i32,
    unanswered: VecDeque<(i32, OpCode)>,
    events: VecDeque<WatchEvent>,
}

impl Client {
    /// Connects and begins a session; the server may negotiate the timeout.
    ///
    /// # Errors
    /// When the server cannot be reached or closes the connection.
    pub fn connect(address: SocketAddr, timeout_ms: i32) -> Result<Client, ClientError> {
        Client::renew(address, &Session::to_begin(timeout_ms))
    }

    /// Connects and goes on with a session.
    ///
    /// # Errors
    /// [`ClientError::SessionEnded`] when the server does not have it (any more); otherwise as
    /// [`Client::connect`].
    pub fn renew(address: SocketAddr, session: &Session) -> Result<Client, ClientError> {
        Client::renew_within(address, session, REPLY_TIMEOUT_DEFAULT)
    }

    /// As [`Client::renew`], with a limit for the connect and, as [`Client::set_reply_timeout`], for each wait
    /// from then on. A session with the id [`SessionId::NONE`] begins a new one, as [`Client::connect`].
    ///
    /// # Errors
    /// As [`Client::renew`].
    pub fn renew_within(
        address: SocketAddr,
        session: &Session,
        within: Duration,
    ) -> Result<Client, ClientError> {
        let stream = TcpStream::connect_timeout(&address, within)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(within))?;
        stream.set_write_timeout(Some(within))?;
        let mut client = Client {
            stream,
            session: session.clone(),
            output: Vec::new(),
            input: Vec::new(),
            input_start: 0,
            last_xid: 0,
            unanswered: VecDeque::new(),
            events: VecDeque::new(),
        };
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: session.last_zxid,
            timeout_ms: session.timeout_ms,
            session: session.id,
            password: session.password.to_vec(),
            read_only: Some(false),
        }
        .encode(&mut client.output);
        client.flush()?;
        let response = ConnectResponse::decode(&client.read_frame()?)?;
        if response.session == SessionId::NONE || response.timeout_ms <= 0 {
            return Err(ClientError::SessionEnded);
        }
        if session.id != SessionId::NONE
            && (response.session, response.password) != (session.id, session.password)
        {
            return Err(ClientError::Unexpected(format!(
                "asked for session {}, the answer is {}",
                session.id, response.session
            )));
        }
        client.session.id = response.session;
        client.session.password = response.password;
        client.session.timeout_ms = response.timeout_ms;
        Ok(client)
    }

    /// The session of this connection, with the newest zxid seen so far.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Waits at most so long for bytes from the server, and for it to take some, from now on.
    ///
    /// # Errors
    /// When `timeout` is zero.
    pub fn set_reply_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(timeout))?;
        self.stream.set_write_timeout(Some(timeout))
    }

    /// Puts a request into the output buffer, which [`Client::flush`] or [`Client::receive`] sends, and gives
    /// its xid.
    pub fn send(&mut self, request: &Request<'_>) -> i32 {
        self.last_xid = self.last_xid.checked_add(1).unwrap_or(1);
        let xid = match request {
            Request::Ping => XID_PING,
            _ => self.last_xid,
        };
        encode_request(&mut self.output, xid, request);
        self.unanswered.push_back((xid, request.op()));
        xid
    }

    /// Sends what is in the output buffer.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn flush(&mut self) -> io::Result<()> {
        let sent = self.stream.write_all(&self.output);
        self.output.clear();
        sent
    }

    /// How many requests have no reply yet.
    pub fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// The next reply; watch events that come before it are kept for [`Client::next_event`].
    ///
    /// # Errors
    /// When the connection fails, the reply is not to the oldest unanswered request, or nothing comes in time.
    ///
    /// # Panics
    /// When no request is unanswered.
    pub fn receive(&mut self) -> Result<Reply, ClientError> {
        assert!(!self.unanswered.is_empty(), "nothing was asked");
        self.flush()?;
        loop {
            if let Some(reply) = self.take_frame()? {
                return Ok(reply);
            }
        }
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// As [`Client::receive`]; an error in the reply is not one of this call.
    ///
    /// # Panics
    /// When earlier requests are unanswered.
    pub fn call(&mut self, request: &Request<'_>) -> Result<Reply, ClientError> {
        assert!(self.unanswered.is_empty(), "call is not for pipelining");
        self.send(request);
        self.receive()
    }

    /// The next watch event, if one comes before the reply timeout is over.
    ///
    /// # Errors
    /// When the connection fails or something else than an event comes.
    pub fn next_event(&mut self) -> Result<WatchEvent, ClientError> {
        self.flush()?;
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if let Some(reply) = self.take_frame()? {
                return Err(ClientError::Unexpected(format!(
                    "a reply while waiting for an event: {reply:?}"
                )));
            }
        }
    }

    /// A watch event that has come already.
    pub fn pop_event(&mut self) -> Option<WatchEvent> {
        self.events.pop_front()
    }

    /// Reads one frame: a reply, or an event, which is kept.
    fn take_frame(&mut self) -> Result<Option<Reply>, ClientError> {
        let frame = self.read_frame()?;
        let (header, body) = ReplyHeader::decode(&frame)?;
        if header.xid == XID_WATCH_EVENT {
            let (kind, path) = decode_watch_event(body)?;
            self.events.push_back(WatchEvent {
                kind,
                path,
                zxid: header.zxid,
            });
            return Ok(None);
        }
        let expected = self.unanswered.pop_front();
        let Some((xid, op)) = expected.filter(|(xid, _)| *xid == header.xid) else {
            return Err(ClientError::Unexpected(format!(
                "reply to xid {}, expected {expected:?}",
                header.xid
            )));
        };
        self.session.last_zxid = self.session.last_zxid.max(header.zxid);
        Ok(Some(Reply {
            xid,
            op,
            zxid: header.zxid,
            err: header.err,
            body: body.to_vec(),
        }))
    }

    fn read_frame(&mut self) -> Result<Vec<u8>, ClientError> {
        loop {
            let bytes = &self.input[self.input_start..];
            if let Some(body) = next_frame(bytes, REPLY_LENGTH_MAX)? {
                let frame = bytes[body.clone()].to_vec();
                self.input_start += body.end;
                return Ok(frame);
            }
            self.input.drain(..self.input_start);
            self.input_start = 0;
            let held = self.input.len();
            self.input.resize(held + READ_CHUNK, 0);
            let read = self.stream.read(&mut self.input[held..]);
            self.input.truncate(held + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Err(ClientError::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn read(&mut self, read: ReadRequest<'_>) -> Result<Reply, ClientError> {
        self.call(&Request::Read(read))?.success()
    }

    fn write(&mut self, write: WriteRequest) -> Result<(Zxid, Outcome), ClientError> {
        let reply = self.call(&Request::Write(write))?.success()?;
        Ok((reply.zxid, reply.outcome()?))
    }

    /// Creates a znode that everybody may do everything with. Gives its final path and its Stat.
    ///
    /// # Errors
    /// As all the calls below: when the server refuses, or the connection fails.
    pub fn create(
        &mut self,
        path: &str,
        data: &[u8],
        mode: CreateMode,
    ) -> Result<(String, Stat), ClientError> {
        match self.write(create_request(path, data, mode))? {
            (
                _,
                Outcome::Created {
                    path,
                    stat: Some(stat),
                },
            ) => Ok((path, stat)),
            other => Err(ClientError::Unexpected(format!("{other:?} for a create2"))),
        }
    }

    /// The data and Stat of a znode; null data reads as empty.
    ///
    /// # Errors
    /// See [`Client::create`].
    pub fn get(&mut self, path: &str) -> Result<(Vec<u8>, Stat), ClientError> {
        self.get_and_watch(path, false)
    }

    /// As [`Client::get`], and leaves a one-shot watch when asked to.
    ///
    /// # Errors
    /// See [`Client::create`].
    pub fn get_and_watch(&mut self, path: &str, watch: bool) -> Result<(Vec<u8>, Stat), ClientError> {
        let reply = self.read(ReadRequest::GetData {
            path: path.into(),
            watch,
        })?;
        let (data, stat) = decode_data_and_stat(&mut Decoder::new(&reply.body))?;
        Ok((data.unwrap_or_default().to_vec(), stat))
    }

    /// The Stat of a znode, `None` when it does not exist. Leaves a one-shot watch when asked to.
    ///
    /// # Errors
    /// See [`Client::create`].
    pub fn exists(&mut self, path: &str, watch: bool) -> Result<Option<Stat>, ClientError> {
        match self.read(ReadRequest::Exists {
            path: path.into(),
            watch,
        }) {
            Ok(reply) => Ok(Some(decode_stat(&mut Decoder::new(&reply.body))?)),
            Err(ClientError::Refused(ErrorCode::NoNode)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The names of the children and the Stat of a znode. Leaves a one-shot watch when asked to.
    ///
    /// # Errors
    /// See [`Client::create`].
    pub fn children(&mut self, path: &str, watch: bool) -> Result<(Vec<String>, Stat), ClientError> {
        let reply = self.read(ReadRequest::GetChildren {
            path: path.into(),
            watch,
            with_stat: true,
        })?;
        let mut decoder = Decoder::new(&reply.body);
        Ok((decode_names(&mut decoder)?, decode_stat(&mut decoder)?))
    }

    /// The paths of this session's ephemerals.
    ///
    /// # Errors
    /// See [`Client::create`].
    pub fn ephemerals(&mut self) -> Result<Vec<String>, ClientError> {
        let reply = self.read(ReadRequest::GetEphemerals { prefix: None })?;
        Ok(decode_names(&mut Decoder::new(&reply.body))?)
    }

    /// Replaces the data of a znode if its version is `version`, or whatever its version with -1.
    ///
    /// # Errors
    /// See [`Client::create`].
    pub fn set(&mut self, path: &str, data: &[u8], version: i32) -> Result<Stat, ClientError> {
        let write = WriteRequest::SetData {
            path: path.to_owned(),
            data: Some(data.into()),
            version,
        };
        match self.write(write)? {
            (_, Outcome::Changed(stat)) => Ok(stat),
            other => Err(ClientError::Unexpected(format!("{other:?} for a setData"))),
        }
    }

    /// Deletes a znode if its version is `version`, or whatever its version with -1. Gives the zxid.
    ///
    /// # Errors
    /// See [`Client::create`].
    pub fn delete(&mut self, path: &str, version: i32) -> Result<Zxid, ClientError> {
        Ok(self
            .write(WriteRequest::Delete {
                path: path.to_owned(),
                version,
            })?
            .0)
    }

    /// Does all of the writes or none. Gives the outcome of each.
    ///
    /// # Errors
    /// [`ClientError::PartRefused`] when a part fails; otherwise see [`Client::create`].
    pub fn multi(&mut self, parts: Vec<WriteRequest>) -> Result<Vec<Outcome>, ClientError> {
        let results = match self.write(WriteRequest::Multi(parts))?.1 {
            Outcome::Multi(results) => results,
            other => return Err(ClientError::Unexpected(format!("{other:?} for a multi"))),
        };
        results
            .into_iter()
            .enumerate()
            // The parts before the one that failed say 0.
            .filter(|(_, result)| !matches!(result, OpResult::Error(0)))
            .map(|(part, result)| match result {
                OpResult::Ok { outcome, .. } => Ok(outcome),
                OpResult::Error(code) => Err(ClientError::PartRefused {
                    part,
                    error: decode_error_code(code)?,
                }),
            })
            .collect()
    }

    /// Waits until the server has applied all that was committed when the leader heard of this, and gives the
    /// zxid of the reply.
    ///
    /// # Errors
    /// See [`Client::create`].
    pub fn sync(&mut self, path: &str) -> Result<Zxid, ClientError> {
        let sync = Request::Sync {
            path: Some(path.into()),
        };
        Ok(self.call(&sync)?.success()?.zxid)
    }

    /// Gives a sign of life.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn ping(&mut self) -> Result<(), ClientError> {
        self.call(&Request::Ping)?.success().map(drop)
    }

    /// Ends the session and gives the zxid of its end.
    ///
    /// # Errors
    /// When the connection fails: then the session may have ended or not.
    pub fn close(mut self) -> Result<Zxid, ClientError> {
        Ok(self.call(&Request::CloseSession)?.success()?.zxid)
    }
}

/// A create (of the kind that answers with a Stat) of a znode that everybody may do everything with.
pub(crate) fn create_request(path: &str, data: &[u8], mode: CreateMode) -> WriteRequest {
    WriteRequest::Create(CreateRequest {
        op: match mode {
            CreateMode::Container => OpCode::CreateContainer,
            _ => OpCode::Create2,
        },
        path: path.to_owned(),
        data: Some(data.into()),
        acl: vec![Acl::world(Permissions::ALL)],
        flags: mode as i32,
        ttl: -1,
    })
}
