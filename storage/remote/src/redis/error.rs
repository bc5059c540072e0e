//! The library's errors without what stands in them: a server's text may hold a key or a value (PRIVATE).

use colloquy_storage::ports::StoreError;
use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why Redis did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisFailure {
    /// There is no connection at the moment.
    #[error("redis is away")]
    Away,
    /// Its answer did not come in time.
    #[error("redis did not answer in time")]
    NoAnswer,
    /// It answered with an error, or the connection broke.
    #[error("redis: {what}, code {code}")]
    Failed {
        /// The kind of error, in the library's words.
        what: String,
        /// The server's code; empty for what is not an answer of a server.
        code: String,
    },
    /// It answered something else than it was asked.
    #[error("redis gave an answer that makes no sense")]
    Nonsense,
}

impl From<&RedisError> for RedisFailure {
    fn from(error: &RedisError) -> Self {
        let code = error.code().unwrap_or_default().to_owned();
        Self::Failed { what: error.category().to_owned(), code }
    }
}

impl From<RedisFailure> for StoreError {
    fn from(failure: RedisFailure) -> Self {
        Self::unavailable(failure)
    }
}

/// Has the connection to be made again? Also when the server at its other end is no primary any more.
pub(super) fn is_lost(error: &RedisError) -> bool {
    error.is_unrecoverable_error() || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

/// Has the server forgotten a script, or never heard of it?
pub(super) fn is_no_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}
