//! Turns that an agent is being told to stop. Pure.
//!
//! It is told of one turn of a conversation at a time. What else it is to be told there waits.

use std::collections::{BTreeMap, VecDeque};

use colloquy_protocol::event::CancelReason;
use colloquy_protocol::ids::{ConversationId, MessageId};

/// Conversations in which an agent is being told to stop at the same time. In one more it is not: the turn is answered to its end.
const CANCELS_MAX: usize = 64;
/// What waits in one conversation, the newest. Before it gets to what is older, that has its answer.
const WAITING_MAX: usize = 8;

/// A turn that is to be answered no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancel {
    /// Where.
    pub conversation_id: ConversationId,
    /// Which.
    pub turn_id: MessageId,
    /// Why.
    pub reason: CancelReason,
}

/// What an agent is being told.
#[derive(Debug, Default)]
pub(super) struct Cancels(BTreeMap<ConversationId, Telling>);

#[derive(Debug)]
struct Telling {
    now: Cancel,
    next: VecDeque<Cancel>,
}

impl Cancels {
    /// A turn is to be stopped. Says whether the agent is to be told so now.
    pub(super) fn begin(&mut self, cancel: Cancel) -> bool {
        if let Some(telling) = self.0.get_mut(&cancel.conversation_id) {
            // A stop says all that an interruption says, and more: the agent judges by itself whether it was interrupted.
            let says_it = |said: &Cancel| {
                said.turn_id == cancel.turn_id
                    && (said.reason == cancel.reason || said.reason == CancelReason::Stopped)
            };
            if !telling.next.iter().chain([&telling.now]).any(says_it) {
                telling.next.push_back(cancel);
                if telling.next.len() > WAITING_MAX {
                    telling.next.pop_front();
                }
            }
            return false;
        }
        let has_room = self.0.len() < CANCELS_MAX;
        if has_room {
            self.0.insert(cancel.conversation_id, Telling { now: cancel, next: VecDeque::new() });
        }
        has_room
    }

    /// The agent was told, or could not be. Says what it is to be told now in this conversation.
    pub(super) fn ended(&mut self, conversation_id: ConversationId) -> Option<Cancel> {
        let telling = self.0.get_mut(&conversation_id)?;
        let Some(next) = telling.next.pop_front() else {
            self.0.remove(&conversation_id);
            return None;
        };
        telling.now = next;
        Some(next)
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
        assert_eq!(cancels.ended(one.conversation_id), Some(two));
        assert!(!cancels.begin(two), "it is being told that");
        assert_eq!(cancels.ended(one.conversation_id), Some(three));
        assert_eq!(cancels.ended(one.conversation_id), None);
        assert!(cancels.begin(one));
    }

    #[test]
    fn of_what_waits_the_newest_is_kept() {
        let mut cancels = Cancels::default();
        let stops: Vec<Cancel> = (0..=WAITING_MAX as u128 + 1).map(|n| cancel(1, n, Stopped)).collect();
        let begun = stops.iter().filter(|stop| cancels.begin(**stop)).count();
        let told: Vec<Cancel> = std::iter::from_fn(|| cancels.ended(stops[0].conversation_id)).collect();
        assert_eq!((begun, &told[..]), (1, &stops[2..]));
    }

    #[test]
    fn a_stop_is_told_after_an_interruption_and_nothing_is_told_twice() {
        let mut cancels = Cancels::default();
        let (interrupted, stopped) = (cancel(1, 1, Interrupted), cancel(1, 1, Stopped));
        assert!(cancels.begin(interrupted));
        assert!(!cancels.begin(interrupted) && !cancels.begin(stopped) && !cancels.begin(interrupted));
        assert_eq!(cancels.ended(stopped.conversation_id), Some(stopped));
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
