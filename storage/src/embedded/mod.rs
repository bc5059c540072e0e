//! All ports on one fjall database in a data directory.
//!
//! | module | holds |
//! |---|---|
//! | `directory` | the directory's lock, making and format |
//! | `keyspaces` | the kinds of rows and the layout of their keys |
//! | `encoding` | keys and values as bytes |
//! | `writer` | the one thread that writes: queue, group commit, answers |
//! | `group` | what a group has written but not committed, with savepoints |
//! | `log_ends` | where each log ends, and the writer's cache of it |
//! | `snapshot` | reading at one moment |
//! | the rest | one file per port, named as the port |
//!
//! **Writes** are commands to the writer and are answered after the fsync (DURABLE). **Reads** go straight to
//! fjall. A look-up of a few rows takes single-digit microseconds from memtable or block cache, less than handing
//! it to another thread, so it is done in place; whatever walks over rows is handed to the workers. Readers see a
//! group only after its fsync: fjall makes a batch visible when its journal is persisted.

mod accounts;
mod agents;
mod conversations;
mod cursors;
mod dead_letters;
mod directory;
mod encoding;
mod group;
mod key_directory;
mod keyspaces;
mod log_ends;
mod logins;
mod message_log;
mod outbox;
mod snapshot;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;
use std::sync::Arc;

use fjall::{Database, PersistMode};

pub use directory::OpenError;

use accounts::EmbeddedAccounts;
use agents::EmbeddedAgents;
use conversations::EmbeddedConversations;
use cursors::EmbeddedCursors;
use dead_letters::{EmbeddedDeadLetters, GIVEN_UP, UNTOLD};
use directory::{DirectoryLock, open_database};
use group::Group;
use key_directory::EmbeddedKeyDirectory;
use keyspaces::Keyspaces;
use logins::EmbeddedLogins;
use message_log::EmbeddedMessageLog;
use outbox::EmbeddedOutbox;
use snapshot::Snapshot;
use writer::Writer;

use crate::ambient::Workers;
use crate::ports::{Store, StoreError, StoreResult};

/// How the store is to be opened.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddedOptions {
    /// Memory for blocks read from disk, bytes. Rows not yet flushed from memtables are in memory besides.
    pub block_cache_bytes: u64,
    /// Who writes, and who walks over rows.
    pub workers: Workers,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self { block_cache_bytes: 128 * 1024 * 1024, workers: Workers::default() }
    }
}

/// A store in a directory. It is open until the last [`Store`] made from it is dropped too.
pub struct EmbeddedStore(Arc<Engine>);

impl EmbeddedStore {
    /// Opens the store in directory `path`, and makes both if they are not there. Reads the journal back, so it
    /// blocks for as long as that takes.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if the directory is in use; the others if it cannot be read or written.
    pub fn open(path: &Path, options: &EmbeddedOptions) -> Result<Self, OpenError> {
        let lock = DirectoryLock::acquire(path)?;
        let (database, spaces) = open_database(path, options)?;
        let writer = Writer::start(Group::new(database.clone(), spaces.clone()), options.workers)?;
        let workers = options.workers;
        Ok(Self(Arc::new(Engine { writer, workers, spaces, database, _lock: lock })))
    }

    /// The ports of this store.
    #[must_use]
    pub fn store(&self) -> Store {
        let engine = || Arc::clone(&self.0);
        Store {
            log: Arc::new(EmbeddedMessageLog(engine())),
            conversations: Arc::new(EmbeddedConversations(engine())),
            cursors: Arc::new(EmbeddedCursors(engine())),
            accounts: Arc::new(EmbeddedAccounts(engine())),
            logins: Arc::new(EmbeddedLogins(engine())),
            keys: Arc::new(EmbeddedKeyDirectory(engine())),
            agents: Arc::new(EmbeddedAgents(engine())),
            dead_letters: Arc::new(EmbeddedDeadLetters(engine(), GIVEN_UP)),
            outbox: Arc::new(EmbeddedOutbox(engine())),
            untold: Arc::new(EmbeddedDeadLetters(engine(), UNTOLD)),
        }
    }

    /// Does the store take writes? Not once a commit has failed: then the process has to start again.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        !self.0.writer.has_failed()
    }

    /// Waits until a commit has failed, for ever if none does. From then on every write is refused: the process should
    /// end and be started again, which reads the journal back.
    pub async fn failed(&self) {
        self.0.writer.failed().await;
    }

    /// Commits what waits and refuses later writes. The directory is free for another process once every
    /// [`Store`] made from this is dropped too.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the journal cannot be flushed. Nothing that was answered is lost by it.
    pub async fn close(self) -> StoreResult<()> {
        let engine = self.0;
        let closing = engine.workers.run(move || {
            engine.writer.close();
            engine.database.persist(PersistMode::SyncAll).map_err(StoreError::unavailable)
        });
        closing.await.map_err(StoreError::unavailable)?
    }
}

/// What every adapter works on. Fields are dropped in order: first the writer, last the lock.
struct Engine {
    writer: Writer,
    workers: Workers,
    spaces: Keyspaces,
    database: Database,
    _lock: DirectoryLock,
}

impl Engine {
    /// Everything committed, as of now.
    fn snapshot(&self) -> Snapshot {
        Snapshot::new(&self.database, &self.spaces)
    }

    /// Runs a write in the next group; see [`Writer::run`].
    async fn write<T, F>(&self, work: F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Group) -> StoreResult<T> + Send + 'static,
    {
        self.writer.run(work).await
    }

    /// Runs a read that walks over rows, where it holds up nobody.
    async fn scan<T, F>(&self, work: F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: FnOnce(&Snapshot) -> StoreResult<T> + Send + 'static,
    {
        let snapshot = self.snapshot();
        self.workers.run(move || work(&snapshot)).await.map_err(StoreError::unavailable)?
    }
}
