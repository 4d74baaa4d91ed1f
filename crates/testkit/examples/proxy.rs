//! What each fault of a proxy looks like to a client and to the server behind it, which may be any that speaks the
//! protocol: `cargo run -p oxkeeper-testkit --example proxy [HOST:PORT]`. Without an address it starts a server.
//! Ends with an error when something is otherwise.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use oxkeeper_testkit::{Client, ClientError, CreateMode, Fault, FrameKind, OpCode, Proxy, Server};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const TIMEOUT_MS: i32 = 10_000;
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> Result<()> {
    let (address, _server) = match std::env::args().nth(1) {
        Some(address) => (address, None),
        None => {
            let server = Server::start()?;
            (server.connect_string(), Some(server))
        }
    };
    let proxy = Proxy::start(&address)?;
    let mut direct = Client::connect(address.parse()?, TIMEOUT_MS)?;
    let (base, _) = direct.create("/proxy-", b"", CreateMode::PersistentSequential)?;

    let path = format!("{base}/before");
    let cut = proxy.fault_once(|frame| frame.is_create(), Fault::CutBefore);
    let mut client = Client::connect(proxy.address(), TIMEOUT_MS)?;
    let error = refusal(client.create(&path, b"", CreateMode::Persistent))?;
    check(
        cut.count() == 1 && direct.exists(&path, false)?.is_none(),
        "the request never arrived",
    )?;
    say("CutBefore", &error, "the znode is not there");

    let path = format!("{base}/after");
    proxy.fault_once(|frame| frame.is_create(), Fault::CutAfter);
    let mut client = Client::renew(proxy.address(), client.session())?;
    let error = refusal(client.create(&path, b"", CreateMode::Persistent))?;
    let until = Instant::now() + PATIENCE;
    while direct.exists(&path, false)?.is_none() {
        check(Instant::now() < until, "the request is done")?;
    }
    say("CutAfter", &error, "the znode is there soon");

    let path = format!("{base}/lost");
    proxy.fault_once(|frame| frame.is_create(), Fault::LoseReply);
    let mut client = Client::renew(proxy.address(), client.session())?;
    let error = refusal(client.create(&path, b"", CreateMode::Persistent))?;
    check(
        direct.exists(&path, false)?.is_some(),
        "the request was done before",
    )?;
    say("LoseReply", &error, "the znode is there already");

    let event = proxy.fault_once(|frame| frame.kind == FrameKind::WatchEvent, Fault::CutBefore);
    let mut client = Client::renew(proxy.address(), client.session())?;
    client.get_and_watch(&path, true)?;
    direct.set(&path, b"new", -1)?;
    let error = refusal(client.next_event())?;
    check(event.count() == 1, "the event was lost")?;
    say(
        "CutBefore, of a watch event",
        &error,
        "the client must look again",
    );

    let by = Duration::from_millis(100);
    proxy.fault_once(|frame| frame.is_reply(OpCode::GetData), Fault::Delay(by));
    let mut client = Client::renew(proxy.address(), client.session())?;
    let began = Instant::now();
    client.get(&path)?;
    check(began.elapsed() >= by, "the reply was late")?;
    say("Delay, of a reply", "an answer", "late");

    proxy.fault_once(|frame| frame.is_request(OpCode::GetData), Fault::Stall);
    client.set_reply_timeout(by)?;
    let error = refusal(client.get(&path))?;
    client.set_reply_timeout(PATIENCE)?;
    proxy.heal();
    check(client.receive()?.err == 0, "it went on")?;
    say("Stall", &error, "after heal the answer comes");

    proxy.cut();
    let error = refusal(Client::renew(proxy.address(), client.session()))?;
    proxy.heal();
    Client::renew(proxy.address(), client.session())?.close()?;
    say("cut", &error, "after heal the session goes on");

    for name in direct.children(&base, false)?.0 {
        direct.delete(&format!("{base}/{name}"), -1)?;
    }
    direct.delete(&base, -1)?;
    direct.close()?;
    Ok(())
}

/// Why it failed, which it must.
fn refusal<T>(result: std::result::Result<T, ClientError>) -> Result<String> {
    match result {
        Ok(_) => Err("it was to fail".into()),
        Err(error) => Ok(error.to_string()),
    }
}

fn check(holds: bool, what: &str) -> Result<()> {
    if holds {
        Ok(())
    } else {
        Err(format!("not so: {what}").into())
    }
}

fn say(fault: &str, client: &str, server: &str) {
    // Whoever closed stdout does not want to know.
    let _ = writeln!(io::stdout(), "{fault:<28} the client gets: {client}; {server}");
}
