//! Events between the server and agents: what stands in a CloudEvent's `type` and in its data. An event's `source` and `id`
//! together name it: the same for every try to deliver it.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::UnixMillis;
use crate::agent::AgentId;
use crate::dead_letter::DeadReason;
use crate::envelope::Envelope;
use crate::frame::MessageType;
use crate::frame::client::SendPayload;
use crate::ids::{ConversationId, DeviceId, IdempotencyKey, MessageId, StreamId, UserId};

/// A message for an agent: begins a turn. Data: [`AgentMessage`].
pub const AGENT_MESSAGE: &str = "agent.message";
/// An agent's answer: ends a turn. Data: [`AgentResponse`].
pub const AGENT_RESPONSE: &str = "agent.response";

/// A piece of an agent's answer, while it is being written. Data: [`AgentResponseDelta`].
pub const AGENT_RESPONSE_DELTA: &str = "agent.response.delta";
/// The agent is to stop answering a turn. Data: [`AgentCancel`].
pub const AGENT_CANCEL: &str = "agent.cancel";

/// A turn was given up: its agent does not take it. Data: [`AgentMessageDead`].
pub const AGENT_MESSAGE_DEAD: &str = "agent.message.dead";

/// A message. Posted to the server, by whoever has one from elsewhere: data [`MessageReceived`]. Told by the server, of every
/// message that is stored, to whoever the installation names: data [`PublishedMessage`].
pub const MESSAGE_RECEIVED: &str = "messaging.message.received";

/// The extension attribute that names the conversation: events of one are delivered in order.
pub const CONVERSATION_EXTENSION: &str = "conversationid";
/// The extension attribute that names the agent.
pub const AGENT_EXTENSION: &str = "agentid";

/// The media type of data that is signed: a JWT (RFC 7519, section 10.3.1) whose claims are [`SignedData`]. What a broker passes
/// on comes so: it does not pass on an `Authorization`, so the event says by itself whose it is.
///
/// The JWT's header is `{"alg": "EdDSA", "typ": "colloquy-event+jwt", "kid": "<user_id>/<device_id>"}`, and it is signed with
/// the Ed25519 key that this device has published as its `signing_key`. It counts for as long as the device is logged in.
pub const SIGNED_DATA: &str = "application/jwt";
/// The `typ` of that JWT: no other token of the device passes for one (RFC 8725, section 3.11).
pub const SIGNED_DATA_TYPE: &str = "colloquy-event+jwt";
/// No later second is a date: far enough, and any such number is exact.
const MAX_SECONDS: f64 = 1e15;
/// The latest `exp` there may be, from when it is read; where messages are not kept for twice as long, half of that. So for as long
/// as an event counts it is known that it was told.
pub const SIGNED_DATA_LIFETIME_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Claims of [`SIGNED_DATA`]. Others may stand beside them, but no `aud`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedData<D> {
    /// Until when it counts, seconds since 1970: later than the broker may hold it, and at most [`SIGNED_DATA_LIFETIME_MAX`] from
    /// now. Told twice it is as if told once.
    #[serde(deserialize_with = "whole_seconds")]
    pub exp: u64,
    /// From when on it counts (RFC 7519, section 4.1.5), in the same way; from the beginning, if it is not said.
    #[serde(default, deserialize_with = "whole_seconds")]
    pub nbf: u64,
    /// The event's `type`.
    pub r#type: String,
    /// The event's data, as it is without a signature.
    pub data: D,
}

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

/// Data of [`MESSAGE_RECEIVED`]: what a `message` frame carries. Its sender is whoever posts the event, on the device that the
/// log-in is bound to; or the device that has signed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageReceived {
    /// With the sender it names at most one message (ONCE): the event may be delivered again and again.
    pub idempotency_key: IdempotencyKey,
    /// The message.
    #[schema(value_type = Object)]
    pub payload: SendPayload,
}

/// Data of [`MESSAGE_RECEIVED`], as the server tells it: a message that is in its conversation's log. The event's `id` is the
/// message's and `/received`, its `source` is `/conversations/` and the conversation's: whoever is told twice knows by these, and by
/// the number whether something is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublishedMessage {
    /// The message.
    pub message_id: MessageId,
    /// Where it was written.
    pub conversation_id: ConversationId,
    /// Its number there: 1, 2, ... without a hole.
    pub sequence_number: u64,
    /// Who wrote it ...
    pub sender_id: UserId,
    /// ... and on which device.
    #[schema(value_type = String)]
    pub sender_device_id: DeviceId,
    /// Whom it was written to.
    pub receiver_id: UserId,
    /// What kind of thing the content is.
    #[schema(value_type = String)]
    pub r#type: MessageType,
    /// Encrypted, for all devices that it is for: nobody else can read it.
    #[schema(value_type = Object)]
    pub content: Envelope,
    /// Where a file that belongs to it lies, encrypted.
    pub media_url: Option<String>,
    /// The message this one answers.
    pub reply_to_message_id: Option<MessageId>,
    /// The turn that it ends, if it is an agent's answer: the id of the question.
    pub turn_id: Option<MessageId>,
    /// When it was numbered.
    pub timestamp: UnixMillis,
}

/// Data of [`AGENT_RESPONSE_DELTA`]: see [`crate::frame::delta::Delta`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentResponseDelta {
    /// The turn that is being answered.
    pub turn_id: MessageId,
    /// The try at an answer.
    pub stream_id: StreamId,
    /// Counts the try's deltas: 1, 2, ...
    pub sequence: u64,
    /// Ciphertext, unpadded base64.
    pub body: String,
}

/// Data of [`AGENT_CANCEL`]. The turn is still to be answered: with what has been said so far, or with nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentCancel {
    /// The turn.
    pub turn_id: MessageId,
    /// Where.
    pub conversation_id: ConversationId,
    /// The agent that is answering.
    pub agent_id: AgentId,
    /// Why.
    pub reason: CancelReason,
    /// When it was asked for.
    pub timestamp: UnixMillis,
}

/// Data of [`AGENT_MESSAGE_DEAD`]. It may be told more than once, and not at all if whoever is to hear of it does not listen:
/// the list of dead letters is what holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentMessageDead {
    /// The turn.
    pub turn_id: MessageId,
    /// Where it was asked.
    pub conversation_id: ConversationId,
    /// Its message's number there.
    pub sequence_number: u64,
    /// The agent that did not take it.
    pub agent_id: AgentId,
    /// Why it was given up.
    pub reason: DeadReason,
    /// The status that the agent refused it with last, if it did.
    pub status: Option<u16>,
    /// How often it was tried in a row.
    pub tries: u32,
    /// When it was given up.
    pub timestamp: UnixMillis,
}

/// Why an agent is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CancelReason {
    /// Whoever asked wants no more of it.
    Stopped,
    /// They have written something else, and the agent answers the newest ([`crate::agent::WhenBusy::Interrupt`]).
    Interrupted,
}

impl CancelReason {
    /// As it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Interrupted => "interrupted",
        }
    }
}

/// A NumericDate may have a fraction (RFC 7519, section 2).
fn whole_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    if (0.0..MAX_SECONDS).contains(&seconds) {
        Ok(seconds as u64)
    } else {
        Err(serde::de::Error::custom("not a date"))
    }
}

fn text() -> MessageType {
    MessageType::Text
}
