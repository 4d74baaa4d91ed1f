//! Runs simulated ensembles: `--seed N` repeats one and tells what happens, `--seeds A..B` runs many.

#![allow(clippy::print_stdout, reason = "a program for people")]

use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use clap::Parser;
use oxkeeper_sim::{Planted, Stats, run};

/// Runs simulated ensembles and checks every promise at every step.
#[derive(Debug, Parser)]
struct Arguments {
    /// Repeat the run of this seed and tell what happens.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run these seeds, `A..B` (without B).
    #[arg(long, value_parser = parse_range, default_value = "0..1000")]
    seeds: (u64, u64),
    /// Begin no further seed after this many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Go on after a failing seed, and tell all of them.
    #[arg(long)]
    keep_going: bool,
}

/// The seed in work.
static SEED: AtomicU64 = AtomicU64::new(0);

fn tell_failure(seed: u64, violation: &str) {
    println!("seed {seed} FAILED: {violation}");
    println!("  cargo run --release -p oxkeeper-sim -- --seed {seed}");
}

/// Becomes a new process for the seeds that are left.
fn go_on(from: u64, to: u64) {
    if let Ok(program) = std::env::current_exe() {
        let error = std::process::Command::new(program)
            .arg("--keep-going")
            .arg("--seeds")
            .arg(format!("{from}..{to}"))
            .exec();
        println!("cannot go on: {error}");
    }
}

/// The processor time that this process has had, seconds; `None` where that cannot be known.
fn processor_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = text.rsplit(')').next()?.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u32>().ok();
    Some(f64::from(ticks(11)? + ticks(12)?) / 100.0)
}

fn parse_range(text: &str) -> Result<(u64, u64), String> {
    let (from, to) = text.split_once("..").ok_or("it must be A..B")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    Ok((number(from)?, number(to)?))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.seed {
        let report = run(seed, Planted::default(), true);
        println!("{}", report.stats);
        return match report.violation {
            None => ExitCode::SUCCESS,
            Some(violation) => {
                println!("seed {seed} FAILED after {} ms: {violation}", report.lasted_ms);
                ExitCode::FAILURE
            }
        };
    }
    let (from, to) = arguments.seeds;
    // A release build ends with its first panic: then this is where the seed is told.
    let keep_going = arguments.keep_going;
    std::panic::set_hook(Box::new(move |panic| {
        if cfg!(panic = "abort") {
            let seed = SEED.load(Relaxed);
            tell_failure(seed, &panic.to_string());
            if keep_going {
                go_on(seed + 1, to);
            }
        }
    }));
    println!("seeds {from}..{to}");
    let started = Instant::now();
    let mut total = Stats::default();
    let (mut simulated_ms, mut failed, mut done) = (0, 0, 0_u64);
    for seed in from..to {
        if arguments
            .seconds
            .is_some_and(|limit| started.elapsed().as_secs() >= limit)
        {
            break;
        }
        SEED.store(seed, Relaxed);
        let report = run(seed, Planted::default(), false);
        done += 1;
        total.add(&report.stats);
        simulated_ms += report.lasted_ms;
        if let Some(violation) = report.violation {
            failed += 1;
            tell_failure(seed, &violation);
            if !arguments.keep_going {
                break;
            }
        }
    }
    // On a busy machine the wall clock says little.
    let took = processor_seconds().unwrap_or_else(|| started.elapsed().as_secs_f64());
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = simulated_ms as f64 / 1000.0 / took;
    println!("{total}");
    println!(
        "{done} seeds, {failed} failed; {} s simulated in {took:.1} s of processor time: {rate:.0} times real time",
        simulated_ms / 1000
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
