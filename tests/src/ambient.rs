//! The wall clock and randomness of the tests: a black-box test meets a real server on real time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::IdempotencyKey;
use uuid::Uuid;

/// What time it is.
#[must_use]
pub fn now() -> UnixMillis {
    #[allow(clippy::disallowed_methods, reason = "the server under test runs on real time")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    UnixMillis::try_from(since.as_millis()).unwrap_or(UnixMillis::MAX)
}

/// A UUID nobody has drawn before.
#[must_use]
pub fn fresh_uuid() -> Uuid {
    #[allow(clippy::disallowed_methods, reason = "names must differ between runs over one data directory")]
    Uuid::new_v4()
}

/// A key for a new message.
#[must_use]
pub fn fresh_key() -> IdempotencyKey {
    IdempotencyKey::new(fresh_uuid()).expect("fresh_uuid draws version 4")
}

/// The seed of a test that draws at random: `COLLOQUY_TEST_SEED`, or a new one. The test prints it.
#[must_use]
pub fn seed() -> u64 {
    std::env::var("COLLOQUY_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random)
}

/// A count that a quick run may lower through the environment.
#[must_use]
pub fn count_from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
