//! What clients send: frames, the connect request and the requests (client spec, sections 1, 2, 4 and 6).

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use oxkeeper_types::{
    Acl, AddWatchMode, CreateMode, CreateRequest, ErrorCode, Id, OpCode, Permissions, ReadRequest,
    ReconfigRequest, SessionId, SubRead, WatchPaths, WatchSelector, WriteRequest, Zxid,
};

use crate::{DecodeError, Decoder, Encoder};

/// The longest frame a client may send unless `jute.maxbuffer` says otherwise, in bytes without the four of
/// the length itself.
pub const REQUEST_LENGTH_MAX_DEFAULT: usize = 1_048_575;

const LENGTH_BYTES: usize = 4;

/// A frame cannot be: its length is negative or over the limit. The connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameError {
    /// The length that the frame claims.
    pub length: i32,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a frame cannot be {} bytes long", self.length)
    }
}

impl std::error::Error for FrameError {}

/// Where the body of the first frame in `bytes` is, or `None` while the frame is incomplete. The next frame
/// begins at the end of the range.
///
/// # Errors
/// As soon as the four bytes of the length are there and the length is negative or over `length_max`.
pub fn next_frame(bytes: &[u8], length_max: usize) -> Result<Option<Range<usize>>, FrameError> {
    let Some((length, _)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let claimed = i32::from_be_bytes(*length);
    let length = match usize::try_from(claimed) {
        Ok(length) if length <= length_max => length,
        _ => return Err(FrameError { length: claimed }),
    };
    let end = LENGTH_BYTES + length;
    Ok((bytes.len() >= end).then_some(LENGTH_BYTES..end))
}

/// Appends one frame to `out`: its length, and the body that `body` writes.
///
/// # Panics
/// When the body takes 2 GiB or more.
pub fn frame(out: &mut Vec<u8>, body: impl FnOnce(&mut Encoder<'_>)) {
    Encoder::new(out).nested(body);
}

/// The first frame of a connection (client spec, section 2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRequest {
    /// Ignored by servers; clients send 0.
    pub protocol_version: i32,
    /// The newest zxid the client knows of.
    pub last_zxid_seen: Zxid,
    /// The session timeout the client wants, in ms.
    pub timeout_ms: i32,
    /// The session to go on with, [`SessionId::NONE`] for a new one.
    pub session: SessionId,
    /// The password of that session; null reads as empty.
    pub password: Vec<u8>,
    /// Whether a read-only server will do. `None` when the byte is absent (old and some other clients): it
    /// means no, and then the response must not have the byte either.
    pub read_only: Option<bool>,
}

impl ConnectRequest {
    /// The request in the body of a frame. Bytes behind it are ignored.
    ///
    /// # Errors
    /// When the body is too short; the connection is to be closed without a reply.
    pub fn decode(body: &[u8]) -> Result<ConnectRequest, DecodeError> {
        let mut decoder = Decoder::new(body);
        Ok(ConnectRequest {
            protocol_version: decoder.int()?,
            last_zxid_seen: Zxid(decoder.long()?),
            timeout_ms: decoder.int()?,
            session: SessionId(decoder.long()?),
            password: decoder.buffer()?.unwrap_or_default().to_vec(),
            read_only: decoder.boolean().ok(),
        })
    }

    /// Appends the whole frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, |encoder| {
            encoder.int(self.protocol_version);
            encoder.long(self.last_zxid_seen.0);
            encoder.int(self.timeout_ms);
            encoder.long(self.session.0);
            encoder.buffer(Some(&self.password));
            if let Some(read_only) = self.read_only {
                encoder.boolean(read_only);
            }
        });
    }
}

/// What leads every frame after the connect request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// The client's number for the request, echoed in the reply.
    pub xid: i32,
    /// The operation; see [`OpCode::from_code`].
    pub op: i32,
}

impl RequestHeader {
    /// The header in the body of a frame, and the bytes of the request behind it.
    ///
    /// # Errors
    /// When the frame has less than 8 bytes; the connection is to be closed without a reply.
    pub fn decode(frame: &[u8]) -> Result<(RequestHeader, &[u8]), DecodeError> {
        let mut decoder = Decoder::new(frame);
        let header = RequestHeader {
            xid: decoder.int()?,
            op: decoder.int()?,
        };
        Ok((header, decoder.rest()))
    }
}

/// A request, by the way it goes through the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Answered from the tree as it is.
    Read(ReadRequest<'a>),
    /// Becomes a txn.
    Write(WriteRequest),
    /// Wait until all that was proposed before is applied here.
    Sync {
        /// Echoed as it is, null included; nobody looks at it.
        path: Option<Cow<'a, str>>,
    },
    /// A sign of life.
    Ping,
    /// End the session.
    CloseSession,
    /// Show an identity.
    Auth {
        /// The scheme.
        scheme: Option<Cow<'a, str>>,
        /// What the scheme wants to see.
        data: Option<&'a [u8]>,
    },
    /// A step of a SASL exchange.
    Sasl {
        /// The client's token.
        token: Option<&'a [u8]>,
    },
}

/// The request of operation `op` in `body`, which begins behind the [`RequestHeader`]. Bytes behind the
/// request are ignored.
///
/// Some requests can be read but never done, and Java 3.9 takes a zxid for them all the same: a null path or
/// id in a write, and a multi that cannot be decoded. They give [`WriteRequest::Invalid`].
///
/// # Errors
/// When the body is too short, has a null or a number it must not have, or when clients may not send `op` at
/// all (the internal operations, and check outside a multi). The reply is [`crate::reply_undecodable`]; after
/// a failed auth or sasl the connection is to be closed instead.
pub fn decode_request(op: OpCode, body: &[u8]) -> Result<Request<'_>, DecodeError> {
    let mut decoder = Decoder::new(body);
    let decoder = &mut decoder;
    let read = match op {
        OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
            return create(decoder, op).map(Request::Write);
        }
        OpCode::Delete => return delete(decoder).map(Request::Write),
        OpCode::SetData => return set_data(decoder).map(Request::Write),
        OpCode::SetAcl => return set_acl(decoder).map(Request::Write),
        OpCode::Multi => return multi(decoder).map(Request::Write),
        OpCode::Reconfig => {
            return Ok(Request::Write(WriteRequest::Reconfig(ReconfigRequest {
                joining: decoder.string()?.map(Cow::into_owned),
                leaving: decoder.string()?.map(Cow::into_owned),
                new_members: decoder.string()?.map(Cow::into_owned),
                version: decoder.long()?,
            })));
        }
        OpCode::Sync => {
            return Ok(Request::Sync {
                path: decoder.string()?,
            });
        }
        OpCode::Ping => return Ok(Request::Ping),
        OpCode::CloseSession => return Ok(Request::CloseSession),
        OpCode::Auth => {
            let _type = decoder.int()?;
            return Ok(Request::Auth {
                scheme: decoder.string()?,
                data: decoder.buffer()?,
            });
        }
        OpCode::Sasl => {
            return Ok(Request::Sasl {
                token: decoder.buffer()?,
            });
        }
        OpCode::Exists => ReadRequest::Exists {
            path: path(decoder)?,
            watch: decoder.boolean()?,
        },
        OpCode::GetData => ReadRequest::GetData {
            path: path(decoder)?,
            watch: decoder.boolean()?,
        },
        OpCode::GetAcl => ReadRequest::GetAcl { path: path(decoder)? },
        OpCode::GetChildren | OpCode::GetChildren2 => ReadRequest::GetChildren {
            path: path(decoder)?,
            watch: decoder.boolean()?,
            with_stat: op == OpCode::GetChildren2,
        },
        OpCode::GetAllChildrenNumber => ReadRequest::GetAllChildrenNumber { path: path(decoder)? },
        OpCode::GetEphemerals => ReadRequest::GetEphemerals {
            prefix: decoder.string()?,
        },
        OpCode::MultiRead => multi_read(decoder)?,
        OpCode::CheckWatches => ReadRequest::CheckWatches {
            path: watched_path(decoder)?,
            selector: watch_selector(decoder)?,
        },
        OpCode::RemoveWatches => ReadRequest::RemoveWatches {
            path: watched_path(decoder)?,
            selector: watch_selector(decoder)?,
        },
        OpCode::AddWatch => ReadRequest::AddWatch {
            path: watched_path(decoder)?,
            mode: {
                let mode = decoder.int()?;
                AddWatchMode::from_code(mode).ok_or(DecodeError::BadValue {
                    what: "the mode of an addWatch",
                    value: mode.into(),
                })?
            },
        },
        OpCode::SetWatches | OpCode::SetWatches2 => {
            let mut watches = WatchPaths {
                relative_zxid: Zxid(decoder.long()?),
                data: paths(decoder)?,
                exist: paths(decoder)?,
                child: paths(decoder)?,
                persistent: Vec::new(),
                persistent_recursive: Vec::new(),
            };
            if op == OpCode::SetWatches2 {
                watches.persistent = paths(decoder)?;
                watches.persistent_recursive = paths(decoder)?;
            }
            ReadRequest::SetWatches(Box::new(watches))
        }
        OpCode::WhoAmI => ReadRequest::WhoAmI,
        OpCode::Check | OpCode::DeleteContainer | OpCode::CreateSession | OpCode::Error => {
            return Err(DecodeError::BadValue {
                what: "the operation of a client",
                value: op.code().into(),
            });
        }
    };
    Ok(Request::Read(read))
}

fn path<'a>(decoder: &mut Decoder<'a>) -> Result<Cow<'a, str>, DecodeError> {
    decoder.required_string("a path")
}

/// The path of a watch. Java lets a null one pass, which no event can be about; the empty path is as good.
fn watched_path<'a>(decoder: &mut Decoder<'a>) -> Result<Cow<'a, str>, DecodeError> {
    Ok(decoder.string()?.unwrap_or_default())
}

fn paths(decoder: &mut Decoder<'_>) -> Result<Vec<String>, DecodeError> {
    decoder
        .vector(|decoder| Ok(path(decoder)?.into_owned()))?
        .ok_or(DecodeError::UnexpectedNull("a list of watches"))
}

fn watch_selector(decoder: &mut Decoder<'_>) -> Result<WatchSelector, DecodeError> {
    let code = decoder.int()?;
    WatchSelector::from_code(code).ok_or(DecodeError::BadValue {
        what: "the type of watches",
        value: code.into(),
    })
}

fn data(decoder: &mut Decoder<'_>) -> Result<Option<Box<[u8]>>, DecodeError> {
    Ok(decoder.buffer()?.map(Box::from))
}

/// An ACL list of a request.
enum AclList {
    /// A null list, which only some multi parts tell from an empty one.
    Null,
    /// One that can be checked. A null scheme is an empty one, and so is the id of a scheme that does not
    /// look at it.
    Checkable(Vec<Acl>),
    /// It has a null id where Java looks into the id.
    NullId,
}

impl AclList {
    fn decode(decoder: &mut Decoder<'_>) -> Result<AclList, DecodeError> {
        let mut null_id = false;
        let list = decoder.vector(|decoder| {
            let permissions = Permissions(decoder.int()?);
            let scheme = decoder.string()?.unwrap_or_default();
            let id = decoder.string()?;
            null_id |= id.is_none() && matches!(&*scheme, "world" | "digest" | "ip");
            Ok(Acl {
                permissions,
                id: Id::new(&scheme, &id.unwrap_or_default()),
            })
        })?;
        Ok(match list {
            _ if null_id => AclList::NullId,
            Some(list) => AclList::Checkable(list),
            None => AclList::Null,
        })
    }
}

const CANNOT_MARSHAL: WriteRequest = WriteRequest::Invalid(ErrorCode::MarshallingError);

fn create(decoder: &mut Decoder<'_>, op: OpCode) -> Result<WriteRequest, DecodeError> {
    let path = decoder.string()?;
    let data = data(decoder)?;
    let acl = AclList::decode(decoder)?;
    let flags = decoder.int()?;
    let ttl = if op == OpCode::CreateTtl {
        decoder.long()?
    } else {
        -1
    };
    let Some(path) = path else {
        return Ok(CANNOT_MARSHAL);
    };
    let acl = match acl {
        AclList::Checkable(acl) => acl,
        AclList::Null => Vec::new(),
        AclList::NullId => return Ok(CANNOT_MARSHAL),
    };
    Ok(WriteRequest::Create(CreateRequest {
        op,
        path: path.into_owned(),
        data,
        acl,
        flags,
        ttl,
    }))
}

fn delete(decoder: &mut Decoder<'_>) -> Result<WriteRequest, DecodeError> {
    let path = decoder.string()?;
    let version = decoder.int()?;
    Ok(match path {
        Some(path) => WriteRequest::Delete {
            path: path.into_owned(),
            version,
        },
        None => CANNOT_MARSHAL,
    })
}

fn set_data(decoder: &mut Decoder<'_>) -> Result<WriteRequest, DecodeError> {
    let path = decoder.string()?;
    let data = data(decoder)?;
    let version = decoder.int()?;
    Ok(match path {
        Some(path) => WriteRequest::SetData {
            path: path.into_owned(),
            data,
            version,
        },
        // Here and in setACL the path is validated before anybody looks into it.
        None => WriteRequest::Invalid(ErrorCode::BadArguments),
    })
}

fn set_acl(decoder: &mut Decoder<'_>) -> Result<WriteRequest, DecodeError> {
    let path = decoder.string()?;
    let acl = AclList::decode(decoder)?;
    let version = decoder.int()?;
    let Some(path) = path else {
        return Ok(WriteRequest::Invalid(ErrorCode::BadArguments));
    };
    let acl = match acl {
        AclList::Checkable(acl) => acl,
        AclList::Null => Vec::new(),
        AclList::NullId => return Ok(CANNOT_MARSHAL),
    };
    Ok(WriteRequest::SetAcl {
        path: path.into_owned(),
        acl,
        version,
    })
}

/// The header of a part of a multi, or its end.
struct MultiHeader {
    op: i32,
    done: bool,
}

impl MultiHeader {
    fn decode(decoder: &mut Decoder<'_>) -> Result<MultiHeader, DecodeError> {
        let header = MultiHeader {
            op: decoder.int()?,
            done: decoder.boolean()?,
        };
        let _err = decoder.int()?;
        Ok(header)
    }
}

fn multi(decoder: &mut Decoder<'_>) -> Result<WriteRequest, DecodeError> {
    match multi_parts(decoder) {
        Ok(Some(parts)) => Ok(WriteRequest::Multi(parts)),
        Ok(None) => Ok(CANNOT_MARSHAL),
        // The only failure for which Java takes no zxid.
        Err(error @ DecodeError::UnexpectedNull(_)) => Err(error),
        Err(_) => Ok(CANNOT_MARSHAL),
    }
}

/// The parts of a multi, or `None` when one of them can be read but has a null that keeps the whole from
/// being done.
fn multi_parts(decoder: &mut Decoder<'_>) -> Result<Option<Vec<WriteRequest>>, DecodeError> {
    let mut parts = Vec::new();
    let mut nulls = false;
    loop {
        let header = MultiHeader::decode(decoder)?;
        if header.done {
            return Ok((!nulls).then_some(parts));
        }
        let part = multi_write(decoder, header.op)?;
        if matches!(part, WriteRequest::Invalid(_)) {
            nulls = true;
        } else {
            parts.push(part);
        }
    }
}

fn multi_write(decoder: &mut Decoder<'_>, op: i32) -> Result<WriteRequest, DecodeError> {
    match OpCode::from_code(op) {
        Some(op @ (OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl)) => {
            multi_create(decoder, op)
        }
        Some(OpCode::Delete) => delete(decoder),
        Some(OpCode::SetData) => set_data(decoder),
        Some(OpCode::Check) => {
            let path = decoder.string()?;
            let version = decoder.int()?;
            Ok(match path {
                Some(path) => WriteRequest::Check {
                    path: path.into_owned(),
                    version,
                },
                None => CANNOT_MARSHAL,
            })
        }
        _ => Err(bad_part(op)),
    }
}

fn bad_part(op: i32) -> DecodeError {
    DecodeError::BadValue {
        what: "the type of a part of a multi",
        value: op.into(),
    }
}

/// A create in a multi. Its mode, more than its type, decides what it is (client spec, section 6.1).
fn multi_create(decoder: &mut Decoder<'_>, op: OpCode) -> Result<WriteRequest, DecodeError> {
    let path = decoder.string()?;
    let data = data(decoder)?;
    let acl = AclList::decode(decoder)?;
    let flags = decoder.int()?;
    let mode = CreateMode::from_flags(flags);
    let is_ttl = mode.is_some_and(CreateMode::has_ttl);
    let mut ttl = -1;
    if op == OpCode::CreateTtl {
        let given = decoder.long()?;
        if is_ttl {
            ttl = given;
        }
    } else {
        if mode.is_none() {
            return Err(DecodeError::BadValue {
                what: "the flags of a create in a multi",
                value: flags.into(),
            });
        }
        if matches!(acl, AclList::Null) {
            return Err(DecodeError::UnexpectedNull("the ACL of a create in a multi"));
        }
        if is_ttl {
            return Err(DecodeError::BadValue {
                what: "the time to live of a create in a multi",
                value: ttl,
            });
        }
    }
    let op = match mode {
        Some(CreateMode::Container) => OpCode::CreateContainer,
        _ if is_ttl => OpCode::CreateTtl,
        _ if op == OpCode::CreateTtl => OpCode::Create,
        _ => op,
    };
    let acl = match acl {
        AclList::Checkable(acl) => acl,
        AclList::Null => Vec::new(),
        AclList::NullId => return Ok(CANNOT_MARSHAL),
    };
    let Some(path) = path else {
        return Ok(CANNOT_MARSHAL);
    };
    Ok(WriteRequest::Create(CreateRequest {
        op,
        path: path.into_owned(),
        data,
        acl,
        flags,
        ttl,
    }))
}

/// What an error of [`decode_request`] says when a multiRead can be read but holds writes or null paths. Unlike any
/// other undecodable request it is answered with a body; see [`crate::reply_undecodable`].
pub(crate) const BAD_MULTI_READ: &str = "the number of writes and null paths in a multiRead";

fn multi_read<'a>(decoder: &mut Decoder<'a>) -> Result<ReadRequest<'a>, DecodeError> {
    let mut reads = Vec::new();
    let mut null_paths = 0;
    let mut writes = 0;
    loop {
        let header = MultiHeader::decode(decoder)?;
        if header.done {
            break;
        }
        match OpCode::from_code(header.op) {
            Some(op @ (OpCode::GetData | OpCode::GetChildren)) => {
                let path = decoder.string()?;
                // Never heeded: a multiRead leaves no watches.
                let _watch = decoder.boolean()?;
                match path {
                    Some(path) if op == OpCode::GetData => reads.push(SubRead::GetData(path)),
                    Some(path) => reads.push(SubRead::GetChildren(path)),
                    None => null_paths += 1,
                }
            }
            _ => {
                multi_write(decoder, header.op)?;
                writes += 1;
            }
        }
        if writes > 0 && (null_paths > 0 || !reads.is_empty()) {
            return Err(bad_part(header.op));
        }
    }
    if writes + null_paths > 0 {
        return Err(DecodeError::BadValue {
            what: BAD_MULTI_READ,
            value: writes + null_paths,
        });
    }
    Ok(ReadRequest::MultiRead(reads))
}

impl Request<'_> {
    /// The operation that says this. SetWatches says no persistent watches when it has none, as the Java
    /// client does.
    ///
    /// # Panics
    /// For [`WriteRequest::Invalid`], which no bytes of ours stand for.
    pub fn op(&self) -> OpCode {
        match self {
            Request::Sync { .. } => OpCode::Sync,
            Request::Ping => OpCode::Ping,
            Request::CloseSession => OpCode::CloseSession,
            Request::Auth { .. } => OpCode::Auth,
            Request::Sasl { .. } => OpCode::Sasl,
            Request::Write(write) => write_op(write),
            Request::Read(read) => match read {
                ReadRequest::Exists { .. } => OpCode::Exists,
                ReadRequest::GetData { .. } => OpCode::GetData,
                ReadRequest::GetAcl { .. } => OpCode::GetAcl,
                ReadRequest::GetChildren { with_stat: false, .. } => OpCode::GetChildren,
                ReadRequest::GetChildren { with_stat: true, .. } => OpCode::GetChildren2,
                ReadRequest::GetAllChildrenNumber { .. } => OpCode::GetAllChildrenNumber,
                ReadRequest::GetEphemerals { .. } => OpCode::GetEphemerals,
                ReadRequest::MultiRead(_) => OpCode::MultiRead,
                ReadRequest::CheckWatches { .. } => OpCode::CheckWatches,
                ReadRequest::RemoveWatches { .. } => OpCode::RemoveWatches,
                ReadRequest::AddWatch { .. } => OpCode::AddWatch,
                ReadRequest::SetWatches(watches)
                    if watches.persistent.is_empty() && watches.persistent_recursive.is_empty() =>
                {
                    OpCode::SetWatches
                }
                ReadRequest::SetWatches(_) => OpCode::SetWatches2,
                ReadRequest::WhoAmI => OpCode::WhoAmI,
            },
        }
    }
}

fn write_op(write: &WriteRequest) -> OpCode {
    match write {
        WriteRequest::Create(create) => create.op,
        WriteRequest::Delete { .. } => OpCode::Delete,
        WriteRequest::SetData { .. } => OpCode::SetData,
        WriteRequest::SetAcl { .. } => OpCode::SetAcl,
        WriteRequest::Check { .. } => OpCode::Check,
        WriteRequest::Multi(_) => OpCode::Multi,
        WriteRequest::DeleteContainer { .. } => OpCode::DeleteContainer,
        WriteRequest::Reconfig(_) => OpCode::Reconfig,
        WriteRequest::CreateSession { .. } => OpCode::CreateSession,
        WriteRequest::CloseSession => OpCode::CloseSession,
        WriteRequest::SetConfig { .. } => panic!("no request sets the configuration as it is"),
        WriteRequest::Invalid(error) => panic!("no request says {error}"),
    }
}

/// Appends the frame of a request: what a client does. For tests and load generators.
///
/// # Panics
/// For [`WriteRequest::Invalid`], which no bytes of ours stand for.
pub fn encode_request(out: &mut Vec<u8>, xid: i32, request: &Request<'_>) {
    frame(out, |encoder| {
        encoder.int(xid);
        encoder.int(request.op().code());
        match request {
            Request::Read(read) => encode_read(encoder, read),
            Request::Write(write) => encode_write(encoder, write),
            Request::Sync { path } => encoder.buffer(path.as_deref().map(str::as_bytes)),
            Request::Ping | Request::CloseSession => {}
            Request::Auth { scheme, data } => {
                encoder.int(0);
                encoder.buffer(scheme.as_deref().map(str::as_bytes));
                encoder.buffer(*data);
            }
            Request::Sasl { token } => encoder.buffer(*token),
        }
    });
}

fn encode_read(encoder: &mut Encoder<'_>, read: &ReadRequest<'_>) {
    match read {
        ReadRequest::Exists { path, watch }
        | ReadRequest::GetData { path, watch }
        | ReadRequest::GetChildren { path, watch, .. } => {
            encoder.string(path);
            encoder.boolean(*watch);
        }
        ReadRequest::GetAcl { path } | ReadRequest::GetAllChildrenNumber { path } => encoder.string(path),
        ReadRequest::GetEphemerals { prefix } => encoder.buffer(prefix.as_deref().map(str::as_bytes)),
        ReadRequest::MultiRead(reads) => {
            for read in reads {
                let (op, path) = match read {
                    SubRead::GetData(path) => (OpCode::GetData, path),
                    SubRead::GetChildren(path) => (OpCode::GetChildren, path),
                };
                encode_multi_header(encoder, op.code(), false, -1);
                encoder.string(path);
                encoder.boolean(false);
            }
            encode_multi_header(encoder, -1, true, -1);
        }
        ReadRequest::CheckWatches { path, selector } | ReadRequest::RemoveWatches { path, selector } => {
            encoder.string(path);
            encoder.int(*selector as i32);
        }
        ReadRequest::AddWatch { path, mode } => {
            encoder.string(path);
            encoder.int(*mode as i32);
        }
        ReadRequest::SetWatches(watches) => {
            encoder.long(watches.relative_zxid.0);
            encoder.strings(&watches.data);
            encoder.strings(&watches.exist);
            encoder.strings(&watches.child);
            if !watches.persistent.is_empty() || !watches.persistent_recursive.is_empty() {
                encoder.strings(&watches.persistent);
                encoder.strings(&watches.persistent_recursive);
            }
        }
        ReadRequest::WhoAmI => {}
    }
}

fn encode_write(encoder: &mut Encoder<'_>, write: &WriteRequest) {
    match write {
        WriteRequest::Create(create) => {
            encoder.string(&create.path);
            encoder.buffer(create.data.as_deref());
            encode_acl_list(encoder, &create.acl);
            encoder.int(create.flags);
            if create.op == OpCode::CreateTtl {
                encoder.long(create.ttl);
            }
        }
        WriteRequest::Delete { path, version } | WriteRequest::Check { path, version } => {
            encoder.string(path);
            encoder.int(*version);
        }
        WriteRequest::SetData { path, data, version } => {
            encoder.string(path);
            encoder.buffer(data.as_deref());
            encoder.int(*version);
        }
        WriteRequest::SetAcl { path, acl, version } => {
            encoder.string(path);
            encode_acl_list(encoder, acl);
            encoder.int(*version);
        }
        WriteRequest::Multi(parts) => {
            for part in parts {
                encode_multi_header(encoder, write_op(part).code(), false, -1);
                encode_write(encoder, part);
            }
            encode_multi_header(encoder, -1, true, -1);
        }
        WriteRequest::DeleteContainer { path } => encoder.string(path),
        WriteRequest::Reconfig(reconfig) => {
            for text in [&reconfig.joining, &reconfig.leaving, &reconfig.new_members] {
                encoder.buffer(text.as_deref().map(str::as_bytes));
            }
            encoder.long(reconfig.version);
        }
        WriteRequest::CreateSession { timeout_ms } => encoder.int(*timeout_ms),
        WriteRequest::CloseSession => {}
        WriteRequest::SetConfig { .. } => panic!("no request sets the configuration as it is"),
        WriteRequest::Invalid(error) => panic!("no request says {error}"),
    }
}

/// The header of a part of a multi, its answer or the end of either.
pub(crate) fn encode_multi_header(encoder: &mut Encoder<'_>, op: i32, done: bool, err: i32) {
    encoder.int(op);
    encoder.boolean(done);
    encoder.int(err);
}

/// An ACL list, as requests, replies, txns and snapshots have it.
pub fn encode_acl_list(encoder: &mut Encoder<'_>, acl: &[Acl]) {
    encoder.length(acl.len());
    for entry in acl {
        encoder.int(entry.permissions.0);
        encoder.string(&entry.id.scheme);
        encoder.string(&entry.id.id);
    }
}

/// An ACL list of a reply, a txn or a snapshot, or null. A null scheme or id reads as an empty one.
///
/// # Errors
/// When the bytes end early or a length is impossible.
pub fn decode_acl_list(decoder: &mut Decoder<'_>) -> Result<Option<Vec<Acl>>, DecodeError> {
    decoder.vector(decode_acl)
}

/// One element of a list of ACLs.
///
/// # Errors
/// When the bytes end early or a length is impossible.
pub fn decode_acl(decoder: &mut Decoder<'_>) -> Result<Acl, DecodeError> {
    Ok(Acl {
        permissions: Permissions(decoder.int()?),
        id: Id::new(
            &decoder.string()?.unwrap_or_default(),
            &decoder.string()?.unwrap_or_default(),
        ),
    })
}
