//! Many recipients at once, and recipients that cannot be written to.

use super::server::{Fault, Server};
use super::{connected, numbered, person, sent, texts, until};
use crate::{Event, SendFailure};

/// More than errands run at once, and more than a message is tried.
const RECIPIENTS: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn first_texts_to_many_new_contacts_at_once_all_arrive() {
    let server = Server::start().await;
    let alice = person(&server, "alice").await;
    let mut recipients = Vec::new();
    for n in 0..RECIPIENTS {
        recipients.push(person(&server, &format!("recipient{n}")).await);
    }
    for recipient in &recipients {
        alice.client.send_text(recipient.user_id, "text 1").await.unwrap();
    }
    alice.client.connect().unwrap();
    sent(&alice.client).await;
    assert_eq!(server.stored(), RECIPIENTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_to_a_user_with_a_device_that_signed_nothing_fails_and_says_why() {
    let server = Server::start().await;
    let (alice, bob) = (person(&server, "alice").await, person(&server, "bob").await);
    server.forge_device(bob.user_id);
    let mut events = alice.client.connect().unwrap();
    connected(&mut events).await;
    alice.client.send_text(bob.user_id, "text 1").await.unwrap();
    let reason = until(&mut events, |event| match event {
        Event::MessageFailed { reason, .. } => Some(reason),
        _ => None,
    })
    .await;
    assert_eq!(reason, SendFailure::UntrustedDevice);
    assert_eq!(server.stored(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_was_stored_before_it_was_encrypted_anew_is_settled_by_its_copy_in_the_log() {
    let server = Server::start().await;
    let (alice, bob) = (person(&server, "alice").await, person(&server, "bob").await);
    let (mut a, mut b) = (alice.client.connect().unwrap(), bob.client.connect().unwrap());
    server.faults([Fault::StoreAndCallStale]);
    let id = alice.client.send_text(bob.user_id, "text 1").await.unwrap();
    let number = until(&mut a, |event| match event {
        Event::MessageSent { local_id, sequence_number, .. } if local_id == id => Some(sequence_number),
        Event::MessageFailed { reason, .. } => panic!("{reason}"),
        _ => None,
    })
    .await;
    assert_eq!((number, server.stored(), server.conflicts()), (1, 1, 1));
    assert_eq!(texts(&mut b, 1).await, numbered(1));
}
