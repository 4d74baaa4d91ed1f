//! What servers say to each other to elect a leader: the message that opens an election connection, and the
//! notifications after it (quorum spec, 2.2, 2.3 and 3.1).

use std::net::IpAddr;

use oxkeeper_types::{ServerId, Zxid};

use crate::{DecodeError, Decoder, Encoder};

/// The opening of a message with one address: what is sent unless several addresses per server are enabled.
const HELLO_ONE_ADDRESS: i64 = -65536;
/// The opening of a message with several addresses, since 3.6.
const HELLO_MANY_ADDRESSES: i64 = -65535;
/// The text of the addresses is not longer, in bytes.
const HELLO_TEXT_LENGTH_MAX: i32 = 2048;

/// A notification is not longer, in bytes, without the 4 bytes of its length.
pub const NOTIFICATION_LENGTH_MAX: usize = 512 * 1024;

/// What the dialler of an election connection says of itself, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElectionHello {
    /// Its id.
    pub server: ServerId,
    /// Host and port where it can be dialled back, wildcards left out; empty from servers before 3.5.
    pub addresses: Vec<(String, u16)>,
}

impl ElectionHello {
    /// Appends the message. `many` chooses the form with several addresses, which servers before 3.6 refuse.
    /// Everything is to be sent in one segment: Java reads it with one call.
    pub fn encode(&self, many: bool, bytes: &mut Vec<u8>) {
        let texts: Vec<String> = self
            .addresses
            .iter()
            .map(|(host, port)| {
                if host.contains(':') {
                    format!("[{host}]:{port}")
                } else {
                    format!("{host}:{port}")
                }
            })
            .collect();
        let text = if many {
            texts.join("|")
        } else {
            texts.into_iter().next().unwrap_or_default()
        };
        let mut encoder = Encoder::new(bytes);
        encoder.long(if many {
            HELLO_MANY_ADDRESSES
        } else {
            HELLO_ONE_ADDRESS
        });
        encoder.long(self.server.0);
        encoder.string(&text);
    }

    /// Reads the message from the front of `bytes`; with it, how many bytes it took. `None`: more must come.
    ///
    /// # Errors
    /// It is none; Java closes the connection.
    pub fn decode(bytes: &[u8]) -> Result<Option<(ElectionHello, usize)>, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let hello = Self::decode_whole(&mut decoder);
        incomplete_is_none(hello).map(|hello| hello.map(|hello| (hello, bytes.len() - decoder.remaining())))
    }

    fn decode_whole(decoder: &mut Decoder<'_>) -> Result<ElectionHello, DecodeError> {
        let opening = decoder.long()?;
        if opening >= 0 {
            // Before 3.5 the id was all.
            return Ok(ElectionHello {
                server: ServerId(opening),
                addresses: Vec::new(),
            });
        }
        if opening != HELLO_ONE_ADDRESS && opening != HELLO_MANY_ADDRESSES {
            return Err(DecodeError::BadValue {
                what: "the opening of an election connection",
                value: opening,
            });
        }
        let server = ServerId(decoder.long()?);
        let length = decoder.int()?;
        if !(1..=HELLO_TEXT_LENGTH_MAX).contains(&length) {
            return Err(DecodeError::BadLength(length));
        }
        let text = decoder.take(usize::try_from(length).map_err(|_| DecodeError::BadLength(length))?)?;
        let bad = DecodeError::BadValue {
            what: "the addresses of a server",
            value: i64::from(length),
        };
        let text = std::str::from_utf8(text).map_err(|_| bad)?;
        let mut addresses = Vec::new();
        for address in text.split('|') {
            let (host, port) = parse_address(address).ok_or(bad)?;
            if !host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
                addresses.push((host.to_owned(), port));
            }
        }
        Ok(ElectionHello { server, addresses })
    }
}

/// `host:port` or `[IPv6]:port`, as two parts exactly.
fn parse_address(text: &str) -> Option<(&str, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:")?,
        None => text.split_once(':')?,
    };
    if host.is_empty() || port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((host, port.parse().ok()?))
}

/// For formats without a frame: that bytes are missing only says that they did not come yet.
pub(crate) fn incomplete_is_none<T>(decoded: Result<T, DecodeError>) -> Result<Option<T>, DecodeError> {
    match decoded {
        Ok(value) => Ok(Some(value)),
        Err(DecodeError::Short { .. }) => Ok(None),
        Err(
            error @ (DecodeError::BadLength(_)
            | DecodeError::UnexpectedNull(_)
            | DecodeError::BadValue { .. }),
        ) => Err(error),
    }
}

/// What a server is doing, as its notifications tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// It elects: 0.
    Looking,
    /// It follows and votes: 1.
    Following,
    /// It leads: 2.
    Leading,
    /// It follows and does not vote: 3.
    Observing,
}

/// A notification, as every server since 3.5 sends it; what older ones leave out is filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElectionNotification {
    /// What the sender is doing.
    pub state: ServerState,
    /// Whom it wants to lead.
    pub leader: ServerId,
    /// The end of that server's history.
    pub zxid: Zxid,
    /// The round of the vote.
    pub election_epoch: i64,
    /// The epoch that vouches for the history.
    pub peer_epoch: i64,
    /// The version of the format: 2; 0 when the sender did not tell it in a way that Java understands.
    pub version: i32,
    /// The text of the sender's configuration, not yet judged.
    pub config: Option<String>,
}

impl ElectionNotification {
    /// Appends the notification with its length before it, in version 2.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        Encoder::new(bytes).nested(|encoder| {
            encoder.int(match self.state {
                ServerState::Looking => 0,
                ServerState::Following => 1,
                ServerState::Leading => 2,
                ServerState::Observing => 3,
            });
            encoder.long(self.leader.0);
            encoder.long(self.zxid.0);
            encoder.long(self.election_epoch);
            encoder.long(self.peer_epoch);
            encoder.int(2);
            encoder.string(self.config.as_deref().unwrap_or_default());
        });
    }

    /// Reads the notification in these bytes, without the length before it.
    ///
    /// # Errors
    /// It is none; Java drops the message and keeps the connection.
    pub fn decode(bytes: &[u8]) -> Result<ElectionNotification, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let state = match decoder.int()? {
            0 => ServerState::Looking,
            1 => ServerState::Following,
            2 => ServerState::Leading,
            3 => ServerState::Observing,
            other => {
                return Err(DecodeError::BadValue {
                    what: "the state of a server",
                    value: i64::from(other),
                });
            }
        };
        let mut notification = ElectionNotification {
            state,
            leader: ServerId(decoder.long()?),
            zxid: Zxid(decoder.long()?),
            election_epoch: decoder.long()?,
            peer_epoch: 0,
            version: 0,
            config: None,
        };
        if bytes.len() == 28 {
            // The oldest form has no epoch.
            notification.peer_epoch = notification.zxid.0 >> 32;
            return Ok(notification);
        }
        notification.peer_epoch = decoder.long()?;
        if bytes.len() == 40 {
            // Java takes this length for a form without a version, although 3.4.6 wrote one there.
            return Ok(notification);
        }
        notification.version = decoder.int()?;
        if notification.version > 1 {
            let config = decoder.buffer()?.ok_or(DecodeError::BadLength(-1))?;
            notification.config = Some(String::from_utf8_lossy(config).into_owned());
        }
        Ok(notification)
    }
}

/// How many bytes the next notification of a connection has, after the 4 bytes that tell it; `None`: they did not
/// come yet.
///
/// # Errors
/// Not a length of a notification: the connection is to be closed.
pub fn notification_length(bytes: &[u8]) -> Result<Option<usize>, DecodeError> {
    let Some(length) = incomplete_is_none(Decoder::new(bytes).int())? else {
        return Ok(None);
    };
    match usize::try_from(length) {
        Ok(count) if (1..=NOTIFICATION_LENGTH_MAX).contains(&count) => Ok(Some(count)),
        _ => Err(DecodeError::BadLength(length)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn hello(server: i64, addresses: &[(&str, u16)]) -> ElectionHello {
        let addresses = addresses
            .iter()
            .map(|(host, port)| ((*host).to_owned(), *port))
            .collect();
        ElectionHello {
            server: ServerId(server),
            addresses,
        }
    }

    fn hello_bytes(opening: i64, text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes);
        encoder.long(opening);
        encoder.long(3);
        encoder.string(text);
        bytes
    }

    #[test]
    fn the_hello_of_a_java_server_is_read_and_written_byte_for_byte() {
        let recorded = hex("ffffffffffff0000 0000000000000003 0000000f 3132372e302e302e313a3233313333");
        let expected = hello(3, &[("127.0.0.1", 23133)]);
        assert_eq!(
            ElectionHello::decode(&recorded),
            Ok(Some((expected.clone(), recorded.len())))
        );
        let mut written = Vec::new();
        expected.encode(false, &mut written);
        assert_eq!(written, recorded);
    }

    #[test]
    fn a_hello_that_has_not_come_whole_is_waited_for() {
        let whole = hello_bytes(HELLO_MANY_ADDRESSES, "a:1|b:2");
        for end in 0..whole.len() {
            assert_eq!(ElectionHello::decode(&whole[..end]), Ok(None), "{end} bytes");
        }
        let mut more = whole.clone();
        more.extend([0, 0, 0, 28]);
        let decoded = ElectionHello::decode(&more);
        assert_eq!(decoded, Ok(Some((hello(3, &[("a", 1), ("b", 2)]), whole.len()))));
    }

    #[test]
    fn a_hello_before_3_5_is_the_id_alone() {
        let decoded = ElectionHello::decode(&7_i64.to_be_bytes());
        assert_eq!(decoded, Ok(Some((hello(7, &[]), 8))));
    }

    #[test]
    fn addresses_may_be_ipv6_and_wildcards_are_left_out() {
        let bytes = hello_bytes(HELLO_MANY_ADDRESSES, "[::1]:3888|0.0.0.0:1|[::]:2|zoo1:3");
        let expected = hello(3, &[("::1", 3888), ("zoo1", 3)]);
        assert_eq!(ElectionHello::decode(&bytes).unwrap().unwrap().0, expected);
        let mut again = Vec::new();
        expected.encode(true, &mut again);
        assert_eq!(ElectionHello::decode(&again).unwrap().unwrap().0, expected);
    }

    #[test]
    fn what_is_no_hello_is_refused() {
        for text in [
            "host",
            "host:",
            ":1",
            "host:1:2",
            "host:port",
            "host:65536",
            "a:1||b:2",
            "[::1:3",
            "host:+1",
        ] {
            let decoded = ElectionHello::decode(&hello_bytes(HELLO_ONE_ADDRESS, text));
            assert!(decoded.is_err(), "{text}: {decoded:?}");
        }
        assert!(ElectionHello::decode(&hello_bytes(-65537, "a:1")).is_err());
        assert!(ElectionHello::decode(&hello_bytes(HELLO_ONE_ADDRESS, "")).is_err());
        let mut long = hello_bytes(HELLO_ONE_ADDRESS, "");
        long.truncate(16);
        long.extend(2049_i32.to_be_bytes());
        assert_eq!(
            ElectionHello::decode(&long),
            Err(DecodeError::BadLength(2049)),
            "before the text has come"
        );
    }

    fn notification() -> ElectionNotification {
        ElectionNotification {
            state: ServerState::Leading,
            leader: ServerId(3),
            zxid: Zxid::new(5, 7),
            election_epoch: 9,
            peer_epoch: 6,
            version: 2,
            config: Some("server.1=a:1:2:participant\nversion=0".to_owned()),
        }
    }

    fn body(notification: &ElectionNotification) -> Vec<u8> {
        let mut bytes = Vec::new();
        notification.encode(&mut bytes);
        assert_eq!(notification_length(&bytes), Ok(Some(bytes.len() - 4)));
        bytes.split_off(4)
    }

    #[test]
    fn a_notification_is_laid_out_as_java_reads_it() {
        let expected = hex(
            "00000002 0000000000000003 0000000500000007 0000000000000009 0000000000000006 00000002 00000024",
        );
        let bytes = body(&notification());
        assert_eq!(bytes[..44], expected);
        assert_eq!(ElectionNotification::decode(&bytes), Ok(notification()));
    }

    #[test]
    fn older_notifications_are_told_by_their_length() {
        let bytes = body(&notification());
        let oldest = ElectionNotification {
            peer_epoch: 5,
            version: 0,
            config: None,
            ..notification()
        };
        assert_eq!(
            ElectionNotification::decode(&bytes[..28]),
            Ok(oldest),
            "the epoch is that of the zxid"
        );
        let no_version = ElectionNotification {
            version: 0,
            config: None,
            ..notification()
        };
        assert_eq!(
            ElectionNotification::decode(&bytes[..40]),
            Ok(no_version),
            "a version there is not read"
        );
        for length in (0..28).chain(29..40).chain(41..bytes.len()) {
            assert!(
                ElectionNotification::decode(&bytes[..length]).is_err(),
                "{length} bytes"
            );
        }
        let mut version_1 = bytes[..44].to_vec();
        version_1[39] = 1;
        let expected = ElectionNotification {
            version: 1,
            config: None,
            ..notification()
        };
        assert_eq!(ElectionNotification::decode(&version_1), Ok(expected));
    }

    #[test]
    fn a_notification_of_an_unknown_state_or_with_a_false_length_is_refused() {
        let mut bytes = body(&notification());
        bytes[40] = 0xff;
        assert!(ElectionNotification::decode(&bytes).is_err());
        bytes[3] = 4;
        assert!(ElectionNotification::decode(&bytes).is_err());
        assert_eq!(
            notification_length(&0_i32.to_be_bytes()),
            Err(DecodeError::BadLength(0))
        );
        assert_eq!(
            notification_length(&524_289_i32.to_be_bytes()),
            Err(DecodeError::BadLength(524_289))
        );
        assert_eq!(
            notification_length(&524_288_i32.to_be_bytes()),
            Ok(Some(NOTIFICATION_LENGTH_MAX))
        );
        assert_eq!(notification_length(&[0, 0, 1]), Ok(None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(Some((_, length))) = ElectionHello::decode(&bytes) {
                prop_assert!(length <= bytes.len());
            }
            let _ = ElectionNotification::decode(&bytes);
            let _ = notification_length(&bytes);
        }
    }
}
