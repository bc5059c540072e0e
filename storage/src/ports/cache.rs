//! What is kept for a while so that it need not be found out again.
//!
//! Nothing here is truth: any value may be gone at any time, and one that was forgotten may be seen again until its time
//! is up (a Redis that fails over may not have passed on the last it was told). So nobody's rights rest on it (AUTHZ),
//! and who cannot reach it goes on as if nothing had been kept.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use colloquy_protocol::ids::UserId;

use super::StoreResult;

/// How long what is known of an agent is kept.
pub const AGENT_TTL: Duration = Duration::from_secs(5 * 60);
/// How long it is kept what a message was found to want.
pub const INTENT_TTL: Duration = Duration::from_secs(60 * 60);
/// How long what is known of a user's session is kept.
pub const SESSION_TTL: Duration = Duration::from_secs(60 * 60);
/// Bytes of one value (BOUND).
pub const CACHED_MAX_BYTES: usize = 64 * 1024;

/// What a message to an agent is known by: 32 bytes of a hash, written in hexadecimal. Short messages can be guessed from
/// a plain hash, so it is one under a secret of the installation (HMAC-SHA-256), and `Debug` does not show it (PRIVATE).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageHash(pub [u8; 32]);

impl fmt::Display for MessageHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for MessageHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MessageHash(..)")
    }
}

/// What a value is kept under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CacheKey {
    /// What is known of an agent; agents are users.
    Agent(UserId),
    /// What a message was found to want.
    Intent(MessageHash),
    /// What is known of a user's session.
    Session(UserId),
}

impl CacheKey {
    /// How long a value of this kind is kept after it was put.
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        match self {
            Self::Agent(_) => AGENT_TTL,
            Self::Intent(_) => INTENT_TTL,
            Self::Session(_) => SESSION_TTL,
        }
    }
}

/// Values that end by themselves. Every method fails fast while the service is away, with
/// [`Unavailable`](super::StoreError::Unavailable).
#[async_trait]
pub trait Cache: Send + Sync + 'static {
    /// What was last put under this key; `None` if nothing was, its time is up, or it had to make room.
    async fn get(&self, key: &CacheKey) -> StoreResult<Option<Bytes>>;

    /// Keeps a value for the [time of its kind](CacheKey::ttl), in place of the one before it. A value of more than
    /// [`CACHED_MAX_BYTES`] is not kept, and the one before it neither: as if it were gone already.
    async fn put(&self, key: &CacheKey, value: Bytes) -> StoreResult<()>;

    /// Nothing is kept under this key any more.
    async fn forget(&self, key: &CacheKey) -> StoreResult<()>;
}
