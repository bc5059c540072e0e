//! When others are told that this user is writing: at most every [`TYPING_THROTTLE`], and that it ended.

use colloquy_protocol::ids::ConversationId;
use colloquy_protocol::limits::TYPING_THROTTLE;

/// Without a key for so long, somebody is no longer writing, ms.
const IDLE_AFTER_MS: u64 = 4000;

/// What the other participant has been told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Composing {
    /// Nothing, or that it ended.
    #[default]
    Silent,
    /// That this user is writing there.
    Told {
        /// Where.
        conversation: ConversationId,
        /// When they were told last, ms.
        told_at_ms: u64,
        /// When a key was pressed last, ms.
        typed_at_ms: u64,
    },
}

impl Composing {
    /// A key was pressed. Returns the new state, and whether it is to be told.
    pub(super) fn typed(self, here: ConversationId, now_ms: u64) -> (Self, bool) {
        match self {
            Self::Told { conversation, told_at_ms, .. }
                if conversation == here && u128::from(now_ms - told_at_ms) < TYPING_THROTTLE.as_millis() =>
            {
                (Self::Told { conversation, told_at_ms, typed_at_ms: now_ms }, false)
            }
            _ => (Self::Told { conversation: here, told_at_ms: now_ms, typed_at_ms: now_ms }, true),
        }
    }

    /// Sent, deleted or left. Returns where it is to be told.
    pub(super) fn ended(self) -> Option<ConversationId> {
        match self {
            Self::Silent => None,
            Self::Told { conversation, .. } => Some(conversation),
        }
    }

    /// Has no key been pressed for a while?
    pub(super) fn is_idle(self, now_ms: u64) -> bool {
        matches!(self, Self::Told { typed_at_ms, .. } if now_ms - typed_at_ms >= IDLE_AFTER_MS)
    }
}
