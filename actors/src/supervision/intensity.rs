//! Restart intensity and backoff: pure, given the time.
//!
//! The idea is OTP's (`supervisor`: intensity and period): a child that keeps failing is a fault that a restart
//! does not mend, so after so many restarts in so long the supervisor gives up and its own parent decides.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// When a child is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Always, whatever it ended with.
    Permanent,
    /// Only after an exit that was not meant.
    Transient,
    /// Never.
    Temporary,
}

/// What to do about an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartDecision {
    /// Start it again after this long.
    RestartAfter(Duration),
    /// Too often: give up and let the parent decide.
    Escalate,
}

/// At most `max_restarts` within `period`; the wait before the n-th of them doubles from `backoff_min` to `backoff_max`.
#[derive(Clone, Copy, Debug)]
pub struct RestartIntensity {
    /// Restarts allowed within `period`.
    pub max_restarts: usize,
    /// The window restarts are counted in.
    pub period: Duration,
    /// The wait before the first restart in a window.
    pub backoff_min: Duration,
    /// The longest wait.
    pub backoff_max: Duration,
}

impl Default for RestartIntensity {
    fn default() -> Self {
        Self {
            max_restarts: 10,
            period: Duration::from_secs(60),
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_secs(2),
        }
    }
}

/// The restarts of one supervisor within its window.
#[derive(Debug, Default)]
pub(super) struct RestartLog {
    recent: VecDeque<Instant>,
}

impl RestartLog {
    pub(super) fn decide(&mut self, intensity: &RestartIntensity, now: Instant) -> RestartDecision {
        while self.recent.front().is_some_and(|at| now.duration_since(*at) >= intensity.period) {
            self.recent.pop_front();
        }
        if self.recent.len() >= intensity.max_restarts {
            return RestartDecision::Escalate;
        }
        let doublings = u32::try_from(self.recent.len()).unwrap_or(u32::MAX).min(16);
        self.recent.push_back(now);
        RestartDecision::RestartAfter(
            (intensity.backoff_min * 2_u32.pow(doublings)).min(intensity.backoff_max),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_keeps_failing_is_restarted_ever_later_and_then_given_up() {
        let intensity = RestartIntensity {
            max_restarts: 3,
            period: Duration::from_secs(60),
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_millis(30),
        };
        let (mut log, start) = (RestartLog::default(), Instant::now());
        let waits: Vec<RestartDecision> = (0..4).map(|_| log.decide(&intensity, start)).collect();
        let after = |ms| RestartDecision::RestartAfter(Duration::from_millis(ms));
        assert_eq!(waits, [after(10), after(20), after(30), RestartDecision::Escalate]);
    }

    #[test]
    fn failures_far_apart_are_forgiven() {
        let (intensity, mut log, start) =
            (RestartIntensity::default(), RestartLog::default(), Instant::now());
        for minute in 0..100 {
            let decision = log.decide(&intensity, start + Duration::from_secs(60 * minute));
            assert_eq!(decision, RestartDecision::RestartAfter(intensity.backoff_min));
        }
    }
}
