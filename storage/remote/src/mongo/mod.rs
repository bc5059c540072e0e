//! Every port on a MongoDB replica set.
//!
//! | module | holds |
//! |---|---|
//! | `options` | where the database is, and how long things are kept |
//! | `engine` | the client: how an operation is run, repeated and given up |
//! | `error` | the driver's errors without what stands in them (PRIVATE) |
//! | `migrate` | collections' indexes, made by `colloquy admin migrate`, and looked for by every server |
//! | `index` | what an index has to be (pure) |
//! | `planned` | collections of features that are still to come |
//! | `row` | a document's fields |
//! | `message_row` | a message as a document |
//! | `placing` | one append on its way into the log (pure) |
//! | `refusal` | why a message is refused, found out of many at once |
//! | `log_ends` | where each log ends: hints, written lazily, and the search beyond them |
//! | `one_time_keys` | the one-time keys of the key directory |
//! | the rest | one file per port, named as the port |
//!
//! **Writes** are majority writes and journaled, **reads** majority reads from the primary (DURABLE). No write needs a
//! transaction: each changes one document under a condition, or adds documents whose unique indexes decide (ONCE, FENCE),
//! so that doing it again is safe.

mod accounts;
mod agents;
mod conversations;
mod cursors;
mod dead_letters;
mod engine;
mod error;
mod index;
mod key_directory;
mod log_ends;
mod logins;
mod message_log;
mod message_row;
mod migrate;
mod one_time_keys;
mod options;
mod outbox;
mod placing;
mod planned;
mod refusal;
mod row;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use colloquy_storage::ports::{Store, StoreError};

pub use error::MongoFailure;
pub use index::Flaw;
pub use migrate::{Migration, migrate};
pub use options::MongoOptions;

use accounts::MongoAccounts;
use agents::MongoAgents;
use conversations::MongoConversations;
use cursors::MongoCursors;
use dead_letters::{GIVEN_UP, MongoDeadLetters, UNTOLD};
use engine::Engine;
use key_directory::MongoKeyDirectory;
use logins::MongoLogins;
use message_log::MongoMessageLog;
use outbox::MongoOutbox;

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address is not one of MongoDB. It is not shown: there may be a password in it (PRIVATE).
    #[error("not a mongodb address")]
    Address,
    /// Its indexes are missing, and with them everything that rests on them (ONCE, FENCE).
    #[error("the database {database:?} has not been migrated: run `colloquy admin migrate`")]
    NotMigrated {
        /// The database's name.
        database: String,
    },
    /// One of them has gone since.
    #[error("the index {name} of the collection {collection} is missing: run `colloquy admin migrate`")]
    MissingIndex {
        /// Where it should be.
        collection: &'static str,
        /// The index's name.
        name: String,
    },
    /// One of them is not what it has to be. A migration drops nothing, so somebody has to.
    #[error(
        "the index {name} of the collection {collection} {flaw}: \
         drop it, with `db.{collection}.dropIndex(\"{name}\")`, and run `colloquy admin migrate`"
    )]
    WrongIndex {
        /// Where it is.
        collection: &'static str,
        /// The index's name.
        name: String,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// It does not answer, its name cannot be resolved, or what TLS needs is not there.
    #[error("mongodb cannot be used: {0}")]
    Unavailable(#[from] StoreError),
}

/// A database that is open until this and the last [`Store`] made from it are dropped.
pub struct MongoStore(Arc<Engine>);

impl MongoStore {
    /// Connects to a database that [`migrate`] has prepared. Takes at most as long as one operation may.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(options: &MongoOptions) -> Result<Self, OpenError> {
        let engine = Arc::new(Engine::connect(options).await?);
        migrate::require_migrated(&engine, options).await?;
        log_ends::start_writing(&engine);
        Ok(Self(engine))
    }

    /// The ports of this store.
    #[must_use]
    pub fn store(&self) -> Store {
        let engine = || Arc::clone(&self.0);
        Store {
            log: Arc::new(MongoMessageLog(engine())),
            conversations: Arc::new(MongoConversations(engine())),
            cursors: Arc::new(MongoCursors(engine())),
            accounts: Arc::new(MongoAccounts(engine())),
            logins: Arc::new(MongoLogins(engine())),
            keys: Arc::new(MongoKeyDirectory(engine())),
            agents: Arc::new(MongoAgents(engine())),
            dead_letters: Arc::new(MongoDeadLetters { engine: engine(), collection: GIVEN_UP }),
            outbox: Arc::new(MongoOutbox(engine())),
            untold: Arc::new(MongoDeadLetters { engine: engine(), collection: UNTOLD }),
        }
    }

    /// Does the database answer?
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.0.ping().await
    }

    /// Writes what is written lazily.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it cannot be written. Nothing that was answered is lost by it.
    pub async fn close(self) -> Result<(), StoreError> {
        self.0.log_ends.flush(&self.0).await
    }
}
