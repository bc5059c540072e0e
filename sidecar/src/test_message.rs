//! Messages of a conversation between an agent and a person.

use colloquy_client::{Message, MessageState, ShownContent};
use colloquy_protocol::ids::{ConversationId, DeviceId, MessageId, UserId};
use uuid::Uuid;

pub(crate) const AGENT: UserId = UserId(Uuid::from_u128(1));
pub(crate) const PERSON: UserId = UserId(Uuid::from_u128(2));

pub(crate) fn message_id(number: u64) -> MessageId {
    MessageId(Uuid::from_u128(number.into()))
}

/// The message of this number, as the agent's client shows it.
pub(crate) fn test_message(number: u64, sender_id: UserId, content: ShownContent) -> Message {
    Message {
        local_id: None,
        message_id: Some(message_id(number)),
        conversation_id: ConversationId::of_pair(AGENT, PERSON),
        sequence_number: Some(number),
        sender_id,
        sender_device_id: DeviceId::new("device").unwrap(),
        is_own: sender_id == AGENT,
        timestamp: number,
        content,
        state: MessageState::Received,
        given_up: false,
        reply_to: None,
    }
}
