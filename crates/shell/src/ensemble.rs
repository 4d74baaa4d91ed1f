//! Who the servers of an ensemble are: `config` and `reconfig`.

use std::sync::Arc;

use serde_json::json;
use zookeeper_client::{Client, EnsembleUpdate, Error};

use crate::command::Membership;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::session::Session;
use crate::text::{data_text, escape};

/// Prints the configuration, or with `client_form` what clients need of it.
///
/// # Errors
/// Those of the server.
pub(crate) async fn config(
    session: &Arc<Session>,
    output: Output,
    client_form: bool,
    watch: bool,
    stat: bool,
) -> Outcome {
    let failure = |error: Error| Failure::of(&error, oxkeeper_types::CONFIG_PATH);
    let client = &session.client;
    let (data, found) = if watch {
        let (data, found, watcher) = client.get_and_watch_config().await.map_err(failure)?;
        session.keep_data_watch(oxkeeper_types::CONFIG_PATH, watcher);
        (data, found)
    } else {
        client.get_config().await.map_err(failure)?
    };
    let text = String::from_utf8_lossy(&data);
    let servers = connect_string(&text);
    let shown = if client_form {
        servers.clone()
    } else {
        data_text(&data)
    };
    let value = json!({ "config": text, "servers": servers });
    output.with_stat(&shown, value, stat.then_some(&found))
}

/// Changes who the members are.
///
/// # Errors
/// Those of the server, and of the file that is named.
pub(crate) async fn reconfig(
    client: &Client,
    output: Output,
    change: Membership,
    version: Option<i64>,
    stat: bool,
) -> Outcome {
    let failure = |error: Error| Failure::of(&error, oxkeeper_types::CONFIG_PATH);
    let new = |members: Vec<String>| async move {
        client
            .update_ensemble(
                EnsembleUpdate::New {
                    ensemble: members.iter().map(String::as_str),
                },
                version,
            )
            .await
    };
    let (config, found) = match change {
        Membership::Change { joining, leaving } => {
            let update = EnsembleUpdate::Incremental {
                joinings: joining.iter().map(String::as_str),
                leavings: leaving.iter().map(String::as_str),
            };
            client.update_ensemble(update, version).await.map_err(failure)?
        }
        Membership::New(members) => new(members).await.map_err(failure)?,
        Membership::NewFromFile(file) => {
            let text = std::fs::read_to_string(&file).map_err(|error| {
                Failure::new("File", format!("{} cannot be read: {error}", escape(&file)))
                    .hint("name a dynamic configuration file, with lines server.N=host:port1:port2;port3")
            })?;
            new(members_of(&text)).await.map_err(failure)?
        }
    };
    let shown = format!("Committed new configuration:\n{}", data_text(&config));
    let value = json!({ "config": String::from_utf8_lossy(&config) });
    output.with_stat(&shown, value, stat.then_some(&found))
}

/// The client addresses in a dynamic configuration, behind its version.
fn connect_string(config: &str) -> String {
    let lines = || config.lines().filter_map(|line| line.split_once('='));
    let version = lines()
        .find(|(key, _)| *key == "version")
        .map_or("", |(_, value)| value);
    let clients: Vec<String> = lines()
        .filter(|(key, _)| key.starts_with("server."))
        .filter_map(|(_, server)| {
            // host:port:port:role;[address:]port
            let (peer, client) = server.rsplit_once(';')?;
            if client.contains(':') {
                return Some(client.to_owned());
            }
            let host = match peer.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                Some((host, _)) => format!("[{host}]"),
                None => peer.split(':').next()?.to_owned(),
            };
            Some(format!("{host}:{client}"))
        })
        .collect();
    escape(&format!("{version} {}", clients.join(",")))
}

/// The `server.N=…` lines of a configuration file.
fn members_of(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| line.starts_with("server."))
        .map(str::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_becomes_a_connect_string() {
        let config = "server.1=one:2888:3888:participant;0.0.0.0:2181\nserver.2=[::1]:2888:3888:observer;2182\nversion=100000000";
        assert_eq!(connect_string(config), "100000000 0.0.0.0:2181,[::1]:2182");
        assert_eq!(connect_string(""), " ");
    }
}
