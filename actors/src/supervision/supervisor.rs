//! one_for_one over an ordered list of children: started top-down, stopped bottom-up, one at a time.
//!
//! ractor's own hook stops the parent when a child fails, and stops children in the order of a hash map; neither
//! is what a tree of long-lived services needs.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::exit::{ExitReason, Fault, exit_reason, fault_text};
use super::intensity::{RestartDecision, RestartIntensity, RestartLog, RestartPolicy};
use super::kind::ActorKind;
use crate::metrics::Metrics;

/// How long one child may take to stop before it is killed.
const CHILD_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Starts one child, linked to the supervisor it is given.
pub type StartChild = Arc<dyn Fn(ActorCell) -> BoxFuture<'static, Result<ActorCell, SpawnErr>> + Send + Sync>;

/// One child of a [`Supervisor`].
#[derive(Clone)]
pub struct ChildSpec {
    /// What it is counted as.
    pub kind: ActorKind,
    /// When it is restarted.
    pub policy: RestartPolicy,
    /// How it is started.
    pub start: StartChild,
}

impl ChildSpec {
    /// A child that is restarted whatever it ends with.
    pub fn permanent<F, Fut>(kind: ActorKind, start: F) -> Self
    where
        F: Fn(ActorCell) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<ActorCell, SpawnErr>> + Send + 'static,
    {
        let start: StartChild = Arc::new(move |parent| Box::pin(start(parent)));
        Self { kind, policy: RestartPolicy::Permanent, start }
    }
}

/// A supervisor over an ordered list of children.
pub struct Supervisor;

/// What a [`Supervisor`] is started with.
pub struct SupervisorArguments {
    /// In start order.
    pub children: Vec<ChildSpec>,
    /// Shared by all children.
    pub intensity: RestartIntensity,
    /// Where exits and restarts are counted.
    pub metrics: Arc<Metrics>,
}

/// What a [`Supervisor`] is told.
pub enum SupervisorMessage {
    /// Start this child again; the wait is over.
    Restart(usize),
    /// Stop the children, last first, then end. Answers when all are gone.
    Stop(oneshot::Sender<()>),
    /// Kill the first running child of a kind, as a fault would. Answers whether there was one.
    Kill(ActorKind, oneshot::Sender<bool>),
}

impl ractor::Message for SupervisorMessage {}

/// State of a [`Supervisor`].
pub struct SupervisorState {
    children: Vec<(ChildSpec, Option<ActorCell>)>,
    intensity: RestartIntensity,
    restarts: RestartLog,
    metrics: Arc<Metrics>,
    stopping: bool,
}

impl Actor for Supervisor {
    type Msg = SupervisorMessage;
    type State = SupervisorState;
    type Arguments = SupervisorArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: SupervisorArguments,
    ) -> Result<SupervisorState, ActorProcessingErr> {
        let mut children = Vec::with_capacity(arguments.children.len());
        for spec in arguments.children {
            let cell = (spec.start)(myself.get_cell()).await?;
            children.push((spec, Some(cell)));
        }
        Ok(SupervisorState {
            children,
            intensity: arguments.intensity,
            restarts: RestartLog::default(),
            metrics: arguments.metrics,
            stopping: false,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: SupervisorMessage,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMessage::Restart(index) => state.restart(&myself, index).await,
            SupervisorMessage::Stop(done) => {
                state.stop_children().await;
                myself.stop(ExitReason::Stopped.as_stop_reason());
                // Nobody waits for the answer if the process is already going down hard.
                let _ = done.send(());
                Ok(())
            }
            SupervisorMessage::Kill(kind, done) => {
                let running = |(spec, cell): &(ChildSpec, Option<ActorCell>)| {
                    cell.clone().filter(|_| spec.kind == kind)
                };
                let victim = state.children.iter().find_map(running);
                if let Some(cell) = &victim {
                    cell.kill();
                }
                let _ = done.send(victim.is_some());
                Ok(())
            }
        }
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        let (Some(reason), Some(cell)) = (exit_reason(&event), event.actor_cell()) else { return Ok(()) };
        let of_cell = |(_, child): &(ChildSpec, Option<ActorCell>)| {
            child.as_ref().is_some_and(|child| child.get_id() == cell.get_id())
        };
        let Some(index) = state.children.iter().position(of_cell) else { return Ok(()) };
        state.children[index].1 = None;
        let spec = &state.children[index].0;
        state.metrics.actor_exited(spec.kind, reason);
        let wanted = match spec.policy {
            RestartPolicy::Permanent => true,
            RestartPolicy::Transient => !reason.is_orderly(),
            RestartPolicy::Temporary => false,
        };
        if state.stopping || !wanted {
            return Ok(());
        }
        if let SupervisionEvent::ActorFailed(_, error) = &event {
            tracing::error!(kind = ?spec.kind, ?reason, error = fault_text(error.as_ref()), "child failed");
        } else {
            tracing::warn!(kind = ?spec.kind, ?reason, "child ended");
        }
        state.schedule(&myself, index)
    }
}

/// However a supervisor ends, its children end with it, and nobody is told of them.
impl Drop for SupervisorState {
    fn drop(&mut self) {
        for (spec, _) in self.children.iter().filter(|(_, cell)| cell.is_some()) {
            self.metrics.actor_exited(spec.kind, ExitReason::Killed);
        }
    }
}

impl SupervisorState {
    /// Decides about a restart and, if there is to be one, sends it to ourselves after the backoff.
    fn schedule(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        index: usize,
    ) -> Result<(), ActorProcessingErr> {
        match self.restarts.decide(&self.intensity, Instant::now()) {
            RestartDecision::RestartAfter(wait) => {
                // One short-lived timer per restart; restarts are bounded by the intensity.
                myself.send_after(wait, move || SupervisorMessage::Restart(index));
                Ok(())
            }
            RestartDecision::Escalate => {
                Err(Box::new(Fault { what: "the restart budget is spent", source: None }))
            }
        }
    }

    async fn restart(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        index: usize,
    ) -> Result<(), ActorProcessingErr> {
        if self.stopping {
            return Ok(());
        }
        let (spec, cell) = &mut self.children[index];
        match (spec.start)(myself.get_cell()).await {
            Ok(started) => {
                self.metrics.actor_restarted(spec.kind);
                *cell = Some(started);
                Ok(())
            }
            Err(error) => {
                tracing::error!(kind = ?spec.kind, %error, "child did not start");
                self.schedule(myself, index)
            }
        }
    }

    async fn stop_children(&mut self) {
        self.stopping = true;
        for (spec, cell) in self.children.iter_mut().rev() {
            let Some(cell) = cell.take() else { continue };
            // What was sent to it is still handled: cursors on their way to the store, sessions that have left (DRAIN).
            let stopped = cell.drain_and_wait(Some(CHILD_STOP_TIMEOUT)).await;
            let reason = if stopped.is_ok() { ExitReason::Stopped } else { ExitReason::Killed };
            if stopped.is_err() {
                tracing::warn!(kind = ?spec.kind, "child did not stop in time");
                cell.kill();
            }
            self.metrics.actor_exited(spec.kind, reason);
        }
    }
}
