//! The clock, the source of randomness, and where work that blocks is done. All are handed in, so a simulation can own
//! them.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use colloquy_protocol::UnixMillis;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::Instant;
use uuid::Uuid;

/// What time it is.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The machine's wall clock.
    System,
    /// Starts at a given time and advances with tokio's clock, which tests and simulations pause.
    Virtual {
        /// The wall-clock time at `started`.
        start: UnixMillis,
        /// When the clock was made.
        started: Instant,
        /// By how many milliseconds somebody has set it forward since, or back.
        set: Option<&'static AtomicI64>,
    },
}

impl Clock {
    /// A clock that shows `start` now and advances with tokio's time.
    #[must_use]
    pub fn starting_at(start: UnixMillis) -> Self {
        Self::Virtual { start, started: Instant::now(), set: None }
    }

    /// As [`starting_at`](Self::starting_at), and whoever holds `set` can set it, ms forward or back.
    #[must_use]
    pub fn that_can_be_set(start: UnixMillis, set: &'static AtomicI64) -> Self {
        Self::Virtual { start, started: Instant::now(), set: Some(set) }
    }

    /// The wall-clock time.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        match self {
            #[allow(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
            Self::System => millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            Self::Virtual { start, started, set } => {
                let set = set.map_or(0, |set| set.load(Ordering::Relaxed));
                (start + millis(started.elapsed())).saturating_add_signed(set)
            }
        }
    }
}

fn millis(duration: Duration) -> UnixMillis {
    UnixMillis::try_from(duration.as_millis()).unwrap_or(UnixMillis::MAX)
}

/// Where identifiers, jitter and nonces come from: the operating system's generator, or a seed.
#[derive(Clone, Debug)]
pub struct Entropy(Arc<Mutex<StdRng>>);

impl Entropy {
    /// Seeded by the operating system.
    #[must_use]
    pub fn from_os() -> Self {
        Self(Arc::new(Mutex::new(rand::make_rng())))
    }

    /// The same seed draws the same values.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// A generator of its own for a part that draws often, so that it need not share this one's lock.
    #[must_use]
    pub fn fork(&self) -> StdRng {
        self.with(StdRng::from_rng)
    }

    /// Fills `bytes`.
    pub fn fill(&self, bytes: &mut [u8]) {
        self.with(|rng| rng.fill_bytes(bytes));
    }

    /// A UUID of version 7 (RFC 9562, section 5.7) for `now`.
    #[must_use]
    pub fn uuid_v7(&self, now: UnixMillis) -> Uuid {
        self.with(|rng| uuid_v7(rng, now))
    }

    fn with<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Where work that blocks is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Workers {
    /// On tokio's threads for it.
    #[default]
    Threads,
    /// At once, where it is asked for. When a thread is done depends on the machine; a simulation must not.
    InPlace,
}

impl Workers {
    /// Does the work.
    ///
    /// # Errors
    /// It panicked on its thread, or the runtime is going down.
    pub async fn run<T, F>(self, work: F) -> Result<T, JoinError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        match self {
            Self::Threads => spawn_blocking(work).await,
            Self::InPlace => Ok(work()),
        }
    }
}

/// A UUID of version 7 for `now`, drawn from `rng`.
#[must_use]
pub fn uuid_v7(rng: &mut StdRng, now: UnixMillis) -> Uuid {
    let mut random = [0_u8; 10];
    rng.fill_bytes(&mut random);
    uuid::Builder::from_unix_timestamp_millis(now, &random).into_uuid()
}
