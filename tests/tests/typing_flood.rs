//! Typing is ephemeral: however fast it comes, it costs the one who is shown it nothing that matters.

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::TypingState;
use colloquy_protocol::frame::client::{ClientFrame, Typing};
use colloquy_protocol::frame::server::ServerFrame;
use colloquy_tests::pair::Pair;
use colloquy_tests::raw_client::{Incoming, RawClient};

/// Frames of typing, started and stopped by turns, as fast as a socket takes them.
const FLOOD: u32 = 20_000;
/// What somebody may be shown of it at most: far less than their socket has room for.
const SHOWN_MAX: usize = 100;

/// Reads until the heartbeat's answer; how many frames of typing came before it.
async fn typing_before_heartbeat(client: &mut RawClient) -> usize {
    client.send_text(r#"{"type":"heartbeat","timestamp":1}"#).await;
    let mut shown = 0;
    loop {
        match client.next().await {
            Incoming::Frame(frame) => match *frame {
                ServerFrame::Typing { .. } => shown += 1,
                ServerFrame::HeartbeatAck { .. } => return shown,
                _ => {}
            },
            Incoming::Closed(code) => panic!("closed with {code:?} because somebody else types"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typing_by_turns_at_wire_speed_does_not_close_the_socket_it_is_shown_on() {
    let pair = Pair::start().await;
    let (mut left, mut right) = pair.connect_both().await;
    left.send_many(&pair.left, &[&pair.right], 1).await;
    right.expect_message().await;
    let conversation_id = pair.conversation();
    // The victim reads nothing meanwhile: its socket has to bear whatever is let through.
    let flood = tokio::spawn(async move {
        for number in 0..FLOOD {
            let state = if number % 2 == 0 { TypingState::Started } else { TypingState::Stopped };
            let frame = ClientFrame::Typing(Typing { conversation_id, state });
            if left.feed(&frame).await.is_err() {
                break;
            }
        }
        // It may be closed for its own flood, and for nothing else.
        let _ = left.flush().await;
        left
    });
    let mut left = flood.await.unwrap();
    let shown = typing_before_heartbeat(&mut right).await;
    println!("{shown} of {FLOOD} frames of typing were shown");
    assert!(shown <= SHOWN_MAX, "{shown} frames of typing were shown");
    left.heartbeat().await;
    assert!(!left.has_seen(|frame| matches!(frame, ServerFrame::Error { payload, .. }
        if payload.code != ErrorCode::RateLimited)));
    let message = left.send_message(&pair.left, &[&pair.right], "what I was going to say").await;
    let ack = left.expect_ack(&message).await;
    assert_eq!(right.expect_message().await.message_id, ack.message_id);
}
