//! Conversations, their marks and cursors.

use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{ConversationId, MessageId, UserId};
use serde::{Deserialize, Serialize};

use super::database::{StoreError, Transaction};
use super::table::{RecordKey, Table};

/// Conversations one profile keeps; those beyond are not listed.
pub const CONVERSATIONS_MAX: usize = 100_000;

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
        }
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
