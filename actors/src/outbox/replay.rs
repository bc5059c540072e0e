//! What was given up, and is posted once more by whoever runs the installation.

use std::sync::Arc;

use colloquy_protocol::agent::AgentId;
use colloquy_protocol::ids::MessageId;
use colloquy_protocol::limits::DEAD_LETTERS_PAGE;
use colloquy_protocol::rest::dead_letters::Replayed;
use colloquy_storage::model::dead_letter::DeadLetter;
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::{DeadLetters, MessageLog, StoreResult};

use super::sinks::Posted;

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
