//! Which of a connection's own numbers have their final answer, per conversation. Pure.
//!
//! An owner that has never heard of a connection must know which `client_sequence` to wait for first; only the
//! session, which outlives owners, can say (ORDER across a change of owner).

use std::collections::{BTreeSet, HashMap};

use colloquy_protocol::ids::ConversationId;
use colloquy_protocol::limits::REORDER_BUFFER_MAX;

/// Conversations counted at once; beyond it, those without a gap start over at what comes next.
const CONVERSATIONS_MAX: usize = 1024;

/// The numbers of one connection.
#[derive(Debug, Default)]
pub struct Counting {
    conversations: HashMap<ConversationId, Count>,
}

#[derive(Debug, Default)]
struct Count {
    /// Every number up to here has its final answer.
    done_through: u64,
    /// Beyond that, those that have theirs.
    done: BTreeSet<u64>,
}

impl Counting {
    /// The lowest number of the conversation without a final answer.
    #[must_use]
    pub fn expected(&self, conversation_id: ConversationId) -> u64 {
        self.conversations.get(&conversation_id).map_or(0, |count| count.done_through) + 1
    }

    /// The client says that everything before `number` has its final answer, or needs none any more.
    pub fn settled_before(&mut self, conversation_id: ConversationId, number: u64) {
        let Some(count) = self.conversations.get_mut(&conversation_id) else {
            if number > 1 {
                self.done(conversation_id, number - 1);
                self.settled_before(conversation_id, number);
            }
            return;
        };
        if number > count.done_through + 1 {
            count.done_through = number - 1;
            count.done = count.done.split_off(&number);
            while count.done.remove(&(count.done_through + 1)) {
                count.done_through += 1;
            }
        }
    }

    /// A number has its final answer.
    pub fn done(&mut self, conversation_id: ConversationId, number: u64) {
        if self.conversations.len() >= CONVERSATIONS_MAX && !self.conversations.contains_key(&conversation_id)
        {
            self.conversations.retain(|_, count| !count.done.is_empty());
        }
        let count = self.conversations.entry(conversation_id).or_default();
        if number > count.done_through {
            count.done.insert(number);
        }
        if count.done.len() > REORDER_BUFFER_MAX {
            // The gap was given up long ago: nobody waits for it any more.
            count.done_through = count.done.first().map_or(count.done_through, |first| first - 1);
        }
        while count.done.remove(&(count.done_through + 1)) {
            count.done_through += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn the_expected_number_is_the_lowest_without_a_final_answer() {
        let (mut counting, conversation) = (Counting::default(), ConversationId(Uuid::from_u128(1)));
        assert_eq!(counting.expected(conversation), 1);
        counting.done(conversation, 2);
        counting.done(conversation, 3);
        assert_eq!(counting.expected(conversation), 1);
        counting.done(conversation, 1);
        counting.done(conversation, 1);
        assert_eq!(counting.expected(conversation), 4);
    }

    #[test]
    fn what_the_client_calls_settled_is_not_expected_any_more() {
        let (mut counting, conversation) = (Counting::default(), ConversationId(Uuid::from_u128(1)));
        counting.done(conversation, 5);
        counting.settled_before(conversation, 1);
        assert_eq!(counting.expected(conversation), 1);
        counting.settled_before(conversation, 4);
        assert_eq!(counting.expected(conversation), 4);
        counting.settled_before(conversation, 5);
        assert_eq!(counting.expected(conversation), 6);
        let unheard_of = ConversationId(Uuid::from_u128(2));
        counting.settled_before(unheard_of, 3);
        assert_eq!(counting.expected(unheard_of), 3);
    }

    #[test]
    fn a_gap_that_was_given_up_is_not_remembered_for_ever() {
        let (mut counting, conversation) = (Counting::default(), ConversationId(Uuid::from_u128(1)));
        let last = 2 + REORDER_BUFFER_MAX as u64;
        (2..=last).for_each(|number| counting.done(conversation, number));
        assert_eq!(counting.expected(conversation), last + 1);
    }
}
