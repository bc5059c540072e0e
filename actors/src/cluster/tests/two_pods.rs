//! Two pods over a real link: messages of sessions on one, to a conversation that the other owns.

use std::sync::Arc;

use colloquy_protocol::error_code::ErrorCode;

use super::pods::{Pod, World, linked, submit, until};
use super::stage::{Session, conversation, message, number_of, refused, user};
use crate::session::SessionMessage;

async fn two_pods(world: &World) -> (Pod, Pod) {
    linked(world.pod("a").await, world.pod("b").await).await
}

async fn the_log_holds(world: &World, keys: impl IntoIterator<Item = u128>) {
    let stored = world.log().await;
    let keys: Vec<_> = keys.into_iter().map(|n| message(n).idempotency_key).collect();
    assert_eq!(stored.iter().map(|message| message.idempotency_key).collect::<Vec<_>>(), keys);
    assert!(stored.iter().zip(1..).all(|(message, number)| message.sequence_number == number), "{stored:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_placed_by_the_owner_on_the_other_pod_and_answered_to_its_sender() {
    let world = World::new("placed").await;
    let (owner, other) = two_pods(&world).await;
    let (mut sender, mut recipient) = (Session::of(user(1), 1).await, Session::of(user(2), 2).await);
    owner.sessions.enter(Arc::clone(&recipient.handle));
    for n in 1..=3 {
        submit(&other, sender.submission_in_order(n.into(), n)).await;
    }
    let mut answers = Vec::new();
    while answers.len() < 3 {
        answers.extend(sender.answers().await);
    }
    assert!(answers.iter().all(|(token, answer)| number_of(answer) == *token), "{answers:?}");
    the_log_holds(&world, 1..=3).await;
    assert!(owner.index.awake(conversation()).is_some() && other.index.is_empty());
    assert!(matches!(recipient.next().await, SessionMessage::Delivered(messages)
        if messages[0].idempotency_key == message(1).idempotency_key));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owner_forgets_a_session_of_the_other_pod_when_it_ends() {
    let world = World::new("ended").await;
    let (owner, other) = two_pods(&world).await;
    let mut sender = Session::of(user(1), 1).await;
    submit(&other, sender.submission(1)).await;
    sender.answer().await;
    assert_eq!(owner.switchboard.foreign_sessions(), 1);
    other.doorway.session_ended(sender.id());
    until(|| owner.switchboard.foreign_sessions() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_whose_owner_is_cut_off_before_it_answers_tries_again_there_and_is_placed_once() {
    let world = World::new("again").await;
    let (owner, other) = two_pods(&world).await;
    let mut sender = Session::of(user(1), 1).await;
    world.gate.close();
    submit(&other, sender.submission(1)).await;
    world.gate.holds(1).await;
    owner.kill_bridge().await;
    assert_eq!(sender.answer().await, (1, refused(ErrorCode::Unavailable)));
    until(|| !other.owns()).await;
    world.gate.open();
    submit(&other, sender.submission(1)).await;
    let (_, answer) = sender.answer().await;
    assert_eq!(number_of(&answer), 1);
    submit(&other, sender.submission(2)).await;
    assert_eq!(number_of(&sender.answer().await.1), 2);
    the_log_holds(&world, 1..=2).await;
    assert!(other.index.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_whose_owner_is_cut_off_takes_over_and_is_placed_once_though_the_old_owner_goes_on() {
    let world = World::new("over").await;
    let (owner, other) = two_pods(&world).await;
    let mut sender = Session::of(user(1), 1).await;
    world.gate.close();
    submit(&other, sender.submission(1)).await;
    world.gate.holds(1).await;
    // Nobody else is there any more, as far as the sender's pod can see.
    other.links.set_members(Vec::new());
    assert_eq!(sender.answer().await, (1, refused(ErrorCode::Unavailable)));
    until(|| other.owns()).await;
    submit(&other, sender.submission(1)).await;
    world.gate.holds(2).await;
    world.gate.open();
    assert_eq!(number_of(&sender.answer().await.1), 1);
    submit(&other, sender.submission(2)).await;
    assert_eq!(number_of(&sender.answer().await.1), 2);
    the_log_holds(&world, 1..=2).await;
    // Fenced by its own append, or still to be by its next (FENCE).
    assert!(other.index.awake(conversation()).is_some());
    until(|| owner.index.is_empty()).await;
}
