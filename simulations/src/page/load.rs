//! The page of a load run: throughput second by second, latencies by percentile, and the server's own stages.

use super::Page;
use super::plot::{Plot, Scale};
use crate::group::PAIR;
use crate::report::LoadReport;
use crate::tally::{Tally, quantiles};

/// Writes it.
pub(crate) fn page(report: &LoadReport, tally: &Tally) -> Page {
    let demand = match report.rate {
        Some(rate) => format!("{rate} messages/s due"),
        None => format!("window {}", report.window),
    };
    let mut page = Page::new(format!("Load: {}, {demand}", report.who()));
    let all =
        if report.refused == 0 { "everything sent was delivered" } else { "some messages were refused" };
    page.verdict(
        report.complete && report.refused == 0,
        if report.complete { all } else { "not everything arrived" },
    );
    let mut tiles = vec![
        ("messages/s", format!("{:.0}", report.messages_per_second)),
        ("deliveries/s", format!("{:.0}", report.deliveries_per_second)),
        ("send to durable ack, p50 / p99", of(report.send_to_ack.p50_ms, report.send_to_ack.p99_ms)),
        ("send to delivery, p50 / p99", of(report.send_to_delivery.p50_ms, report.send_to_delivery.p99_ms)),
        ("sockets a message goes to", (2 * report.devices - 1).to_string()),
        ("bytes of a ciphertext", report.payload_bytes.to_string()),
        ("seconds measured", format!("{:.0}", report.seconds)),
    ];
    if report.group_size > PAIR {
        tiles.push(("users of a group", report.group_size.to_string()));
        tiles.push(("texts/s to a whole group", format!("{:.0}", report.texts_per_second)));
    }
    if let Some(server) = &report.server {
        tiles.push(("messages per server-CPU-second", format!("{:.0}", server.messages_per_cpu_second)));
        tiles.push(("server memory", format!("{} MiB", server.resident_kib / 1024)));
    }
    page.tiles(&tiles);
    page.section("Throughput", "Messages that were acknowledged in each second of the measured time.");
    let most = report.each_second.iter().copied().max().unwrap_or(1) as f64;
    let mut plot = Plot::new((report.each_second.len() as f64, "s"), (most * 1.1, ""), Scale::Linear);
    let points = report.each_second.iter().enumerate();
    plot.curve("messages/s", points.map(|(second, count)| (second as f64 + 0.5, *count as f64)));
    page.drawing(&plot.finish());
    page.section(
        "Latency by percentile",
        "Across, nines: at 1, nine of ten messages took no longer than the curve says; at 2, 99 of 100; at 3, 999 of \
         1000. With senders that never wait, times count from when a message was due.",
    );
    let (ack, delivery) = (quantiles(&tally.ack_us), quantiles(&tally.delivery_us));
    let last = |curve: &[(f64, f64)]| curve.last().copied().unwrap_or((1.0, 1.0));
    let (end, top) = (last(&ack).0.max(last(&delivery).0), last(&ack).1.max(last(&delivery).1));
    let mut plot = Plot::new((end, "nines"), (top, "µs"), Scale::Logarithmic);
    plot.curve("send to durable ack", ack.into_iter());
    plot.curve("send to delivery", delivery.into_iter());
    page.drawing(&plot.finish());
    if !report.stages.is_empty() {
        page.section(
            "Stages",
            "The server's own histograms over the measured time; seconds, or messages of a commit.",
        );
        let row = |stage: &crate::stages::Stage| {
            let (count, mean) = (format!("{:.0}", stage.count), format!("{:.6}", stage.mean));
            vec![stage.name.clone(), count, mean, format!("{:.6}", stage.p99_within)]
        };
        let rows: Vec<Vec<String>> = report.stages.iter().map(row).collect();
        page.table(&["stage", "count", "mean", "p99 within"], &rows);
    }
    page
}

fn of(p50_ms: f64, p99_ms: f64) -> String {
    format!("{p50_ms:.1} / {p99_ms:.1} ms")
}
