//! The living children of one parent, as they are counted.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use ractor::{ActorCell, SupervisionEvent};

use super::exit::{ExitReason, exit_reason, fault_text};
use super::kind::ActorKind;
use crate::metrics::Metrics;

/// Children told to stop at the same time.
const STOPPED_AT_ONCE: usize = 256;
/// How long one of many children may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Counts the children of one kind under a parent that starts and loses many. ractor tells a parent of each start and each
/// exit; when the parent itself dies, it tells nobody, and kills them: dropped with the parent, this counts those as killed.
#[derive(Debug)]
pub struct Children {
    kind: ActorKind,
    metrics: Arc<Metrics>,
    living: u64,
}

impl Children {
    /// None yet.
    #[must_use]
    pub fn new(kind: ActorKind, metrics: Arc<Metrics>) -> Self {
        Self { kind, metrics, living: 0 }
    }

    /// Where they are counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Counts what an event tells of a child; the reason, if it is an exit.
    pub fn observe(&mut self, event: &SupervisionEvent) -> Option<ExitReason> {
        if matches!(event, SupervisionEvent::ActorStarted(_)) {
            self.living += 1;
            self.metrics.actor_started(self.kind);
        }
        let reason = exit_reason(event)?;
        if let SupervisionEvent::ActorFailed(_, error) = event {
            let error = fault_text(error.as_ref());
            tracing::warn!(kind = ?self.kind, ?reason, error, "an actor ended by a fault");
        }
        self.lost(reason);
        Some(reason)
    }

    /// Stops every child of `parent`, many at a time, and waits until they are gone.
    pub async fn stop(&mut self, parent: &ActorCell) {
        let stopping = stream::iter(parent.get_children()).map(|child| async move {
            let reason = ExitReason::Stopped.as_stop_reason();
            let stopped = child.stop_and_wait(reason, Some(STOP_TIMEOUT)).await;
            if stopped.is_ok() { ExitReason::Stopped } else { ExitReason::Killed }
        });
        let mut stopping = stopping.buffer_unordered(STOPPED_AT_ONCE);
        while let Some(reason) = stopping.next().await {
            self.lost(reason);
        }
    }

    fn lost(&mut self, reason: ExitReason) {
        // A child of which no start was heard, because the parent had begun to stop, was never counted as living.
        if self.living > 0 {
            self.living -= 1;
            self.metrics.actor_exited(self.kind, reason);
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        while self.living > 0 {
            self.lost(ExitReason::Killed);
        }
    }
}
