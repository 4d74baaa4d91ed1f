//! What servers of an ensemble send one another: the messages of consensus as packets and notifications, byte for
//! byte as Java's servers have them (quorum spec, sections 3.1 and 4).

use std::sync::Arc;

use oxkeeper_types::{ServerId, Zxid};
use oxkeeper_wire::{
    DecodeError, Decoder, ElectionNotification, Encoder, LEARNER_PROTOCOL_VERSION, LearnerInfo, PacketKind,
    QuorumPacket, ServerState, decode_ack_epoch, encode_ack_epoch, encode_packet_body,
};
use oxkeeper_zab::{Configuration, Entry, Message, NOTIFICATION_VERSION, Notification, PeerState, Vote};

use crate::membership::{configuration_text, read_configuration};

/// The bytes of a session in the answer to a PING: its id and its timeout.
const TOUCH_LENGTH: usize = 12;

/// At which end of a link a packet was sent; some packets mean another thing in the other direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The leader.
    Leader,
    /// A follower or an observer.
    Learner,
}

/// Appends the packet of `message`.
pub fn encode_message(message: &Message, out: &mut Vec<u8>) {
    let bare = |kind, zxid| QuorumPacket::bare(kind, zxid);
    match message {
        Message::LearnerInfo {
            server,
            observer,
            accepted_epoch,
            config_version,
        } => {
            let kind = if *observer {
                PacketKind::OBSERVER_INFO
            } else {
                PacketKind::FOLLOWER_INFO
            };
            let info = LearnerInfo {
                server: *server,
                protocol_version: LEARNER_PROTOCOL_VERSION,
                config_version: *config_version,
            };
            let mut data = Vec::with_capacity(20);
            info.encode(&mut data);
            QuorumPacket::with_data(kind, Zxid::new(*accepted_epoch, 0), &data).encode(out);
        }
        Message::LeaderInfo { epoch } => {
            let version = LEARNER_PROTOCOL_VERSION.to_be_bytes();
            QuorumPacket::with_data(PacketKind::LEADER_INFO, Zxid::new(*epoch, 0), &version).encode(out);
        }
        Message::AckEpoch {
            last_zxid,
            current_epoch,
        } => {
            let data = encode_ack_epoch(*current_epoch);
            QuorumPacket::with_data(PacketKind::ACK_EPOCH, *last_zxid, &data).encode(out);
        }
        Message::Diff(zxid) => bare(PacketKind::DIFF, *zxid).encode(out),
        Message::Trunc(zxid) => bare(PacketKind::TRUNC, *zxid).encode(out),
        Message::Snap(zxid) => bare(PacketKind::SNAP, *zxid).encode(out),
        Message::Proposal(Entry { zxid, txn }) => {
            QuorumPacket::with_data(PacketKind::PROPOSAL, *zxid, txn).encode(out);
        }
        Message::Commit(zxid) => bare(PacketKind::COMMIT, *zxid).encode(out),
        Message::Inform(Entry { zxid, txn }) => {
            QuorumPacket::with_data(PacketKind::INFORM, *zxid, txn).encode(out);
        }
        Message::CommitAndActivate { zxid, leader } => {
            let leader = leader.0.to_be_bytes();
            QuorumPacket::with_data(PacketKind::COMMIT_AND_ACTIVATE, *zxid, &leader).encode(out);
        }
        Message::InformAndActivate { entry, leader } => {
            let data = [&leader.0.to_be_bytes(), &entry.txn[..]].concat();
            QuorumPacket::with_data(PacketKind::INFORM_AND_ACTIVATE, entry.zxid, &data).encode(out);
        }
        Message::NewLeader { epoch, configuration } => {
            let text = configuration.as_deref().map(configuration_text);
            let packet = QuorumPacket {
                data: text.as_deref().map(str::as_bytes),
                ..bare(PacketKind::NEW_LEADER, Zxid::new(*epoch, 0))
            };
            packet.encode(out);
        }
        Message::UpToDate => bare(PacketKind::UP_TO_DATE, Zxid(-1)).encode(out),
        Message::Ack(zxid) => bare(PacketKind::ACK, *zxid).encode(out),
        Message::Ping(zxid) => bare(PacketKind::PING, *zxid).encode(out),
        // Java's leader drops a learner whose answer has no data; that of a learner without clients is empty.
        Message::Pong(zxid, touches) => {
            QuorumPacket::with_data(PacketKind::PING, *zxid, touches).encode(out);
        }
        Message::Opaque { kind, zxid, payload } => {
            let mut encoder = Encoder::new(out);
            encoder.int(*kind);
            encoder.long(zxid.0);
            encoder.raw(payload);
        }
    }
}

/// What a packet says; `None` when it is of a kind that nobody knows, which Java's servers pass over too.
///
/// # Errors
/// Its sender never sends this kind, or the data is not what the kind has: the link is to be closed.
pub fn decode_message(packet: &QuorumPacket<'_>, sender: Sender) -> Result<Option<Message>, DecodeError> {
    match sender {
        Sender::Leader => decode_from_leader(packet),
        Sender::Learner => decode_from_learner(packet),
    }
}

fn decode_from_leader(packet: &QuorumPacket<'_>) -> Result<Option<Message>, DecodeError> {
    let zxid = packet.zxid;
    let message = match packet.kind {
        PacketKind::LEADER_INFO => Message::LeaderInfo {
            epoch: epoch_of(zxid)?,
        },
        PacketKind::DIFF => Message::Diff(zxid),
        PacketKind::TRUNC => Message::Trunc(zxid),
        PacketKind::SNAP => Message::Snap(zxid),
        PacketKind::PROPOSAL => Message::Proposal(entry(zxid, packet.data)?),
        PacketKind::COMMIT => Message::Commit(zxid),
        PacketKind::COMMIT_AND_ACTIVATE => {
            let leader = ServerId(Decoder::new(packet.data.unwrap_or_default()).long()?);
            Message::CommitAndActivate { zxid, leader }
        }
        PacketKind::INFORM => Message::Inform(entry(zxid, packet.data)?),
        PacketKind::INFORM_AND_ACTIVATE => {
            let mut decoder = Decoder::new(packet.data.unwrap_or_default());
            let leader = ServerId(decoder.long()?);
            let entry = entry(zxid, Some(decoder.rest()))?;
            Message::InformAndActivate { entry, leader }
        }
        PacketKind::NEW_LEADER => Message::NewLeader {
            epoch: epoch_of(zxid)?,
            configuration: packet.data.map(configuration_of).transpose()?.flatten(),
        },
        PacketKind::UP_TO_DATE => Message::UpToDate,
        PacketKind::PING => Message::Ping(zxid),
        PacketKind::REVALIDATE | PacketKind::SYNC => opaque(packet),
        kind => return pass_over(kind),
    };
    Ok(Some(message))
}

fn decode_from_learner(packet: &QuorumPacket<'_>) -> Result<Option<Message>, DecodeError> {
    let zxid = packet.zxid;
    let message = match packet.kind {
        PacketKind::FOLLOWER_INFO | PacketKind::OBSERVER_INFO => {
            let info = LearnerInfo::decode(packet.data.unwrap_or_default())?;
            // What came before is another protocol (quorum spec, 4.5).
            if info.protocol_version < LEARNER_PROTOCOL_VERSION {
                return Err(DecodeError::BadValue {
                    what: "the protocol version of a learner",
                    value: i64::from(info.protocol_version),
                });
            }
            Message::LearnerInfo {
                server: info.server,
                observer: packet.kind == PacketKind::OBSERVER_INFO,
                accepted_epoch: accepted_epoch_of(zxid)?,
                config_version: info.config_version,
            }
        }
        PacketKind::ACK_EPOCH => Message::AckEpoch {
            last_zxid: zxid,
            current_epoch: decode_ack_epoch(packet.data.unwrap_or_default())?,
        },
        PacketKind::ACK => Message::Ack(zxid),
        PacketKind::PING => {
            let touches = packet
                .data
                .ok_or(DecodeError::UnexpectedNull("the answer to a PING"))?;
            if !touches.len().is_multiple_of(TOUCH_LENGTH) {
                return Err(DecodeError::Short {
                    needed: TOUCH_LENGTH,
                    left: touches.len() % TOUCH_LENGTH,
                });
            }
            Message::Pong(zxid, touches.into())
        }
        PacketKind::REQUEST | PacketKind::REVALIDATE => opaque(packet),
        kind => return pass_over(kind),
    };
    Ok(Some(message))
}

/// Unknown kinds may come one day; a known one at the wrong end is a fault.
fn pass_over(kind: PacketKind) -> Result<Option<Message>, DecodeError> {
    if (PacketKind::REQUEST..=PacketKind::INFORM_AND_ACTIVATE).contains(&kind) {
        return Err(DecodeError::BadValue {
            what: "the kind of a packet from this end of the link",
            value: i64::from(kind.0),
        });
    }
    Ok(None)
}

/// The epoch of LEADERINFO and NEWLEADER. Java's epochs are numbers of 32 bits with a sign.
fn epoch_of(zxid: Zxid) -> Result<u32, DecodeError> {
    if zxid.0 < 0 || zxid.counter() != 0 {
        return Err(DecodeError::BadValue {
            what: "the zxid of an epoch",
            value: zxid.0,
        });
    }
    Ok(zxid.epoch())
}

/// The configuration that NEWLEADER tells.
fn configuration_of(text: &[u8]) -> Result<Option<Arc<Configuration>>, DecodeError> {
    let read = read_configuration(text).map_err(|_| DecodeError::BadValue {
        what: "the configuration of a leader, of this length",
        value: i64::try_from(text.len()).unwrap_or(i64::MAX),
    })?;
    Ok(read.map(Arc::new))
}

/// The epoch that a learner has accepted. A Java server that was started without any data and was told not to
/// begin with an empty tree (`zookeeper.db.autocreate=false`) takes -1 for the epoch of its zxid, -1.
fn accepted_epoch_of(zxid: Zxid) -> Result<u32, DecodeError> {
    if zxid == Zxid(-1 << 32) {
        return Ok(0);
    }
    epoch_of(zxid)
}

/// The txn of a PROPOSAL or INFORM. Java believes the zxid in the txn, others that of the packet: both must be one.
fn entry(zxid: Zxid, data: Option<&[u8]>) -> Result<Entry, DecodeError> {
    let data = data.ok_or(DecodeError::UnexpectedNull("the txn of a proposal"))?;
    let mut decoder = Decoder::new(data);
    let (_session, _cxid, of_txn) = (decoder.long()?, decoder.int()?, decoder.long()?);
    if Zxid(of_txn) != zxid || zxid.0 <= 0 || zxid.counter() == 0 {
        return Err(DecodeError::BadValue {
            what: "the zxid of a proposal's txn",
            value: of_txn,
        });
    }
    let txn = data.into();
    Ok(Entry { zxid, txn })
}

fn opaque(packet: &QuorumPacket<'_>) -> Message {
    let mut payload = Vec::new();
    encode_packet_body(packet.data, packet.identities.as_deref(), &mut payload);
    Message::Opaque {
        kind: packet.kind.0,
        zxid: packet.zxid,
        payload: payload.into(),
    }
}

/// Appends the notification, with its length before it. `config_text`: this server's configuration as Java writes
/// it; one that cannot be read as such would make a Java server deaf for good.
pub fn encode_notification(notification: &Notification, config_text: &str, out: &mut Vec<u8>) {
    let notification = ElectionNotification {
        state: match notification.state {
            PeerState::Looking => ServerState::Looking,
            PeerState::Following => ServerState::Following,
            PeerState::Leading => ServerState::Leading,
            PeerState::Observing => ServerState::Observing,
        },
        leader: notification.vote.leader,
        zxid: notification.vote.zxid,
        election_epoch: notification.election_epoch,
        peer_epoch: notification.vote.peer_epoch,
        version: NOTIFICATION_VERSION,
        config: Some(config_text.to_owned()),
    };
    notification.encode(out);
}

/// Reads the notification in these bytes, without the length before it, and the text of the configuration that its
/// sender knows to be committed, if there is one.
///
/// # Errors
/// It is none: it is to be dropped, and the connection kept.
pub fn decode_notification(bytes: &[u8]) -> Result<(Notification, Option<String>), DecodeError> {
    let notification = ElectionNotification::decode(bytes)?;
    let read = Notification {
        state: match notification.state {
            ServerState::Looking => PeerState::Looking,
            ServerState::Following => PeerState::Following,
            ServerState::Leading => PeerState::Leading,
            ServerState::Observing => PeerState::Observing,
        },
        vote: Vote {
            leader: notification.leader,
            zxid: notification.zxid,
            peer_epoch: notification.peer_epoch,
        },
        election_epoch: notification.election_epoch,
        version: notification.version,
    };
    Ok((read, notification.config))
}

#[cfg(test)]
mod tests {
    use oxkeeper_types::Id;
    use oxkeeper_wire::{ForwardedRequest, decode_packet_body, notification_length};

    use super::*;

    const MAX: usize = 1 << 20;
    const CONFIG: &str = "server.1=127.0.0.1:2888:3888:participant;0.0.0.0:2181\nversion=100000000";

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn encoded(message: &Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_message(message, &mut bytes);
        bytes
    }

    fn new_leader(epoch: u32) -> Message {
        let configuration = read_configuration(CONFIG.as_bytes()).unwrap().map(Arc::new);
        Message::NewLeader { epoch, configuration }
    }

    fn decoded(bytes: &[u8], sender: Sender) -> Result<Option<Message>, DecodeError> {
        let (packet, length) = QuorumPacket::decode(bytes, MAX).unwrap().expect("a whole packet");
        assert_eq!(length, bytes.len());
        decode_message(&packet, sender)
    }

    /// A txn whose header names its zxid, and an error txn for the rest.
    fn txn(zxid: Zxid) -> Vec<u8> {
        let mut txn = Vec::new();
        let mut encoder = Encoder::new(&mut txn);
        encoder.long(0x0100_000f_fd46_0000);
        encoder.int(3);
        encoder.long(zxid.0);
        encoder.long(1_700_000_000_000);
        encoder.int(-1);
        encoder.int(-101);
        txn
    }

    fn entry_of(epoch: u32, counter: u32) -> Entry {
        let zxid = Zxid::new(epoch, counter);
        let txn = txn(zxid).into();
        Entry { zxid, txn }
    }

    /// Bytes recorded from Java servers (quorum spec, appendix A).
    #[test]
    fn messages_are_the_bytes_that_java_servers_send() {
        let samples = [
            (
                "0000000b 0000000000000000 00000014 0000000000000001 00010000 0000000000000000 ffffffff",
                Sender::Learner,
                Message::LearnerInfo {
                    server: ServerId(1),
                    observer: false,
                    accepted_epoch: 0,
                    config_version: 0,
                },
            ),
            (
                "00000011 0000000100000000 00000004 00010000 ffffffff",
                Sender::Leader,
                Message::LeaderInfo { epoch: 1 },
            ),
            (
                "00000012 0000000000000000 00000004 00000000 ffffffff",
                Sender::Learner,
                Message::AckEpoch {
                    last_zxid: Zxid::ZERO,
                    current_epoch: Some(0),
                },
            ),
            (
                "00000012 0000000200000007 00000004 ffffffff ffffffff",
                Sender::Learner,
                Message::AckEpoch {
                    last_zxid: Zxid::new(2, 7),
                    current_epoch: None,
                },
            ),
            (
                "0000000d 0000000000000000 ffffffff ffffffff",
                Sender::Leader,
                Message::Diff(Zxid::ZERO),
            ),
            (
                "00000003 0000000100000000 ffffffff ffffffff",
                Sender::Learner,
                Message::Ack(Zxid::new(1, 0)),
            ),
            (
                "0000000c ffffffffffffffff ffffffff ffffffff",
                Sender::Leader,
                Message::UpToDate,
            ),
            (
                "00000005 0000000200000006 ffffffff ffffffff",
                Sender::Leader,
                Message::Ping(Zxid::new(2, 6)),
            ),
            (
                "00000005 0000000200000006 0000000c 01000010abc70000 00001770 ffffffff",
                Sender::Learner,
                Message::Pong(Zxid::new(2, 6), hex("01000010abc70000 00001770").into()),
            ),
            (
                "00000005 0000000200000006 00000000 ffffffff",
                Sender::Learner,
                Message::Pong(Zxid::new(2, 6), [].into()),
            ),
            (
                "00000006 ffffffffffffffff 0000000c 0400001020510000 00001770 ffffffff",
                Sender::Learner,
                Message::Opaque {
                    kind: 6,
                    zxid: Zxid(-1),
                    payload: hex("0000000c 0400001020510000 00001770 ffffffff").into(),
                },
            ),
            (
                "00000006 ffffffffffffffff 00000009 0400001020510000 01 ffffffff",
                Sender::Leader,
                Message::Opaque {
                    kind: 6,
                    zxid: Zxid(-1),
                    payload: hex("00000009 0400001020510000 01 ffffffff").into(),
                },
            ),
            (
                "00000007 0000000000000000 ffffffff ffffffff",
                Sender::Leader,
                Message::Opaque {
                    kind: 7,
                    zxid: Zxid::ZERO,
                    payload: hex("ffffffff ffffffff").into(),
                },
            ),
        ];
        for (recorded, sender, message) in samples {
            assert_eq!(decoded(&hex(recorded), sender), Ok(Some(message.clone())));
            assert_eq!(encoded(&message), hex(recorded), "{message:?}");
        }
    }

    #[test]
    fn a_proposal_of_a_java_leader_keeps_its_bytes() {
        let data = hex(
            "0100000ffd460000 00000000 0000000100000001 0000018bcfe56800 fffffff6 00001770 00000002 0000000000000539",
        );
        let mut bytes = hex("00000002 0000000100000001 00000030");
        bytes.extend(&data);
        bytes.extend(hex("ffffffff"));
        let message = Message::Proposal(Entry {
            zxid: Zxid::new(1, 1),
            txn: data.into(),
        });
        assert_eq!(decoded(&bytes, Sender::Leader), Ok(Some(message.clone())));
        assert_eq!(encoded(&message), bytes);
    }

    #[test]
    fn every_message_is_read_as_it_was_written() {
        let z = Zxid::new;
        let info = |observer| Message::LearnerInfo {
            server: ServerId(3),
            observer,
            accepted_epoch: 7,
            config_version: 1 << 32,
        };
        let from_learner = [
            info(false),
            info(true),
            Message::AckEpoch {
                last_zxid: z(6, 9),
                current_epoch: Some(6),
            },
            Message::Ack(z(7, 1)),
            Message::Pong(z(7, 0), [0; 24].into()),
        ];
        let from_leader = [
            Message::LeaderInfo { epoch: 8 },
            Message::Diff(z(7, 3)),
            Message::Trunc(z(7, 2)),
            Message::Snap(z(7, 1)),
            Message::Proposal(entry_of(7, 4)),
            Message::Commit(z(7, 4)),
            Message::Inform(entry_of(7, 5)),
            new_leader(8),
            Message::NewLeader {
                epoch: 9,
                configuration: None,
            },
            Message::CommitAndActivate {
                zxid: z(7, 6),
                leader: ServerId(3),
            },
            Message::InformAndActivate {
                entry: entry_of(7, 7),
                leader: ServerId(-3),
            },
            Message::UpToDate,
            Message::Ping(z(8, 0)),
        ];
        for message in &from_learner {
            assert_eq!(
                decoded(&encoded(message), Sender::Learner),
                Ok(Some(message.clone()))
            );
        }
        for message in &from_leader {
            assert_eq!(
                decoded(&encoded(message), Sender::Leader),
                Ok(Some(message.clone()))
            );
        }
    }

    #[test]
    fn newleader_carries_the_configuration_and_is_read_without_it() {
        let bytes = encoded(&new_leader(1));
        let (packet, _) = QuorumPacket::decode(&bytes, MAX).unwrap().unwrap();
        assert_eq!(
            (packet.zxid, packet.data),
            (Zxid::new(1, 0), Some(CONFIG.as_bytes()))
        );
        let without = QuorumPacket::bare(PacketKind::NEW_LEADER, Zxid::new(1, 0));
        assert_eq!(
            decode_message(&without, Sender::Leader),
            Ok(Some(Message::NewLeader {
                epoch: 1,
                configuration: None
            }))
        );
        let garbled = QuorumPacket::with_data(PacketKind::NEW_LEADER, Zxid::new(1, 0), b"server.1=nowhere");
        assert!(decode_message(&garbled, Sender::Leader).is_err());
    }

    #[test]
    fn what_activates_a_configuration_tells_who_leads() {
        let recorded = hex("00000009 0000000200000005 00000008 0000000000000002 ffffffff");
        assert_eq!(
            decoded(&recorded, Sender::Leader),
            Ok(Some(Message::CommitAndActivate {
                zxid: Zxid::new(2, 5),
                leader: ServerId(2)
            }))
        );
        let mut data = 2_i64.to_be_bytes().to_vec();
        data.extend(txn(Zxid::new(2, 5)));
        let packet = QuorumPacket::with_data(PacketKind::INFORM_AND_ACTIVATE, Zxid::new(2, 5), &data);
        assert_eq!(
            decode_message(&packet, Sender::Leader),
            Ok(Some(Message::InformAndActivate {
                entry: entry_of(2, 5),
                leader: ServerId(2)
            }))
        );
    }

    #[test]
    fn a_request_is_passed_on_with_the_identities_of_its_client() {
        let mut data = Vec::new();
        let request = ForwardedRequest {
            session: oxkeeper_types::SessionId(7),
            cxid: 2,
            op: 9,
            body: b"\0\0\0\x02/a",
        };
        request.encode(&mut data);
        let packet = QuorumPacket {
            identities: Some(vec![Id::new("ip", "127.0.0.1")]),
            ..QuorumPacket::with_data(PacketKind::REQUEST, Zxid(-1), &data)
        };
        let mut bytes = Vec::new();
        packet.encode(&mut bytes);
        let message = decoded(&bytes, Sender::Learner).unwrap().unwrap();
        assert_eq!(encoded(&message), bytes);
        let Message::Opaque { kind, zxid, payload } = &message else {
            panic!("{message:?}");
        };
        assert_eq!((*kind, *zxid), (1, Zxid(-1)));
        assert_eq!(
            decode_packet_body(payload),
            Ok((Some(&data[..]), packet.identities))
        );
    }

    #[test]
    fn unknown_kinds_are_passed_over_and_known_ones_from_the_wrong_end_refused() {
        for kind in [i32::MIN, -1, 0, 20, 99, i32::MAX] {
            let packet = QuorumPacket::bare(PacketKind(kind), Zxid::ZERO);
            assert_eq!(decode_message(&packet, Sender::Leader), Ok(None));
            assert_eq!(decode_message(&packet, Sender::Learner), Ok(None));
        }
        for kind in [1, 3, 11, 16, 18] {
            let packet = QuorumPacket::bare(PacketKind(kind), Zxid::ZERO);
            assert!(decode_message(&packet, Sender::Leader).is_err(), "{kind}");
        }
        for kind in [2, 4, 7, 8, 9, 10, 12, 13, 14, 15, 17, 19] {
            let packet = QuorumPacket::bare(PacketKind(kind), Zxid::new(1, 0));
            assert!(decode_message(&packet, Sender::Learner).is_err(), "{kind}");
        }
    }

    #[test]
    fn data_that_a_kind_cannot_have_is_refused() {
        let z = Zxid::new;
        let (good, other) = (txn(z(2, 5)), txn(z(2, 6)));
        let from_leader = [
            (PacketKind::PROPOSAL, z(2, 5), None),
            (PacketKind::PROPOSAL, z(2, 5), Some(&good[..19])),
            (PacketKind::PROPOSAL, z(2, 5), Some(&other[..])),
            (PacketKind::INFORM, z(2, 5), Some(&other[..])),
            (PacketKind::INFORM_AND_ACTIVATE, z(2, 5), Some(&good[..])),
            (PacketKind::INFORM_AND_ACTIVATE, z(2, 5), None),
            (PacketKind::LEADER_INFO, z(2, 1), None),
            (PacketKind::LEADER_INFO, Zxid(-1 << 32), None),
            (PacketKind::NEW_LEADER, Zxid(-1), None),
        ];
        for (kind, zxid, data) in from_leader {
            let packet = QuorumPacket {
                data,
                ..QuorumPacket::bare(kind, zxid)
            };
            let result = decode_message(&packet, Sender::Leader);
            assert!(result.is_err(), "{packet:?} is {result:?}");
        }
        let mut info = Vec::new();
        LearnerInfo {
            server: ServerId(1),
            protocol_version: LEARNER_PROTOCOL_VERSION - 1,
            config_version: 0,
        }
        .encode(&mut info);
        let from_learner = [
            (PacketKind::FOLLOWER_INFO, Zxid::ZERO, None),
            (PacketKind::FOLLOWER_INFO, Zxid::ZERO, Some(&good[..12])),
            (PacketKind::FOLLOWER_INFO, Zxid::ZERO, Some(&info[..])),
            (PacketKind::FOLLOWER_INFO, z(2, 1), Some(&good[..])),
            (PacketKind::ACK_EPOCH, z(2, 1), None),
            (PacketKind::ACK_EPOCH, z(2, 1), Some(&[0, 0][..])),
            (PacketKind::ACK_EPOCH, z(2, 1), Some(&[0xff, 0, 0, 0][..])),
            (PacketKind::PING, z(2, 1), None),
            (PacketKind::PING, z(2, 1), Some(&[0; 13][..])),
        ];
        for (kind, zxid, data) in from_learner {
            let packet = QuorumPacket {
                data,
                ..QuorumPacket::bare(kind, zxid)
            };
            let result = decode_message(&packet, Sender::Learner);
            assert!(result.is_err(), "{packet:?} is {result:?}");
        }
    }

    #[test]
    fn a_java_server_without_data_has_accepted_nothing() {
        let mut info = Vec::new();
        LearnerInfo {
            server: ServerId(1),
            protocol_version: LEARNER_PROTOCOL_VERSION,
            config_version: 0,
        }
        .encode(&mut info);
        let packet = QuorumPacket::with_data(PacketKind::FOLLOWER_INFO, Zxid(-1 << 32), &info);
        let expected = Message::LearnerInfo {
            server: ServerId(1),
            observer: false,
            accepted_epoch: 0,
            config_version: 0,
        };
        assert_eq!(decode_message(&packet, Sender::Learner), Ok(Some(expected)));
    }

    #[test]
    fn any_packet_is_a_message_or_an_error() {
        let mut rng = fastrand::Rng::with_seed(4);
        let (mut read, mut refused) = (0, 0);
        for _ in 0..20_000 {
            let mut data: Vec<u8> = (0..rng.usize(0..64)).map(|_| rng.u8(..)).collect();
            let zxid = Zxid(match rng.u8(..4) {
                0 => rng.i64(..),
                1 => rng.i64(-2..3) << 32,
                _ => Zxid::new(rng.u32(..9), rng.u32(..9)).0,
            });
            if rng.bool() && data.len() >= 20 {
                data[12..20].copy_from_slice(&zxid.0.to_be_bytes());
            }
            let packet = QuorumPacket {
                kind: PacketKind(rng.i32(-1..22)),
                zxid,
                data: rng.bool().then_some(&data[..]),
                identities: None,
            };
            for sender in [Sender::Leader, Sender::Learner] {
                match decode_message(&packet, sender) {
                    Ok(Some(message)) => {
                        read += 1;
                        // Whatever was understood can be said again, in one whole packet.
                        decoded(&encoded(&message), sender).unwrap();
                    }
                    Ok(None) => {}
                    Err(_) => refused += 1,
                }
            }
        }
        assert!(read > 1000 && refused > 1000, "{read} read and {refused} refused");
    }

    #[test]
    fn notifications_carry_the_configuration_and_are_read_in_every_generation() {
        let notification = Notification {
            state: PeerState::Leading,
            vote: Vote {
                leader: ServerId(3),
                zxid: Zxid::new(5, 7),
                peer_epoch: 6,
            },
            election_epoch: 9,
            version: NOTIFICATION_VERSION,
        };
        let mut bytes = Vec::new();
        encode_notification(&notification, CONFIG, &mut bytes);
        assert_eq!(notification_length(&bytes), Ok(Some(bytes.len() - 4)));
        let body = &bytes[4..];
        assert_eq!(
            body[..40],
            hex("00000002 0000000000000003 0000000500000007 0000000000000009 0000000000000006 00000002")
        );
        assert_eq!(&body[44..], CONFIG.as_bytes());
        assert_eq!(
            decode_notification(body),
            Ok((notification, Some(CONFIG.to_owned())))
        );
        let old = Notification {
            version: 0,
            ..notification
        };
        assert_eq!(decode_notification(&body[..40]), Ok((old, None)));
        assert!(decode_notification(&body[..41]).is_err());
    }

    #[test]
    fn an_observers_vote_for_nobody_is_read_and_written() {
        let vote = Notification {
            state: PeerState::Looking,
            vote: Vote::NONE,
            election_epoch: 1,
            version: NOTIFICATION_VERSION,
        };
        let mut bytes = Vec::new();
        encode_notification(&vote, "", &mut bytes);
        assert_eq!(
            bytes[8..16],
            hex("8000000000000000"),
            "as Java's observers write it"
        );
        assert_eq!(decode_notification(&bytes[4..]), Ok((vote, Some(String::new()))));
    }
}
