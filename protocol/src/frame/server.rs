//! Frames a server sends.
//!
//! On the hot path the server writes [`MessageOut`] and [`MessageAckOut`] straight from what it stored; a client
//! parses everything with [`ServerFrame`]. A test holds the two together.

use serde::{Deserialize, Serialize};

use crate::UnixMillis;
use crate::envelope::{OwnedSealedContent, SealedContent};
use crate::error_code::ErrorCode;
use crate::frame::delta::{Delta, TurnPlace};
use crate::frame::{MessageStatus, MessageType, PresenceStatus, TypingState};
use crate::ids::{ConversationId, DeviceAddress, DeviceId, IdempotencyKey, MessageId, SessionId, UserId};

/// A frame from a server, as a client parses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame {
    /// The socket is authenticated.
    AuthSuccess {
        /// What the session is and how it is to behave.
        payload: AuthSuccess,
    },
    /// The fresh token was accepted.
    TokenRefreshed {
        /// Until when.
        payload: TokenRefreshed,
    },
    /// A message for this device.
    Message {
        /// The message.
        payload: DeliveredMessage,
    },
    /// A message of this client is stored (DURABLE).
    MessageAck {
        /// The client's own name for it.
        client_message_id: String,
        /// What it became.
        payload: MessageAck,
    },
    /// A message was not for exactly the recipients' devices, and was not stored.
    DeviceListStale {
        /// The client's own name for it.
        client_message_id: String,
        /// The difference.
        payload: DeviceListStale,
    },
    /// Recipients hold messages of this user.
    DeliveryReceipt {
        /// Which, and who.
        payload: DeliveryReceipt,
    },
    /// Recipients have seen messages of this user.
    ReadReceipt {
        /// Which, and who.
        payload: ReadReceipt,
    },
    /// Answers `heartbeat`.
    HeartbeatAck {
        /// The server's clock.
        server_time: UnixMillis,
    },
    /// A page of a conversation: what was missed, or what was asked for again.
    Messages {
        /// The page.
        payload: MessagesPage,
    },
    /// Go elsewhere soon.
    Migration {
        /// Where and when.
        payload: Migration,
    },
    /// A watched user came or went.
    Presence {
        /// Who, and how.
        payload: Presence,
    },
    /// Somebody is composing a message.
    Typing {
        /// Who, and where.
        payload: Typing,
    },
    /// A piece of an answer that an agent is writing.
    Delta {
        /// The piece.
        payload: Delta,
    },
    /// Somebody lacks the beginning of an answer that this agent is writing.
    DeltaRequest {
        /// Which.
        payload: TurnPlace,
    },
    /// An agent was not able to take a question of this user: it is answered only if whoever runs the installation has it
    /// delivered again.
    TurnGivenUp {
        /// Which.
        payload: TurnPlace,
    },
    /// A frame was refused. The connection goes on unless a close follows.
    Error {
        /// The message it was, where it was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client_message_id: Option<String>,
        /// Why.
        payload: ErrorPayload,
    },
}

impl ServerFrame {
    /// The frame as JSON text.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("frames have string keys and no failing serializers")
    }
}

/// Payload of `auth_success`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthSuccess {
    /// Names this connection in logs and support requests.
    pub session_id: SessionId,
    /// The server's clock, for the client to know its own skew.
    pub server_time: UnixMillis,
    /// Messages the user has not read, over all conversations.
    pub unread_count: u64,
    /// How often to send `heartbeat`.
    pub heartbeat_interval_ms: u64,
    /// When the access token runs out.
    pub token_expires_at: UnixMillis,
    /// The version of the user's own device list.
    pub device_list_version: u64,
    /// One-time keys this device has left unclaimed; publish more below [`crate::limits::ONE_TIME_KEYS_LOW`].
    pub one_time_key_count: u64,
}

/// Payload of `token_refreshed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRefreshed {
    /// When the new token runs out.
    pub token_expires_at: UnixMillis,
}

/// A message as its recipient device receives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveredMessage {
    /// The message.
    pub message_id: MessageId,
    /// Its number in the conversation.
    pub sequence_number: u64,
    /// Who sent it ...
    pub sender_id: UserId,
    /// ... and from which device.
    pub sender_device_id: DeviceId,
    /// The other participant.
    pub receiver_id: UserId,
    /// The conversation.
    pub conversation_id: ConversationId,
    /// This device's ciphertext; null where the message was not encrypted for it: its own, or older than the device.
    pub content: Option<OwnedSealedContent>,
    /// What kind of thing the content is.
    pub r#type: MessageType,
    /// Where encrypted media lies.
    #[serde(default)]
    pub media_url: Option<String>,
    /// The message this one answers.
    #[serde(default)]
    pub reply_to_message_id: Option<MessageId>,
    /// When the server numbered it.
    pub timestamp: UnixMillis,
    /// How far it has come.
    pub status: MessageStatus,
    /// Only on the sender's own messages: lets a client that lost an ack find its message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<IdempotencyKey>,
}

/// [`DeliveredMessage`] as the server writes it, borrowing from the stored message.
#[derive(Clone, Debug, Serialize)]
pub struct MessageOut<'a> {
    /// See [`DeliveredMessage::message_id`]; the other fields likewise.
    pub message_id: MessageId,
    #[allow(missing_docs)]
    pub sequence_number: u64,
    #[allow(missing_docs)]
    pub sender_id: UserId,
    #[allow(missing_docs)]
    pub sender_device_id: &'a DeviceId,
    #[allow(missing_docs)]
    pub receiver_id: UserId,
    #[allow(missing_docs)]
    pub conversation_id: ConversationId,
    #[allow(missing_docs)]
    pub content: Option<SealedContent<'a>>,
    #[allow(missing_docs)]
    pub r#type: MessageType,
    #[allow(missing_docs)]
    pub media_url: Option<&'a str>,
    #[allow(missing_docs)]
    pub reply_to_message_id: Option<MessageId>,
    #[allow(missing_docs)]
    pub timestamp: UnixMillis,
    #[allow(missing_docs)]
    pub status: MessageStatus,
    #[allow(missing_docs)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<IdempotencyKey>,
}

/// A `message` or `messages` frame as the server writes it.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DeliveryOut<'a> {
    /// One message, as it happens.
    Message {
        /// The message.
        payload: MessageOut<'a>,
    },
    /// A page of the log.
    Messages {
        /// The page.
        payload: MessagesOut<'a>,
    },
}

/// [`MessagesPage`] as the server writes it.
#[derive(Clone, Debug, Serialize)]
pub struct MessagesOut<'a> {
    /// See [`MessagesPage::conversation_id`]; the other fields likewise.
    pub conversation_id: ConversationId,
    #[allow(missing_docs)]
    pub from_sequence: u64,
    #[allow(missing_docs)]
    pub messages: &'a [MessageOut<'a>],
    #[allow(missing_docs)]
    pub more: bool,
}

/// Payload of `message_ack`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageAck {
    /// The message.
    pub message_id: MessageId,
    /// Its number in the conversation.
    pub sequence_number: u64,
    /// How far it has come; `sent` unless this answers a retry.
    pub status: MessageStatus,
    /// When the server numbered it.
    pub timestamp: UnixMillis,
}

/// A `message_ack` frame as the server writes it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MessageAckOut<'a> {
    r#type: &'static str,
    client_message_id: &'a str,
    payload: MessageAck,
}

impl<'a> MessageAckOut<'a> {
    /// The frame that answers `client_message_id`.
    #[must_use]
    pub fn new(client_message_id: &'a str, payload: MessageAck) -> Self {
        Self { r#type: "message_ack", client_message_id, payload }
    }
}

/// Payload of `device_list_stale`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceListStale {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// Devices that have no ciphertext and need one.
    pub missing: Vec<DeviceAddress>,
    /// Devices that have one and must not.
    pub extra: Vec<DeviceAddress>,
}

/// Payload of `delivery_receipt`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryReceipt {
    /// The newest message held; every earlier one counts as held too.
    pub message_ids: Vec<MessageId>,
    /// The recipient.
    pub delivered_to: UserId,
    /// The conversation.
    pub conversation_id: ConversationId,
    /// Everything up to here is delivered.
    pub through_sequence: u64,
    /// The server's clock.
    pub timestamp: UnixMillis,
}

/// Payload of `read_receipt`, server to client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadReceipt {
    /// What was seen.
    pub message_ids: Vec<MessageId>,
    /// The reader.
    pub read_by: UserId,
    /// The conversation.
    pub conversation_id: ConversationId,
    /// Everything up to here is read.
    pub through_sequence: u64,
    /// The server's clock.
    pub timestamp: UnixMillis,
}

/// Payload of `messages`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessagesPage {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// The first number asked for. What lies between it and the first message is no longer kept (retention).
    pub from_sequence: u64,
    /// Messages in order, without a hole.
    pub messages: Vec<DeliveredMessage>,
    /// Another page of the same run follows.
    pub more: bool,
}

/// Payload of `migration`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// Where to connect next.
    pub new_endpoint: String,
    /// An access token of the same log-in, good at the new endpoint, so that a move needs no refresh.
    pub session_token: String,
    /// Wait this long before reconnecting; drawn per client, so that they do not all come at once.
    pub reconnect_after_ms: u64,
}

impl std::fmt::Debug for Migration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Migration")
            .field("reconnect_after_ms", &self.reconnect_after_ms)
            .finish_non_exhaustive()
    }
}

/// Payload of `presence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// The watched user.
    pub user_id: UserId,
    /// Here or gone.
    pub status: PresenceStatus,
    /// When a device of theirs was last here; null if never.
    pub last_seen: Option<UnixMillis>,
}

/// Payload of `typing`, server to client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Typing {
    /// Where.
    pub conversation_id: ConversationId,
    /// Who.
    pub user_id: UserId,
    /// Composing, or no longer.
    pub state: TypingState,
}

/// Payload of `error`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorPayload {
    /// The stable code to program against.
    pub code: ErrorCode,
    /// What exactly, for a developer to read.
    pub message: String,
    /// May the same frame succeed later, unchanged?
    pub retryable: bool,
    /// Wait at least this long before trying again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Algorithm, CiphertextKind};
    use uuid::Uuid;

    #[test]
    fn a_client_reads_what_the_server_writes_on_its_hot_path() {
        let device = DeviceId::new("phone").unwrap();
        let out = MessageOut {
            message_id: MessageId(Uuid::from_u128(1)),
            sequence_number: 7,
            sender_id: UserId(Uuid::from_u128(2)),
            sender_device_id: &device,
            receiver_id: UserId(Uuid::from_u128(3)),
            conversation_id: ConversationId(Uuid::from_u128(4)),
            content: Some(SealedContent {
                algorithm: Algorithm::OlmV1,
                sender_key: "key",
                kind: CiphertextKind::PreKey,
                body: "body",
            }),
            r#type: MessageType::Text,
            media_url: None,
            reply_to_message_id: None,
            timestamp: 9,
            status: MessageStatus::Sent,
            idempotency_key: None,
        };
        let page = [out.clone()];
        let json = serde_json::to_string(&DeliveryOut::Message { payload: out }).unwrap();
        let ServerFrame::Message { payload } = serde_json::from_str(&json).unwrap() else { panic!("{json}") };
        assert_eq!(payload.sequence_number, 7);
        assert_eq!(payload.content.as_ref().unwrap().body, "body");
        let conversation_id = page[0].conversation_id;
        let payload = MessagesOut { conversation_id, from_sequence: 5, messages: &page, more: true };
        let json = serde_json::to_string(&DeliveryOut::Messages { payload }).unwrap();
        let ServerFrame::Messages { payload } = serde_json::from_str(&json).unwrap() else {
            panic!("{json}")
        };
        assert!(payload.more && payload.messages.len() == 1 && payload.from_sequence == 5);
        let ack = MessageAck {
            message_id: MessageId(Uuid::from_u128(1)),
            sequence_number: 7,
            status: MessageStatus::Sent,
            timestamp: 9,
        };
        let json = serde_json::to_string(&MessageAckOut::new("m", ack)).unwrap();
        let read: ServerFrame = serde_json::from_str(&json).unwrap();
        assert_eq!(read, ServerFrame::MessageAck { client_message_id: "m".into(), payload: ack });
    }
}
