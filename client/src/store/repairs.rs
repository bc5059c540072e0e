//! Messages that could not be decrypted, until they are told again or their sender was asked in vain.

use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{ConversationId, DeviceAddress, MessageId};
use serde::{Deserialize, Serialize};

use super::database::{StoreError, Transaction};
use super::table::{RecordKey, Table};
use crate::crypto::repair::REPAIR_WINDOW_MS;

/// Messages remembered to be asked for. One more is asked for at once or never.
pub const REPAIRS_KEPT_MAX: usize = 1024;
/// Times a message is asked for before it is given up: the answer may be lost, or be beyond the sender's budget.
pub const ASKS_MAX: u32 = 3;

/// A message its sender can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairRecord {
    /// The message.
    pub message_id: MessageId,
    /// Where.
    pub conversation_id: ConversationId,
    /// Who sent it.
    pub sender: DeviceAddress,
    /// How often it was asked for, at most [`ASKS_MAX`].
    pub asked: u32,
    /// When last.
    pub asked_at: UnixMillis,
}

impl RepairRecord {
    /// Is it time to ask, or to give up? The last question is given as long to be answered as the others.
    #[must_use]
    pub fn is_due(&self, now: UnixMillis) -> bool {
        // A clock that was set back must not delay it.
        let is_past = now < self.asked_at || now - self.asked_at >= REPAIR_WINDOW_MS;
        self.asked == 0 || is_past
    }

    /// Was it asked for as often as is tried?
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.asked >= ASKS_MAX
    }

    /// It is asked for now.
    pub fn ask(&mut self, now: UnixMillis) {
        self.asked += 1;
        self.asked_at = now;
    }
}

impl Transaction<'_> {
    fn repair_key(&self, message: MessageId) -> RecordKey {
        RecordKey::table(Table::Repairs).id(self.sealer(), message.0.as_bytes())
    }

    /// A message that is to be asked for.
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn repair(&self, message: MessageId) -> Result<Option<RepairRecord>, StoreError> {
        self.get(&self.repair_key(message))
    }

    /// All messages to be asked for, in no order; at most [`REPAIRS_KEPT_MAX`].
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn repairs(&self) -> Result<Vec<RepairRecord>, StoreError> {
        self.scan_all(&RecordKey::table(Table::Repairs), REPAIRS_KEPT_MAX)
    }

    /// Stages a message to be asked for, or a change to it; `false` if as many are kept as may be.
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn put_repair(&mut self, record: &RepairRecord) -> Result<bool, StoreError> {
        let key = self.repair_key(record.message_id);
        let kept = RecordKey::table(Table::Repairs);
        let fits = self.contains(&key)? || self.keys(&kept)?.len() < REPAIRS_KEPT_MAX;
        if fits {
            self.put(key, record);
        }
        Ok(fits)
    }

    /// Stages that a message is no longer to be asked for.
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn remove_repair(&mut self, message: MessageId) -> Result<(), StoreError> {
        let key = self.repair_key(message);
        if self.contains(&key)? {
            self.remove(key);
        }
        Ok(())
    }
}
