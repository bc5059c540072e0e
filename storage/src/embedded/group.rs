//! What the commands of one group commit have written, over what is on disk.
//!
//! Commands read their own writes and those of the commands before them. Nothing reaches the database before
//! [`Group::commit`], which writes everything as one batch with one fsync: a group is on disk whole or not at all.
//!
//! fjall's own write transaction has the same overlay, but no savepoints: a command that fails half-way could not
//! be taken out of its group again. Here [`Group::put`] and [`Group::remove`] are the only ways to change anything,
//! and both first note how to undo the change.

use std::collections::BTreeMap;
use std::ops::Bound;

use colloquy_protocol::ids::ConversationId;
use fjall::{Database, OwnedWriteBatch, PersistMode, Slice};

use super::keyspaces::{Keyspaces, Space};
use super::log_ends::{LogEndCache, LogEndRecord};
use super::snapshot::Rows;
use crate::ports::{StoreError, StoreResult};

/// Rows in key order; `None` is a row removed. Sorted, because fjall's memtables take neighbours faster.
type Pending = BTreeMap<Slice, Option<Slice>>;

/// A point in a command: how many changes it had made.
#[derive(Clone, Copy)]
pub(super) struct Savepoint(usize);

/// The overlay. The writer keeps one and uses it for group after group.
pub(super) struct Group {
    database: Database,
    spaces: Keyspaces,
    ends: LogEndCache,
    pending: [Pending; Space::COUNT],
    /// What the running command changed: the row, and what was pending for it before.
    undo: Vec<(Space, Slice, Option<Option<Slice>>)>,
    bytes: usize,
    #[cfg(test)]
    pub(super) fail_commit: bool,
}

impl Group {
    pub(super) fn new(database: Database, spaces: Keyspaces) -> Self {
        Self {
            database,
            spaces,
            ends: LogEndCache::default(),
            pending: std::array::from_fn(|_| Pending::new()),
            undo: Vec::new(),
            bytes: 0,
            #[cfg(test)]
            fail_commit: false,
        }
    }

    /// About how many bytes wait to be committed.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn put(&mut self, space: Space, key: impl Into<Slice>, value: impl Into<Slice>) {
        self.change(space, key.into(), Some(value.into()));
    }

    pub(super) fn remove(&mut self, space: Space, key: impl Into<Slice>) {
        self.change(space, key.into(), None);
    }

    fn change(&mut self, space: Space, key: Slice, value: Option<Slice>) {
        self.bytes += key.len() + value.as_ref().map_or(0, |value| value.len());
        let before = self.pending[space as usize].insert(key.clone(), value);
        self.undo.push((space, key, before));
    }

    /// Rows whose key begins with `prefix`, in order. For prefixes with few rows.
    pub(super) fn prefix(&self, space: Space, prefix: &[u8]) -> StoreResult<Vec<(Slice, Slice)>> {
        let stored = self.spaces.of(space).prefix(prefix).map(fjall::Guard::into_inner);
        let mut rows: BTreeMap<Slice, Slice> =
            stored.collect::<fjall::Result<_>>().map_err(StoreError::unavailable)?;
        for (key, value) in self.pending_with(space, prefix) {
            match value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
        Ok(rows.into_iter().collect())
    }

    /// The first row whose key begins with `prefix`.
    pub(super) fn first(&self, space: Space, prefix: &[u8]) -> StoreResult<Option<(Slice, Slice)>> {
        let mut first = None;
        for row in self.spaces.of(space).prefix(prefix) {
            let (key, value) = row.into_inner().map_err(StoreError::unavailable)?;
            if !self.pending[space as usize].contains_key(&key) {
                first = Some((key, value));
                break;
            }
        }
        let live = |(key, value): (&Slice, &Option<Slice>)| Some((key.clone(), value.clone()?));
        let pending = self.pending_with(space, prefix).find_map(live);
        Ok(first.into_iter().chain(pending).min())
    }

    fn pending_with<'a>(
        &'a self,
        space: Space,
        prefix: &'a [u8],
    ) -> impl Iterator<Item = (&'a Slice, &'a Option<Slice>)> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        self.pending[space as usize]
            .range::<[u8], _>(from)
            .take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// Where a conversation's log ends; from memory, if it was used lately.
    pub(super) fn log_end(&mut self, conversation_id: ConversationId) -> StoreResult<LogEndRecord> {
        let key = conversation_id.0.as_bytes().as_slice();
        if let Some(Some(pending)) = self.pending[Space::LogEnds as usize].get(key) {
            return LogEndRecord::decode(pending);
        }
        if let Some(record) = self.ends.get(conversation_id) {
            return Ok(record);
        }
        let stored = self.spaces.of(Space::LogEnds).get(key).map_err(StoreError::unavailable)?;
        let record = stored.map_or(Ok(LogEndRecord::default()), |bytes| LogEndRecord::decode(&bytes))?;
        self.ends.put(conversation_id, record);
        Ok(record)
    }

    pub(super) fn put_log_end(&mut self, conversation_id: ConversationId, record: LogEndRecord) {
        self.put(Space::LogEnds, *conversation_id.0.as_bytes(), record.encode());
    }

    /// The running command is done; what it wrote is to stay.
    pub(super) fn keep(&mut self) {
        self.undo.clear();
    }

    /// A point in the running command to come back to.
    pub(super) fn savepoint(&self) -> Savepoint {
        Savepoint(self.undo.len())
    }

    /// The running command failed; the group is as if it had never been in it.
    pub(super) fn roll_back(&mut self) {
        self.roll_back_to(Savepoint(0));
    }

    /// Undoes what the running command has changed since `savepoint`.
    pub(super) fn roll_back_to(&mut self, savepoint: Savepoint) {
        while self.undo.len() > savepoint.0
            && let Some((space, key, before)) = self.undo.pop()
        {
            match before {
                Some(value) => self.pending[space as usize].insert(key, value),
                None => self.pending[space as usize].remove(&key),
            };
        }
    }

    /// Writes everything that is pending as one batch and waits for the fsync (DURABLE).
    ///
    /// Whether it succeeds or not, nothing is pending afterwards. Log ends enter the cache after the fsync, so
    /// memory is never ahead of the disk; after a failure the cache is empty.
    pub(super) fn commit(&mut self) -> fjall::Result<()> {
        self.bytes = 0;
        let rows = self.pending.iter().map(BTreeMap::len).sum();
        if rows == 0 {
            return Ok(());
        }
        let ends: Vec<(Slice, Option<Slice>)> =
            self.pending[Space::LogEnds as usize].iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        let mut batch = OwnedWriteBatch::with_capacity(self.database.clone(), rows)
            .durability(Some(PersistMode::SyncAll));
        for space in Space::ALL {
            let keyspace = self.spaces.of(space);
            for (key, value) in std::mem::take(&mut self.pending[space as usize]) {
                match value {
                    Some(value) => batch.insert(keyspace, key, value),
                    None => batch.remove(keyspace, key),
                }
            }
        }
        let committed = self.commit_batch(batch);
        match &committed {
            Ok(()) => self.cache_ends(&ends),
            Err(_) => self.ends.clear(),
        }
        committed
    }

    fn commit_batch(&self, batch: OwnedWriteBatch) -> fjall::Result<()> {
        #[cfg(test)]
        if self.fail_commit {
            return Err(fjall::Error::Io(std::io::ErrorKind::StorageFull.into()));
        }
        batch.commit()
    }

    fn cache_ends(&mut self, ends: &[(Slice, Option<Slice>)]) {
        for (key, value) in ends {
            let id = uuid::Uuid::from_slice(key).map(ConversationId);
            let record = value.as_ref().map(|bytes| LogEndRecord::decode(bytes));
            if let (Ok(id), Some(Ok(record))) = (id, record) {
                self.ends.put(id, record);
            }
        }
    }

    /// Forgets everything that is not on disk, after a panic in a commit.
    pub(super) fn abandon(&mut self) {
        self.bytes = 0;
        self.undo.clear();
        self.pending.iter_mut().for_each(BTreeMap::clear);
        self.ends.clear();
    }
}

impl Rows for Group {
    fn get(&self, space: Space, key: &[u8]) -> StoreResult<Option<Slice>> {
        if let Some(pending) = self.pending[space as usize].get(key) {
            return Ok(pending.clone());
        }
        self.spaces.of(space).get(key).map_err(StoreError::unavailable)
    }
}
