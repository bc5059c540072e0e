//! one_for_one: who is restarted, who is not, in which order, and when it is given up.

use std::time::Duration;

use super::stage::{DEADLINE, End, Happened, Part, Stage, at_once};
use crate::supervision::{ActorKind, ExitReason, RestartIntensity, RestartPolicy};

const FIRST: ActorKind = ActorKind::StoreWriter;
const SECOND: ActorKind = ActorKind::PresenceTracker;
const THIRD: ActorKind = ActorKind::ConversationDirectory;
/// Far more restarts than a test asks for.
const PLENTY: usize = 100;

fn three() -> [Part; 3] {
    [FIRST, SECOND, THIRD].map(Part::of)
}

fn permanent(parts: &[Part]) -> Vec<(Part, RestartPolicy)> {
    parts.iter().map(|part| (part.clone(), RestartPolicy::Permanent)).collect()
}

const ALL_STARTED: [Happened; 3] =
    [Happened::Started(FIRST, 1), Happened::Started(SECOND, 1), Happened::Started(THIRD, 1)];

#[tokio::test]
async fn children_start_in_their_order_and_stop_in_the_opposite_one() {
    let mut stage = Stage::set(&permanent(&three()), at_once(PLENTY)).await;
    stage.expect(&ALL_STARTED).await;
    stage.stop().await;
    stage.expect(&[Happened::Ended(THIRD), Happened::Ended(SECOND), Happened::Ended(FIRST)]).await;
    for kind in [FIRST, SECOND, THIRD] {
        stage.expect_exits(kind, ExitReason::Stopped, 1).await;
        assert_eq!(stage.exits(kind), 1, "each end is counted once");
        assert_eq!(stage.metrics.alive_of(kind), 0);
    }
}

#[tokio::test]
async fn a_child_that_fails_is_restarted_alone() {
    let parts = three();
    let mut stage = Stage::set(&permanent(&parts), at_once(PLENTY)).await;
    stage.expect(&ALL_STARTED).await;
    for number in 2..5 {
        parts[1].end(End::Panic);
        stage.expect(&[Happened::Started(SECOND, number)]).await;
    }
    assert_eq!((parts[0].starts(), parts[2].starts()), (1, 1), "the others are left alone");
    stage.stop().await;
    // The places in the order stay what they were.
    stage.expect(&[Happened::Ended(THIRD), Happened::Ended(SECOND), Happened::Ended(FIRST)]).await;
}

#[tokio::test]
async fn every_way_to_end_is_counted_as_what_it_was() {
    let parts = three();
    let mut stage = Stage::set(&permanent(&parts), at_once(PLENTY)).await;
    stage.expect(&ALL_STARTED).await;
    parts[0].end(End::Panic);
    stage.expect(&[Happened::Started(FIRST, 2)]).await;
    parts[0].end(End::Fail);
    stage.expect(&[Happened::Started(FIRST, 3)]).await;
    assert!(stage.kill(FIRST).await);
    stage.expect(&[Happened::Started(FIRST, 4)]).await;
    parts[0].end(End::Done);
    stage.expect(&[Happened::Ended(FIRST), Happened::Started(FIRST, 5)]).await;
    stage.stop().await;
    let reasons =
        [ExitReason::Panicked, ExitReason::Failed, ExitReason::Killed, ExitReason::Done, ExitReason::Stopped];
    for reason in reasons {
        stage.expect_exits(FIRST, reason, 1).await;
    }
    assert_eq!(stage.exits(FIRST), reasons.len() as u64);
    assert_eq!(stage.exits(SECOND), 1, "the others have only been stopped");
}

#[tokio::test]
async fn a_transient_child_is_restarted_only_if_its_end_was_not_meant() {
    let (child, other) = (Part::of(FIRST), Part::of(SECOND));
    let parts = [(child.clone(), RestartPolicy::Transient), (other.clone(), RestartPolicy::Permanent)];
    let mut stage = Stage::set(&parts, at_once(PLENTY)).await;
    stage.expect(&[Happened::Started(FIRST, 1), Happened::Started(SECOND, 1)]).await;
    child.end(End::Fail);
    stage.expect(&[Happened::Started(FIRST, 2)]).await;
    child.end(End::Done);
    stage.expect(&[Happened::Ended(FIRST)]).await;
    stage.expect_exits(FIRST, ExitReason::Done, 1).await;
    // Whatever follows comes after the restart there would have been.
    other.end(End::Panic);
    stage.expect(&[Happened::Started(SECOND, 2)]).await;
    assert!(!stage.kill(FIRST).await, "it is gone for good");
    assert_eq!(child.starts(), 2);
}

#[tokio::test]
async fn a_temporary_child_is_never_restarted() {
    let (child, other) = (Part::of(FIRST), Part::of(SECOND));
    let parts = [(child.clone(), RestartPolicy::Temporary), (other.clone(), RestartPolicy::Permanent)];
    let mut stage = Stage::set(&parts, at_once(PLENTY)).await;
    stage.expect(&[Happened::Started(FIRST, 1), Happened::Started(SECOND, 1)]).await;
    child.end(End::Panic);
    stage.expect_exits(FIRST, ExitReason::Panicked, 1).await;
    other.end(End::Panic);
    stage.expect(&[Happened::Started(SECOND, 2)]).await;
    assert!(!stage.kill(FIRST).await);
    assert_eq!(child.starts(), 1);
}

#[tokio::test]
async fn a_supervisor_whose_budget_is_spent_gives_up() {
    let parts = three();
    let mut stage = Stage::set(&permanent(&parts), at_once(2)).await;
    stage.expect(&ALL_STARTED).await;
    // The budget is the supervisor's: it does not matter which of its children fails.
    parts[0].end(End::Fail);
    stage.expect(&[Happened::Started(FIRST, 2)]).await;
    parts[2].end(End::Panic);
    stage.expect(&[Happened::Started(THIRD, 2)]).await;
    parts[0].end(End::Fail);
    let ended = tokio::time::timeout(DEADLINE, &mut stage.ended).await;
    ended.expect("it ends in time").expect("and does not panic");
    stage.expect_exits(FIRST, ExitReason::Failed, 2).await;
    assert_eq!(parts[0].starts(), 2, "there is no third start");
    // The others end with it, and are counted though nobody is left to be told of them.
    stage.expect_exits(SECOND, ExitReason::Killed, 1).await;
    stage.expect_exits(THIRD, ExitReason::Killed, 1).await;
    for kind in [FIRST, SECOND, THIRD] {
        assert_eq!(stage.metrics.alive_of(kind), 0, "{kind:?}");
    }
}

#[tokio::test]
async fn a_supervisor_that_gave_up_is_restarted_by_its_parent_with_all_its_children() {
    let parts = three();
    let mut stage = Stage::set_under_another(&parts, at_once(1)).await;
    stage.expect(&ALL_STARTED).await;
    parts[1].end(End::Panic);
    stage.expect(&[Happened::Started(SECOND, 2)]).await;
    parts[1].end(End::Panic);
    let again = [Happened::Started(FIRST, 2), Happened::Started(SECOND, 3), Happened::Started(THIRD, 2)];
    stage.expect(&again).await;
    stage.expect_exits(ActorKind::Node, ExitReason::Failed, 1).await;
    for kind in [FIRST, SECOND, THIRD] {
        assert_eq!(stage.metrics.alive_of(kind), 1, "{kind:?}");
    }
    // The new one has a budget of its own.
    parts[0].end(End::Panic);
    stage.expect(&[Happened::Started(FIRST, 3)]).await;
}

#[tokio::test]
async fn a_child_that_fails_while_its_supervisor_stops_is_not_restarted() {
    let parts = three();
    let wait = Duration::from_secs(600);
    let later = RestartIntensity { backoff_min: wait, backoff_max: wait, ..at_once(PLENTY) };
    let mut stage = Stage::set(&permanent(&parts), later).await;
    stage.expect(&ALL_STARTED).await;
    parts[0].end(End::Panic);
    stage.stop().await;
    let ended = tokio::time::timeout(DEADLINE, &mut stage.ended).await;
    ended.expect("it ends in time").expect("and does not panic");
    stage.expect(&[Happened::Ended(THIRD), Happened::Ended(SECOND)]).await;
    assert_eq!(parts[0].starts(), 1);
}
