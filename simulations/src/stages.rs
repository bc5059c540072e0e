//! The server's own histograms over the measured time: where a message's time goes.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use colloquy_tests::metrics::{Sample, samples};
use colloquy_tests::rest::http_client;
use serde::Serialize;

use crate::Failure;

/// One histogram of the server over the measured time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Stage {
    /// The metric, and its labels.
    pub(crate) name: String,
    /// Observations.
    pub(crate) count: f64,
    /// Their mean, in the metric's unit.
    pub(crate) mean: f64,
    /// The upper end of the bucket that holds the 99th percentile.
    pub(crate) p99_within: f64,
}

/// Scrapes the operations listener.
pub(crate) async fn scrape(operations: SocketAddr) -> Result<Vec<Sample>, Failure> {
    let response = http_client().get(format!("http://{operations}/metrics")).send().await?;
    Ok(samples(&response.text().await?))
}

/// Every histogram that has grown between two scrapes.
pub(crate) fn between(before: &[Sample], after: &[Sample]) -> Vec<Stage> {
    let before: BTreeMap<(&str, &str), f64> =
        before.iter().map(|s| ((s.name.as_str(), s.labels.as_str()), s.value)).collect();
    let grown = |s: &Sample| s.value - before.get(&(s.name.as_str(), s.labels.as_str())).unwrap_or(&0.0);
    let mut stages = Vec::new();
    for sum in after {
        let Some(name) = sum.name.strip_suffix("_sum") else { continue };
        let of_this = |suffix: &str| {
            let wanted = format!("{name}{suffix}");
            after.iter().filter(move |s| s.name == wanted)
        };
        let count = of_this("_count").find(|s| s.labels == sum.labels).map_or(0.0, grown);
        if count <= 0.0 {
            continue;
        }
        let buckets = of_this("_bucket").filter(|s| same_series(&s.labels, &sum.labels));
        let p99 =
            buckets.filter(|s| grown(s) >= 0.99 * count).filter_map(bound).fold(f64::INFINITY, f64::min);
        let labels = if sum.labels.is_empty() { String::new() } else { format!("{{{}}}", sum.labels) };
        stages.push(Stage {
            name: format!("{name}{labels}"),
            count,
            mean: grown(sum) / count,
            p99_within: p99,
        });
    }
    stages
}

/// Do a bucket's labels, without its bound, name the same series?
fn same_series(bucket: &str, series: &str) -> bool {
    let without: Vec<&str> = bucket.split(',').filter(|pair| !pair.starts_with("le=")).collect();
    without.join(",") == series
}

fn bound(bucket: &Sample) -> Option<f64> {
    let bound = bucket.label("le")?;
    if bound == "+Inf" { Some(f64::INFINITY) } else { bound.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_grown_counts() {
        let scrape = |sum: f64, count: f64, low: f64| {
            samples(&format!(
                "commit_seconds_sum{{kind=\"a\"}} {sum}\ncommit_seconds_count{{kind=\"a\"}} {count}\n\
                 commit_seconds_bucket{{kind=\"a\",le=\"0.001\"}} {low}\n\
                 commit_seconds_bucket{{kind=\"a\",le=\"0.01\"}} {count}\n"
            ))
        };
        let stages = between(&scrape(1.0, 100.0, 100.0), &scrape(2.0, 300.0, 200.0));
        assert_eq!(stages.len(), 1);
        assert_eq!(stages[0].name, "commit_seconds{kind=\"a\"}");
        assert!((stages[0].mean - 0.005).abs() < 1e-9);
        assert!((stages[0].p99_within - 0.01).abs() < 1e-9);
        assert!(between(&scrape(1.0, 100.0, 1.0), &scrape(1.0, 100.0, 1.0)).is_empty());
    }
}
