//! `server.N` lines: `host:quorumPort:electionPort[:role][|…][;[clientHost:]clientPort]`.

use oxkeeper_types::ServerId;

use super::{Member, PeerAddress};

/// Whether a member votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Votes.
    Participant,
    /// Follows without a vote.
    Observer,
}

/// One line of the server list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerLine {
    /// Whose it is.
    pub id: ServerId,
    /// What it says.
    pub member: Member,
}

impl ServerLine {
    /// Parses one line of the list.
    ///
    /// # Errors
    /// What is wrong, without file and line.
    pub fn parse(key: &str, value: &str, multi_address_enabled: bool) -> Result<ServerLine, String> {
        let number = key.strip_prefix("server.").unwrap_or(key);
        let id = number
            .parse()
            .map(ServerId)
            .map_err(|_| format!("`{number}` is not a server number"))?;
        let mut parts = value.split(';');
        let addresses = parts.next().unwrap_or("");
        let client = match (parts.next(), parts.next()) {
            (_, Some(_)) => return Err("there is more than one `;`".to_owned()),
            (None, None) | (Some(""), None) => None,
            (Some(client), None) => Some(client_part(client)?),
        };
        let mut role = None;
        let mut parsed = Vec::new();
        for (index, address) in addresses.split('|').enumerate() {
            if index > 0 && !multi_address_enabled {
                return Err("there are several addresses but multiAddress.enabled is not true".to_owned());
            }
            let (address, this) = server_part(address)?;
            parsed.push(address);
            if role.is_some_and(|role| Some(role) != this) && this.is_some() {
                return Err("the addresses have different roles".to_owned());
            }
            role = role.or(this);
        }
        Ok(ServerLine {
            id,
            member: Member {
                is_observer: role == Some(Role::Observer),
                addresses: parsed,
                client,
            },
        })
    }
}

/// `host:quorumPort:electionPort[:role]`.
fn server_part(text: &str) -> Result<(PeerAddress, Option<Role>), String> {
    let (host, rest) = host_and_rest(text)?;
    let (quorum, election, role) = match rest.as_slice() {
        [quorum, election] => (quorum, election, None),
        [quorum, election, role] => (quorum, election, Some(*role)),
        _ => return Err(format!("`{text}` is not host:quorumPort:electionPort[:role]")),
    };
    let address = PeerAddress {
        host: host.to_owned(),
        quorum_port: port(quorum)?,
        election_port: port(election)?,
    };
    if address.quorum_port == address.election_port {
        return Err("quorum port and election port are the same".to_owned());
    }
    let role = match role.map(|role| role.trim().to_ascii_lowercase()).as_deref() {
        None => None,
        Some("participant") => Some(Role::Participant),
        Some("observer") => Some(Role::Observer),
        Some(other) => return Err(format!("unknown role `{other}`")),
    };
    Ok((address, role))
}

/// `port` or `host:port`.
fn client_part(text: &str) -> Result<(String, u16), String> {
    if !text.contains(':') {
        return Ok(("0.0.0.0".to_owned(), port(text)?));
    }
    match host_and_rest(text)? {
        (host, rest) if rest.len() == 1 => Ok((host.to_owned(), port(rest[0])?)),
        _ => Err(format!("client part `{text}` is neither port nor host:port")),
    }
}

/// Cuts at colons, except inside the brackets of an IPv6 address.
fn host_and_rest(text: &str) -> Result<(&str, Vec<&str>), String> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(bracketed) => bracketed
            .split_once(']')
            .ok_or(format!("`{text}` has no closing bracket"))?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    if host.is_empty() {
        return Err(format!("`{text}` names no host"));
    }
    let rest = match rest.strip_prefix(':') {
        Some(rest) => rest.split(':').collect(),
        None if rest.is_empty() => Vec::new(),
        None => return Err(format!("`{text}` has no colon after the bracket")),
    };
    Ok((host, rest))
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("`{text}` is not a port"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Result<ServerLine, String> {
        ServerLine::parse("server.1", value, false)
    }

    #[test]
    fn role_and_client_part_are_optional() {
        let line = |host: &str, role, client: Option<(&str, u16)>| {
            let member = Member {
                is_observer: role == Role::Observer,
                addresses: vec![PeerAddress {
                    host: host.to_owned(),
                    quorum_port: 2888,
                    election_port: 3888,
                }],
                client: client.map(|(host, port)| (host.to_owned(), port)),
            };
            Ok(ServerLine {
                id: ServerId(1),
                member,
            })
        };
        assert_eq!(parse("a:2888:3888"), line("a", Role::Participant, None));
        assert_eq!(parse("a:2888:3888:Observer"), line("a", Role::Observer, None));
        assert_eq!(
            parse("a:2888:3888:participant;2181"),
            line("a", Role::Participant, Some(("0.0.0.0", 2181)))
        );
        assert_eq!(
            parse("[::1]:2888:3888;[::1]:2181"),
            line("::1", Role::Participant, Some(("::1", 2181)))
        );
        assert_eq!(
            parse("localhost:2888:3888;h:2181"),
            line("localhost", Role::Participant, Some(("h", 2181)))
        );
    }

    #[test]
    fn malformed_lines_say_what_is_wrong() {
        for (value, expected) in [
            ("", "names no host"),
            ("a", "is not host:quorumPort:electionPort"),
            ("a:2888", "is not host:quorumPort:electionPort"),
            ("a:2888:3888:observer:x", "is not host:quorumPort:electionPort"),
            ("a:2888:2888", "the same"),
            ("a:x:3888", "`x` is not a port"),
            ("a:2888:70000", "`70000` is not a port"),
            ("a:2888:3888:boss", "unknown role `boss`"),
            ("a:2888:3888;1;2", "more than one `;`"),
            ("a:2888:3888;h:1:2", "neither port nor host:port"),
            ("[::1:2888:3888", "no closing bracket"),
            ("[::1]2888:3888", "no colon after the bracket"),
            ("a:1:2|b:3:4", "multiAddress.enabled"),
        ] {
            let error = parse(value).expect_err(value);
            assert!(error.contains(expected), "{value}: {error}");
        }
        assert!(ServerLine::parse("server.x", "a:1:2", false).is_err_and(|error| error.contains("`x`")));
    }

    #[test]
    fn several_addresses_need_one_role() {
        let parse = |value| ServerLine::parse("server.-3", value, true);
        assert_eq!(
            parse("a:1:2:observer|b:3:4:observer").map(|line| (
                line.id.0,
                line.member.is_observer,
                line.member.addresses.len()
            )),
            Ok((-3, true, 2))
        );
        assert!(
            parse("a:1:2:observer|b:3:4:participant").is_err_and(|error| error.contains("different roles"))
        );
    }
}
