//! A message as it is stored: the envelope whole, for every device.

use colloquy_protocol::UnixMillis;
use colloquy_protocol::envelope::Envelope;
use colloquy_protocol::frame::client::SendPayload;
use colloquy_protocol::frame::server::MessageOut;
use colloquy_protocol::frame::{MessageStatus, MessageType};
use colloquy_protocol::ids::{ConversationId, DeviceId, IdempotencyKey, MessageId, UserId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A message. Before it is appended its `sequence_number` is 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Given by the conversation's owner.
    pub message_id: MessageId,
    /// Given by the log: 1..n without a hole (ORDER).
    pub sequence_number: u64,
    /// The conversation.
    pub conversation_id: ConversationId,
    /// Who sent it ...
    pub sender_id: UserId,
    /// ... and from which device.
    pub sender_device_id: DeviceId,
    /// The other participant.
    pub receiver_id: UserId,
    /// Unique together with `sender_id` (ONCE).
    pub idempotency_key: IdempotencyKey,
    /// What kind of thing the content is.
    pub r#type: MessageType,
    /// Encrypted for every recipient device (E2EE).
    pub content: Envelope,
    /// Where encrypted media lies.
    pub media_url: Option<String>,
    /// The message this one answers.
    pub reply_to_message_id: Option<MessageId>,
    /// The sender's clock.
    pub sent_at: UnixMillis,
    /// The owner's clock when it was numbered.
    pub created_at: UnixMillis,
}

impl Message {
    /// What somebody sends from one of their devices. Id, number and time are the owner's to give.
    #[must_use]
    pub fn submitted(
        sender_id: UserId,
        sender_device_id: DeviceId,
        idempotency_key: IdempotencyKey,
        payload: SendPayload,
    ) -> Self {
        Self {
            message_id: MessageId(Uuid::nil()),
            sequence_number: 0,
            conversation_id: payload.conversation_id,
            sender_id,
            sender_device_id,
            receiver_id: payload.receiver_id,
            idempotency_key,
            r#type: payload.r#type,
            content: payload.content,
            media_url: payload.media_url,
            reply_to_message_id: payload.reply_to_message_id,
            sent_at: payload.timestamp,
            created_at: 0,
        }
    }

    /// Would a retry with this body be the same message? Decides between an ack and `idempotency_conflict`.
    #[must_use]
    pub fn same_body(&self, other: &Message) -> bool {
        self.conversation_id == other.conversation_id
            && self.sender_device_id == other.sender_device_id
            && self.r#type == other.r#type
            && self.content == other.content
            && self.media_url == other.media_url
            && self.reply_to_message_id == other.reply_to_message_id
    }

    /// Does it begin a turn, if it is for an agent? An answer does not, nor what it goes on with: two agents would answer each other
    /// for ever.
    #[must_use]
    pub fn begins_turn(&self) -> bool {
        self.reply_to_message_id.is_none_or(|turn_id| !self.idempotency_key.answers(turn_id))
    }

    /// The turn that it ends, if it is an agent's answer.
    #[must_use]
    pub fn answered_turn(&self) -> Option<MessageId> {
        self.reply_to_message_id.filter(|turn_id| self.idempotency_key == IdempotencyKey::of_turn(*turn_id))
    }

    /// The message as one device may see it: its own ciphertext only.
    #[must_use]
    pub fn for_device(&self, user_id: UserId, device_id: &DeviceId, status: MessageStatus) -> MessageOut<'_> {
        let own = self.sender_id == user_id;
        MessageOut {
            message_id: self.message_id,
            sequence_number: self.sequence_number,
            sender_id: self.sender_id,
            sender_device_id: &self.sender_device_id,
            receiver_id: self.receiver_id,
            conversation_id: self.conversation_id,
            content: self.content.sealed_for(user_id, device_id),
            r#type: self.r#type,
            media_url: self.media_url.as_deref(),
            reply_to_message_id: self.reply_to_message_id,
            timestamp: self.created_at,
            status,
            idempotency_key: own.then_some(self.idempotency_key),
        }
    }

    /// About how many bytes the message takes, for queues and pages bounded by size.
    #[must_use]
    pub fn weight(&self) -> usize {
        let ciphertexts: usize = self.content.ciphertexts.iter().map(|c| c.body.len() + 64).sum();
        ciphertexts + self.media_url.as_ref().map_or(0, String::len) + 256
    }
}
