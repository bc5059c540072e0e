//! What goes out of a conversation, to whoever is told of every message.

use colloquy_protocol::ids::ConversationId;

use super::conversation::LogEnd;

/// A conversation with messages in it, and up to where they have been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// The end of its log.
    pub end: LogEnd,
    /// The number up to which its messages have been told, inclusive; 0 if none has. It may lie beyond `end`: a store may
    /// read the two one after the other, and messages may be stored and told in between.
    pub told: u64,
}
