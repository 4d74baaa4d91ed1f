//! Words made into a [`Command`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use oxkeeper_types::TTL_MS_MAX;

use crate::arguments::Arguments;
use crate::failure::{EXIT_UNKNOWN_COMMAND, Failure, Outcome};
use crate::quota::Limit;
use crate::table::{COMMANDS, find};

/// How many znodes `deleteall` deletes in one transaction unless `-b` says otherwise, as zkCli.
const DELETE_BATCH: usize = 1000;

/// One command, ready to run. Paths are as typed; they are checked when they are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// `addauth`
    AddAuth { scheme: String, auth: String },
    /// `addWatch`
    AddWatch { path: String, recursive: bool },
    /// `close`
    Close,
    /// `config`
    Config {
        client_form: bool,
        watch: bool,
        stat: bool,
    },
    /// `connect`
    Connect { servers: Option<String> },
    /// `cp`
    Copy {
        from: String,
        to: String,
        if_exists: IfExists,
    },
    /// `create`
    Create {
        path: String,
        kind: NewZnode,
        data: Vec<u8>,
        acl: Option<String>,
    },
    /// `delete`
    Delete { path: String, version: Option<i32> },
    /// `deleteall`
    DeleteAll { path: String, batch: usize },
    /// `delquota`
    DelQuota { path: String, limit: Option<Limit> },
    /// `export`
    Export {
        file: String,
        path: String,
        overwrite: bool,
    },
    /// `get`
    Get {
        path: String,
        form: DataForm,
        watch: bool,
        stat: bool,
    },
    /// `getAcl`
    GetAcl { path: String, stat: bool },
    /// `getAllChildrenNumber`
    GetAllChildrenNumber { path: String },
    /// `getEphemerals`
    GetEphemerals { prefix: String },
    /// `help`
    Help { command: Option<String> },
    /// `history`
    History,
    /// `import`
    Import {
        file: String,
        path: String,
        if_exists: IfExists,
    },
    /// `listquota`
    ListQuota { path: String },
    /// `ls`
    Ls { path: String, watch: bool, stat: bool },
    /// `ls -R`
    LsRecursive { path: String, watch: bool },
    /// `printwatches`
    PrintWatches { on: Option<bool> },
    /// `quit`
    Quit,
    /// `reconfig`
    Reconfig {
        change: Membership,
        version: Option<i64>,
        stat: bool,
    },
    /// `redo`
    Redo { number: usize },
    /// `removewatches`
    RemoveWatches { path: String, kinds: WatchKinds },
    /// `set`
    Set {
        path: String,
        data: Vec<u8>,
        version: Option<i32>,
        stat: bool,
    },
    /// `setAcl`
    SetAcl {
        path: String,
        acl: String,
        version: Option<i32>,
        recursive: bool,
        stat: bool,
    },
    /// `setquota`
    SetQuota { path: String, limit: Limit, value: i64 },
    /// `stat`
    Stat { path: String, watch: bool },
    /// `sync`
    Sync { path: String },
    /// `tree`
    Tree { path: String, depth: Option<usize> },
    /// `version`
    Version,
    /// `watch`
    Watch {
        path: String,
        data: bool,
        count: Option<u64>,
    },
    /// `whoami`
    WhoAmI,
}

/// What `create` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NewZnode {
    /// `-e`: goes with the session.
    pub(crate) ephemeral: bool,
    /// `-s`: gets a number.
    pub(crate) sequential: bool,
    /// `-c`: is removed some time after its last child.
    pub(crate) container: bool,
    /// `-t`: is removed when it has no children and was not written for so many ms.
    pub(crate) ttl_ms: Option<u64>,
}

/// How `get` shows data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DataForm {
    /// As text, what is not text escaped.
    Text,
    /// `-b`
    Base64,
    /// `-x`
    Hexdump,
}

/// What to do with a znode that exists where one is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfExists {
    /// Stop.
    Fail,
    /// `-o`: give it the data and the ACL.
    Overwrite,
    /// `-k`: leave it as it is.
    Keep,
}

/// Which watches `removewatches` removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatchKinds {
    /// `-a`, and without an option.
    Any,
    /// `-c`
    Children,
    /// `-d`
    Data,
    /// `-p`
    Persistent,
    /// `-r`
    PersistentRecursive,
}

/// What `reconfig` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Membership {
    /// `-add` and `-remove`.
    Change {
        joining: Vec<String>,
        leaving: Vec<String>,
    },
    /// `-members`.
    New(Vec<String>),
    /// `-file`: the members in it.
    NewFromFile(String),
}

/// The command that `words` are.
///
/// # Errors
/// When there is no such command or it is written wrongly, with what would be right.
pub(crate) fn parse(words: &[String]) -> Outcome<Command> {
    let Some((name, rest)) = words.split_first() else {
        return Err(Failure::new("Usage", "No command entered").hint("`help` lists the commands"));
    };
    let Some(spec) = find(name) else {
        let shown = crate::text::escape(name);
        let mut failure = Failure::new("UnknownCommand", format!("Command not found: {shown}"));
        failure.exit_code = EXIT_UNKNOWN_COMMAND;
        return Err(match nearest(name) {
            Some(near) => failure.hint(format!("did you mean `{near}`? `help` lists the commands")),
            None => failure.hint("`help` lists the commands"),
        });
    };
    let usage = spec.full_usage();
    let given = Arguments::parse(rest, spec.options).map_err(|message| Failure::usage(message, &usage))?;
    // zkCli takes no notice of further words, so that `set /x two words` sets `two`.
    if let Some(excess) = given.words.get(spec.words_max) {
        let message = format!("one word too many: {}", crate::text::escape(excess));
        return Err(Failure::usage(
            message,
            &format!("{usage}; quotes make one word of many"),
        ));
    }
    Reader { given, usage }.command(spec.name)
}

/// A command whose name differs in case only, or begins so.
fn nearest(name: &str) -> Option<&'static str> {
    let lower = name.to_lowercase();
    let mut names = COMMANDS.iter().map(|command| command.name);
    names
        .clone()
        .find(|known| known.to_lowercase() == lower)
        .or_else(|| names.find(|known| lower.len() > 1 && known.to_lowercase().starts_with(&lower)))
}

/// Takes a command from its arguments.
struct Reader {
    given: Arguments,
    usage: String,
}

impl Reader {
    fn command(self, name: &str) -> Outcome<Command> {
        let flag = |name| self.given.has(name);
        let command = match name {
            "addauth" => {
                let auth = self.optional(1).unwrap_or_default();
                Command::AddAuth {
                    scheme: self.word(0, "scheme")?,
                    auth,
                }
            }
            "addWatch" => {
                let recursive = match self.given.value("m").map(str::to_uppercase).as_deref() {
                    None | Some("PERSISTENT_RECURSIVE") => true,
                    Some("PERSISTENT") => false,
                    Some(_) => return Err(self.wrong("-m must be PERSISTENT or PERSISTENT_RECURSIVE")),
                };
                Command::AddWatch {
                    path: self.word(0, "path")?,
                    recursive,
                }
            }
            "close" => Command::Close,
            "config" => Command::Config {
                client_form: flag("c"),
                watch: flag("w"),
                stat: flag("s"),
            },
            "connect" => Command::Connect {
                servers: self.optional(0),
            },
            "cp" => Command::Copy {
                from: self.word(0, "source")?,
                to: self.word(1, "target")?,
                if_exists: self.if_exists()?,
            },
            "create" => return self.create(),
            "delete" => Command::Delete {
                path: self.word(0, "path")?,
                version: self.number("v")?,
            },
            "deleteall" => Command::DeleteAll {
                path: self.word(0, "path")?,
                // zkCli's 0 and below, one by one without a transaction, are the same as transactions of one.
                batch: self.number("b")?.map_or(DELETE_BATCH, |size: i32| {
                    usize::try_from(size).unwrap_or(0).max(1)
                }),
            },
            "delquota" => Command::DelQuota {
                path: self.word(0, "path")?,
                limit: self.one_of(&Limit::ALL)?,
            },
            "export" => Command::Export {
                file: self.word(0, "file")?,
                path: self.word(1, "path")?,
                overwrite: flag("f"),
            },
            "get" => Command::Get {
                path: self.word(0, "path")?,
                form: match (flag("x"), flag("b")) {
                    (true, _) => DataForm::Hexdump,
                    (_, true) => DataForm::Base64,
                    _ => DataForm::Text,
                },
                watch: self.watch(),
                stat: flag("s"),
            },
            "getAcl" => Command::GetAcl {
                path: self.word(0, "path")?,
                stat: flag("s"),
            },
            "getAllChildrenNumber" => Command::GetAllChildrenNumber {
                path: self.word(0, "path")?,
            },
            "getEphemerals" => Command::GetEphemerals {
                prefix: self.optional(0).unwrap_or_else(|| "/".to_owned()),
            },
            "help" => Command::Help {
                command: self.optional(0),
            },
            "history" => Command::History,
            "import" => Command::Import {
                file: self.word(0, "file")?,
                path: self.word(1, "path")?,
                if_exists: self.if_exists()?,
            },
            "listquota" => Command::ListQuota {
                path: self.word(0, "path")?,
            },
            "ls" if flag("?") => Command::Help {
                command: Some(name.to_owned()),
            },
            "ls" if flag("R") => Command::LsRecursive {
                path: self.word(0, "path")?,
                watch: self.watch(),
            },
            "ls" => Command::Ls {
                path: self.word(0, "path")?,
                watch: self.watch(),
                stat: flag("s"),
            },
            "printwatches" => Command::PrintWatches {
                on: self.optional(0).map(|word| word == "on"),
            },
            "quit" => Command::Quit,
            "reconfig" => return self.reconfig(),
            "redo" => {
                let word = self.word(0, "cmdno")?;
                let number = word
                    .parse()
                    .map_err(|_| self.wrong("cmdno must be a number that `history` shows"))?;
                Command::Redo { number }
            }
            "removewatches" => {
                let kinds = [
                    ("c", WatchKinds::Children),
                    ("d", WatchKinds::Data),
                    ("p", WatchKinds::Persistent),
                    ("r", WatchKinds::PersistentRecursive),
                    ("a", WatchKinds::Any),
                ];
                let kinds = kinds
                    .into_iter()
                    .find(|(name, _)| flag(name))
                    .map_or(WatchKinds::Any, |(_, kind)| kind);
                Command::RemoveWatches {
                    path: self.word(0, "path")?,
                    kinds,
                }
            }
            "set" => {
                let (path, text) = (self.word(0, "path")?, self.word(1, "data")?);
                let data = if flag("b") {
                    let not_base64 = |error| self.wrong(&format!("the data is not base64: {error}"));
                    BASE64.decode(&text).map_err(not_base64)?
                } else {
                    text.into_bytes()
                };
                Command::Set {
                    path,
                    data,
                    version: self.number("v")?,
                    stat: flag("s"),
                }
            }
            "setAcl" => Command::SetAcl {
                path: self.word(0, "path")?,
                acl: self.word(1, "acl")?,
                version: self.number("v")?,
                recursive: flag("R"),
                stat: flag("s"),
            },
            "setquota" => {
                let limit = self
                    .one_of(&Limit::ALL)?
                    .ok_or_else(|| self.wrong("one of -n, -b, -N, -B is needed"))?;
                let value: i64 = self
                    .number(limit.option())?
                    .ok_or_else(|| self.wrong("a limit needs a value"))?;
                if value < limit.least() {
                    let least = limit.least();
                    return Err(self.wrong(&format!("-{} must be at least {least}", limit.option())));
                }
                Command::SetQuota {
                    path: self.word(0, "path")?,
                    limit,
                    value,
                }
            }
            "stat" => Command::Stat {
                path: self.word(0, "path")?,
                watch: self.watch(),
            },
            "sync" => Command::Sync {
                path: self.word(0, "path")?,
            },
            "tree" => Command::Tree {
                path: self.word(0, "path")?,
                depth: self.number("d")?,
            },
            "version" => Command::Version,
            "watch" => {
                let count: Option<u64> = self.number("n")?;
                if count == Some(0) {
                    return Err(self.wrong("-n must be at least 1"));
                }
                Command::Watch {
                    path: self.word(0, "path")?,
                    data: flag("d"),
                    count,
                }
            }
            "whoami" => Command::WhoAmI,
            other => unreachable!("{other} is listed as a command and not read"),
        };
        Ok(command)
    }

    fn create(&self) -> Outcome<Command> {
        let ttl_ms: Option<u64> = self.number("t")?;
        let kind = NewZnode {
            ephemeral: self.given.has("e"),
            sequential: self.given.has("s"),
            container: self.given.has("c"),
            ttl_ms,
        };
        if kind.container && (kind.ephemeral || kind.sequential) {
            return Err(self.wrong(
                "-c cannot be combined with -s or -e. Containers cannot be ephemeral or sequential.",
            ));
        }
        if ttl_ms.is_some() && kind.ephemeral {
            return Err(self.wrong("TTLs cannot be used with Ephemeral znodes"));
        }
        if ttl_ms.is_some() && kind.container {
            return Err(self.wrong("TTLs cannot be used with Container znodes"));
        }
        if ttl_ms.is_some_and(|ms| ms == 0 || ms > TTL_MS_MAX.unsigned_abs()) {
            return Err(self.wrong(&format!("-t must be 1 to {TTL_MS_MAX} ms")));
        }
        Ok(Command::Create {
            path: self.word(0, "path")?,
            kind,
            data: self.optional(1).unwrap_or_default().into_bytes(),
            acl: self.optional(2),
        })
    }

    fn reconfig(&self) -> Outcome<Command> {
        let list = |name| -> Vec<String> {
            let text = self.given.value(name).unwrap_or_default().to_lowercase();
            text.split(',')
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let given = |name: &str| self.given.value(name).is_some();
        let changes = given("add") || given("remove");
        let change = match (self.given.value("file"), given("members"), changes) {
            (None, false, false) => {
                return Err(self.wrong("what to change is missing: -add, -remove, -members or -file"));
            }
            (None, false, true) => Membership::Change {
                joining: list("add"),
                leaving: list("remove"),
            },
            (None, true, false) => Membership::New(list("members")),
            (Some(file), false, false) => Membership::NewFromFile(file.to_owned()),
            _ => return Err(self.wrong("-file, -members, and -add with -remove exclude one another")),
        };
        let version = match self.given.value("v") {
            None => None,
            Some(text) => {
                let version = i64::from_str_radix(text.trim_start_matches("0x"), 16);
                Some(
                    version
                        .map_err(|_| self.wrong("-v must be a version as `config` shows it (hexadecimal)"))?,
                )
            }
        };
        Ok(Command::Reconfig {
            change,
            version,
            stat: self.given.has("s"),
        })
    }

    fn wrong(&self, message: &str) -> Failure {
        Failure::usage(message, &self.usage)
    }

    fn word(&self, index: usize, what: &str) -> Outcome<String> {
        self.optional(index)
            .ok_or_else(|| self.wrong(&format!("{what} is missing")))
    }

    fn optional(&self, index: usize) -> Option<String> {
        self.given.words.get(index).cloned()
    }

    /// `-w`, or the older form: any word behind the path.
    fn watch(&self) -> bool {
        self.given.has("w") || self.given.words.len() > 1
    }

    fn if_exists(&self) -> Outcome<IfExists> {
        match (self.given.has("o"), self.given.has("k")) {
            (false, false) => Ok(IfExists::Fail),
            (true, false) => Ok(IfExists::Overwrite),
            (false, true) => Ok(IfExists::Keep),
            (true, true) => Err(self.wrong("-o and -k exclude one another")),
        }
    }

    fn one_of(&self, limits: &[Limit]) -> Outcome<Option<Limit>> {
        let mut given = limits
            .iter()
            .filter(|limit| self.given.has(limit.option()) || self.given.value(limit.option()).is_some());
        match (given.next(), given.next()) {
            (limit, None) => Ok(limit.copied()),
            _ => Err(self.wrong("-n, -b, -N and -B exclude one another")),
        }
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Outcome<Option<T>> {
        match self.given.value(name) {
            None => Ok(None),
            Some(text) => match text.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(self.wrong(&format!("-{name} must be followed by a number it can be"))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(line: &str) -> Outcome<Command> {
        parse(&crate::words::split(line).unwrap())
    }

    fn refused(line: &str) -> String {
        read(line).unwrap_err().message
    }

    #[test]
    fn options_may_stand_anywhere() {
        let get = Command::Get {
            path: "/a".into(),
            form: DataForm::Base64,
            watch: true,
            stat: true,
        };
        for line in ["get -s -w -b /a", "get /a -swb", "get -sw /a -b"] {
            assert_eq!(read(line).unwrap(), get, "{line}");
        }
    }

    #[test]
    fn creates_of_every_kind_are_read() {
        let create =
            |ephemeral, sequential, container, ttl_ms, data: &str, acl: Option<&str>| Command::Create {
                path: "/a".into(),
                kind: NewZnode {
                    ephemeral,
                    sequential,
                    container,
                    ttl_ms,
                },
                data: data.into(),
                acl: acl.map(str::to_owned),
            };
        assert_eq!(
            read("create /a").unwrap(),
            create(false, false, false, None, "", None)
        );
        assert_eq!(
            read("create -es /a 'x y'").unwrap(),
            create(true, true, false, None, "x y", None)
        );
        assert_eq!(
            read("create -t 5 -s /a x world:anyone:r").unwrap(),
            create(false, true, false, Some(5), "x", Some("world:anyone:r"))
        );
        assert_eq!(
            read("create /a -- -x").unwrap(),
            create(false, false, false, None, "-x", None)
        );
        assert!(refused("create -c -e /a").contains("Containers cannot be ephemeral"));
        assert!(refused("create -t 5 -e /a").contains("TTLs cannot be used with Ephemeral"));
        assert!(refused("create -t 0 /a").contains("-t must be 1 to 1099511627775"));
        assert!(refused("create -t 1099511627776 /a").contains("-t must be 1 to"));
        assert!(refused("create -t x /a").contains("-t must be followed by a number"));
    }

    #[test]
    fn what_is_missing_or_too_much_is_named_with_the_usage() {
        let failure = read("set /a").unwrap_err();
        assert_eq!(failure.message, "data is missing");
        assert_eq!(
            failure.hint.as_deref(),
            Some("usage: set [-s] [-v version] [-b] path data")
        );
        assert_eq!(failure.exit_code, 1);
        assert_eq!(refused("get -q /a"), "Unrecognized option: -q");
        assert_eq!(refused("delete /a -v"), "Missing argument for option: v");
        assert_eq!(refused("setquota /a"), "one of -n, -b, -N, -B is needed");
        assert_eq!(
            refused("setquota -n 1 -b 1 /a"),
            "-n, -b, -N and -B exclude one another"
        );
        assert_eq!(refused("setquota -n 0 /a"), "-n must be at least 1");
        assert_eq!(refused("cp -o -k /a /b"), "-o and -k exclude one another");
        assert!(refused("reconfig -add a -members b").contains("exclude one another"));
        assert!(refused("set -b /a ?").starts_with("the data is not base64"));
        assert_eq!(
            read("set -b /a AP8=").unwrap(),
            Command::Set {
                path: "/a".into(),
                data: vec![0, 255],
                version: None,
                stat: false
            }
        );
    }

    #[test]
    fn an_unknown_command_ends_with_127_and_a_near_one_is_named() {
        let failure = read("getacl /a").unwrap_err();
        assert_eq!(
            (failure.message.as_str(), failure.exit_code),
            ("Command not found: getacl", 127)
        );
        assert!(failure.hint.unwrap().contains("`getAcl`"));
    }

    #[test]
    fn commands_are_listed_once_in_order_and_every_one_can_be_read() {
        assert!(COMMANDS.is_sorted_by_key(|command| command.name));
        for command in COMMANDS {
            let line = format!("{} a b c", command.name);
            // Wrong words are refused with a usage; an unlisted arm would panic.
            if let Err(failure) = read(&line) {
                assert_ne!(failure.exit_code, 127, "{line}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_words_make_the_parser_panic(command in 0..COMMANDS.len(), words in proptest::collection::vec("-?-?[a-zA-Z0-9/=:,]{0,8}", 0..6)) {
            let mut all = vec![COMMANDS[command].name.to_owned()];
            all.extend(words);
            let _ = parse(&all);
        }
    }
}
