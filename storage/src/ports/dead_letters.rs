//! Turns that were given up, and messages that could not be told.
//!
//! A store keeps a list of each: [`dead_letters`](super::Store::dead_letters) and [`untold`](super::Store::untold). They
//! behave alike and know nothing of each other: what is in one is not in the other, and each is full by itself.

use async_trait::async_trait;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::agent::AgentId;
use colloquy_protocol::ids::{ConversationId, MessageId};

use super::StoreResult;
use crate::model::dead_letter::DeadLetter;

/// Dead letters, by the turn's id: the oldest turns come first.
#[async_trait]
pub trait DeadLetters: Send + Sync + 'static {
    /// Keeps one; one of the same turn stays as it is. Says whether it is kept: not if there are
    /// [`DEAD_LETTERS_MAX`](colloquy_protocol::limits::DEAD_LETTERS_MAX) already (or as many more as there are pods).
    async fn put(&self, letter: DeadLetter) -> StoreResult<bool>;

    /// One of them.
    async fn get(&self, turn_id: MessageId) -> StoreResult<Option<DeadLetter>>;

    /// Up to `limit` of them, of one agent or of all, those that come after one.
    async fn list(
        &self,
        agent_id: Option<&AgentId>,
        after: Option<MessageId>,
        limit: usize,
    ) -> StoreResult<Vec<DeadLetter>>;

    /// Up to `limit` of each of these conversations: those of a conversation together, the newest turns first.
    async fn of_conversations(
        &self,
        conversation_ids: &[ConversationId],
        limit: usize,
    ) -> StoreResult<Vec<DeadLetter>>;

    /// The agent has taken it again; nothing happens if it is there no more.
    async fn replayed(&self, turn_id: MessageId, now: UnixMillis) -> StoreResult<()>;

    /// Keeps it no longer; says whether it was there.
    async fn remove(&self, turn_id: MessageId) -> StoreResult<bool>;
}
