//! Runs simulated ensembles: `--seed N` repeats one and tells what happens, `--seeds A..B` runs many.

#![allow(clippy::print_stdout, reason = "a program for people")]

use std::process::ExitCode;
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
    std::panic::set_hook(Box::new(|_| {}));
    let (from, to) = arguments.seeds;
    println!("seeds {from}..{to}");
    let started = Instant::now();
    let mut total = Stats::default();
    let (mut simulated_ms, mut failed, mut done) = (0, 0, 0_u64);
    for seed in from..to {
        if arguments.seconds.is_some_and(|limit| started.elapsed().as_secs() >= limit) {
            break;
        }
        let report = run(seed, Planted::default(), false);
        done += 1;
        total.add(&report.stats);
        simulated_ms += report.lasted_ms;
        if let Some(violation) = report.violation {
            failed += 1;
            println!("seed {seed} FAILED: {violation}");
            println!("  cargo run --release -p oxkeeper-sim -- --seed {seed}");
            if !arguments.keep_going {
                break;
            }
        }
    }
    let took = started.elapsed();
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = simulated_ms as f64 / 1000.0 / took.as_secs_f64();
    println!("{total}");
    println!(
        "{done} seeds, {failed} failed; {} s simulated in {:.1} s: {rate:.0} times real time",
        simulated_ms / 1000,
        took.as_secs_f64()
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
