//! The table of commands: names, usages, options.

use crate::arguments::{OptionSpec, flag, value};

/// A command as `help` tells of it and the parser needs it.
pub(crate) struct CommandSpec {
    /// What is typed.
    pub(crate) name: &'static str,
    /// What may follow.
    pub(crate) usage: &'static str,
    /// What it does, in a line.
    pub(crate) about: &'static str,
    /// How many words it takes besides options.
    pub(crate) words_max: usize,
    pub(crate) options: &'static [OptionSpec],
}

const fn spec(
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    words_max: usize,
    options: &'static [OptionSpec],
) -> CommandSpec {
    CommandSpec {
        name,
        usage,
        about,
        words_max,
        options,
    }
}

/// Every command, in the order of their names.
pub(crate) const COMMANDS: &[CommandSpec] = &[
    spec(
        "addWatch",
        "[-m PERSISTENT|PERSISTENT_RECURSIVE] path",
        "watch until removed; PERSISTENT_RECURSIVE, with all below, unless -m says otherwise",
        1,
        &[value("m")],
    ),
    spec(
        "addauth",
        "scheme auth",
        "show an identity to the server, for example: addauth digest user:password",
        2,
        &[],
    ),
    spec("close", "", "end the session", 0, &[]),
    spec(
        "config",
        "[-c] [-w] [-s]",
        "the ensemble's configuration; -c as a connect string",
        0,
        &[flag("c"), flag("w"), flag("s")],
    ),
    spec(
        "connect",
        "[host:port[,host:port…][/chroot]]",
        "begin a new session, with the same servers or others",
        1,
        &[],
    ),
    spec(
        "cp",
        "[-o|-k] source target",
        "copy a znode with all below it; -o overwrite, -k keep what exists",
        2,
        &[flag("o"), flag("k")],
    ),
    spec(
        "create",
        "[-s] [-e] [-c] [-t ttl] path [data] [acl]",
        "make a znode; -s sequential, -e ephemeral, -c container, -t ms to live",
        3,
        &[flag("s"), flag("e"), flag("c"), value("t")],
    ),
    spec(
        "delete",
        "[-v version] path",
        "delete a znode without children",
        1,
        &[value("v")],
    ),
    spec(
        "deleteall",
        "path [-b batch size]",
        "delete a znode with all below it",
        1,
        &[value("b")],
    ),
    spec(
        "delquota",
        "[-n|-b|-N|-B] path",
        "remove a quota, or one limit of it",
        1,
        &[flag("n"), flag("b"), flag("N"), flag("B")],
    ),
    spec(
        "export",
        "[-f] file path",
        "write a subtree as JSON lines into a new file (- is stdout); -f replace the file",
        2,
        &[flag("f")],
    ),
    spec(
        "get",
        "[-s] [-w] [-b] [-x] path",
        "the data of a znode; -s its Stat too, -w watch it, -b base64, -x hexdump",
        2,
        &[flag("s"), flag("w"), flag("b"), flag("x")],
    ),
    spec(
        "getAcl",
        "[-s] path",
        "who may do what with a znode",
        1,
        &[flag("s")],
    ),
    spec(
        "getAllChildrenNumber",
        "path",
        "how many znodes are below",
        1,
        &[],
    ),
    spec(
        "getEphemerals",
        "[path]",
        "the ephemerals of this session, those below a path",
        1,
        &[],
    ),
    spec("help", "[command]", "this, or the usage of one command", 1, &[]),
    spec("history", "", "the last commands and their numbers", 0, &[]),
    spec(
        "import",
        "[-o|-k] file path",
        "make a subtree from what export wrote; -o overwrite, -k keep what exists",
        2,
        &[flag("o"), flag("k")],
    ),
    spec(
        "listquota",
        "path",
        "the quota of a znode and what is used of it",
        1,
        &[],
    ),
    spec(
        "ls",
        "[-s] [-w] [-R] path",
        "the children of a znode; -R all below it",
        2,
        &[flag("s"), flag("w"), flag("R"), flag("?")],
    ),
    spec(
        "printwatches",
        "on|off",
        "whether watch events are printed",
        1,
        &[],
    ),
    spec(
        "quit",
        "",
        "end the session and the shell, as Ctrl-D does",
        0,
        &[],
    ),
    spec(
        "reconfig",
        "[-s] [-v version] [[-file path] | [-members serverID=host:port1:port2;port3[,…]*]] | [-add serverId=host:port1:port2;port3[,…]]* [-remove serverId[,…]*]",
        "change the members of the ensemble",
        0,
        &[
            flag("s"),
            value("v"),
            value("file"),
            value("members"),
            value("add"),
            value("remove"),
        ],
    ),
    spec("redo", "cmdno", "run a command of the history again", 1, &[]),
    spec(
        "removewatches",
        "path [-c|-d|-p|-r|-a] [-l]",
        "remove watches of this session: children, data, persistent, recursive, any",
        1,
        &[flag("c"), flag("d"), flag("p"), flag("r"), flag("a"), flag("l")],
    ),
    spec(
        "set",
        "[-s] [-v version] [-b] path data",
        "change the data of a znode; -b the data is given in base64",
        2,
        &[flag("s"), value("v"), flag("b")],
    ),
    spec(
        "setAcl",
        "[-s] [-v version] [-R] path acl",
        "change who may do what; -R with all below",
        2,
        &[flag("s"), value("v"), flag("R")],
    ),
    spec(
        "setquota",
        "-n|-b|-N|-B val path",
        "limit a subtree: -n znodes, -b bytes (warnings), -N znodes, -B bytes (enforced)",
        1,
        &[value("n"), value("b"), value("N"), value("B")],
    ),
    spec(
        "stat",
        "[-w] path",
        "the Stat of a znode; -w watch it, even when it does not exist",
        2,
        &[flag("w")],
    ),
    spec(
        "sync",
        "path",
        "wait until this server has all that was written before",
        1,
        &[],
    ),
    spec("tree", "[-d depth] path", "a subtree, drawn", 1, &[value("d")]),
    spec("version", "", "the version of this shell", 0, &[]),
    spec(
        "watch",
        "[-d] [-n count] path",
        "print what happens at and below a znode until Ctrl-C; -d with new data, -n at most so many events",
        1,
        &[flag("d"), value("n")],
    ),
    spec("whoami", "", "who this session is to the server", 0, &[]),
];

/// The command of that name.
pub(crate) fn find(name: &str) -> Option<&'static CommandSpec> {
    COMMANDS.iter().find(|command| command.name == name)
}

impl CommandSpec {
    /// Name and usage.
    pub(crate) fn full_usage(&self) -> String {
        format!("{} {}", self.name, self.usage).trim_end().to_owned()
    }
}
