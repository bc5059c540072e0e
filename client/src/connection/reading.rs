//! A frame's text, read so that one message of a newer protocol does not hide the others.
//!
//! A page that is not understood would be asked for again, for ever. So each of its messages is read by itself, and
//! one that makes no sense here keeps its place, without content.

use colloquy_protocol::UnixMillis;
use colloquy_protocol::frame::server::{DeliveredMessage, MessagesPage, ServerFrame};
use colloquy_protocol::frame::{MessageStatus, MessageType};
use colloquy_protocol::ids::{ConversationId, DeviceId, MessageId, UserId};
use serde::Deserialize;
use serde_json::Value;

/// What says that a message was there.
#[derive(Deserialize)]
struct Place {
    message_id: MessageId,
    sequence_number: u64,
    sender_id: UserId,
    sender_device_id: DeviceId,
    receiver_id: UserId,
    conversation_id: ConversationId,
    timestamp: UnixMillis,
}

#[derive(Deserialize)]
struct Page {
    conversation_id: ConversationId,
    from_sequence: u64,
    messages: Vec<Value>,
    #[serde(default)]
    more: bool,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Delivery {
    Message { payload: Value },
    Messages { payload: Page },
}

/// The frame; nothing if it is of a kind that is not known here.
pub(super) fn read_frame(text: &str) -> Option<ServerFrame> {
    let error = match serde_json::from_str(text) {
        Ok(frame) => return Some(frame),
        Err(error) => error,
    };
    // Not the text itself: it may hold what is nobody's business (PRIVATE).
    tracing::debug!(line = error.line(), column = error.column(), "a frame was not understood");
    match serde_json::from_str(text).ok()? {
        Delivery::Message { payload } => Some(ServerFrame::Message { payload: read_message(payload)? }),
        Delivery::Messages { payload: Page { conversation_id, from_sequence, messages, more } } => {
            let messages = messages.into_iter().filter_map(read_message).collect();
            let payload = MessagesPage { conversation_id, from_sequence, messages, more };
            Some(ServerFrame::Messages { payload })
        }
    }
}

fn read_message(value: Value) -> Option<DeliveredMessage> {
    let Ok(place) = Place::deserialize(&value) else { return None };
    serde_json::from_value(value).ok().or_else(|| Some(without_content(place)))
}

fn without_content(place: Place) -> DeliveredMessage {
    DeliveredMessage {
        message_id: place.message_id,
        sequence_number: place.sequence_number,
        sender_id: place.sender_id,
        sender_device_id: place.sender_device_id,
        receiver_id: place.receiver_id,
        conversation_id: place.conversation_id,
        content: None,
        r#type: MessageType::Text,
        media_url: None,
        reply_to_message_id: None,
        timestamp: place.timestamp,
        status: MessageStatus::Sent,
        idempotency_key: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(number: u64) -> Value {
        let id = |n: u128| uuid::Uuid::from_u128(n).to_string();
        json!({
            "message_id": id(u128::from(number)), "sequence_number": number, "sender_id": id(100),
            "sender_device_id": "phone", "receiver_id": id(101), "conversation_id": id(102), "type": "text",
            "content": { "algorithm": "olm.v1", "sender_key": "key", "kind": "normal", "body": "body" },
            "timestamp": 5, "status": "sent"
        })
    }

    #[test]
    fn a_message_that_is_not_understood_keeps_its_place_and_hides_no_other() {
        let (known, mut strange) = (message(1), message(2));
        strange["type"] = json!("hologram");
        strange["content"] = json!({ "algorithm": "of_next_year" });
        let conversation_id = known["conversation_id"].clone();
        let page = json!({
            "type": "messages",
            "payload": {
                "conversation_id": conversation_id, "from_sequence": 1, "messages": [known, strange], "more": true
            }
        });
        let Some(ServerFrame::Messages { payload }) = read_frame(&page.to_string()) else { panic!("{page}") };
        let numbers: Vec<u64> = payload.messages.iter().map(|message| message.sequence_number).collect();
        assert_eq!((numbers, payload.more), (vec![1, 2], true));
        let has_content: Vec<bool> = payload.messages.iter().map(|m| m.content.is_some()).collect();
        assert_eq!(has_content, [true, false]);
    }

    #[test]
    fn a_single_message_that_is_not_understood_keeps_its_place_and_another_frame_is_nothing() {
        let mut strange = message(7);
        strange["status"] = json!("teleported");
        let frame = json!({ "type": "message", "payload": strange });
        let Some(ServerFrame::Message { payload }) = read_frame(&frame.to_string()) else {
            panic!("{frame}")
        };
        assert_eq!((payload.sequence_number, payload.content), (7, None));
        assert_eq!(read_frame(r#"{"type":"of_next_year","payload":{}}"#), None);
        assert_eq!(read_frame("nonsense"), None);
    }
}
