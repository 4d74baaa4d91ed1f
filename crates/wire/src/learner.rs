//! The packets between a leader and its learners (quorum spec, section 4), and what is in their data. Packets stand
//! back to back, without a length before them.

use oxkeeper_types::{Id, ServerId, SessionId, Zxid};

use crate::election::incomplete_is_none;
use crate::{DecodeError, Decoder, Encoder};

/// The version of the learner protocol, since 3.4.
pub const LEARNER_PROTOCOL_VERSION: i32 = 0x10000;

/// What a packet is. Unknown kinds can be carried: a learner skips them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketKind(pub i32);

impl PacketKind {
    /// A request of a learner's client, to the leader.
    pub const REQUEST: PacketKind = PacketKind(1);
    /// A txn to log.
    pub const PROPOSAL: PacketKind = PacketKind(2);
    /// A txn, or with counter 0 a history, is logged.
    pub const ACK: PacketKind = PacketKind(3);
    /// A txn is committed.
    pub const COMMIT: PacketKind = PacketKind(4);
    /// A sign of life; the learner's answer tells the sessions it heard from.
    pub const PING: PacketKind = PacketKind(5);
    /// Whether a session is alive, and the answer.
    pub const REVALIDATE: PacketKind = PacketKind(6);
    /// The answer to a learner's oldest sync.
    pub const SYNC: PacketKind = PacketKind(7);
    /// A committed txn, for observers.
    pub const INFORM: PacketKind = PacketKind(8);
    /// The commit of a new configuration.
    pub const COMMIT_AND_ACTIVATE: PacketKind = PacketKind(9);
    /// The end of the history that an epoch begins with.
    pub const NEW_LEADER: PacketKind = PacketKind(10);
    /// The opening of a follower.
    pub const FOLLOWER_INFO: PacketKind = PacketKind(11);
    /// The learner may serve.
    pub const UP_TO_DATE: PacketKind = PacketKind(12);
    /// The learner gets what it lacks.
    pub const DIFF: PacketKind = PacketKind(13);
    /// The learner is to forget what follows the zxid.
    pub const TRUNC: PacketKind = PacketKind(14);
    /// A snapshot follows.
    pub const SNAP: PacketKind = PacketKind(15);
    /// The opening of an observer.
    pub const OBSERVER_INFO: PacketKind = PacketKind(16);
    /// The new epoch.
    pub const LEADER_INFO: PacketKind = PacketKind(17);
    /// The promise of the new epoch.
    pub const ACK_EPOCH: PacketKind = PacketKind(18);
    /// The commit of a new configuration, for observers.
    pub const INFORM_AND_ACTIVATE: PacketKind = PacketKind(19);
}

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumPacket<'a> {
    /// What it is.
    pub kind: PacketKind,
    /// What it is about; -1 where it has no meaning.
    pub zxid: Zxid,
    /// Null and empty are different: a learner's answer to a PING must not be null.
    pub data: Option<&'a [u8]>,
    /// Who the client of a REQUEST has shown to be.
    pub identities: Option<Vec<Id>>,
}

impl<'a> QuorumPacket<'a> {
    /// A packet without data.
    pub fn bare(kind: PacketKind, zxid: Zxid) -> QuorumPacket<'a> {
        QuorumPacket {
            kind,
            zxid,
            data: None,
            identities: None,
        }
    }

    /// A packet with data.
    pub fn with_data(kind: PacketKind, zxid: Zxid, data: &'a [u8]) -> QuorumPacket<'a> {
        QuorumPacket {
            kind,
            zxid,
            data: Some(data),
            identities: None,
        }
    }

    /// Appends the packet.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        let mut encoder = Encoder::new(bytes);
        encoder.int(self.kind.0);
        encoder.long(self.zxid.0);
        encode_packet_body(self.data, self.identities.as_deref(), bytes);
    }

    /// Reads the packet at the front of `bytes`; with it, how many bytes it took. `None`: more must come.
    ///
    /// `data_length_max` bounds the data (Java: `jute.maxbuffer` plus its extra size) and, together, the identities:
    /// no more than twice that and a little is ever waited for.
    ///
    /// # Errors
    /// It is none, or too long: the connection is to be closed.
    pub fn decode(
        bytes: &'a [u8],
        data_length_max: usize,
    ) -> Result<Option<(QuorumPacket<'a>, usize)>, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let packet = incomplete_is_none(Self::decode_whole(&mut decoder, data_length_max))?;
        let used = bytes.len() - decoder.remaining();
        if packet.is_none() && bytes.len() > 2 * data_length_max + 64 {
            return Err(DecodeError::BadValue {
                what: "the length of a packet",
                value: i64::MAX,
            });
        }
        Ok(packet.map(|packet| (packet, used)))
    }

    fn decode_whole(
        decoder: &mut Decoder<'a>,
        data_length_max: usize,
    ) -> Result<QuorumPacket<'a>, DecodeError> {
        let kind = PacketKind(decoder.int()?);
        let zxid = Zxid(decoder.long()?);
        let claimed = decoder.clone().int()?;
        if usize::try_from(claimed).is_ok_and(|claimed| claimed > data_length_max) {
            return Err(DecodeError::BadLength(claimed));
        }
        let (data, identities) = packet_body(decoder)?;
        Ok(QuorumPacket {
            kind,
            zxid,
            data,
            identities,
        })
    }
}

/// Appends what follows the zxid of a packet: data and identities.
pub fn encode_packet_body(data: Option<&[u8]>, identities: Option<&[Id]>, bytes: &mut Vec<u8>) {
    let mut encoder = Encoder::new(bytes);
    encoder.buffer(data);
    match identities {
        None => encoder.int(-1),
        Some(identities) => {
            encoder.length(identities.len());
            for identity in identities {
                encoder.string(&identity.scheme);
                encoder.string(&identity.id);
            }
        }
    }
}

/// Data and identities of a packet; either may be null.
pub type PacketBody<'a> = (Option<&'a [u8]>, Option<Vec<Id>>);

/// Reads what follows the zxid of a packet.
///
/// # Errors
/// The bytes end early, or a length is wrong.
pub fn decode_packet_body(bytes: &[u8]) -> Result<PacketBody<'_>, DecodeError> {
    packet_body(&mut Decoder::new(bytes))
}

fn packet_body<'a>(decoder: &mut Decoder<'a>) -> Result<PacketBody<'a>, DecodeError> {
    let data = decoder.buffer()?;
    let identities = decoder.vector(|decoder| {
        Ok(Id::new(
            &decoder.string()?.unwrap_or_default(),
            &decoder.string()?.unwrap_or_default(),
        ))
    })?;
    Ok((data, identities))
}

/// The data of FOLLOWERINFO and OBSERVERINFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnerInfo {
    /// Who it is.
    pub server: ServerId,
    /// [`LEARNER_PROTOCOL_VERSION`].
    pub protocol_version: i32,
    /// The version of its committed configuration.
    pub config_version: i64,
}

impl LearnerInfo {
    /// Appends the 20 bytes.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        let mut encoder = Encoder::new(bytes);
        encoder.long(self.server.0);
        encoder.int(self.protocol_version);
        encoder.long(self.config_version);
    }

    /// Reads the 20 bytes. Servers before 3.4 send less and are refused: their protocol is another.
    ///
    /// # Errors
    /// The bytes end early.
    pub fn decode(bytes: &[u8]) -> Result<LearnerInfo, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        Ok(LearnerInfo {
            server: ServerId(decoder.long()?),
            protocol_version: decoder.int()?,
            config_version: decoder.long()?,
        })
    }
}

/// The data of ACKEPOCH: the learner's current epoch; `None`, written as -1, when it had accepted the epoch before.
///
/// # Panics
/// When the epoch does not fit: ensembles do not live through 2^31 elections.
pub fn encode_ack_epoch(current_epoch: Option<u32>) -> [u8; 4] {
    current_epoch
        .map_or(-1, |epoch| i32::try_from(epoch).expect("epochs fit 31 bits"))
        .to_be_bytes()
}

/// Reads the data of ACKEPOCH.
///
/// # Errors
/// The bytes end early, or the epoch is negative and not -1.
pub fn decode_ack_epoch(bytes: &[u8]) -> Result<Option<u32>, DecodeError> {
    match Decoder::new(bytes).int()? {
        -1 => Ok(None),
        epoch => match u32::try_from(epoch) {
            Ok(epoch) => Ok(Some(epoch)),
            Err(_) => Err(DecodeError::BadValue {
                what: "an epoch",
                value: i64::from(epoch),
            }),
        },
    }
}

/// Appends the sessions that a learner heard from, with their timeouts in ms: the data of a PING's answer.
pub fn encode_touches(touches: &[(SessionId, i32)], bytes: &mut Vec<u8>) {
    let mut encoder = Encoder::new(bytes);
    for (session, timeout_ms) in touches {
        encoder.long(session.0);
        encoder.int(*timeout_ms);
    }
}

/// Reads the data of a PING's answer.
///
/// # Errors
/// The bytes end within a session.
pub fn decode_touches(bytes: &[u8]) -> Result<Vec<(SessionId, i32)>, DecodeError> {
    let mut decoder = Decoder::new(bytes);
    let mut touches = Vec::with_capacity(bytes.len() / 12);
    while decoder.remaining() > 0 {
        touches.push((SessionId(decoder.long()?), decoder.int()?));
    }
    Ok(touches)
}

/// The data of REVALIDATE to the leader: a session and its timeout in ms.
pub fn encode_revalidate(session: SessionId, timeout_ms: i32, bytes: &mut Vec<u8>) {
    encode_touches(&[(session, timeout_ms)], bytes);
}

/// Reads the data of REVALIDATE at the leader.
///
/// # Errors
/// The bytes end early.
pub fn decode_revalidate(bytes: &[u8]) -> Result<(SessionId, i32), DecodeError> {
    let mut decoder = Decoder::new(bytes);
    Ok((SessionId(decoder.long()?), decoder.int()?))
}

/// The data of the leader's answer to REVALIDATE: whether the session lives.
pub fn encode_revalidated(session: SessionId, alive: bool, bytes: &mut Vec<u8>) {
    let mut encoder = Encoder::new(bytes);
    encoder.long(session.0);
    encoder.boolean(alive);
}

/// Reads the answer to REVALIDATE at the learner.
///
/// # Errors
/// The bytes end early.
pub fn decode_revalidated(bytes: &[u8]) -> Result<(SessionId, bool), DecodeError> {
    let mut decoder = Decoder::new(bytes);
    Ok((SessionId(decoder.long()?), decoder.boolean()?))
}

/// The data of REQUEST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardedRequest<'a> {
    /// The session of the client.
    pub session: SessionId,
    /// The xid of the request; 0 for what the learner asks by itself.
    pub cxid: i32,
    /// The operation, as on the wire.
    pub op: i32,
    /// The client's bytes after the request header.
    pub body: &'a [u8],
}

impl<'a> ForwardedRequest<'a> {
    /// Appends the data.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        let mut encoder = Encoder::new(bytes);
        encoder.long(self.session.0);
        encoder.int(self.cxid);
        encoder.int(self.op);
        encoder.raw(self.body);
    }

    /// Reads the data.
    ///
    /// # Errors
    /// The bytes end early.
    pub fn decode(bytes: &'a [u8]) -> Result<ForwardedRequest<'a>, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        Ok(ForwardedRequest {
            session: SessionId(decoder.long()?),
            cxid: decoder.int()?,
            op: decoder.int()?,
            body: decoder.rest(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 1024;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// Bytes recorded from Java servers, read and written again.
    fn check(recorded: &str, expected: &QuorumPacket<'_>) {
        let recorded = hex(recorded);
        assert_eq!(
            QuorumPacket::decode(&recorded, MAX),
            Ok(Some((expected.clone(), recorded.len())))
        );
        let mut written = Vec::new();
        expected.encode(&mut written);
        assert_eq!(written, recorded);
    }

    #[test]
    fn packets_of_java_servers_are_read_and_written_byte_for_byte() {
        let mut info = Vec::new();
        let learner = LearnerInfo {
            server: ServerId(1),
            protocol_version: LEARNER_PROTOCOL_VERSION,
            config_version: 0,
        };
        learner.encode(&mut info);
        assert_eq!(LearnerInfo::decode(&info), Ok(learner));
        check(
            "0000000b 0000000000000000 00000014 0000000000000001 00010000 0000000000000000 ffffffff",
            &QuorumPacket::with_data(PacketKind::FOLLOWER_INFO, Zxid::ZERO, &info),
        );
        let version = LEARNER_PROTOCOL_VERSION.to_be_bytes();
        check(
            "00000011 0000000100000000 00000004 00010000 ffffffff",
            &QuorumPacket::with_data(PacketKind::LEADER_INFO, Zxid::new(1, 0), &version),
        );
        let ack_epoch = encode_ack_epoch(Some(0));
        check(
            "00000012 0000000000000000 00000004 00000000 ffffffff",
            &QuorumPacket::with_data(PacketKind::ACK_EPOCH, Zxid::ZERO, &ack_epoch),
        );
        check(
            "0000000d 0000000000000000 ffffffff ffffffff",
            &QuorumPacket::bare(PacketKind::DIFF, Zxid::ZERO),
        );
        check(
            "00000003 0000000100000000 ffffffff ffffffff",
            &QuorumPacket::bare(PacketKind::ACK, Zxid::new(1, 0)),
        );
        check(
            "0000000c ffffffffffffffff ffffffff ffffffff",
            &QuorumPacket::bare(PacketKind::UP_TO_DATE, Zxid(-1)),
        );
        let mut touches = Vec::new();
        encode_touches(&[(SessionId(0x0100_0010_abc7_0000), 6000)], &mut touches);
        check(
            "00000005 0000000200000006 0000000c 01000010abc70000 00001770 ffffffff",
            &QuorumPacket::with_data(PacketKind::PING, Zxid::new(2, 6), &touches),
        );
        check(
            "00000009 0000000200000005 00000008 0000000000000002 ffffffff",
            &QuorumPacket::with_data(
                PacketKind::COMMIT_AND_ACTIVATE,
                Zxid::new(2, 5),
                &2_i64.to_be_bytes(),
            ),
        );
    }

    #[test]
    fn data_of_java_servers_is_read_and_written_byte_for_byte() {
        let recorded = hex("0100000ffd460000 00000002 00000009 00000002 2f61");
        let request = ForwardedRequest::decode(&recorded).unwrap();
        let session = SessionId(0x0100_000f_fd46_0000);
        assert_eq!(
            (request.session, request.cxid, request.op, request.body),
            (session, 2, 9, &recorded[16..])
        );
        let mut written = Vec::new();
        request.encode(&mut written);
        assert_eq!(written, recorded);

        let session = SessionId(0x0400_0010_2051_0000);
        let mut written = Vec::new();
        encode_revalidate(session, 6000, &mut written);
        assert_eq!(written, hex("0400001020510000 00001770"));
        assert_eq!(decode_revalidate(&written), Ok((session, 6000)));
        written.clear();
        encode_revalidated(session, true, &mut written);
        assert_eq!(written, hex("0400001020510000 01"));
        assert_eq!(decode_revalidated(&written), Ok((session, true)));
    }

    #[test]
    fn an_epoch_accepted_before_is_acknowledged_with_minus_one() {
        assert_eq!(encode_ack_epoch(None), [0xff; 4]);
        assert_eq!(decode_ack_epoch(&[0xff; 4]), Ok(None));
        assert_eq!(decode_ack_epoch(&encode_ack_epoch(Some(7))), Ok(Some(7)));
        assert!(decode_ack_epoch(&(-2_i32).to_be_bytes()).is_err());
        assert!(decode_ack_epoch(&[0, 0]).is_err());
    }

    #[test]
    fn null_and_empty_data_are_different() {
        let mut null = Vec::new();
        QuorumPacket::bare(PacketKind::PING, Zxid::ZERO).encode(&mut null);
        let mut empty = Vec::new();
        QuorumPacket::with_data(PacketKind::PING, Zxid::ZERO, &[]).encode(&mut empty);
        assert_eq!(QuorumPacket::decode(&null, MAX).unwrap().unwrap().0.data, None);
        assert_eq!(
            QuorumPacket::decode(&empty, MAX).unwrap().unwrap().0.data,
            Some(&[][..])
        );
    }

    #[test]
    fn a_packet_that_has_not_come_whole_is_waited_for() {
        let packet = QuorumPacket {
            kind: PacketKind::REQUEST,
            zxid: Zxid(-1),
            data: Some(&[1, 2, 3]),
            identities: Some(vec![Id::new("ip", "127.0.0.1"), Id::new("digest", "a:b")]),
        };
        let mut bytes = Vec::new();
        packet.encode(&mut bytes);
        let length = bytes.len();
        for end in 0..length {
            assert_eq!(QuorumPacket::decode(&bytes[..end], MAX), Ok(None), "{end} bytes");
        }
        QuorumPacket::bare(PacketKind::SYNC, Zxid::ZERO).encode(&mut bytes);
        assert_eq!(QuorumPacket::decode(&bytes, MAX), Ok(Some((packet, length))));
    }

    #[test]
    fn a_packet_too_long_is_refused_before_it_has_come() {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes);
        encoder.int(2);
        encoder.long(1);
        encoder.int(1025);
        assert_eq!(
            QuorumPacket::decode(&bytes, MAX),
            Err(DecodeError::BadLength(1025))
        );
        let mut endless = Vec::new();
        QuorumPacket::bare(PacketKind::REQUEST, Zxid(-1)).encode(&mut endless);
        endless.truncate(endless.len() - 4);
        endless.extend(i32::MAX.to_be_bytes());
        endless.extend(vec![0; 2 * MAX + 64]);
        assert!(
            QuorumPacket::decode(&endless, MAX).is_err(),
            "a list of identities without end"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Ok(Some((packet, length))) = QuorumPacket::decode(&bytes, MAX) {
                prop_assert!(length <= bytes.len() && packet.data.is_none_or(|data| data.len() <= MAX));
            }
            let _ = (LearnerInfo::decode(&bytes), decode_ack_epoch(&bytes), decode_touches(&bytes));
            let _ = (ForwardedRequest::decode(&bytes), decode_revalidate(&bytes), decode_revalidated(&bytes));
        }

        #[test]
        fn what_is_written_is_read(
            kind: i32,
            zxid: i64,
            data in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..100)),
            identities in proptest::option::of(proptest::collection::vec(("[a-z]{0,8}", "[ -~]{0,20}"), 0..4)),
        ) {
            let identities = identities.map(|list| list.iter().map(|(scheme, id)| Id::new(scheme, id)).collect());
            let packet = QuorumPacket { kind: PacketKind(kind), zxid: Zxid(zxid), data: data.as_deref(), identities };
            let mut bytes = Vec::new();
            packet.encode(&mut bytes);
            let length = bytes.len();
            prop_assert_eq!(QuorumPacket::decode(&bytes, MAX), Ok(Some((packet, length))));
        }
    }
}
