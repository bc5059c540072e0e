//! Many recipients at once, and recipients that cannot be written to.

use super::server::Server;
use super::{connected, person, sent, until};
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
