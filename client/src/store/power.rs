//! A power cut, as simulations bring it about: what was written without a sync is gone.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use fjall::{Keyspace, PersistMode};

use super::database::StoreError;
use super::table::RecordKey;

/// Records as they were before an update; `None`: there was none.
type Before = BTreeMap<RecordKey, Option<Vec<u8>>>;

/// How to undo what has been written since the last sync, update by update.
#[derive(Default)]
pub(super) struct Unsynced(Mutex<Vec<Before>>);

impl Unsynced {
    /// These records are about to be written. A sync takes everything along that was written before it.
    pub(super) fn note<'a>(
        &self,
        records: &Keyspace,
        keys: impl Iterator<Item = &'a RecordKey>,
        mode: PersistMode,
    ) -> Result<(), StoreError> {
        let mut unsynced = self.lock();
        if mode != PersistMode::Buffer {
            unsynced.clear();
            return Ok(());
        }
        let before = keys.map(|key| Ok((key.clone(), records.get(&key.0)?.map(|value| value.to_vec()))));
        unsynced.push(before.collect::<Result<Before, StoreError>>()?);
        Ok(())
    }

    /// What the records were, the newest update first.
    pub(super) fn take(&self) -> impl Iterator<Item = Before> + use<> {
        std::mem::take(&mut *self.lock()).into_iter().rev()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Before>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
