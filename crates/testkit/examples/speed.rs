//! How quick servers of tests are: `cargo run --release -p oxkeeper-testkit --example speed`.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use oxkeeper_testkit::{Client, Ensemble, Error, Server};

const SERVERS: u32 = 200;
const ENSEMBLES: u32 = 20;

fn say(what: &str, count: u32, took: Duration) {
    let each = took.as_secs_f64() * 1000.0 / f64::from(count);
    // Whoever closed stdout does not want to know.
    let _ = writeln!(io::stdout(), "{what:<40} {each:6.2} ms each");
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let began = Instant::now();
    let servers = (0..SERVERS)
        .map(|_| Server::start())
        .collect::<Result<Vec<Server>, Error>>()?;
    say("start a server, 200 of them at once", SERVERS, began.elapsed());
    let began = Instant::now();
    drop(servers);
    say("drop it", SERVERS, began.elapsed());
    let began = Instant::now();
    for _ in 0..SERVERS {
        drop(Server::start()?);
    }
    say("start and drop, one after the other", SERVERS, began.elapsed());
    let began = Instant::now();
    for _ in 0..ENSEMBLES {
        drop(Ensemble::start(3)?);
    }
    say("start an ensemble of 3, and drop it", ENSEMBLES, began.elapsed());
    let server = Server::start()?;
    let began = Instant::now();
    for _ in 0..SERVERS {
        let client = Client::connect(server.address(), 10_000)?;
        server.expire_session(client.session().id)?;
    }
    say("connect and expire the session", SERVERS, began.elapsed());
    let began = Instant::now();
    for _ in 0..SERVERS {
        server.restart()?;
    }
    say("kill and restart", SERVERS, began.elapsed());
    Ok(())
}
