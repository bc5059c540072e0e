//! Events between the server and agents: what stands in a CloudEvent's `type` and in its data. An event's `source` and `id`
//! together name it: the same for every try to deliver it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::UnixMillis;
use crate::agent::AgentId;
use crate::envelope::Envelope;
use crate::frame::MessageType;
use crate::ids::{ConversationId, DeviceId, MessageId, UserId};

/// A message for an agent: begins a turn. Data: [`AgentMessage`].
pub const AGENT_MESSAGE: &str = "agent.message";
/// An agent's answer: ends a turn. Data: [`AgentResponse`].
pub const AGENT_RESPONSE: &str = "agent.response";

/// The extension attribute that names the conversation: events of one are delivered in order.
pub const CONVERSATION_EXTENSION: &str = "conversationid";
/// The extension attribute that names the agent.
pub const AGENT_EXTENSION: &str = "agentid";

/// Data of [`AGENT_MESSAGE`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentMessage {
    /// The turn: the message's own id. The answer names it.
    pub turn_id: MessageId,
    /// Where it was written.
    pub conversation_id: ConversationId,
    /// Its number there.
    pub sequence_number: u64,
    /// The agent it is for.
    pub agent_id: AgentId,
    /// Who wrote it ...
    pub sender_id: UserId,
    /// ... and on which device.
    #[schema(value_type = String)]
    pub sender_device_id: DeviceId,
    /// What kind of thing the content is.
    #[schema(value_type = String)]
    pub r#type: MessageType,
    /// Encrypted, for the agent's devices only.
    #[schema(value_type = Object)]
    pub content: Envelope,
    /// The message this one answers.
    pub reply_to_message_id: Option<MessageId>,
    /// When it was numbered.
    pub timestamp: UnixMillis,
}

/// Data of [`AGENT_RESPONSE`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentResponse {
    /// The turn that is answered: the id of the message.
    pub turn_id: MessageId,
    /// Encrypted for every device of the user, and every other device of the agent.
    #[schema(value_type = Object)]
    pub content: Envelope,
    /// What kind of thing the content is.
    #[serde(default = "text")]
    #[schema(value_type = String)]
    pub r#type: MessageType,
    /// The agent's clock; shown, never trusted.
    pub timestamp: UnixMillis,
}

fn text() -> MessageType {
    MessageType::Text
}
