//! When whoever owes something looks through everything for what it was not told of. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// After conversations have come to this pod there is a second round, as much later: what another pod had handed to the store may
/// not have been there yet at the first.
const AFTERMATH: Duration = Duration::from_secs(10);

/// When the next round is due.
#[derive(Debug)]
pub(crate) struct Rounds {
    interval: Duration,
    at: Instant,
    aftermath: Option<Instant>,
}

impl Rounds {
    /// Every `interval`, and now: a predecessor, or a pod that is gone, may have owed something.
    pub(crate) fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, at: now, aftermath: Some(now + AFTERMATH) }
    }

    /// Other conversations belong to this pod than before.
    pub(crate) fn placed_anew(&mut self, now: Instant) {
        *self = Self::new(self.interval, now);
    }

    /// Something was missed, or a round could not be finished.
    pub(crate) fn missed(&mut self, now: Instant) {
        self.at = now;
    }

    /// A round has come to its end: the next is due as long after that.
    pub(crate) fn ended(&mut self, now: Instant) {
        if self.at > now {
            self.at = now + self.interval;
        }
    }

    /// Is a round due? Then it is begun.
    pub(crate) fn begin_if_due(&mut self, now: Instant) -> bool {
        let is_aftermath = self.aftermath.take_if(|at| *at <= now).is_some();
        let is_due = is_aftermath || self.at <= now;
        if is_due {
            self.at = now + self.interval;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(300);

    /// The seconds in which a round begins, of so many.
    fn begun(rounds: &mut Rounds, began: Instant, seconds: std::ops::Range<u64>) -> Vec<u64> {
        seconds.filter(|second| rounds.begin_if_due(began + Duration::from_secs(*second))).collect()
    }

    #[test]
    fn a_start_and_another_placement_have_an_aftermath() {
        let began = Instant::now();
        let mut rounds = Rounds::new(INTERVAL, began);
        assert_eq!(begun(&mut rounds, began, 0..20), [0, 10]);
        rounds.placed_anew(began + Duration::from_secs(20));
        assert_eq!(begun(&mut rounds, began, 20..400), [20, 30, 330]);
    }

    #[test]
    fn what_was_missed_is_looked_for_at_once() {
        let began = Instant::now();
        let mut rounds = Rounds::new(INTERVAL, began);
        begun(&mut rounds, began, 0..20);
        rounds.missed(began + Duration::from_secs(25));
        assert_eq!(begun(&mut rounds, began, 25..400), [25, 325]);
    }

    #[test]
    fn a_long_round_is_followed_by_a_pause_unless_something_was_missed_in_it() {
        let began = Instant::now();
        let mut rounds = Rounds::new(INTERVAL, began);
        begun(&mut rounds, began, 0..20);
        rounds.ended(began + Duration::from_secs(250));
        assert_eq!(begun(&mut rounds, began, 250..600), [550]);
        rounds.missed(began + Duration::from_secs(560));
        rounds.ended(began + Duration::from_secs(580));
        assert_eq!(begun(&mut rounds, began, 580..600), [580]);
    }
}
