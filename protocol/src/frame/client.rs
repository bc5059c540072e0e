//! Frames a client sends, and how they are parsed.
//!
//! Parsing is in two steps: one pass over the frame's top level, then one over the payload its `type` calls for.
//! Serde's internally tagged enums would buffer the whole frame in between; see [`ClientFrame::parse`].

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::UnixMillis;
use crate::envelope::Envelope;
use crate::error_code::ErrorCode;
use crate::frame::delta::{Delta, TurnPlace};
use crate::frame::{MessageType, TypingState};
use crate::ids::{ConversationId, DeviceId, IdempotencyKey, MessageId, UserId};
use crate::limits::{
    CLIENT_MESSAGE_ID_MAX_BYTES, CLIENT_SEQUENCE_MAX, MEDIA_URL_MAX_BYTES, PRESENCE_SUBSCRIPTIONS_MAX,
    RECEIPT_IDS_MAX, RESUME_CURSORS_MAX,
};

/// A frame from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientFrame {
    /// `auth`: who this socket is. The first frame, unless the handshake carried a token.
    Auth(Auth),
    /// `token_refresh`: a fresh access token for the open socket.
    TokenRefresh(TokenRefresh),
    /// `message`: a message to be stored and delivered.
    Message(Box<SendMessage>),
    /// `delivery_ack`: this device holds a message, and every one before it in the conversation.
    DeliveryAck(DeliveryAck),
    /// `read_receipt`: the user has seen messages.
    ReadReceipt(ReadReceipt),
    /// `heartbeat`: the client is alive.
    Heartbeat(Heartbeat),
    /// `retransmit`: send a run of messages again.
    Retransmit(Retransmit),
    /// `typing`: the user is composing, or no longer.
    Typing(Typing),
    /// `delta`: a piece of an agent's answer.
    Delta(Delta),
    /// `delta_request`: the beginning of an answer that is being written is not here; send it again.
    DeltaRequest(TurnPlace),
    /// `cancel_turn`: the agent is to stop answering.
    CancelTurn(TurnPlace),
    /// `presence_subscribe`: tell me when these users come and go.
    PresenceSubscribe(PresenceSubscribe),
    /// `presence_unsubscribe`: no longer.
    PresenceUnsubscribe(PresenceSubscribe),
}

/// Payload of `auth`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Auth {
    /// Must be the token's subject.
    pub user_id: UserId,
    /// An access token.
    pub auth_token: String,
    /// One of the user's registered devices.
    pub device_id: DeviceId,
    /// `ios`, `android`, `web`, `terminal`, `agent`; informative.
    #[serde(default)]
    pub platform: String,
    /// Informative.
    #[serde(default)]
    pub app_version: String,
    /// Where this device stands, per conversation; at most [`RESUME_CURSORS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resume: Vec<ResumeCursor>,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("device_id", &self.device_id).finish_non_exhaustive()
    }
}

/// How far a device has come in one conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeCursor {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// The device holds everything up to here; 0 is nothing.
    pub after_sequence: u64,
}

/// Payload of `token_refresh`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRefresh {
    /// An access token of the same user and log-in.
    pub auth_token: String,
}

impl std::fmt::Debug for TokenRefresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenRefresh(..)")
    }
}

/// `message`, client to server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendMessage {
    /// The client's own name for the message, given back in every answer to it.
    pub client_message_id: String,
    /// ONCE: with the sender's id it names at most one message.
    pub idempotency_key: IdempotencyKey,
    /// The sender's own count in this conversation and on this connection, starting at 1. Messages are numbered
    /// in this order whatever order they arrive in. A message answered with `device_list_stale` or a retryable
    /// `error` keeps its number: it is sent again under the same one, and later ones wait for it (at most
    /// [`crate::limits::REORDER_TIMEOUT`]). Without the number messages are numbered as they arrive.
    pub client_sequence: Option<u64>,
    /// The lowest `client_sequence` of this conversation and connection that the client has not settled, this one's at
    /// most: everything before it is answered for good, or will not be sent again. While it is not this one's, this
    /// message is never numbered before what it names, however long that takes. Without it the server goes by the answers
    /// it has given, and after [`crate::limits::REORDER_TIMEOUT`] by none.
    pub oldest_unsettled: Option<u64>,
    /// The message itself.
    pub payload: SendPayload,
}

/// Payload of `message`, client to server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendPayload {
    /// Where it goes. For a pair that never spoke: [`ConversationId::of_pair`].
    pub conversation_id: ConversationId,
    /// The other participant of a 1:1 conversation.
    pub receiver_id: UserId,
    /// Encrypted for each recipient device.
    pub content: Envelope,
    /// What kind of thing the content is.
    pub r#type: MessageType,
    /// Where encrypted media lies.
    #[serde(default)]
    pub media_url: Option<String>,
    /// The message this one answers.
    #[serde(default)]
    pub reply_to_message_id: Option<MessageId>,
    /// The sender's clock; shown, never trusted.
    pub timestamp: UnixMillis,
}

impl SendPayload {
    /// # Errors
    /// [`RefusedFrame`] with `malformed_envelope` or `invalid_field`.
    pub fn check_form(&self) -> Result<(), RefusedFrame> {
        let malformed =
            |why: crate::envelope::MalformedEnvelope| refuse(ErrorCode::MalformedEnvelope, &why.to_string());
        self.content.check_form().map_err(malformed)?;
        let Some(url) = &self.media_url else { return Ok(()) };
        let plain = url.bytes().all(|b| b.is_ascii_graphic());
        if url.starts_with("https://") && plain && url.len() <= MEDIA_URL_MAX_BYTES {
            Ok(())
        } else {
            Err(refuse(ErrorCode::InvalidField, "media_url is not a short https url"))
        }
    }
}

/// `delivery_ack`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryAck {
    /// The newest message held; every earlier one of its conversation counts as held too.
    pub message_id: MessageId,
    /// Spares the server a look-up where the client knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<MessagePosition>,
    /// The client's clock.
    pub timestamp: UnixMillis,
}

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessagePosition {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// The number in it.
    pub sequence_number: u64,
}

/// `read_receipt`, client to server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadReceipt {
    /// What the user has seen; at most [`RECEIPT_IDS_MAX`]. Everything before the newest counts as seen too.
    pub message_ids: Vec<MessageId>,
    /// The client's clock.
    pub timestamp: UnixMillis,
}

/// `heartbeat`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The client's clock.
    pub timestamp: UnixMillis,
}

/// `retransmit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retransmit {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// The first number wanted.
    pub from_sequence: u64,
    /// The last number wanted, inclusive. Numbers beyond the newest message are left out of the answer.
    pub to_sequence: u64,
}

/// Payload of `typing`, client to server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Typing {
    /// Where the user is composing.
    pub conversation_id: ConversationId,
    /// Composing, or no longer.
    pub state: TypingState,
}

/// Payload of `presence_subscribe` and `presence_unsubscribe`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceSubscribe {
    /// Users who share a conversation with the subscriber.
    pub user_ids: Vec<UserId>,
}

/// A frame that was refused before anything was done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedFrame {
    /// Why.
    pub code: ErrorCode,
    /// What exactly, for a developer to read. Never quotes the frame (PRIVATE).
    pub detail: String,
    /// The message it would have been, where that much could be read.
    pub client_message_id: Option<String>,
    /// Its conversation and `client_sequence`, where they could be read: a message refused for good uses its number up.
    pub place: Option<(ConversationId, u64)>,
}

/// The top level of any client frame. Fields of other types of frame are ignored.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow, default)]
    client_message_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    idempotency_key: Option<&'a RawValue>,
    #[serde(default)]
    client_sequence: Option<u64>,
    #[serde(default)]
    oldest_unsettled: Option<u64>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

impl ClientFrame {
    /// Parses one text message.
    ///
    /// # Errors
    /// [`RefusedFrame`] with `malformed_frame`, `unknown_frame`, `missing_idempotency_key`,
    /// `invalid_idempotency_key`, `e2ee_required` or `invalid_field`.
    pub fn parse(text: &str) -> Result<Self, RefusedFrame> {
        let head: Head<'_> = serde_json::from_str(text).map_err(|error| malformed(&error))?;
        let frame = match head.r#type.as_ref() {
            "message" => return parse_message(&head).map(|message| Self::Message(Box::new(message))),
            "delivery_ack" => Self::DeliveryAck(flat(text)?),
            "heartbeat" => Self::Heartbeat(flat(text)?),
            "read_receipt" => Self::ReadReceipt(flat(text)?),
            "retransmit" => Self::Retransmit(flat(text)?),
            "auth" => Self::Auth(payload(&head)?),
            "token_refresh" => Self::TokenRefresh(payload(&head)?),
            "typing" => Self::Typing(payload(&head)?),
            "delta" => Self::Delta(payload(&head)?),
            "delta_request" => Self::DeltaRequest(payload(&head)?),
            "cancel_turn" => Self::CancelTurn(payload(&head)?),
            "presence_subscribe" => Self::PresenceSubscribe(payload(&head)?),
            "presence_unsubscribe" => Self::PresenceUnsubscribe(payload(&head)?),
            _ => return Err(refuse(ErrorCode::UnknownFrame, "no client frame has this type")),
        };
        frame.check_bounds()?;
        Ok(frame)
    }

    /// Refuses lists and texts longer than their documented bounds (BOUND).
    fn check_bounds(&self) -> Result<(), RefusedFrame> {
        if let Self::Delta(delta) = self {
            return delta.check_form().map_err(|why| refuse(ErrorCode::InvalidField, why));
        }
        let (field, length, max) = match self {
            Self::Auth(auth) => ("resume", auth.resume.len(), RESUME_CURSORS_MAX),
            Self::ReadReceipt(receipt) => ("message_ids", receipt.message_ids.len(), RECEIPT_IDS_MAX),
            Self::PresenceSubscribe(s) | Self::PresenceUnsubscribe(s) => {
                ("user_ids", s.user_ids.len(), PRESENCE_SUBSCRIPTIONS_MAX)
            }
            _ => return Ok(()),
        };
        if length > max {
            return Err(refuse(
                ErrorCode::InvalidField,
                &format!("{field} has {length} items, {max} are allowed"),
            ));
        }
        Ok(())
    }

    /// The frame as JSON text; the inverse of [`ClientFrame::parse`].
    #[must_use]
    pub fn to_json(&self) -> String {
        let written = match self {
            Self::Auth(payload) => tagged_payload("auth", payload),
            Self::TokenRefresh(payload) => tagged_payload("token_refresh", payload),
            Self::Message(message) => serde_json::to_string(&MessageOut {
                r#type: "message",
                client_message_id: &message.client_message_id,
                idempotency_key: message.idempotency_key,
                client_sequence: message.client_sequence,
                oldest_unsettled: message.oldest_unsettled,
                payload: &message.payload,
            }),
            Self::DeliveryAck(fields) => tagged("delivery_ack", fields),
            Self::ReadReceipt(fields) => tagged("read_receipt", fields),
            Self::Heartbeat(fields) => tagged("heartbeat", fields),
            Self::Retransmit(fields) => tagged("retransmit", fields),
            Self::Typing(payload) => tagged_payload("typing", payload),
            Self::Delta(payload) => tagged_payload("delta", payload),
            Self::DeltaRequest(payload) => tagged_payload("delta_request", payload),
            Self::CancelTurn(payload) => tagged_payload("cancel_turn", payload),
            Self::PresenceSubscribe(payload) => tagged_payload("presence_subscribe", payload),
            Self::PresenceUnsubscribe(payload) => tagged_payload("presence_unsubscribe", payload),
        };
        written.expect("frames have string keys and no failing serializers")
    }
}

#[derive(Serialize)]
struct MessageOut<'a> {
    r#type: &'static str,
    client_message_id: &'a str,
    idempotency_key: IdempotencyKey,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_unsettled: Option<u64>,
    payload: &'a SendPayload,
}

fn tagged<T: Serialize>(r#type: &'static str, fields: &T) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Tagged<'a, T> {
        r#type: &'static str,
        #[serde(flatten)]
        fields: &'a T,
    }
    serde_json::to_string(&Tagged { r#type, fields })
}

fn tagged_payload<T: Serialize>(r#type: &'static str, payload: &T) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Tagged<'a, T> {
        r#type: &'static str,
        payload: &'a T,
    }
    serde_json::to_string(&Tagged { r#type, payload })
}

fn flat<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, RefusedFrame> {
    serde_json::from_str(text).map_err(|error| malformed(&error))
}

fn payload<'a, T: Deserialize<'a>>(head: &Head<'a>) -> Result<T, RefusedFrame> {
    let raw = head.payload.ok_or_else(|| refuse(ErrorCode::MalformedFrame, "payload is missing"))?;
    serde_json::from_str(raw.get()).map_err(|error| malformed(&error))
}

fn parse_message(head: &Head<'_>) -> Result<SendMessage, RefusedFrame> {
    let client_message_id = head.client_message_id.as_deref().unwrap_or_default();
    let name = |mut refused: RefusedFrame| {
        let fits = (1..=CLIENT_MESSAGE_ID_MAX_BYTES).contains(&client_message_id.len());
        refused.client_message_id = fits.then(|| client_message_id.to_owned());
        refused.place = place_of(head);
        refused
    };
    check_message(head, client_message_id).map_err(name)
}

/// Where a message that is refused would have stood in its sender's order.
fn place_of(head: &Head<'_>) -> Option<(ConversationId, u64)> {
    #[derive(Deserialize)]
    struct Place {
        conversation_id: ConversationId,
    }
    let number = head.client_sequence.filter(|number| (1..=CLIENT_SEQUENCE_MAX).contains(number))?;
    let place: Place = serde_json::from_str(head.payload?.get()).ok()?;
    Some((place.conversation_id, number))
}

fn check_message(head: &Head<'_>, client_message_id: &str) -> Result<SendMessage, RefusedFrame> {
    if !(1..=CLIENT_MESSAGE_ID_MAX_BYTES).contains(&client_message_id.len()) {
        return Err(refuse(ErrorCode::MalformedFrame, "client_message_id is missing, empty or too long"));
    }
    let key = head
        .idempotency_key
        .ok_or_else(|| refuse(ErrorCode::MissingIdempotencyKey, "a message needs an idempotency_key"))?;
    let idempotency_key = serde_json::from_str(key.get()).map_err(|_| {
        refuse(ErrorCode::InvalidIdempotencyKey, "idempotency_key is not a uuid of version 4")
    })?;
    if head.client_sequence.is_some_and(|number| !(1..=CLIENT_SEQUENCE_MAX).contains(&number)) {
        return Err(refuse(ErrorCode::InvalidField, "client_sequence is not between 1 and 2^53 - 1"));
    }
    let own = head.client_sequence.unwrap_or(0);
    if head.oldest_unsettled.is_some_and(|number| !(1..=own).contains(&number)) {
        return Err(refuse(ErrorCode::InvalidField, "oldest_unsettled is not between 1 and client_sequence"));
    }
    let raw = head.payload.ok_or_else(|| refuse(ErrorCode::MalformedFrame, "payload is missing"))?;
    let payload: SendPayload =
        serde_json::from_str(raw.get()).map_err(|error| explain_payload(raw.get(), &error))?;
    payload.check_form()?;
    Ok(SendMessage {
        client_message_id: client_message_id.to_owned(),
        idempotency_key,
        client_sequence: head.client_sequence,
        oldest_unsettled: head.oldest_unsettled,
        payload,
    })
}

/// Tells a message whose content is not encrypted from one that is merely malformed. Only refused frames pay for it.
fn explain_payload(raw: &str, error: &serde_json::Error) -> RefusedFrame {
    #[derive(Deserialize)]
    struct ContentOnly {
        #[serde(default)]
        content: serde_json::Value,
    }
    match serde_json::from_str::<ContentOnly>(raw) {
        Ok(ContentOnly { content: serde_json::Value::Object(fields) })
            if fields.contains_key("ciphertexts") && fields.contains_key("algorithm") =>
        {
            match serde_json::from_value::<Envelope>(serde_json::Value::Object(fields)) {
                Ok(_) => malformed(error),
                Err(_) => refuse(ErrorCode::MalformedEnvelope, "content is not a well-formed envelope"),
            }
        }
        Ok(_) => refuse(ErrorCode::E2eeRequired, "content must be an end-to-end encrypted envelope"),
        Err(_) => malformed(error),
    }
}

fn refuse(code: ErrorCode, detail: &str) -> RefusedFrame {
    RefusedFrame { code, detail: detail.to_owned(), client_message_id: None, place: None }
}

/// Says where and in which category parsing failed; serde's own text may quote what the client sent (PRIVATE).
fn malformed(error: &serde_json::Error) -> RefusedFrame {
    let what = match error.classify() {
        serde_json::error::Category::Data => "a field is missing or has the wrong type",
        serde_json::error::Category::Eof => "the text ends too early",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "not json",
    };
    refuse(ErrorCode::MalformedFrame, &format!("{what} (line {}, column {})", error.line(), error.column()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message() -> serde_json::Value {
        json!({
            "type": "message",
            "client_message_id": "client_abc123",
            "idempotency_key": "9f8b1d4e-6f0a-4c3b-8a1d-2e3f4a5b6c7d",
            "client_sequence": 1,
            "oldest_unsettled": 1,
            "payload": {
                "conversation_id": "01890a5d-ac96-774b-bcce-b302099a8057",
                "receiver_id": "01890a5d-ac96-774b-bcce-b302099a8058",
                "content": {
                    "algorithm": "olm.v1",
                    "sender_key": "A".repeat(43),
                    "ciphertexts": [{
                        "user_id": "01890a5d-ac96-774b-bcce-b302099a8058",
                        "device_id": "phone", "kind": "pre_key", "body": "c2VjcmV0"
                    }]
                },
                "type": "text",
                "media_url": null,
                "reply_to_message_id": null,
                "timestamp": 1_699_189_200_000_u64
            }
        })
    }

    fn code(frame: &serde_json::Value) -> ErrorCode {
        ClientFrame::parse(&frame.to_string()).unwrap_err().code
    }

    #[test]
    fn a_message_reads_back_as_it_was_written() {
        let parsed = ClientFrame::parse(&message().to_string()).unwrap();
        assert_eq!(ClientFrame::parse(&parsed.to_json()).unwrap(), parsed);
    }

    #[test]
    fn every_frame_of_the_specification_is_understood() {
        for frame in [
            json!({"type": "delivery_ack", "message_id": "01890a5d-ac96-774b-bcce-b302099a8057", "timestamp": 1}),
            json!({"type": "read_receipt", "message_ids": ["01890a5d-ac96-774b-bcce-b302099a8057"], "timestamp": 1}),
            json!({"type": "heartbeat", "timestamp": 1}),
            json!({"type": "delta", "payload": {"conversation_id": "01890a5d-ac96-774b-bcce-b302099a8057",
                   "turn_id": "01890a5d-ac96-774b-bcce-b302099a8058", "sequence": 1, "body": "c2VjcmV0",
                   "stream_id": "01890a5d-ac96-774b-bcce-b302099a8059"}}),
            json!({"type": "cancel_turn", "payload": {"conversation_id": "01890a5d-ac96-774b-bcce-b302099a8057",
                   "turn_id": "01890a5d-ac96-774b-bcce-b302099a8058"}}),
            json!({"type": "retransmit", "conversation_id": "01890a5d-ac96-774b-bcce-b302099a8057",
                   "from_sequence": 100, "to_sequence": 105}),
            json!({"type": "auth", "payload": {"user_id": "01890a5d-ac96-774b-bcce-b302099a8057",
                   "auth_token": "t", "device_id": "phone-abc", "platform": "ios", "app_version": "1.0.0"}}),
        ] {
            let parsed = ClientFrame::parse(&frame.to_string()).unwrap();
            assert_eq!(ClientFrame::parse(&parsed.to_json()).unwrap(), parsed);
        }
    }

    #[test]
    fn each_kind_of_bad_message_has_its_own_code() {
        let with = |path: &str, value: serde_json::Value| {
            let mut frame = message();
            *frame.pointer_mut(path).unwrap() = value;
            frame
        };
        let mut keyless = message();
        keyless.as_object_mut().unwrap().remove("idempotency_key");
        assert_eq!(code(&keyless), ErrorCode::MissingIdempotencyKey);
        assert_eq!(code(&with("/idempotency_key", json!("x"))), ErrorCode::InvalidIdempotencyKey);
        assert_eq!(code(&with("/idempotency_key", json!(7))), ErrorCode::InvalidIdempotencyKey);
        assert_eq!(code(&with("/payload/content", json!("hello"))), ErrorCode::E2eeRequired);
        assert_eq!(code(&with("/payload/content", json!({"text": "hello"}))), ErrorCode::E2eeRequired);
        assert_eq!(
            code(&with("/payload/content/ciphertexts/0/body", json!("=="))),
            ErrorCode::MalformedEnvelope
        );
        assert_eq!(code(&with("/payload/content/sender_key", json!(1))), ErrorCode::MalformedEnvelope);
        assert_eq!(code(&with("/payload/receiver_id", json!(1))), ErrorCode::MalformedFrame);
        assert_eq!(code(&with("/payload/media_url", json!("http://x"))), ErrorCode::InvalidField);
        assert_eq!(code(&with("/client_sequence", json!(0))), ErrorCode::InvalidField);
        assert_eq!(code(&with("/oldest_unsettled", json!(0))), ErrorCode::InvalidField);
        assert_eq!(
            code(&with("/oldest_unsettled", json!(2))),
            ErrorCode::InvalidField,
            "it comes after this one"
        );
        assert_eq!(code(&with("/client_message_id", json!(""))), ErrorCode::MalformedFrame);
        assert_eq!(code(&with("/type", json!("shout"))), ErrorCode::UnknownFrame);
    }

    #[test]
    fn a_delta_of_another_form_is_refused() {
        let delta = |body: &str| {
            json!({"type": "delta", "payload": {"conversation_id": "01890a5d-ac96-774b-bcce-b302099a8057",
                "turn_id": "01890a5d-ac96-774b-bcce-b302099a8058", "sequence": 1, "body": body,
                "stream_id": "01890a5d-ac96-774b-bcce-b302099a8059"}})
        };
        assert_eq!(code(&delta("in the clear")), ErrorCode::InvalidField);
        assert_eq!(code(&delta("")), ErrorCode::InvalidField);
        assert!(ClientFrame::parse(&delta("c2VjcmV0").to_string()).is_ok());
    }

    #[test]
    fn a_refused_message_still_tells_which_message_it_was() {
        let mut frame = message();
        frame["payload"]["content"] = json!("hello");
        let refused = ClientFrame::parse(&frame.to_string()).unwrap_err();
        assert_eq!(refused.client_message_id.as_deref(), Some("client_abc123"));
    }

    #[test]
    fn what_is_not_json_is_refused_without_being_quoted() {
        for text in ["", "{", "[]", "null", "my secret", "{\"type\": 5}"] {
            let refused = ClientFrame::parse(text).unwrap_err();
            assert_eq!(refused.code, ErrorCode::MalformedFrame, "{text}");
            assert!(!refused.detail.contains("secret"));
        }
    }
}
