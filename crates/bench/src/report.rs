//! Tables on stdout.

use std::io::{self, Write as _};
use std::time::Duration;

use crate::load::{LoadOptions, Measured};

/// The table of loads: a row is printed as soon as it is measured.
pub(crate) struct LoadTable {
    has_header: bool,
}

impl LoadTable {
    pub(crate) fn new() -> LoadTable {
        LoadTable { has_header: false }
    }

    /// The row of one server under one load.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub(crate) fn row(&mut self, load: &LoadOptions, server: &str, measured: &Measured) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if !self.has_header {
            self.has_header = true;
            writeln!(out, "{}", header_row())?;
        }
        writeln!(out, "{}", load_row(load, server, measured))?;
        out.flush()
    }

    /// The row that says how the first server stands to the second, measured under one load.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub(crate) fn ratio(&self, first: &Measured, second: &Measured) -> io::Result<()> {
        writeln!(io::stdout(), "{}", ratio_row(first, second))
    }
}

fn header_row() -> String {
    format!(
        "{:<16}{:>9}  {:<9}{:>10}{:>10}{:>10}{:>10}{:>10}{:>14}{:>14}{:>11}",
        "load",
        "in flight",
        "server",
        "ops/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
        "CPU s/1k ops",
        "ops/CPU s",
        "generator"
    )
}

fn load_row(load: &LoadOptions, server: &str, measured: &Measured) -> String {
    let quantile = |q| milliseconds(measured.latencies.value_at_quantile(q));
    let (per_thousand, per_second) = match measured.server_cpu {
        Some(cpu) => (
            format!("{:.5}", cpu.as_secs_f64() * 1_000.0 / operations(measured)),
            format!("{:.0}", operations(measured) / cpu.as_secs_f64()),
        ),
        None => ("-".to_owned(), "-".to_owned()),
    };
    let generator = 100.0 * measured.generator_cpu.as_secs_f64() / measured.elapsed.as_secs_f64();
    format!(
        "{:<16}{:>9}  {:<9}{:>10.0}{:>10}{:>10}{:>10}{:>10}{:>14}{:>14}{:>10.0}%",
        load.workload.name(),
        format!("{}x{}", load.connections, load.in_flight),
        server,
        throughput(measured),
        quantile(0.5),
        quantile(0.99),
        quantile(0.999),
        milliseconds(measured.latencies.max()),
        per_thousand,
        per_second,
        generator
    )
}

fn ratio_row(first: &Measured, second: &Measured) -> String {
    let latency = |q| {
        let of = |measured: &Measured| measured.latencies.value_at_quantile(q).max(1);
        times(of(first), of(second))
    };
    let efficiency = match (first.server_cpu, second.server_cpu) {
        (Some(a), Some(b)) => {
            let of = |measured: &Measured, cpu: Duration| operations(measured) / cpu.as_secs_f64();
            format!("{:.2}x", of(first, a) / of(second, b))
        }
        _ => "-".to_owned(),
    };
    format!(
        "{:<16}{:>9}  {:<9}{:>10}{:>10}{:>10}{:>10}{:>10}{:>14}{:>14}",
        "",
        "",
        "ratio",
        format!("{:.2}x", throughput(first) / throughput(second)),
        latency(0.5),
        latency(0.99),
        latency(0.999),
        times(first.latencies.max().max(1), second.latencies.max().max(1)),
        "",
        efficiency
    )
}

fn operations(measured: &Measured) -> f64 {
    to_f64(measured.operations)
}

fn throughput(measured: &Measured) -> f64 {
    operations(measured) / measured.elapsed.as_secs_f64()
}

fn milliseconds(nanos: u64) -> String {
    format!("{:.2}", to_f64(nanos) / 1e6)
}

fn times(a: u64, b: u64) -> String {
    format!("{:.2}x", to_f64(a) / to_f64(b))
}

/// For output; counts here are far below 2^53.
#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub(crate) fn to_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Workload;
    use hdrhistogram::Histogram;

    fn measured(operations: u64, latency: u64, cpu_ms: u64) -> Measured {
        let mut latencies = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        latencies.record_n(latency, operations).unwrap();
        Measured {
            operations,
            elapsed: Duration::from_secs(2),
            latencies,
            server_cpu: Some(Duration::from_millis(cpu_ms)),
            generator_cpu: Duration::from_millis(500),
        }
    }

    #[test]
    fn rows_say_what_was_measured() {
        let load = LoadOptions {
            workload: Workload::Get,
            connections: 50,
            in_flight: 16,
            data_bytes: 100,
            znodes: 1,
            ramp: Duration::ZERO,
            measured: Duration::ZERO,
        };
        let (first, second) = (
            measured(40_000, 1_000_000, 500),
            measured(10_000, 4_000_000, 1_000),
        );
        let row: Vec<String> = load_row(&load, "oxkeeper", &first)
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        assert_eq!(row[..4], ["getData", "50x16", "oxkeeper", "20000"]);
        assert_eq!(row[4], "1.00");
        assert_eq!(row[8..], ["0.01250", "80000", "25%"]);
        let ratio: Vec<String> = ratio_row(&first, &second)
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        assert_eq!(ratio[..3], ["ratio", "4.00x", "0.25x"]);
        assert_eq!(ratio.last().unwrap(), "8.00x");
    }
}
