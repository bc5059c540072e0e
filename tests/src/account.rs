//! What couriers have done and had to wait for, added up: one line for a phase of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::ledger::{Delay, Ledger, Reconnect, Why};

/// Counts, and how long things took.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Messages composed.
    pub sent: u64,
    /// Messages acked, each once.
    pub acked: u64,
    /// How often messages were sent, the same ones again among them.
    pub sendings: u64,
    /// Messages shown, again ones among them.
    pub shown: u64,
    /// From when each message was due until its first ack.
    pub delays: Spread,
    /// The same, each with its time.
    pub timed: Vec<Delay>,
    /// Connections made anew.
    pub reconnects: Vec<Reconnect>,
}

impl Account {
    /// Adds one courier's book, and takes the lists out of it.
    pub fn add(&mut self, ledger: &mut Ledger) {
        self.sent += ledger.sent();
        self.acked += ledger.acked();
        self.sendings += ledger.sendings();
        self.shown += ledger.record().shown.len() as u64;
        let delays = ledger.take_delays();
        self.delays.add(delays.iter().map(|delay| delay.took).collect());
        self.timed.extend(delays);
        self.reconnects.extend(ledger.take_reconnects());
    }

    /// What came after `earlier`; the lists hold nothing else anyway.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            sent: self.sent - earlier.sent,
            acked: self.acked - earlier.acked,
            sendings: self.sendings - earlier.sendings,
            shown: self.shown - earlier.shown,
            delays: self.delays.clone(),
            timed: self.timed.clone(),
            reconnects: self.reconnects.clone(),
        }
    }

    /// The counts alone.
    #[must_use]
    pub fn without_lists(self) -> Self {
        Self { delays: Spread::default(), timed: Vec::new(), reconnects: Vec::new(), ..self }
    }

    /// How long reconnecting took, but for the moves home that a test asks for.
    #[must_use]
    pub fn reconnect_times(&self) -> Spread {
        let mut times = Spread::default();
        times.add(self.reconnects.iter().filter(|it| it.why != Why::Home).map(|it| it.took).collect());
        times
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, acked, sendings, shown, delays, .. } = self;
        let mut whys: BTreeMap<Why, usize> = BTreeMap::new();
        for reconnect in &self.reconnects {
            *whys.entry(reconnect.why).or_default() += 1;
        }
        let again = sendings.saturating_sub(*sent);
        write!(f, "sent {sent} ({again} times again), acked {acked}, shown {shown}; send to ack {delays}; ")?;
        write!(f, "reconnects {whys:?}, {}", self.reconnect_times())
    }
}

/// Durations, and where they lie.
#[derive(Clone, Debug, Default)]
pub struct Spread(Vec<Duration>);

impl Spread {
    /// Adds some.
    pub fn add(&mut self, more: Vec<Duration>) {
        self.0.extend(more);
        self.0.sort_unstable();
    }

    /// The least duration that `share` of them are not longer than; zero if there are none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let rank = (self.0.len() as f64 * share).ceil().max(1.0) as usize;
        self.0.get(rank - 1).or(self.0.last()).copied().unwrap_or_default()
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |share| self.quantile(share).as_millis();
        write!(f, "p50 {} p99 {} max {} ms", ms(0.5), ms(0.99), ms(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_durations_that_were_there() {
        let mut spread = Spread::default();
        assert_eq!(spread.quantile(0.99), Duration::ZERO);
        spread.add((1..=100).rev().map(Duration::from_millis).collect());
        assert_eq!(spread.quantile(0.5), Duration::from_millis(50));
        assert_eq!(spread.quantile(0.99), Duration::from_millis(99));
        assert_eq!(spread.quantile(1.0), Duration::from_millis(100));
        assert_eq!(spread.to_string(), "p50 50 p99 99 max 100 ms");
    }
}
