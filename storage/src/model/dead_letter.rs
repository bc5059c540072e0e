//! A dead letter: a turn that was given up, or a message that the feed tells no more.

use colloquy_protocol::UnixMillis;
use colloquy_protocol::agent::AgentId;
use colloquy_protocol::dead_letter::DeadReason;
use colloquy_protocol::ids::{ConversationId, MessageId};
use serde::{Deserialize, Serialize};

/// A turn that its agent did not take, or a message that the feed's sink did not. What it says stays in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The turn: the message's id.
    pub turn_id: MessageId,
    /// Whose turn it was; of what the feed told, [`FEED`](colloquy_protocol::dead_letter::FEED).
    pub agent_id: AgentId,
    /// Where its message is ...
    pub conversation_id: ConversationId,
    /// ... and its number there.
    pub sequence_number: u64,
    /// Why it was given up.
    pub reason: DeadReason,
    /// The status that it was refused with last, if it was.
    pub status: Option<u16>,
    /// How often it was tried in a row.
    pub tries: u32,
    /// When it was given up.
    pub died_at: UnixMillis,
    /// When the agent has taken it again. What the feed's sink takes is no dead letter any more.
    pub replayed_at: Option<UnixMillis>,
}
