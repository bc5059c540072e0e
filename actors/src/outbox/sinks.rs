//! Events, and where they are taken: the port, which the composition root puts an HTTP client behind.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::agent::{AgentId, SinkMode};
use colloquy_protocol::event::{
    AGENT_CANCEL, AGENT_MESSAGE, AGENT_MESSAGE_DEAD, AgentCancel, AgentMessage, AgentMessageDead,
    CancelReason, MESSAGE_RECEIVED, PublishedMessage,
};
use colloquy_protocol::ids::{ConversationId, MessageId};
use colloquy_storage::model::agent::Agent;
use colloquy_storage::model::dead_letter::DeadLetter;
use colloquy_storage::model::message::Message;
use serde::Serialize;

use crate::agent::answered_turn;

/// A CloudEvent on its way out. `source` and `id` are the same for every try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it is: see [`colloquy_protocol::event`].
    pub kind: &'static str,
    /// Unique among those of its source: begins with the message's id, which is the turn's.
    pub id: String,
    /// Which conversation it comes from.
    pub source: String,
    /// The conversation: events of one are delivered in order.
    pub conversation_id: ConversationId,
    /// The agent it is for; none, if it is for somebody else: a broker takes to an agent whatever names it.
    pub agent_id: Option<AgentId>,
    /// How it is put into the request; none, if that is for whoever posts it to say.
    pub mode: Option<SinkMode>,
    /// When what it tells of happened.
    pub time: UnixMillis,
    /// JSON.
    pub data: Bytes,
}

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
        Self::of(AGENT_MESSAGE, id, message.conversation_id, message.created_at, &data).to(agent)
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
        Self::of(AGENT_CANCEL, id, conversation_id, now, &data).to(agent)
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
        let event = Self::of(AGENT_MESSAGE_DEAD, id, letter.conversation_id, letter.died_at, &data);
        Self { mode: Some(agent.profile.sink_mode), ..event }
    }

    /// Says that a message is in its conversation's log, to whoever is told of all of them. As it is stored: encrypted (E2EE).
    ///
    /// # Panics
    /// Never: plain data is JSON.
    #[must_use]
    pub fn of_stored(message: &Message) -> Self {
        let data = PublishedMessage {
            message_id: message.message_id,
            conversation_id: message.conversation_id,
            sequence_number: message.sequence_number,
            sender_id: message.sender_id,
            sender_device_id: message.sender_device_id.clone(),
            receiver_id: message.receiver_id,
            r#type: message.r#type,
            content: message.content.clone(),
            media_url: message.media_url.clone(),
            reply_to_message_id: message.reply_to_message_id,
            turn_id: answered_turn(message),
            timestamp: message.created_at,
        };
        // An agent is told of the same message under its id alone.
        let id = format!("{}/received", message.message_id);
        Self::of(MESSAGE_RECEIVED, id, message.conversation_id, message.created_at, &data)
    }

    fn of(
        kind: &'static str,
        id: String,
        conversation_id: ConversationId,
        time: UnixMillis,
        data: &impl Serialize,
    ) -> Self {
        Self {
            kind,
            id,
            source: format!("/conversations/{conversation_id}"),
            conversation_id,
            agent_id: None,
            mode: None,
            time,
            data: serde_json::to_vec(data).expect("plain data is json").into(),
        }
    }

    fn to(self, agent: &Agent) -> Self {
        let (agent_id, mode) = (Some(agent.agent_id.clone()), Some(agent.profile.sink_mode));
        Self { agent_id, mode, ..self }
    }
}

/// A turn that is to be answered no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancel {
    /// Where.
    pub conversation_id: ConversationId,
    /// Which.
    pub turn_id: MessageId,
    /// Why.
    pub reason: CancelReason,
}

/// What a sink has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// It has taken the event.
    Taken,
    /// It does not want this event: a status of 4xx that says so.
    Refused {
        /// The status.
        status: u16,
    },
    /// It could not take it now, or nothing was heard of it.
    Failed {
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
        /// It says that it has too much to do.
        is_busy: bool,
    },
    /// It may not be posted there: the installation does not allow the host.
    Forbidden,
}

impl Posted {
    /// Nothing was heard of it.
    pub const SILENT: Self = Self::Failed { retry_after: None, is_busy: false };
}

/// Posts events to sinks.
#[async_trait]
pub trait Sinks: Send + Sync + 'static {
    /// Posts one event, once, without following redirects. Answers within a bound of its own.
    async fn post(&self, sink: &str, event: &Event) -> Posted;

    /// Posts an event that is for whoever looks after the installation: an agent's message that was given up. Taken, if
    /// nobody wants to hear of it.
    async fn announce(&self, event: &Event) -> Posted;

    /// Posts an event that is for whoever is told of all messages. Forbidden, if nobody is to be.
    async fn publish(&self, event: &Event) -> Posted;
}

/// Takes nothing: for nodes without agents.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSinks;

#[async_trait]
impl Sinks for NoSinks {
    async fn post(&self, _: &str, _: &Event) -> Posted {
        Posted::Forbidden
    }

    async fn announce(&self, _: &Event) -> Posted {
        Posted::Taken
    }

    async fn publish(&self, _: &Event) -> Posted {
        Posted::Forbidden
    }
}
