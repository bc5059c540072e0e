//! Every server frame as JSON, field for field: what stands here is what clients of every version were promised.
//!
//! The first design's frames are here as well: ours may say more, never less, and never otherwise. The one exception is
//! `content`, which was an opaque text and is a device's own ciphertext with what is needed to open it.

use serde_json::{Value, json};
use uuid::Uuid;

use super::delta::{Delta, TurnPlace};
use super::server::{
    AuthSuccess, DeliveredMessage, DeliveryOut, DeliveryReceipt, DeviceListStale, ErrorPayload, MessageAck,
    MessageAckOut, MessageOut, MessagesOut, MessagesPage, Migration, Presence, ReadReceipt, ServerFrame,
    TokenRefreshed, Typing,
};
use super::{MessageStatus, MessageType, PresenceStatus, TypingState};
use crate::envelope::{Algorithm, CiphertextKind, OwnedSealedContent, SealedContent};
use crate::error_code::ErrorCode;
use crate::ids::{
    ConversationId, DeviceAddress, DeviceId, IdempotencyKey, MessageId, SessionId, StreamId, UserId,
};

const ADA: &str = "018bcfe5-6800-7000-8000-00000000000a";
const GRACE: &str = "018bcfe5-6800-7000-8000-00000000000b";
const CONVERSATION: &str = "0f7b1a52-33d1-8c4e-9a6b-5d2f4c8e1a77";
const MESSAGE: &str = "018bcfe5-6800-7000-8000-00000000007c";
const EARLIER: &str = "018bcfe5-6800-7000-8000-00000000007b";
const KEY: &str = "3f1c9a52-7d7e-4b0a-8f6d-2f9f5a3c1e10";
const SESSION: &str = "018bcfe5-6800-7000-8000-000000000005";
const THEN: u64 = 1_699_189_200_123;

fn id(text: &str) -> Uuid {
    Uuid::parse_str(text).unwrap()
}

fn phone() -> DeviceId {
    DeviceId::new("phone-abc").unwrap()
}

/// A message as its recipient is shown it.
fn delivered() -> DeliveredMessage {
    DeliveredMessage {
        message_id: MessageId(id(MESSAGE)),
        sequence_number: 124,
        sender_id: UserId(id(ADA)),
        sender_device_id: phone(),
        receiver_id: UserId(id(GRACE)),
        conversation_id: ConversationId(id(CONVERSATION)),
        content: Some(OwnedSealedContent {
            algorithm: Algorithm::OlmV1,
            sender_key: "c2VuZGVy".into(),
            kind: CiphertextKind::PreKey,
            body: "Y2lwaGVydGV4dA".into(),
        }),
        r#type: MessageType::Text,
        media_url: None,
        reply_to_message_id: None,
        timestamp: THEN,
        status: MessageStatus::Delivered,
        idempotency_key: None,
    }
}

/// The same as its sender's own device finds it in the history: with everything that may be there, or not there.
fn own() -> DeliveredMessage {
    DeliveredMessage {
        content: None,
        r#type: MessageType::Image,
        media_url: Some("https://media.example/1".into()),
        reply_to_message_id: Some(MessageId(id(EARLIER))),
        status: MessageStatus::Read,
        idempotency_key: IdempotencyKey::new(id(KEY)).ok(),
        ..delivered()
    }
}

fn delivered_json() -> Value {
    json!({
        "message_id": MESSAGE, "sequence_number": 124, "sender_id": ADA, "sender_device_id": "phone-abc",
        "receiver_id": GRACE, "conversation_id": CONVERSATION,
        "content": {"algorithm": "olm.v1", "sender_key": "c2VuZGVy", "kind": "pre_key", "body": "Y2lwaGVydGV4dA"},
        "type": "text", "media_url": null, "reply_to_message_id": null, "timestamp": THEN, "status": "delivered"
    })
}

fn own_json() -> Value {
    json!({
        "message_id": MESSAGE, "sequence_number": 124, "sender_id": ADA, "sender_device_id": "phone-abc",
        "receiver_id": GRACE, "conversation_id": CONVERSATION, "content": null, "type": "image",
        "media_url": "https://media.example/1", "reply_to_message_id": EARLIER, "timestamp": THEN,
        "status": "read", "idempotency_key": KEY
    })
}

fn ack() -> MessageAck {
    MessageAck {
        message_id: MessageId(id(MESSAGE)),
        sequence_number: 123,
        status: MessageStatus::Sent,
        timestamp: THEN,
    }
}

fn ack_json() -> Value {
    json!({"type": "message_ack", "client_message_id": "client_abc123", "payload": {
        "message_id": MESSAGE, "sequence_number": 123, "status": "sent", "timestamp": THEN}})
}

/// Frames about one session.
fn of_the_session() -> Vec<(ServerFrame, Value)> {
    let success = AuthSuccess {
        session_id: SessionId(id(SESSION)),
        server_time: THEN,
        unread_count: 47,
        heartbeat_interval_ms: 25_000,
        token_expires_at: THEN + 900_000,
        device_list_version: 3,
        one_time_key_count: 99,
    };
    let migration = Migration {
        new_endpoint: "wss://messaging.example.com/ws".into(),
        session_token: "session-token-here".into(),
        reconnect_after_ms: 1_500,
    };
    let until = TokenRefreshed { token_expires_at: THEN + 900_000 };
    vec![
        (
            ServerFrame::AuthSuccess { payload: success },
            json!({"type": "auth_success", "payload": {
                "session_id": SESSION, "server_time": THEN, "unread_count": 47, "heartbeat_interval_ms": 25_000,
                "token_expires_at": THEN + 900_000, "device_list_version": 3, "one_time_key_count": 99}}),
        ),
        (
            ServerFrame::TokenRefreshed { payload: until },
            json!({"type": "token_refreshed", "payload": {"token_expires_at": THEN + 900_000}}),
        ),
        (
            ServerFrame::HeartbeatAck { server_time: THEN },
            json!({"type": "heartbeat_ack", "server_time": THEN}),
        ),
        (
            ServerFrame::Migration { payload: migration },
            json!({"type": "migration", "payload": {
                "new_endpoint": "wss://messaging.example.com/ws", "session_token": "session-token-here",
                "reconnect_after_ms": 1_500}}),
        ),
    ]
}

/// Frames about messages.
fn of_messages() -> Vec<(ServerFrame, Value)> {
    let conversation_id = ConversationId(id(CONVERSATION));
    let page =
        MessagesPage { conversation_id, from_sequence: 40, messages: vec![delivered(), own()], more: true };
    let address = |user: &str, device: &str| DeviceAddress {
        user_id: UserId(id(user)),
        device_id: DeviceId::new(device).unwrap(),
    };
    let stale = DeviceListStale {
        conversation_id,
        missing: vec![address(GRACE, "tablet")],
        extra: vec![address(ADA, "old-phone")],
    };
    vec![
        (
            ServerFrame::Message { payload: delivered() },
            json!({"type": "message", "payload": delivered_json()}),
        ),
        (ServerFrame::Message { payload: own() }, json!({"type": "message", "payload": own_json()})),
        (ServerFrame::MessageAck { client_message_id: "client_abc123".into(), payload: ack() }, ack_json()),
        (
            ServerFrame::Messages { payload: page },
            json!({"type": "messages", "payload": {"conversation_id": CONVERSATION,
                "from_sequence": 40, "messages": [delivered_json(), own_json()], "more": true}}),
        ),
        (
            ServerFrame::DeviceListStale { client_message_id: "client_abc123".into(), payload: stale },
            json!({"type": "device_list_stale", "client_message_id": "client_abc123", "payload": {
                "conversation_id": CONVERSATION,
                "missing": [{"user_id": GRACE, "device_id": "tablet"}],
                "extra": [{"user_id": ADA, "device_id": "old-phone"}]}}),
        ),
    ]
}

/// Frames about how far messages have come, and about people.
fn of_people() -> Vec<(ServerFrame, Value)> {
    let (conversation_id, reader) = (ConversationId(id(CONVERSATION)), UserId(id(GRACE)));
    let (timestamp, through_sequence) = (THEN, 124);
    let message_ids = vec![MessageId(id(EARLIER)), MessageId(id(MESSAGE))];
    let held = DeliveryReceipt {
        message_ids: vec![MessageId(id(MESSAGE))],
        delivered_to: reader,
        conversation_id,
        through_sequence,
        timestamp,
    };
    let read = ReadReceipt { message_ids, read_by: reader, conversation_id, through_sequence, timestamp };
    let here = Presence { user_id: reader, status: PresenceStatus::Online, last_seen: None };
    let gone = Presence { status: PresenceStatus::Offline, last_seen: Some(THEN), ..here };
    let started = Typing { conversation_id, user_id: reader, state: TypingState::Started };
    let stopped = Typing { state: TypingState::Stopped, ..started };
    let place = TurnPlace { conversation_id, turn_id: MessageId(id(MESSAGE)) };
    let delta = Delta {
        conversation_id,
        turn_id: place.turn_id,
        stream_id: StreamId(id(SESSION)),
        sequence: 3,
        body: "c2VjcmV0".into(),
    };
    let presence = |status: &str, last_seen: Value| json!({"type": "presence", "payload": {"user_id": GRACE, "status": status, "last_seen": last_seen}});
    let typing = |state: &str| {
        json!({"type": "typing", "payload": {
            "conversation_id": CONVERSATION, "user_id": GRACE, "state": state}})
    };
    vec![
        (
            ServerFrame::DeliveryReceipt { payload: held },
            json!({"type": "delivery_receipt", "payload": {
                "message_ids": [MESSAGE], "delivered_to": GRACE, "conversation_id": CONVERSATION,
                "through_sequence": 124, "timestamp": THEN}}),
        ),
        (
            ServerFrame::ReadReceipt { payload: read },
            json!({"type": "read_receipt", "payload": {
                "message_ids": [EARLIER, MESSAGE], "read_by": GRACE, "conversation_id": CONVERSATION,
                "through_sequence": 124, "timestamp": THEN}}),
        ),
        (ServerFrame::Presence { payload: here }, presence("online", Value::Null)),
        (ServerFrame::Presence { payload: gone }, presence("offline", json!(THEN))),
        (ServerFrame::Typing { payload: started }, typing("started")),
        (ServerFrame::Typing { payload: stopped }, typing("stopped")),
        (
            ServerFrame::Delta { payload: delta },
            json!({"type": "delta", "payload": {
                "conversation_id": CONVERSATION, "turn_id": MESSAGE, "stream_id": SESSION, "sequence": 3,
                "body": "c2VjcmV0"}}),
        ),
        (
            ServerFrame::DeltaRequest { payload: place },
            json!({"type": "delta_request", "payload": {"conversation_id": CONVERSATION, "turn_id": MESSAGE}}),
        ),
        (
            ServerFrame::TurnGivenUp { payload: place },
            json!({"type": "turn_given_up", "payload": {"conversation_id": CONVERSATION, "turn_id": MESSAGE}}),
        ),
    ]
}

fn of_refusals() -> Vec<(ServerFrame, Value)> {
    let busy = ErrorPayload {
        code: ErrorCode::Busy,
        message: "try again".into(),
        retryable: true,
        retry_after_ms: Some(200),
    };
    let malformed = ErrorPayload {
        code: ErrorCode::MalformedFrame,
        message: "not json".into(),
        retryable: false,
        retry_after_ms: None,
    };
    vec![
        (
            ServerFrame::Error { client_message_id: Some("client_abc123".into()), payload: busy },
            json!({"type": "error", "client_message_id": "client_abc123", "payload": {
                "code": "busy", "message": "try again", "retryable": true, "retry_after_ms": 200}}),
        ),
        (
            ServerFrame::Error { client_message_id: None, payload: malformed },
            json!({"type": "error", "payload": {
                "code": "malformed_frame", "message": "not json", "retryable": false}}),
        ),
    ]
}

fn all() -> Vec<(ServerFrame, Value)> {
    [of_the_session(), of_messages(), of_people(), of_refusals()].concat()
}

/// The server's frames as the first design has them.
fn first_design() -> [Value; 7] {
    [
        json!({"type": "auth_success", "payload": {
            "session_id": "sess_xyz789", "server_time": 1_699_189_200_000_u64, "unread_count": 47}}),
        json!({"type": "message_ack", "client_message_id": "client_abc123", "payload": {
            "message_id": "server-msg-id", "sequence_number": 123, "status": "sent", "timestamp": THEN}}),
        json!({"type": "message", "payload": {
            "message_id": "server-msg-id", "sequence_number": 124, "sender_id": "agent-bruno",
            "receiver_id": "123", "conversation_id": "conv-uuid", "content": "encrypted-payload",
            "type": "text", "media_url": null, "timestamp": THEN, "status": "delivered"}}),
        json!({"type": "read_receipt", "payload": {
            "message_ids": ["msg-id-1", "msg-id-2"], "read_by": "123", "timestamp": 1_699_189_260_000_u64}}),
        json!({"type": "heartbeat_ack", "server_time": THEN}),
        json!({"type": "messages", "payload": {"conversation_id": "conv-uuid", "messages": [
            {"message_id": "msg-100", "sequence_number": 100, "content": "encrypted-payload",
             "timestamp": 1_699_189_200_000_u64}]}}),
        json!({"type": "migration", "payload": {
            "new_endpoint": "wss://messaging.example.com/ws", "session_token": "session-token-here"}}),
    ]
}

/// What `theirs` has and `ours` lacks, or has in another form; each named by its path.
fn missing(path: &str, theirs: &Value, ours: &Value, found: &mut Vec<String>) {
    match (theirs, ours) {
        _ if path.ends_with(".content") && !ours.is_string() => {}
        (Value::Object(theirs), Value::Object(ours)) => {
            for (name, value) in theirs {
                match ours.get(name) {
                    Some(of_ours) => missing(&format!("{path}.{name}"), value, of_ours, found),
                    None => found.push(format!("{path}.{name}")),
                }
            }
        }
        (Value::Array(theirs), Value::Array(ours)) if !ours.is_empty() => {
            missing(&format!("{path}[]"), &theirs[0], &ours[0], found);
        }
        (Value::String(_), Value::String(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::Null, Value::Null) => {}
        _ => found.push(format!("{path} has another form")),
    }
}

#[test]
fn every_frame_is_written_field_for_field_and_reads_back() {
    for (frame, golden) in all() {
        let written: Value = serde_json::from_str(&frame.to_json()).unwrap();
        assert_eq!(written, golden);
        let read: ServerFrame = serde_json::from_value(golden).unwrap();
        assert_eq!(read, frame);
    }
}

#[test]
fn every_kind_of_frame_stands_here() {
    // A new frame does not compile before it has been added to the list below, and then to those above.
    let kind = |frame: &ServerFrame| match frame {
        ServerFrame::AuthSuccess { .. } => 0,
        ServerFrame::TokenRefreshed { .. } => 1,
        ServerFrame::Message { .. } => 2,
        ServerFrame::MessageAck { .. } => 3,
        ServerFrame::DeviceListStale { .. } => 4,
        ServerFrame::DeliveryReceipt { .. } => 5,
        ServerFrame::ReadReceipt { .. } => 6,
        ServerFrame::HeartbeatAck { .. } => 7,
        ServerFrame::Messages { .. } => 8,
        ServerFrame::Migration { .. } => 9,
        ServerFrame::Presence { .. } => 10,
        ServerFrame::Typing { .. } => 11,
        ServerFrame::Delta { .. } => 12,
        ServerFrame::DeltaRequest { .. } => 13,
        ServerFrame::TurnGivenUp { .. } => 14,
        ServerFrame::Error { .. } => 15,
    };
    let kinds: std::collections::BTreeSet<i32> = all().iter().map(|(frame, _)| kind(frame)).collect();
    assert_eq!(kinds, (0..=15).collect());
}

#[test]
fn what_the_server_writes_on_its_hot_path_is_the_same() {
    let sealed = delivered().content.unwrap();
    let device = phone();
    let out = |message: &DeliveredMessage| MessageOut {
        message_id: message.message_id,
        sequence_number: message.sequence_number,
        sender_id: message.sender_id,
        sender_device_id: &device,
        receiver_id: message.receiver_id,
        conversation_id: message.conversation_id,
        content: message.content.is_some().then_some(SealedContent {
            algorithm: sealed.algorithm,
            sender_key: &sealed.sender_key,
            kind: sealed.kind,
            body: &sealed.body,
        }),
        r#type: message.r#type,
        media_url: message.media_url.is_some().then_some("https://media.example/1"),
        reply_to_message_id: message.reply_to_message_id,
        timestamp: message.timestamp,
        status: message.status,
        idempotency_key: message.idempotency_key,
    };
    for (message, golden) in [(delivered(), delivered_json()), (own(), own_json())] {
        let written = serde_json::to_value(DeliveryOut::Message { payload: out(&message) }).unwrap();
        assert_eq!(written, json!({"type": "message", "payload": golden}));
    }
    let messages = [out(&delivered()), out(&own())];
    let conversation_id = ConversationId(id(CONVERSATION));
    let payload = MessagesOut { conversation_id, from_sequence: 40, messages: &messages, more: true };
    let written = serde_json::to_value(DeliveryOut::Messages { payload }).unwrap();
    assert!(of_messages().iter().any(|(_, golden)| *golden == written), "{written}");
    assert_eq!(serde_json::to_value(MessageAckOut::new("client_abc123", ack())).unwrap(), ack_json());
}

#[test]
fn everything_the_first_design_promises_is_there_in_its_form() {
    let ours: Vec<Value> = all().into_iter().map(|(_, golden)| golden).collect();
    for theirs in first_design() {
        let same = ours.iter().find(|golden| golden["type"] == theirs["type"]);
        let mut found = Vec::new();
        missing("", &theirs, same.unwrap_or_else(|| panic!("there is no {}", theirs["type"])), &mut found);
        assert!(found.is_empty(), "{}: {found:?}", theirs["type"]);
    }
}

#[test]
fn a_client_passes_over_fields_it_does_not_know() {
    for (frame, mut golden) in all() {
        golden["added_later"] = json!({"by": "a newer server"});
        if let Some(payload) = golden.get_mut("payload") {
            payload["added_later"] = json!(true);
        }
        let read: ServerFrame = serde_json::from_value(golden).unwrap();
        assert_eq!(read, frame);
    }
}
