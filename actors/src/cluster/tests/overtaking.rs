//! A message that is under way to one owner, and those its sender sends after it to another.

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::limits::REORDER_TIMEOUT;
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::message_log::{Ownership, Placed};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::stage::{Session, conversation, message, refused, user};
use crate::conversation::{Reply, SenderOrder, Sequencer, Submission};

fn in_order(
    session: &Session,
    client_sequence: u64,
    expected: u64,
    follows_unanswered: bool,
) -> Box<Submission> {
    let order = Some(SenderOrder { client_sequence, expected, follows_unanswered });
    Box::new(Submission { order, ..session.submission(client_sequence.into()) })
}

#[tokio::test(start_paused = true)]
async fn what_follows_a_message_under_way_to_another_owner_is_not_let_go_before_it() {
    let (mut session, mut sequencer) = (Session::of(user(1), 1).await, Sequencer::new(conversation()));
    let start = Instant::now();
    for number in [2, 3] {
        assert!(sequencer.accept(in_order(&session, number, 1, number == 2), start).is_ok());
    }
    let later = start + REORDER_TIMEOUT;
    Reply::give_all(sequencer.give_up_gaps(later));
    let try_again = refused(ErrorCode::Unavailable);
    assert_eq!(session.answers().await, [(2, try_again.clone()), (3, try_again)]);
    assert!(!sequencer.wants_batch() && sequencer.is_idle());
    // By now the other owner has answered.
    assert!(sequencer.accept(in_order(&session, 2, 2, false), later).is_ok());
    assert!(sequencer.wants_batch());
}

#[tokio::test(start_paused = true)]
async fn what_follows_a_message_that_nobody_has_goes_on_without_it() {
    let (mut session, mut sequencer) = (Session::of(user(1), 1).await, Sequencer::new(conversation()));
    let start = Instant::now();
    assert!(sequencer.accept(in_order(&session, 2, 1, false), start).is_ok());
    assert!(sequencer.give_up_gaps(start + REORDER_TIMEOUT).is_empty());
    assert!(sequencer.wants_batch());
    session.hears_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_retry_of_what_another_owner_has_stored_is_acked_and_the_log_is_known_to_go_on() {
    let (session, mut sequencer) = (Session::of(user(1), 1).await, Sequencer::new(conversation()));
    sequencer.own(Ownership { epoch: 1, last_sequence: 4, last_message_at: None });
    let first = |sequence_number| Message { sequence_number, ..message(7) };
    let mut settle = |sequence_number| {
        sequencer.own(Ownership { epoch: 1, last_sequence: 4, last_message_at: None });
        assert!(sequencer.accept(Box::new(session.submission(7)), Instant::now()).is_ok());
        sequencer.next_batch(1, &mut StdRng::seed_from_u64(1)).unwrap();
        let duplicate = Placed::Duplicate { first: first(sequence_number).into(), same_body: true };
        (sequencer.settle(vec![duplicate]).unheard_of, sequencer.wants_ownership())
    };
    assert_eq!(settle(3), (None, false), "this owner knows of it");
    assert_eq!(settle(5), (Some(5), true));
}
