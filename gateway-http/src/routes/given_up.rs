//! Questions that an agent was not able to take, as whoever asked sees them.

use std::collections::BTreeMap;
use std::sync::Arc;

use colloquy_accounts::agents::{AgentError, Agents};
use colloquy_actors::agent::is_answered;
use colloquy_protocol::ids::{ConversationId, MessageId, UserId};
use colloquy_protocol::limits::GIVEN_UP_MAX;
use colloquy_storage::model::dead_letter::DeadLetter;
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::{DeadLetters, MessageLog, StoreResult};
use futures_util::StreamExt;

use super::conversations::LOOK_UPS_AT_ONCE;

/// Dead letters, and the log that their questions and answers are in.
#[derive(Clone)]
pub(crate) struct GivenUp {
    pub(super) letters: Arc<dyn DeadLetters>,
    pub(super) log: Arc<dyn MessageLog>,
    pub(super) agents: Agents,
}

impl GivenUp {
    /// Those of `asker` in these conversations, the newest first, of the newest [`GIVEN_UP_MAX`] of each.
    pub(super) async fn of(
        &self,
        asker: UserId,
        conversations: &[ConversationId],
    ) -> StoreResult<BTreeMap<ConversationId, Vec<MessageId>>> {
        let mut letters = self.letters.of_conversations(conversations, GIVEN_UP_MAX).await?;
        if !letters.is_empty() {
            match self.agents.of_user(asker).await {
                // What others have asked an agent is none of its own questions, and may be much.
                Ok(own) => letters.retain(|letter| letter.agent_id != own.agent_id),
                Err(AgentError::Store(error)) => return Err(error),
                Err(_) => {}
            }
        }
        let places: Vec<_> = letters.iter().map(|letter| (letter.conversation_id, letter.turn_id)).collect();
        let open = letters.into_iter().map(|letter| async move { self.is_open(asker, &letter).await });
        let mut open = futures_util::stream::iter(open).buffered(LOOK_UPS_AT_ONCE);
        let mut given_up: BTreeMap<ConversationId, Vec<MessageId>> = BTreeMap::new();
        for (conversation_id, turn_id) in places {
            let Some(is_open) = open.next().await else { break };
            if is_open? {
                given_up.entry(conversation_id).or_default().push(turn_id);
            }
        }
        Ok(given_up)
    }

    /// Was this asked by `asker` (AUTHZ), and has it no answer?
    async fn is_open(&self, asker: UserId, letter: &DeadLetter) -> StoreResult<bool> {
        let question = self.log.message(letter.conversation_id, letter.sequence_number).await?;
        let is_theirs =
            |question: &Arc<Message>| question.message_id == letter.turn_id && question.sender_id == asker;
        let Some(question) = question.filter(is_theirs) else { return Ok(false) };
        let agent = question.receiver_id;
        Ok(!is_answered(&*self.letters, &*self.log, agent, letter.turn_id).await?)
    }
}
