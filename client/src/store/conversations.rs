//! Conversations, their marks and cursors.

use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{ConversationId, MessageId, UserId};
use colloquy_protocol::limits::GIVEN_UP_MAX;
use serde::{Deserialize, Serialize};

use super::database::{StoreError, Transaction};
use super::table::{RecordKey, Table};

/// Conversations one profile keeps; those beyond are not listed.
pub const CONVERSATIONS_MAX: usize = 100_000;

/// Questions of a conversation that are remembered as given up; beyond it the one noted first is forgotten. More than a server
/// names, so that none is told of again.
pub const GIVEN_UP_KEPT_MAX: usize = 4 * GIVEN_UP_MAX;

/// A conversation as this device knows it. The marks only ever grow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationRecord {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// The other participant.
    pub peer: UserId,
    /// Everything up to here is stored on this device, without a hole.
    pub cursor: u64,
    /// The message at the cursor.
    pub cursor_message_id: Option<MessageId>,
    /// Everything up to here is on a device of the other participant.
    pub delivered_through: u64,
    /// Everything up to here was seen by the other participant.
    pub read_through: u64,
    /// The newest message of this user for a person to read, as far as it is stored here.
    #[serde(default)]
    pub own_last: u64,
    /// Everything up to here was seen by this user.
    pub own_read_through: u64,
    /// Up to here the server is known to have taken it.
    pub own_read_told: u64,
    /// Messages of the other participant this user has not seen, as far as they are stored here.
    pub unread: u64,
    /// When something last happened.
    pub last_activity_at: UnixMillis,
    /// The server's list has said of everything up to here whether it was given up.
    #[serde(default)]
    pub listed_through: u64,
    /// Questions of this user that the agent was not able to take and has not answered since, as the server says: at most
    /// [`GIVEN_UP_KEPT_MAX`]. One that is on its way to this device may be among them.
    #[serde(default)]
    pub given_up: Vec<MessageId>,
}

impl ConversationRecord {
    /// A conversation of which nothing is known yet.
    #[must_use]
    pub fn new(conversation_id: ConversationId, peer: UserId) -> Self {
        Self {
            conversation_id,
            peer,
            cursor: 0,
            cursor_message_id: None,
            delivered_through: 0,
            read_through: 0,
            own_last: 0,
            own_read_through: 0,
            own_read_told: 0,
            unread: 0,
            last_activity_at: 0,
            listed_through: 0,
            given_up: Vec::new(),
        }
    }

    /// Notes that a question was given up. `false` if it was noted before.
    pub fn give_up(&mut self, turn_id: MessageId) -> bool {
        if self.given_up.contains(&turn_id) {
            return false;
        }
        if self.given_up.len() >= GIVEN_UP_KEPT_MAX {
            self.given_up.remove(0);
        }
        self.given_up.push(turn_id);
        true
    }

    /// A question was answered after all.
    pub fn answered(&mut self, turn_id: MessageId) {
        self.given_up.retain(|given_up| *given_up != turn_id);
    }
}

impl Transaction<'_> {
    fn conversation_key(&self, id: ConversationId) -> RecordKey {
        RecordKey::table(Table::Conversations).id(self.sealer(), id.0.as_bytes())
    }

    /// One conversation.
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn conversation(&self, id: ConversationId) -> Result<Option<ConversationRecord>, StoreError> {
        self.get(&self.conversation_key(id))
    }

    /// All conversations, in no order; at most [`CONVERSATIONS_MAX`].
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn conversations(&self) -> Result<Vec<ConversationRecord>, StoreError> {
        self.scan_all(&RecordKey::table(Table::Conversations), CONVERSATIONS_MAX)
    }

    /// Stages a conversation.
    pub fn put_conversation(&mut self, record: &ConversationRecord) {
        let key = self.conversation_key(record.conversation_id);
        self.put(key, record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn record() -> ConversationRecord {
        ConversationRecord::new(ConversationId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2)))
    }

    #[test]
    fn a_record_of_before_anything_was_given_up_is_read() {
        let mut written = serde_json::to_value(record()).unwrap();
        written.as_object_mut().unwrap().remove("given_up").unwrap();
        assert_eq!(serde_json::from_value::<ConversationRecord>(written).unwrap(), record());
    }

    #[test]
    fn the_newest_that_were_given_up_are_remembered_until_they_are_answered() {
        let turn = |n: usize| MessageId(Uuid::from_u128(n as u128));
        let mut record = record();
        assert!((0..=GIVEN_UP_KEPT_MAX).all(|n| record.give_up(turn(n))));
        assert!(!record.give_up(turn(GIVEN_UP_KEPT_MAX)), "it is known");
        assert_eq!((record.given_up.len(), record.given_up[0]), (GIVEN_UP_KEPT_MAX, turn(1)));
        record.answered(turn(1));
        assert_eq!((record.given_up.len(), record.given_up[0]), (GIVEN_UP_KEPT_MAX - 1, turn(2)));
    }
}
