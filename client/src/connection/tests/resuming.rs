//! Connections that break at a bad moment, and what is there after the next.

use colloquy_protocol::ids::ConversationId;

use super::server::Server;
use super::{connected, numbered, open, person, sent, texts, until};
use crate::{Event, Identifier, MessageState};

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_first_text_survives_a_connection_that_breaks_before_it_is_stored() {
    let server = Server::start().await;
    let (alice, bob) = (person(&server, "alice").await, person(&server, "bob").await);
    let (_a, mut b) = (alice.client.connect().unwrap(), bob.client.connect().unwrap());
    connected(&mut b).await;
    server.hold_device_lists(bob.user_id);
    alice.client.send_text(bob.user_id, "text 1").await.unwrap();
    server.wait_for_held_device_list().await;
    server.drop_sockets(bob.user_id);
    connected(&mut b).await;
    alice.client.send_text(bob.user_id, "text 2").await.unwrap();
    sent(&alice.client).await;
    server.release_device_lists();
    assert_eq!(texts(&mut b, 2).await, numbered(2));
}

async fn read_through(events: &mut crate::Events, wanted: u64) {
    until(events, |event| match event {
        Event::MarksMoved { read_through, .. } if read_through == wanted => Some(()),
        _ => None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_learns_on_the_next_connection_that_a_text_was_read() {
    let server = Server::start().await;
    let (alice, bob) = (person(&server, "alice").await, person(&server, "bob").await);
    alice.client.connect().unwrap();
    alice.client.send_text(bob.user_id, "text 1").await.unwrap();
    sent(&alice.client).await;
    alice.client.shutdown().await;
    assert_eq!(server.lists(), 0, "a profile without a text asks for no list");
    let mut b = bob.client.connect().unwrap();
    assert_eq!(texts(&mut b, 1).await, numbered(1));
    let conversation = ConversationId::of_pair(alice.user_id, bob.user_id);
    bob.client.mark_read(conversation).await.unwrap();
    server.wait_for_read_receipts(1).await;
    let mut a = alice.client.connect().unwrap();
    read_through(&mut a, 1).await;
    assert_eq!(alice.client.history(conversation, None, 10).unwrap()[0].state, MessageState::Read);
    alice.client.shutdown().await;
    let lists = server.lists();
    let mut a = alice.client.connect().unwrap();
    bob.client.send_text(conversation, "text 2").await.unwrap();
    assert_eq!(texts(&mut a, 1).await, vec![(2, "text 2".into())]);
    assert_eq!(server.lists(), lists, "nothing is open, so nothing is asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_receipt_that_was_lost_is_told_again_on_the_next_connection_and_no_more_once_heard() {
    let server = Server::start().await;
    let (alice, bob) = (person(&server, "alice").await, person(&server, "bob").await);
    let (mut a, mut b) = (alice.client.connect().unwrap(), bob.client.connect().unwrap());
    alice.client.send_text(bob.user_id, "text 1").await.unwrap();
    assert_eq!(texts(&mut b, 1).await, numbered(1));
    let conversation = ConversationId::of_pair(alice.user_id, bob.user_id);
    server.lose_read_receipts(true);
    bob.client.mark_read(conversation).await.unwrap();
    bob.client.mark_read(conversation).await.unwrap();
    server.wait_for_read_receipts(1).await;
    server.lose_read_receipts(false);
    server.drop_sockets(bob.user_id);
    read_through(&mut a, 1).await;
    assert_eq!(server.read_receipts(), 2, "once on each connection");
    // The answer to this text comes after the echo.
    bob.client.send_text(conversation, "text 2").await.unwrap();
    sent(&bob.client).await;
    server.drop_sockets(bob.user_id);
    connected(&mut b).await;
    connected(&mut b).await;
    alice.client.send_text(bob.user_id, "text 3").await.unwrap();
    assert_eq!(texts(&mut b, 1).await, vec![(3, "text 3".into())]);
    assert_eq!(server.read_receipts(), 2, "what was heard is not told again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_on_one_device_is_not_unread_on_the_other() {
    let server = Server::start().await;
    let (alice, bob) = (person(&server, "alice").await, person(&server, "bob").await);
    let folder = tempfile::tempdir().unwrap();
    let second = open(&server, &folder).await;
    let email = Identifier::Email("bob@example.org".into());
    second.log_in(email, "a long password".into()).await.unwrap();
    let (mut b, mut s) = (bob.client.connect().unwrap(), second.connect().unwrap());
    alice.client.connect().unwrap();
    alice.client.send_text(bob.user_id, "text 1").await.unwrap();
    assert_eq!(texts(&mut b, 1).await, numbered(1));
    assert_eq!(texts(&mut s, 1).await, numbered(1));
    let unread = || second.conversations().unwrap()[0].unread;
    assert_eq!(unread(), 1);
    bob.client.mark_read(ConversationId::of_pair(alice.user_id, bob.user_id)).await.unwrap();
    until(&mut s, |event| match event {
        Event::MarksMoved { own_read_through: 1, .. } => Some(()),
        _ => None,
    })
    .await;
    assert_eq!(unread(), 0);
}
