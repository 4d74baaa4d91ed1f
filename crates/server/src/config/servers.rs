//! `server.N` lines: `host:quorumPort:electionPort[:role][|…][;[clientHost:]clientPort]`.

/// Whether a member votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Votes.
    Participant,
    /// Follows without a vote.
    Observer,
}

/// One member of the server list, as far as a server that stands alone must know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerLine {
    pub(super) id: i64,
    pub(super) role: Role,
    /// Host and port of the client part; the host is `0.0.0.0` when only a port is given.
    pub(super) client: Option<(String, u16)>,
}

impl ServerLine {
    /// Parses one line of the list. The error says what is wrong, without file and line.
    pub(super) fn parse(key: &str, value: &str, multi_address_enabled: bool) -> Result<ServerLine, String> {
        let number = key.strip_prefix("server.").unwrap_or(key);
        let id = number
            .parse()
            .map_err(|_| format!("`{number}` is not a server number"))?;
        let mut parts = value.split(';');
        let addresses = parts.next().unwrap_or("");
        let client = match (parts.next(), parts.next()) {
            (_, Some(_)) => return Err("there is more than one `;`".to_owned()),
            (None, None) | (Some(""), None) => None,
            (Some(client), None) => Some(client_part(client)?),
        };
        let mut role = None;
        for (index, address) in addresses.split('|').enumerate() {
            if index > 0 && !multi_address_enabled {
                return Err("there are several addresses but multiAddress.enabled is not true".to_owned());
            }
            let this = server_part(address)?;
            if role.is_some_and(|role| Some(role) != this) && this.is_some() {
                return Err("the addresses have different roles".to_owned());
            }
            role = role.or(this);
        }
        Ok(ServerLine {
            id,
            role: role.unwrap_or(Role::Participant),
            client,
        })
    }
}

/// Checks `host:quorumPort:electionPort[:role]` and gives the role.
fn server_part(text: &str) -> Result<Option<Role>, String> {
    let (_, rest) = host_and_rest(text)?;
    let (quorum, election, role) = match rest.as_slice() {
        [quorum, election] => (quorum, election, None),
        [quorum, election, role] => (quorum, election, Some(*role)),
        _ => return Err(format!("`{text}` is not host:quorumPort:electionPort[:role]")),
    };
    if port(quorum)? == port(election)? {
        return Err("quorum port and election port are the same".to_owned());
    }
    match role.map(str::to_ascii_lowercase).as_deref() {
        None => Ok(None),
        Some("participant") => Ok(Some(Role::Participant)),
        Some("observer") => Ok(Some(Role::Observer)),
        Some(other) => Err(format!("unknown role `{other}`")),
    }
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
        let line = |role, client: Option<(&str, u16)>| {
            let client = client.map(|(host, port)| (host.to_owned(), port));
            Ok(ServerLine { id: 1, role, client })
        };
        assert_eq!(parse("a:2888:3888"), line(Role::Participant, None));
        assert_eq!(parse("a:2888:3888:Observer"), line(Role::Observer, None));
        assert_eq!(
            parse("a:2888:3888:participant;2181"),
            line(Role::Participant, Some(("0.0.0.0", 2181)))
        );
        assert_eq!(
            parse("[::1]:2888:3888;[::1]:2181"),
            line(Role::Participant, Some(("::1", 2181)))
        );
        assert_eq!(
            parse("localhost:2888:3888;h:2181"),
            line(Role::Participant, Some(("h", 2181)))
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
            parse("a:1:2:observer|b:3:4:observer").map(|line| (line.id, line.role)),
            Ok((-3, Role::Observer))
        );
        assert!(
            parse("a:1:2:observer|b:3:4:participant").is_err_and(|error| error.contains("different roles"))
        );
    }
}
