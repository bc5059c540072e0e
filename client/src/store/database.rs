//! The database and its transactions.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::master_key::{Header, MasterKey, Unlock};
use super::sealer::Sealer;
use super::table::RecordKey;
use crate::ambient::Workers;

/// Memory for blocks read from disk, bytes.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// Memory for writes not yet in a table file, bytes.
const MEMTABLE_BYTES: u64 = 4 * 1024 * 1024;
/// Journal on disk before tables are flushed, bytes; fjall takes no less.
const JOURNAL_BYTES: u64 = 64 * 1024 * 1024;
const HEADER_KEY: &[u8] = b"header";

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The passphrase or key file is not the one this store was made with.
    #[error("the passphrase or key file is not the one this store was made with")]
    WrongKey,
    /// The store was made with a passphrase, and a key file was given.
    #[error("this store is unlocked by a passphrase")]
    NeedsPassphrase,
    /// The store was made with a key file, and a passphrase was given.
    #[error("this store is unlocked by a key file")]
    NeedsKeyFile,
    /// Others than its owner may read the key file.
    #[error("the key file can be read by others: set its mode to 0600")]
    KeyFileExposed,
    /// Another process has the store open.
    #[error("another process is using this store")]
    InUse,
    /// Something in the store is not what was written.
    #[error("the store is damaged: {0}")]
    Damaged(&'static str),
    /// The outbox holds as many messages as it may ([`super::outbox::OUTBOX_MAX`]).
    #[error("too many messages are waiting to be sent")]
    OutboxFull,
    /// As many turns are open as may be ([`super::turns::OPEN_TURNS_MAX`]).
    #[error("too many turns wait for an answer")]
    TooManyTurns,
    /// The disk or the database failed.
    #[error("the database failed")]
    Database(#[source] Box<fjall::Error>),
    /// A file could not be read or written.
    #[error("a file of the store could not be read or written")]
    File(#[from] std::io::Error),
    /// The background task that was writing was stopped.
    #[error("writing was interrupted")]
    Interrupted,
}

impl From<fjall::Error> for StoreError {
    fn from(error: fjall::Error) -> Self {
        match error {
            fjall::Error::Locked => Self::InUse,
            error => Self::Database(Box::new(error)),
        }
    }
}

/// The device's own database. Clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    records: Keyspace,
    sealer: Sealer,
    workers: Workers,
    writer: Mutex<()>,
    #[cfg(feature = "mutations")]
    unsynced: super::power::Unsynced,
}

impl Store {
    /// Opens the store in `folder`, or makes one; `workers` say where it writes later. Blocks: argon2 takes a noticeable fraction of a second.
    ///
    /// # Errors
    /// [`StoreError::WrongKey`], [`StoreError::InUse`] and the other causes by name.
    pub fn open(folder: &Path, unlock: &Unlock, workers: Workers) -> Result<Self, StoreError> {
        std::fs::create_dir_all(folder)?;
        let database = Database::builder(folder)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(1)
            .open()?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let headers = database.keyspace("header", options)?;
        let records = database.keyspace("records", options)?;
        let master = match headers.get(HEADER_KEY)? {
            Some(bytes) => {
                let header: Header =
                    rmp_serde::from_slice(&bytes).map_err(|_| StoreError::Damaged("the header"))?;
                MasterKey::unlock(unlock, &header)?
            }
            None => {
                let (master, header) = MasterKey::create(unlock)?;
                headers.insert(HEADER_KEY, encode(&header).to_vec())?;
                database.persist(PersistMode::SyncAll)?;
                master
            }
        };
        let sealer = Sealer::new(&master);
        let inner = Inner {
            database,
            records,
            sealer,
            workers,
            writer: Mutex::new(()),
            #[cfg(feature = "mutations")]
            unsynced: Default::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Runs `work` on a snapshot.
    ///
    /// # Errors
    /// What `work` returns.
    pub fn read<T, E>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, E>) -> Result<T, E> {
        work(&self.transaction())
    }

    /// Runs `work`, then writes everything it staged as one batch, on disk before this returns. Nothing is
    /// written if `work` fails. One update runs at a time. Blocks for an fsync.
    ///
    /// # Errors
    /// What `work` returns, or the database's own failure.
    pub fn update<T, E: From<StoreError>>(
        &self,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.write(PersistMode::SyncAll, work)
    }

    fn write<T, E: From<StoreError>>(
        &self,
        mode: PersistMode,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        // A panic in an earlier update left nothing half-written: its batch was never committed.
        let _writer = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut transaction = self.transaction();
        let outcome = work(&mut transaction)?;
        let staged = std::mem::take(&mut transaction.staged);
        drop(transaction);
        if !staged.is_empty() {
            self.commit(staged, mode).map_err(E::from)?;
        }
        Ok(outcome)
    }

    /// [`Store::update`] where blocking is allowed.
    ///
    /// # Errors
    /// As [`Store::update`]; [`StoreError::Interrupted`] if the runtime is going down.
    pub async fn update_off_thread<T, E>(
        &self,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.write_off_thread(PersistMode::SyncAll, work).await
    }

    /// [`Store::update_off_thread`] without its fsync: what is written survives the end of the process, and a power
    /// cut only once a later update is on disk. Nothing written later is ever there without it. For what the server
    /// tells again, and for nothing else.
    ///
    /// # Errors
    /// As [`Store::update_off_thread`].
    pub async fn update_without_sync<T, E>(
        &self,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.write_off_thread(PersistMode::Buffer, work).await
    }

    async fn write_off_thread<T, E>(
        &self,
        mode: PersistMode,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let store = self.clone();
        match self.inner.workers.run(move || store.write(mode, work)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(StoreError::Interrupted.into()),
        }
    }

    /// What was written since the last sync is gone, as after a power cut. Returns how many updates that were.
    ///
    /// # Errors
    /// The database's own failure.
    #[cfg(feature = "mutations")]
    pub fn lose_unsynced(&self) -> Result<usize, StoreError> {
        let _writer = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut undone = 0;
        for before in self.inner.unsynced.take() {
            self.commit(before, PersistMode::SyncAll)?;
            undone += 1;
        }
        Ok(undone)
    }

    fn transaction(&self) -> Transaction<'_> {
        Transaction { store: &self.inner, snapshot: self.inner.database.snapshot(), staged: BTreeMap::new() }
    }

    fn commit(
        &self,
        staged: BTreeMap<RecordKey, Option<Vec<u8>>>,
        mode: PersistMode,
    ) -> Result<(), StoreError> {
        let inner = &self.inner;
        #[cfg(feature = "mutations")]
        inner.unsynced.note(&inner.records, staged.keys(), mode)?;
        let mut batch = inner.database.batch().durability(Some(mode));
        for (key, value) in staged {
            match value {
                Some(value) => batch.insert(&inner.records, key.0, value),
                None => batch.remove(&inner.records, key.0),
            }
        }
        Ok(batch.commit()?)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store(..)")
    }
}

/// Which end of a run a scan starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Forward,
    Backward,
}

/// A consistent view of the store, and the writes staged on top of it.
pub struct Transaction<'a> {
    store: &'a Inner,
    snapshot: Snapshot,
    /// Sealed values to write; `None` removes.
    staged: BTreeMap<RecordKey, Option<Vec<u8>>>,
}

impl Transaction<'_> {
    pub(super) fn sealer(&self) -> &Sealer {
        &self.store.sealer
    }

    pub(super) fn get<T: DeserializeOwned>(&self, key: &RecordKey) -> Result<Option<T>, StoreError> {
        let sealed = match self.staged.get(key) {
            Some(staged) => staged.clone(),
            None => self.snapshot.get(&self.store.records, &key.0)?.map(|value| value.to_vec()),
        };
        sealed.map(|sealed| self.decode(key, &sealed)).transpose()
    }

    pub(super) fn contains(&self, key: &RecordKey) -> Result<bool, StoreError> {
        match self.staged.get(key) {
            Some(staged) => Ok(staged.is_some()),
            None => Ok(self.snapshot.contains_key(&self.store.records, &key.0)?),
        }
    }

    pub(super) fn put<T: Serialize>(&mut self, key: RecordKey, value: &T) {
        let sealed = self.store.sealer.seal(&key.0, &encode(value));
        self.staged.insert(key, Some(sealed));
    }

    pub(super) fn remove(&mut self, key: RecordKey) {
        self.staged.insert(key, None);
    }

    /// At most `limit` records whose keys begin with `prefix` and lie in `range`, from the end `direction` says.
    pub(super) fn scan<T: DeserializeOwned>(
        &self,
        prefix: &RecordKey,
        range: (Bound<RecordKey>, Bound<RecordKey>),
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<T>, StoreError> {
        let staged: BTreeMap<&RecordKey, &Option<Vec<u8>>> = self
            .staged
            .iter()
            .filter(|(key, _)| key.0.starts_with(&prefix.0) && range_contains(&range, key))
            .collect();
        let mut found: BTreeMap<RecordKey, Vec<u8>> = BTreeMap::new();
        let bounds = (bytes(&range.0), bytes(&range.1));
        let stored = self.snapshot.range::<Vec<u8>, _>(&self.store.records, bounds);
        let mut take = |guard: fjall::Guard| -> Result<bool, StoreError> {
            let (key, value) = guard.into_inner()?;
            if !key.starts_with(&prefix.0) {
                return Ok(false);
            }
            let key = RecordKey(key.to_vec());
            if !staged.contains_key(&key) {
                found.insert(key, value.to_vec());
            }
            Ok(found.len() < limit)
        };
        match direction {
            Direction::Forward => {
                for guard in stored {
                    if !take(guard)? {
                        break;
                    }
                }
            }
            Direction::Backward => {
                for guard in stored.rev() {
                    if !take(guard)? {
                        break;
                    }
                }
            }
        }
        for (key, value) in staged {
            if let Some(value) = value {
                found.insert(key.clone(), value.clone());
            }
        }
        let decode = |(key, sealed): (&RecordKey, &Vec<u8>)| self.decode(key, sealed);
        match direction {
            Direction::Forward => found.iter().take(limit).map(decode).collect(),
            Direction::Backward => found.iter().rev().take(limit).map(decode).collect(),
        }
    }

    /// At most `limit` records whose keys begin with `prefix`, in the order of their keys.
    pub(super) fn scan_all<T: DeserializeOwned>(
        &self,
        prefix: &RecordKey,
        limit: usize,
    ) -> Result<Vec<T>, StoreError> {
        let range = (Bound::Included(prefix.clone()), Bound::Unbounded);
        self.scan(prefix, range, Direction::Forward, limit)
    }

    /// The keys that begin with `prefix`.
    pub(super) fn keys(&self, prefix: &RecordKey) -> Result<Vec<RecordKey>, StoreError> {
        let mut keys = Vec::new();
        for guard in self.snapshot.prefix(&self.store.records, &prefix.0) {
            let key = RecordKey(guard.key()?.to_vec());
            if !self.staged.contains_key(&key) {
                keys.push(key);
            }
        }
        let staged =
            self.staged.iter().filter(|(key, value)| key.0.starts_with(&prefix.0) && value.is_some());
        keys.extend(staged.map(|(key, _)| key.clone()));
        Ok(keys)
    }

    fn decode<T: DeserializeOwned>(&self, key: &RecordKey, sealed: &[u8]) -> Result<T, StoreError> {
        let bytes = self.store.sealer.open(&key.0, sealed)?;
        rmp_serde::from_slice(&bytes).map_err(|_| StoreError::Damaged("a record's form"))
    }
}

fn encode<T: Serialize>(value: &T) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(
        rmp_serde::to_vec_named(value).expect("records have string keys and no failing serializers"),
    )
}

fn bytes(bound: &Bound<RecordKey>) -> Bound<Vec<u8>> {
    match bound {
        Bound::Included(key) => Bound::Included(key.0.clone()),
        Bound::Excluded(key) => Bound::Excluded(key.0.clone()),
        Bound::Unbounded => Bound::Unbounded,
    }
}

fn range_contains(range: &(Bound<RecordKey>, Bound<RecordKey>), key: &RecordKey) -> bool {
    use std::ops::RangeBounds;
    range.contains(key)
}
