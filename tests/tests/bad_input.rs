//! Bad input over the WebSocket: each kind gets its stable code, and the connection goes on or closes as documented.

use colloquy_protocol::close::CloseCode;
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::client::{ClientFrame, Retransmit, SendMessage};
use colloquy_protocol::frame::server::ServerFrame;
use colloquy_protocol::ids::{ConversationId, DeviceAddress};
use colloquy_protocol::limits::{FRAME_MAX_BYTES, SEND_WINDOW_MAX, VIOLATIONS_MAX, WINDOW_MAX};
use colloquy_tests::ambient::{fresh_uuid, now};
use colloquy_tests::device::{Device, seal};
use colloquy_tests::pair::Pair;
use colloquy_tests::raw_client::{Incoming, RawClient, auth};
use serde_json::{Value, json};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// RFC 6455, section 7.4.1: a message that is too big.
const MESSAGE_TOO_BIG: u16 = 1009;

fn frame(message: &SendMessage) -> Value {
    let text = ClientFrame::Message(Box::new(message.clone())).to_json();
    serde_json::from_str(&text).expect("a frame is json")
}

/// Sends `text`, expects `code`, and checks that the socket goes on.
async fn refused(client: &mut RawClient, text: &str, code: ErrorCode) -> Option<String> {
    client.send_text(text).await;
    let name = client.expect_refusal(code).await;
    client.heartbeat().await;
    name
}

/// A message that `change` spoils gets `code`, is named in the answer, takes no number, and the socket goes on.
async fn spoiled_message_is_refused(change: impl Fn(&mut Value), code: ErrorCode) {
    let pair = Pair::start().await;
    let mut left = pair.connect(&pair.left).await;
    let message = pair.left.compose(&[&pair.right], "spoiled");
    let mut spoiled = frame(&message);
    change(&mut spoiled);
    let name = refused(&mut left, &spoiled.to_string(), code).await;
    assert_eq!(name.as_deref(), Some(message.client_message_id.as_str()));
    let good = left.send_message(&pair.left, &[&pair.right], "good").await;
    assert_eq!(left.expect_ack(&good).await.sequence_number, 1, "what was refused took no number");
}

#[tokio::test]
async fn what_is_not_json_is_a_malformed_frame() {
    let pair = Pair::start().await;
    let mut left = pair.connect(&pair.left).await;
    for text in ["", "hello", "{", "[1, 2]", "null", "{\"type\": \"heartbeat\""] {
        refused(&mut left, text, ErrorCode::MalformedFrame).await;
    }
    pair.assert_conversation_works().await;
}

#[tokio::test]
async fn wrong_types_are_a_malformed_frame() {
    let pair = Pair::start().await;
    let mut left = pair.connect(&pair.left).await;
    for frame in [
        json!({"type": 7}),
        json!({"type": "heartbeat", "timestamp": "now"}),
        json!({"type": "delivery_ack", "message_id": 5, "timestamp": 1}),
        json!({"type": "read_receipt", "message_ids": "all", "timestamp": 1}),
        json!({"type": "typing", "payload": []}),
        json!({"type": "retransmit", "conversation_id": fresh_uuid(), "from_sequence": -1, "to_sequence": 5}),
    ] {
        refused(&mut left, &frame.to_string(), ErrorCode::MalformedFrame).await;
    }
}

#[tokio::test]
async fn a_frame_no_client_sends_is_unknown() {
    let pair = Pair::start().await;
    let mut left = pair.connect(&pair.left).await;
    for kind in ["shout", "message_ack", "auth_success", ""] {
        refused(&mut left, &json!({"type": kind}).to_string(), ErrorCode::UnknownFrame).await;
    }
}

#[tokio::test]
async fn a_message_without_an_idempotency_key_is_refused() {
    let remove = |frame: &mut Value| drop(frame.as_object_mut().unwrap().remove("idempotency_key"));
    spoiled_message_is_refused(remove, ErrorCode::MissingIdempotencyKey).await;
}

#[tokio::test]
async fn an_idempotency_key_of_another_version_is_refused() {
    let replace =
        |frame: &mut Value| frame["idempotency_key"] = json!("01890a5d-ac96-774b-bcce-b302099a8057");
    spoiled_message_is_refused(replace, ErrorCode::InvalidIdempotencyKey).await;
}

#[tokio::test]
async fn an_idempotency_key_that_is_no_uuid_is_refused() {
    let replace = |frame: &mut Value| frame["idempotency_key"] = json!("my key");
    spoiled_message_is_refused(replace, ErrorCode::InvalidIdempotencyKey).await;
}

#[tokio::test]
async fn plaintext_content_is_refused() {
    let replace = |frame: &mut Value| frame["payload"]["content"] = json!("hello in the clear");
    spoiled_message_is_refused(replace, ErrorCode::E2eeRequired).await;
}

#[tokio::test]
async fn malformed_base64_is_refused() {
    for body in ["not base64!", "aGk=", "a", ""] {
        let replace = |frame: &mut Value| frame["payload"]["content"]["ciphertexts"][0]["body"] = json!(body);
        spoiled_message_is_refused(replace, ErrorCode::MalformedEnvelope).await;
    }
}

#[tokio::test]
async fn a_sender_key_that_the_device_has_not_published_is_refused() {
    let replace = |frame: &mut Value| frame["payload"]["content"]["sender_key"] = json!("A".repeat(43));
    spoiled_message_is_refused(replace, ErrorCode::SenderKeyMismatch).await;
}

#[tokio::test]
async fn the_same_key_with_another_body_is_a_conflict() {
    let pair = Pair::start().await;
    let mut left = pair.connect(&pair.left).await;
    let first = left.send_message(&pair.left, &[&pair.right], "first").await;
    left.expect_ack(&first).await;
    let mut second = pair.left.compose(&[&pair.right], "second");
    second.idempotency_key = first.idempotency_key;
    let name = refused(&mut left, &frame(&second).to_string(), ErrorCode::IdempotencyConflict).await;
    assert_eq!(name, Some(second.client_message_id));
    assert_eq!(pair.log().await.len(), 1);
}

#[tokio::test]
async fn an_oversized_frame_closes_the_socket() {
    let pair = Pair::start().await;
    let mut left = pair.connect(&pair.left).await;
    // The server may close before it has taken all of it.
    let _ = left.try_send_text(&"x".repeat(FRAME_MAX_BYTES + 1)).await;
    assert_eq!(left.expect_end().await, Some(MESSAGE_TOO_BIG));
    pair.assert_conversation_works().await;
}

#[tokio::test]
async fn the_wrong_devices_are_named_and_nothing_is_stored() {
    let pair = Pair::start().await;
    let tablet = pair.rest.add_device(&pair.right, "right-tablet").await;
    let mut left = pair.connect(&pair.left).await;
    let mut message = pair.left.compose(&[&pair.right], "for the phone alone");
    let nobody = DeviceAddress { user_id: pair.right.user_id, device_id: "right-watch".parse().unwrap() };
    let mut extra = message.payload.content.ciphertexts[0].clone();
    extra.device_id = nobody.device_id.clone();
    message.payload.content.ciphertexts.push(extra);
    left.send(&ClientFrame::Message(Box::new(message.clone()))).await;
    let stale = left
        .expect("device_list_stale", |frame| match frame {
            ServerFrame::DeviceListStale { client_message_id, payload } => {
                Some((client_message_id.clone(), payload.clone()))
            }
            _ => None,
        })
        .await;
    assert_eq!(stale.0, message.client_message_id);
    assert_eq!((stale.1.missing, stale.1.extra), (vec![tablet.address()], vec![nobody]));

    // Encrypted again for the devices named, under the same key: nothing was stored under it.
    let mut again = pair.left.compose(&[&pair.right, &tablet], "for both");
    again.idempotency_key = message.idempotency_key;
    left.send(&ClientFrame::Message(Box::new(again.clone()))).await;
    assert_eq!(left.expect_ack(&again).await.sequence_number, 1);
}

#[tokio::test]
async fn a_conversation_of_others_is_answered_like_one_that_is_not_there() {
    let pair = Pair::start().await;
    let mut left = pair.connect(&pair.left).await;
    left.send_many(&pair.left, &[&pair.right], 1).await;
    let eve = pair.rest.register_user("Eve", "eve-phone").await;
    let mut client = pair.connect(&eve).await;
    let mut answers = Vec::new();
    for conversation_id in [pair.conversation(), ConversationId(fresh_uuid())] {
        let mut message = eve.compose(&[&pair.right], "let me in");
        message.payload.conversation_id = conversation_id;
        client.send(&ClientFrame::Message(Box::new(message))).await;
        let (_, sent) = client.expect_error().await;
        let window = Retransmit { conversation_id, from_sequence: 1, to_sequence: 1 };
        client.send(&ClientFrame::Retransmit(window)).await;
        let (_, read) = client.expect_error().await;
        let rest = pair.rest.history(&eve, conversation_id, "after=0").await.problem();
        assert_eq!(sent.code, ErrorCode::UnknownConversation);
        answers.push((sent, read, rest));
    }
    assert_eq!(answers[0], answers[1], "AUTHZ: whether it exists is not told");
    assert_eq!(pair.log().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_garbage_frames_close_their_socket_and_disturb_nobody() {
    const GARBAGE: u64 = 10_000;
    let pair = Pair::start().await;
    let mut garbage = pair.connect(&pair.left).await;
    let carol = pair.rest.register_user("Carol", "carol-phone").await;
    let dave = pair.rest.register_user("Dave", "dave-phone").await;
    let (mut at_carol, mut at_dave) = (pair.connect(&carol).await, pair.connect(&dave).await);
    let flood = tokio::spawn(async move {
        let mut sent = 0;
        while sent < GARBAGE && garbage.try_send_text(&format!("garbage {sent}")).await.is_ok() {
            sent += 1;
        }
        (garbage, sent)
    });
    // Two others hold their conversation meanwhile.
    for number in 1..=20 {
        let message = at_carol.send_message(&carol, &[&dave], "in all this noise").await;
        assert_eq!(at_carol.expect_ack(&message).await.sequence_number, number);
        assert_eq!(at_dave.expect_message().await.sequence_number, number);
    }
    let (mut garbage, sent) = flood.await.unwrap();
    let mut answers = 0;
    let code = loop {
        match garbage.next().await {
            Incoming::Frame(frame) => {
                assert!(matches!(*frame, ServerFrame::Error { ref payload, .. }
                    if payload.code == ErrorCode::MalformedFrame));
                answers += 1;
            }
            Incoming::Closed(code) => break code,
        }
    };
    println!("{sent} frames sent, {answers} refused, closed with {code:?}");
    assert_eq!(code, Some(CloseCode::PolicyViolation.number()));
    // One too many closes; what was under way by then is still answered.
    let borne = u64::from(VIOLATIONS_MAX) + 1;
    assert!((borne..=borne + SEND_WINDOW_MAX as u64).contains(&answers), "{answers} were refused");
    assert!(sent >= answers, "{sent} were sent");
    pair.assert_conversation_works().await;
}

#[tokio::test]
async fn one_refused_frame_too_many_is_a_policy_violation() {
    let pair = Pair::start().await;
    let mut left = pair.connect(&pair.left).await;
    for _ in 0..VIOLATIONS_MAX {
        refused(&mut left, "garbage", ErrorCode::MalformedFrame).await;
    }
    left.send_text("garbage").await;
    left.expect_close(CloseCode::PolicyViolation).await;
    pair.assert_conversation_works().await;
}

#[tokio::test]
async fn a_sequence_window_that_is_reversed_or_absurd_is_refused() {
    let pair = Pair::start().await;
    let mut left = pair.connect(&pair.left).await;
    left.send_many(&pair.left, &[&pair.right], 3).await;
    for (from_sequence, to_sequence) in [(3, 1), (0, 3), (1, u64::MAX), (1, WINDOW_MAX + 1)] {
        let window = Retransmit { conversation_id: pair.conversation(), from_sequence, to_sequence };
        refused(&mut left, &ClientFrame::Retransmit(window).to_json(), ErrorCode::InvalidWindow).await;
    }
    for (query, code) in [
        (format!("after={}", u64::MAX), ErrorCode::InvalidWindow),
        ("before=0".into(), ErrorCode::InvalidWindow),
        ("after=1&before=3".into(), ErrorCode::InvalidField),
        ("after=0&limit=0".into(), ErrorCode::InvalidField),
        ("after=0&limit=100000".into(), ErrorCode::InvalidField),
    ] {
        let answer = pair.rest.history(&pair.left, pair.conversation(), &query).await;
        assert_eq!(answer.refusal(), code, "{query}");
    }
    let beyond = Retransmit { conversation_id: pair.conversation(), from_sequence: 3, to_sequence: 1_000 };
    left.send(&ClientFrame::Retransmit(beyond)).await;
    assert_eq!(left.expect_pages().await.len(), 1, "what lies beyond the end is left out");
}

#[tokio::test]
async fn a_senders_clock_that_is_off_by_a_day_changes_nothing() {
    let pair = Pair::start().await;
    let (mut left, mut right) = pair.connect_both().await;
    let before = now();
    for (number, timestamp) in (1..).zip([before - DAY_MS, before + DAY_MS, 0, u64::MAX]) {
        let mut message = pair.left.compose(&[&pair.right], "from another time");
        message.payload.timestamp = timestamp;
        left.send(&ClientFrame::Message(Box::new(message.clone()))).await;
        let ack = left.expect_ack(&message).await;
        let shown = right.expect_message().await;
        assert_eq!((ack.sequence_number, shown.sequence_number), (number, number));
        assert_eq!(shown.timestamp, ack.timestamp);
        assert!((before..=now()).contains(&ack.timestamp), "the server's clock is the one that counts");
    }
}

#[tokio::test]
async fn before_authentication_only_auth_is_taken() {
    let pair = Pair::start().await;
    let mut client = RawClient::open(pair.server.address()).await;
    let message = frame(&pair.left.compose(&[&pair.right], "let me in")).to_string();
    for text in [message.as_str(), r#"{"type":"heartbeat","timestamp":1}"#] {
        client.send_text(text).await;
        client.expect_refusal(ErrorCode::NotAuthenticated).await;
    }
    client.send(&auth(&pair.left, &pair.left.tokens.access_token, Vec::new())).await;
    client.expect_auth_success().await;
    client.send(&auth(&pair.left, &pair.left.tokens.access_token, Vec::new())).await;
    client.expect_refusal(ErrorCode::AlreadyAuthenticated).await;
}

#[tokio::test]
async fn a_binary_message_does_not_take_the_process_with_it() {
    let pair = Pair::start().await;
    let mut left = pair.connect(&pair.left).await;
    left.send_binary(seal("binary").into_bytes()).await;
    match left.next().await {
        Incoming::Frame(frame) => {
            assert!(matches!(*frame, ServerFrame::Error { ref payload, .. }
                if payload.code == ErrorCode::MalformedFrame));
        }
        // RFC 6455, section 7.4.1: data of a kind it cannot accept.
        Incoming::Closed(code) => assert_eq!(code, Some(1003)),
    }
    pair.assert_conversation_works().await;
}

#[tokio::test]
async fn a_device_that_is_not_registered_is_turned_away() {
    let pair = Pair::start().await;
    let stranger = Device {
        device_id: "never-registered".parse().unwrap(),
        tokens: pair.rest.log_in(&pair.left.email).await,
        keys: colloquy_tests::device::DeviceKeys::generate(),
        user_id: pair.left.user_id,
        email: pair.left.email.clone(),
        password: pair.left.password.clone(),
    };
    let mut client = RawClient::open(pair.server.address()).await;
    client.send(&auth(&stranger, &stranger.tokens.access_token, Vec::new())).await;
    client.expect_refusal(ErrorCode::UnknownDevice).await;
    client.expect_close(CloseCode::UnknownDevice).await;
}
