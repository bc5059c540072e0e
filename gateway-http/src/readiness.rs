//! Whether traffic should come here. Shared by whoever starts and stops the process and by `/readyz`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Where a process is in its life. It only moves down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not everything it needs is there yet.
    Starting,
    /// It serves.
    Ready,
    /// It serves what it has, and takes nothing new (DRAIN).
    Draining,
}

/// The process's phase. Clones show the same one.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicU8>);

impl Readiness {
    /// Starting.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves on to `phase`; never back, so a late `Ready` cannot undo `Draining`.
    pub fn advance(&self, phase: Phase) {
        self.0.fetch_max(phase as u8, Ordering::SeqCst);
    }

    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::SeqCst) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_drains_never_becomes_ready_again() {
        let readiness = Readiness::new();
        assert_eq!(readiness.phase(), Phase::Starting);
        let shared = readiness.clone();
        readiness.advance(Phase::Ready);
        shared.advance(Phase::Draining);
        readiness.advance(Phase::Ready);
        assert_eq!((readiness.phase(), shared.phase()), (Phase::Draining, Phase::Draining));
    }
}
