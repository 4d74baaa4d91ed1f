//! Memory of a large tree and of idle sessions, and the time until a server with that tree answers again.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use oxkeeper_testkit::process::{ServerProcess, ServerProgram};
use oxkeeper_testkit::{Client, CreateMode};
use oxkeeper_types::{Acl, CreateRequest, OpCode, Permissions, WriteRequest};
use oxkeeper_wire::Request;

use crate::Error;
use crate::compare::{say, server_options};
use crate::load::{self, LoadOptions, ROOT, SESSION_TIMEOUT_MS, Workload, open_session};
use crate::process::resident_bytes;
use crate::report::to_f64;

const ZNODES_PER_PARENT: usize = 1_000;
const CREATES_IN_FLIGHT: usize = 200;
/// A server must answer again in this time.
const RESTART_WITHIN: Duration = Duration::from_secs(300);
/// What is opened and forgotten is given back within this time, if ever.
const CALM: Duration = Duration::from_secs(3);

/// What was measured of one server; memory is resident memory in bytes.
struct Footprint {
    name: &'static str,
    at_start: u64,
    loaded: u64,
    steady: u64,
    /// After a garbage collection asked for, with Java.
    collected: Option<u64>,
    from_log: Duration,
    from_snapshot: Duration,
    restarted: u64,
    per_session: f64,
    /// Growth of what is live on the heap, with Java: resident memory does not show what a JVM needs.
    heap_per_session: Option<f64>,
}

/// Measures each server alone and prints them side by side.
///
/// # Errors
/// When a server cannot be started or does not answer.
pub(crate) fn compare_memory(
    programs: &[ServerProgram],
    dir: &Path,
    znodes: usize,
    data_bytes: usize,
    sessions: usize,
) -> Result<(), Error> {
    let mut footprints = Vec::new();
    for program in programs {
        footprints.push(measure(program, dir, znodes, data_bytes, sessions)?);
    }
    print(&footprints, znodes, data_bytes, sessions)?;
    Ok(())
}

fn measure(
    program: &ServerProgram,
    dir: &Path,
    znodes: usize,
    data_bytes: usize,
    sessions: usize,
) -> Result<Footprint, Error> {
    let name = program.name();
    let mut server = ServerProcess::start(server_options(program, dir))?;
    let at_start = resident_bytes(server.pid())?;
    say(&format!("{name}: creating {znodes} znodes"))?;
    create_znodes(server.address(), znodes, data_bytes)?;
    let loaded = resident_bytes(server.pid())?;
    let load = LoadOptions {
        workload: Workload::Mixed,
        connections: 50,
        in_flight: 4,
        data_bytes,
        znodes: 1_000,
        ramp: Duration::from_millis(100),
        measured: Duration::from_secs(10),
    };
    load::run(&[server.address()], &load, &[])?;
    let steady = resident_bytes(server.pid())?;
    let collected = match program {
        ServerProgram::Java { .. } if collect_garbage(server.pid()) => {
            sleep(CALM);
            Some(resident_bytes(server.pid())?)
        }
        _ => None,
    };
    say(&format!("{name}: restarting"))?;
    // The first start has the txn log to replay, and leaves a snapshot; the second finds the snapshot.
    let from_log = restart(&mut server)?;
    let from_snapshot = restart(&mut server)?;
    let restarted = resident_bytes(server.pid())?;
    say(&format!("{name}: opening {sessions} sessions"))?;
    let mut open = Vec::new();
    for _ in 0..sessions / 10 {
        open.push(open_session(server.address())?);
    }
    sleep(CALM);
    let before = resident_bytes(server.pid())?;
    let heap_before = live_heap_bytes(program, server.pid());
    for _ in 0..sessions {
        open.push(open_session(server.address())?);
    }
    sleep(CALM);
    let after = resident_bytes(server.pid())?;
    let heap_after = live_heap_bytes(program, server.pid());
    drop(open);
    let sessions = to_f64(u64::try_from(sessions.max(1))?);
    let per_session = (to_f64(after) - to_f64(before)) / sessions;
    let heap_per_session = heap_before
        .zip(heap_after)
        .map(|(before, after)| (to_f64(after) - to_f64(before)) / sessions);
    server.terminate(Duration::from_secs(60))?;
    Ok(Footprint {
        name,
        at_start,
        loaded,
        steady,
        collected,
        from_log,
        from_snapshot,
        restarted,
        per_session,
        heap_per_session,
    })
}

/// Creates a tree, some hundred requests in flight.
fn create_znodes(address: SocketAddr, znodes: usize, data_bytes: usize) -> Result<(), Error> {
    let mut client = Client::connect(address, SESSION_TIMEOUT_MS)?;
    client.create(ROOT, b"", CreateMode::Persistent)?;
    let data = vec![b'x'; data_bytes];
    for number in 0..znodes {
        let parent = format!("{ROOT}/m{}", number / ZNODES_PER_PARENT);
        if number % ZNODES_PER_PARENT == 0 {
            send_create(&mut client, parent.clone(), b"");
        }
        send_create(
            &mut client,
            format!("{parent}/n{}", number % ZNODES_PER_PARENT),
            &data,
        );
        while client.unanswered() > CREATES_IN_FLIGHT {
            client.receive()?.success()?;
        }
    }
    while client.unanswered() > 0 {
        client.receive()?.success()?;
    }
    client.close()?;
    Ok(())
}

fn send_create(client: &mut Client, path: String, data: &[u8]) {
    client.send(&Request::Write(WriteRequest::Create(CreateRequest {
        op: OpCode::Create,
        path,
        data: Some(data.into()),
        acl: vec![Acl::world(Permissions::ALL)],
        flags: CreateMode::Persistent as i32,
        ttl: -1,
    })));
}

/// Stops the server, starts it, and tells how long it takes from the start of the process to the first answer
/// from the tree.
fn restart(server: &mut ServerProcess) -> Result<Duration, Error> {
    server.terminate(Duration::from_secs(60))?;
    let began = Instant::now();
    server.respawn()?;
    loop {
        let answer = Client::connect(server.address(), SESSION_TIMEOUT_MS).and_then(|mut client| {
            client.get(&format!("{ROOT}/m0/n0"))?;
            let elapsed = began.elapsed();
            client.close()?;
            Ok(elapsed)
        });
        match answer {
            Ok(elapsed) => {
                // Whatever is written at the start is written now.
                sleep(CALM);
                return Ok(elapsed);
            }
            Err(error) if began.elapsed() > RESTART_WITHIN => return Err(error.into()),
            Err(_) => {}
        }
        if let Some(status) = server.try_wait()? {
            return Err(format!(
                "the server ended ({status}); its log ends:\n{}",
                server.log_tail()
            )
            .into());
        }
        sleep(Duration::from_millis(2));
    }
}

/// Asks a JVM for a full collection; false when the JDK's jcmd is not there or fails.
fn collect_garbage(pid: u32) -> bool {
    let status = Command::new("jcmd")
        .args([&pid.to_string(), "GC.run"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// What is live on the heap of a JVM after a full collection; `None` without a JVM or without jcmd.
fn live_heap_bytes(program: &ServerProgram, pid: u32) -> Option<u64> {
    if !matches!(program, ServerProgram::Java { .. }) || !collect_garbage(pid) {
        return None;
    }
    let output = Command::new("jcmd")
        .args([&pid.to_string(), "GC.heap_info"])
        .output()
        .ok()?;
    parse_heap_used(&String::from_utf8_lossy(&output.stdout))
}

/// The sum over the heap's generations of what `GC.heap_info` says is used.
fn parse_heap_used(text: &str) -> Option<u64> {
    let used = text.lines().filter(|line| line.contains(" total ")).map(|line| {
        let (_, used) = line.split_once(" used ")?;
        used.split_once('K')?.0.parse::<u64>().ok()
    });
    used.sum::<Option<u64>>()
        .filter(|kib| *kib > 0)
        .map(|kib| kib * 1024)
}

fn print(footprints: &[Footprint], znodes: usize, data_bytes: usize, sessions: usize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut row = |title: &str, value: &dyn Fn(&Footprint) -> String| {
        let values = footprints
            .iter()
            .map(|footprint| format!("{:>14}", value(footprint)));
        writeln!(out, "{title:<64}{}", values.collect::<String>())
    };
    let mib = |bytes: u64| format!("{:.1} MiB", to_f64(bytes) / 1_048_576.0);
    row("memory and restart", &|footprint| footprint.name.to_owned())?;
    row("resident at start", &|footprint| mib(footprint.at_start))?;
    row(
        &format!("resident with {znodes} znodes of {data_bytes} bytes, just created"),
        &|f| mib(f.loaded),
    )?;
    row("  per znode, above the start, in bytes", &|f| {
        let znodes = to_f64(u64::try_from(znodes.max(1)).unwrap_or(u64::MAX));
        format!("{:.0}", (to_f64(f.loaded) - to_f64(f.at_start)) / znodes)
    })?;
    row("resident after 10 s of 90% get 10% set", &|f| mib(f.steady))?;
    row("resident after a full garbage collection (jcmd GC.run)", &|f| {
        f.collected.map_or("-".to_owned(), mib)
    })?;
    row("first answer after a restart, from the log (s)", &|f| {
        format!("{:.2}", f.from_log.as_secs_f64())
    })?;
    row("first answer after a restart, from the snapshot (s)", &|f| {
        format!("{:.2}", f.from_snapshot.as_secs_f64())
    })?;
    row("resident after that restart", &|f| mib(f.restarted))?;
    row(
        &format!("bytes per idle session, of {sessions}, by resident memory"),
        &|f| format!("{:.0}", f.per_session),
    )?;
    row(
        "bytes per idle session, live on the heap after a full collection",
        &|f| {
            f.heap_per_session
                .map_or("-".to_owned(), |bytes| format!("{bytes:.0}"))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_heap_is_summed_over_generations() {
        let g1 = " garbage-first heap   total 394240K, used 5167K [0x1, 0x2)\n  region size 1024K, 3 young\n Metaspace       used 100K";
        assert_eq!(parse_heap_used(g1), Some(5167 * 1024));
        let serial = " def new generation   total 10K, used 3K [\n tenured generation   total 20K, used 4K [";
        assert_eq!(parse_heap_used(serial), Some(7 * 1024));
        assert_eq!(parse_heap_used("no JVM"), None);
    }
}
