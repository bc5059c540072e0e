//! The store that is configured: embedded, or MongoDB.

use std::path::Path;

use colloquy_storage::embedded::{EmbeddedOptions, EmbeddedStore, OpenError};
use colloquy_storage::ports::{Store, StoreResult};
use colloquy_storage_remote::mongo::{self, Migration, MongoStore};

use crate::config::Config;
use crate::config::store::Backend;

/// The folder in the data directory that holds the embedded store.
const STORE_FOLDER: &str = "store";

/// A store that is open.
pub enum OpenStore {
    /// In the data directory.
    Embedded(EmbeddedStore),
    /// MongoDB.
    Mongo(MongoStore),
}

impl OpenStore {
    /// Opens the embedded store in `data_dir`. Blocks while the journal is read back.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn embedded(data_dir: &Path) -> Result<Self, OpenError> {
        EmbeddedStore::open(&data_dir.join(STORE_FOLDER), &EmbeddedOptions::default()).map(Self::Embedded)
    }

    /// Connects to the database that is configured.
    ///
    /// # Errors
    /// [`mongo::OpenError`]: it does not answer, or was never migrated.
    pub async fn mongo(config: &Config) -> Result<Self, mongo::OpenError> {
        MongoStore::open(&config.store.mongo_options()).await.map(Self::Mongo)
    }

    /// The ports of this store.
    #[must_use]
    pub fn ports(&self) -> Store {
        match self {
            Self::Embedded(store) => store.store(),
            Self::Mongo(store) => store.store(),
        }
    }

    /// Waits until the store will take no more writes, for ever if that does not happen. A database that is away may
    /// come back, so it has not failed.
    pub async fn failed(&self) {
        match self {
            Self::Embedded(store) => store.failed().await,
            Self::Mongo(_) => std::future::pending().await,
        }
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// If it cannot be written. Nothing that was answered is lost by it.
    pub async fn close(self) -> StoreResult<()> {
        match self {
            Self::Embedded(store) => store.close().await,
            Self::Mongo(store) => store.close().await,
        }
    }
}

/// Why a database was not migrated.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The embedded store needs none.
    #[error(
        "nothing to migrate: store.backend is \"embedded\"; migrations are for store.backend = \"mongodb\""
    )]
    Embedded,
    /// The database does not do what it is asked.
    #[error(transparent)]
    Mongo(#[from] mongo::OpenError),
}

/// Makes the collections and indexes that are missing from the database that is configured. May be run again, and by
/// several at once; what was made stays if it ends early.
///
/// # Errors
/// [`MigrateError`].
pub async fn migrate(config: &Config) -> Result<Migration, MigrateError> {
    match config.store.backend {
        Backend::Embedded => Err(MigrateError::Embedded),
        Backend::Mongodb => Ok(mongo::migrate(&config.store.mongo_options()).await?),
    }
}
