//! Turns that this device has taken on, if it is an agent's: what it was asked, until it has answered.

use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{ConversationId, MessageId};
use serde::{Deserialize, Serialize};

use super::conversations::ConversationRecord;
use super::database::{StoreError, Transaction};
use super::outbox::{LocalMessageId, NewMessage};
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
    /// What the turn leads to besides, once its answer is stored; nothing, if another device's is.
    #[serde(default)]
    pub further: Vec<NewMessage>,
    /// The answer is stored, and is this device's. What is left of `further` waits for room in the outbox.
    #[serde(default)]
    pub is_answered: bool,
}

/// What came of a turn whose answer is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowedUp {
    /// What is to be sent now.
    pub enqueued: Vec<(LocalMessageId, ConversationId)>,
    /// That was the last of it.
    pub is_done: bool,
}

impl TurnRecord {
    /// A turn that has just been taken on.
    #[must_use]
    pub fn new(turn_id: MessageId, conversation_id: ConversationId, taken_at: UnixMillis) -> Self {
        Self { turn_id, conversation_id, taken_at, answer: None, further: Vec::new(), is_answered: false }
    }
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

    /// Stages what a turn leads to besides its answer, which is stored and this device's, as far as the outbox has room; and that
    /// the turn is done with, if that is all of it.
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn follow_up(&mut self, mut turn: TurnRecord, now: UnixMillis) -> Result<FollowedUp, StoreError> {
        let (mut enqueued, is_known) = (Vec::new(), turn.is_answered);
        let mut further = std::mem::take(&mut turn.further);
        further.reverse();
        while let Some(message) = further.last() {
            let (id, peer) = (message.conversation_id, message.receiver_id);
            let conversation = self.conversation(id)?.unwrap_or_else(|| ConversationRecord::new(id, peer));
            match self.write(conversation, message.clone(), now) {
                Ok(record) => enqueued.push((record.local_id, id)),
                Err(StoreError::OutboxFull) => break,
                Err(error) => return Err(error),
            }
            further.pop();
        }
        let is_done = further.is_empty();
        if is_done {
            self.remove_turn(turn.turn_id);
        } else if !is_known || !enqueued.is_empty() {
            further.reverse();
            self.put_turn(&TurnRecord { further, is_answered: true, ..turn })?;
        }
        Ok(FollowedUp { enqueued, is_done })
    }

    /// Stages that a turn is done with.
    pub fn remove_turn(&mut self, turn: MessageId) {
        let key = self.turn_key(turn);
        self.remove(key);
    }
}
