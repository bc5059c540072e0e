//! The world's time: one for all hosts, moved by the schedule alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How long the world has existed. Clones show the same time.
#[derive(Clone, Debug)]
pub(crate) struct WorldTime {
    micros: Arc<AtomicU64>,
    /// For parts that reckon in instants. Which one it is does not matter: only differences are looked at.
    beginning: Instant,
}

impl WorldTime {
    /// The beginning.
    pub(crate) fn new() -> Self {
        Self { micros: Arc::default(), beginning: Instant::now() }
    }

    /// Since the beginning.
    pub(crate) fn now(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }

    /// The same as an instant.
    pub(crate) fn instant(&self) -> Instant {
        self.beginning + self.now()
    }

    /// Moves on to `now`.
    pub(super) fn set(&self, now: Duration) {
        self.micros.store(u64::try_from(now.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
