//! Why a command could not be done, and what to do next.

use std::fmt::Write as _;

use oxkeeper_types::ROOT_PATH;
use serde_json::{Value, json};
use zookeeper_client::Error;

use crate::text::escape;

/// The exit code of a command that failed, as zkCli's.
pub(crate) const EXIT_FAILED: u8 = 1;
/// The exit code of arguments that `oxkeeper shell` and `oxkeeper status` cannot take.
pub(crate) const EXIT_INVALID: u8 = 2;
/// The exit code of a command that does not exist, as zkCli's.
pub(crate) const EXIT_UNKNOWN_COMMAND: u8 = 127;
/// The exit code after Ctrl-C, as of any program that SIGINT ended.
pub(crate) const EXIT_INTERRUPTED: u8 = 130;

/// The code of the failure that is not told.
pub(crate) const READER_GONE: &str = "ReaderGone";

/// What is told when a command fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What is wrong, in zkCli's words where it has any.
    pub(crate) message: String,
    /// What to do next.
    pub(crate) hint: Option<String>,
    /// A name for scripts, ZooKeeper's where it is an answer of the server.
    pub(crate) code: &'static str,
    /// What this program ends with when it was the last command.
    pub(crate) exit_code: u8,
}

/// What commands return.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure that is not the server's answer.
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Failure {
        Failure {
            message: message.into(),
            hint: None,
            code,
            exit_code: EXIT_FAILED,
        }
    }

    /// With what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// A command that is written wrongly.
    pub(crate) fn usage(message: impl Into<String>, usage: &str) -> Failure {
        Failure::new("Usage", message).hint(format!("usage: {usage}"))
    }

    /// The output cannot be written. That its reader has gone, as after `| head`, is no news to anybody.
    pub(crate) fn output(error: &std::io::Error) -> Failure {
        let message = format!("the output cannot be written: {error}");
        let gone = error.kind() == std::io::ErrorKind::BrokenPipe;
        Failure::new(if gone { READER_GONE } else { "Output" }, message)
    }

    /// There is no session.
    pub(crate) fn not_connected() -> Failure {
        Failure::new("NotConnected", "Not connected").hint("`connect host:port` begins a session")
    }

    /// The error a client call about `path` ended with.
    pub(crate) fn of(error: &Error, path: &str) -> Failure {
        let path = &escape(path);
        let keeper = |text: &str| format!("KeeperErrorCode = {text} for {path}");
        let parent = match path.rfind('/') {
            None | Some(0) => "/",
            Some(end) => &path[..end],
        };
        let (code, message, hint) = match error {
            Error::NoNode if path == ROOT_PATH => (
                "NoNode",
                format!("Node does not exist: {path}"),
                "the chroot of this session does not exist; `create /` makes it".to_owned(),
            ),
            Error::NoNode => (
                "NoNode",
                format!("Node does not exist: {path}"),
                format!("`ls {parent}` shows what is there; `create {path}` makes it"),
            ),
            Error::NodeExists => (
                "NodeExists",
                format!("Node already exists: {path}"),
                format!("`set {path} data` changes its data, `delete {path}` removes it"),
            ),
            Error::NoChildrenForEphemerals => (
                "NoChildrenForEphemerals",
                format!("Ephemerals cannot have children: {path}"),
                format!("create it below a znode that stays; `stat {parent}` shows the owner"),
            ),
            Error::NotEmpty => (
                "NotEmpty",
                format!("Node not empty: {path}"),
                format!("`deleteall {path}` deletes it with all that is below it"),
            ),
            Error::BadVersion => (
                "BadVersion",
                format!("version No is not valid : {path}"),
                format!("somebody changed it; `stat {path}` shows its versions now"),
            ),
            Error::NoAuth => (
                "NoAuth",
                format!("Insufficient permission : {path}"),
                format!("`getAcl {path}` shows who may, `whoami` who you are, `addauth digest user:password` adds to that"),
            ),
            Error::InvalidAcl => (
                "InvalidACL",
                format!("Acl is not valid : {path}"),
                "write scheme:id:perms[,…], for example world:anyone:cdrwa, ip:10.0.0.0/8:r or, after addauth, auth::cdrwa"
                    .to_owned(),
            ),
            Error::BadArguments(reason) => {
                let hint = match **reason {
                    "server error" => "the server refuses this for this znode, or with these options".to_owned(),
                    other => other.to_owned(),
                };
                ("BadArguments", format!("Arguments are not valid : {path}"), hint)
            }
            Error::QuotaExceeded => (
                "QuotaExceeded",
                format!("Quota has exceeded : {path}"),
                "`listquota PATH` on the znodes above shows whose; `setquota` raises it".to_owned(),
            ),
            Error::NotReadOnly => (
                "NotReadOnly",
                format!("Not a read-only call: {path}"),
                "the server has no quorum and only answers reads; `oxkeeper status` shows the others".to_owned(),
            ),
            Error::NoWatcher => (
                "NoWatcher",
                keeper("No such watcher"),
                "this session has no such watch there; -c children, -d data, -p persistent, -r recursive, -a any".to_owned(),
            ),
            Error::ReconfigDisabled => (
                "ReconfigDisabled",
                "KeeperErrorCode = Reconfig is disabled".to_owned(),
                "a server allows it with reconfigEnabled=true in its zoo.cfg".to_owned(),
            ),
            Error::Unimplemented => (
                "Unimplemented",
                keeper("Unimplemented"),
                "this server is too old for it or has it switched off; `oxkeeper status` shows its release".to_owned(),
            ),
            Error::ConnectionLoss | Error::NoHosts | Error::Timeout | Error::Custom(_) => (
                "ConnectionLoss",
                match error {
                    // What the operating system said, or which time ran out.
                    Error::Custom(cause) => format!("{} ({})", keeper("ConnectionLoss"), escape(&cause.to_string())),
                    _ => keeper("ConnectionLoss"),
                },
                "no server answers, and what was asked may or may not be done; `oxkeeper status -server …` asks each server"
                    .to_owned(),
            ),
            Error::SessionExpired | Error::SessionMoved => (
                "SessionExpired",
                keeper("Session expired"),
                "its ephemerals and watches are gone; `connect` begins a new session".to_owned(),
            ),
            Error::AuthFailed => (
                "AuthFailed",
                keeper("AuthFailed"),
                "the server closed the session; `connect`, then `addauth scheme auth` with what it knows".to_owned(),
            ),
            Error::ClientClosed => ("ClientClosed", keeper("Session closed"), "`connect` begins a new session".to_owned()),
            Error::Throttled => (
                "Throttled",
                keeper("Op throttled due to high load"),
                "nothing was done; try again later".to_owned(),
            ),
            Error::MarshallingError => (
                "MarshallingError",
                keeper("MarshallingError"),
                "the server could not read the request".to_owned(),
            ),
            Error::UnexpectedErrorCode(-13) => (
                "NewConfigNoQuorum",
                "No quorum of the new configuration is connected and up to date".to_owned(),
                "start the new servers, wait until `oxkeeper status` shows them, then try again".to_owned(),
            ),
            Error::UnexpectedErrorCode(-14) => (
                "ReconfigInProgress",
                "Another reconfiguration is in progress".to_owned(),
                "try again when it is done; `config` shows the result".to_owned(),
            ),
            Error::UnexpectedErrorCode(-120) => (
                "EphemeralOnLocalSession",
                "Unable to create ephemeral node on a local session".to_owned(),
                "the server keeps sessions local; allow it with localSessionsUpgradingEnabled=true".to_owned(),
            ),
            other => {
                let hint = "`oxkeeper status -server …` shows whether the servers are well".to_owned();
                ("Unexpected", format!("{}: {path}", escape(&other.to_string())), hint)
            }
        };
        Failure::new(code, message).hint(hint)
    }

    /// As text of one or two lines without the last newline, escaped, whatever came into it from files and libraries.
    pub(crate) fn plain(&self, red: &str, dim: &str, reset: &str) -> String {
        let mut text = format!("{red}{}{reset}", escape(&self.message));
        if let Some(hint) = &self.hint {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n{dim}hint: {}{reset}", escape(hint));
        }
        text
    }

    /// For scripts.
    pub(crate) fn json(&self) -> Value {
        json!({ "error": { "code": self.code, "message": self.message, "hint": self.hint } })
    }
}
