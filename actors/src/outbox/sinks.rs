//! Events, and where they are taken: the port, which the composition root puts an HTTP client behind.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::agent::{AgentId, SinkMode};
use colloquy_protocol::ids::ConversationId;
use colloquy_storage::model::agent::Agent;
use serde::Serialize;

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
    /// Of this kind and id, from this conversation, with `data` as JSON: for nobody in particular.
    ///
    /// # Panics
    /// Never: plain data is JSON.
    pub(crate) fn new(
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

    /// For this agent, as it wants to have its events.
    pub(crate) fn to(self, agent: &Agent) -> Self {
        let (agent_id, mode) = (Some(agent.agent_id.clone()), Some(agent.profile.sink_mode));
        Self { agent_id, mode, ..self }
    }
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

/// Takes nothing: for nodes that tell nobody.
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
