//! The engine against a small server over real sockets, which drops connections, repeats, withholds and damages.

mod approvals;
mod desk;
mod device_lists;
mod given_up;
mod mending;
mod resuming;
mod sending;
mod server;
mod turns;
mod verdicts;

use std::time::Duration;

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::ids::{ConversationId, UserId};

use self::server::{Fault, Server};
use crate::ambient::Workers;
use crate::store::{ProfileRecord, Store, StoreError, Unlock};
use crate::surroundings::Surroundings;
use crate::sync::BackoffPolicy;
use crate::{
    Client, DisconnectReason, Event, Events, Identifier, IdentityChangeKind, MessageState, ProfileOptions,
    Registration, SendFailure, ShownContent, UserQuery,
};

/// A test that waits longer than this for an event has failed; nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

struct Person {
    client: Client,
    user_id: UserId,
    folder: tempfile::TempDir,
}

fn options(server: &Server, folder: &tempfile::TempDir) -> ProfileOptions {
    ProfileOptions {
        folder: folder.path().join("db"),
        unlock: Unlock::KeyFile(folder.path().join("key")),
        server_url: server.url(),
        device_id: None,
        platform: "test".into(),
    }
}

async fn open(server: &Server, folder: &tempfile::TempDir) -> Client {
    let backoff = BackoffPolicy { first_ms: 1, max_ms: 5, stable_after_ms: 1 };
    let surroundings = Surroundings::of_this_machine().unwrap();
    Client::open_with(options(server, folder), backoff, surroundings).await.unwrap()
}

async fn person(server: &Server, name: &str) -> Person {
    let folder = tempfile::tempdir().unwrap();
    registered(open(server, &folder).await, name, folder).await
}

/// Somebody new, on this client.
async fn registered(client: Client, name: &str, folder: tempfile::TempDir) -> Person {
    let registration = Registration {
        email: Some(format!("{name}@example.org")),
        name: name.into(),
        password: "a long password".into(),
        ..Registration::default()
    };
    let user_id = client.register(registration).await.unwrap();
    Person { client, user_id, folder }
}

/// Another device of somebody registered under this name.
async fn second_device(server: &Server, name: &str) -> (Client, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let client = open(server, &folder).await;
    let email = Identifier::Email(format!("{name}@example.org"));
    client.log_in(email, "a long password".into()).await.unwrap();
    (client, folder)
}

async fn until<T>(events: &mut Events, mut pick: impl FnMut(Event) -> Option<T>) -> T {
    let waiting = async {
        loop {
            let event = events.next().await.expect("the client is there");
            if let Some(picked) = pick(event) {
                return picked;
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the event should have happened")
}

async fn sent(client: &Client) {
    tokio::time::timeout(PATIENCE, client.wait_until_sent()).await.expect("everything should have been sent");
}

fn text(content: &ShownContent) -> String {
    match content {
        ShownContent::Text(text) => text.clone(),
        other => panic!("{other:?}"),
    }
}

async fn texts(events: &mut Events, count: usize) -> Vec<(u64, String)> {
    let mut received = Vec::new();
    while received.len() < count {
        received.push(
            until(events, |event| match event {
                Event::MessageReceived(m) => Some((m.sequence_number.unwrap(), text(&m.content))),
                Event::DecryptionFailed { failure, .. } => panic!("{failure}"),
                _ => None,
            })
            .await,
        );
    }
    received
}

fn numbered(count: u64) -> Vec<(u64, String)> {
    (1..=count).map(|n| (n, format!("text {n}"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_talk_and_see_marks_presence_and_the_same_safety_number() {
    let server = Server::start().await;
    let (alice, bob) = (person(&server, "alice").await, person(&server, "bob").await);
    let (mut a, mut b) = (alice.client.connect().unwrap(), bob.client.connect().unwrap());
    let card = alice.client.find_user(UserQuery::Email("bob@example.org".into())).await.unwrap();
    assert_eq!(card.user_id, bob.user_id);
    let id = alice.client.send_text(bob.user_id, "text 1").await.unwrap();
    assert_eq!(texts(&mut b, 1).await, numbered(1));
    let number = until(&mut a, |event| match event {
        Event::MessageSent { local_id, sequence_number, .. } if local_id == id => Some(sequence_number),
        _ => None,
    })
    .await;
    assert_eq!(number, 1);
    let conversation = ConversationId::of_pair(alice.user_id, bob.user_id);
    bob.client.mark_read(conversation).await.unwrap();
    until(&mut a, |event| match event {
        Event::MarksMoved { read_through: 1, .. } => Some(()),
        _ => None,
    })
    .await;
    assert_eq!(alice.client.history(conversation, None, 10).unwrap()[0].state, MessageState::Read);
    bob.client.send_text(conversation, "text 2").await.unwrap();
    assert_eq!(texts(&mut a, 1).await, vec![(2, "text 2".into())]);
    let list = alice.client.conversations().unwrap();
    assert_eq!((list[0].unread, list[0].peer_name.as_deref()), (1, Some("bob")));
    assert_eq!(
        alice.client.safety_number(bob.user_id).await.unwrap(),
        bob.client.safety_number(alice.user_id).await.unwrap()
    );
    alice.client.shutdown().await;
    bob.client.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_connections_lost_acks_and_repeated_frames_still_show_each_text_once_in_order() {
    let server = Server::start().await;
    let (alice, bob) = (person(&server, "alice").await, person(&server, "bob").await);
    server.faults([
        Fault::None,
        Fault::DropBeforeStore,
        Fault::None,
        Fault::DropAfterStore,
        Fault::Repeat,
        Fault::Withhold,
        Fault::None,
        Fault::Refuse(ErrorCode::Busy),
        Fault::DropReceiver,
        Fault::Repeat,
        Fault::Withhold,
        Fault::DropAfterStore,
    ]);
    let (_a, mut b) = (alice.client.connect().unwrap(), bob.client.connect().unwrap());
    until(&mut b, |event| matches!(event, Event::Connected { .. }).then_some(())).await;
    for n in 1..=40 {
        alice.client.send_text(bob.user_id, format!("text {n}")).await.unwrap();
    }
    sent(&alice.client).await;
    let received = texts(&mut b, 40).await;
    let numbers: Vec<u64> = received.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=40).collect::<Vec<_>>());
    let mut contents: Vec<String> = received.into_iter().map(|(_, text)| text).collect();
    contents.sort_unstable();
    let mut expected: Vec<String> = numbered(40).into_iter().map(|(_, text)| text).collect();
    expected.sort_unstable();
    assert_eq!(contents, expected);
    assert_eq!(server.conflicts(), 0, "what was sent again was the same, byte for byte");
    let conversation = ConversationId::of_pair(alice.user_id, bob.user_id);
    assert_eq!(bob.client.history(conversation, None, 100).unwrap().len(), 40);
    let own = alice.client.history(conversation, None, 100).unwrap();
    assert!(own.iter().all(|message| message.message_id.is_some() && message.is_own));
    assert_eq!(own.len(), 40);
    server.wait_for_ack(bob.user_id, conversation, 40).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_written_offline_survives_a_restart_and_is_sent_once() {
    let server = Server::start().await;
    let (alice, bob) = (person(&server, "alice").await, person(&server, "bob").await);
    let mut b = bob.client.connect().unwrap();
    alice.client.send_text(bob.user_id, "text 1").await.unwrap();
    assert!(!alice.client.outbox_is_empty());
    let Person { client, folder, .. } = alice;
    drop(client);
    let client = open(&server, &folder).await;
    assert!(!client.outbox_is_empty());
    server.faults([Fault::DropAfterStore]);
    client.connect().unwrap();
    sent(&client).await;
    assert_eq!(texts(&mut b, 1).await, numbered(1));
    assert_eq!(server.stored(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_device_is_told_and_gets_what_is_sent_from_then_on() {
    let server = Server::start().await;
    let (alice, bob) = (person(&server, "alice").await, person(&server, "bob").await);
    let (mut a, mut b) = (alice.client.connect().unwrap(), bob.client.connect().unwrap());
    alice.client.send_text(bob.user_id, "text 1").await.unwrap();
    assert_eq!(texts(&mut b, 1).await, numbered(1));
    server.wait_for_device_list(bob.user_id, bob.user_id).await;
    let folder = tempfile::tempdir().unwrap();
    let second = open(&server, &folder).await;
    let identifier = crate::Identifier::Email("bob@example.org".into());
    second.log_in(identifier, "a long password".into()).await.unwrap();
    let mut s = second.connect().unwrap();
    alice.client.send_text(bob.user_id, "text 2").await.unwrap();
    let change = until(&mut a, |event| match event {
        Event::IdentityChanged(change) => Some(change),
        _ => None,
    })
    .await;
    assert_eq!((change.address.user_id, change.kind), (bob.user_id, IdentityChangeKind::Added));
    assert_eq!(texts(&mut b, 1).await, vec![(2, "text 2".into())]);
    let seen = until(&mut s, |event| match event {
        Event::MessageReceived(m) if m.sequence_number == Some(2) => Some(text(&m.content)),
        _ => None,
    })
    .await;
    assert_eq!(seen, "text 2");
    // The other device of the same user gets what this one sends.
    second.send_text(alice.user_id, "text 3").await.unwrap();
    let change = until(&mut b, |event| match event {
        Event::IdentityChanged(change) if change.address.user_id == bob.user_id => Some(change.kind),
        _ => None,
    })
    .await;
    assert_eq!(change, IdentityChangeKind::Added, "a user is told of the first device beside the own one");
    let own = until(&mut b, |event| match event {
        Event::MessageReceived(m) => Some((m.is_own, text(&m.content))),
        _ => None,
    })
    .await;
    assert_eq!(own, (true, "text 3".into()));
    assert_eq!(server.conflicts(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_message_is_repaired_without_anybody_doing_anything() {
    let server = Server::start().await;
    let (alice, bob) = (person(&server, "alice").await, person(&server, "bob").await);
    let (_a, mut b) = (alice.client.connect().unwrap(), bob.client.connect().unwrap());
    alice.client.send_text(bob.user_id, "text 1").await.unwrap();
    assert_eq!(texts(&mut b, 1).await, numbered(1));
    server.faults([Fault::Damage]);
    alice.client.send_text(bob.user_id, "text 2").await.unwrap();
    let asked = until(&mut b, |event| match event {
        Event::DecryptionFailed { repair_asked, .. } => Some(repair_asked),
        _ => None,
    })
    .await;
    assert!(asked);
    let repaired = until(&mut b, |event| match event {
        Event::MessageRepaired(message) => Some((message.sequence_number, text(&message.content))),
        _ => None,
    })
    .await;
    assert_eq!(repaired, (Some(2), "text 2".into()));
    let conversation = ConversationId::of_pair(alice.user_id, bob.user_id);
    alice.client.send_text(conversation, "text 3").await.unwrap();
    assert_eq!(texts(&mut b, 1).await[0].1, "text 3");
    let shown: Vec<String> =
        bob.client.history(conversation, None, 10).unwrap().iter().map(|m| text(&m.content)).collect();
    assert_eq!(shown, ["text 1", "text 2", "text 3"], "control messages are not shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_refused_for_good_fails_and_holds_up_nothing() {
    let server = Server::start().await;
    let (alice, bob) = (person(&server, "alice").await, person(&server, "bob").await);
    let (mut a, mut b) = (alice.client.connect().unwrap(), bob.client.connect().unwrap());
    server.faults([Fault::Refuse(ErrorCode::IdempotencyConflict)]);
    let id = alice.client.send_text(bob.user_id, "lost").await.unwrap();
    alice.client.send_text(bob.user_id, "text 1").await.unwrap();
    let reason = until(&mut a, |event| match event {
        Event::MessageFailed { local_id, reason, .. } if local_id == id => Some(reason),
        _ => None,
    })
    .await;
    assert_eq!(reason, SendFailure::Refused(ErrorCode::IdempotencyConflict));
    assert_eq!(texts(&mut b, 1).await, numbered(1));
    sent(&alice.client).await;
    assert_eq!(alice.client.failed().unwrap(), [id]);
    alice.client.retry(id).await.unwrap();
    assert!(alice.client.failed().unwrap().is_empty());
    assert_eq!(texts(&mut b, 1).await, vec![(2, "lost".into())]);
    assert!(alice.client.discard(id).await.is_err(), "it left the outbox when it was tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_log_in_stays_away_and_says_so() {
    let server = Server::start().await;
    let alice = person(&server, "alice").await;
    let mut events = alice.client.connect().unwrap();
    until(&mut events, |event| matches!(event, Event::Connected { .. }).then_some(())).await;
    server.close_all(4501);
    let retry_in = until(&mut events, |event| match event {
        Event::Disconnected { reason: DisconnectReason::Closed(4501), retry_in } => Some(retry_in),
        _ => None,
    })
    .await;
    assert_eq!(retry_in, None);
    until(&mut events, |event| (event == Event::LoggedOut).then_some(())).await;
    assert!(!alice.client.is_logged_in().unwrap());
    assert!(alice.client.connect().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_time_keys_are_published_again_when_few_are_left() {
    let server = Server::start().await;
    let alice = person(&server, "alice").await;
    server.take_keys(alice.user_id, 40);
    alice.client.connect().unwrap();
    server.wait_for_keys(alice.user_id, 50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_the_server_could_not_take_are_published_later_on_the_same_connection() {
    let server = Server::start().await;
    let alice = person(&server, "alice").await;
    server.take_keys(alice.user_id, 40);
    server.refuse_keys(1);
    alice.client.connect().unwrap();
    server.wait_for_keys(alice.user_id, 50).await;
    assert_eq!(server.ports().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_was_cut_short_is_finished_by_the_next_start() {
    let server = Server::start().await;
    let (alice, bob) = (person(&server, "alice").await, person(&server, "bob").await);
    let Person { client, folder, user_id } = alice;
    drop(client);
    server.forget_devices(user_id);
    let unlock = Unlock::KeyFile(folder.path().join("key"));
    let store = Store::open(&folder.path().join("db"), &unlock, Workers::Threads).unwrap();
    store
        .update(|tx| {
            let profile = tx.profile()?.unwrap();
            tx.put_profile(&ProfileRecord { is_registered: false, ..profile });
            Ok::<_, StoreError>(())
        })
        .unwrap();
    drop(store);
    let client = open(&server, &folder).await;
    client.connect().unwrap();
    client.send_text(bob.user_id, "text 1").await.unwrap();
    sent(&client).await;
    assert_eq!(server.stored(), 1);
}

async fn connected(events: &mut Events) {
    until(events, |event| matches!(event, Event::Connected { .. }).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_refreshed_before_the_next_connection() {
    let server = Server::start().await;
    let alice = person(&server, "alice").await;
    let mut events = alice.client.connect().unwrap();
    for _ in 0..2 {
        connected(&mut events).await;
        server.close_all(4005);
        let retry_in = until(&mut events, |event| match event {
            Event::Disconnected { reason: DisconnectReason::Closed(4005), retry_in } => Some(retry_in),
            _ => None,
        })
        .await;
        assert!(retry_in.is_some());
    }
    connected(&mut events).await;
    assert_eq!(server.refreshes(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_is_followed_to_the_new_endpoint() {
    let server = Server::start().await;
    let elsewhere = server.listen().await;
    let (alice, bob) = (person(&server, "alice").await, person(&server, "bob").await);
    let mut events = alice.client.connect().unwrap();
    connected(&mut events).await;
    server.migrate_all(&elsewhere);
    until(&mut events, |event| match event {
        Event::Disconnected { reason: DisconnectReason::Migrating, .. } => Some(()),
        _ => None,
    })
    .await;
    connected(&mut events).await;
    assert_eq!(server.ports(), [server.port(), elsewhere.port()]);
    alice.client.send_text(bob.user_id, "text 1").await.unwrap();
    sent(&alice.client).await;
    assert_eq!(server.stored(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn logging_out_and_in_again_keeps_the_device_and_its_history() {
    let server = Server::start().await;
    let (alice, bob) = (person(&server, "alice").await, person(&server, "bob").await);
    let mut b = bob.client.connect().unwrap();
    alice.client.connect().unwrap();
    alice.client.send_text(bob.user_id, "text 1").await.unwrap();
    assert_eq!(texts(&mut b, 1).await, numbered(1));
    let device = bob.client.device_id().unwrap();
    bob.client.log_out().await.unwrap();
    assert!(bob.client.connect().is_err());
    let email = |name: &str| crate::Identifier::Email(format!("{name}@example.org"));
    let other = bob.client.log_in(email("alice"), "a long password".into()).await;
    assert!(matches!(other, Err(crate::ClientError::OtherUser)));
    bob.client.log_in(email("bob"), "a long password".into()).await.unwrap();
    assert_eq!(bob.client.device_id().unwrap(), device);
    let mut b = bob.client.connect().unwrap();
    alice.client.send_text(bob.user_id, "text 2").await.unwrap();
    assert_eq!(texts(&mut b, 1).await, vec![(2, "text 2".into())]);
    let conversation = ConversationId::of_pair(alice.user_id, bob.user_id);
    assert_eq!(bob.client.history(conversation, None, 10).unwrap().len(), 2);
}
