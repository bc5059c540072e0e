//! Typing is ephemeral: however fast it comes, it costs the one who is shown it nothing that matters.

use colloquy_protocol::frame::TypingState;
use colloquy_protocol::frame::client::{ClientFrame, Typing};
use colloquy_protocol::frame::server::ServerFrame;
use colloquy_protocol::ids::ConversationId;
use colloquy_tests::pair::Pair;
use colloquy_tests::raw_client::{Incoming, RawClient};

/// People who flood the same victim, each in a conversation of their own.
const FLOODERS: usize = 4;
/// Frames of typing each of them sends, started and stopped by turns, as fast as a socket takes them.
const FLOOD: u32 = 10_000;
/// What the victim may be shown of it at most: far less than their socket has room for.
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

/// Floods the conversation, and then still has its say.
async fn flood(mut client: RawClient, conversation_id: ConversationId) -> RawClient {
    for number in 0..FLOOD {
        let state = if number % 2 == 0 { TypingState::Started } else { TypingState::Stopped };
        let frame = ClientFrame::Typing(Typing { conversation_id, state });
        client.feed(&frame).await.expect("who types much is not closed for it");
    }
    client.flush().await.expect("who types much is not closed for it");
    client.heartbeat().await;
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typing_by_turns_at_wire_speed_does_not_close_the_socket_it_is_shown_on() {
    let pair = Pair::start().await;
    let mut right = pair.connect(&pair.right).await;
    let mut ready = Vec::new();
    for _ in 0..FLOODERS {
        let flooder = pair.rest.register_user("Somebody", "phone").await;
        let mut client = pair.connect(&flooder).await;
        client.send_many(&flooder, &[&pair.right], 1).await;
        right.expect_message().await;
        ready.push((flooder, client));
    }
    let mut floods = Vec::new();
    for (flooder, client) in ready {
        let conversation_id = flooder.conversation_with(&pair.right);
        floods.push((flooder, tokio::spawn(flood(client, conversation_id))));
    }
    // The victim reads nothing meanwhile: its socket has to bear whatever is let through.
    let mut flooders = Vec::new();
    for (flooder, flood) in floods {
        flooders.push((flooder, flood.await.unwrap()));
    }
    let shown = typing_before_heartbeat(&mut right).await;
    println!("{shown} of {FLOODERS} x {FLOOD} frames of typing were shown");
    assert!((1..=SHOWN_MAX).contains(&shown), "{shown} frames of typing were shown");
    for (flooder, mut client) in flooders {
        let message = client.send_message(&flooder, &[&pair.right], "what I was going to say").await;
        let ack = client.expect_ack(&message).await;
        assert_eq!(right.expect_message().await.message_id, ack.message_id);
    }
}
