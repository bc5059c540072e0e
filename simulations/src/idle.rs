//! Sockets that only send heartbeats: memory per connection.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use colloquy_protocol::limits::HEARTBEAT_INTERVAL;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at, sleep};

use crate::Failure;
use crate::crowd::Crowd;
use crate::process::{cpu_seconds, resident_kib};
use crate::report::{IdleReport, write};
use crate::socket::{Incoming, Socket};
use crate::target::TargetOptions;

/// For the server to settle before its memory is read.
const SETTLE: Duration = Duration::from_secs(2);

/// An idle run.
#[derive(Args, Clone, Debug)]
pub(crate) struct IdleOptions {
    /// Sockets.
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..=25_000))]
    connections: u64,
    /// How long they are held; more than the heartbeat interval shows what heartbeats cost.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    hold_seconds: u64,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    target: TargetOptions,
}

/// Runs it.
pub(crate) async fn run(options: IdleOptions) -> Result<(), Failure> {
    let crowd = Crowd::register(options.connections, &options.target).await?;
    sleep(SETTLE).await;
    let resident_before_kib = resident_kib(crowd.pid)?;
    let mut open = JoinSet::new();
    for socket in crowd.connect().await? {
        open.spawn(hold(socket));
    }
    let connections = open.len();
    sleep(SETTLE).await;
    let resident_connected_kib = resident_kib(crowd.pid)?;
    let cpu_before = cpu_seconds(crowd.pid)?;
    sleep(Duration::from_secs(options.hold_seconds)).await;
    while open.try_join_next().is_some() {}

    let grown = resident_connected_kib.saturating_sub(resident_before_kib);
    let report = IdleReport {
        connections,
        users: crowd.users,
        resident_before_kib,
        resident_connected_kib,
        resident_after_hold_kib: resident_kib(crowd.pid)?,
        kib_per_connection: grown as f64 / connections as f64,
        hold_seconds: options.hold_seconds,
        hold_server_cpu_seconds: cpu_seconds(crowd.pid)? - cpu_before,
        still_open: open.len(),
    };
    report.print();
    if let Some(file) = &options.json {
        write(&report, file)?;
    }
    if report.still_open == connections { Ok(()) } else { Err("not every connection stayed open".into()) }
}

/// Keeps one socket alive; ends when the server ends it.
async fn hold(mut socket: Socket) -> Result<(), Failure> {
    let mut heartbeat = interval_at(Instant::now() + HEARTBEAT_INTERVAL, HEARTBEAT_INTERVAL);
    loop {
        tokio::select! {
            _ = heartbeat.tick() => {
                socket.push_text(|out| out.extend_from_slice(br#"{"type":"heartbeat","timestamp":0}"#));
                socket.flush().await?;
            }
            more = socket.read() => {
                if !more? {
                    return Ok(());
                }
                while let Some(incoming) = socket.next()? {
                    if let Incoming::Close(_) = incoming {
                        return Ok(());
                    }
                }
            }
        }
    }
}
