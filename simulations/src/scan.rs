//! The few bytes of a server frame that a load generator reads: found by their place, not by parsing.
//!
//! The server writes `type` first and the fields in the order of `protocol/src/frame/server.rs`; a test holds the
//! two together. Pages of messages are rare and parsed in full.

use colloquy_protocol::frame::server::ServerFrame;

/// What a frame is, as far as a load generator cares.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen<'a> {
    /// A message of ours is stored; the name holds when it was sent.
    Ack {
        /// What we called it.
        name: &'a [u8],
    },
    /// A message for us.
    Message {
        /// Its id, as it is written.
        message_id: &'a [u8],
        /// Its number ...
        sequence_number: u64,
        /// ... in this conversation, as it is written.
        conversation_id: &'a [u8],
        /// The ciphertext; it begins with when it was sent.
        body: &'a [u8],
    },
    /// Messages we were too slow for, or missed.
    Page,
    /// Something was refused.
    Refused,
    /// Anything else.
    Other,
}

/// Looks at one frame.
pub(crate) fn scan(frame: &[u8]) -> Seen<'_> {
    if let Some(rest) = frame.strip_prefix(br#"{"type":"message_ack","client_message_id":""#) {
        return Seen::Ack { name: until_quote(rest) };
    }
    if let Some(rest) = frame.strip_prefix(br#"{"type":"message","payload":{"message_id":""#) {
        return scan_message(rest).unwrap_or(Seen::Other);
    }
    if frame.starts_with(br#"{"type":"messages""#) {
        return Seen::Page;
    }
    if frame.starts_with(br#"{"type":"error""#) || frame.starts_with(br#"{"type":"device_list_stale""#) {
        return Seen::Refused;
    }
    Seen::Other
}

fn scan_message(rest: &[u8]) -> Option<Seen<'_>> {
    let message_id = until_quote(rest);
    let rest = after(rest, br#""sequence_number":"#)?;
    let sequence_number = number(rest);
    let rest = after(rest, br#""conversation_id":""#)?;
    let conversation_id = until_quote(rest);
    let body = until_quote(after(rest, br#""body":""#)?);
    Some(Seen::Message { message_id, sequence_number, conversation_id, body })
}

/// What a load generator reads of a page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// The ciphertexts of others' messages, in order.
    pub(crate) bodies: Vec<String>,
    /// The conversation, as it is written.
    pub(crate) conversation_id: String,
    /// The id of the newest message, as it is written.
    pub(crate) last_id: String,
    /// Its number.
    pub(crate) last_number: u64,
}

/// Reads a frame that [`scan`] has called a page; nothing if it is empty.
pub(crate) fn read_page(frame: &[u8]) -> Option<Page> {
    let ServerFrame::Messages { payload } = serde_json::from_slice(frame).ok()? else { return None };
    let conversation_id = payload.conversation_id.to_string();
    let last = payload.messages.last()?;
    let (last_id, last_number) = (last.message_id.to_string(), last.sequence_number);
    // Without a ciphertext it is a message of this side's own, whose ack was counted.
    let bodies = payload.messages.into_iter().filter_map(|message| message.content);
    let bodies = bodies.map(|content| content.body).collect();
    Some(Page { bodies, conversation_id, last_id, last_number })
}

fn until_quote(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == b'"').unwrap_or(bytes.len());
    &bytes[..end]
}

/// What follows the first `needle`.
fn after<'a>(bytes: &'a [u8], needle: &[u8]) -> Option<&'a [u8]> {
    let at = bytes.windows(needle.len()).position(|window| window == needle)?;
    Some(&bytes[at + needle.len()..])
}

/// The decimal digits that `bytes` begins with.
pub(crate) fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0, |number, digit| number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use colloquy_protocol::envelope::{Algorithm, CiphertextKind, SealedContent};
    use colloquy_protocol::frame::server::{DeliveryOut, MessageAck, MessageAckOut, MessageOut, MessagesOut};
    use colloquy_protocol::frame::{MessageStatus, MessageType};
    use colloquy_protocol::ids::{ConversationId, DeviceId, MessageId, UserId};

    fn ids() -> (MessageId, UserId, ConversationId) {
        let parse = |n: u8| format!("00000000-0000-0000-0000-0000000000{n:02}");
        (parse(1).parse().unwrap(), parse(2).parse().unwrap(), parse(3).parse().unwrap())
    }

    fn message(device: &DeviceId) -> MessageOut<'_> {
        let (message_id, user_id, conversation_id) = ids();
        MessageOut {
            message_id,
            sequence_number: 42,
            sender_id: user_id,
            sender_device_id: device,
            receiver_id: user_id,
            conversation_id,
            content: Some(SealedContent {
                algorithm: Algorithm::OlmV1,
                sender_key: "key",
                kind: CiphertextKind::Normal,
                body: "0000000000012345rest",
            }),
            r#type: MessageType::Text,
            media_url: None,
            reply_to_message_id: None,
            timestamp: 1,
            status: MessageStatus::Sent,
            idempotency_key: None,
        }
    }

    #[test]
    fn what_the_server_writes_is_found_at_its_place() {
        let device = DeviceId::new("phone").unwrap();
        let json = serde_json::to_string(&DeliveryOut::Message { payload: message(&device) }).unwrap();
        let (id, conversation_id) = (ids().0.to_string(), ids().2.to_string());
        let expected = Seen::Message {
            message_id: id.as_bytes(),
            sequence_number: 42,
            conversation_id: conversation_id.as_bytes(),
            body: b"0000000000012345rest",
        };
        assert_eq!(scan(json.as_bytes()), expected);
        let ack = MessageAck {
            message_id: ids().0,
            sequence_number: 42,
            status: MessageStatus::Sent,
            timestamp: 1,
        };
        let json = serde_json::to_string(&MessageAckOut::new("12345", ack)).unwrap();
        assert_eq!(scan(json.as_bytes()), Seen::Ack { name: b"12345" });
        assert_eq!(scan(br#"{"type":"heartbeat_ack","server_time":1}"#), Seen::Other);
        assert_eq!(scan(br#"{"type":"error","payload":{}}"#), Seen::Refused);
    }

    #[test]
    fn a_page_is_read_in_full() {
        let device = DeviceId::new("phone").unwrap();
        let messages = [message(&device)];
        let payload =
            MessagesOut { conversation_id: ids().2, from_sequence: 42, messages: &messages, more: false };
        let json = serde_json::to_string(&DeliveryOut::Messages { payload }).unwrap();
        assert_eq!(scan(json.as_bytes()), Seen::Page);
        let page = read_page(json.as_bytes()).unwrap();
        assert_eq!(page.bodies, ["0000000000012345rest"]);
        assert_eq!(page.conversation_id, ids().2.to_string());
        assert_eq!((page.last_id, page.last_number), (ids().0.to_string(), 42));
    }

    #[test]
    fn a_number_ends_where_its_digits_do() {
        assert_eq!((number(b"0012345abc"), number(b""), number(b"x1")), (12_345, 0, 0));
    }
}
