//! Sockets that only send heartbeats: memory per connection.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use colloquy_protocol::limits::{DEVICES_PER_USER_MAX, HEARTBEAT_INTERVAL};
use indicatif::ProgressBar;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at, sleep};

use crate::Failure;
use crate::population::{in_order, register};
use crate::process::{cpu_seconds, raise_file_limit, resident_kib};
use crate::report::{IdleReport, write};
use crate::socket::{Incoming, Socket};
use crate::target::{Target, TargetOptions};
use crate::traffic::authenticate;

/// Bytes read at once: an idle socket gets little.
const READ_SIZE: usize = 256;
/// For the server to settle before its memory is read.
const SETTLE: Duration = Duration::from_secs(2);
/// Files a process has open besides its sockets.
const OTHER_FILES: u64 = 200;

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
    let files = raise_file_limit()?;
    if files < options.connections + OTHER_FILES {
        return Err(format!("the limit of open files is {files}: raise it with ulimit -n").into());
    }
    let target = Target::reach(&options.target).await;
    let pid =
        target.pids.first().copied().ok_or("memory is read from a process: name it with --server-pid")?;
    let connections = usize::try_from(options.connections)?;
    let users = connections.div_ceil(DEVICES_PER_USER_MAX);
    let devices = register(&target.rest, users, DEVICES_PER_USER_MAX).await;

    sleep(SETTLE).await;
    let resident_before_kib = resident_kib(pid)?;
    let progress = ProgressBar::new(connections as u64).with_message("connections");
    let address = target.addresses[0];
    let opening = devices.iter().take(connections).map(|device| {
        let device = Arc::clone(device);
        async move { authenticate(address, &device, READ_SIZE).await }
    });
    let mut open = JoinSet::new();
    for socket in in_order(opening, &progress).await {
        open.spawn(hold(socket?));
    }
    progress.finish_and_clear();
    sleep(SETTLE).await;
    let resident_connected_kib = resident_kib(pid)?;
    let cpu_before = cpu_seconds(pid)?;
    sleep(Duration::from_secs(options.hold_seconds)).await;
    while open.try_join_next().is_some() {}

    let grown = resident_connected_kib.saturating_sub(resident_before_kib);
    let report = IdleReport {
        connections,
        users,
        resident_before_kib,
        resident_connected_kib,
        resident_after_hold_kib: resident_kib(pid)?,
        kib_per_connection: grown as f64 / connections as f64,
        hold_seconds: options.hold_seconds,
        hold_server_cpu_seconds: cpu_seconds(pid)? - cpu_before,
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
