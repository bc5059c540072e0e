//! What the mailboxes of one kind of actor are measured by.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// Measures of one kind of actor, over all of its mailboxes. Clones are the same.
#[derive(Clone, Debug)]
pub struct Meters {
    /// Letters that wait.
    pub depth: Gauge,
    /// The most that have waited in one mailbox (BOUND).
    pub peak: Gauge,
    /// The most that may, but for what something else bounds.
    pub capacity: Gauge,
    /// Messages that found a mailbox full.
    pub refused: Counter,
    /// From sending a letter until the actor took it up, seconds; of a share of the letters.
    pub wait_seconds: Histogram,
    /// From taking a letter up until the actor was done with it, seconds; of the same.
    pub handle_seconds: Histogram,
}

impl Default for Meters {
    /// Measures that nobody reads.
    fn default() -> Self {
        Self {
            depth: Gauge::default(),
            peak: Gauge::default(),
            capacity: Gauge::default(),
            refused: Counter::default(),
            wait_seconds: Self::seconds(),
            handle_seconds: Self::seconds(),
        }
    }
}

impl Meters {
    /// An empty histogram, from 1 microsecond to 17 seconds.
    pub(crate) fn seconds() -> Histogram {
        Histogram::new(exponential_buckets(0.000_001, 4.0, 13))
    }
}
