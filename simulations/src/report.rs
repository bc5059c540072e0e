//! The figures, as a table and as JSON.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::Failure;
use crate::group::PAIR;
use crate::stages::Stage;
use crate::tally::Latency;

/// What a load run came to.
#[derive(Debug, Serialize)]
pub(crate) struct LoadReport {
    /// Groups of users; a pair is a group of two.
    pub(crate) groups: usize,
    /// Users of each.
    pub(crate) group_size: usize,
    /// Devices of each user.
    pub(crate) devices: usize,
    pub(crate) window: u64,
    /// Messages a second that were due, if senders did not wait.
    pub(crate) rate: Option<u32>,
    pub(crate) payload_bytes: usize,
    pub(crate) both_ways: bool,
    pub(crate) seconds: f64,
    pub(crate) messages: u64,
    pub(crate) messages_per_second: f64,
    /// To a whole group: each is a message to each of the others.
    pub(crate) texts_per_second: f64,
    /// Messages that were read from a recipient's socket in the measured time.
    pub(crate) deliveries: u64,
    pub(crate) deliveries_per_second: f64,
    /// Messages that whoever is told of every message was told in the measured time.
    pub(crate) told_per_second: Option<f64>,
    pub(crate) send_to_ack: Latency,
    pub(crate) send_to_delivery: Latency,
    /// From when a message was due until there was room for it in the kernel.
    pub(crate) due_to_written: Option<Latency>,
    /// From then to the ack: what the server adds, however much more is due.
    pub(crate) written_to_ack: Option<Latency>,
    /// Messages of each measured second.
    pub(crate) each_second: Vec<u64>,
    pub(crate) server: Option<ProcessFigures>,
    pub(crate) client_cpu_seconds: f64,
    pub(crate) refused: u64,
    pub(crate) first_refusal: Option<String>,
    /// Pages a recipient got instead of live messages.
    pub(crate) pages: u64,
    /// Everything sent was acked and delivered before the end.
    pub(crate) complete: bool,
    pub(crate) stages: Vec<Stage>,
}

/// What the server's process used.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct ProcessFigures {
    pub(crate) cpu_seconds: f64,
    pub(crate) messages_per_cpu_second: f64,
    pub(crate) resident_kib: u64,
}

/// What an idle run came to.
#[derive(Debug, Serialize)]
pub(crate) struct IdleReport {
    pub(crate) connections: usize,
    pub(crate) users: usize,
    pub(crate) resident_before_kib: u64,
    pub(crate) resident_connected_kib: u64,
    pub(crate) resident_after_hold_kib: u64,
    pub(crate) kib_per_connection: f64,
    pub(crate) hold_seconds: u64,
    pub(crate) hold_server_cpu_seconds: f64,
    pub(crate) still_open: usize,
}

/// One line of a table.
pub(crate) fn row(name: &str, value: impl std::fmt::Display) {
    println!("  {name:<28} {value}");
}

pub(crate) fn latency(name: &str, latency: &Latency) {
    let Latency { p50_ms, p95_ms, p99_ms, p999_ms, max_ms } = latency;
    row(
        name,
        format!("p50 {p50_ms:.2}  p95 {p95_ms:.2}  p99 {p99_ms:.2}  p99.9 {p999_ms:.2}  max {max_ms:.2} ms"),
    );
}

impl LoadReport {
    /// Who writes to whom.
    pub(crate) fn who(&self) -> String {
        let groups = self.groups;
        let with = if self.devices > 1 { format!(" with {} devices", self.devices) } else { String::new() };
        match self.group_size {
            PAIR if self.devices > 1 => format!("{groups} pairs of users{with}"),
            PAIR => format!("{groups} pairs"),
            members => format!("{groups} groups of {members} users{with}"),
        }
    }

    pub(crate) fn print(&self) {
        let ways = match (self.both_ways, self.group_size) {
            (false, _) => "one way",
            (true, PAIR) => "both ways",
            (true, _) => "all send",
        };
        let demand = match self.rate {
            Some(rate) => format!("{rate} messages/s are due"),
            None => format!("window {}", self.window),
        };
        println!(
            "{}, {demand}, {} bytes, {ways}, {:.1} s measured",
            self.who(),
            self.payload_bytes,
            self.seconds
        );
        row("messages", self.messages);
        row("messages/s", format!("{:.0}", self.messages_per_second));
        if self.group_size > PAIR {
            row("texts/s to a whole group", format!("{:.0}", self.texts_per_second));
        }
        row("deliveries/s", format!("{:.0}", self.deliveries_per_second));
        if let Some(told) = self.told_per_second {
            row("told/s", format!("{told:.0}"));
        }
        latency("send to durable ack", &self.send_to_ack);
        latency("send to delivery", &self.send_to_delivery);
        if let Some(late) = &self.due_to_written {
            latency("due to written", late);
        }
        if let Some(taken) = &self.written_to_ack {
            latency("written to durable ack", taken);
        }
        if let Some(server) = &self.server {
            let share = 100.0 * server.cpu_seconds / self.seconds;
            row("server CPU", format!("{:.2} s ({share:.0} % of one core)", server.cpu_seconds));
            row("messages/server-CPU-second", format!("{:.0}", server.messages_per_cpu_second));
            row("server resident", format!("{} MiB", server.resident_kib / 1024));
        }
        let share = 100.0 * self.client_cpu_seconds / self.seconds;
        row("client CPU", format!("{:.2} s ({share:.0} % of one core)", self.client_cpu_seconds));
        row("refused", self.refused);
        if let Some(first) = &self.first_refusal {
            row("first refusal", first);
        }
        row("pages instead of live", self.pages);
        row("all delivered", if self.complete { "yes" } else { "NO" });
        if !self.stages.is_empty() {
            println!("  {:<44} {:>10} {:>12} {:>12}", "stage", "count", "mean", "p99 within");
        }
        for stage in &self.stages {
            let Stage { name, count, mean, p99_within } = stage;
            println!("  {name:<44} {count:>10.0} {mean:>12.6} {p99_within:>12.6}");
        }
    }
}

impl IdleReport {
    pub(crate) fn print(&self) {
        println!("{} idle authenticated connections of {} users", self.connections, self.users);
        row("server resident before", format!("{} KiB", self.resident_before_kib));
        row("server resident connected", format!("{} KiB", self.resident_connected_kib));
        row("after holding", format!("{} KiB ({} s)", self.resident_after_hold_kib, self.hold_seconds));
        row("KiB per connection", format!("{:.2}", self.kib_per_connection));
        row("server CPU while holding", format!("{:.2} s", self.hold_server_cpu_seconds));
        row("still open", self.still_open);
    }
}

/// Writes a report as JSON.
pub(crate) fn write(report: &impl Serialize, file: &Path) -> Result<(), Failure> {
    fs::write(file, serde_json::to_string_pretty(report)?)?;
    Ok(())
}
