//! Answers of agents, and what else comes as events, on their way into conversations.

use std::sync::Arc;

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::event::{AgentResponse, AgentResponseDelta, MessageReceived};
use colloquy_protocol::frame::client::SendPayload;
use colloquy_protocol::frame::delta::Delta;
use colloquy_protocol::frame::server::DeviceListStale;
use colloquy_protocol::ids::{DeviceId, IdempotencyKey, MessageId, SessionId, UserId};
use colloquy_storage::ambient::{Clock, Entropy};
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::message_log::Located;
use colloquy_storage::ports::{MessageLog, StoreError, StoreResult};

use crate::conversation::{Answer, Doorway, Ephemeral, Unheard};

/// Why an answer was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// No such turn, or not one of this agent's: which of the two is not said (AUTHZ).
    #[error("no such turn")]
    UnknownTurn,
    /// It was not for exactly the recipients' devices.
    #[error("the answer is not for exactly the recipients' devices")]
    Stale(DeviceListStale),
    /// It was refused.
    #[error("the answer was refused: {0}")]
    Refused(ErrorCode),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The message that answers a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnAnswered {
    /// The message.
    pub message_id: MessageId,
    /// Its number in the conversation.
    pub sequence_number: u64,
    /// It had been answered before: that answer stands, and this one was dropped.
    pub was_answered: bool,
}

/// Takes answers. Cheap to clone.
#[derive(Clone)]
pub struct Turns {
    doorway: Doorway,
    log: Arc<dyn MessageLog>,
    clock: Clock,
    entropy: Entropy,
}

impl Turns {
    /// Into the conversations behind `doorway`.
    #[must_use]
    pub fn new(doorway: Doorway, log: Arc<dyn MessageLog>, clock: Clock, entropy: Entropy) -> Self {
        Self { doorway, log, clock, entropy }
    }

    /// Puts the answer of an agent, who is the user `agent`, into its conversation. Returns when it is durable, or when
    /// the one that was first is known (DURABLE, ONCE).
    ///
    /// # Errors
    /// [`AnswerError`].
    pub async fn answer(
        &self,
        agent: UserId,
        device_id: DeviceId,
        response: AgentResponse,
    ) -> Result<TurnAnswered, AnswerError> {
        let turn_id = response.turn_id;
        let turn = self.find(agent, turn_id).await?;
        response.content.check_form().map_err(|_| AnswerError::Refused(ErrorCode::MalformedEnvelope))?;
        let payload = SendPayload {
            conversation_id: turn.conversation_id,
            receiver_id: turn.sender_id,
            content: response.content,
            r#type: response.r#type,
            media_url: None,
            reply_to_message_id: Some(turn_id),
            timestamp: response.timestamp,
        };
        let message = Message::submitted(agent, device_id, IdempotencyKey::of_turn(turn_id), payload);
        match self.ask(message).await? {
            Answer::Acked(ack) => Ok(TurnAnswered {
                message_id: ack.message_id,
                sequence_number: ack.sequence_number,
                was_answered: false,
            }),
            Answer::Refused(ErrorCode::IdempotencyConflict) => self.first_answer(agent, turn_id).await,
            Answer::Refused(code) => Err(AnswerError::Refused(code)),
            Answer::Stale(stale) => Err(AnswerError::Stale(stale)),
        }
    }

    /// Puts a message into its conversation that came as an event, from a device of `sender`. Returns when it is durable
    /// (DURABLE, ONCE).
    ///
    /// # Errors
    /// [`AnswerError::Refused`], [`AnswerError::Stale`], [`AnswerError::Store`].
    pub async fn received(
        &self,
        sender: UserId,
        device_id: DeviceId,
        received: MessageReceived,
    ) -> Result<(), AnswerError> {
        let MessageReceived { idempotency_key, payload } = received;
        payload.check_form().map_err(|refused| AnswerError::Refused(refused.code))?;
        let message = Message::submitted(sender, device_id, idempotency_key, payload);
        match self.ask(message).await? {
            Answer::Acked(_) => Ok(()),
            Answer::Refused(code) => Err(AnswerError::Refused(code)),
            Answer::Stale(stale) => Err(AnswerError::Stale(stale)),
        }
    }

    /// As a session of its own.
    async fn ask(&self, message: Message) -> StoreResult<Answer> {
        let session_id = SessionId(self.entropy.uuid_v7(self.clock.now()));
        self.doorway.ask(message, session_id).await
    }

    /// Passes a piece of an agent's answer on to whoever is there.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub async fn delta(&self, agent: UserId, delta: AgentResponseDelta) -> Result<(), AnswerError> {
        let AgentResponseDelta { turn_id, stream_id, sequence, body } = delta;
        let conversation_id = self.find(agent, turn_id).await?.conversation_id;
        let delta = Delta { conversation_id, turn_id, stream_id, sequence, body };
        delta.check_form().map_err(|_| AnswerError::Refused(ErrorCode::InvalidField))?;
        if self.log.find_by_key(agent, IdempotencyKey::of_turn(turn_id)).await?.is_some() {
            return Err(AnswerError::Refused(ErrorCode::TurnAnswered));
        }
        let said = Ephemeral::Delta(Box::new(delta));
        let heard = self.doorway.say(conversation_id, agent, true, said).await?;
        heard.map_err(|why| match why {
            Unheard::Unknown => AnswerError::UnknownTurn,
            Unheard::Later(code) => AnswerError::Refused(code),
        })
    }

    /// The message that began the turn, if it was written to this agent (AUTHZ).
    async fn find(&self, agent: UserId, turn_id: MessageId) -> Result<Arc<Message>, AnswerError> {
        let located =
            self.log.locate(&[turn_id]).await?.into_iter().next().ok_or(AnswerError::UnknownTurn)?;
        let Located { conversation_id, sequence_number, .. } = located;
        let message = self.log.message(conversation_id, sequence_number).await?;
        message.filter(|message| is_theirs(message, agent)).ok_or(AnswerError::UnknownTurn)
    }

    /// Encrypting draws new keys each time, so no second answer is ever the first one's retry: whichever was stored first
    /// is the turn's.
    async fn first_answer(&self, agent: UserId, turn_id: MessageId) -> Result<TurnAnswered, AnswerError> {
        let found: StoreResult<_> = self.log.find_by_key(agent, IdempotencyKey::of_turn(turn_id)).await;
        let first = found?.ok_or(AnswerError::Refused(ErrorCode::Unavailable))?;
        Ok(TurnAnswered {
            message_id: first.message_id,
            sequence_number: first.sequence_number,
            was_answered: true,
        })
    }
}

/// Was it written to this agent (AUTHZ)?
fn is_theirs(message: &Message, agent: UserId) -> bool {
    #[cfg(feature = "mutations")]
    if colloquy_mutations::is(colloquy_mutations::Mutation::AnswerByAnyone) {
        return true;
    }
    message.receiver_id == agent && message.begins_turn()
}
