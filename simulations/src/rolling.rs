//! Three pods under steady traffic, each restarted in turn by SIGTERM: what is lost, what is doubled, and how long
//! clients and messages have to wait.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use colloquy_tests::account::{Account, Spread};
use colloquy_tests::cluster::{Cluster, ClusterOptions, pod_name};
use colloquy_tests::fleet::{Fleet, FleetOptions};
use serde::Serialize;
use tokio::time::Instant;

use crate::Failure;
use crate::process::raise_file_limit;
use crate::report::{row, write};

/// A rolling restart.
#[derive(Args, Clone, Debug)]
pub(crate) struct RollingOptions {
    /// Clients, in pairs; the two of a pair are on different pods.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(2..=20_000))]
    clients: u64,
    /// Messages a second, of all clients together.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rate: u64,
    /// Seconds of traffic before the first restart, after the last, and between two.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What a rolling restart came to.
#[derive(Debug, Serialize)]
struct RollingReport {
    clients: u64,
    rate: u64,
    sent: u64,
    lost: u64,
    doubled: u64,
    reconnects: usize,
    reconnect: Waits,
    send_to_ack_before: Waits,
    send_to_ack_during: Waits,
    restart_seconds: Vec<f64>,
}

/// How long things took, milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Waits {
    p50_ms: u128,
    p99_ms: u128,
    max_ms: u128,
}

impl From<&Spread> for Waits {
    fn from(spread: &Spread) -> Self {
        let ms = |share| spread.quantile(share).as_millis();
        Self { p50_ms: ms(0.5), p99_ms: ms(0.99), max_ms: ms(1.0) }
    }
}

/// Runs it. Everything sent is checked in the end: numbers, order, once, nothing lost.
pub(crate) async fn run(options: RollingOptions) -> Result<(), Failure> {
    raise_file_limit()?;
    let mut cluster = Cluster::start(ClusterOptions::default()).await;
    let fleet_options = FleetOptions {
        steady_pairs: usize::try_from(options.clients / 2)?,
        quiet_pairs: 0,
        interval: Duration::from_secs(1).mul_f64(options.clients as f64 / options.rate as f64),
    };
    let mut fleet = Fleet::start(&cluster.rest(0), &cluster.addresses(), fleet_options).await;
    let pause = Duration::from_secs(options.seconds);
    fleet.flow();
    fleet.goes_on_for(pause).await;
    let before = fleet.account();
    let mut restart_seconds = Vec::new();
    for pod in 0..cluster.pods().len() {
        let told = Instant::now();
        if cluster.terminate(pod).await != Some(0) {
            return Err(format!("{} did not stop in good order", pod_name(pod)).into());
        }
        cluster.restart(pod).await;
        restart_seconds.push(told.elapsed().as_secs_f64());
        fleet.goes_on_for(pause).await;
    }
    fleet.settle().await;
    // Fails if anything is lost, doubled, numbered twice or out of order.
    let logged = fleet.check(&cluster.rest(0)).await;
    cluster.assert_no_invariant_is_broken().await;
    let report = report(&options, (&before, &fleet.account()), logged, restart_seconds);
    report.print();
    if let Some(file) = &options.json {
        write(&report, file)?;
    }
    Ok(())
}

fn report(
    options: &RollingOptions,
    (before, during): (&Account, &Account),
    logged: u64,
    restart_seconds: Vec<f64>,
) -> RollingReport {
    let sent = before.sent + during.sent;
    RollingReport {
        clients: options.clients,
        rate: options.rate,
        sent,
        // Everything sent is acked by now.
        lost: sent.saturating_sub(logged),
        doubled: logged.saturating_sub(sent),
        reconnects: during.reconnects.len(),
        reconnect: Waits::from(&during.reconnect_times()),
        send_to_ack_before: Waits::from(&before.delays),
        send_to_ack_during: Waits::from(&during.delays),
        restart_seconds,
    }
}

impl RollingReport {
    fn print(&self) {
        println!("{} clients, {} messages/s, every pod restarted once", self.clients, self.rate);
        row("messages sent", self.sent);
        row("lost", self.lost);
        row("doubled", self.doubled);
        row("reconnects", self.reconnects);
        waits("time to reconnect", self.reconnect);
        waits("send to ack before", self.send_to_ack_before);
        waits("send to ack during", self.send_to_ack_during);
        let seconds: Vec<String> = self.restart_seconds.iter().map(|it| format!("{it:.1}")).collect();
        row("SIGTERM to ready again", format!("{} s", seconds.join(", ")));
    }
}

fn waits(name: &str, waits: Waits) {
    let Waits { p50_ms, p99_ms, max_ms } = waits;
    row(name, format!("p50 {p50_ms}  p99 {p99_ms}  max {max_ms} ms"));
}
