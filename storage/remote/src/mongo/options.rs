//! Where the database is, and how long things are kept.

use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How a database is to be used. `Debug` does not show the address: there may be a password in it (PRIVATE).
#[derive(Clone)]
pub struct MongoOptions {
    /// `mongodb://` or `mongodb+srv://`, of a replica set or a sharded cluster.
    pub uri: String,
    /// The database's name.
    pub database: String,
    /// Connections to each server, at most (BOUND).
    pub pool_max: u32,
    /// How long an operation waits for a primary, and therefore how fast it fails while there is none.
    pub server_selection_timeout: Duration,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// Messages older than this are deleted, by the index that `migrate` makes.
    pub keep_messages: Duration,
    /// Idempotency keys of requests that make no message are deleted when they are older than this. Used by `migrate`
    /// alone.
    pub keep_idempotency_keys: Duration,
}

impl MongoOptions {
    /// What is usual, for a database.
    #[must_use]
    pub fn new(uri: impl Into<String>, database: impl Into<String>) -> Self {
        Self {
            uri: uri.into(),
            database: database.into(),
            pool_max: 64,
            server_selection_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(2),
            keep_messages: 90 * DAY,
            keep_idempotency_keys: DAY,
        }
    }
}

impl std::fmt::Debug for MongoOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MongoOptions")
            .field("database", &self.database)
            .field("pool_max", &self.pool_max)
            .field("server_selection_timeout", &self.server_selection_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("keep_messages", &self.keep_messages)
            .field("keep_idempotency_keys", &self.keep_idempotency_keys)
            .finish_non_exhaustive()
    }
}
