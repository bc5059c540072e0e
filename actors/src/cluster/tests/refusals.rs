//! What an owner refuses, and what that costs it. Both were found by worlds: an owner that became the slower the more was
//! sent again (seed 166 at 5,500 texts), and a message given up because a list could not be read (seed 61).

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::ids::DeviceId;

use super::pods::{World, submit};
use super::stage::{Session, refused, user};
use crate::conversation::Submission;

/// Message `n`, from a device that its sender does not have.
fn from_nowhere(sender: &Session, n: u128) -> Submission {
    let mut submission = sender.submission(n);
    submission.message.sender_device_id = DeviceId::new("tablet").unwrap();
    submission
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_refused_for_good_while_the_device_lists_cannot_be_read() {
    let world = World::new("unread").await;
    let pod = world.pod("a").await;
    let mut sender = Session::of(user(1), 1).await;
    submit(&pod, sender.submission(1)).await;
    sender.answer().await;
    world.lists.set_away(true);
    submit(&pod, from_nowhere(&sender, 2)).await;
    assert_eq!(sender.answer().await, (2, refused(ErrorCode::Unavailable)));
    world.lists.set_away(false);
    submit(&pod, from_nowhere(&sender, 2)).await;
    assert_eq!(sender.answer().await, (2, refused(ErrorCode::UnknownDevice)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_device_lists_are_read_once_for_all_messages_that_had_arrived() {
    let world = World::new("once").await;
    let pod = world.pod("a").await;
    let mut sender = Session::of(user(1), 1).await;
    submit(&pod, sender.submission(1)).await;
    sender.answer().await;
    let arrived: Vec<Submission> = (2..=9).map(|n| from_nowhere(&sender, n)).collect();
    let before = world.lists.read();
    for submission in arrived {
        submit(&pod, submission).await;
    }
    for token in 2..=9 {
        assert_eq!(sender.answer().await, (token, refused(ErrorCode::UnknownDevice)));
    }
    assert_eq!(world.lists.read() - before, 2, "of each participant");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_there_is_no_room_for_costs_no_look_in_the_log() {
    let world = World::new("room").await;
    let pod = world.pod("a").await;
    let mut sender = Session::of(user(1), 1).await;
    submit(&pod, sender.submission_in_order(5, 5)).await;
    // The first waits for those before it, and there is room for one of a number.
    submit(&pod, sender.submission_in_order(6, 5)).await;
    assert_eq!(sender.answer().await, (6, refused(ErrorCode::Busy)));
    assert_eq!(world.gate.looks(), 0);
}
