//! How often a session's typing is passed on. Pure.

use std::collections::HashMap;

use colloquy_protocol::frame::TypingState;
use colloquy_protocol::ids::ConversationId;
use colloquy_protocol::limits::TYPING_THROTTLE;
use tokio::time::Instant;

/// Conversations in which one session is typing at once. In one more, nobody is told.
const CONVERSATIONS_MAX: usize = 64;

/// Lets one `started`, and the `stopped` that ends it, through in [`TYPING_THROTTLE`].
#[derive(Debug, Default)]
pub(super) struct TypingThrottle(HashMap<ConversationId, Started>);

#[derive(Debug)]
struct Started {
    at: Instant,
    /// Nobody has been told that it has ended.
    open: bool,
}

impl TypingThrottle {
    /// Is this to be passed on?
    pub(super) fn passes(&mut self, id: ConversationId, state: TypingState, now: Instant) -> bool {
        match state {
            TypingState::Stopped => {
                self.0.get_mut(&id).is_some_and(|started| std::mem::replace(&mut started.open, false))
            }
            TypingState::Started => {
                let is_new = |started: &Started| now.duration_since(started.at) < TYPING_THROTTLE;
                if self.0.get(&id).is_some_and(is_new) {
                    return false;
                }
                if self.0.len() >= CONVERSATIONS_MAX {
                    self.0.retain(|_, started| is_new(started));
                }
                let room = self.0.len() < CONVERSATIONS_MAX;
                if room {
                    self.0.insert(id, Started { at: now, open: true });
                }
                room
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TypingState::{Started as Starts, Stopped as Stops};
    use uuid::Uuid;

    fn conversation(n: u128) -> ConversationId {
        ConversationId(Uuid::from_u128(n))
    }

    #[test]
    fn in_whatever_order_starts_and_stops_come_one_of_each_passes_in_two_seconds() {
        let (mut throttle, now) = (TypingThrottle::default(), Instant::now());
        assert!(!throttle.passes(conversation(1), Stops, now), "nobody was told that it had begun");
        let passed = (0..1000).filter(|n| {
            let state = if n % 2 == 0 { Starts } else { Stops };
            throttle.passes(conversation(1), state, now)
        });
        assert_eq!(passed.collect::<Vec<_>>(), [0, 1]);
        assert!(throttle.passes(conversation(1), Starts, now + TYPING_THROTTLE));
    }

    #[test]
    fn somebody_who_types_everywhere_is_seen_typing_in_so_many_conversations_and_no_more() {
        let (mut throttle, now) = (TypingThrottle::default(), Instant::now());
        let passed = (0..1000).filter(|n| throttle.passes(conversation(*n), Starts, now)).count();
        assert_eq!(passed, CONVERSATIONS_MAX);
        assert!(throttle.passes(conversation(5000), Starts, now + TYPING_THROTTLE));
    }
}
