//! Turns that this device has taken on, if it is an agent's: what it was asked, until it has answered.

use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{ConversationId, MessageId};
use serde::{Deserialize, Serialize};

use super::database::{StoreError, Transaction};
use super::outbox::LocalMessageId;
use super::table::{RecordKey, Table};

/// Turns that are open at once. One more is refused with [`StoreError::TooManyTurns`].
pub const OPEN_TURNS_MAX: usize = 4096;

/// A turn that was taken on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnRecord {
    /// The message that began it.
    pub turn_id: MessageId,
    /// Where.
    pub conversation_id: ConversationId,
    /// When it was taken on, by this device's clock.
    pub taken_at: UnixMillis,
    /// The answer, while it is on its way.
    pub answer: Option<LocalMessageId>,
}

impl Transaction<'_> {
    fn turn_key(&self, turn: MessageId) -> RecordKey {
        RecordKey::table(Table::Turns).id(self.sealer(), turn.0.as_bytes())
    }

    /// A turn that was taken on and is not answered.
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn turn(&self, turn: MessageId) -> Result<Option<TurnRecord>, StoreError> {
        self.get(&self.turn_key(turn))
    }

    /// All of them, those taken on first in front; at most [`OPEN_TURNS_MAX`].
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn turns(&self) -> Result<Vec<TurnRecord>, StoreError> {
        let mut turns: Vec<TurnRecord> = self.scan_all(&RecordKey::table(Table::Turns), OPEN_TURNS_MAX)?;
        turns.sort_by_key(|turn| (turn.taken_at, turn.turn_id));
        Ok(turns)
    }

    /// Stages a turn, or a change to it.
    ///
    /// # Errors
    /// [`StoreError::TooManyTurns`].
    pub fn put_turn(&mut self, turn: &TurnRecord) -> Result<(), StoreError> {
        let key = self.turn_key(turn.turn_id);
        let all = RecordKey::table(Table::Turns);
        if !self.contains(&key)? && self.keys(&all)?.len() >= OPEN_TURNS_MAX {
            return Err(StoreError::TooManyTurns);
        }
        self.put(key, turn);
        Ok(())
    }

    /// Stages that a turn is answered.
    pub fn remove_turn(&mut self, turn: MessageId) {
        let key = self.turn_key(turn);
        self.remove(key);
    }
}
