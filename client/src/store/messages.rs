//! Decrypted messages, and which ids were seen.
//!
//! A message lies under its conversation and sequence number, so history is a range. Its id leads to it: that is
//! how a redelivered ciphertext is recognised before it is decrypted. History is kept until the profile is
//! deleted; it is what grows.

use std::fmt;
use std::ops::Bound;

use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{ConversationId, DeviceAddress, IdempotencyKey, MessageId, UserId};
use serde::{Deserialize, Serialize};

use super::database::{Direction, StoreError, Transaction};
use super::outbox::LocalMessageId;
use super::table::{RecordKey, Table};
use crate::crypto::{Body, DecryptionFailure, Told};

/// Messages one page of history holds at most.
pub const HISTORY_PAGE_MAX: usize = 500;

/// What this device knows of a message's content.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageContent {
    /// Decrypted, or written here. Not every body is for a person to see.
    Known(Body),
    /// It could not be decrypted (yet): the sender may have been asked for it.
    Undecryptable(DecryptionFailure),
    /// It was never encrypted for this device: older than the device, or lost with an earlier store.
    Unavailable,
}

impl MessageContent {
    /// Is this for a person to see, if only as a gap? Control messages are not.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        match self {
            Self::Known(body) => body.is_for_a_person(),
            Self::Undecryptable(_) | Self::Unavailable => true,
        }
    }
}

impl fmt::Debug for MessageContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(body) => write!(f, "Known({body:?})"),
            Self::Undecryptable(why) => write!(f, "Undecryptable({why:?})"),
            Self::Unavailable => f.write_str("Unavailable"),
        }
    }
}

/// A numbered message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRecord {
    /// The message.
    pub message_id: MessageId,
    /// Where.
    pub conversation_id: ConversationId,
    /// Its number there.
    pub sequence_number: u64,
    /// Who sent it, from which device.
    pub sender: DeviceAddress,
    /// The name it had in this device's outbox, if it came from there.
    pub local_id: Option<LocalMessageId>,
    /// When the server numbered it.
    pub timestamp: UnixMillis,
    /// What it says.
    pub content: MessageContent,
    /// Who it was encrypted for, if it was written here; at most one for each ciphertext of an envelope.
    #[serde(default)]
    pub told: Vec<Told>,
    /// The message it answers, if it says so.
    #[serde(default)]
    pub reply_to: Option<MessageId>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Place {
    conversation_id: ConversationId,
    sequence_number: u64,
}

impl Transaction<'_> {
    fn messages_of(&self, conversation: ConversationId) -> RecordKey {
        RecordKey::table(Table::Messages).id(self.sealer(), conversation.0.as_bytes())
    }

    fn seen_message_key(&self, message: MessageId) -> RecordKey {
        RecordKey::table(Table::SeenMessages).id(self.sealer(), message.0.as_bytes())
    }

    fn seen_key_key(&self, sender: UserId, key: IdempotencyKey) -> RecordKey {
        let mut id = sender.0.as_bytes().to_vec();
        id.extend_from_slice(key.uuid().as_bytes());
        RecordKey::table(Table::SeenKeys).id(self.sealer(), &id)
    }

    /// Was this message stored before?
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn has_seen(&self, message: MessageId) -> Result<bool, StoreError> {
        self.contains(&self.seen_message_key(message))
    }

    /// A message by its id, and never another one that has come to lie in its place.
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn message(&self, message: MessageId) -> Result<Option<MessageRecord>, StoreError> {
        let Some(place) = self.get::<Place>(&self.seen_message_key(message))? else { return Ok(None) };
        let there = self.message_at(place.conversation_id, place.sequence_number)?;
        Ok(there.filter(|there| there.message_id == message))
    }

    /// A message by its place.
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn message_at(
        &self,
        conversation: ConversationId,
        sequence_number: u64,
    ) -> Result<Option<MessageRecord>, StoreError> {
        self.get(&self.messages_of(conversation).number(sequence_number))
    }

    /// Stages a message and remembers its id.
    pub fn put_message(&mut self, record: &MessageRecord) {
        let place =
            Place { conversation_id: record.conversation_id, sequence_number: record.sequence_number };
        let seen = self.seen_message_key(record.message_id);
        self.put(seen, &place);
        let key = self.messages_of(record.conversation_id).number(record.sequence_number);
        self.put(key, record);
    }

    /// Is it remembered that `sender` used `key`?
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn has_used_key(&self, sender: UserId, key: IdempotencyKey) -> Result<bool, StoreError> {
        self.contains(&self.seen_key_key(sender, key))
    }

    /// Remembers that `sender` used `key`. `false` if it was used before.
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn use_key(&mut self, sender: UserId, key: IdempotencyKey) -> Result<bool, StoreError> {
        let record = self.seen_key_key(sender, key);
        if self.contains(&record)? {
            return Ok(false);
        }
        self.put(record, &());
        Ok(true)
    }

    /// At most `limit` (and [`HISTORY_PAGE_MAX`]) messages with numbers below `before`, oldest first. Control
    /// messages are among them.
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn messages_before(
        &self,
        conversation: ConversationId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<MessageRecord>, StoreError> {
        let prefix = self.messages_of(conversation);
        let range = (
            Bound::Included(prefix.clone().number(0)),
            match before {
                Some(before) => Bound::Excluded(prefix.clone().number(before)),
                None => Bound::Included(prefix.clone().number(u64::MAX)),
            },
        );
        let limit = limit.min(HISTORY_PAGE_MAX);
        let mut messages = self.scan(&prefix, range, Direction::Backward, limit)?;
        messages.reverse();
        Ok(messages)
    }

    /// At most `limit` messages with numbers from `from` to `to`, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn messages_between(
        &self,
        conversation: ConversationId,
        from: u64,
        to: u64,
        limit: usize,
    ) -> Result<Vec<MessageRecord>, StoreError> {
        let prefix = self.messages_of(conversation);
        let range =
            (Bound::Included(prefix.clone().number(from)), Bound::Included(prefix.clone().number(to)));
        self.scan(&prefix, range, Direction::Forward, limit)
    }
}
