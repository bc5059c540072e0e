//! Two people hold a conversation: messages, marks, history, lists, several devices, coming back.

use colloquy_protocol::close::CloseCode;
use colloquy_protocol::frame::MessageStatus;
use colloquy_protocol::frame::client::{ClientFrame, ResumeCursor, Retransmit};
use colloquy_protocol::frame::server::{DeliveredMessage, DeviceListStale, ServerFrame};
use colloquy_protocol::ids::ConversationId;
use colloquy_protocol::limits::PAGE_MAX_MESSAGES;
use colloquy_protocol::limits::SOCKETS_PER_DEVICE_MAX;
use colloquy_protocol::rest::conversations::{Conversation, Conversations, History, OpenConversation};
use colloquy_tests::device::unseal;
use colloquy_tests::pair::Pair;
use colloquy_tests::raw_client::RawClient;

fn numbers(messages: &[DeliveredMessage]) -> Vec<u64> {
    messages.iter().map(|message| message.sequence_number).collect()
}

#[tokio::test]
async fn two_people_exchange_messages_and_see_how_far_each_one_has_come() {
    let pair = Pair::start().await;
    let (mut left, mut right) = pair.connect_both().await;

    let hello = left.send_message(&pair.left, &[&pair.right], "hello").await;
    let ack = left.expect_ack(&hello).await;
    assert_eq!((ack.sequence_number, ack.status), (1, MessageStatus::Sent));

    let received = right.expect_message().await;
    assert_eq!(received.message_id, ack.message_id);
    assert_eq!(received.sequence_number, 1);
    assert_eq!(received.sender_id, pair.left.user_id);
    assert_eq!(received.sender_device_id, pair.left.device_id);
    assert_eq!(received.receiver_id, pair.right.user_id);
    assert_eq!(received.conversation_id, pair.conversation());
    assert_eq!(received.idempotency_key, None, "the key is the sender's business");
    assert_eq!(unseal(&received.content.as_ref().unwrap().body), "hello");

    right.acknowledge(&received).await;
    let delivered = left.expect_delivered_through(1).await;
    assert_eq!(
        (delivered.delivered_to, delivered.conversation_id),
        (pair.right.user_id, pair.conversation())
    );
    right.mark_read(&received).await;
    let read = left.expect_read_through(1).await;
    assert_eq!((read.read_by, read.conversation_id), (pair.right.user_id, pair.conversation()));

    let answer = right.send_message(&pair.right, &[&pair.left], "hello to you").await;
    assert_eq!(right.expect_ack(&answer).await.sequence_number, 2);
    assert_eq!(unseal(&left.expect_message().await.content.unwrap().body), "hello to you");

    let seen = pair.conversation_that(&pair.left, |seen| seen.read_through == 1).await;
    assert_eq!((seen.delivered_through, seen.last_sequence_number), (1, 2));
    let history = pair.rest.whole_history(&pair.left, pair.conversation()).await;
    assert_eq!(numbers(&history.messages), [1, 2]);
    assert_eq!(history.messages[0].status, MessageStatus::Read);
    assert_eq!(history.messages[0].idempotency_key, Some(hello.idempotency_key));
    assert_eq!(history.messages[0].content, None, "nothing was encrypted for the sending device");
}

#[tokio::test]
async fn a_token_in_the_handshake_authenticates_as_well_as_an_auth_frame() {
    let pair = Pair::start().await;
    let mut left = RawClient::connect_by_header(pair.server.address(), &pair.left).await;
    let success = left.expect_auth_success().await;
    assert!(success.heartbeat_interval_ms > 0 && success.token_expires_at > success.server_time);
    assert_eq!(success.unread_count, 0);
    let message = left.send_message(&pair.left, &[&pair.right], "hello").await;
    left.expect_ack(&message).await;
}

#[tokio::test]
async fn both_sides_and_the_first_message_open_the_same_conversation() {
    let pair = Pair::start().await;
    let open = async |by: &str, with| -> Conversation {
        let body = OpenConversation { participant_id: with };
        pair.rest.post("/v1/conversations", Some(by), &body).await.read()
    };
    let first = open(&pair.left.tokens.access_token, pair.right.user_id).await;
    let again = open(&pair.right.tokens.access_token, pair.left.user_id).await;
    assert_eq!(first.conversation_id, again.conversation_id);
    assert_eq!(first.conversation_id, ConversationId::of_pair(pair.left.user_id, pair.right.user_id));
    let mut left = pair.connect(&pair.left).await;
    let message = left.send_message(&pair.left, &[&pair.right], "hello").await;
    assert_eq!(left.expect_ack(&message).await.sequence_number, 1);
}

#[tokio::test]
async fn history_is_read_in_both_directions_page_by_page() {
    let pair = Pair::start().await;
    let mut left = pair.connect(&pair.left).await;
    left.send_many(&pair.left, &[&pair.right], 25).await;

    let page = async |query: &str| -> History {
        pair.rest.history(&pair.right, pair.conversation(), query).await.read()
    };
    let forwards = page("after=0&limit=10").await;
    assert_eq!((numbers(&forwards.messages), forwards.more), ((1..=10).collect(), true));
    let forwards = page("after=20&limit=10").await;
    assert_eq!((numbers(&forwards.messages), forwards.more), ((21..=25).collect(), false));
    let backwards = page("before=26&limit=10").await;
    assert_eq!((numbers(&backwards.messages), backwards.more), ((16..=25).collect(), true));
    let backwards = page("before=6&limit=10").await;
    assert_eq!((numbers(&backwards.messages), backwards.more), ((1..=5).collect(), false));
}

#[tokio::test]
async fn the_list_shows_the_last_message_and_what_is_unread() {
    let pair = Pair::start().await;
    let carol = pair.rest.register_user("Carol", "carol-phone").await;
    let mut left = pair.connect(&pair.left).await;
    left.send_many(&pair.left, &[&pair.right], 3).await;
    let mut from_carol = pair.connect(&carol).await;
    from_carol.send_many(&carol, &[&pair.right], 1).await;

    let list = async || -> Vec<Conversation> {
        let path = format!("/v1/conversations?device_id={}", pair.right.device_id);
        pair.rest.get(&path, &pair.right.tokens.access_token).await.read::<Conversations>().conversations
    };
    let before = list().await;
    assert_eq!(before.len(), 2);
    assert_eq!(before[0].conversation_id, pair.right.conversation_with(&carol), "the newest stands first");
    let with_ada = &before[1];
    assert_eq!((with_ada.unread_count, with_ada.last_sequence_number), (3, 3));
    assert_eq!(with_ada.last_message.as_ref().unwrap().sequence_number, 3);
    assert!(with_ada.last_message.as_ref().unwrap().content.is_some(), "as the asking device may see it");

    let (mut right, success) =
        RawClient::connect_and_resume(pair.server.address(), &pair.right, Vec::new()).await;
    assert_eq!(success.unread_count, 4);
    let second = right
        .expect("left's second message", |frame| match frame {
            ServerFrame::Messages { payload } if payload.conversation_id == pair.conversation() => {
                payload.messages.iter().find(|message| message.sequence_number == 2).cloned()
            }
            _ => None,
        })
        .await;
    right.mark_read(&second).await;
    left.expect_read_through(2).await;
    pair.conversation_that(&pair.right, |seen| seen.unread_count == 1).await;
}

#[tokio::test]
async fn what_was_missed_comes_first_after_coming_back() {
    let pair = Pair::start().await;
    let (mut left, mut right) = pair.connect_both().await;
    left.send_many(&pair.left, &[&pair.right], 2).await;
    right.expect_message().await;
    right.expect_message().await;
    right.close().await;
    left.send_many(&pair.left, &[&pair.right], 3).await;

    let cursor = ResumeCursor { conversation_id: pair.conversation(), after_sequence: 2 };
    let (mut right, _) =
        RawClient::connect_and_resume(pair.server.address(), &pair.right, vec![cursor]).await;
    assert_eq!(numbers(&right.expect_pages().await), [3, 4, 5]);
    let live = left.send_message(&pair.left, &[&pair.right], "live again").await;
    left.expect_ack(&live).await;
    assert_eq!(right.expect_message().await.sequence_number, 6);
}

#[tokio::test]
async fn without_cursors_the_server_resumes_from_what_the_device_acknowledged() {
    let mut pair = Pair::start().await;
    let (mut left, mut right) = pair.connect_both().await;
    left.send_many(&pair.left, &[&pair.right], 2).await;
    let first = right.expect_message().await;
    right.acknowledge(&first).await;
    left.expect_delivered_through(1).await;
    left.close().await;
    right.close().await;
    // Cursors are written lazily; an orderly stop writes what is left.
    assert_eq!(pair.server.terminate().await, Some(0));
    pair.server.restart().await;

    let (mut right, _) = RawClient::connect_and_resume(pair.server.address(), &pair.right, Vec::new()).await;
    assert_eq!(numbers(&right.expect_pages().await), [2]);
}

#[tokio::test]
async fn a_gap_of_a_thousand_messages_is_filled_page_by_page() {
    const GAP: u64 = 1_000;
    let pair = Pair::start().await;
    let mut left = pair.connect(&pair.left).await;
    left.send_many(&pair.left, &[&pair.right], GAP).await;

    let mut right = pair.connect(&pair.right).await;
    let resumed = right.expect_pages().await;
    assert_eq!(numbers(&resumed), (1..=GAP).collect::<Vec<_>>());

    let wanted = Retransmit { conversation_id: pair.conversation(), from_sequence: 1, to_sequence: GAP + 50 };
    right.send(&ClientFrame::Retransmit(wanted)).await;
    let mut again = Vec::new();
    loop {
        let page = right.expect_page().await;
        assert!(page.messages.len() <= PAGE_MAX_MESSAGES, "a page has a bound");
        assert_eq!(page.conversation_id, pair.conversation());
        again.extend(page.messages);
        if !page.more {
            break;
        }
    }
    assert_eq!(numbers(&again), numbers(&resumed));
    assert!(again.iter().all(|message| message.content.is_some()));
}

#[tokio::test]
async fn the_senders_other_device_gets_the_message_too_and_the_sending_one_its_ack() {
    let pair = Pair::start().await;
    let laptop = pair.rest.add_device(&pair.left, "left-laptop").await;
    let (mut phone, mut right) = pair.connect_both().await;
    let mut on_laptop = pair.connect(&laptop).await;

    let message = phone.send_message(&pair.left, &[&pair.right, &laptop], "from my phone").await;
    let ack = phone.expect_ack(&message).await;
    for client in [&mut on_laptop, &mut right] {
        let shown = client.expect_message().await;
        assert_eq!(shown.message_id, ack.message_id);
        assert_eq!(unseal(&shown.content.unwrap().body), "from my phone");
    }
    phone.heartbeat().await;
    assert!(!phone.has_seen(|frame| matches!(frame, ServerFrame::Message { .. })), "the ack stands for it");
}

#[tokio::test]
async fn a_removed_device_is_disconnected_and_messages_for_it_are_stale() {
    let pair = Pair::start().await;
    let tablet = pair.rest.add_device(&pair.right, "right-tablet").await;
    let (mut left, mut right) = pair.connect_both().await;
    let mut on_tablet = pair.connect(&tablet).await;
    let before = left.send_message(&pair.left, &[&pair.right, &tablet], "to both").await;
    left.expect_ack(&before).await;
    on_tablet.expect_message().await;

    let path = format!("/v1/devices/{}", tablet.device_id);
    let removed = pair.rest.delete(&path, &pair.right.tokens.access_token).await;
    assert!((200..300).contains(&removed.status), "{removed:?}");
    on_tablet.expect_close(CloseCode::UnknownDevice).await;

    let stale = left.send_message(&pair.left, &[&pair.right, &tablet], "to both again").await;
    let difference = expect_stale(&mut left, &stale.client_message_id).await;
    assert_eq!((difference.missing, difference.extra), (vec![], vec![tablet.address()]));
    let fresh = left.send_message(&pair.left, &[&pair.right], "to the phone alone").await;
    let ack = left.expect_ack(&fresh).await;
    assert_eq!(ack.sequence_number, 2, "what was stale was not numbered");
    right.expect_message().await;
    assert_eq!(right.expect_message().await.message_id, ack.message_id);
}

#[tokio::test]
async fn sockets_of_one_device_overlap_up_to_a_bound_and_then_the_oldest_is_closed() {
    let pair = Pair::start().await;
    let mut oldest = pair.connect(&pair.right).await;
    let mut newer = Vec::new();
    for _ in 0..SOCKETS_PER_DEVICE_MAX {
        newer.push(pair.connect(&pair.right).await);
    }
    oldest.expect_close(CloseCode::Replaced).await;
    let mut left = pair.connect(&pair.left).await;
    left.send_many(&pair.left, &[&pair.right], 1).await;
    for socket in &mut newer {
        assert_eq!(socket.expect_message().await.sequence_number, 1);
    }
}

async fn expect_stale(client: &mut RawClient, name: &str) -> DeviceListStale {
    client
        .expect("device_list_stale", |frame| match frame {
            ServerFrame::DeviceListStale { client_message_id, payload } if client_message_id == name => {
                Some(payload.clone())
            }
            _ => None,
        })
        .await
}
