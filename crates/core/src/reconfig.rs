//! What a reconfig request makes of the list of servers (quorum spec, 8.3). The checks and their order are Java's.

use std::collections::BTreeSet;

use oxkeeper_types::{ErrorCode, ReconfigRequest, ServerId, WriteRequest, Zxid};
use oxkeeper_zab::QuorumVerifier;

use crate::membership::{Groups, Member, Membership, ServerLine, configuration_text};
use crate::server_core::ServerCore;

impl ServerCore {
    /// What is to be proposed for a reconfig, as the txn `zxid`: the new list, or why it may not be. A server that
    /// stands alone, or does not allow it, leaves the answer to the tree.
    pub(crate) fn plan_reconfig(&self, request: ReconfigRequest, zxid: Zxid) -> WriteRequest {
        let settings = &self.shared.settings;
        let Some(zab) = self.consensus().filter(|_| settings.tree.reconfig_enabled) else {
            return WriteRequest::Reconfig(request);
        };
        if zab.next_configuration().is_some() {
            return WriteRequest::Invalid(ErrorCode::ReconfigInProgress);
        }
        let configuration = zab.configuration();
        if request.version != -1 && request.version != configuration.version {
            return WriteRequest::Invalid(ErrorCode::BadVersion);
        }
        let Ok(present) = Membership::parse(&configuration_text(configuration)) else {
            unreachable!(
                "the configuration was read from such a text: {}",
                configuration.list
            );
        };
        let participants_min = if settings.standalone_enabled { 2 } else { 1 };
        match plan(&present, &request, participants_min) {
            Err(code) => WriteRequest::Invalid(code),
            Ok((_, quorum)) if !zab.is_quorum_synced(&quorum) => {
                WriteRequest::Invalid(ErrorCode::NewConfigNoQuorum)
            }
            Ok((mut membership, _)) => {
                membership.version = zxid.0;
                WriteRequest::SetConfig {
                    config: membership.text().into_bytes().into(),
                }
            }
        }
    }
}

/// The new list, and who decides then.
fn plan(
    present: &Membership,
    request: &ReconfigRequest,
    participants_min: usize,
) -> Result<(Membership, QuorumVerifier), ErrorCode> {
    let membership = match &request.new_members {
        Some(list) => whole_list(list, participants_min)?,
        None if present.groups != Groups::default() => return Err(ErrorCode::BadArguments),
        None => changed_list(present, request)?,
    };
    if membership.of_role(false).len() < participants_min {
        return Err(ErrorCode::BadArguments);
    }
    let quorum = membership.quorum().map_err(|_| ErrorCode::BadArguments)?;
    Ok((membership, quorum))
}

fn whole_list(list: &str, participants_min: usize) -> Result<Membership, ErrorCode> {
    let membership = Membership::parse(&list.replace(',', "\n")).map_err(|_| ErrorCode::BadArguments)?;
    let (participants, observers) = (membership.of_role(false).len(), membership.of_role(true).len());
    // Java throws another exception here, which it answers so.
    let is_odd = match participants {
        0 => participants_min == 1 || observers > 0,
        1 => participants_min == 2 && observers > 0,
        _ => false,
    };
    match is_odd {
        true => Err(ErrorCode::MarshallingError),
        false => Ok(membership),
    }
}

/// Those who leave go first, so that who joins may take their addresses; who joins with the number of a member
/// replaces it.
fn changed_list(present: &Membership, request: &ReconfigRequest) -> Result<Membership, ErrorCode> {
    let mut servers = present.servers.clone();
    for leaving in items(request.leaving.as_deref()) {
        let id: i64 = leaving.parse().map_err(|_| ErrorCode::MarshallingError)?;
        servers.remove(&ServerId(id));
    }
    for joining in items(request.joining.as_deref()) {
        let mut parts = joining.split('=').map(str::trim).filter(|part| !part.is_empty());
        let (Some(key), Some(value), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(ErrorCode::BadArguments);
        };
        let number = key.rsplit('.').next().unwrap_or(key);
        number.parse::<i64>().map_err(|_| ErrorCode::MarshallingError)?;
        let line = ServerLine::parse(&format!("server.{number}"), value, true);
        let ServerLine { id, member } = line.map_err(|_| ErrorCode::BadArguments)?;
        if member.client.is_none() {
            return Err(ErrorCode::BadArguments);
        }
        servers.remove(&id);
        let taken: BTreeSet<_> = servers.values().flat_map(own_addresses).collect();
        if own_addresses(&member)
            .iter()
            .any(|address| taken.contains(address))
        {
            return Err(ErrorCode::BadArguments);
        }
        servers.insert(id, member);
    }
    Ok(Membership {
        servers,
        ..Membership::default()
    })
}

/// What stands between commas.
fn items(list: Option<&str>) -> impl Iterator<Item = &str> {
    let items = list.unwrap_or_default().split(',');
    items.map(str::trim).filter(|item| !item.is_empty())
}

/// The addresses that no two servers may share: those of all machines, and of this one, do not count.
fn own_addresses(member: &Member) -> Vec<(String, u16)> {
    let of_peers = member.addresses.iter().flat_map(|address| {
        [address.quorum_port, address.election_port].map(|port| (address.host.clone(), port))
    });
    let is_special = |host: &str| {
        host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback() || address.is_unspecified())
    };
    of_peers
        .chain(member.client.clone())
        .filter(|(host, _)| !is_special(host))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present() -> Membership {
        Membership::parse("server.1=a:1:2:participant;3\nserver.2=b:1:2:participant;3\nversion=5").unwrap()
    }

    fn joining(text: &str) -> ReconfigRequest {
        ReconfigRequest {
            joining: Some(text.to_owned()),
            ..ReconfigRequest::default()
        }
    }

    fn list(request: &ReconfigRequest) -> Result<String, ErrorCode> {
        plan(&present(), request, 2).map(|(membership, _)| membership.list())
    }

    #[test]
    fn servers_join_and_leave() {
        let request = ReconfigRequest {
            joining: Some("server.3=c:1:2;3, server.4=d:1:2:observer;3".to_owned()),
            leaving: Some("2,9".to_owned()),
            ..ReconfigRequest::default()
        };
        let expected = "server.1=a:1:2:participant;0.0.0.0:3\nserver.3=c:1:2:participant;0.0.0.0:3\n\
                        server.4=d:1:2:observer;0.0.0.0:3\n";
        assert_eq!(list(&request).as_deref(), Ok(expected));
    }

    #[test]
    fn who_joins_again_changes_and_may_keep_its_addresses() {
        let changed = list(&joining("server.2=b:1:2:participant;4")).unwrap();
        assert!(
            changed.contains("server.2=b:1:2:participant;0.0.0.0:4\n"),
            "{changed}"
        );
    }

    #[test]
    fn a_whole_list_replaces_all() {
        let request = ReconfigRequest {
            new_members: Some("server.7=x:1:2;3,server.8=y:1:2;3\ngroup.1=7:8".to_owned()),
            joining: Some("nonsense".to_owned()),
            ..ReconfigRequest::default()
        };
        let (membership, quorum) = plan(&present(), &request, 2).unwrap();
        assert_eq!(quorum.voters(), &[7, 8].map(ServerId).into());
        assert!(
            membership
                .list()
                .contains("group.1=7:8\nweight.7=1\nweight.8=1\n")
        );
        // From there on only whole lists are taken.
        assert_eq!(
            plan(&membership, &joining("server.3=c:1:2;3"), 2),
            Err(ErrorCode::BadArguments)
        );
    }

    #[test]
    fn what_java_refuses_is_refused_with_the_same_error() {
        use ErrorCode::{BadArguments, MarshallingError};
        for (text, error) in [
            ("server.3=c:1:2", BadArguments),
            ("server.3=c:1;3", BadArguments),
            ("server.3", BadArguments),
            ("server.3=c:1:2;3=4", BadArguments),
            ("server.3=a:9:1;3", BadArguments),
            ("server.3=c:1:2;a:2", BadArguments),
            ("server.x=c:1:2;3", MarshallingError),
        ] {
            assert_eq!(list(&joining(text)), Err(error), "{text}");
        }
        let leaving = |text: &str| ReconfigRequest {
            leaving: Some(text.to_owned()),
            ..ReconfigRequest::default()
        };
        assert_eq!(list(&leaving("two")), Err(MarshallingError));
        assert_eq!(list(&leaving("2")), Err(BadArguments), "fewer than two are left");
        assert!(
            plan(&present(), &leaving("2"), 1).is_ok(),
            "standaloneEnabled=false"
        );
        let whole = |text: &str| ReconfigRequest {
            new_members: Some(text.to_owned()),
            ..ReconfigRequest::default()
        };
        assert_eq!(list(&whole("clientPort=1")), Err(BadArguments));
        assert_eq!(list(&whole("server.1=a:1:2;3")), Err(BadArguments));
        assert_eq!(
            list(&whole("server.1=a:1:2;3,server.2=b:1:2:observer;3")),
            Err(MarshallingError)
        );
        assert_eq!(list(&whole("")), Err(BadArguments));
        assert_eq!(plan(&present(), &whole(""), 1), Err(MarshallingError));
    }

    #[test]
    fn addresses_of_this_machine_may_be_shared() {
        assert!(list(&joining("server.3=127.0.0.1:1:2;3,server.4=127.0.0.1:1:2;3")).is_ok());
    }
}
