//! The reorder buffer: puts one sender's messages back into the order they were composed in (ORDER). Pure.
//!
//! One buffer serves one connection of one sender in one conversation. A message ahead of its turn is held, at most
//! [`REORDER_BUFFER_MAX`] of them and at most [`REORDER_TIMEOUT`]; then the gap is given up and what is held goes on, or
//! it is handed back.

use std::collections::BTreeMap;

use colloquy_protocol::limits::{REORDER_BUFFER_MAX, REORDER_TIMEOUT};
use tokio::time::Instant;

/// Messages of one sender, waiting for the ones before them.
#[derive(Debug)]
pub struct ReorderBuffer<T> {
    next: u64,
    /// `None`: done without a message, because it was refused for good.
    held: BTreeMap<u64, Option<T>>,
    /// When the oldest gap is given up; set exactly while something is held.
    give_up_at: Option<Instant>,
}

/// What became of a message that was pushed.
#[derive(Debug, PartialEq, Eq)]
pub enum Pushed<T> {
    /// It, and whatever it was the missing link for, may go on, in this order.
    Ready(Vec<T>),
    /// It waits.
    Held,
    /// Another message with its number waits already; this one replaces nothing and is handed back.
    Twice(T),
    /// The buffer is full, or the number is absurdly far ahead; handed back.
    Full(T),
}

impl<T> ReorderBuffer<T> {
    /// A buffer whose first expected number is `next`.
    #[must_use]
    pub fn expecting(next: u64) -> Self {
        Self { next, held: BTreeMap::new(), give_up_at: None }
    }

    /// Takes in message number `number`.
    ///
    /// A number below the expected one goes on at once: it is a retry, or its gap was given up; ONCE sorts it out.
    pub fn push(&mut self, number: u64, item: T, now: Instant) -> Pushed<T> {
        if number < self.next {
            return Pushed::Ready(vec![item]);
        }
        if number == self.next {
            self.next = number.saturating_add(1);
            let mut ready = vec![item];
            self.take_run(&mut ready, now);
            return Pushed::Ready(ready);
        }
        if self.held.contains_key(&number) {
            return Pushed::Twice(item);
        }
        if self.is_too_far(number) {
            return Pushed::Full(item);
        }
        self.hold(number, Some(item), now);
        Pushed::Held
    }

    /// Counts `number` as done without a message: it was refused for good and will not come again. Hands out what it
    /// was the missing link for.
    pub fn skip(&mut self, number: u64, now: Instant) -> Vec<T> {
        let mut ready = Vec::new();
        if number == self.next {
            self.next = number.saturating_add(1);
            self.take_run(&mut ready, now);
        } else if number > self.next && !self.held.contains_key(&number) && !self.is_too_far(number) {
            self.hold(number, None, now);
        }
        ready
    }

    /// Everything below `number` is known to be done. Hands out what that was the missing link for.
    pub fn expect(&mut self, number: u64, now: Instant) -> Vec<T> {
        let mut ready = Vec::new();
        if number > self.next {
            self.next = number;
            let after = self.held.split_off(&number);
            ready.extend(std::mem::replace(&mut self.held, after).into_values().flatten());
            self.take_run(&mut ready, now);
        }
        ready
    }

    /// Gives up the gap if its time has come, and hands out everything that is held, in order.
    pub fn give_up(&mut self, now: Instant) -> Vec<T> {
        if self.give_up_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.give_up_at = None;
        if let Some(last) = self.held.keys().next_back() {
            self.next = last.saturating_add(1);
        }
        std::mem::take(&mut self.held).into_values().flatten().collect()
    }

    /// As [`Self::give_up`], of the first gap alone: hands out what stood right behind it. What stands behind another one
    /// waits anew.
    pub fn give_up_first(&mut self, now: Instant) -> Vec<T> {
        let mut ready = Vec::new();
        if self.give_up_at.is_some_and(|at| at <= now)
            && let Some(first) = self.held.keys().next().copied()
        {
            self.next = first;
            self.take_run(&mut ready, now);
        }
        ready
    }

    /// If the gap's time has come, hands back everything that is held, and goes on waiting for the number it waits for.
    pub fn hand_back(&mut self, now: Instant) -> Vec<T> {
        if self.give_up_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.give_up_at = None;
        // What is done without a message stays done.
        let (done, back) = std::mem::take(&mut self.held).into_iter().partition(|(_, item)| item.is_none());
        self.held = done;
        let back: BTreeMap<u64, Option<T>> = back;
        back.into_values().flatten().collect()
    }

    /// What waits, in order.
    pub fn held(&self) -> impl Iterator<Item = &T> {
        self.held.values().flatten()
    }

    /// Ends the buffer and hands out what it held.
    pub fn into_held(self) -> impl Iterator<Item = T> {
        self.held.into_values().flatten()
    }

    /// When [`Self::give_up`] has something to do.
    #[must_use]
    pub fn give_up_at(&self) -> Option<Instant> {
        self.give_up_at
    }

    fn is_too_far(&self, number: u64) -> bool {
        number - self.next > REORDER_BUFFER_MAX as u64 || self.held.len() >= REORDER_BUFFER_MAX
    }

    fn hold(&mut self, number: u64, item: Option<T>, now: Instant) {
        self.held.insert(number, item);
        self.give_up_at.get_or_insert(now + REORDER_TIMEOUT);
    }

    fn take_run(&mut self, ready: &mut Vec<T>, now: Instant) {
        while let Some(item) = self.held.remove(&self.next) {
            self.next = self.next.saturating_add(1);
            ready.extend(item);
        }
        self.give_up_at = (!self.held.is_empty()).then(|| now + REORDER_TIMEOUT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn a_gap_is_given_up_after_five_seconds_and_what_was_held_goes_on_in_order() {
        let (mut buffer, start) = (ReorderBuffer::expecting(1), Instant::now());
        assert_eq!(buffer.push(3, 3, start), Pushed::Held);
        assert_eq!(buffer.push(2, 2, start + Duration::from_secs(1)), Pushed::Held);
        assert!(buffer.give_up(start + Duration::from_millis(4_999)).is_empty());
        assert_eq!(buffer.give_up(start + REORDER_TIMEOUT), [2, 3]);
        assert_eq!(buffer.push(1, 1, start + REORDER_TIMEOUT), Pushed::Ready(vec![1]));
        assert_eq!(buffer.push(4, 4, start + REORDER_TIMEOUT), Pushed::Ready(vec![4]));
    }

    #[test]
    fn of_two_gaps_the_first_may_be_given_up_alone_and_the_other_waits_anew() {
        let (mut buffer, start) = (ReorderBuffer::expecting(1), Instant::now());
        for number in [2, 3, 5] {
            assert_eq!(buffer.push(number, number, start), Pushed::Held);
        }
        assert!(buffer.give_up_first(start + Duration::from_millis(4_999)).is_empty());
        let later = start + REORDER_TIMEOUT;
        assert_eq!(buffer.give_up_first(later), [2, 3]);
        assert_eq!(buffer.give_up_at(), Some(later + REORDER_TIMEOUT));
        assert_eq!(buffer.push(4, 4, later), Pushed::Ready(vec![4, 5]));
    }

    #[test]
    fn what_is_handed_back_may_come_again_behind_the_number_that_is_waited_for() {
        let (mut buffer, start) = (ReorderBuffer::expecting(1), Instant::now());
        assert_eq!(buffer.push(2, 2, start), Pushed::Held);
        assert!(buffer.skip(3, start).is_empty());
        assert_eq!(buffer.push(4, 4, start), Pushed::Held);
        assert!(buffer.hand_back(start + Duration::from_millis(4_999)).is_empty());
        let later = start + REORDER_TIMEOUT;
        assert_eq!(buffer.hand_back(later), [2, 4]);
        assert_eq!((buffer.give_up_at(), buffer.held().count()), (None, 0));
        assert_eq!(buffer.push(4, 4, later), Pushed::Held);
        assert_eq!(buffer.push(2, 2, later), Pushed::Held);
        assert_eq!(buffer.give_up_at(), Some(later + REORDER_TIMEOUT));
        assert_eq!(buffer.push(1, 1, later), Pushed::Ready(vec![1, 2, 4]));
    }

    #[test]
    fn a_buffer_holds_no_more_than_its_bound() {
        let (mut buffer, now) = (ReorderBuffer::expecting(1), Instant::now());
        let furthest = 1 + REORDER_BUFFER_MAX as u64;
        for number in 2..=furthest {
            assert_eq!(buffer.push(number, number, now), Pushed::Held);
        }
        assert_eq!(buffer.push(furthest + 1, 0, now), Pushed::Full(0));
        assert_eq!(buffer.push(u64::MAX, 0, now), Pushed::Full(0));
        assert_eq!(buffer.push(2, 0, now), Pushed::Twice(0));
        assert_eq!(buffer.push(1, 1, now), Pushed::Ready((1..=furthest).collect()));
    }

    #[test]
    fn a_message_refused_for_good_does_not_hold_up_the_next() {
        let (mut buffer, now) = (ReorderBuffer::expecting(1), Instant::now());
        assert_eq!(buffer.push(2, 2, now), Pushed::Held);
        assert_eq!(buffer.skip(1, now), [2]);
        assert_eq!(buffer.give_up_at(), None);
    }

    #[test]
    fn a_message_refused_for_good_ahead_of_its_turn_is_not_waited_for_later() {
        let (mut buffer, now) = (ReorderBuffer::expecting(1), Instant::now());
        assert!(buffer.skip(2, now).is_empty());
        assert_eq!(buffer.push(3, 3, now), Pushed::Held);
        assert_eq!(buffer.push(1, 1, now), Pushed::Ready(vec![1, 3]));
    }

    #[test]
    fn what_is_known_to_be_done_is_not_waited_for() {
        let (mut buffer, now) = (ReorderBuffer::expecting(1), Instant::now());
        assert_eq!(buffer.push(4, 4, now), Pushed::Held);
        assert!(buffer.expect(3, now).is_empty());
        assert_eq!(buffer.expect(4, now), [4]);
        assert!(buffer.expect(2, now).is_empty(), "what is done stays done");
        assert_eq!(buffer.push(5, 5, now), Pushed::Ready(vec![5]));
    }

    /// A window that the buffer can put in order whatever comes first.
    const WINDOW: u64 = REORDER_BUFFER_MAX as u64 + 1;

    proptest! {
        #[test]
        fn whatever_order_a_window_arrives_in_it_leaves_in_order_and_whole(
            order in Just((1..=WINDOW).collect::<Vec<_>>()).prop_shuffle(),
            repeats in proptest::collection::vec(1..=WINDOW, 0..20),
        ) {
            let (mut buffer, now) = (ReorderBuffer::expecting(1), Instant::now());
            let (mut out, mut late) = (Vec::new(), 0);
            for number in order.iter().chain(&repeats) {
                match buffer.push(*number, *number, now) {
                    Pushed::Ready(ready) if ready.len() == 1 && out.contains(&ready[0]) => late += 1,
                    Pushed::Ready(ready) => out.extend(ready),
                    Pushed::Held | Pushed::Twice(_) => {}
                    Pushed::Full(_) => prop_assert!(false, "a window fits"),
                }
            }
            prop_assert_eq!(out, (1..=WINDOW).collect::<Vec<_>>());
            prop_assert_eq!(late, repeats.len());
        }
    }
}
