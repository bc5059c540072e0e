//! ORDER on one socket: a sender's messages are numbered as its client counted them, however they arrive.

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::client::{ClientFrame, SendMessage};
use colloquy_protocol::frame::server::{DeviceListStale, ServerFrame};
use colloquy_protocol::limits::{CLIENT_SEQUENCE_MAX, REORDER_BUFFER_MAX, REORDER_TIMEOUT};
use colloquy_tests::device::{Device, unseal};
use colloquy_tests::pair::Pair;
use colloquy_tests::raw_client::RawClient;
use serde_json::{Value, json};
use tokio::time::Instant;

fn counted(sender: &Device, recipients: &[&Device], client_sequence: u64) -> SendMessage {
    let mut message = sender.compose(recipients, &format!("number {client_sequence}"));
    message.client_sequence = Some(client_sequence);
    message
}

async fn send(client: &mut RawClient, message: &SendMessage) {
    client.send(&ClientFrame::Message(Box::new(message.clone()))).await;
}

async fn expect_stale(client: &mut RawClient, message: &SendMessage) -> DeviceListStale {
    client
        .expect("device_list_stale", |frame| match frame {
            ServerFrame::DeviceListStale { client_message_id, payload }
                if *client_message_id == message.client_message_id =>
            {
                Some(payload.clone())
            }
            _ => None,
        })
        .await
}

/// The next live message: its number, and what it says.
async fn shown(client: &mut RawClient) -> (u64, String) {
    let message = client.expect_message().await;
    (message.sequence_number, unseal(&message.content.expect("it is for this device").body))
}

fn acked(frame: &ServerFrame) -> bool {
    matches!(frame, ServerFrame::MessageAck { .. })
}

#[tokio::test]
async fn messages_that_overtook_the_first_are_held_and_numbered_after_it() {
    let pair = Pair::start().await;
    let (mut left, mut right) = pair.connect_both().await;
    let messages = [1, 2, 3].map(|number| counted(&pair.left, &[&pair.right], number));
    send(&mut left, &messages[1]).await;
    send(&mut left, &messages[2]).await;
    left.heartbeat().await;
    assert!(!left.has_seen(acked), "they wait for the first");
    send(&mut left, &messages[0]).await;
    for (number, message) in (1..).zip(&messages) {
        assert_eq!(left.expect_ack(message).await.sequence_number, number);
        assert_eq!(shown(&mut right).await, (number, format!("number {number}")));
    }
}

#[tokio::test]
async fn a_whole_window_sent_backwards_is_numbered_forwards() {
    let pair = Pair::start().await;
    let (mut left, mut right) = pair.connect_both().await;
    let window = 1 + REORDER_BUFFER_MAX as u64;
    let messages: Vec<SendMessage> =
        (1..=window).map(|number| counted(&pair.left, &[&pair.right], number)).collect();
    for message in messages.iter().rev() {
        send(&mut left, message).await;
    }
    for (number, message) in (1..).zip(&messages) {
        assert_eq!(left.expect_ack(message).await.sequence_number, number);
        assert_eq!(shown(&mut right).await, (number, format!("number {number}")));
    }
}

#[tokio::test]
async fn a_message_too_far_ahead_is_sent_again_later_and_keeps_its_place() {
    let pair = Pair::start().await;
    let mut left = pair.connect(&pair.left).await;
    let too_far = counted(&pair.left, &[&pair.right], 2 + REORDER_BUFFER_MAX as u64);
    send(&mut left, &too_far).await;
    let named = left.expect_refusal(ErrorCode::Busy).await;
    assert_eq!(named.as_ref(), Some(&too_far.client_message_id));
    for number in 1..=1 + REORDER_BUFFER_MAX as u64 {
        let message = counted(&pair.left, &[&pair.right], number);
        send(&mut left, &message).await;
        assert_eq!(left.expect_ack(&message).await.sequence_number, number);
    }
    send(&mut left, &too_far).await;
    assert_eq!(left.expect_ack(&too_far).await.sequence_number, 2 + REORDER_BUFFER_MAX as u64);
}

#[tokio::test]
async fn a_number_that_no_client_counts_to_is_refused_and_nothing_waits_for_it() {
    let pair = Pair::start().await;
    let mut left = pair.connect(&pair.left).await;
    for number in [0, CLIENT_SEQUENCE_MAX + 1, u64::MAX] {
        send(&mut left, &counted(&pair.left, &[&pair.right], number)).await;
        left.expect_refusal(ErrorCode::InvalidField).await;
    }
    let first = counted(&pair.left, &[&pair.right], 1);
    send(&mut left, &first).await;
    assert_eq!(left.expect_ack(&first).await.sequence_number, 1);
}

#[tokio::test]
async fn a_gap_that_never_closes_is_given_up_and_what_was_held_goes_on() {
    let pair = Pair::start().await;
    let mut left = pair.connect(&pair.left).await;
    let began = Instant::now();
    let (second, third) = (counted(&pair.left, &[&pair.right], 2), counted(&pair.left, &[&pair.right], 3));
    send(&mut left, &third).await;
    send(&mut left, &second).await;
    assert_eq!(left.expect_ack(&second).await.sequence_number, 1);
    assert_eq!(left.expect_ack(&third).await.sequence_number, 2);
    let waited = began.elapsed();
    assert!(waited >= REORDER_TIMEOUT, "the gap was given up after {waited:?} already");
    assert!(waited < 2 * REORDER_TIMEOUT, "the gap was given up after {waited:?} only");

    // The one that was waited for is a late message now, and the count goes on behind the gap.
    let (late, fourth) = (counted(&pair.left, &[&pair.right], 1), counted(&pair.left, &[&pair.right], 4));
    send(&mut left, &late).await;
    assert_eq!(left.expect_ack(&late).await.sequence_number, 3);
    send(&mut left, &fourth).await;
    assert_eq!(left.expect_ack(&fourth).await.sequence_number, 4);
}

#[tokio::test]
async fn a_message_refused_for_its_devices_keeps_its_place_until_it_is_sent_again() {
    let pair = Pair::start().await;
    let tablet = pair.rest.add_device(&pair.right, "right-tablet").await;
    let (mut left, mut right) = pair.connect_both().await;
    let mut first = counted(&pair.left, &[&pair.right], 1);
    send(&mut left, &first).await;
    assert_eq!(expect_stale(&mut left, &first).await.missing, [tablet.address()]);
    let later = [2, 3].map(|number| counted(&pair.left, &[&pair.right, &tablet], number));
    for message in &later {
        send(&mut left, message).await;
    }
    left.heartbeat().await;
    assert!(!left.has_seen(acked), "they wait for the one that is to be sent again");
    // The same message, under the same key and number, for the devices there are.
    first.payload = counted(&pair.left, &[&pair.right, &tablet], 1).payload;
    send(&mut left, &first).await;
    for (number, message) in (1..).zip([&first, &later[0], &later[1]]) {
        assert_eq!(left.expect_ack(message).await.sequence_number, number);
        assert_eq!(shown(&mut right).await, (number, format!("number {number}")));
    }
}

/// Message 2 is held for message 1, which comes as `first`, is refused for good, and is waited for no longer.
async fn is_not_waited_for(pair: &Pair, first: &str, code: ErrorCode) {
    let mut left = pair.connect(&pair.left).await;
    let second = counted(&pair.left, &[&pair.right], 2);
    send(&mut left, &second).await;
    let began = Instant::now();
    left.send_text(first).await;
    left.expect_refusal(code).await;
    left.expect_ack(&second).await;
    assert!(began.elapsed() < REORDER_TIMEOUT, "{code}: it was waited for");
}

#[tokio::test]
async fn a_message_refused_for_good_does_not_hold_up_the_next() {
    let pair = Pair::start().await;
    let first = counted(&pair.left, &[&pair.right], 1);
    let spoiled = |field: &str, value: Value| {
        let text = ClientFrame::Message(Box::new(first.clone())).to_json();
        let mut frame: Value = serde_json::from_str(&text).unwrap();
        *frame.pointer_mut(field).unwrap() = value;
        frame.to_string()
    };
    let plaintext = spoiled("/payload/content", json!("in the clear"));
    is_not_waited_for(&pair, &plaintext, ErrorCode::E2eeRequired).await;
    let key = spoiled("/idempotency_key", json!("my key"));
    is_not_waited_for(&pair, &key, ErrorCode::InvalidIdempotencyKey).await;
    let sender = spoiled("/payload/content/sender_key", json!("A".repeat(43)));
    is_not_waited_for(&pair, &sender, ErrorCode::SenderKeyMismatch).await;
    let receiver = spoiled("/payload/receiver_id", json!(pair.left.user_id));
    is_not_waited_for(&pair, &receiver, ErrorCode::ReceiverMismatch).await;
}

#[tokio::test]
async fn every_conversation_of_a_socket_has_a_count_of_its_own() {
    let pair = Pair::start().await;
    let carol = pair.rest.register_user("Carol", "carol-phone").await;
    let (mut left, mut right) = pair.connect_both().await;
    let mut at_carol = pair.connect(&carol).await;
    let to_right = [1, 2, 3].map(|number| counted(&pair.left, &[&pair.right], number));
    let to_carol = [1, 2, 3].map(|number| counted(&pair.left, &[&carol], number));
    // One conversation has a gap, the other does not wait for it.
    for message in [&to_right[2], &to_carol[1], &to_right[1], &to_carol[0], &to_carol[2]] {
        send(&mut left, message).await;
    }
    for (number, message) in (1..).zip(&to_carol) {
        assert_eq!(left.expect_ack(message).await.sequence_number, number);
        assert_eq!(shown(&mut at_carol).await, (number, format!("number {number}")));
    }
    assert!(!left.has_seen(acked), "the other conversation still waits");
    send(&mut left, &to_right[0]).await;
    for (number, message) in (1..).zip(&to_right) {
        assert_eq!(left.expect_ack(message).await.sequence_number, number);
        assert_eq!(shown(&mut right).await, (number, format!("number {number}")));
    }
}

#[tokio::test]
async fn each_socket_of_a_device_has_a_count_of_its_own() {
    let pair = Pair::start().await;
    let (mut first, mut second) = (pair.connect(&pair.left).await, pair.connect(&pair.left).await);
    let on_first = [1, 2].map(|number| counted(&pair.left, &[&pair.right], number));
    let on_second = [1, 2].map(|number| counted(&pair.left, &[&pair.right], number));
    send(&mut first, &on_first[1]).await;
    first.heartbeat().await;
    for (number, message) in (1..).zip(&on_second) {
        send(&mut second, message).await;
        assert_eq!(second.expect_ack(message).await.sequence_number, number, "no gap of its own");
    }
    send(&mut first, &on_first[0]).await;
    assert_eq!(first.expect_ack(&on_first[0]).await.sequence_number, 3);
    assert_eq!(first.expect_ack(&on_first[1]).await.sequence_number, 4);
}
