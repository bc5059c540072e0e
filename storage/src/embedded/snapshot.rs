//! Reading: rows as they are at one moment.

use std::ops::RangeBounds;

use colloquy_protocol::ids::ConversationId;
use fjall::{Database, Readable, Slice};

use super::encoding::{Position, decode_message, malformed};
use super::keyspaces::{Keyspaces, Space};
use super::log_ends::LogEndRecord;
use crate::model::message::Message;
use crate::ports::{StoreError, StoreResult};

/// Rows that can be looked up: those on disk, or those on disk with what the running group has changed.
pub(super) trait Rows {
    fn get(&self, space: Space, key: &[u8]) -> StoreResult<Option<Slice>>;

    /// A message whose index row was read from the same rows, so it must be there.
    fn message_at(&self, position: Position) -> StoreResult<Message> {
        let bytes =
            self.get(Space::Messages, &position.key())?.ok_or_else(|| malformed("index: no such message"))?;
        decode_message(&bytes, position.sequence_number)
    }
}

/// Everything that is committed, at the moment the snapshot was taken. fjall applies a batch row by row, after
/// its fsync; a snapshot sees all of a batch or none of it.
pub(super) struct Snapshot {
    snapshot: fjall::Snapshot,
    spaces: Keyspaces,
}

impl Snapshot {
    pub(super) fn new(database: &Database, spaces: &Keyspaces) -> Self {
        Self { snapshot: database.snapshot(), spaces: spaces.clone() }
    }

    /// Rows whose key begins with `prefix`, in order.
    pub(super) fn prefix(
        &self,
        space: Space,
        prefix: &[u8],
    ) -> impl Iterator<Item = StoreResult<(Slice, Slice)>> + use<> {
        let rows = self.snapshot.prefix(self.spaces.of(space), prefix);
        rows.map(|row| row.into_inner().map_err(StoreError::unavailable))
    }

    /// Rows whose key lies in `range`, in order, from either end.
    pub(super) fn range<R: RangeBounds<Vec<u8>>>(
        &self,
        space: Space,
        range: R,
    ) -> impl DoubleEndedIterator<Item = StoreResult<(Slice, Slice)>> + use<R> {
        let rows = self.snapshot.range(self.spaces.of(space), range);
        rows.map(|row| row.into_inner().map_err(StoreError::unavailable))
    }

    /// Where a conversation's log ends.
    pub(super) fn log_end(&self, conversation_id: ConversationId) -> StoreResult<LogEndRecord> {
        let stored = self.get(Space::LogEnds, conversation_id.0.as_bytes())?;
        stored.map_or(Ok(LogEndRecord::default()), |bytes| LogEndRecord::decode(&bytes))
    }
}

impl Rows for Snapshot {
    fn get(&self, space: Space, key: &[u8]) -> StoreResult<Option<Slice>> {
        self.snapshot.get(self.spaces.of(space), key).map_err(StoreError::unavailable)
    }
}
