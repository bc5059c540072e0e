//! Where clients are to go when the node is going away, and when each of them (DRAIN).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use colloquy_storage::ambient::Entropy;
use rand::RngExt;

/// Begins once and is never taken back. Shared by all sessions, so that one that opens meanwhile is told as well.
#[derive(Clone, Debug)]
pub struct Drain {
    entropy: Entropy,
    begun: Arc<OnceLock<(Arc<str>, Duration)>>,
}

impl Drain {
    /// Not yet begun.
    #[must_use]
    pub fn new(entropy: Entropy) -> Self {
        Self { entropy, begun: Arc::default() }
    }

    /// From now on clients go to `new_endpoint`, spread over `spread`.
    pub fn begin(&self, new_endpoint: &str, spread: Duration) {
        // The first time counts.
        let _ = self.begun.set((new_endpoint.into(), spread));
    }

    /// Has it begun?
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.begun.get().is_some()
    }

    /// Where one client is to go, and after how long; `None` before it has begun.
    #[must_use]
    pub fn slot(&self) -> Option<(Arc<str>, Duration)> {
        let (new_endpoint, spread) = self.begun.get()?;
        Some((Arc::clone(new_endpoint), spread.mul_f64(self.entropy.fork().random())))
    }
}
