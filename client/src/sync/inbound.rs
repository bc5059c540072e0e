//! What came: shows each conversation's messages as 1..n, once each, whatever the order of arrival (ORDER).
//!
//! A message ahead of its turn is held; what lies before it is asked for again, once, until it comes or the
//! question has gone unanswered too often. What is already shown is dropped by its number.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use colloquy_protocol::ids::ConversationId;
use colloquy_protocol::window::SequenceWindow;

/// Messages held for one conversation. One more is dropped: it lies in the gap that is asked for.
pub const HELD_PER_CONVERSATION_MAX: usize = 256;
/// Messages held for all conversations together. One more is dropped likewise.
pub const HELD_TOTAL_MAX: usize = 2048;
/// Questions that may be open at once; half of what a server lets wait on one socket. More wait their turn.
pub const ASKS_OPEN_MAX: usize = 4;
/// Most numbers one question names.
pub const ASK_WINDOW_MAX: u64 = 1000;
/// A question without any progress for this long is asked again, ms.
pub const ASK_TIMEOUT_MS: u64 = 10_000;
/// A question asked this often in vain makes the connection useless: see [`Inbound::is_stuck`].
pub const ASK_ATTEMPTS_MAX: u32 = 3;

/// Positions of all conversations. Holds one small entry per conversation of the user.
#[derive(Debug)]
pub struct Inbound<T> {
    lanes: BTreeMap<ConversationId, Lane<T>>,
    /// Conversations in which something is missing.
    gapped: BTreeSet<ConversationId>,
    held: usize,
}

#[derive(Debug)]
struct Lane<T> {
    /// The number to be shown next.
    next: u64,
    /// The highest number heard of.
    end: u64,
    held: BTreeMap<u64, T>,
    ask: Option<Ask>,
}

#[derive(Clone, Copy, Debug)]
struct Ask {
    window: SequenceWindow,
    asked_at: u64,
    attempts: u32,
    /// `next` when last looked at: progress restarts the timeout.
    next: u64,
}

impl<T> Default for Inbound<T> {
    fn default() -> Self {
        Self { lanes: BTreeMap::new(), gapped: BTreeSet::new(), held: 0 }
    }
}

impl<T> Inbound<T> {
    /// A new connection begins: of each conversation this device holds everything up to its cursor, and of the
    /// others nothing. What an earlier connection brought and nobody stored comes again, even the first message of
    /// a conversation (NOLOSS).
    #[must_use]
    pub fn resumed(cursors: impl IntoIterator<Item = (ConversationId, u64)>) -> Self {
        let lane = |cursor| Lane { next: cursor + 1, end: cursor, held: BTreeMap::new(), ask: None };
        let lanes = cursors.into_iter().map(|(conversation, cursor)| (conversation, lane(cursor))).collect();
        Self { lanes, ..Self::default() }
    }

    /// A message has come. Returns what can be shown now, in order.
    pub fn accept(&mut self, conversation: ConversationId, sequence_number: u64, item: T) -> Vec<T> {
        let held = &mut self.held;
        let lane = self.lanes.entry(conversation).or_insert_with(Lane::new);
        if sequence_number < lane.next || lane.held.contains_key(&sequence_number) {
            return Vec::new();
        }
        lane.end = lane.end.max(sequence_number);
        let mut ready = Vec::new();
        if sequence_number == lane.next {
            ready.push(item);
            lane.next += 1;
            while let Some(item) = lane.held.remove(&lane.next) {
                *held -= 1;
                ready.push(item);
                lane.next += 1;
            }
        } else if lane.held.len() < HELD_PER_CONVERSATION_MAX && *held < HELD_TOTAL_MAX {
            lane.held.insert(sequence_number, item);
            *held += 1;
        }
        self.settle(conversation);
        ready
    }

    /// The server no longer keeps these (retention). Returns the holes that this closes, first and last number of each,
    /// so that they can be told, and what can be shown now, in order.
    pub fn are_gone(&mut self, conversation: ConversationId, gone: Range<u64>) -> (Vec<(u64, u64)>, Vec<T>) {
        let (mut lost, mut ready) = (Vec::new(), Vec::new());
        let lane = self.lanes.entry(conversation).or_insert_with(Lane::new);
        if !gone.contains(&lane.next) {
            return (lost, ready);
        }
        let after = lane.held.split_off(&gone.end);
        for (number, item) in std::mem::replace(&mut lane.held, after) {
            if lane.next < number {
                lost.push((lane.next, number - 1));
            }
            lane.next = number + 1;
            self.held -= 1;
            ready.push(item);
        }
        if lane.next < gone.end {
            lost.push((lane.next, gone.end - 1));
            lane.next = gone.end;
        }
        lane.end = lane.end.max(lane.next - 1);
        self.settle(conversation);
        (lost, ready)
    }

    /// The questions to ask now, each once until it times out.
    pub fn asks(&mut self, now: u64) -> Vec<(ConversationId, SequenceWindow)> {
        let mut open = self.gapped.iter().filter(|id| self.lanes[id].ask.is_some()).count();
        let mut asks = Vec::new();
        for id in &self.gapped {
            let lane = self.lanes.get_mut(id).expect("every gapped conversation has a lane");
            let attempts = match &mut lane.ask {
                None if open == ASKS_OPEN_MAX => continue,
                None => {
                    open += 1;
                    1
                }
                Some(ask) if ask.next != lane.next => {
                    *ask = Ask { next: lane.next, asked_at: now, attempts: 1, ..*ask };
                    continue;
                }
                Some(ask) if now.saturating_sub(ask.asked_at) < ASK_TIMEOUT_MS => continue,
                Some(ask) => ask.attempts + 1,
            };
            let last_missing = lane.held.keys().next().map_or(lane.end, |first_held| first_held - 1);
            let to = last_missing.min(lane.next + (ASK_WINDOW_MAX - 1));
            let window = SequenceWindow::new(lane.next, to)
                .expect("a gap starts at 1 or later, and is cut to less than the widest window");
            lane.ask = Some(Ask { window, asked_at: now, attempts, next: lane.next });
            asks.push((*id, window));
        }
        asks
    }

    /// Has a question gone unanswered [`ASK_ATTEMPTS_MAX`] times? Then only a new connection helps: it resumes
    /// from the cursors.
    #[must_use]
    pub fn is_stuck(&self, now: u64) -> bool {
        self.gapped
            .iter()
            .filter_map(|id| self.lanes[id].ask.as_ref())
            .any(|ask| ask.attempts >= ASK_ATTEMPTS_MAX && now.saturating_sub(ask.asked_at) >= ASK_TIMEOUT_MS)
    }

    /// Everything up to here is shown or on its way to be.
    #[must_use]
    pub fn cursor(&self, conversation: ConversationId) -> u64 {
        self.lanes.get(&conversation).map_or(0, |lane| lane.next - 1)
    }

    /// Messages held now, at most [`HELD_TOTAL_MAX`].
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    fn settle(&mut self, conversation: ConversationId) {
        let Some(lane) = self.lanes.get_mut(&conversation) else { return };
        if lane.ask.is_some_and(|ask| lane.next > ask.window.to()) {
            lane.ask = None;
        }
        if lane.next <= lane.end {
            self.gapped.insert(conversation);
        } else {
            lane.ask = None;
            self.gapped.remove(&conversation);
        }
    }
}

impl<T> Lane<T> {
    fn new() -> Self {
        Self { next: 1, end: 0, held: BTreeMap::new(), ask: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn conversation(n: u128) -> ConversationId {
        ConversationId(Uuid::from_u128(n))
    }

    #[test]
    fn a_gap_is_asked_for_once_and_again_only_after_the_timeout() {
        let mut inbound = Inbound::default();
        assert!(inbound.accept(conversation(1), 3, 3).is_empty());
        let window = SequenceWindow::new(1, 2).unwrap();
        assert_eq!(inbound.asks(0), vec![(conversation(1), window)]);
        assert!(inbound.accept(conversation(1), 5, 5).is_empty());
        assert_eq!(inbound.asks(ASK_TIMEOUT_MS - 1), vec![]);
        assert_eq!(inbound.asks(ASK_TIMEOUT_MS), vec![(conversation(1), window)]);
        assert_eq!(inbound.accept(conversation(1), 1, 1), vec![1]);
        assert_eq!(inbound.accept(conversation(1), 2, 2), vec![2, 3]);
        let rest = SequenceWindow::new(4, 4).unwrap();
        assert_eq!(inbound.asks(ASK_TIMEOUT_MS), vec![(conversation(1), rest)]);
    }

    #[test]
    fn a_question_asked_in_vain_too_often_makes_the_connection_useless() {
        let mut inbound = Inbound::default();
        inbound.accept(conversation(1), 2, 2);
        let mut now = 0;
        for _ in 0..ASK_ATTEMPTS_MAX {
            assert_eq!(inbound.asks(now).len(), 1);
            assert!(!inbound.is_stuck(now));
            now += ASK_TIMEOUT_MS;
        }
        assert!(inbound.is_stuck(now));
    }

    #[test]
    fn what_was_shown_and_not_stored_before_the_connection_broke_is_shown_again() {
        let mut inbound = Inbound::resumed([(conversation(1), 4)]);
        assert_eq!(inbound.accept(conversation(1), 5, 5), vec![5]);
        assert_eq!(inbound.accept(conversation(2), 1, 1), vec![1], "the first of an unknown conversation");
        let mut inbound = Inbound::resumed([(conversation(1), 4)]);
        assert_eq!(inbound.accept(conversation(1), 5, 5), vec![5]);
        assert_eq!(inbound.accept(conversation(2), 1, 1), vec![1]);
        assert!(inbound.accept(conversation(1), 4, 4).is_empty(), "what is stored is not");
    }

    #[test]
    fn what_the_server_no_longer_has_is_skipped_and_told() {
        let mut inbound = Inbound::default();
        inbound.accept(conversation(1), 9, 9);
        assert_eq!(inbound.are_gone(conversation(1), 1..5), (vec![(1, 4)], vec![]));
        for n in 5..8 {
            assert_eq!(inbound.accept(conversation(1), n, n), vec![n]);
        }
        assert_eq!(inbound.accept(conversation(1), 8, 8), vec![8, 9]);
    }

    #[test]
    fn what_a_page_does_not_speak_of_is_still_missing() {
        let mut inbound = Inbound::default();
        inbound.accept(conversation(1), 9, 9);
        inbound.asks(0);
        // A page of what comes after the hole, on its way since before the question.
        assert_eq!(inbound.are_gone(conversation(1), 5..5), (vec![], vec![]));
        assert_eq!(inbound.are_gone(conversation(1), 2..5), (vec![], vec![]));
        assert_eq!(inbound.accept(conversation(1), 1, 1), vec![1]);
    }

    #[test]
    fn what_was_held_and_is_gone_at_the_server_is_shown() {
        let mut inbound = Inbound::default();
        inbound.accept(conversation(1), 3, 3);
        inbound.accept(conversation(1), 9, 9);
        assert_eq!(inbound.are_gone(conversation(1), 1..6), (vec![(1, 2), (4, 5)], vec![3]));
        assert_eq!((inbound.held(), inbound.cursor(conversation(1))), (1, 5));
    }

    #[test]
    fn only_so_many_questions_are_open_and_only_so_much_is_held() {
        let mut inbound = Inbound::default();
        for n in 0..10 {
            inbound.accept(conversation(n), 2, 2);
        }
        assert_eq!(inbound.asks(0).len(), ASKS_OPEN_MAX);
        assert_eq!(inbound.asks(0).len(), 0);
        for sequence in 3..(3 + 2 * HELD_PER_CONVERSATION_MAX as u64) {
            inbound.accept(conversation(0), sequence, sequence);
        }
        assert_eq!(inbound.held(), HELD_PER_CONVERSATION_MAX + 9);
    }

    proptest! {
        /// A server with `length` messages; deliveries come in any order, repeat and get lost, the connection
        /// breaks now and then; questions are answered by pages. In the end everything was shown once, in order.
        #[test]
        fn any_order_duplication_and_loss_still_shows_everything_once_in_order(
            length in 1_u64..700,
            deliveries in proptest::collection::vec((any::<u64>(), any::<bool>()), 0..400),
            broken in proptest::collection::vec(any::<bool>(), 400),
        ) {
            let id = conversation(1);
            let mut inbound = Inbound::default();
            let mut shown = Vec::new();
            let mut now = 0;
            for (index, (number, lost)) in deliveries.into_iter().enumerate() {
                now += 1;
                if index % 40 == 39 && broken[index] {
                    inbound = Inbound::resumed([(id, shown.len() as u64)]);
                }
                if !lost {
                    let number = 1 + number % length;
                    shown.extend(inbound.accept(id, number, number));
                }
                if index % 10 == 9 {
                    for (_, window) in inbound.asks(now) {
                        for number in window.from()..=window.to() {
                            if broken[index] { break; }
                            shown.extend(inbound.accept(id, number, number));
                        }
                    }
                }
                prop_assert!(inbound.held() <= HELD_PER_CONVERSATION_MAX);
            }
            // The last message comes for certain, and from here every question is answered.
            shown.extend(inbound.accept(id, length, length));
            for _ in 0..2 * length {
                now += ASK_TIMEOUT_MS;
                for (_, window) in inbound.asks(now) {
                    for number in window.from()..=window.to() {
                        shown.extend(inbound.accept(id, number, number));
                    }
                }
            }
            prop_assert_eq!(shown, (1..=length).collect::<Vec<_>>());
            prop_assert_eq!(inbound.cursor(id), length);
        }
    }
}
