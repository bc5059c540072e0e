//! What was given up: put among the dead letters, and posted once more by whoever runs the installation.

use std::sync::Arc;

use colloquy_protocol::UnixMillis;
use colloquy_protocol::agent::AgentId;
use colloquy_protocol::ids::MessageId;
use colloquy_protocol::limits::DEAD_LETTERS_PAGE;
use colloquy_protocol::rest::dead_letters::Replayed;
use colloquy_storage::model::dead_letter::DeadLetter;
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::{DeadLetters, MessageLog, StoreResult};

use super::lanes::Outcome;
use super::sinks::Posted;
use super::vain::Death;

impl Death {
    /// The dead letter of a message that `name` was posted in vain so often.
    pub(crate) fn letter(
        self,
        name: AgentId,
        message: &Message,
        tries: u32,
        died_at: UnixMillis,
    ) -> DeadLetter {
        DeadLetter {
            turn_id: message.message_id,
            agent_id: name,
            conversation_id: message.conversation_id,
            sequence_number: message.sequence_number,
            reason: self.reason,
            status: self.status,
            tries,
            died_at,
            replayed_at: None,
        }
    }
}

/// What a lane comes to whose message was to be put among the dead letters, by whether it was; nothing, if there was no room: then it
/// is tried on.
pub(crate) fn buried(kept: StoreResult<bool>, message: &Message, was_posted: bool) -> Option<Outcome> {
    match kept {
        Ok(true) => Some(Outcome::Buried { sequence_number: message.sequence_number, was_posted }),
        Ok(false) => {
            tracing::warn!("there are too many dead letters: a message is tried on");
            None
        }
        Err(error) => {
            tracing::warn!(%error, "a dead letter cannot be kept");
            Some(Outcome::Unread)
        }
    }
}

/// The next page of those that are kept, of one agent or of all, and after which there are more.
pub(crate) async fn next_page(
    letters: &dyn DeadLetters,
    agent_id: Option<&AgentId>,
    after: Option<MessageId>,
) -> StoreResult<(Vec<DeadLetter>, Option<MessageId>)> {
    let page = letters.list(agent_id, after, DEAD_LETTERS_PAGE).await?;
    let more = if page.len() == DEAD_LETTERS_PAGE { page.last().map(|last| last.turn_id) } else { None };
    Ok((page, more))
}

/// The message of a dead letter, if it is still kept.
pub(crate) async fn message_of(
    log: &dyn MessageLog,
    letter: &DeadLetter,
) -> StoreResult<Option<Arc<Message>>> {
    let message = log.message(letter.conversation_id, letter.sequence_number).await?;
    Ok(message.filter(|message| message.message_id == letter.turn_id))
}

/// What a replay came to, by what the sink has said.
pub(crate) fn what_came_of(posted: Posted) -> Replayed {
    match posted {
        Posted::Taken => Replayed::Taken,
        Posted::Refused { status } => Replayed::Refused { status },
        Posted::Failed { .. } => Replayed::Failed,
        Posted::Forbidden => Replayed::Forbidden,
    }
}
