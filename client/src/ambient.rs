//! The only place in the client that reads the clock, draws randomness or goes to another thread. Pure parts take time and
//! randomness as arguments.

use std::fmt;
use std::sync::Arc;

use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{IdempotencyKey, StreamId};
use rand::Rng;
use tokio::task::{JoinError, spawn_blocking};

/// What time it is.
#[derive(Clone)]
pub enum Clock {
    /// As the machine says.
    System,
    /// As a simulation says.
    Simulated(Arc<dyn Fn() -> UnixMillis + Send + Sync>),
}

impl Clock {
    /// Milliseconds since the Unix epoch; 0 on a machine whose clock stands before it.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        match self {
            Self::System => {
                #[allow(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
                let now = std::time::SystemTime::now();
                now.duration_since(std::time::UNIX_EPOCH)
                    .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            }
            Self::Simulated(now) => now(),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Self::System) { "System" } else { "Simulated" })
    }
}

/// Where work that waits for the disk is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// On tokio's threads for it.
    Threads,
    /// At once, where it is asked for. When a thread is done depends on the machine; a simulation must not.
    InPlace,
}

impl Workers {
    /// Does the work.
    ///
    /// # Errors
    /// It panicked on its thread, or the runtime is going down.
    pub(crate) async fn run<T, F>(self, work: F) -> Result<T, JoinError>
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

/// Fills `bytes` from the operating system's seeded generator.
pub(crate) fn fill(bytes: &mut [u8]) {
    rand::rng().fill_bytes(bytes);
}

/// A number below `bound`, or 0 where `bound` is 0.
pub(crate) fn below(bound: u64) -> u64 {
    // The bias of a remainder is far below what jitter could notice.
    if bound == 0 { 0 } else { rand::rng().next_u64() % bound }
}

/// A name for a request that nobody else has, and nobody can guess.
pub(crate) fn request_id() -> uuid::Uuid {
    let mut bytes = [0; 16];
    fill(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

/// A name for a try at an answer: of two, the one begun later is greater.
pub(crate) fn stream_id(now: UnixMillis) -> StreamId {
    let mut bytes = [0; 10];
    fill(&mut bytes);
    StreamId(uuid::Builder::from_unix_timestamp_millis(now, &bytes).into_uuid())
}

/// A key no other message of this user has.
pub(crate) fn idempotency_key() -> IdempotencyKey {
    IdempotencyKey::new(request_id()).expect("a uuid from random bytes is of version 4")
}
