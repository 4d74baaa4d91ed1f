//! Running commands.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use oxkeeper_types::ROOT_PATH;
use serde_json::{Value, json};
use tokio::sync::watch;
use zookeeper_client::{Acls, Client, CreateMode, Error, EventType, SessionState, Stat};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::acl::{acl_json, parse_acl, permissions_text};
use crate::command::{self, Command, DataForm, NewZnode};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::quota;
use crate::session::{ConnectOptions, Events, Session, event_forms};
use crate::table::{self, COMMANDS};
use crate::text::{data_text, escape, hexdump, insert_data, stat_json, stat_text};
use crate::walk::{MayBeLost as _, checked, or_again};
use crate::{ensemble, transfer, walk};

/// How many commands are kept for `redo`.
const HISTORY_MAX: usize = 1000;
/// How many commands `history` shows besides itself, as zkCli.
const HISTORY_SHOWN: usize = 10;
/// How long to wait before the servers are asked again while the first connection is not made.
const CONNECT_PAUSE: Duration = Duration::from_millis(500);

/// How long `connect` waits for the session before it lets the next command do so.
const CONNECT_WAIT: Duration = Duration::from_secs(1);

/// What there is of a session.
#[derive(Clone)]
pub(crate) enum Connection {
    /// The servers are being asked.
    Connecting,
    /// A session, which may have ended meanwhile.
    Open(Arc<Session>),
    /// No session, for a reason of ours.
    Failed(Failure),
    /// No session, since `close`.
    Closed,
}

/// A shell: a session that commands run in.
pub(crate) struct Shell {
    pub(crate) output: Output,
    pub(crate) events: Arc<Events>,
    /// The servers of the last `connect`.
    pub(crate) servers: String,
    options: ConnectOptions,
    connection: watch::Sender<Connection>,
    /// The last commands of this run, for `history` and `redo`.
    lines: VecDeque<String>,
    /// How many commands there were in all; the last one kept has this number less one.
    pub(crate) count: usize,
    /// Set by `quit`.
    pub(crate) quits: bool,
    /// Whether stdin is for the command to read, rather than where commands come from.
    pub(crate) has_stdin: bool,
}

impl Shell {
    /// A shell that begins to connect to `servers`; needs a tokio runtime.
    pub(crate) fn new(servers: &str, options: ConnectOptions, output: Output, events: Events) -> Shell {
        let shell = Shell {
            output,
            events: Arc::new(events),
            servers: servers.to_owned(),
            options,
            connection: watch::Sender::new(Connection::Closed),
            lines: VecDeque::new(),
            count: 0,
            quits: false,
            has_stdin: false,
        };
        shell.begin();
        shell
    }

    /// Follows the connection, for prompts and completion.
    pub(crate) fn connection(&self) -> watch::Receiver<Connection> {
        self.connection.subscribe()
    }

    fn begin(&self) {
        self.connection.send_replace(Connection::Connecting);
        let (servers, options, events) = (self.servers.clone(), self.options.clone(), self.events.clone());
        let connection = self.connection.clone();
        tokio::spawn(async move {
            let end = tokio::time::Instant::now() + options.timeout;
            let outcome = loop {
                match Session::connect(&servers, &options, events.clone()).await {
                    Ok(session) => break Connection::Open(session),
                    Err(error @ Error::BadArguments(_)) => {
                        break Connection::Failed(
                            Failure::of(&error, &servers)
                                .hint("servers are written host:port[,host:port…][/chroot]"),
                        );
                    }
                    Err(_) if !options.once && tokio::time::Instant::now() < end => {
                        tokio::time::sleep(CONNECT_PAUSE).await;
                    }
                    Err(error) => break Connection::Failed(unreachable_servers(&error, &servers)),
                }
                if !matches!(*connection.borrow(), Connection::Connecting) {
                    return;
                }
            };
            // `close` or another `connect` may have come first; the session then ends with its last owner.
            connection.send_if_modified(|state| {
                let wanted = matches!(state, Connection::Connecting);
                if wanted {
                    *state = outcome;
                }
                wanted
            });
        });
    }

    /// The session, once there is one.
    ///
    /// # Errors
    /// When there is none and none is being begun.
    pub(crate) async fn session(&self) -> Outcome<Arc<Session>> {
        let mut connection = self.connection.subscribe();
        let decided = connection
            .wait_for(|state| !matches!(state, Connection::Connecting))
            .await;
        match decided.as_deref() {
            Ok(Connection::Open(session)) if session.client.state() == SessionState::AuthFailed => {
                Err(Failure::of(&Error::AuthFailed, "this session"))
            }
            Ok(Connection::Open(session)) if session.has_ended() => {
                Err(Failure::of(&Error::SessionExpired, "this session"))
            }
            Ok(Connection::Open(session)) => Ok(session.clone()),
            Ok(Connection::Failed(failure)) => Err(match &failure.hint {
                // One command is not followed by another.
                Some(hint) if !self.has_stdin => {
                    let hint = format!("{hint}; `connect` begins anew");
                    failure.clone().hint(hint)
                }
                _ => failure.clone(),
            }),
            _ => Err(Failure::not_connected()),
        }
    }

    /// Ends the session, if there is one.
    pub(crate) async fn close(&self) {
        if let Connection::Open(session) = self.connection.send_replace(Connection::Closed) {
            session.close().await;
        }
    }

    /// Runs the words of a command.
    ///
    /// # Errors
    /// When it cannot be done.
    pub(crate) async fn run_words(&mut self, words: &[String]) -> Outcome {
        self.run(command::parse(words)?).await
    }

    /// Runs a typed line and keeps it for `history`. An empty one does nothing.
    ///
    /// # Errors
    /// When it cannot be done.
    pub(crate) async fn run_line(&mut self, line: &str) -> Outcome {
        let line = line.trim();
        if line.is_empty() {
            return Ok(());
        }
        if self.lines.len() == HISTORY_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line.to_owned());
        self.count += 1;
        let mut command = self.read(line)?;
        if let Command::Redo { number } = command {
            let index = number.checked_sub(self.count - self.lines.len());
            let again = index
                .filter(|index| index + 1 < self.lines.len())
                .and_then(|index| self.lines.get(index));
            let again = again.cloned().ok_or_else(|| {
                Failure::new("Usage", "Command index out of range").hint("`history` shows the numbers")
            })?;
            command = self.read(&again)?;
            if matches!(command, Command::Redo { .. }) {
                return Err(Failure::new("Usage", "No redoing redos").hint("redo the command itself"));
            }
            self.output.note(&again);
            if let Some(last) = self.lines.back_mut() {
                *last = again;
            }
        }
        self.run(command).await
    }

    fn read(&self, line: &str) -> Outcome<Command> {
        let words = crate::words::split(line).map_err(|open| {
            Failure::new("Usage", open.to_string()).hint("close it, or put the word into the other quotes")
        })?;
        command::parse(&words)
    }

    async fn run(&mut self, command: Command) -> Outcome {
        let output = self.output;
        match command {
            Command::Close => {
                self.session().await?;
                self.close().await;
                output.done(&json!({ "closed": true }))
            }
            Command::Connect { servers } => {
                self.close().await;
                if let Some(servers) = servers {
                    self.servers = servers;
                }
                self.begin();
                let mut connection = self.connection();
                let decided = connection.wait_for(|state| !matches!(state, Connection::Connecting));
                // Most mistakes show at once; else the next command waits for the session.
                if let Ok(Ok(state)) = tokio::time::timeout(CONNECT_WAIT, decided).await
                    && let Connection::Failed(failure) = &*state
                {
                    return Err(failure.clone());
                }
                output.done(&json!({ "connect": self.servers }))
            }
            Command::Help { command } => help(output, command.as_deref()),
            Command::History => self.history(),
            Command::PrintWatches { on } => {
                if let Some(on) = on {
                    self.events.set_printed(on);
                    return output.done(&json!({ "printwatches": on }));
                }
                let on = self.events.printed();
                let word = if on { "on" } else { "off" };
                output.result(&format!("printwatches is {word}"), &json!({ "printwatches": on }))
            }
            Command::Quit => {
                self.quits = true;
                Ok(())
            }
            Command::Redo { .. } => {
                Err(Failure::new("Usage", "No redoing redos").hint("redo the command itself"))
            }
            Command::Version => {
                let version = env!("CARGO_PKG_VERSION");
                output.result(
                    &format!("Oxkeeper CLI version: {version}"),
                    &json!({ "version": version }),
                )
            }
            command => self.ask(command).await,
        }
    }

    fn history(&self) -> Outcome {
        let first = self.lines.len().saturating_sub(HISTORY_SHOWN + 1);
        for (index, line) in self.lines.iter().enumerate().skip(first) {
            let number = self.count - self.lines.len() + index;
            self.output.result(
                &format!("{number} - {}", escape(line)),
                &json!({ "number": number, "line": line }),
            )?;
        }
        Ok(())
    }

    /// Runs a command that needs a session.
    async fn ask(&self, command: Command) -> Outcome {
        let session = self.session().await?;
        let (client, output) = (&session.client, self.output);
        match command {
            Command::AddAuth { scheme, auth } => {
                client
                    .auth(&scheme, auth.as_bytes())
                    .await
                    .map_err(|error| Failure::of(&error, &format!("scheme {scheme}")))?;
                output.done(&json!({ "scheme": scheme }))
            }
            Command::AddWatch { path, recursive } => {
                let path = checked(path)?;
                session
                    .add_watch(&path, recursive)
                    .await
                    .map_err(|error| Failure::of(&error, &path))?;
                output.done(&json!({ "path": path, "recursive": recursive }))
            }
            Command::RemoveWatches { path, kinds } => {
                let path = checked(path)?;
                if !session.remove_watches(&path, kinds) {
                    return Err(Failure::of(&Error::NoWatcher, &path));
                }
                output.done(&json!({ "path": path }))
            }
            Command::Config {
                client_form,
                watch,
                stat,
            } => ensemble::config(&session, output, client_form, watch, stat).await,
            Command::Create {
                path,
                kind,
                data,
                acl,
            } => {
                let path = create(client, &path, kind, &data, acl.as_deref()).await?;
                output.result(&format!("Created {}", escape(&path)), &json!({ "created": path }))
            }
            Command::Delete { path, version } => {
                let path = checked(path)?;
                client
                    .delete(&path, version)
                    .await
                    .map_err(|error| Failure::of(&error, &path))?;
                output.done(&json!({ "deleted": path }))
            }
            Command::DeleteAll { path, batch } => {
                let path = checked(path)?;
                let count = walk::delete_all(client, output, &path, batch).await?;
                output.done(&json!({ "deleted": path, "znodes": count }))
            }
            Command::Get {
                path,
                form,
                watch,
                stat,
            } => {
                let path = checked(path)?;
                let failure = |error: Error| Failure::of(&error, &path);
                let (data, found) = if watch {
                    let (data, found, watcher) = client.get_and_watch_data(&path).await.map_err(failure)?;
                    session.keep_data_watch(&path, watcher);
                    (data, found)
                } else {
                    client.get_data(&path).await.map_err(failure)?
                };
                let shown = match form {
                    DataForm::Text => data_text(&data),
                    DataForm::Base64 => BASE64.encode(&data),
                    DataForm::Hexdump => hexdump(&data),
                };
                let mut value = json!({ "path": path });
                if form == DataForm::Base64 {
                    value["base64"] = json!(shown);
                } else {
                    insert_data(&mut value, &data);
                }
                output.with_stat(&shown, value, stat.then_some(&found))
            }
            Command::GetAcl { path, stat } => {
                let path = checked(path)?;
                let (acl, found) = client
                    .get_acl(&path)
                    .await
                    .map_err(|error| Failure::of(&error, &path))?;
                let shown: Vec<String> = acl
                    .iter()
                    .map(|entry| {
                        let (scheme, id) = (escape(entry.scheme()), escape(entry.id()));
                        format!("'{scheme},'{id}\n: {}", permissions_text(entry.permission()))
                    })
                    .collect();
                let value = json!({ "path": path, "acl": acl_json(&acl) });
                output.with_stat(&shown.join("\n"), value, stat.then_some(&found))
            }
            Command::GetAllChildrenNumber { path } => {
                let path = checked(path)?;
                let count = client
                    .count_descendants_number(&path)
                    .await
                    .map_err(|error| Failure::of(&error, &path))?;
                output.result(&count.to_string(), &json!({ "path": path, "count": count }))
            }
            Command::GetEphemerals { prefix } => {
                let prefix = checked(prefix)?;
                let mut paths = client
                    .list_ephemerals(&prefix)
                    .await
                    .map_err(|error| Failure::of(&error, &prefix))?;
                paths.sort();
                output.result(&name_list(&paths), &json!({ "ephemerals": paths }))
            }
            Command::ListQuota { .. } | Command::SetQuota { .. } | Command::DelQuota { .. }
                if client.path() != ROOT_PATH =>
            {
                let chroot = escape(client.path());
                Err(Failure::new(
                    "BadArguments",
                    "quotas are kept at the root of the tree, which a chroot hides",
                )
                .hint(format!("`connect` without {chroot}, and name the path with it")))
            }
            Command::ListQuota { path } => {
                let path = checked(path)?;
                self.list_quota(client, &path).await
            }
            Command::SetQuota { path, limit, value } => {
                let path = checked(path)?;
                let warnings = quota::set(client, &path, limit, value).await?;
                for warning in &warnings {
                    output.note(warning);
                }
                output.done(&json!({ "path": path, "warnings": warnings }))
            }
            Command::DelQuota { path, limit } => {
                let path = checked(path)?;
                let existed = quota::delete(client, &path, limit).await?;
                if !existed {
                    output.note(&format!("Quota does not exist for {}", escape(&path)));
                }
                output.done(&json!({ "path": path, "existed": existed }))
            }
            Command::Ls { path, watch, stat } => {
                let path = checked(path)?;
                let failure = |error: Error| Failure::of(&error, &path);
                let (mut names, found) = if watch {
                    let (names, found, watcher) =
                        client.get_and_watch_children(&path).await.map_err(failure)?;
                    session.keep_child_watch(&path, watcher);
                    (names, found)
                } else {
                    client.get_children(&path).await.map_err(failure)?
                };
                names.sort();
                let value = json!({ "path": path, "children": names });
                output.with_stat(&name_list(&names), value, stat.then_some(&found))
            }
            Command::LsRecursive { path, watch } => {
                let path = checked(path)?;
                walk::list(&session, output, &path, watch).await
            }
            Command::Tree { path, depth } => walk::draw(client, output, &checked(path)?, depth).await,
            Command::Reconfig {
                change,
                version,
                stat,
            } => ensemble::reconfig(client, output, change, version, stat).await,
            Command::Set {
                path,
                data,
                version,
                stat,
            } => {
                let path = checked(path)?;
                let found = client
                    .set_data(&path, &data, version)
                    .await
                    .map_err(|error| Failure::of(&error, &path))?;
                changed(output, &path, stat, &found)
            }
            Command::SetAcl {
                path,
                acl,
                version,
                recursive,
                stat,
            } => {
                let (path, acl) = (checked(path)?, parse_acl(&acl)?);
                if recursive {
                    let count = walk::set_acl(client, &path, &acl, version).await?;
                    return output.done(&json!({ "path": path, "znodes": count }));
                }
                let found = client
                    .set_acl(&path, &acl, version)
                    .await
                    .map_err(|error| Failure::of(&error, &path))?;
                changed(output, &path, stat, &found)
            }
            Command::Stat { path, watch } => {
                let path = checked(path)?;
                let failure = |error: Error| Failure::of(&error, &path);
                let found = if watch {
                    let (found, watcher) = client.check_and_watch_stat(&path).await.map_err(failure)?;
                    session.keep_data_watch(&path, watcher);
                    found
                } else {
                    client.check_stat(&path).await.map_err(failure)?
                };
                let found = found.ok_or_else(|| failure(Error::NoNode))?;
                output.result(
                    &stat_text(&found),
                    &json!({ "path": path, "stat": stat_json(&found) }),
                )
            }
            Command::Sync { path } => {
                let path = checked(path)?;
                client
                    .sync(&path)
                    .await
                    .map_err(|error| Failure::of(&error, &path))?;
                output.result("Sync is OK", &json!({ "path": path, "synced": true }))
            }
            Command::WhoAmI => {
                let users = client
                    .list_auth_users()
                    .await
                    .map_err(|error| Failure::of(&error, "whoami"))?;
                let mut shown = "Auth scheme: User".to_owned();
                for user in &users {
                    shown += &format!("\n{}: {}", escape(user.scheme()), escape(user.user()));
                }
                let users: Vec<Value> = users
                    .iter()
                    .map(|user| json!({ "scheme": user.scheme(), "user": user.user() }))
                    .collect();
                output.result(&shown, &json!({ "users": users }))
            }
            Command::Copy { from, to, if_exists } => {
                transfer::copy(client, output, &checked(from)?, &checked(to)?, if_exists).await
            }
            Command::Export {
                file,
                path,
                overwrite,
            } => transfer::export(client, output, &file, &checked(path)?, overwrite).await,
            Command::Import {
                file,
                path,
                if_exists,
            } => {
                if file == "-" && !self.has_stdin {
                    return Err(Failure::new("Usage", "stdin is where commands come from")
                        .hint("name a file, or run `oxkeeper shell import - PATH` by itself"));
                }
                transfer::import(client, output, &file, &checked(path)?, if_exists).await
            }
            Command::Watch { path, data, count } => watch(client, output, &checked(path)?, data, count).await,
            Command::Close
            | Command::Connect { .. }
            | Command::Help { .. }
            | Command::History
            | Command::PrintWatches { .. }
            | Command::Quit
            | Command::Redo { .. }
            | Command::Version => unreachable!("these need no session"),
        }
    }

    async fn list_quota(&self, client: &Client, path: &str) -> Outcome {
        let (shown, at) = (escape(path), quota::limits_path(path));
        self.output.note(&format!("absolute path is {}", escape(&at)));
        match quota::list(client, path).await? {
            Some((limits, used)) => self.output.result(
                &format!(
                    "Output quota for {shown} {}\nOutput stat for {shown} {}",
                    escape(&limits.text()),
                    escape(&used.text())
                ),
                &json!({ "path": path, "quota": limits.json(), "used": used.json() }),
            ),
            None => {
                self.output.note(&format!("quota for {shown} does not exist."));
                self.output.done(&json!({ "path": path, "quota": null }))
            }
        }
    }
}

fn unreachable_servers(error: &Error, servers: &str) -> Failure {
    let shown = escape(servers);
    match error {
        Error::AuthFailed | Error::UnexpectedError(_) => Failure::of(error, servers),
        _ => Failure::new("ConnectionLoss", format!("KeeperErrorCode = ConnectionLoss: no server of {shown} took the session")).hint(
            format!("is it running, with a quorum (or -r for reading), and is the port right? `oxkeeper status -server {shown}` asks each"),
        ),
    }
}

async fn create(
    client: &Client,
    path: &str,
    kind: NewZnode,
    data: &[u8],
    acl: Option<&str>,
) -> Outcome<String> {
    // A sequential name may be empty: then the number is all of it.
    let to_check = if kind.sequential && path.ends_with('/') {
        format!("{path}0")
    } else {
        path.to_owned()
    };
    checked(to_check)?;
    let chroot = client.path();
    let failure = |error: Error| match error {
        Error::NoNode if path == ROOT_PATH => Failure::of(&Error::NoNode, path).hint(format!(
            "the parent of the chroot {} is missing; `connect` without a chroot, and make it",
            escape(chroot)
        )),
        Error::NoNode => {
            let parent = path
                .trim_end_matches('/')
                .rfind('/')
                .map_or("/", |end| &path[..end.max(1)]);
            let parent = escape(parent);
            Failure::of(&Error::NoNode, path)
                .hint(format!("its parent is missing; `create {parent}` makes it"))
        }
        error => Failure::of(&error, path),
    };
    let whole;
    // The client takes every root as one that exists; that of a chroot may be missing.
    let (client, full_path) = match path {
        ROOT_PATH if kind.sequential => {
            return Err(
                Failure::new("BadArguments", "a number alone cannot be a name below the root")
                    .hint("give it a beginning, as in `create -s /n-`"),
            );
        }
        ROOT_PATH if chroot != ROOT_PATH => {
            let outside = client.clone().chroot(ROOT_PATH);
            whole = outside.map_err(|_| failure(Error::NodeExists))?;
            (&whole, chroot)
        }
        ROOT_PATH => return Err(failure(Error::NodeExists)),
        path => (client, path),
    };
    let mode = match (kind.ephemeral, kind.sequential, kind.container) {
        (true, true, _) => CreateMode::EphemeralSequential,
        (true, false, _) => CreateMode::Ephemeral,
        (false, true, _) => CreateMode::PersistentSequential,
        (false, false, true) => CreateMode::Container,
        (false, false, false) => CreateMode::Persistent,
    };
    let acl = acl.map(parse_acl).transpose()?;
    let mut options = mode.with_acls(acl.as_deref().map_or(Acls::anyone_all(), Acls::new));
    if let Some(ms) = kind.ttl_ms {
        options = options.with_ttl(Duration::from_millis(ms));
    }
    let made = client.create(full_path, data, &options).await;
    let (_, sequence) = made.map_err(failure)?;
    Ok(if kind.sequential {
        format!("{path}{sequence}")
    } else {
        path.to_owned()
    })
}

/// `[a, b]`.
fn name_list(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| escape(name)).collect();
    format!("[{}]", names.join(", "))
}

fn changed(output: Output, path: &str, stat: bool, found: &Stat) -> Outcome {
    let value = json!({ "path": path, "stat": stat_json(found) });
    if stat {
        output.result(&stat_text(found), &value)
    } else {
        output.done(&value)
    }
}

fn help(output: Output, name: Option<&str>) -> Outcome {
    let one;
    let specs = match name {
        None => COMMANDS,
        Some(name) => {
            one = table::find(name).ok_or_else(|| {
                Failure::new("UnknownCommand", format!("Command not found: {}", escape(name)))
                    .hint("`help` lists the commands")
            })?;
            std::slice::from_ref(one)
        }
    };
    for spec in specs {
        let usage = spec.full_usage();
        output.result(
            &format!("{usage}\n\t{}", spec.about),
            &json!({ "command": spec.name, "usage": usage, "about": spec.about }),
        )?;
    }
    Ok(())
}

/// Prints what happens at and below a path, until `count` events came or the command is given up.
async fn watch(client: &Client, output: Output, path: &str, data: bool, count: Option<u64>) -> Outcome {
    let failure = |error: Error| Failure::of(&error, path);
    let mode = zookeeper_client::AddWatchMode::PersistentRecursive;
    let mut watcher = client.watch(path, mode).await.map_err(failure)?;
    output.note(&format!("watching {}, Ctrl-C ends", escape(path)));
    let mut left = count;
    while left != Some(0) {
        let event = watcher.changed().await;
        match (event.event_type, event.session_state) {
            (EventType::Session, SessionState::Disconnected) => {
                output.note("the connection is lost; what happens until it is back is not seen");
                continue;
            }
            (EventType::Session, state) if state.is_terminated() => {
                return Err(failure(Error::SessionExpired));
            }
            (EventType::Session, _) => {
                // As Session::renew_persistent_watches.
                match client.watch(path, mode).await {
                    Ok(_) => output.note("connected again"),
                    // Lost again meanwhile; then it will be connected again, too.
                    Err(error) if error.is_lost() => {}
                    Err(error) => return Err(failure(error)),
                }
                continue;
            }
            _ => {}
        }
        let (mut shown, mut value) = event_forms(&event);
        let has_data = matches!(
            event.event_type,
            EventType::NodeCreated | EventType::NodeDataChanged
        );
        if data && has_data {
            let ask = || client.get_data(&event.path);
            match or_again(ask().await, ask).await {
                Ok((bytes, _)) => {
                    shown = format!("{shown}\n{}", data_text(&bytes));
                    insert_data(&mut value, &bytes);
                }
                // Changed again meanwhile, or not for us to read: the event is told without.
                Err(Error::NoNode | Error::NoAuth) => {}
                Err(error) => return Err(failure(error)),
            }
        }
        output.result(&shown, &value)?;
        // Events are few, and a pipe wants them as they come.
        std::io::stdout()
            .flush()
            .map_err(|error| Failure::output(&error))?;
        left = left.map(|left| left - 1);
    }
    Ok(())
}
