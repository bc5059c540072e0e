//! When to connect again: by close code, with full jitter, never sooner than the last time for ever.
//!
//! Full jitter (a uniform draw between zero and the ceiling) spreads a crowd of clients best: after a restart
//! they come back evenly over the whole interval instead of in waves.

use std::time::Duration;

use colloquy_protocol::close::{AfterClose, CloseCode, after_close};

/// Doublings after which the ceiling is certainly reached.
const DOUBLINGS_MAX: u32 = 20;
/// An overloaded server gets this many times the usual ceiling.
const OVERLOADED_FACTOR: u64 = 4;

/// How long to wait at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// The ceiling of the first wait, ms.
    pub first_ms: u64,
    /// The ceiling of every wait, ms.
    pub max_ms: u64,
    /// A connection that lasted this long starts the count anew, ms.
    pub stable_after_ms: u64,
}

impl Default for BackoffPolicy {
    fn default() -> Self {
        Self { first_ms: 500, max_ms: 60_000, stable_after_ms: 10_000 }
    }
}

/// What to do after a connection was lost or could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconnect {
    /// Connect again after this time.
    After(Duration),
    /// Refresh the access token, and connect again after this time.
    RefreshAfter(Duration),
    /// Stay away: something has to be changed first.
    Never,
}

/// Counts failures and draws waits.
#[derive(Clone, Debug)]
pub struct Backoff {
    policy: BackoffPolicy,
    failures: u32,
    connected_at: Option<u64>,
}

impl Backoff {
    /// Nothing has failed yet.
    #[must_use]
    pub fn new(policy: BackoffPolicy) -> Self {
        Self { policy, failures: 0, connected_at: None }
    }

    /// The server has accepted this device at `now`.
    pub fn connected(&mut self, now: u64) {
        self.connected_at = Some(now);
    }

    /// The connection ended with `close` (`None`: without a code, or it was never made). `draw` is a uniform
    /// random number.
    pub fn lost(&mut self, close: Option<u16>, now: u64, draw: u64) -> Reconnect {
        let lasted = self.connected_at.take().map_or(0, |since| now.saturating_sub(since));
        if lasted >= self.policy.stable_after_ms {
            self.failures = 0;
        }
        let factor = if close == Some(CloseCode::Overloaded.number()) { OVERLOADED_FACTOR } else { 1 };
        let doubled = self.policy.first_ms.saturating_mul(1 << self.failures.min(DOUBLINGS_MAX));
        let ceiling = doubled.min(self.policy.max_ms).saturating_mul(factor);
        self.failures = self.failures.saturating_add(1);
        let wait = Duration::from_millis(draw % ceiling.saturating_add(1).max(1));
        match after_close(close) {
            AfterClose::Reconnect => Reconnect::After(wait),
            AfterClose::RefreshThenReconnect => Reconnect::RefreshAfter(wait),
            AfterClose::Stop => Reconnect::Never,
        }
    }

    /// The server asked to come back after this time, somewhere else. It drew the wait, so nothing is added.
    #[must_use]
    pub fn migrated(&self, reconnect_after_ms: u64) -> Duration {
        Duration::from_millis(reconnect_after_ms.min(self.policy.max_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wait(reconnect: Reconnect) -> u64 {
        match reconnect {
            Reconnect::After(wait) | Reconnect::RefreshAfter(wait) => {
                u64::try_from(wait.as_millis()).unwrap()
            }
            Reconnect::Never => panic!("stays away"),
        }
    }

    proptest! {
        #[test]
        fn a_wait_never_exceeds_its_ceiling(failures in 0_u32..100, draw: u64) {
            let policy = BackoffPolicy::default();
            let mut backoff = Backoff::new(policy);
            for _ in 0..failures { backoff.lost(None, 0, draw); }
            let ceiling = policy.first_ms.saturating_mul(1 << failures.min(30)).min(policy.max_ms);
            prop_assert!(wait(backoff.lost(None, 0, draw)) <= ceiling);
        }
    }

    #[test]
    fn the_close_code_decides_whether_to_come_back() {
        let mut backoff = Backoff::new(BackoffPolicy::default());
        assert!(matches!(backoff.lost(Some(4001), 0, 7), Reconnect::After(_)));
        assert!(matches!(backoff.lost(Some(4005), 0, 7), Reconnect::RefreshAfter(_)));
        assert_eq!(backoff.lost(Some(4501), 0, 7), Reconnect::Never);
    }

    #[test]
    fn only_a_connection_that_lasted_starts_the_count_anew() {
        let policy = BackoffPolicy { first_ms: 100, max_ms: 100_000, stable_after_ms: 1_000 };
        let mut backoff = Backoff::new(policy);
        for _ in 0..4 {
            backoff.lost(None, 0, 0);
        }
        backoff.connected(0);
        assert_eq!(wait(backoff.lost(None, 999, 1_600)), 1_600);
        backoff.connected(2_000);
        assert_eq!(wait(backoff.lost(None, 3_000, 100)), 100);
        assert_eq!(wait(backoff.lost(None, 3_000, 201)), 0);
    }
}
