//! The list of servers of an ensemble in the form in which ZooKeeper shows, sends and saves it: `server.N` lines,
//! groups, weights, `version=<hex>` (quorum spec, 8.1 and 8.2).

mod server_line;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use oxkeeper_types::{CONFIG_PATH, OpCode, ServerId, Txn};
use oxkeeper_wire as wire;
use oxkeeper_zab::{Configuration, Entry, QuorumError, QuorumVerifier};

pub use server_line::ServerLine;

/// Servers that a list may have. Far more than any ensemble.
const SERVERS_MAX: usize = 1000;
/// Where the type of a txn stands in its header: after session, cxid, zxid and time.
const TXN_TYPE_OFFSET: usize = 28;

/// One address of a server. Names are kept as written and looked up whenever they are dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// Name or IP address, IPv6 without brackets.
    pub host: String,
    /// Where learners reach the server while it leads. 2888 by custom.
    pub quorum_port: u16,
    /// Where the others reach it to elect. 3888 by custom.
    pub election_port: u16,
}

/// One server of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Whether it follows without a vote.
    pub is_observer: bool,
    /// At least one; several only with `multiAddress.enabled`.
    pub addresses: Vec<PeerAddress>,
    /// Host (`0.0.0.0` when only a port is given) and port of the client part of its line.
    pub client: Option<(String, u16)>,
}

/// How servers are grouped and what they weigh, as written: group to servers, and server to weight. The meaning is
/// in [`QuorumVerifier`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// `group.G`.
    pub servers_of: BTreeMap<i64, Vec<ServerId>>,
    /// `weight.N`; a server without a line weighs 1.
    pub weights: BTreeMap<ServerId, u32>,
}

/// A list of servers, and which list it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// The servers.
    pub servers: BTreeMap<ServerId, Member>,
    /// How they are grouped; a majority of the participants decides when there is no group.
    pub groups: Groups,
    /// The zxid of the txn that made it the list; 0 for one that was never changed.
    pub version: i64,
}

impl Membership {
    /// Reads a list. Nothing but servers, groups, weights and a version may stand in it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Membership, String> {
        let mut membership = Membership::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let Some((key, value)) = line.split_once('=') else {
                return Err(format!("`{line}` is no key=value"));
            };
            let (key, value) = (key.trim(), value.trim());
            let (what, number) = key.split_once('.').unwrap_or((key, ""));
            match what {
                "server" => {
                    let ServerLine { id, member } = ServerLine::parse(key, value, true)?;
                    membership.servers.insert(id, member);
                    if membership.servers.len() > SERVERS_MAX {
                        return Err(format!("there are more than {SERVERS_MAX} servers"));
                    }
                }
                "group" => {
                    let (group, servers) = parse_group(number, value)?;
                    membership.groups.servers_of.insert(group, servers);
                }
                "weight" => {
                    let (server, weight) = parse_weight(number, value)?;
                    membership.groups.weights.insert(server, weight);
                }
                "version" => {
                    membership.version = u64::from_str_radix(value, 16)
                        .ok()
                        .and_then(|version| i64::try_from(version).ok())
                        .ok_or_else(|| format!("`{value}` is no version"))?;
                }
                _ => return Err(format!("{key} has no place in a list of servers")),
            }
        }
        Ok(membership)
    }

    /// The servers of one role.
    pub fn of_role(&self, observers: bool) -> BTreeSet<ServerId> {
        let chosen = self
            .servers
            .iter()
            .filter(|(_, member)| member.is_observer == observers);
        chosen.map(|(id, _)| *id).collect()
    }

    /// How they decide.
    ///
    /// # Errors
    /// The groups and weights make no rule.
    pub fn quorum(&self) -> Result<QuorumVerifier, QuorumError> {
        let (voters, observers) = (self.of_role(false), self.of_role(true));
        if self.groups == Groups::default() {
            return Ok(QuorumVerifier::majority(voters, observers));
        }
        let groups = self.groups.servers_of.values();
        let groups: Vec<BTreeSet<ServerId>> = groups.map(|group| group.iter().copied().collect()).collect();
        QuorumVerifier::hierarchical(groups, self.groups.weights.clone(), voters, observers)
    }

    /// What the consensus is to know of it.
    ///
    /// # Errors
    /// The groups and weights make no rule.
    pub fn configuration(&self) -> Result<Configuration, QuorumError> {
        let place = |member: &Member| {
            let mut places: Vec<String> = (member.addresses.iter())
                .map(|address| format!("{}:{}", bracketed(&address.host), address.quorum_port))
                .collect();
            places.sort();
            places.join("|")
        };
        Ok(Configuration {
            version: self.version,
            quorum: self.quorum()?,
            places: self
                .servers
                .iter()
                .map(|(id, member)| (*id, place(member)))
                .collect(),
            list: self.list().into(),
        })
    }

    /// The list as ZooKeeper's `QuorumVerifier.toString` writes it, servers by id, with the version at its end.
    pub fn text(&self) -> String {
        text_of(&self.list(), self.version)
    }

    /// The lines without the version, each with its end.
    pub fn list(&self) -> String {
        let mut text = String::new();
        for (id, member) in &self.servers {
            let mut addresses: Vec<&PeerAddress> = member.addresses.iter().collect();
            addresses.sort_by(|a, b| a.host.cmp(&b.host));
            let addresses: Vec<String> = addresses
                .iter()
                .map(|a| format!("{}:{}:{}", bracketed(&a.host), a.quorum_port, a.election_port))
                .collect();
            let role = match member.is_observer {
                true => "observer",
                false => "participant",
            };
            let client = match &member.client {
                Some((host, port)) => format!(";{}:{port}", bracketed(host)),
                None => String::new(),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "server.{id}={}:{role}{client}", addresses.join("|"));
        }
        for (group, members) in &self.groups.servers_of {
            let members: Vec<String> = members.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "group.{group}={}", members.join(":"));
        }
        if !self.groups.servers_of.is_empty() {
            for (id, member) in &self.servers {
                if !member.is_observer {
                    let weight = self.groups.weights.get(id).copied().unwrap_or(1);
                    let _ = writeln!(text, "weight.{id}={weight}");
                }
            }
        }
        text
    }
}

/// `group.G=a:b:c`.
///
/// # Errors
/// What is wrong.
pub fn parse_group(number: &str, value: &str) -> Result<(i64, Vec<ServerId>), String> {
    let id = |text: &str| {
        text.parse()
            .map(ServerId)
            .map_err(|_| format!("`{text}` is not a server number"))
    };
    let group = number
        .parse()
        .map_err(|_| format!("`{number}` is not a group number"))?;
    Ok((group, value.split(':').map(id).collect::<Result<_, _>>()?))
}

/// `weight.N=w`.
///
/// # Errors
/// What is wrong.
pub fn parse_weight(number: &str, value: &str) -> Result<(ServerId, u32), String> {
    let server = number
        .parse()
        .map_err(|_| format!("`{number}` is not a server number"))?;
    let weight = value
        .parse()
        .map_err(|_| format!("`{value}` is not a whole number of at least 0"))?;
    Ok((ServerId(server), weight))
}

/// `[host]` for IPv6 addresses.
fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

fn text_of(list: &str, version: i64) -> String {
    format!("{list}version={version:x}")
}

/// A configuration as ZooKeeper writes it.
pub fn configuration_text(configuration: &Configuration) -> String {
    text_of(&configuration.list, configuration.version)
}

/// Reads a configuration as ZooKeeper writes it; `None` when it lists nobody and so tells nothing.
///
/// # Errors
/// What is wrong with it.
pub fn read_configuration(text: &[u8]) -> Result<Option<Configuration>, String> {
    let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
    let mut membership = Membership::parse(text)?;
    if membership.servers.is_empty() {
        return Ok(None);
    }
    // Java's list names the weights of all, and lets groups name strangers.
    let voters = membership.of_role(false);
    membership.groups.weights.retain(|id, _| voters.contains(id));
    let groups = &mut membership.groups.servers_of;
    for group in groups.values_mut() {
        group.retain(|id| voters.contains(id));
    }
    // A group of strangers alone does not count, and could not be written so that it is read again.
    if groups.values().any(|group| !group.is_empty()) {
        groups.retain(|_, group| !group.is_empty());
    }
    membership
        .configuration()
        .map(Some)
        .map_err(|error| error.to_string())
}

/// The configuration that a txn brings about, if it is one that does: for [`oxkeeper_zab::Settings`]. Its version is
/// its place in the history, whatever it says.
pub fn find_configuration(entry: &Entry) -> Option<Configuration> {
    let kind = entry.txn.get(TXN_TYPE_OFFSET..TXN_TYPE_OFFSET + 4)?;
    if kind != OpCode::Reconfig.code().to_be_bytes() {
        return None;
    }
    let Ok((_, Txn::Reconfig { path, data, .. }, _)) = wire::decode_txn_entry(&entry.txn) else {
        return None;
    };
    if path != CONFIG_PATH {
        return None;
    }
    let configuration = read_configuration(&data.unwrap_or_default()).ok()??;
    Some(Configuration {
        version: entry.zxid.0,
        ..configuration
    })
}

#[cfg(test)]
#[path = "membership_tests.rs"]
mod tests;
