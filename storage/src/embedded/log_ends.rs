//! Where the logs end: the one record an append reads and writes for each conversation, and a cache of it.

use std::collections::HashMap;

use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::ConversationId;
use fjall::Slice;

use super::encoding::{malformed, read_u64};
use crate::model::conversation::LogEnd;
use crate::ports::StoreResult;

/// Conversations whose log end the writer keeps in memory, about 64 bytes each. Beyond it those that were not
/// used for longest are forgotten and read again when needed.
const CACHED_MAX: usize = 262_144;

/// The end of a conversation's log and who may append to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LogEndRecord {
    /// The newest owner's epoch (FENCE).
    pub(super) epoch: u64,
    /// The newest message's number.
    pub(super) last_sequence: u64,
    /// When it was numbered; means nothing while `last_sequence` is 0.
    pub(super) last_message_at: UnixMillis,
}

impl LogEndRecord {
    pub(super) fn encode(self) -> Slice {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.last_sequence.to_be_bytes());
        bytes[16..].copy_from_slice(&self.last_message_at.to_be_bytes());
        Slice::from(bytes)
    }

    pub(super) fn decode(bytes: &[u8]) -> StoreResult<Self> {
        if bytes.len() != 24 {
            return Err(malformed("log end"));
        }
        Ok(Self {
            epoch: read_u64(&bytes[..8])?,
            last_sequence: read_u64(&bytes[8..16])?,
            last_message_at: read_u64(&bytes[16..])?,
        })
    }

    /// What readers are told.
    pub(super) fn end(self) -> LogEnd {
        let last_message_at = (self.last_sequence > 0).then_some(self.last_message_at);
        LogEnd { last_sequence: self.last_sequence, last_message_at }
    }
}

/// Log ends as they are on disk, never ahead of it. Two generations: when the young one is half of
/// [`CACHED_MAX`] it becomes the old one, and what was old is forgotten.
#[derive(Default)]
pub(super) struct LogEndCache {
    young: HashMap<ConversationId, LogEndRecord>,
    old: HashMap<ConversationId, LogEndRecord>,
}

impl LogEndCache {
    pub(super) fn get(&mut self, conversation_id: ConversationId) -> Option<LogEndRecord> {
        if let Some(record) = self.young.get(&conversation_id) {
            return Some(*record);
        }
        let record = self.old.remove(&conversation_id)?;
        self.put(conversation_id, record);
        Some(record)
    }

    pub(super) fn put(&mut self, conversation_id: ConversationId, record: LogEndRecord) {
        if self.young.len() >= CACHED_MAX / 2 && !self.young.contains_key(&conversation_id) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&conversation_id);
        self.young.insert(conversation_id, record);
    }

    pub(super) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_cache_is_bounded_and_keeps_what_is_used() {
        let mut cache = LogEndCache::default();
        let conversation = |n: usize| ConversationId(Uuid::from_u128(n as u128));
        let record = |n: usize| LogEndRecord { epoch: n as u64, ..LogEndRecord::default() };
        for n in 0..3 * CACHED_MAX {
            cache.put(conversation(n), record(n));
            assert_eq!(cache.get(conversation(0)), Some(record(0)));
            assert!(cache.young.len() + cache.old.len() <= CACHED_MAX);
        }
        assert_eq!(cache.get(conversation(1)), None);
    }

    #[test]
    fn the_newest_record_wins_over_an_older_generation() {
        let mut cache = LogEndCache::default();
        let id = ConversationId(Uuid::from_u128(u128::MAX));
        cache.put(id, LogEndRecord::default());
        for n in 0..CACHED_MAX / 2 {
            cache.put(ConversationId(Uuid::from_u128(n as u128)), LogEndRecord::default());
        }
        let newer = LogEndRecord { epoch: 2, ..LogEndRecord::default() };
        cache.put(id, newer);
        for n in 0..CACHED_MAX / 2 - 1 {
            cache.put(ConversationId(Uuid::from_u128(n as u128)), LogEndRecord::default());
        }
        assert_eq!(cache.get(id), Some(newer));
    }
}
