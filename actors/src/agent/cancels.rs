//! Turns that an agent is being told to stop. Pure.
//!
//! It is told of one turn of a conversation at a time. What else it is to be told there waits; of that, the newest is kept, as a
//! conversation has one turn that is being answered.

use std::collections::BTreeMap;

use colloquy_protocol::event::CancelReason;
use colloquy_protocol::ids::ConversationId;

use super::sinks::Cancel;

/// Conversations in which an agent is being told to stop at the same time. In one more it is not: the turn is answered to its end.
const CANCELS_MAX: usize = 64;

/// What an agent is being told.
#[derive(Debug, Default)]
pub(super) struct Cancels(BTreeMap<ConversationId, Telling>);

#[derive(Debug)]
struct Telling {
    now: Cancel,
    next: Option<Cancel>,
}

impl Cancels {
    /// A turn is to be stopped. Says whether the agent is to be told so now.
    pub(super) fn begin(&mut self, cancel: Cancel) -> bool {
        if let Some(telling) = self.0.get_mut(&cancel.conversation_id) {
            let said = telling.next.unwrap_or(telling.now);
            // Whoever has asked for an answer may stop it whatever else they have written.
            let is_more = said.turn_id != cancel.turn_id
                || (said.reason != cancel.reason && cancel.reason == CancelReason::Stopped);
            telling.next = if is_more { Some(cancel) } else { telling.next };
            return false;
        }
        let has_room = self.0.len() < CANCELS_MAX;
        if has_room {
            self.0.insert(cancel.conversation_id, Telling { now: cancel, next: None });
        }
        has_room
    }

    /// The agent was told, or could not be. Says what else is to be stopped in this conversation.
    pub(super) fn ended(&mut self, conversation_id: ConversationId) -> Option<Cancel> {
        self.0.remove(&conversation_id)?.next
    }
}

#[cfg(test)]
mod tests {
    use colloquy_protocol::ids::MessageId;
    use uuid::Uuid;

    use super::CancelReason::{Interrupted, Stopped};
    use super::*;

    fn cancel(conversation: u128, turn: u128, reason: CancelReason) -> Cancel {
        let conversation_id = ConversationId(Uuid::from_u128(conversation));
        Cancel { conversation_id, turn_id: MessageId(Uuid::from_u128(turn)), reason }
    }

    #[test]
    fn what_is_to_be_stopped_while_the_agent_is_told_of_another_turn_is_told_next() {
        let mut cancels = Cancels::default();
        let (one, two, three) = (cancel(1, 1, Interrupted), cancel(1, 2, Interrupted), cancel(1, 3, Stopped));
        assert!(cancels.begin(one));
        assert!(!cancels.begin(two) && !cancels.begin(three));
        assert_eq!(cancels.ended(one.conversation_id), Some(three), "two has its answer by now");
        assert_eq!(cancels.ended(one.conversation_id), None);
    }

    #[test]
    fn a_stop_is_told_after_an_interruption_and_nothing_is_told_twice() {
        let mut cancels = Cancels::default();
        let (interrupted, stopped) = (cancel(1, 1, Interrupted), cancel(1, 1, Stopped));
        assert!(cancels.begin(interrupted));
        assert!(!cancels.begin(interrupted) && !cancels.begin(stopped) && !cancels.begin(interrupted));
        assert_eq!(cancels.ended(stopped.conversation_id), Some(stopped));
        assert!(cancels.begin(stopped));
        assert!(!cancels.begin(stopped) && !cancels.begin(interrupted));
        assert_eq!(cancels.ended(stopped.conversation_id), None);
    }

    #[test]
    fn an_agent_is_told_in_so_many_conversations_at_once_and_no_more() {
        let mut cancels = Cancels::default();
        assert!((1..=CANCELS_MAX as u128).all(|n| cancels.begin(cancel(n, 1, Stopped))));
        assert!(!cancels.begin(cancel(100, 1, Stopped)));
        assert_eq!(cancels.ended(cancel(1, 1, Stopped).conversation_id), None);
        assert!(cancels.begin(cancel(100, 1, Stopped)));
    }
}
