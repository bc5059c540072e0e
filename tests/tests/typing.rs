//! Who is composing: shown to the other side, throttled, forgotten at once.

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::TypingState;
use colloquy_protocol::frame::client::{ClientFrame, Typing};
use colloquy_protocol::frame::server::ServerFrame;
use colloquy_protocol::ids::ConversationId;
use colloquy_tests::ambient::fresh_uuid;
use colloquy_tests::pair::Pair;

#[tokio::test]
async fn the_other_side_sees_somebody_typing_and_stopping() {
    let pair = Pair::start().await;
    let (mut left, mut right) = pair.connect_both().await;
    left.send_many(&pair.left, &[&pair.right], 1).await;
    for state in [TypingState::Started, TypingState::Stopped] {
        let typing = Typing { conversation_id: pair.conversation(), state };
        left.send(&ClientFrame::Typing(typing)).await;
        let seen = right.expect_typing().await;
        assert_eq!((seen.user_id, seen.conversation_id), (pair.left.user_id, pair.conversation()));
        assert_eq!(seen.state, state);
    }
}

#[tokio::test]
async fn typing_many_times_at_once_is_shown_once() {
    let pair = Pair::start().await;
    let (mut left, mut right) = pair.connect_both().await;
    left.send_many(&pair.left, &[&pair.right], 1).await;
    for _ in 0..20 {
        let typing = Typing { conversation_id: pair.conversation(), state: TypingState::Started };
        left.send(&ClientFrame::Typing(typing)).await;
    }
    // A message sent after them all: once it is here, so is every typing frame that was let through.
    left.send_many(&pair.left, &[&pair.right], 1).await;
    right.expect_typing().await;
    right.expect_message().await;
    right.expect_message().await;
    right.heartbeat().await;
    assert!(!right.has_seen(|frame| matches!(frame, ServerFrame::Typing { .. })));
}

#[tokio::test]
async fn typing_in_a_conversation_of_others_is_refused_as_unknown() {
    let pair = Pair::start().await;
    let mut left = pair.connect(&pair.left).await;
    left.send_many(&pair.left, &[&pair.right], 1).await;
    let eve = pair.rest.register_user("Eve", "eve-phone").await;
    let mut client = pair.connect(&eve).await;
    for conversation_id in [pair.conversation(), ConversationId(fresh_uuid())] {
        let typing = Typing { conversation_id, state: TypingState::Started };
        client.send(&ClientFrame::Typing(typing)).await;
        client.expect_refusal(ErrorCode::UnknownConversation).await;
    }
}
