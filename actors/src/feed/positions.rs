//! How far conversations have been told, until that is written: some time soon, and many at once. Pure.
//!
//! One that is lost on the way means that something is told again.

use std::collections::BTreeMap;

use colloquy_protocol::ids::ConversationId;

/// Positions that may wait. While there are as many, nothing is told (BOUND).
const WAITING_MAX: usize = 65_536;
/// Positions that are written at once.
const WRITE_MAX: usize = 4_096;

/// Positions that are not written yet.
#[derive(Debug, Default)]
pub(super) struct Positions {
    waiting: BTreeMap<ConversationId, u64>,
    /// Those that are being written.
    under_way: BTreeMap<ConversationId, u64>,
}

impl Positions {
    /// A conversation has been told up to here.
    pub(super) fn told(&mut self, conversation_id: ConversationId, through: u64) {
        if self.of(conversation_id).unwrap_or(0) < through {
            self.waiting.insert(conversation_id, through);
        }
    }

    /// Up to where a conversation has been told, if it is known here. What is written is known to the store alone.
    pub(super) fn of(&self, conversation_id: ConversationId) -> Option<u64> {
        let known = |positions: &BTreeMap<_, u64>| positions.get(&conversation_id).copied();
        known(&self.waiting).max(known(&self.under_way))
    }

    /// May more be told?
    pub(super) fn have_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX
    }

    /// Do more wait than one write takes?
    pub(super) fn are_many(&self) -> bool {
        self.waiting.len() > WRITE_MAX
    }

    /// What is to be written now, as much as one write takes: nothing, while something is being written. [`Self::written`] has to
    /// follow.
    pub(super) fn take(&mut self) -> Option<Vec<(ConversationId, u64)>> {
        if self.waiting.is_empty() || !self.under_way.is_empty() {
            return None;
        }
        while self.under_way.len() < WRITE_MAX
            && let Some((conversation_id, through)) = self.waiting.pop_first()
        {
            self.under_way.insert(conversation_id, through);
        }
        Some(self.under_way.iter().map(|(conversation_id, through)| (*conversation_id, *through)).collect())
    }

    /// What was taken is written, or has to be taken again.
    pub(super) fn written(&mut self, is_done: bool) {
        for (conversation_id, through) in std::mem::take(&mut self.under_way) {
            if !is_done {
                self.told(conversation_id, through);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn conversation(n: u128) -> ConversationId {
        ConversationId(Uuid::from_u128(n))
    }

    #[test]
    fn a_position_is_known_until_it_is_written() {
        let (mut positions, [one, other]) = (Positions::default(), [1, 2].map(conversation));
        assert_eq!(positions.take(), None);
        positions.told(one, 3);
        positions.told(one, 2);
        assert_eq!((positions.of(one), positions.of(other)), (Some(3), None));
        assert_eq!(positions.take(), Some(vec![(one, 3)]));
        assert_eq!(positions.of(one), Some(3), "it may not be written yet");
        positions.told(one, 3);
        positions.told(other, 7);
        assert_eq!(positions.take(), None, "one write at a time");
        positions.written(true);
        assert_eq!(positions.of(one), None);
        assert_eq!(positions.take(), Some(vec![(other, 7)]));
    }

    #[test]
    fn what_could_not_be_written_is_written_with_what_came_since() {
        let (mut positions, one) = (Positions::default(), conversation(1));
        for (through, newer) in [(3, 5), (8, 8)] {
            positions.told(one, through);
            assert_eq!(positions.take(), Some(vec![(one, through)]));
            positions.told(one, newer);
            positions.written(false);
            assert_eq!(positions.take(), Some(vec![(one, newer)]));
            positions.written(true);
        }
    }

    #[test]
    fn there_is_a_bound_to_what_may_wait() {
        let mut positions = Positions::default();
        (0..WAITING_MAX as u128 - 1).for_each(|n| positions.told(conversation(n), 1));
        assert!(positions.have_room());
        positions.told(conversation(u128::MAX), 1);
        assert!(!positions.have_room());
        assert_eq!(positions.take().map(|taken| taken.len()), Some(WRITE_MAX));
        assert!(positions.have_room() && positions.are_many());
        let mut written = WRITE_MAX;
        positions.written(true);
        while let Some(taken) = positions.take() {
            written += taken.len();
            positions.written(true);
        }
        assert_eq!((written, positions.are_many()), (WAITING_MAX, false));
    }
}
