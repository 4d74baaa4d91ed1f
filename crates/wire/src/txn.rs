//! The entries of the transaction log, which are also what proposals carry (storage spec, sections 3 and 4):
//! a header, a body by type, and the digest of the tree behind it.

use oxkeeper_types::{CreateTxn, OpCode, SessionId, TTL_MS_MAX, Txn, TxnDigest, TxnHeader, ZnodeKind, Zxid};

use crate::{DecodeError, Decoder, Encoder, decode_acl_list, encode_acl_list};

/// How many bytes the digest behind a txn takes.
const DIGEST_LENGTH: usize = 12;

/// The version of a digest; also how a closeSession without a list of paths is known from one with a list.
const DIGEST_VERSION: i32 = 2;

/// The type that stands for `txn` in its header.
pub fn txn_op(txn: &Txn) -> OpCode {
    match txn {
        Txn::Create(create) => match create.kind {
            ZnodeKind::Container => OpCode::CreateContainer,
            ZnodeKind::Ttl(_) => OpCode::CreateTtl,
            ZnodeKind::Persistent | ZnodeKind::Ephemeral if create.with_stat => OpCode::Create2,
            ZnodeKind::Persistent | ZnodeKind::Ephemeral => OpCode::Create,
        },
        Txn::Delete { by_server: false, .. } => OpCode::Delete,
        Txn::Delete { by_server: true, .. } => OpCode::DeleteContainer,
        Txn::SetData { .. } => OpCode::SetData,
        Txn::Reconfig { .. } => OpCode::Reconfig,
        Txn::SetAcl { .. } => OpCode::SetAcl,
        Txn::Check { .. } => OpCode::Check,
        Txn::Multi(_) => OpCode::Multi,
        Txn::CreateSession { .. } => OpCode::CreateSession,
        Txn::CloseSession { .. } => OpCode::CloseSession,
        Txn::Error { .. } => OpCode::Error,
    }
}

/// Appends the bytes of a log entry, without checksum and length. A failed write never carries a digest; one
/// given for it is left out.
pub fn encode_txn_entry(out: &mut Vec<u8>, header: &TxnHeader, txn: &Txn, digest: Option<&TxnDigest>) {
    let mut encoder = Encoder::new(out);
    encoder.long(header.session.0);
    encoder.int(header.cxid);
    encoder.long(header.zxid.0);
    encoder.long(header.time);
    encoder.int(txn_op(txn).code());
    encode_body(&mut encoder, txn);
    if let Some(digest) = digest
        && !matches!(txn, Txn::Error { .. })
    {
        encoder.int(digest.version);
        encoder.long(digest.tree_digest.cast_signed());
    }
}

fn encode_body(encoder: &mut Encoder<'_>, txn: &Txn) {
    match txn {
        Txn::Create(create) => {
            encoder.string(&create.path);
            encoder.buffer(create.data.as_deref());
            encode_acl_list(encoder, &create.acl);
            match create.kind {
                ZnodeKind::Persistent => encoder.boolean(false),
                ZnodeKind::Ephemeral => encoder.boolean(true),
                ZnodeKind::Container | ZnodeKind::Ttl(_) => {}
            }
            encoder.int(create.parent_cversion);
            if let ZnodeKind::Ttl(ttl_ms) = create.kind {
                encoder.long(ttl_ms);
            }
        }
        Txn::Delete { path, by_server: _ } => encoder.string(path),
        Txn::SetData { path, data, version } | Txn::Reconfig { path, data, version } => {
            encoder.string(path);
            encoder.buffer(data.as_deref());
            encoder.int(*version);
        }
        Txn::SetAcl { path, acl, version } => {
            encoder.string(path);
            encode_acl_list(encoder, acl);
            encoder.int(*version);
        }
        Txn::Check { path, version } => {
            encoder.string(path);
            encoder.int(*version);
        }
        Txn::Multi(parts) => {
            encoder.length(parts.len());
            for part in parts {
                encoder.int(txn_op(part).code());
                encoder.nested(|encoder| encode_body(encoder, part));
            }
        }
        Txn::CreateSession { timeout_ms } => encoder.int(*timeout_ms),
        Txn::CloseSession {
            ephemerals: Some(paths),
        } => encoder.strings(paths),
        Txn::CloseSession { ephemerals: None } => {}
        Txn::Error { code } => encoder.int(*code),
    }
}

/// The header of a log entry and the type of its txn.
///
/// # Errors
/// When there are less than 32 bytes.
pub fn decode_txn_header(entry: &[u8]) -> Result<(TxnHeader, i32), DecodeError> {
    header(&mut Decoder::new(entry))
}

fn header(decoder: &mut Decoder<'_>) -> Result<(TxnHeader, i32), DecodeError> {
    let header = TxnHeader {
        session: SessionId(decoder.long()?),
        cxid: decoder.int()?,
        zxid: Zxid(decoder.long()?),
        time: decoder.long()?,
    };
    Ok((header, decoder.int()?))
}

/// What a log entry says.
///
/// Old forms are read too: a create without the counter of the parent (then -1), a closeSession without a
/// list of paths, any txn without a digest. A check that stands alone, which release 3.8.0 could log, is read
/// as [`Txn::Check`]; it changes nothing.
///
/// # Errors
/// When the entry is too short, or has a type or value that cannot be: Java cannot start from such a log
/// either.
pub fn decode_txn_entry(entry: &[u8]) -> Result<(TxnHeader, Txn, Option<TxnDigest>), DecodeError> {
    let decoder = &mut Decoder::new(entry);
    let (header, op) = header(decoder)?;
    let txn = match OpCode::from_code(op) {
        Some(OpCode::Multi) => Txn::Multi(
            decoder
                .vector(|decoder| {
                    let op = decoder.int()?;
                    let body = decoder.buffer()?;
                    part(
                        op,
                        body.ok_or(DecodeError::UnexpectedNull("the body of a part of a multi"))?,
                    )
                })?
                .ok_or(DecodeError::UnexpectedNull("the parts of a multi"))?,
        ),
        Some(op) => body(decoder, op)?,
        None => return Err(unknown_type(op)),
    };
    let digest = if decoder.remaining() < DIGEST_LENGTH {
        None
    } else {
        Some(TxnDigest {
            version: decoder.int()?,
            tree_digest: decoder.long()?.cast_unsigned(),
        })
    };
    Ok((header, txn, digest))
}

fn unknown_type(op: i32) -> DecodeError {
    DecodeError::BadValue {
        what: "the type of a txn",
        value: op.into(),
    }
}

/// A part of a multi. There are no multis, sessions or ACL changes in a multi.
fn part(op: i32, bytes: &[u8]) -> Result<Txn, DecodeError> {
    use OpCode::*;
    match OpCode::from_code(op) {
        Some(
            op @ (Create | Create2 | CreateTtl | CreateContainer | Delete | DeleteContainer | SetData | Check
            | Error),
        ) => body(&mut Decoder::new(bytes), op),
        _ => Err(unknown_type(op)),
    }
}

/// The body of any txn but a multi.
fn body(decoder: &mut Decoder<'_>, op: OpCode) -> Result<Txn, DecodeError> {
    Ok(match op {
        OpCode::Create | OpCode::Create2 | OpCode::CreateTtl | OpCode::CreateContainer => {
            create(decoder, op)?
        }
        OpCode::Delete | OpCode::DeleteContainer => Txn::Delete {
            path: path(decoder)?,
            by_server: op == OpCode::DeleteContainer,
        },
        OpCode::SetData => Txn::SetData {
            path: path(decoder)?,
            data: data(decoder)?,
            version: decoder.int()?,
        },
        OpCode::Reconfig => Txn::Reconfig {
            path: path(decoder)?,
            data: data(decoder)?,
            version: decoder.int()?,
        },
        OpCode::SetAcl => Txn::SetAcl {
            path: path(decoder)?,
            acl: decode_acl_list(decoder)?.unwrap_or_default(),
            version: decoder.int()?,
        },
        OpCode::Check => Txn::Check {
            path: path(decoder)?,
            version: decoder.int()?,
        },
        OpCode::CreateSession => Txn::CreateSession {
            timeout_ms: decoder.int()?,
        },
        OpCode::CloseSession => Txn::CloseSession {
            ephemerals: closed_ephemerals(decoder)?,
        },
        OpCode::Error => Txn::Error { code: decoder.int()? },
        _ => return Err(unknown_type(op.code())),
    })
}

fn path(decoder: &mut Decoder<'_>) -> Result<String, DecodeError> {
    Ok(decoder.required_string("the path of a txn")?.into_owned())
}

fn data(decoder: &mut Decoder<'_>) -> Result<Option<Box<[u8]>>, DecodeError> {
    Ok(decoder.buffer()?.map(Box::from))
}

fn create(decoder: &mut Decoder<'_>, op: OpCode) -> Result<Txn, DecodeError> {
    let path = path(decoder)?;
    let data = data(decoder)?;
    let acl = decode_acl_list(decoder)?.unwrap_or_default();
    let mut kind = match op {
        OpCode::CreateContainer => ZnodeKind::Container,
        // The time to live comes last.
        OpCode::CreateTtl => ZnodeKind::Ttl(0),
        _ if decoder.boolean()? => ZnodeKind::Ephemeral,
        _ => ZnodeKind::Persistent,
    };
    // Before release 3.4 type 1 ended here, and there was no digest.
    let parent_cversion = match decoder.int() {
        Err(DecodeError::Short { .. }) if op == OpCode::Create => -1,
        counter => counter?,
    };
    if op == OpCode::CreateTtl {
        let ttl_ms = decoder.long()?;
        if !(1..=TTL_MS_MAX).contains(&ttl_ms) {
            return Err(DecodeError::BadValue {
                what: "the time to live of a txn, in ms,",
                value: ttl_ms,
            });
        }
        kind = ZnodeKind::Ttl(ttl_ms);
    }
    Ok(Txn::Create(CreateTxn {
        path,
        data,
        acl,
        kind,
        parent_cversion,
        with_stat: op != OpCode::Create,
    }))
}

/// The list of paths of a closeSession; `None` when there is none, as before release 3.6 and with
/// `closeSessionTxn.enabled=false`.
fn closed_ephemerals(decoder: &mut Decoder<'_>) -> Result<Option<Vec<String>>, DecodeError> {
    // A digest and nothing else. It is not a list: a list of two paths takes more than 12 bytes.
    let is_digest = decoder.remaining() == DIGEST_LENGTH && decoder.clone().int()? == DIGEST_VERSION;
    if decoder.remaining() == 0 || is_digest {
        return Ok(None);
    }
    let mut list = decoder.clone();
    match list.vector(path) {
        Ok(paths) => {
            *decoder = list;
            Ok(paths)
        }
        // Java takes whatever else is too short to be a list for no list.
        Err(DecodeError::Short { .. }) => {
            decoder.take(decoder.remaining())?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: TxnHeader = TxnHeader {
        session: SessionId(0x0100_000c_526a_0000),
        cxid: 7,
        zxid: Zxid(0x1_0000_0002),
        time: 1_795_000_000_000,
    };
    const DIGEST: TxnDigest = TxnDigest {
        version: 2,
        tree_digest: 1_371_985_504,
    };

    fn create_in(kind: ZnodeKind, with_stat: bool) -> Txn {
        Txn::Create(CreateTxn {
            path: "/a".into(),
            data: None,
            acl: Vec::new(),
            kind,
            parent_cversion: 3,
            with_stat,
        })
    }

    fn encoded(txn: &Txn, digest: Option<&TxnDigest>) -> Vec<u8> {
        let mut out = Vec::new();
        encode_txn_entry(&mut out, &HEADER, txn, digest);
        out
    }

    #[test]
    fn create_of_a_release_before_3_4_is_read_with_an_unknown_counter() {
        let entry = encoded(&create_in(ZnodeKind::Ephemeral, false), None);
        let (_, txn, digest) = decode_txn_entry(&entry[..entry.len() - 4]).unwrap();
        let Txn::Create(create) = txn else {
            panic!("{txn:?}")
        };
        assert_eq!(
            (create.parent_cversion, create.kind, digest),
            (-1, ZnodeKind::Ephemeral, None)
        );

        let entry = encoded(&create_in(ZnodeKind::Ephemeral, true), None);
        assert!(
            decode_txn_entry(&entry[..entry.len() - 4]).is_err(),
            "create2 came later"
        );
    }

    #[test]
    fn close_session_is_read_with_and_without_list_and_digest() {
        for ephemerals in [
            None,
            Some(Vec::new()),
            Some(vec!["/a".to_owned(), "/b".to_owned()]),
        ] {
            for digest in [None, Some(DIGEST)] {
                let txn = Txn::CloseSession {
                    ephemerals: ephemerals.clone(),
                };
                let entry = encoded(&txn, digest.as_ref());
                assert_eq!(decode_txn_entry(&entry), Ok((HEADER, txn, digest)));
            }
        }
    }

    #[test]
    fn error_txn_carries_no_digest() {
        let txn = Txn::Error { code: -101 };
        let entry = encoded(&txn, Some(&DIGEST));
        assert_eq!(entry.len(), 36);
        assert_eq!(decode_txn_entry(&entry), Ok((HEADER, txn, None)));
    }

    #[test]
    fn check_outside_a_multi_is_read() {
        let txn = Txn::Check {
            path: "/a".into(),
            version: 1,
        };
        assert_eq!(decode_txn_entry(&encoded(&txn, None)), Ok((HEADER, txn, None)));
    }

    #[test]
    fn unknown_types_are_refused_at_the_top_and_inside_a_multi() {
        let mut entry = encoded(&Txn::CreateSession { timeout_ms: 1 }, None);
        entry[28..32].copy_from_slice(&42i32.to_be_bytes());
        assert!(decode_txn_entry(&entry).is_err());
        for part in [
            Txn::CreateSession { timeout_ms: 1 },
            Txn::Multi(Vec::new()),
            Txn::CloseSession { ephemerals: None },
            Txn::SetAcl {
                path: "/a".into(),
                acl: Vec::new(),
                version: 1,
            },
        ] {
            let entry = encoded(&Txn::Multi(vec![part]), None);
            assert!(decode_txn_entry(&entry).is_err());
        }
    }

    #[test]
    fn time_to_live_that_cannot_be_stored_is_refused() {
        for ttl_ms in [i64::MIN, -1, 0, TTL_MS_MAX + 1] {
            let entry = encoded(&create_in(ZnodeKind::Ttl(ttl_ms), true), None);
            assert!(decode_txn_entry(&entry).is_err(), "{ttl_ms}");
        }
    }
}
