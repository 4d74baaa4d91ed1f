//! Ensembles: the pause of writes when the leader is killed, the return of a follower that missed much, and loads.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use oxkeeper_testkit::process::{Ensemble, EnsembleOptions, ServerProgram};
use oxkeeper_testkit::{Client, ClientError, CreateMode, Session};
use oxkeeper_types::{Acl, CreateRequest, OpCode, Permissions, WriteRequest};
use oxkeeper_wire::Request;

use crate::Error;
use crate::compare::{Contender, Servers, compare_loads};
use crate::load::{LoadOptions, SESSION_TIMEOUT_MS};
use crate::report::to_f64;

/// An ensemble must be whole again in this time.
const WHOLE_WITHIN: Duration = Duration::from_secs(120);
/// The load before the leader is killed.
const CALM: Duration = Duration::from_secs(2);
/// The load after writes are acknowledged again.
const AFTERWARDS: Duration = Duration::from_secs(2);
/// A reply, or a connection, must come in this time, or the client goes to another server.
const REPLY_WITHIN: Duration = Duration::from_secs(3);
/// How long a client waits when no connection was to be had, before it tries the next server.
const RECONNECT_PAUSE: Duration = Duration::from_millis(5);
const WRITES_IN_FLIGHT: usize = 200;
const FAILOVER_PARENT: &str = "/failover";
const REJOIN_PARENT: &str = "/rejoin";

/// How every ensemble here is configured: as ZooKeeper's documentation does it, with all its defaults (so each
/// write is synced before it is acknowledged).
fn ensemble_options(program: &ServerProgram, dir: &Path, members: usize) -> EnsembleOptions {
    EnsembleOptions::of(dir.join(program.name()), program, members)
        .set("tickTime", 2_000)
        .set("initLimit", 10)
        .set("syncLimit", 5)
        .set("maxSessionTimeout", SESSION_TIMEOUT_MS)
}

/// Starts an ensemble of each program and compares them under loads.
///
/// # Errors
/// When a server cannot be started or a load fails.
pub(crate) fn compare_ensembles(
    programs: &[ServerProgram],
    dir: &Path,
    members: usize,
    loads: &[LoadOptions],
    rounds: usize,
    warm_up: Duration,
) -> Result<(), Error> {
    let mut contenders = Vec::new();
    for program in programs {
        let ensemble = Ensemble::start(ensemble_options(program, dir, members))?;
        contenders.push(Contender {
            name: program.name(),
            servers: Servers::Ensemble(ensemble),
        });
    }
    compare_loads(&contenders, loads, rounds, warm_up)
}

/// The load while a leader is killed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FailoverOptions {
    pub(crate) members: usize,
    pub(crate) writes_per_second: u32,
    pub(crate) connections: u32,
}

/// What one kill of a leader did.
#[derive(Clone, Copy, Debug)]
struct Failover {
    /// The longest time without an acknowledged write before the kill.
    gap_before: Duration,
    /// The longest time without an acknowledged write in the whole run.
    gap: Duration,
    acknowledged: usize,
}

/// Kills the leader of each ensemble again and again under load, in turn, and prints how long writes paused.
///
/// # Errors
/// When an acknowledged write is lost, or an ensemble does not go on.
pub(crate) fn compare_failovers(
    programs: &[ServerProgram],
    dir: &Path,
    options: FailoverOptions,
    runs: usize,
) -> Result<(), Error> {
    let mut ensembles = Vec::new();
    for program in programs {
        let ensemble = Ensemble::start(ensemble_options(program, dir, options.members))?;
        create(&ensemble, FAILOVER_PARENT)?;
        ensembles.push((program.name(), ensemble, Vec::new()));
    }
    let mut out = io::stdout();
    writeln!(
        out,
        "leader of {} killed under {} writes/s of {} connections; longest time without an acknowledged write",
        options.members, options.writes_per_second, options.connections
    )?;
    for run in 1..=runs {
        for (name, ensemble, failovers) in &mut ensembles {
            let failover = fail_over(ensemble, options, run)
                .map_err(|error| format!("{name}, run {run}: {error}\n{}", ensemble.log_tails()))?;
            writeln!(
                out,
                "  run {run:>2}  {name:<9}{:>9.1} ms   (before the kill {:.1} ms; {} writes acknowledged, none lost)",
                milliseconds(failover.gap),
                milliseconds(failover.gap_before),
                failover.acknowledged
            )?;
            failovers.push(failover.gap);
        }
    }
    for (name, _, gaps) in &mut ensembles {
        print_spread(&mut out, name, gaps)?;
    }
    Ok(())
}

/// One run: load, kill, load, count; afterwards the ensemble is whole again.
fn fail_over(ensemble: &mut Ensemble, options: FailoverOptions, run: usize) -> Result<Failover, Error> {
    let leader = ensemble.wait_for_leader(WHOLE_WITHIN)?;
    let parent = format!("{FAILOVER_PARENT}/{run}");
    create(ensemble, &parent)?;
    let addresses = ensemble.addresses();
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    let (killed_at, writers) = scope(|scope| -> Result<_, Error> {
        let handles: Vec<_> = (0..options.connections)
            .map(|number| {
                let (addresses, parent, stop) = (&addresses, &parent, &stop);
                scope.spawn(move || Writer::new(addresses, parent, number).run(options, stop))
            })
            .collect();
        sleep(CALM);
        let killed_at = Instant::now();
        let killed = ensemble.server_mut(leader).kill();
        let led = ensemble.wait_for_leader(WHOLE_WITHIN);
        sleep(AFTERWARDS);
        stop.store(true, Ordering::SeqCst);
        let writers: Result<Vec<_>, _> = handles
            .into_iter()
            .map(|handle| {
                handle
                    .join()
                    .unwrap_or_else(|_| Err("a writer panicked".to_owned()))
            })
            .collect();
        killed?;
        led?;
        Ok((killed_at, writers?))
    })?;
    ensemble.server_mut(leader).restart()?;
    let everyone: Vec<usize> = ensemble.ids().collect();
    ensemble.wait_until_serving(&everyone, WHOLE_WITHIN)?;

    let mut times: Vec<Instant> = writers.iter().flat_map(|writer| &writer.times).copied().collect();
    times.sort();
    let last_before = times.iter().rfind(|time| **time <= killed_at);
    if last_before.is_none() || times.last().is_none_or(|last| *last < killed_at + AFTERWARDS) {
        return Err("no write was acknowledged before the kill, or none long after it".into());
    }
    let acknowledged: BTreeSet<&str> = writers
        .iter()
        .flat_map(|writer| &writer.acknowledged)
        .map(String::as_str)
        .collect();
    for address in &addresses {
        let mut client = Client::connect(*address, SESSION_TIMEOUT_MS)?;
        client.sync(&parent)?;
        let present: BTreeSet<String> = client.children(&parent, false)?.0.into_iter().collect();
        client.close()?;
        let lost: Vec<_> = acknowledged
            .iter()
            .filter(|name| !present.contains(**name))
            .collect();
        if !lost.is_empty() {
            return Err(format!("acknowledged writes are lost on {address}: {lost:?}").into());
        }
    }
    // The first write was due at the beginning of the load.
    let gap_of = |times: &[Instant]| {
        let before = std::iter::once(&began).chain(times);
        let gaps = before.zip(times).map(|(before, time)| *time - *before);
        gaps.max().unwrap_or_default()
    };
    let before = times.partition_point(|time| *time <= killed_at);
    Ok(Failover {
        gap_before: gap_of(&times[..before]),
        gap: gap_of(&times),
        acknowledged: acknowledged.len(),
    })
}

/// One connection's part of the load: creates of its own znodes, one after the other.
struct Writer<'a> {
    addresses: &'a [SocketAddr],
    parent: &'a str,
    number: u32,
    session: Session,
    client: Option<Client>,
    /// Which server is tried next.
    next: usize,
    written: u32,
    acknowledged: Vec<String>,
    times: Vec<Instant>,
}

/// What a writer was acknowledged, and when.
struct Written {
    acknowledged: Vec<String>,
    times: Vec<Instant>,
}

impl<'a> Writer<'a> {
    fn new(addresses: &'a [SocketAddr], parent: &'a str, number: u32) -> Writer<'a> {
        Writer {
            addresses,
            parent,
            number,
            session: Session::to_begin(SESSION_TIMEOUT_MS),
            client: None,
            next: number as usize,
            written: 0,
            acknowledged: Vec::new(),
            times: Vec::new(),
        }
    }

    /// Writes until told to stop, over whichever server takes it. What was due while none did is left out.
    fn run(mut self, options: FailoverOptions, stop: &AtomicBool) -> Result<Written, String> {
        let period = Duration::from_secs(1) * options.connections / options.writes_per_second;
        let mut due = Instant::now() + period * self.number / options.connections;
        while !stop.load(Ordering::SeqCst) {
            sleep(due.saturating_duration_since(Instant::now()));
            if let Err(error) = self.write_one() {
                match error {
                    ClientError::Io(_) | ClientError::Closed => self.client = None,
                    other => return Err(format!("writer {}: {other}", self.number)),
                }
            }
            due = (due + period).max(Instant::now());
        }
        if let Some(client) = self.client {
            // The session ends by itself when this fails.
            let _ = client.close();
        }
        Ok(Written {
            acknowledged: self.acknowledged,
            times: self.times,
        })
    }

    /// One create. A lost connection is replaced at once, and the next write goes over the new one.
    fn write_one(&mut self) -> Result<(), ClientError> {
        let client = match &mut self.client {
            Some(client) => client,
            None => {
                let address = self.addresses[self.next % self.addresses.len()];
                self.next += 1;
                match Client::renew_within(address, &self.session, REPLY_WITHIN) {
                    Ok(client) => {
                        self.session = client.session().clone();
                        self.client.insert(client)
                    }
                    Err(error) => {
                        sleep(RECONNECT_PAUSE);
                        return Err(error);
                    }
                }
            }
        };
        let name = format!("{}-{}", self.number, self.written);
        self.written += 1;
        let created = client.create(&format!("{}/{name}", self.parent), b"", CreateMode::Persistent);
        self.session.last_zxid = client.session().last_zxid;
        created?;
        self.times.push(Instant::now());
        self.acknowledged.push(name);
        Ok(())
    }
}

/// Lets a follower of each ensemble miss many txns, again and again, and prints how soon it served again.
///
/// # Errors
/// When it does not, or serves an old state.
pub(crate) fn compare_rejoins(
    programs: &[ServerProgram],
    dir: &Path,
    members: usize,
    missed: usize,
    runs: usize,
) -> Result<(), Error> {
    let mut out = io::stdout();
    writeln!(
        out,
        "a follower that missed {missed} txns: from the start of its process until a client read the last of them \
         there"
    )?;
    let mut spreads = Vec::new();
    for program in programs {
        let name = program.name();
        let mut ensemble = Ensemble::start(ensemble_options(program, dir, members))?;
        create(&ensemble, REJOIN_PARENT)?;
        let mut times = Vec::new();
        for run in 1..=runs {
            let (time, by) = rejoin(&mut ensemble, missed, run)
                .map_err(|error| format!("{name}, run {run}: {error}\n{}", ensemble.log_tails()))?;
            writeln!(
                out,
                "  run {run:>2}  {name:<9}{:>9.1} ms   by {by}",
                milliseconds(time)
            )?;
            times.push(time);
        }
        spreads.push((name, times));
    }
    for (name, times) in &mut spreads {
        print_spread(&mut out, name, times)?;
    }
    Ok(())
}

/// One run: kills a follower, writes without it, starts it; gives the time until it served, and how it caught up.
fn rejoin(ensemble: &mut Ensemble, missed: usize, run: usize) -> Result<(Duration, &'static str), Error> {
    let everyone: Vec<usize> = ensemble.ids().collect();
    ensemble.wait_until_serving(&everyone, WHOLE_WITHIN)?;
    let leader = ensemble.wait_for_leader(WHOLE_WITHIN)?;
    let follower = everyone
        .into_iter()
        .find(|id| *id != leader)
        .ok_or("an ensemble of one has no follower")?;
    ensemble.server_mut(follower).kill()?;
    let mut client = Client::connect(ensemble.address(leader), SESSION_TIMEOUT_MS)?;
    let path = |number: usize| format!("{REJOIN_PARENT}/{run}-{number}");
    for number in 0..missed {
        if client.unanswered() >= WRITES_IN_FLIGHT {
            client.receive()?.success()?;
        }
        client.send(&Request::Write(WriteRequest::Create(CreateRequest {
            op: OpCode::Create,
            path: path(number),
            data: Some([b'x'; 100].as_slice().into()),
            acl: vec![Acl::world(Permissions::ALL)],
            flags: CreateMode::Persistent as i32,
            ttl: -1,
        })));
    }
    while client.unanswered() > 0 {
        client.receive()?.success()?;
    }
    client.close()?;
    let version_dir = ensemble.server(follower).version_dir();
    let snapshots_before = snapshots(&version_dir)?;
    let address = ensemble.address(follower);
    let last = path(missed.saturating_sub(1));
    let started = Instant::now();
    ensemble.server_mut(follower).respawn()?;
    let time = loop {
        let read = Client::renew_within(address, &Session::to_begin(SESSION_TIMEOUT_MS), REPLY_WITHIN)
            .and_then(|mut client| {
                client.get(&last)?;
                let time = started.elapsed();
                client.close()?;
                Ok(time)
            });
        match read {
            Ok(time) => break time,
            Err(ClientError::Io(_) | ClientError::Closed) if started.elapsed() < WHOLE_WITHIN => {
                sleep(Duration::from_millis(2));
            }
            Err(error) => return Err(format!("reading {last} from the follower: {error}").into()),
        }
    };
    // What came as a SNAP is written as a snapshot before the server serves; a DIFF goes into the log.
    let by = match snapshots(&version_dir)?.is_subset(&snapshots_before) {
        true => "DIFF",
        false => "SNAP",
    };
    Ok((time, by))
}

/// The names of the snapshots in a data directory.
fn snapshots(version_dir: &Path) -> Result<BTreeSet<String>, Error> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(version_dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("snapshot.") {
            names.insert(name);
        }
    }
    Ok(names)
}

/// Creates a znode through the first server that takes it.
fn create(ensemble: &Ensemble, path: &str) -> Result<(), Error> {
    let ids: Vec<usize> = ensemble.ids().collect();
    ensemble.wait_until_serving(&ids, WHOLE_WITHIN)?;
    let mut client = Client::connect(ensemble.address(1), SESSION_TIMEOUT_MS)?;
    client.create(path, b"", CreateMode::Persistent)?;
    client.close()?;
    Ok(())
}

fn print_spread(out: &mut impl io::Write, name: &str, times: &mut [Duration]) -> Result<(), Error> {
    times.sort();
    let (Some(first), Some(last)) = (times.first(), times.last()) else {
        return Ok(());
    };
    writeln!(
        out,
        "  {name:<9} median {:.1} ms, from {:.1} to {:.1} ms, {} runs",
        median_ms(times),
        milliseconds(*first),
        milliseconds(*last),
        times.len()
    )?;
    Ok(())
}

/// Of sorted times, at least one.
fn median_ms(times: &[Duration]) -> f64 {
    let middle = times.len() / 2;
    match times.len() % 2 {
        0 => (milliseconds(times[middle - 1]) + milliseconds(times[middle])) / 2.0,
        _ => milliseconds(times[middle]),
    }
}

fn milliseconds(time: Duration) -> f64 {
    to_f64(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)) / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_the_two_in_the_middle() {
        let times = [1, 2, 4, 9].map(Duration::from_millis);
        assert!((median_ms(&times) - 3.0).abs() < 1e-9);
        assert!((median_ms(&times[..3]) - 2.0).abs() < 1e-9);
    }
}
