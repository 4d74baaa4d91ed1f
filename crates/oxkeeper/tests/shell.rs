//! `oxkeeper shell` and `oxkeeper status` from outside: one command, lines of stdin, sessions that end, servers that are
//! killed. The interactive form and Java's servers are in interop/shell.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use oxkeeper_testkit::{Client, CreateMode, Ensemble, Fault, Frame, OpCode, Proxy, Server};

/// How long anything may take on a busy machine before a test gives up.
const DEADLINE: Duration = Duration::from_secs(60);

fn program(command: &str, servers: &str, words: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_oxkeeper"));
    program
        .args([command, "-server", servers])
        .args(words)
        .env_remove("OXKEEPER_LOG")
        .stdin(Stdio::null());
    program
}

fn run(mut program: Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = program.output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
    (status.code(), text(stdout), text(stderr))
}

/// Runs one command, which must succeed, and returns what it printed.
fn done(servers: &str, words: &[&str]) -> String {
    let (code, stdout, stderr) = run(program("shell", servers, words));
    assert_eq!(code, Some(0), "{words:?}: {stdout}{stderr}");
    stdout
}

/// Runs one command, which must fail, and returns its exit code and what it said.
fn refused(servers: &str, words: &[&str]) -> (i32, String) {
    let (code, stdout, stderr) = run(program("shell", servers, words));
    assert_eq!(stdout, "", "{words:?}: {stderr}");
    (code.expect("it ended by itself"), stderr)
}

/// A shell that reads lines; what it prints, both ways, comes as lines.
struct Session {
    child: Child,
    lines: Receiver<String>,
}

impl Session {
    fn start(servers: &str, words: &[&str]) -> Session {
        let mut child = program("shell", servers, words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let other = sender.clone();
        std::thread::spawn(move || {
            stdout
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        std::thread::spawn(move || {
            stderr
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| other.send(line))
        });
        Session { child, lines }
    }

    fn type_line(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("stdin is piped");
        writeln!(stdin, "{line}").expect("the shell reads");
    }

    /// The next line that `wanted` takes; the lines before it are skipped.
    fn wait<T>(&mut self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        let mut seen = Vec::new();
        while let Ok(line) = self
            .lines
            .recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            if let Some(found) = wanted(&line) {
                return found;
            }
            seen.push(line);
        }
        panic!("{what} was not printed: {seen:#?}");
    }

    fn wait_for(&mut self, wanted: &str) {
        self.wait(wanted, |line| line.contains(wanted).then_some(()));
    }

    /// Ends its input and returns its exit code.
    fn end(mut self) -> Option<i32> {
        drop(self.child.stdin.take());
        self.child.wait().expect("it is our child").code()
    }
}

#[test]
fn one_command_prints_its_result_and_ends_with_the_code_of_zkcli() {
    let server = Server::start().expect("a server starts");
    let at = &server.connect_string();
    assert_eq!(done(at, &["create", "/app", "two words"]), "Created /app\n");
    assert_eq!(
        done(at, &["create", "-s", "/app/n-"]),
        "Created /app/n-0000000000\n"
    );
    assert_eq!(done(at, &["get", "/app"]), "two words\n");
    assert_eq!(done(at, &["set", "/app", "new"]), "");
    assert_eq!(done(at, &["ls", "/"]), "[app, zookeeper]\n");
    assert!(done(at, &["get", "-s", "/app"]).contains("\ndataVersion = 1\n"));
    let (code, said) = refused(at, &["delete", "/app"]);
    assert_eq!(code, 1);
    assert!(
        said.contains("Node not empty: /app\nhint: `deleteall /app`"),
        "{said}"
    );
    assert_eq!(refused(at, &["get", "/gone"]).0, 1);
    assert_eq!(refused(at, &["no-such-command"]).0, 127);
    assert_eq!(refused(at, &["-no-such-option"]).0, 2);
    assert_eq!(done(at, &["deleteall", "/app"]), "");
    assert!(server.sessions().is_empty(), "each command ended its session");
}

#[test]
fn a_chroot_hides_the_root_and_with_it_quotas() {
    let server = Server::start().expect("a server starts");
    let at = &server.connect_string();
    done(at, &["create", "/app"]);
    let inside = &format!("{at}/app");
    assert_eq!(done(inside, &["create", "/in", "x"]), "Created /in\n");
    assert_eq!(done(at, &["get", "/app/in"]), "x\n");
    let (code, said) = refused(inside, &["setquota", "-n", "5", "/in"]);
    assert!(code == 1 && said.contains("`connect` without /app"), "{said}");
    assert_eq!(
        done(inside, &["ls", "-R", "/"]),
        "/\n/in\n",
        "nothing was made there"
    );
}

#[test]
fn a_chroot_that_is_missing_is_told_of_and_made_as_its_root() {
    let server = Server::start().expect("a server starts");
    let at = &server.connect_string();
    let (app, below) = (&format!("{at}/app"), &format!("{at}/app/below/it"));
    let (code, said) = refused(app, &["ls", "/"]);
    assert!(
        code == 1 && said.contains("the chroot of this session does not exist; `create /`"),
        "{said}"
    );
    let (code, said) = refused(below, &["create", "/"]);
    assert!(
        code == 1 && said.contains("the parent of the chroot /app/below/it is missing"),
        "{said}"
    );
    assert_eq!(done(app, &["create", "/", "x"]), "Created /\n");
    assert_eq!(done(at, &["get", "/app"]), "x\n");
    for (servers, words) in [(app, &["create", "/"]), (at, &["create", "/"])] {
        let (code, said) = refused(servers, words);
        assert!(code == 1 && said.contains("Node already exists: /\n"), "{said}");
    }
    let (code, said) = refused(at, &["create", "-s", "/"]);
    assert!(
        code == 1 && said.contains("a number alone cannot be a name below the root"),
        "{said}"
    );
}

#[test]
fn json_is_one_object_per_line_for_results_and_errors() {
    let server = Server::start().expect("a server starts");
    let at = &server.connect_string();
    assert_eq!(
        done(at, &["--json", "create", "/a", "x"]),
        "{\"created\":\"/a\"}\n"
    );
    assert_eq!(
        done(at, &["--json", "get", "/a"]),
        "{\"data\":\"x\",\"path\":\"/a\"}\n"
    );
    assert_eq!(done(at, &["--json", "delete", "/a"]), "{\"deleted\":\"/a\"}\n");
    let (code, said) = refused(at, &["--json", "get", "/a"]);
    assert_eq!(code, 1);
    assert!(
        said.starts_with("{\"error\":{\"code\":\"NoNode\",") && said.lines().count() == 1,
        "{said}"
    );
}

#[test]
fn what_a_server_sends_reaches_no_terminal_unescaped() {
    let server = Server::start().expect("a server starts");
    let mut client = Client::connect(server.address(), 10_000).expect("it connects");
    // U+202E turns the text behind it around; no rule of paths forbids it.
    client
        .create("/\u{202e}name", b"\x1b]0;title\x07\xff", CreateMode::Persistent)
        .expect("it is created");
    let at = &server.connect_string();
    assert_eq!(done(at, &["ls", "/"]), "[zookeeper, \\u{202e}name]\n");
    assert_eq!(done(at, &["get", "/\u{202e}name"]), "\\x1b]0;title\\x07\\xff\n");
    assert!(!done(at, &["--json", "ls", "/"]).contains('\u{202e}'));
    assert!(!done(at, &["tree", "/"]).contains('\u{202e}'));
    // Nor what comes in a file, or in lines that are run again.
    let directory = tempfile::tempdir().expect("a directory can be made");
    let file = directory.path().join("exported");
    let lines = "{\"format\":\"oxkeeper-export\",\"root\":\"/a\",\"version\":1}\n{\"znodes\":\"\u{9b}2J\"}\n";
    std::fs::write(&file, lines).expect("it is written");
    let (_, said) = refused(at, &["import", file.to_str().expect("its path is Unicode"), "/a"]);
    assert!(
        said.contains("the end mark counts \"\\x9b2J\" znodes"),
        "{said:?}"
    );
    let mut shell = Session::start(at, &[]);
    shell.type_line("get /\u{9b}2J");
    shell.wait_for("Invalid path");
    shell.type_line("redo 0");
    let again = shell.wait("the line that is run again", |line| {
        line.starts_with("get ").then(|| line.to_owned())
    });
    assert_eq!(again, "get /\\x9b2J");
}

#[test]
fn a_dead_server_is_told_of_at_once_unless_one_waits() {
    let server = Server::start().expect("a server starts");
    server.kill().expect("it dies");
    let at = &server.connect_string();
    let begun = Instant::now();
    let (code, said) = refused(at, &["get", "/"]);
    assert_eq!(code, 1);
    assert!(
        said.contains("ConnectionLoss") && said.contains("hint: is it running"),
        "{said}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "it does not wait for the session timeout"
    );
    assert!(!said.contains("`connect`"), "it is one command: {said}");
    let mut shell = Session::start(at, &["-timeout", "3000"]);
    shell.type_line("ls /");
    shell.wait_for("asks each; `connect` begins anew");
    let mut waiting = program("shell", at, &["-waitforconnection", "ls", "/"])
        .stdout(Stdio::null())
        .spawn()
        .expect("the program starts");
    server.restart().expect("it starts again");
    assert!(waiting.wait().expect("it is our child").success());
    shell.type_line("connect");
    shell.type_line("ls /");
    shell.wait_for("[zookeeper]");
    assert_eq!(shell.end(), Some(0));
}

#[test]
fn lines_share_a_session_and_an_expired_one_is_told_of() {
    let server = Server::start().expect("a server starts");
    let mut shell = Session::start(&server.connect_string(), &[]);
    shell.type_line("create -e /mine x");
    shell.wait_for("Created /mine");
    shell.type_line("addWatch /");
    shell.type_line("create /seen");
    shell.wait_for("type:NodeCreated path:/seen");
    let sessions = server.sessions();
    assert_eq!(sessions.len(), 1);
    assert!(server.expire_session(sessions[0]).expect("it can be expired"));
    shell.wait_for("WatchedEvent state:Expired");
    shell.type_line("get /mine");
    shell.wait_for("Session expired");
    shell.wait_for("hint: its ephemerals and watches are gone");
    shell.type_line("connect");
    shell.type_line("get /mine");
    shell.wait_for("Node does not exist: /mine");
    shell.type_line("ls /");
    shell.wait_for("[seen, zookeeper]");
    assert_eq!(shell.end(), Some(0));
}

#[test]
fn watches_of_every_kind_outlive_a_lost_connection() {
    let server = Server::start().expect("a server starts");
    let mut client = Client::connect(server.address(), 30_000).expect("it connects");
    for path in ["/data", "/deep", "/near", "/children"] {
        client
            .create(path, b"", CreateMode::Persistent)
            .expect("it is created");
    }
    let mut shell = Session::start(&server.connect_string(), &[]);
    shell.type_line("get -w /data");
    shell.type_line("ls -w /children");
    shell.type_line("addWatch /deep");
    shell.type_line("addWatch -m PERSISTENT /near");
    shell.type_line("whoami");
    shell.wait_for("Auth scheme");
    for round in 0..2 {
        let session = server
            .sessions()
            .into_iter()
            .find(|id| *id != client.session().id)
            .expect("the shell's");
        assert!(server.disconnect_session(session), "round {round}");
        shell.wait_for("state:Disconnected");
        shell.wait_for("state:SyncConnected");
        // Requests of a session are done in order, so this answer tells that all watches were set again.
        shell.type_line("whoami");
        shell.wait_for("Auth scheme");
        let below = format!("/deep/{round}");
        client
            .create(&below, b"", CreateMode::Persistent)
            .expect("it is created");
        shell.wait_for(&format!("type:NodeCreated path:{below} "));
        client.set("/near", b"x", -1).expect("it is set");
        shell.wait_for("type:NodeDataChanged path:/near ");
    }
    client.set("/data", b"x", -1).expect("it is set");
    shell.wait_for("type:NodeDataChanged path:/data ");
    client
        .create("/children/one", b"", CreateMode::Persistent)
        .expect("it is created");
    shell.wait_for("type:NodeChildrenChanged path:/children ");
    assert_eq!(shell.end(), Some(0));
}

#[test]
fn a_session_goes_on_while_the_leader_is_killed() {
    let ensemble = Ensemble::start(3).expect("an ensemble starts");
    let at = &ensemble.connect_string();
    let mut shell = Session::start(at, &[]);
    shell.type_line("create -e /alive");
    shell.wait_for("Created /alive");
    shell.type_line("addWatch /");
    for number in 0..60 {
        if number == 20 {
            let leader = ensemble.wait_for_leader().expect("there is a leader");
            ensemble.server(leader).kill().expect("it dies");
        }
        shell.type_line(&format!("create /n{number:02}"));
        let created = shell.wait("an outcome", |line| {
            if line.starts_with("Created ") {
                Some(true)
            } else {
                line.contains("ConnectionLoss").then_some(false)
            }
        });
        if !created {
            // It may be done or not; the shell says so, and one looks.
            shell.wait_for("may or may not be done");
            shell.type_line(&format!("create /n{number:02}"));
            shell.wait("the second outcome", |line| {
                (line.starts_with("Created ") || line.contains("Node already exists")).then_some(())
            });
        }
    }
    shell.type_line("getEphemerals");
    shell.wait_for("[/alive]");
    // The watch is there with the new server, too.
    shell.type_line("create /last");
    shell.wait_for("type:NodeCreated path:/last ");
    assert_eq!(shell.end(), Some(0));
    let listed = done(at, &["-waitforconnection", "ls", "/"]);
    let all: Vec<String> = (0..60).map(|number| format!("n{number:02}")).collect();
    assert_eq!(listed, format!("[last, {}, zookeeper]\n", all.join(", ")));
}

#[test]
fn an_import_that_a_leader_s_death_breaks_goes_on_where_it_was() {
    const COUNT: usize = 1500;
    let source = Server::start().expect("a server starts");
    let mut client = Client::connect(source.address(), 30_000).expect("it connects");
    client
        .create("/tree", b"root", CreateMode::Persistent)
        .expect("it is created");
    for number in 0..COUNT {
        let data = vec![u8::try_from(number % 256).expect("below 256"); 200];
        client
            .create(&format!("/tree/{number:04}"), &data, CreateMode::Persistent)
            .expect("it is created");
    }
    let directory = tempfile::tempdir().expect("a directory can be made");
    let file = directory.path().join("exported");
    let file = file.to_str().expect("its path is Unicode");
    let told = done(&source.connect_string(), &["export", file, "/tree"]);
    assert_eq!(
        told,
        format!("exported {} znodes from /tree to {file}\n", COUNT + 1)
    );

    let ensemble = Ensemble::start(3).expect("an ensemble starts");
    let at = &ensemble.connect_string();
    let mut import = program("shell", at, &["import", "-k", file, "/copy"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let leader = ensemble.wait_for_leader().expect("there is a leader");
    let mut look = Client::connect(ensemble.server(leader).address(), 30_000).expect("it connects");
    let end = Instant::now() + DEADLINE;
    while look.exists("/copy/0100", false).expect("it answers").is_none() {
        assert!(Instant::now() < end, "the import does nothing");
    }
    ensemble.server(leader).kill().expect("it dies");
    import.wait().expect("it is our child");
    // Whether it had to stop depends on which server it talked to; once more, it does the rest.
    let end = Instant::now() + DEADLINE;
    loop {
        let (code, stdout, stderr) = run(program(
            "shell",
            at,
            &["-waitforconnection", "import", "-k", file, "/copy"],
        ));
        if code == Some(0) {
            assert!(stdout.contains("existed and were kept"), "{stdout}");
            break;
        }
        assert!(Instant::now() < end, "it does not succeed: {stderr}");
    }
    let mut exports = Vec::new();
    for (servers, path) in [(&source.connect_string(), "/tree"), (at, "/copy")] {
        let lines = done(servers, &["-waitforconnection", "export", "-", path]);
        // The head names the root.
        exports.push(lines.split_once('\n').expect("it has lines").1.to_owned());
    }
    assert!(exports[0] == exports[1], "the copy is not the source");
    assert_eq!(exports[0].lines().count(), COUNT + 2);
}

#[test]
fn what_only_reads_goes_on_after_a_cut_connection() {
    let server = Server::start().expect("a server starts");
    let mut client = Client::connect(server.address(), 30_000).expect("it connects");
    client
        .create("/tree", b"", CreateMode::Persistent)
        .expect("it is created");
    for number in 0..200 {
        client
            .create(&format!("/tree/{number:03}"), b"x", CreateMode::Persistent)
            .expect("it is created");
    }
    let proxy = Proxy::start(server.address()).expect("a proxy starts");
    let (direct, cut) = (&server.connect_string(), &proxy.connect_string());
    let commands: [&[&str]; 3] = [
        &["ls", "-R", "/tree"],
        &["tree", "/tree"],
        &["export", "-", "/tree"],
    ];
    let operations = [OpCode::GetChildren2, OpCode::GetChildren2, OpCode::GetAcl];
    for (words, op) in commands.into_iter().zip(operations) {
        let mut seen = 0;
        let in_the_middle = move |frame: &Frame<'_>| {
            seen += usize::from(frame.is_reply(op));
            seen == 70
        };
        let hits = proxy.fault_once(in_the_middle, Fault::CutBefore);
        assert_eq!(done(cut, words), done(direct, words), "{words:?}");
        assert_eq!(hits.count(), 1, "{words:?} was cut off once");
    }
}

/// Lines that are typed, and what the last line of the answer has. `#` is the root of all of them.
const EVERY_COMMAND: &[(&str, &str)] = &[
    ("create # root", "Created #"),
    ("create -s #/n-", "Created #/n-00000000"),
    ("create -e #/mine x", "Created #/mine"),
    ("create -c #/box", "Created #/box"),
    ("set #/mine y", ""),
    ("get #/mine", "y"),
    ("get -s #", "numChildren = 3"),
    ("stat #/mine", "numChildren = 0"),
    ("ls #", "[box, mine, n-00000000"),
    ("ls -R #/mine", "#/mine"),
    ("getEphemerals #", "[#/mine]"),
    ("getAllChildrenNumber #", "3"),
    ("setAcl #/box world:anyone:cdrwa", ""),
    ("setAcl -R # world:anyone:cdrwa", ""),
    ("getAcl #", ": cdrwa"),
    ("setquota -n 1000 #/box", ""),
    ("listquota #/box", "Output stat for #/box count=1,bytes=0"),
    ("delquota #/box", ""),
    ("addauth digest me:secret", ""),
    ("whoami", "digest: me"),
    ("sync #", "Sync is OK"),
    ("config", "server.1=127.0.0.1:"),
    ("reconfig -remove 9", "Reconfig is disabled"),
    ("tree #/mine", "#/mine (1 bytes, ephemeral)"),
    ("cp #/box #/copy", "copied 1 znodes to #/copy"),
    (
        "export -f DIR/file #/box",
        "exported 1 znodes from #/box to DIR/file",
    ),
    ("import DIR/file #/import", "imported 1 znodes to #/import"),
    ("addWatch #/box", ""),
    ("set #/box z", "type:NodeDataChanged path:#/box "),
    ("removewatches #/box", "type:PersistentWatchRemoved path:#/box "),
    ("get -w #/copy", ""),
    ("delete #/copy", "type:NodeDeleted path:#/copy "),
    ("delete -v 7 #/mine", "version No is not valid : #/mine"),
    ("deleteall #", ""),
    ("get #", "Node does not exist: #"),
    ("version", "Oxkeeper CLI version: "),
    ("printwatches", "printwatches is on"),
];

#[test]
fn every_command_works_before_and_after_the_leader_is_killed() {
    let ensemble = Ensemble::start(3).expect("an ensemble starts");
    let directory = tempfile::tempdir().expect("a directory can be made");
    let directory = directory.path().to_str().expect("its path is Unicode");
    let mut shell = Session::start(&ensemble.connect_string(), &[]);
    shell.wait_for("state:SyncConnected");
    for (round, root) in ["/before", "/after"].into_iter().enumerate() {
        if round == 1 {
            let leader = ensemble.wait_for_leader().expect("there is a leader");
            ensemble.server(leader).kill().expect("it dies");
            shell.wait_for("state:Disconnected");
            shell.wait_for("state:SyncConnected");
        }
        for (line, answer) in EVERY_COMMAND {
            let put = |text: &str| text.replace('#', root).replace("DIR", directory);
            // Commands run one after the other; what one of them prints to either stream comes before the marks there.
            for line in [&put(line), "help quit", "no-such-command"] {
                shell.type_line(line);
            }
            let (mut printed, wanted, mut marks) = (Vec::new(), put(answer), 0);
            while marks < 2 {
                let line = shell.wait("a line", |line| Some(line.to_owned()));
                let is_mark = line.starts_with("\tend the session and the shell")
                    || line == "hint: `help` lists the commands";
                marks += usize::from(is_mark);
                printed.push(line);
            }
            if wanted.is_empty() {
                let failed = printed.iter().filter(|line| line.starts_with("hint: ")).count() > 1;
                assert!(!failed, "{line}: {printed:#?}");
            } else if !printed.iter().any(|line| line.contains(&wanted)) {
                // Events are printed when they come.
                assert!(wanted.starts_with("type:"), "{line}: {printed:#?}");
                shell.wait_for(&wanted);
            }
        }
    }
    shell.type_line("quit");
    assert_eq!(shell.end(), Some(127), "of the command before it, as zkCli");
}

/// An ensemble whose clients come by proxies, with the subtree `/tree` of so many znodes and one.
struct Fronted {
    ensemble: Ensemble,
    proxies: Vec<Proxy>,
}

impl Fronted {
    const CHILDREN: usize = 300;

    fn start() -> Fronted {
        let ensemble = Ensemble::start(3).expect("an ensemble starts");
        let servers = ensemble.servers().iter();
        let proxies = servers
            .map(|server| Proxy::start(server.address()).expect("a proxy starts"))
            .collect();
        let mut client = Client::connect(ensemble.server(1).address(), 30_000).expect("it connects");
        client
            .create("/tree", b"root", CreateMode::Persistent)
            .expect("it is created");
        for number in 0..Fronted::CHILDREN {
            client
                .create(&format!("/tree/{number:04}"), b"new", CreateMode::Persistent)
                .expect("it is created");
        }
        Fronted { ensemble, proxies }
    }

    fn direct(&self) -> String {
        self.ensemble.connect_string()
    }

    /// Runs one command, and kills the leader when the last of so many requests for `op` is under way. Gives its
    /// exit code and what it printed, when there is a leader again and all three serve.
    fn killed_at(&self, op: OpCode, requests: usize, words: &[&str]) -> (Option<i32>, String, String) {
        let addresses: Vec<String> = self.proxies.iter().map(Proxy::connect_string).collect();
        let stall = |proxy: &Proxy| {
            let mut seen = 0;
            let matches = move |frame: &Frame<'_>| {
                seen += usize::from(frame.is_request(op));
                seen == requests
            };
            proxy.fault_once(matches, Fault::Stall)
        };
        let stalled: Vec<_> = self.proxies.iter().map(stall).collect();
        let child = program("shell", &addresses.join(","), words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let end = Instant::now() + DEADLINE;
        while stalled.iter().all(|hits| hits.count() == 0) {
            assert!(Instant::now() < end, "{words:?} does not come so far");
            std::thread::sleep(Duration::from_millis(1));
        }
        let leader = self.ensemble.wait_for_leader().expect("there is a leader");
        self.ensemble.server(leader).kill().expect("it dies");
        self.ensemble.wait_for_leader().expect("there is another");
        for proxy in &self.proxies {
            proxy.clear_faults();
            proxy.heal();
        }
        let Output {
            status,
            stdout,
            stderr,
        } = child.wait_with_output().expect("it is our child");
        self.ensemble.server(leader).restart().expect("it starts again");
        self.ensemble.wait_for_leader().expect("there is a leader");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
        (status.code(), text(stdout), text(stderr))
    }
}

#[test]
fn commands_over_a_subtree_go_on_when_the_leader_dies_in_the_middle() {
    let fronted = Fronted::start();
    let at = &fronted.direct();
    let count = Fronted::CHILDREN + 1;
    let directory = tempfile::tempdir().expect("a directory can be made");
    let file = directory.path().join("exported");
    let file = file.to_str().expect("its path is Unicode");
    let body = |path: &str| {
        let lines = done(at, &["-waitforconnection", "export", "-", path]);
        // The head names the root.
        lines.split_once('\n').expect("it has lines").1.to_owned()
    };
    let whole = |what: &str, outcome: (Option<i32>, String, String)| {
        assert_eq!(outcome.0, Some(0), "{what}: {outcome:?}");
        outcome.1
    };

    // What reads.
    let listed = whole(
        "ls -R",
        fronted.killed_at(OpCode::GetChildren2, 100, &["ls", "-R", "/tree"]),
    );
    assert_eq!(listed, done(at, &["-waitforconnection", "ls", "-R", "/tree"]));
    let drawn = whole(
        "tree",
        fronted.killed_at(OpCode::GetChildren2, 100, &["tree", "/tree"]),
    );
    assert_eq!(drawn.lines().count(), count);
    let told = whole(
        "export",
        fronted.killed_at(OpCode::GetAcl, 100, &["export", file, "/tree"]),
    );
    assert_eq!(told, format!("exported {count} znodes from /tree to {file}\n"));

    // What writes, and may be done twice.
    let import = ["import", "-k", file, "/copy"];
    let told = whole("import -k", fronted.killed_at(OpCode::Create2, 100, &import));
    assert!(told.starts_with("imported "), "{told}");
    assert_eq!(body("/copy"), body("/tree"));
    done(
        at,
        &["-waitforconnection", "setAcl", "-R", "/copy", "world:anyone:rwa"],
    );
    done(at, &["set", "/copy/0299", "old"]);
    done(at, &["set", "/copy/0000", "old"]);
    whole(
        "import -o",
        fronted.killed_at(OpCode::SetData, 100, &["import", "-o", file, "/copy"]),
    );
    assert_eq!(body("/copy"), body("/tree"), "all is overwritten");
    let acl = ["setAcl", "-R", "/copy", "world:anyone:cdrw"];
    whole("setAcl -R", fronted.killed_at(OpCode::SetAcl, 100, &acl));
    assert_eq!(body("/copy").matches("\"perms\":\"cdrw\"").count(), count);
    let delete = ["deleteall", "/copy", "-b", "10"];
    assert_eq!(
        whole("deleteall", fronted.killed_at(OpCode::Multi, 10, &delete)),
        ""
    );
    assert_eq!(
        done(at, &["-waitforconnection", "ls", "/"]),
        "[tree, zookeeper]\n"
    );
}

#[test]
fn an_import_goes_on_when_parents_are_lost_with_their_connection_and_their_children_are_not() {
    let server = Server::start().expect("a server starts");
    let at = &server.connect_string();
    let mut client = Client::connect(server.address(), 30_000).expect("it connects");
    let mut path = String::new();
    for level in 0..30 {
        path = format!("{path}/{level}");
        client
            .create(&path, b"", CreateMode::Persistent)
            .expect("it is created");
    }
    let directory = tempfile::tempdir().expect("a directory can be made");
    let file = directory.path().join("exported");
    let file = file.to_str().expect("its path is Unicode");
    done(at, &["export", file, "/0"]);
    let proxy = Proxy::start(server.address()).expect("a proxy starts");
    let cut = &proxy.connect_string();
    // Some of the children still wait to be sent when the connection breaks. How many is a matter of time, and none
    // in every second round or so.
    for round in 0..20 {
        let copy = &format!("/copy-{round}");
        let parent = format!("{copy}/1");
        let is_parent = move |frame: &Frame<'_>| frame.is_create() && frame.path == Some(&parent);
        let lost = proxy.fault_once(is_parent, Fault::CutBefore);
        let told = done(cut, &["import", "-k", file, copy]);
        assert!(told.starts_with("imported "), "{told}");
        assert_eq!(lost.count(), 1);
        assert_eq!(done(at, &["getAllChildrenNumber", copy]), "29\n");
    }
}

#[test]
fn a_copy_that_may_not_be_done_twice_stops_where_the_leader_died_and_says_how_to_go_on() {
    let fronted = Fronted::start();
    let at = &fronted.direct();
    let (code, printed, said) = fronted.killed_at(OpCode::Create2, 100, &["cp", "/tree", "/copy"]);
    assert_eq!((code, printed.as_str()), (Some(1), ""), "{said}");
    assert!(said.contains("ConnectionLoss for /copy"), "{said}");
    assert!(
        said.contains(" znodes were made before; run it again with -k to go on"),
        "{said}"
    );
    let told = done(at, &["-waitforconnection", "cp", "-k", "/tree", "/copy"]);
    assert!(told.contains("existed and were kept"), "{told}");
    let below = |path: &str| done(at, &["getAllChildrenNumber", path]);
    assert_eq!(below("/copy"), below("/tree"));
}

#[test]
fn a_watched_path_is_watched_on_when_the_leader_dies() {
    let ensemble = Ensemble::start(3).expect("an ensemble starts");
    let at = &ensemble.connect_string();
    done(at, &["create", "/w"]);
    let mut watch = Session::start(at, &["watch", "-d", "-n", "3", "/w"]);
    watch.wait_for("watching /w");
    done(at, &["create", "/w/before", "1"]);
    watch.wait_for("type:NodeCreated path:/w/before ");
    watch.wait_for("1");
    let leader = ensemble.wait_for_leader().expect("there is a leader");
    ensemble.server(leader).kill().expect("it dies");
    watch.wait_for("the connection is lost; what happens until it is back is not seen");
    watch.wait_for("connected again");
    done(at, &["-waitforconnection", "create", "/w/after", "2"]);
    watch.wait_for("type:NodeCreated path:/w/after ");
    done(at, &["-waitforconnection", "delete", "/w/before"]);
    watch.wait_for("type:NodeDeleted path:/w/before ");
    assert_eq!(watch.end(), Some(0));
}

#[test]
fn an_import_reads_a_named_pipe_once() {
    let server = Server::start().expect("a server starts");
    let at = &server.connect_string();
    done(at, &["create", "/a", "x"]);
    let exported = done(at, &["export", "-", "/a"]);
    let mut import = program("shell", at, &["import", "/dev/stdin", "/b"]);
    let mut import = import
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = import.stdin.take().expect("stdin is piped");
    stdin.write_all(exported.as_bytes()).expect("a pipe holds it");
    drop(stdin);
    let Output { stdout, stderr, .. } = import.wait_with_output().expect("it is our child");
    let told = String::from_utf8_lossy(&stdout);
    assert_eq!(
        told,
        "imported 1 znodes to /b\n",
        "{}",
        String::from_utf8_lossy(&stderr)
    );
}

#[test]
fn deleteall_does_not_mind_what_somebody_else_deletes() {
    let server = Server::start().expect("a server starts");
    let mut client = Client::connect(server.address(), 30_000).expect("it connects");
    client
        .create("/tree", b"", CreateMode::Persistent)
        .expect("it is created");
    for number in 0..100 {
        client
            .create(&format!("/tree/{number:03}"), b"", CreateMode::Persistent)
            .expect("it is created");
    }
    let proxy = Proxy::start(server.address()).expect("a proxy starts");
    let stalled = proxy.fault_once(|frame| frame.is_request(OpCode::Multi), Fault::Stall);
    let mut shell = Session::start(&proxy.connect_string(), &["deleteall", "/tree"]);
    let end = Instant::now() + DEADLINE;
    while stalled.count() == 0 {
        assert!(Instant::now() < end, "nothing is deleted");
        std::thread::sleep(Duration::from_millis(1));
    }
    client.delete("/tree/050", -1).expect("it is deleted");
    proxy.heal();
    assert_eq!(shell.child.wait().expect("it is our child").code(), Some(0));
    assert_eq!(client.exists("/tree", false).expect("it answers"), None);
}

#[test]
fn words_too_many_are_refused_instead_of_ignored() {
    let server = Server::start().expect("a server starts");
    let at = &server.connect_string();
    done(at, &["create", "/a", "x"]);
    for words in [
        &["set", "/a", "two", "words"][..],
        &["delete", "/a", "7"],
        &["deleteall", "/a", "/b"],
    ] {
        let (code, said) = refused(at, words);
        assert!(
            code == 1 && said.starts_with("one word too many: "),
            "{words:?}: {said}"
        );
    }
    assert_eq!(done(at, &["get", "/a"]), "x\n", "nothing was done");
    assert!(done(at, &["ls", "-?"]).starts_with("ls [-s] [-w] [-R] path\n"));
}

#[test]
fn a_recursive_acl_is_set_wherever_it_may_be_and_the_rest_is_told() {
    let server = Server::start().expect("a server starts");
    let at = &server.connect_string();
    done(at, &["create", "/a"]);
    done(at, &["create", "/a/closed", "x", "world:anyone:r"]);
    done(at, &["create", "/a/open"]);
    let (code, said) = refused(at, &["setAcl", "-R", "/a", "world:anyone:ra"]);
    assert_eq!(code, 1);
    assert!(
        said.contains("Insufficient permission : /a/closed; 1 of 3 znodes refused the ACL, 2 have it"),
        "{said}"
    );
    assert_eq!(done(at, &["getAcl", "/a/open"]), "'world,'anyone\n: ra\n");
}

#[test]
fn an_overwritten_znode_gets_the_acl_before_the_data() {
    let server = Server::start().expect("a server starts");
    let at = &server.connect_string();
    done(at, &["create", "/from", "secret", "world:anyone:ra"]);
    done(at, &["create", "/to", "old"]);
    let (code, said) = refused(at, &["cp", "-o", "/from", "/to"]);
    assert!(
        code == 1 && said.contains("it has the new ACL, which does not let you write, and the old data"),
        "{said}"
    );
    assert_eq!(done(at, &["get", "/to"]), "old\n");
    assert_eq!(done(at, &["getAcl", "/to"]), "'world,'anyone\n: ra\n");
}

#[test]
fn a_reader_that_goes_away_is_no_failure_to_tell_of() {
    let server = Server::start().expect("a server starts");
    let mut client = Client::connect(server.address(), 30_000).expect("it connects");
    for number in 0..3 {
        client
            .create(&format!("/{number}"), &[b'x'; 200_000], CreateMode::Persistent)
            .expect("it is created");
    }
    let mut export = program("shell", &server.connect_string(), &["export", "-", "/"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // More is coming than a pipe holds.
    drop(export.stdout.take());
    let Output { status, stderr, .. } = export.wait_with_output().expect("it is our child");
    assert_eq!(
        (status.code(), String::from_utf8_lossy(&stderr).as_ref()),
        (Some(1), "")
    );
}

#[test]
fn dates_are_those_of_the_place() {
    let server = Server::start().expect("a server starts");
    let mut stat = program("shell", &server.connect_string(), &["stat", "/"]);
    stat.env("TZ", "CET-1CEST,M3.5.0,M10.5.0/3");
    let (_, printed, _) = run(stat);
    assert!(
        printed.contains("ctime = Thu Jan 01 01:00:00 CET 1970\n"),
        "{printed}"
    );
}

#[test]
fn status_shows_who_leads_and_who_is_gone() {
    let ensemble = Ensemble::start(3).expect("an ensemble starts");
    let at = &ensemble.connect_string();
    let (code, table, _) = run(program("status", at, &[]));
    assert_eq!(code, Some(0), "{table}");
    assert_eq!(table.matches("  follower  ").count(), 2, "{table}");
    assert_eq!(table.matches("  leader  ").count(), 1, "{table}");
    assert!(
        table.contains("3 of 3 servers serve, the leader is 127.0.0.1:"),
        "{table}"
    );
    let leader = ensemble.wait_for_leader().expect("there is a leader");
    let address = ensemble.server(leader).address().to_string();
    ensemble.server(leader).kill().expect("it dies");
    let (code, table, _) = run(program("status", at, &[]));
    assert_eq!(code, Some(1), "{table}");
    assert!(table.contains(&format!("{address}  no answer")), "{table}");
    let (code, _, said) = run(program("status", "", &["-what"]));
    assert_eq!(code, Some(2), "{said}");
}
