//! Which of a sender's messages are on their way over one connection, under which number, and which goes next. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// Messages on their way at once; below the server's own bound.
pub const WINDOW: usize = 48;

/// One connection's way.
#[derive(Default)]
pub struct Lane {
    /// The `client_sequence` of each message sent here and not done with: sent again, it keeps it, so that nothing that
    /// was sent later overtakes it (ORDER).
    numbered: BTreeMap<u64, u64>,
    last_number: u64,
    in_flight: BTreeMap<u64, Instant>,
    /// Nothing is sent before.
    rests_until: Option<Instant>,
}

impl Lane {
    /// The first of `unacked`, in their order, that is not on its way, and its number; it counts as on its way.
    pub fn next(&mut self, mut unacked: impl Iterator<Item = u64>, now: Instant) -> Option<(u64, u64)> {
        if self.in_flight.len() >= WINDOW || self.rests_until.is_some_and(|until| until > now) {
            return None;
        }
        self.rests_until = None;
        let index = unacked.find(|index| !self.in_flight.contains_key(index))?;
        let number = *self.numbered.entry(index).or_insert_with(|| {
            self.last_number += 1;
            self.last_number
        });
        self.in_flight.insert(index, now);
        Some((index, number))
    }

    /// The server may take it later: it goes again, and nothing goes before `until`.
    pub fn refused(&mut self, index: u64, until: Instant) {
        self.in_flight.remove(&index);
        self.rests_until = Some(self.rests_until.map_or(until, |rests| rests.max(until)));
    }

    /// It is acked.
    pub fn done(&mut self, index: u64) {
        self.in_flight.remove(&index);
        self.numbered.remove(&index);
    }

    /// When the lane goes on by itself.
    #[must_use]
    pub fn rests_until(&self) -> Option<Instant> {
        self.rests_until
    }

    /// Has something been on its way for longer than `patience`?
    #[must_use]
    pub fn waits_longer_than(&self, patience: Duration, now: Instant) -> bool {
        self.in_flight.values().any(|sent| now.duration_since(*sent) > patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_millis(500);

    #[test]
    fn messages_go_in_their_order_and_no_more_at_once_than_the_window() {
        let (mut lane, now) = (Lane::default(), Instant::now());
        for index in 0..WINDOW as u64 {
            assert_eq!(lane.next(0..100, now), Some((index, index + 1)));
        }
        assert_eq!(lane.next(0..100, now), None);
        lane.done(0);
        assert_eq!(lane.next(1..100, now), Some((48, 49)));
    }

    #[test]
    fn a_refused_message_goes_again_first_later_and_under_its_number() {
        let (mut lane, now) = (Lane::default(), Instant::now());
        lane.next(7..10, now);
        lane.next(7..10, now);
        lane.refused(7, now + PAUSE);
        assert_eq!(lane.next(7..10, now), None);
        assert_eq!(lane.rests_until(), Some(now + PAUSE));
        assert_eq!(lane.next(7..10, now + PAUSE), Some((7, 1)));
        assert_eq!(lane.next(7..10, now + PAUSE), Some((9, 3)));
        assert_eq!(lane.rests_until(), None);
    }

    #[test]
    fn what_waits_too_long_is_noticed() {
        let (mut lane, now) = (Lane::default(), Instant::now());
        lane.next(0..1, now);
        assert!(!lane.waits_longer_than(PAUSE, now + PAUSE));
        assert!(lane.waits_longer_than(PAUSE, now + 2 * PAUSE));
        lane.done(0);
        assert!(!lane.waits_longer_than(PAUSE, now + 2 * PAUSE));
    }
}
