//! What agents are told, and what is said of them.

use colloquy_protocol::UnixMillis;
use colloquy_protocol::event::{
    AGENT_CANCEL, AGENT_MESSAGE, AGENT_MESSAGE_DEAD, AgentCancel, AgentMessage, AgentMessageDead,
};
use colloquy_storage::model::agent::Agent;
use colloquy_storage::model::dead_letter::DeadLetter;
use colloquy_storage::model::message::Message;

use super::cancels::Cancel;
use crate::outbox::Event;

impl Event {
    /// Says that a message was written to an agent. Holds the ciphertexts for the agent's devices only (E2EE, AUTHZ).
    ///
    /// # Panics
    /// Never: plain data is JSON.
    #[must_use]
    pub fn of_message(agent: &Agent, message: &Message) -> Self {
        let mut content = message.content.clone();
        content.ciphertexts.retain(|ciphertext| ciphertext.user_id == agent.user_id);
        let data = AgentMessage {
            turn_id: message.message_id,
            conversation_id: message.conversation_id,
            sequence_number: message.sequence_number,
            agent_id: agent.agent_id.clone(),
            sender_id: message.sender_id,
            sender_device_id: message.sender_device_id.clone(),
            r#type: message.r#type,
            content,
            reply_to_message_id: message.reply_to_message_id,
            timestamp: message.created_at,
        };
        let id = message.message_id.to_string();
        Self::new(AGENT_MESSAGE, id, message.conversation_id, message.created_at, &data).to(agent)
    }

    /// Says that an agent is to stop answering.
    ///
    /// # Panics
    /// Never: plain data is JSON.
    #[must_use]
    pub fn of_cancel(agent: &Agent, cancel: Cancel, now: UnixMillis) -> Self {
        let Cancel { conversation_id, turn_id, reason } = cancel;
        let agent_id = agent.agent_id.clone();
        let data = AgentCancel { turn_id, conversation_id, agent_id, reason, timestamp: now };
        // Whoever has heard of one reason is to hear of the other.
        let id = format!("{turn_id}/{}", reason.as_str());
        Self::new(AGENT_CANCEL, id, conversation_id, now, &data).to(agent)
    }

    /// Says that a turn was given up.
    ///
    /// # Panics
    /// Never: plain data is JSON.
    #[must_use]
    pub fn of_dead_letter(agent: &Agent, letter: &DeadLetter) -> Self {
        let data = AgentMessageDead {
            turn_id: letter.turn_id,
            conversation_id: letter.conversation_id,
            sequence_number: letter.sequence_number,
            agent_id: letter.agent_id.clone(),
            reason: letter.reason,
            status: letter.status,
            tries: letter.tries,
            timestamp: letter.died_at,
        };
        let id = format!("{}/dead", letter.turn_id);
        let event = Self::new(AGENT_MESSAGE_DEAD, id, letter.conversation_id, letter.died_at, &data);
        Self { mode: Some(agent.profile.sink_mode), ..event }
    }
}
