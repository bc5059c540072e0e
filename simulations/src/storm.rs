//! Sockets that are all cut off at once and all come back at once: how long until everybody is authenticated again.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::Failure;
use crate::crowd::Crowd;
use crate::process::{cpu_seconds, resident_kib};
use crate::report::{row, write};
use crate::tally::Latency;
use crate::target::TargetOptions;

/// For the server to see that everybody has gone.
const QUIET: Duration = Duration::from_secs(3);
/// How long everybody may take to come back.
const BACK_MAX: Duration = Duration::from_secs(120);
/// Longest time that is told apart, microseconds.
const MAX_US: u64 = 120_000_000;

/// A reconnect storm.
#[derive(Args, Clone, Debug)]
pub(crate) struct StormOptions {
    /// Sockets.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=25_000))]
    connections: u64,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    target: TargetOptions,
}

/// What a storm came to.
#[derive(Debug, Serialize)]
struct StormReport {
    connections: usize,
    back: u64,
    failed: u64,
    first_failure: Option<String>,
    /// From when the storm began until a device was authenticated.
    time_to_return: Latency,
    seconds: f64,
    connections_per_second: f64,
    server_cpu_seconds: f64,
    resident_kib: u64,
}

/// Runs it.
///
/// # Errors
/// Somebody did not come back.
pub(crate) async fn run(options: StormOptions) -> Result<(), Failure> {
    let crowd = Crowd::register(options.connections, &options.target).await?;
    let open = crowd.connect().await?;
    let connections = open.len();
    drop(open);
    sleep(QUIET).await;

    let (cpu_before, began) = (cpu_seconds(crowd.pid)?, Instant::now());
    let progress = ProgressBar::new(connections as u64).with_message("back");
    let mut returning = JoinSet::new();
    for connecting in crowd.connecting() {
        returning.spawn(async move {
            let returned = timeout(BACK_MAX, connecting).await;
            let socket = returned.map_err(|late| Failure::from(late.to_string())).flatten();
            socket.map(|socket| (socket, began.elapsed()))
        });
    }
    let mut times = Histogram::new_with_max(MAX_US, 3)?;
    let (mut back, mut failures) = (Vec::new(), Vec::new());
    while let Some(returned) = returning.join_next().await {
        progress.inc(1);
        match returned? {
            Ok((socket, took)) => {
                times.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
                back.push(socket);
            }
            Err(failure) => failures.push(failure.to_string()),
        }
    }
    progress.finish_and_clear();
    let seconds = began.elapsed().as_secs_f64();
    let report = StormReport {
        connections,
        back: back.len() as u64,
        failed: failures.len() as u64,
        first_failure: failures.into_iter().next(),
        time_to_return: Latency::of(&times),
        seconds,
        connections_per_second: back.len() as f64 / seconds,
        server_cpu_seconds: cpu_seconds(crowd.pid)? - cpu_before,
        resident_kib: resident_kib(crowd.pid)?,
    };
    print(&report);
    if let Some(file) = &options.json {
        write(&report, file)?;
    }
    if report.failed == 0 { Ok(()) } else { Err("not everybody came back".into()) }
}

fn print(report: &StormReport) {
    println!("{} sockets cut off and back at once", report.connections);
    row("back", report.back);
    row("failed", report.failed);
    if let Some(first) = &report.first_failure {
        row("first failure", first);
    }
    let Latency { p50_ms, p95_ms, p99_ms, max_ms, .. } = report.time_to_return;
    row("time to return", format!("p50 {p50_ms:.0}  p95 {p95_ms:.0}  p99 {p99_ms:.0}  max {max_ms:.0} ms"));
    row("all in", format!("{:.1} s, {:.0} connections/s", report.seconds, report.connections_per_second));
    row("server CPU", format!("{:.2} s", report.server_cpu_seconds));
    row("server resident", format!("{} MiB", report.resident_kib / 1024));
}
