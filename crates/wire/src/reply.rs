//! What clients are answered: the connect response, replies and watch events (client spec, sections 2.3, 3,
//! 4.1, 6 and 8.2). Encoders append whole frames to an output buffer and copy nothing in between.

use oxkeeper_types::{Acl, ErrorCode, OpCode, OpResult, Outcome, SessionId, Stat, WatchEventKind, Zxid};

use crate::client::{BAD_MULTI_READ, decode_acl_list, encode_acl_list, encode_multi_header, frame};
use crate::{DecodeError, Decoder, Encoder};

/// The xid of watch events.
pub const XID_WATCH_EVENT: i32 = -1;
/// The xid of the reply to a ping, whatever xid the ping had.
pub const XID_PING: i32 = -2;

/// The state every watch event tells: connected.
const STATE_SYNC_CONNECTED: i32 = 3;

/// How many bytes an encoded Stat takes.
pub const STAT_LENGTH: usize = 68;

/// The answer to a connect request (client spec, section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectResponse {
    /// The negotiated session timeout in ms, 0 when the session cannot be gone on with.
    pub timeout_ms: i32,
    /// The session, [`SessionId::NONE`] when it cannot be gone on with.
    pub session: SessionId,
    /// Its password, zeros when it cannot be gone on with.
    pub password: [u8; 16],
    /// Whether the server is read-only. `None` leaves the byte out, as it must be when the request had none.
    pub read_only: Option<bool>,
}

impl ConnectResponse {
    /// The answer for a session that has ended, never was, or has another password.
    pub fn invalid(read_only: Option<bool>) -> ConnectResponse {
        ConnectResponse {
            timeout_ms: 0,
            session: SessionId::NONE,
            password: [0; 16],
            read_only,
        }
    }

    /// Appends the whole frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, |encoder| {
            encoder.int(0);
            encoder.int(self.timeout_ms);
            encoder.long(self.session.0);
            encoder.buffer(Some(&self.password));
            if let Some(read_only) = self.read_only {
                encoder.boolean(read_only);
            }
        });
    }

    /// The response in the body of a frame.
    ///
    /// # Errors
    /// When the body is too short or the password has not 16 bytes.
    pub fn decode(body: &[u8]) -> Result<ConnectResponse, DecodeError> {
        let mut decoder = Decoder::new(body);
        let _protocol_version = decoder.int()?;
        Ok(ConnectResponse {
            timeout_ms: decoder.int()?,
            session: SessionId(decoder.long()?),
            password: {
                let password = decoder.buffer()?.unwrap_or_default();
                <[u8; 16]>::try_from(password).map_err(|_| DecodeError::BadValue {
                    what: "the length of a password",
                    value: i64::try_from(password.len()).unwrap_or(i64::MAX),
                })?
            },
            read_only: decoder.boolean().ok(),
        })
    }
}

/// What leads every frame to a client but the connect response. Without an error a body follows, for most
/// operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyHeader {
    /// The xid of the request, or one of the special ones.
    pub xid: i32,
    /// See the client spec, section 3.2.
    pub zxid: Zxid,
    /// 0 or the code of an error.
    pub err: i32,
}

impl ReplyHeader {
    /// The header in the body of a frame, and the bytes behind it.
    ///
    /// # Errors
    /// When the frame has less than 16 bytes.
    pub fn decode(frame: &[u8]) -> Result<(ReplyHeader, &[u8]), DecodeError> {
        let mut decoder = Decoder::new(frame);
        let header = ReplyHeader {
            xid: decoder.int()?,
            zxid: Zxid(decoder.long()?),
            err: decoder.int()?,
        };
        Ok((header, decoder.rest()))
    }
}

fn encode_header(encoder: &mut Encoder<'_>, xid: i32, zxid: Zxid, err: i32) {
    encoder.int(xid);
    encoder.long(zxid.0);
    encoder.int(err);
}

/// Appends a reply that is only a header: an error, or success with nothing to say.
pub fn reply_header(out: &mut Vec<u8>, xid: i32, zxid: Zxid, err: i32) {
    frame(out, |encoder| encode_header(encoder, xid, zxid, err));
}

/// Appends a reply of success with the body that `body` writes.
pub fn reply(out: &mut Vec<u8>, xid: i32, zxid: Zxid, body: impl FnOnce(&mut Encoder<'_>)) {
    frame(out, |encoder| {
        encode_header(encoder, xid, zxid, 0);
        body(encoder);
    });
}

/// Appends the reply to a request that [`crate::decode_request`] refused: the error -5 and nothing else,
/// except for a multiRead with writes or null paths in it, which Java answers with the end of an empty multi besides.
pub fn reply_undecodable(out: &mut Vec<u8>, xid: i32, zxid: Zxid, error: &DecodeError) {
    frame(out, |encoder| {
        encode_header(encoder, xid, zxid, ErrorCode::MarshallingError.code());
        if matches!(error, DecodeError::BadValue { what, .. } if *what == BAD_MULTI_READ) {
            encode_multi_end(encoder);
        }
    });
}

/// Appends the frame of a watch event. `zxid` is the one of the txn that fired it, or -1 when it makes up for
/// what was missed.
pub fn watch_event(out: &mut Vec<u8>, zxid: Zxid, kind: WatchEventKind, path: &str) {
    reply(out, XID_WATCH_EVENT, zxid, |encoder| {
        encoder.int(kind.code());
        encoder.int(STATE_SYNC_CONNECTED);
        encoder.string(path);
    });
}

/// What a watch event tells, from the bytes behind its header.
///
/// # Errors
/// When the bytes end early or the type of the event is one that servers do not send.
pub fn decode_watch_event(body: &[u8]) -> Result<(WatchEventKind, String), DecodeError> {
    let mut decoder = Decoder::new(body);
    let code = decoder.int()?;
    let kind = match code {
        1 => WatchEventKind::Created,
        2 => WatchEventKind::Deleted,
        3 => WatchEventKind::DataChanged,
        4 => WatchEventKind::ChildrenChanged,
        _ => {
            return Err(DecodeError::BadValue {
                what: "the type of a watch event",
                value: code.into(),
            });
        }
    };
    let _state = decoder.int()?;
    Ok((
        kind,
        decoder.required_string("the path of a watch event")?.into_owned(),
    ))
}

/// Appends the reply to a write. A created session is not answered here but with a [`ConnectResponse`].
pub fn encode_outcome(out: &mut Vec<u8>, xid: i32, zxid: Zxid, outcome: &Outcome) {
    match outcome {
        Outcome::Failed(error) => reply_header(out, xid, zxid, error.code()),
        _ => reply(out, xid, zxid, |encoder| encode_outcome_body(encoder, outcome)),
    }
}

fn encode_outcome_body(encoder: &mut Encoder<'_>, outcome: &Outcome) {
    match outcome {
        Outcome::Done => {}
        Outcome::Created { path, stat } => {
            encoder.string(path);
            if let Some(stat) = stat {
                encode_stat(encoder, stat);
            }
        }
        Outcome::Changed(stat) => encode_stat(encoder, stat),
        Outcome::Reconfigured { config, stat } => encode_data_and_stat(encoder, config.as_deref(), stat),
        Outcome::Multi(results) => {
            for result in results {
                match result {
                    OpResult::Ok { op, outcome } => {
                        assert!(
                            !matches!(outcome, Outcome::Multi(_) | Outcome::Failed(_)),
                            "a part of a multi that happened cannot be {outcome:?}"
                        );
                        encode_multi_header(encoder, op.code(), false, 0);
                        encode_outcome_body(encoder, outcome);
                    }
                    OpResult::Error(code) => encode_multi_error(encoder, *code),
                }
            }
            encode_multi_end(encoder);
        }
        Outcome::Failed(_) => unreachable!("a failure has no body"),
    }
}

/// What a write was answered, from the header's error and the bytes behind the header.
///
/// # Errors
/// When the bytes are not the answer to `op`, which must be a write, sync not included. An error code nobody
/// knows counts as such.
pub fn decode_outcome(op: OpCode, err: i32, body: &[u8]) -> Result<Outcome, DecodeError> {
    if err != 0 {
        return Ok(Outcome::Failed(decode_error_code(err)?));
    }
    let decoder = &mut Decoder::new(body);
    if op != OpCode::Multi {
        return decode_outcome_body(decoder, op);
    }
    let mut results = Vec::new();
    while let Some(op) = decode_multi_header(decoder)? {
        results.push(match op {
            OpCode::Error => OpResult::Error(decoder.int()?),
            _ => OpResult::Ok {
                op,
                outcome: decode_outcome_body(decoder, op)?,
            },
        });
    }
    Ok(Outcome::Multi(results))
}

fn decode_outcome_body(decoder: &mut Decoder<'_>, op: OpCode) -> Result<Outcome, DecodeError> {
    Ok(match op {
        OpCode::Create => Outcome::Created {
            path: decoder.required_string("a created path")?.into_owned(),
            stat: None,
        },
        OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => Outcome::Created {
            path: decoder.required_string("a created path")?.into_owned(),
            stat: Some(decode_stat(decoder)?),
        },
        OpCode::SetData | OpCode::SetAcl => Outcome::Changed(decode_stat(decoder)?),
        OpCode::Reconfig => {
            let (config, stat) = decode_data_and_stat(decoder)?;
            Outcome::Reconfigured {
                config: config.map(Box::from),
                stat,
            }
        }
        OpCode::Delete | OpCode::DeleteContainer | OpCode::Check | OpCode::CloseSession => Outcome::Done,
        _ => {
            return Err(DecodeError::BadValue {
                what: "the type of a write",
                value: op.code().into(),
            });
        }
    })
}

/// The error of a code that came by wire.
///
/// # Errors
/// When no error has the code.
pub fn decode_error_code(code: i32) -> Result<ErrorCode, DecodeError> {
    ErrorCode::from_code(code).ok_or(DecodeError::BadValue {
        what: "an error code",
        value: code.into(),
    })
}

/// The 68 bytes of a Stat.
pub fn encode_stat(encoder: &mut Encoder<'_>, stat: &Stat) {
    encoder.long(stat.czxid.0);
    encoder.long(stat.mzxid.0);
    encoder.long(stat.ctime);
    encoder.long(stat.mtime);
    encoder.int(stat.version);
    encoder.int(stat.cversion);
    encoder.int(stat.aversion);
    encoder.long(stat.ephemeral_owner.0);
    encoder.int(stat.data_length);
    encoder.int(stat.num_children);
    encoder.long(stat.pzxid.0);
}

/// A Stat.
///
/// # Errors
/// When there are less than 68 bytes.
pub fn decode_stat(decoder: &mut Decoder<'_>) -> Result<Stat, DecodeError> {
    Ok(Stat {
        czxid: Zxid(decoder.long()?),
        mzxid: Zxid(decoder.long()?),
        ctime: decoder.long()?,
        mtime: decoder.long()?,
        version: decoder.int()?,
        cversion: decoder.int()?,
        aversion: decoder.int()?,
        ephemeral_owner: SessionId(decoder.long()?),
        data_length: decoder.int()?,
        num_children: decoder.int()?,
        pzxid: Zxid(decoder.long()?),
    })
}

/// The body of a getData reply.
pub fn encode_data_and_stat(encoder: &mut Encoder<'_>, data: Option<&[u8]>, stat: &Stat) {
    encoder.buffer(data);
    encode_stat(encoder, stat);
}

/// The body of a getData reply.
///
/// # Errors
/// When the bytes end early or a length is impossible.
pub fn decode_data_and_stat<'a>(decoder: &mut Decoder<'a>) -> Result<(Option<&'a [u8]>, Stat), DecodeError> {
    Ok((decoder.buffer()?, decode_stat(decoder)?))
}

/// The body of a getACL reply.
pub fn encode_acl_and_stat(encoder: &mut Encoder<'_>, acl: &[Acl], stat: &Stat) {
    encode_acl_list(encoder, acl);
    encode_stat(encoder, stat);
}

/// The body of a getACL reply; a null list reads as an empty one.
///
/// # Errors
/// When the bytes end early or a length is impossible.
pub fn decode_acl_and_stat(decoder: &mut Decoder<'_>) -> Result<(Vec<Acl>, Stat), DecodeError> {
    Ok((
        decode_acl_list(decoder)?.unwrap_or_default(),
        decode_stat(decoder)?,
    ))
}

/// A vector of names or paths: the body of a getChildren or getEphemerals reply, and the first part of that
/// of getChildren2.
///
/// # Panics
/// When there are not `count` names.
pub fn encode_names<'n>(encoder: &mut Encoder<'_>, count: usize, names: impl Iterator<Item = &'n str>) {
    encoder.length(count);
    let mut written = 0;
    for name in names {
        encoder.string(name);
        written += 1;
    }
    assert_eq!(written, count, "as many names as announced");
}

/// A vector of names or paths; null reads as empty.
///
/// # Errors
/// When the bytes end early, a length is impossible or a name is null.
pub fn decode_names(decoder: &mut Decoder<'_>) -> Result<Vec<String>, DecodeError> {
    let names = decoder.vector(|decoder| Ok(decoder.required_string("a name")?.into_owned()))?;
    Ok(names.unwrap_or_default())
}

/// The body of a whoAmI reply: the scheme and user of each identity.
///
/// # Panics
/// When there are not `count` identities.
pub fn encode_client_infos<'n>(
    encoder: &mut Encoder<'_>,
    count: usize,
    infos: impl Iterator<Item = (&'n str, &'n str)>,
) {
    encoder.length(count);
    let mut written = 0;
    for (scheme, user) in infos {
        encoder.string(scheme);
        encoder.string(user);
        written += 1;
    }
    assert_eq!(written, count, "as many identities as announced");
}

/// The body of a whoAmI reply; null reads as empty.
///
/// # Errors
/// When the bytes end early, a length is impossible or a string is null.
pub fn decode_client_infos(decoder: &mut Decoder<'_>) -> Result<Vec<(String, String)>, DecodeError> {
    let infos = decoder.vector(|decoder| {
        Ok((
            decoder.required_string("a scheme")?.into_owned(),
            decoder.required_string("a user")?.into_owned(),
        ))
    })?;
    Ok(infos.unwrap_or_default())
}

/// A getData that succeeded in a multiRead.
pub fn encode_multi_data(encoder: &mut Encoder<'_>, data: Option<&[u8]>, stat: &Stat) {
    encode_multi_header(encoder, OpCode::GetData.code(), false, 0);
    encode_data_and_stat(encoder, data, stat);
}

/// A getChildren that succeeded in a multiRead.
///
/// # Panics
/// When there are not `count` names.
pub fn encode_multi_names<'n>(encoder: &mut Encoder<'_>, count: usize, names: impl Iterator<Item = &'n str>) {
    encode_multi_header(encoder, OpCode::GetChildren.code(), false, 0);
    encode_names(encoder, count, names);
}

/// A part of a multi or multiRead that failed; inside a failed multi also one that did not (code 0).
pub fn encode_multi_error(encoder: &mut Encoder<'_>, code: i32) {
    encode_multi_header(encoder, OpCode::Error.code(), false, code);
    encoder.int(code);
}

/// What ends the results of a multi or multiRead.
pub fn encode_multi_end(encoder: &mut Encoder<'_>) {
    encode_multi_header(encoder, -1, true, -1);
}

/// The type of the next result, `None` at the end.
fn decode_multi_header(decoder: &mut Decoder<'_>) -> Result<Option<OpCode>, DecodeError> {
    let op = decoder.int()?;
    let done = decoder.boolean()?;
    let _err = decoder.int()?;
    if done {
        return Ok(None);
    }
    OpCode::from_code(op).map(Some).ok_or(DecodeError::BadValue {
        what: "the type of a result of a multi",
        value: op.into(),
    })
}

/// A result of a multiRead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MultiReadResult {
    /// Of a getData.
    Data {
        /// The data.
        data: Option<Vec<u8>>,
        /// The Stat.
        stat: Stat,
    },
    /// Of a getChildren: the names.
    Children(Vec<String>),
    /// Of either: the code.
    Error(i32),
}

/// The body of a multiRead reply.
///
/// # Errors
/// When the bytes end early, a length is impossible or a result is of another kind.
pub fn decode_multi_read(body: &[u8]) -> Result<Vec<MultiReadResult>, DecodeError> {
    let decoder = &mut Decoder::new(body);
    let mut results = Vec::new();
    while let Some(op) = decode_multi_header(decoder)? {
        results.push(match op {
            OpCode::GetData => {
                let (data, stat) = decode_data_and_stat(decoder)?;
                MultiReadResult::Data {
                    data: data.map(<[u8]>::to_vec),
                    stat,
                }
            }
            OpCode::GetChildren => MultiReadResult::Children(decode_names(decoder)?),
            OpCode::Error => MultiReadResult::Error(decoder.int()?),
            _ => {
                return Err(DecodeError::BadValue {
                    what: "the type of a result of a multiRead",
                    value: op.code().into(),
                });
            }
        });
    }
    Ok(results)
}
