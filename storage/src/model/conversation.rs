//! A conversation and where it stands.

use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{ConversationId, UserId};
use serde::{Deserialize, Serialize};

/// A conversation: who takes part. Where it stands is in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// Everybody in it, in the order of their ids.
    pub participants: Vec<UserId>,
    /// When it was opened.
    pub created_at: UnixMillis,
}

impl Conversation {
    /// Does `user_id` take part (AUTHZ)?
    #[must_use]
    pub fn has(&self, user_id: UserId) -> bool {
        self.participants.contains(&user_id)
    }

    /// The other participant of a 1:1 conversation.
    #[must_use]
    pub fn peer_of(&self, user_id: UserId) -> Option<UserId> {
        self.participants.iter().copied().find(|participant| *participant != user_id)
    }
}

/// The end of a conversation's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEnd {
    /// The newest message's number; 0 while there is none.
    pub last_sequence: u64,
    /// When it was numbered.
    pub last_message_at: Option<UnixMillis>,
}

/// A conversation with where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationAtEnd {
    /// The conversation.
    pub conversation: Conversation,
    /// The end of its log.
    pub end: LogEnd,
}

impl ConversationAtEnd {
    /// What lists are sorted by, newest first: the last message, or the opening of an empty conversation.
    #[must_use]
    pub fn last_activity(&self) -> UnixMillis {
        self.end.last_message_at.unwrap_or(self.conversation.created_at)
    }
}

/// A place in the list of a user's conversations: after (that is, older than) this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListPosition {
    /// [`ConversationAtEnd::last_activity`] of the last one shown.
    pub last_activity: UnixMillis,
    /// The last one shown; breaks ties.
    pub conversation_id: ConversationId,
}
