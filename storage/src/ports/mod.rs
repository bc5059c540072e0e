//! One trait per kind of truth. The embedded store and MongoDB implement each; `crate::conformance` holds
//! them to the same behaviour.
//!
//! Every method is atomic and durable when it returns: in the embedded store after an fsync, in MongoDB after a
//! majority write. A method that returns [`StoreError`] may or may not have taken effect; every write is made so
//! that doing it again is safe.

pub mod accounts;
pub mod agents;
pub mod cache;
pub mod conversations;
pub mod cursors;
pub mod dead_letters;
pub mod key_directory;
pub mod live;
pub mod logins;
pub mod message_log;
pub mod outbox;
pub mod signals;

use std::sync::Arc;

pub use accounts::Accounts;
pub use agents::Agents;
pub use cache::Cache;
pub use conversations::Conversations;
pub use cursors::Cursors;
pub use dead_letters::DeadLetters;
pub use key_directory::KeyDirectory;
pub use live::LiveDirectory;
pub use logins::Logins;
pub use message_log::MessageLog;
pub use outbox::Outbox;

/// Every port of one store. The composition root hands each part of the program the ports it uses.
#[derive(Clone)]
pub struct Store {
    /// Messages and their order.
    pub log: Arc<dyn MessageLog>,
    /// Who talks with whom.
    pub conversations: Arc<dyn Conversations>,
    /// How far everybody has come.
    pub cursors: Arc<dyn Cursors>,
    /// Users.
    pub accounts: Arc<dyn Accounts>,
    /// Log-ins.
    pub logins: Arc<dyn Logins>,
    /// Devices and their public keys.
    pub keys: Arc<dyn KeyDirectory>,
    /// Users who are programs.
    pub agents: Arc<dyn Agents>,
    /// What they did not take.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// How far messages have been told.
    pub outbox: Arc<dyn Outbox>,
    /// Messages that whoever is told of all of them did not take.
    pub untold: Arc<dyn DeadLetters>,
}

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The store does not answer, or answers with an error of its own.
    #[error("the store is unavailable: {0}")]
    Unavailable(Arc<dyn std::error::Error + Send + Sync>),
    /// The store's queue of writes is full (BOUND).
    #[error("the store is busy")]
    Busy,
    /// A record cannot be read back.
    #[error("a stored record is unreadable: {0}")]
    Corrupt(Arc<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// Wraps an adapter's own error.
    pub fn unavailable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(Arc::from(source.into()))
    }

    /// Wraps a decoding error.
    pub fn corrupt(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Corrupt(Arc::from(source.into()))
    }
}

/// What every port answers with.
pub type StoreResult<T> = Result<T, StoreError>;
