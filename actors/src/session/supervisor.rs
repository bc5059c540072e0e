//! The parent of all sessions. Sessions are temporary: one that ends is counted and never restarted, because its
//! client reconnects and resumes.

use std::sync::Arc;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};

use super::LiveSessions;
use crate::metrics::Metrics;
use crate::supervision::{ActorKind, Address, Children, Letter, Mailbox, befall};

/// It is told nothing; this is its mailbox's type.
pub enum Nothing {}

/// The parent of all sessions.
pub struct SessionSupervisor;

/// What it is started with.
#[derive(Clone)]
pub struct SessionSupervisorArguments {
    /// Where the gateway finds the current parent for a new session.
    pub address: Address<Nothing>,
    /// Sessions of an earlier incarnation died with it.
    pub sessions: LiveSessions,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl SessionSupervisor {
    /// Starts the supervisor under `parent` and points its address at it.
    ///
    /// # Errors
    /// If the parent is stopping.
    pub async fn start(
        arguments: SessionSupervisorArguments,
        parent: ActorCell,
    ) -> Result<ActorCell, SpawnErr> {
        let (address, metrics) = (arguments.address.clone(), Arc::clone(&arguments.metrics));
        let (actor, _) = Actor::spawn_linked(None, Self, arguments, parent).await?;
        address.install(Mailbox::new(actor.clone(), metrics.depth_of(ActorKind::SessionSupervisor), 1));
        metrics.actor_started(ActorKind::SessionSupervisor);
        Ok(actor.get_cell())
    }
}

impl Actor for SessionSupervisor {
    type Msg = Letter<Nothing>;
    type State = Children;
    type Arguments = SessionSupervisorArguments;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        arguments: SessionSupervisorArguments,
    ) -> Result<Children, ActorProcessingErr> {
        arguments.sessions.clear();
        Ok(Children::new(ActorKind::Session, arguments.metrics))
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        children: &mut Children,
    ) -> Result<(), ActorProcessingErr> {
        befall(children.metrics(), ActorKind::SessionSupervisor).await;
        children.observe(&event);
        Ok(())
    }

    async fn post_stop(
        &self,
        myself: ActorRef<Self::Msg>,
        children: &mut Children,
    ) -> Result<(), ActorProcessingErr> {
        children.stop(&myself.get_cell()).await;
        Ok(())
    }
}
