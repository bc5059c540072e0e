//! Marks of messages in conversations of others are answered like marks of messages that are not there, and move nothing
//! (AUTHZ).

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::client::{ClientFrame, DeliveryAck, MessagePosition, ReadReceipt};
use colloquy_protocol::frame::server::{ErrorPayload, ServerFrame};
use colloquy_protocol::ids::{ConversationId, MessageId};
use colloquy_protocol::rest::conversations::Conversation;
use colloquy_tests::ambient::{fresh_uuid, now};
use colloquy_tests::device::Device;
use colloquy_tests::pair::Pair;
use colloquy_tests::raw_client::RawClient;

/// Every way to say that one holds or has seen a message.
fn marks(message_id: MessageId, conversation_id: ConversationId) -> Vec<ClientFrame> {
    let position = MessagePosition { conversation_id, sequence_number: 1 };
    let ack = |position| ClientFrame::DeliveryAck(DeliveryAck { message_id, position, timestamp: now() });
    let receipt = ReadReceipt { message_ids: vec![message_id], timestamp: now() };
    vec![ack(None), ack(Some(position)), ClientFrame::ReadReceipt(receipt)]
}

/// The answers to [`marks`].
async fn answers(
    client: &mut RawClient,
    message_id: MessageId,
    conversation_id: ConversationId,
) -> Vec<ErrorPayload> {
    let mut answers = Vec::new();
    for mark in marks(message_id, conversation_id) {
        client.send(&mark).await;
        let (_, answer) = client.expect_error().await;
        assert_eq!(answer.code, ErrorCode::UnknownMessage, "{mark:?}");
        answers.push(answer);
    }
    answers
}

fn is_a_mark(frame: &ServerFrame) -> bool {
    matches!(frame, ServerFrame::DeliveryReceipt { .. } | ServerFrame::ReadReceipt { .. })
}

async fn seen_by(pair: &Pair, reader: &Device) -> Conversation {
    let path = format!("/v1/conversations/{}?device_id={}", pair.conversation(), reader.device_id);
    pair.rest.get(&path, &reader.tokens.access_token).await.read()
}

#[tokio::test]
async fn a_message_of_others_is_answered_like_one_that_is_not_there_and_no_cursor_moves() {
    let mut pair = Pair::start().await;
    let eve = pair.rest.register_user("Eve", "eve-phone").await;
    let mut left = pair.connect(&pair.left).await;
    let sent = left.send_message(&pair.left, &[&pair.right], "not for Eve").await;
    let message_id = left.expect_ack(&sent).await.message_id;
    let nothing = (MessageId(fresh_uuid()), ConversationId(fresh_uuid()));

    let mut listening = pair.connect(&eve).await;
    let unknown = answers(&mut listening, nothing.0, nothing.1).await;
    let others = answers(&mut listening, message_id, pair.conversation()).await;
    assert_eq!(others, unknown, "AUTHZ: whether it exists is not told");
    left.heartbeat().await;
    assert!(!left.has_seen(is_a_mark), "nobody has come any further");
    left.close().await;
    listening.close().await;

    // The same of a conversation that nobody has woken yet.
    assert_eq!(pair.server.terminate().await, Some(0));
    pair.server.restart().await;
    let mut listening = pair.connect(&eve).await;
    let others = answers(&mut listening, message_id, pair.conversation()).await;
    assert_eq!(others, unknown, "AUTHZ: whether it exists is not told");

    for reader in [&pair.left, &pair.right] {
        let seen = seen_by(&pair, reader).await;
        assert_eq!((seen.delivered_through, seen.read_through), (0, 0));
    }
    assert_eq!(seen_by(&pair, &pair.right).await.unread_count, 1);
    // And the recipient has still to be shown it.
    let mut right = pair.connect(&pair.right).await;
    assert_eq!(right.expect_pages().await.len(), 1);
}

#[tokio::test]
async fn of_a_receipt_for_own_and_others_messages_only_the_own_part_counts() {
    let pair = Pair::start().await;
    let eve = pair.rest.register_user("Eve", "eve-phone").await;
    let (mut left, mut right) = pair.connect_both().await;
    let secret = left.send_message(&pair.left, &[&pair.right], "not for Eve").await;
    let secret = left.expect_ack(&secret).await.message_id;
    let to_eve = right.send_message(&pair.right, &[&eve], "for Eve").await;
    let to_eve = right.expect_ack(&to_eve).await.message_id;

    let mut listening = pair.connect(&eve).await;
    let receipt = ReadReceipt { message_ids: vec![secret, to_eve], timestamp: now() };
    listening.send(&ClientFrame::ReadReceipt(receipt)).await;
    let read = right.expect_read_through(1).await;
    assert_eq!((read.conversation_id, read.read_by), (pair.right.conversation_with(&eve), eve.user_id));
    assert_eq!(read.message_ids, [to_eve], "what is not hers is not passed on");
    listening.heartbeat().await;
    left.heartbeat().await;
    assert!(!left.has_seen(is_a_mark));
    assert_eq!(seen_by(&pair, &pair.left).await.read_through, 0);
}

#[tokio::test]
async fn a_mark_beyond_the_newest_message_counts_up_to_it() {
    let pair = Pair::start().await;
    let (mut left, mut right) = pair.connect_both().await;
    left.send_many(&pair.left, &[&pair.right], 1).await;
    let message_id = right.expect_message().await.message_id;
    let position = MessagePosition { conversation_id: pair.conversation(), sequence_number: u64::MAX };
    let ack = DeliveryAck { message_id, position: Some(position), timestamp: now() };
    right.send(&ClientFrame::DeliveryAck(ack)).await;
    assert_eq!(left.expect_delivered_through(1).await.through_sequence, 1);
    left.send_many(&pair.left, &[&pair.right], 1).await;
    assert_eq!(right.expect_message().await.sequence_number, 2, "the next one is new all the same");
    let seen = pair.conversation_that(&pair.left, |seen| seen.delivered_through >= 1).await;
    assert_eq!(seen.delivered_through, 1);
}
