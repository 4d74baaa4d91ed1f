//! A program whose configuration changes while it runs, and which never takes a bad one.
//!
//! ```sh
//! cargo run -p oxkeeper-recipes --example watched_configuration -- 127.0.0.1:2181
//! ```
//! Then change it, from another terminal, with any client:
//!
//! ```sh
//! cargo run -p oxkeeper-recipes --example watched_configuration -- 127.0.0.1:2181 'requests=20 timeout_ms=300'
//! oxkeeper shell -server 127.0.0.1:2181 set /config/frontend 'requests=none'
//! ```
//! With a value as second argument it validates that, writes it and ends.

use std::error::Error;

use oxkeeper_recipes::{Config, ConfigProblem, SessionKeeper};

const PATH: &str = "/config/frontend";

/// What the program may be told.
#[derive(Debug)]
struct Limits {
    requests: u32,
    timeout_ms: u64,
}

/// Reads `requests=10 timeout_ms=500`; refuses what makes no sense, since it would come to every instance at once.
fn parse(bytes: &[u8]) -> Result<Limits, String> {
    let text = str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let mut limits = Limits {
        requests: 10,
        timeout_ms: 500,
    };
    for word in text.split_whitespace() {
        let (key, value) = word.split_once('=').ok_or_else(|| format!("{word}: no value"))?;
        let is_bad = |error: std::num::ParseIntError| format!("{word}: {error}");
        match key {
            "requests" => limits.requests = value.parse().map_err(is_bad)?,
            "timeout_ms" => limits.timeout_ms = value.parse().map_err(is_bad)?,
            _ => return Err(format!("{key}: no such setting")),
        }
    }
    match limits.requests {
        0 => Err("requests=0 would serve nobody".to_owned()),
        _ => Ok(limits),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let cluster = arguments.next().unwrap_or_else(|| "127.0.0.1:2181".to_owned());
    let keeper = SessionKeeper::connect(&cluster).await?;
    // It runs from the start, on its defaults.
    let config = Config::with_default(&keeper, PATH, parse(b"")?, parse)?;
    if let Some(value) = arguments.next() {
        let stat = config.set(value.as_bytes(), None).await?;
        say(&format!("written as version {}", stat.version));
        return Ok(());
    }

    let mut values = config.values();
    let mut problem: Option<ConfigProblem> = None;
    loop {
        let last = problem.clone();
        tokio::select! {
            value = values.next() => {
                let value = value?;
                say(&format!(
                    "version {:?}: {} requests, {} ms each",
                    value.version, value.value.requests, value.value.timeout_ms
                ));
            }
            now = config.problem_that(|now| now != last.as_ref()) => {
                if let Some(problem) = &now {
                    say(&format!("still the last good one: {problem:?}"));
                }
                problem = now;
            }
        }
    }
}

#[allow(clippy::print_stdout, reason = "an example on a terminal")]
fn say(what: &str) {
    println!("{what}");
}
