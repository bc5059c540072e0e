//! The message log: the one place where messages get their numbers and where ONCE and FENCE are decided.

use std::sync::Arc;

use async_trait::async_trait;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{ConversationId, IdempotencyKey, MessageId, UserId};
use colloquy_protocol::window::SequenceWindow;

use super::StoreResult;
use crate::model::conversation::LogEnd;
use crate::model::message::Message;

/// The right to append to one conversation. A higher epoch ends every lower one (FENCE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// Grows by one with every change of owner; starts at 1.
    pub epoch: u64,
    /// The newest message's number at the time.
    pub last_sequence: u64,
    /// When it was stored, by its owner's clock; `None` if there never was one. What its successor stores
    /// must not be dated before it: retention deletes by this date, and has to take the oldest numbers first (NOLOSS).
    pub last_message_at: Option<UnixMillis>,
}

/// Messages for the end of one conversation, in order.
#[derive(Clone, Debug)]
pub struct Append {
    /// The conversation; it exists.
    pub conversation_id: ConversationId,
    /// The owner's epoch.
    pub epoch: u64,
    /// The newest number the owner knows of. The first message that is not a duplicate gets the next one.
    pub after_sequence: u64,
    /// In order; their `sequence_number`s are ignored.
    pub messages: Vec<Message>,
}

/// What came of one [`Append`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// Each message's fate, in the order given. What is placed is durable.
    Placed(Vec<Placed>),
    /// Another owner has taken over, or the log has grown behind this one's back. Nothing was appended.
    Fenced {
        /// The newest epoch.
        epoch: u64,
        /// The newest message's number.
        last_sequence: u64,
    },
    /// A record of this conversation cannot be read back. Nothing was appended to it; the other appends of the call
    /// stand (ISOLATE).
    Unreadable,
    /// Any of it may have been stored: another owner came in between. Ownership is to be taken again before anything else
    /// is appended, and the keys tell then what was stored (ONCE); the other appends of the call stand.
    Unknown,
}

/// What came of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    /// It is in the log under its `sequence_number`.
    New(Arc<Message>),
    /// Its sender had used its idempotency key before: the first message stands, this one was not stored. Also
    /// the answer to the second of two messages with one key in the same append.
    Duplicate {
        /// The first message.
        first: Arc<Message>,
        /// Both have the same body; otherwise it is a conflict.
        same_body: bool,
    },
}

/// Messages and their order.
#[async_trait]
pub trait MessageLog: Send + Sync + 'static {
    /// Takes the conversation over: raises its epoch, ends every earlier owner's right to append.
    ///
    /// An earlier owner is fenced at the latest by its first append after one of the new owner's. Until then a store that
    /// decides by numbers alone may still place what it appends under the next number, and it is the new owner that is
    /// fenced, once, with the log's true end (FENCE: no hole and no repeat either way).
    async fn take_ownership(&self, conversation_id: ConversationId) -> StoreResult<Ownership>;

    /// Appends to many conversations at once, in one commit where the store can (group commit). Answers one for
    /// one, in the same order. No conversation is named twice in one call.
    ///
    /// An error of the whole call means that any of it may have been stored.
    async fn append(&self, appends: Vec<Append>) -> StoreResult<Vec<Appended>>;

    /// Reads messages from the start of `window` on, in order, without a hole; stops at its end, at the log's
    /// end, after `max_messages`, or before the message that would go over `max_bytes` of
    /// [`Message::weight`] (the first is always read), or before one that cannot be read back; if that is the first, it fails.
    ///
    /// Retention takes the oldest, by `created_at`, which owners let rise with the numbers: messages that are gone from the front are passed over, so the first one read may stand
    /// behind the window's start, but only if nothing that stood before it is left. A window of which nothing is left
    /// reads as empty, though messages may follow it: where they begin is for [`Self::oldest`] to say, and where the log
    /// ends for [`Self::end`]. Numbers go on where they were, also when every message is gone.
    async fn read(
        &self,
        conversation_id: ConversationId,
        window: SequenceWindow,
        max_messages: usize,
        max_bytes: usize,
    ) -> StoreResult<Vec<Arc<Message>>>;

    /// The message of this number, if it is there.
    async fn message(
        &self,
        conversation_id: ConversationId,
        sequence_number: u64,
    ) -> StoreResult<Option<Arc<Message>>> {
        let Ok(window) = SequenceWindow::new(sequence_number, sequence_number) else { return Ok(None) };
        Ok(self.read(conversation_id, window, 1, usize::MAX).await?.into_iter().next())
    }

    /// The number of the oldest message that is left; `None` if none is.
    async fn oldest(&self, conversation_id: ConversationId) -> StoreResult<Option<u64>>;

    /// Where the log ends; number 0 for a conversation without messages.
    async fn end(&self, conversation_id: ConversationId) -> StoreResult<LogEnd>;

    /// Finds messages by id; those that are not there are left out. Each is `(id, conversation, number, sender)`.
    async fn locate(&self, message_ids: &[MessageId]) -> StoreResult<Vec<Located>>;

    /// The message a sender made with an idempotency key.
    async fn find_by_key(&self, sender_id: UserId, key: IdempotencyKey) -> StoreResult<Option<Arc<Message>>>;
}

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// The message.
    pub message_id: MessageId,
    /// Its conversation.
    pub conversation_id: ConversationId,
    /// Its number there.
    pub sequence_number: u64,
}
