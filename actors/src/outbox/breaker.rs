//! A circuit breaker (Nygard, "Release It!", 2007): a sink that fails again and again is left alone for a while, and then
//! asked once. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that open it.
const FAILURES_MAX: u32 = 5;
/// How long it stays open the first time; each time it is twice as long ...
const OPEN_MIN: Duration = Duration::from_secs(1);
/// ... and at most this.
const OPEN_MAX: Duration = Duration::from_secs(60);

/// Whether a sink is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    state: State,
    /// How long it stays open the next time.
    wait: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is asked; so often in a row it has failed.
    Closed(u32),
    /// It is not asked before.
    Open(Instant),
    /// It is being asked once.
    Trying,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed(0), wait: OPEN_MIN }
    }
}

impl Breaker {
    /// May the sink be asked now? Whoever is told so has to report back.
    pub fn lets_through(&mut self, now: Instant) -> bool {
        match self.state {
            State::Closed(_) => true,
            State::Open(until) if until <= now => {
                self.state = State::Trying;
                true
            }
            State::Open(_) | State::Trying => false,
        }
    }

    /// When it may be asked again, if it may not be now.
    #[must_use]
    pub fn opens_at(&self) -> Option<Instant> {
        match self.state {
            State::Open(until) => Some(until),
            State::Closed(_) | State::Trying => None,
        }
    }

    /// Is it left alone?
    #[cfg(test)]
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed(_))
    }

    /// It has answered, be it with a refusal.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// It has not answered, or has said that it cannot.
    pub fn failed(&mut self, now: Instant) {
        let failures = match self.state {
            State::Closed(failures) => failures + 1,
            State::Trying => FAILURES_MAX,
            // Asked before it opened.
            State::Open(_) => return,
        };
        if failures < FAILURES_MAX {
            self.state = State::Closed(failures);
        } else {
            self.state = State::Open(now + self.wait);
            self.wait = (self.wait * 2).min(OPEN_MAX);
        }
    }

    /// Whoever was let through has not asked after all.
    pub fn unused(&mut self, now: Instant) {
        if self.state == State::Trying {
            self.state = State::Open(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail_often(breaker: &mut Breaker, now: Instant) {
        for _ in 0..FAILURES_MAX {
            assert!(breaker.lets_through(now));
            breaker.failed(now);
        }
    }

    #[test]
    fn one_that_fails_again_and_again_is_left_alone_and_then_asked_once() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        fail_often(&mut breaker, now);
        assert!(!breaker.lets_through(now));
        assert_eq!(breaker.opens_at(), Some(now + OPEN_MIN));
        let later = now + OPEN_MIN;
        assert!(breaker.lets_through(later));
        assert!(!breaker.lets_through(later), "one at a time");
        breaker.succeeded();
        assert!(breaker.lets_through(later) && breaker.lets_through(later));
    }

    #[test]
    fn each_time_it_waits_longer_up_to_a_bound() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        fail_often(&mut breaker, now);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let opens = breaker.opens_at().unwrap();
            waits.push((opens - now).as_secs());
            now = opens;
            assert!(breaker.lets_through(now));
            breaker.failed(now);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn failures_with_a_success_between_them_are_not_in_a_row() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..3 * FAILURES_MAX {
            breaker.failed(now);
            breaker.succeeded();
        }
        assert!(breaker.lets_through(now));
    }

    #[test]
    fn a_try_that_was_not_made_may_be_made_by_the_next() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        fail_often(&mut breaker, now);
        let later = now + OPEN_MIN;
        assert!(breaker.lets_through(later));
        breaker.unused(later);
        assert!(breaker.lets_through(later));
    }
}
