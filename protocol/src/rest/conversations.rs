//! Conversations and their history.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::UnixMillis;
use crate::frame::server::DeliveredMessage;
use crate::ids::{ConversationId, MessageId, UserId};

/// `POST /v1/conversations`: the 1:1 conversation with another user, made if it is not there yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenConversation {
    /// The other user.
    pub participant_id: UserId,
}

/// What a conversation is between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum ConversationKind {
    /// Two users.
    #[serde(rename = "1:1")]
    Pair,
}

/// A conversation as one of its participants sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Conversation {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// What it is between.
    pub r#type: ConversationKind,
    /// Everybody in it, this user too.
    pub participants: Vec<UserId>,
    /// The newest message's number; 0 in an empty conversation.
    pub last_sequence_number: u64,
    /// When the newest message was numbered.
    pub last_message_at: Option<UnixMillis>,
    /// Messages of others this user has not read.
    pub unread_count: u64,
    /// How far this user has read, on whichever device.
    pub own_read_through: u64,
    /// How far every other participant has read, by the least of them.
    pub read_through: u64,
    /// How far every other participant holds the messages, by the least of them.
    pub delivered_through: u64,
    /// When it was opened.
    pub created_at: UnixMillis,
    /// The newest message, as the device named in the request may see it.
    #[schema(value_type = Option<Object>)]
    pub last_message: Option<DeliveredMessage>,
    /// Questions of this user that their agent was not able to take, and that have not been answered since; the newest first, at
    /// most [`GIVEN_UP_MAX`](crate::limits::GIVEN_UP_MAX).
    #[serde(default)]
    pub given_up: Vec<MessageId>,
}

/// `GET /v1/conversations`: those with the newest messages first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Conversations {
    /// At most as many as were asked for.
    pub conversations: Vec<Conversation>,
    /// Pass it as `cursor` to get the next ones; null at the end.
    pub next_cursor: Option<String>,
}

/// `GET /v1/conversations/{conversation_id}/messages`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// In the order of their numbers, without a hole.
    #[schema(value_type = Vec<Object>)]
    pub messages: Vec<DeliveredMessage>,
    /// More messages lie beyond this page, in the direction asked for.
    pub more: bool,
}
