//! What whoever is told of all messages is told of each.

use colloquy_protocol::event::{MESSAGE_RECEIVED, PublishedMessage};
use colloquy_storage::model::message::Message;

use crate::outbox::Event;

impl Event {
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
            turn_id: message.answered_turn(),
            timestamp: message.created_at,
        };
        // An agent is told of the same message under its id alone.
        let id = format!("{}/received", message.message_id);
        Self::new(MESSAGE_RECEIVED, id, message.conversation_id, message.created_at, &data)
    }
}
