//! What was counted and timed: one tally for each thread, added up in the end.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;

/// Longest latency that is told apart, microseconds; what takes longer counts as this.
const LATENCY_MAX_US: u64 = 60_000_000;
/// Significant digits of a latency.
const DIGITS: u8 = 3;

/// Where a run is. It only ever goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Sockets are being opened.
    Connecting,
    /// Messages flow; nothing counts yet.
    WarmUp,
    /// What is sent and answered now counts.
    Measuring,
    /// Nothing more is sent; what is on the way arrives.
    Draining,
    /// Over.
    Over,
}

/// What every thread of a run shares.
pub(crate) struct Course {
    phase: AtomicU8,
    started: Instant,
    measured_from_us: AtomicU64,
    /// Messages sent, since the beginning.
    pub(crate) sent: AtomicU64,
    /// Messages acked, since the beginning.
    pub(crate) acked: AtomicU64,
    /// Messages delivered, since the beginning.
    pub(crate) delivered: AtomicU64,
    /// Messages refused, since the beginning.
    pub(crate) refused: AtomicU64,
    /// Sockets each message goes to.
    fan_out: u64,
}

impl Course {
    /// A run in which each message goes to `fan_out` sockets.
    pub(crate) fn new(fan_out: u64) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Connecting as u8),
            started: Instant::now(),
            measured_from_us: AtomicU64::new(u64::MAX),
            sent: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            fan_out,
        }
    }

    /// Where the run is.
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Connecting,
            1 => Phase::WarmUp,
            2 => Phase::Measuring,
            3 => Phase::Draining,
            _ => Phase::Over,
        }
    }

    /// Goes on to `phase`.
    pub(crate) fn enter(&self, phase: Phase) {
        if phase == Phase::Measuring {
            self.measured_from_us.store(self.now_us(), Ordering::Release);
        }
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Microseconds since the beginning: the clock of both ends.
    pub(crate) fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Does a message sent then, and answered now, count?
    pub(crate) fn counts(&self, sent_at_us: u64) -> bool {
        self.phase() == Phase::Measuring && sent_at_us >= self.measured_from_us.load(Ordering::Acquire)
    }

    /// Is everything that was sent answered, and delivered unless it was refused?
    pub(crate) fn is_quiet(&self) -> bool {
        let taken = self.sent.load(Ordering::Acquire).saturating_sub(self.refused.load(Ordering::Acquire));
        let delivered = self.delivered.load(Ordering::Acquire);
        self.acked.load(Ordering::Acquire) >= taken && delivered >= taken * self.fan_out
    }
}

/// What one thread has seen.
pub(crate) struct Tally {
    /// From sending to the ack.
    pub(crate) ack_us: Histogram<u64>,
    /// From sending to the recipient's socket.
    pub(crate) delivery_us: Histogram<u64>,
    /// From when a message was due until the kernel took it: what a sender that never waits had to wait all the same.
    pub(crate) late_us: Histogram<u64>,
    /// From then to the ack.
    pub(crate) written_us: Histogram<u64>,
    /// Frames that refused something, and sockets that were closed.
    pub(crate) refused: u64,
    /// The first of them.
    pub(crate) first_refusal: Option<String>,
    /// Pages instead of live messages: the recipient had fallen behind.
    pub(crate) pages: u64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let histogram = || Histogram::new_with_max(LATENCY_MAX_US, DIGITS).expect("the bounds are constants");
        Self {
            ack_us: histogram(),
            delivery_us: histogram(),
            late_us: histogram(),
            written_us: histogram(),
            refused: 0,
            first_refusal: None,
            pages: 0,
        }
    }

    pub(crate) fn refuse(&mut self, why: impl FnOnce() -> String) {
        self.refused += 1;
        self.first_refusal.get_or_insert_with(why);
    }

    pub(crate) fn add(&mut self, other: Tally) {
        // Both have the same bounds.
        self.ack_us.add(other.ack_us).expect("equal bounds add up");
        self.delivery_us.add(other.delivery_us).expect("equal bounds add up");
        self.late_us.add(other.late_us).expect("equal bounds add up");
        self.written_us.add(other.written_us).expect("equal bounds add up");
        self.refused += other.refused;
        self.pages += other.pages;
        self.first_refusal = self.first_refusal.take().or(other.first_refusal);
    }
}

/// A latency's distribution, milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50_ms: f64,
    pub(crate) p95_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
}

impl Latency {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let ms = |us: u64| Duration::from_micros(us).as_secs_f64() * 1000.0;
        Self {
            p50_ms: ms(histogram.value_at_quantile(0.5)),
            p95_ms: ms(histogram.value_at_quantile(0.95)),
            p99_ms: ms(histogram.value_at_quantile(0.99)),
            p999_ms: ms(histogram.value_at_quantile(0.999)),
            max_ms: ms(histogram.max()),
        }
    }
}

/// The quantiles that curves are drawn through: as many nines as there are samples for.
pub(crate) fn quantiles(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let nines = (0..=50).map(|step| f64::from(step) / 10.0);
    let seen = nines.take_while(|nines| 10_f64.powf(*nines) <= histogram.len() as f64);
    seen.map(|nines| (nines, histogram.value_at_quantile(1.0 - 10_f64.powf(-nines)) as f64)).collect()
}
