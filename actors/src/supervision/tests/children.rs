//! The many children of one parent are counted from start to end, also when the parent is not there to see the end.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::stage::until;
use crate::metrics::Metrics;
use crate::supervision::{ActorKind, Children, ExitReason};

const KIND: ActorKind = ActorKind::Session;
/// More than are stopped at the same time.
const MANY: usize = 600;

/// A parent as the session supervisor is one.
struct Parent;

impl Actor for Parent {
    type Msg = ();
    type State = Children;
    type Arguments = Arc<Metrics>;

    async fn pre_start(
        &self,
        _: ActorRef<()>,
        metrics: Arc<Metrics>,
    ) -> Result<Children, ActorProcessingErr> {
        Ok(Children::new(KIND, metrics))
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        event: SupervisionEvent,
        children: &mut Children,
    ) -> Result<(), ActorProcessingErr> {
        children.observe(&event);
        Ok(())
    }

    async fn post_stop(
        &self,
        myself: ActorRef<()>,
        children: &mut Children,
    ) -> Result<(), ActorProcessingErr> {
        children.stop(&myself.get_cell()).await;
        Ok(())
    }
}

/// A child that ends when it is told something: well, or by a defect.
struct Child;

impl Actor for Child {
    type Msg = bool;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<bool>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<bool>,
        well: bool,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        assert!(well, "a defect, as ordered");
        myself.stop(None);
        Ok(())
    }
}

struct Family {
    parent: ActorRef<()>,
    children: Vec<ActorRef<bool>>,
    metrics: Arc<Metrics>,
}

impl Family {
    /// A parent of so many children, all of them counted as alive.
    async fn of(count: usize) -> Self {
        let metrics = Arc::new(Metrics::register(&mut Registry::default()));
        let (parent, _) = Actor::spawn(None, Parent, Arc::clone(&metrics)).await.expect("it starts");
        let mut children = Vec::new();
        for _ in 0..count {
            let child = Actor::spawn_linked(None, Child, (), parent.get_cell()).await;
            children.push(child.expect("it starts").0);
        }
        let family = Self { parent, children, metrics };
        family.expect_alive(count).await;
        family
    }

    async fn expect_alive(&self, count: usize) {
        let count = i64::try_from(count).unwrap();
        until(|| self.metrics.alive_of(KIND) == count).await;
    }

    fn exits(&self, reason: ExitReason) -> u64 {
        self.metrics.exits_of(KIND, reason)
    }
}

#[tokio::test]
async fn a_childs_own_end_is_counted_as_what_it_was() {
    let family = Family::of(4).await;
    family.children[0].cast(true).expect("it is there");
    family.children[1].cast(false).expect("it is there");
    family.children[2].kill();
    family.expect_alive(1).await;
    let exits = [ExitReason::Done, ExitReason::Panicked, ExitReason::Killed, ExitReason::Stopped];
    assert_eq!(exits.map(|reason| family.exits(reason)), [1, 1, 1, 0]);
}

#[tokio::test]
async fn the_children_of_a_parent_that_stops_are_stopped_and_counted_once_each() {
    let family = Family::of(MANY).await;
    family.parent.stop(None);
    family.expect_alive(0).await;
    assert_eq!(family.exits(ExitReason::Stopped), MANY as u64);
    assert_eq!(family.exits(ExitReason::Killed), 0);
}

#[tokio::test]
async fn the_children_of_a_parent_that_is_killed_are_counted_as_killed() {
    let family = Family::of(MANY).await;
    family.children[0].cast(true).expect("it is there");
    family.expect_alive(MANY - 1).await;
    family.parent.kill();
    family.expect_alive(0).await;
    assert_eq!(family.exits(ExitReason::Killed), MANY as u64 - 1);
    assert_eq!(family.exits(ExitReason::Done), 1);
}
