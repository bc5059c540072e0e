//! Which tables there are, and how their keys are made: one byte for the table, blinded ids, a plain suffix.

use super::sealer::{BLINDED_BYTES, Sealer};

/// One kind of record. The numbers are on disk: never change or reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Table {
    Settings = 1,
    Peers = 2,
    DeviceLists = 3,
    Conversations = 4,
    Messages = 5,
    SeenMessages = 6,
    SeenKeys = 7,
    Outbox = 8,
    Users = 9,
    Repairs = 10,
    Ratchets = 11,
    Turns = 12,
    Decisions = 13,
}

/// A record's key, or the beginning shared by a run of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RecordKey(pub(super) Vec<u8>);

impl RecordKey {
    /// The beginning of every key of `table`.
    pub(super) fn table(table: Table) -> Self {
        let mut bytes = Vec::with_capacity(1 + 2 * BLINDED_BYTES);
        bytes.push(table as u8);
        Self(bytes)
    }

    /// Appends an id, blinded together with its table, so that the same id looks different in each table.
    pub(super) fn id(mut self, sealer: &Sealer, id: &[u8]) -> Self {
        let mut named = Vec::with_capacity(1 + id.len());
        named.push(self.0[0]);
        named.extend_from_slice(id);
        self.0.extend_from_slice(&sealer.blind(&named));
        self
    }

    /// Appends a number that keys are ordered by.
    pub(super) fn number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }
}
