//! The only place in the client that reads the clock or draws randomness. Pure parts take both as arguments.

use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::IdempotencyKey;
use rand::Rng;

/// Milliseconds since the Unix epoch; 0 on a machine whose clock stands before it.
pub(crate) fn now() -> UnixMillis {
    #[allow(clippy::disallowed_methods, reason = "the client's shell runs on the machine's own clock")]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
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

/// A key no other message of this user has.
pub(crate) fn idempotency_key() -> IdempotencyKey {
    IdempotencyKey::new(request_id()).expect("a uuid from random bytes is of version 4")
}
