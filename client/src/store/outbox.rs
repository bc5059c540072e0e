//! What is to be sent: written before `send_text` returns, gone when the server has acknowledged it.

use std::fmt;
use std::str::FromStr;

use colloquy_protocol::UnixMillis;
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::client::SendPayload;
use colloquy_protocol::ids::{ConversationId, DeviceAddress, IdempotencyKey, MessageId, UserId};
use serde::{Deserialize, Serialize};

use super::conversations::ConversationRecord;
use super::database::{StoreError, Transaction};
use super::table::{RecordKey, Table};
use crate::crypto::{Body, Told};

/// Messages the outbox holds, failed ones included. One more is refused with [`StoreError::OutboxFull`].
pub const OUTBOX_MAX: usize = 10_000;

/// A message's name on this device, from before it has any other: 1, 2, 3 and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LocalMessageId(pub u64);

impl fmt::Display for LocalMessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for LocalMessageId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Why a message will not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum SendFailure {
    /// The server refused it for good.
    #[error("the server refused it: {0}")]
    Refused(ErrorCode),
    /// The recipient has no device that could read it.
    #[error("the recipient has no device")]
    RecipientHasNoDevice,
    /// Encrypted for every device, it is longer than a frame may be.
    #[error("too long for so many devices")]
    TooLong,
    /// A device of the recipient, or of this user, published keys it did not sign.
    #[error("a device published keys it did not sign")]
    UntrustedDevice,
    /// The device lists kept changing, or keys could not be had, as often as is tried.
    #[error("gave up after too many attempts")]
    TooManyAttempts,
}

/// How far a message in the outbox has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutboxState {
    /// Not encrypted yet.
    Written,
    /// Encrypted. What is sent is exactly this, however often: the same key names the same bytes (ONCE).
    Sealed(Box<SendPayload>),
    /// Given up; a person decides.
    Failed(SendFailure),
}

/// A message of this device that the server has not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxRecord {
    /// Its name here, and `client_message_id` on the wire.
    pub local_id: LocalMessageId,
    /// ONCE.
    pub idempotency_key: IdempotencyKey,
    /// Where it goes.
    pub conversation_id: ConversationId,
    /// Who it is for.
    pub receiver_id: UserId,
    /// What it says.
    pub body: Body,
    /// If given, the one device that is told.
    pub only_for: Option<DeviceAddress>,
    /// If given, the message it answers.
    #[serde(default)]
    pub reply_to: Option<MessageId>,
    /// When it was written, by this device's clock.
    pub written_at: UnixMillis,
    /// How often it was encrypted for a device list that turned out stale.
    pub attempts: u32,
    /// Who reads what it says, once it is encrypted.
    #[serde(default)]
    pub told: Vec<Told>,
    /// How far it has come.
    pub state: OutboxState,
}

/// A message to be put into the outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMessage {
    /// ONCE.
    pub idempotency_key: IdempotencyKey,
    /// Where it goes.
    pub conversation_id: ConversationId,
    /// Who it is for.
    pub receiver_id: UserId,
    /// What it says.
    pub body: Body,
    /// If given, the one device that is told.
    pub only_for: Option<DeviceAddress>,
    /// If given, the message it answers.
    pub reply_to: Option<MessageId>,
}

impl NewMessage {
    /// One for all devices of its receiver, that answers nothing.
    #[must_use]
    pub const fn new(
        idempotency_key: IdempotencyKey,
        conversation_id: ConversationId,
        receiver_id: UserId,
        body: Body,
    ) -> Self {
        Self { idempotency_key, conversation_id, receiver_id, body, only_for: None, reply_to: None }
    }
}

impl OutboxRecord {
    /// The turn it is the answer to, if it is one.
    #[must_use]
    pub fn turn(&self) -> Option<MessageId> {
        self.reply_to.filter(|turn| self.idempotency_key == IdempotencyKey::of_turn(*turn))
    }
}

impl Transaction<'_> {
    fn outbox_key(id: LocalMessageId) -> RecordKey {
        RecordKey::table(Table::Outbox).number(id.0)
    }

    /// Stages a message to be sent, behind all others.
    ///
    /// # Errors
    /// [`StoreError::OutboxFull`] at [`OUTBOX_MAX`].
    pub fn enqueue(&mut self, message: NewMessage, now: UnixMillis) -> Result<OutboxRecord, StoreError> {
        if self.outbox_len()? >= OUTBOX_MAX {
            return Err(StoreError::OutboxFull);
        }
        let record = OutboxRecord {
            local_id: LocalMessageId(self.next_local_number()?),
            idempotency_key: message.idempotency_key,
            conversation_id: message.conversation_id,
            receiver_id: message.receiver_id,
            body: message.body,
            only_for: message.only_for,
            reply_to: message.reply_to,
            written_at: now,
            attempts: 0,
            told: Vec::new(),
            state: OutboxState::Written,
        };
        self.put_outbox(&record);
        self.put_outbox_len(self.outbox_len()? + 1);
        Ok(record)
    }

    /// Stages a message for a person to read, in its conversation, which is there from now on.
    ///
    /// # Errors
    /// As of [`Self::enqueue`].
    pub fn write(
        &mut self,
        mut conversation: ConversationRecord,
        message: NewMessage,
        now: UnixMillis,
    ) -> Result<OutboxRecord, StoreError> {
        let record = self.enqueue(message, now)?;
        conversation.last_activity_at = conversation.last_activity_at.max(now);
        self.put_conversation(&conversation);
        Ok(record)
    }

    /// A message waiting to be sent.
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn outbox(&self, id: LocalMessageId) -> Result<Option<OutboxRecord>, StoreError> {
        self.get(&Self::outbox_key(id))
    }

    /// All messages waiting to be sent, and those that failed, in the order they were written.
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn outbox_all(&self) -> Result<Vec<OutboxRecord>, StoreError> {
        // The counter lies under number 0, before every message.
        let prefix = RecordKey::table(Table::Outbox);
        let range = (
            std::ops::Bound::Included(prefix.clone().number(1)),
            std::ops::Bound::Included(prefix.clone().number(u64::MAX)),
        );
        self.scan(&prefix, range, super::database::Direction::Forward, OUTBOX_MAX)
    }

    /// Stages a changed message.
    pub fn put_outbox(&mut self, record: &OutboxRecord) {
        self.put(Self::outbox_key(record.local_id), record);
    }

    /// Stages that a message is no longer to be sent.
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn remove_outbox(&mut self, id: LocalMessageId) -> Result<(), StoreError> {
        if self.contains(&Self::outbox_key(id))? {
            self.remove(Self::outbox_key(id));
            self.put_outbox_len(self.outbox_len()?.saturating_sub(1));
        }
        Ok(())
    }

    fn outbox_len(&self) -> Result<usize, StoreError> {
        Ok(self.get(&Self::outbox_key(LocalMessageId(0)))?.unwrap_or(0))
    }

    fn put_outbox_len(&mut self, length: usize) {
        self.put(Self::outbox_key(LocalMessageId(0)), &length);
    }
}
