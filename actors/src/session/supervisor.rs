//! The parent of all sessions. Sessions are temporary: one that ends is counted and never restarted, because its
//! client reconnects and resumes.

use std::sync::Arc;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};

use super::LiveSessions;
use crate::metrics::Metrics;
use crate::supervision::{ActorKind, Address, Letter, Mailbox, exit_reason};

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
    type State = SessionSupervisorArguments;
    type Arguments = SessionSupervisorArguments;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        arguments: SessionSupervisorArguments,
    ) -> Result<SessionSupervisorArguments, ActorProcessingErr> {
        arguments.sessions.clear();
        Ok(arguments)
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut SessionSupervisorArguments,
    ) -> Result<(), ActorProcessingErr> {
        let Some(reason) = exit_reason(&event) else { return Ok(()) };
        state.metrics.actor_exited(ActorKind::Session, reason);
        if let SupervisionEvent::ActorFailed(_, error) = &event {
            tracing::warn!(?reason, %error, "session ended by a fault");
        }
        Ok(())
    }
}
