//! How far messages have been told.
//!
//! The log itself is the outbox: what has to be told is what stands in it behind a position. So nothing is written beside
//! a message, and nothing can be lost between two writes (NOLOSS).

use async_trait::async_trait;
use colloquy_protocol::ids::ConversationId;

use super::StoreResult;
use crate::model::outgoing::Outgoing;

/// Positions: one for each conversation, up to which whoever is told of every message has been told. They only move
/// forward: the greater of two writes stays, in whatever order they come.
#[async_trait]
pub trait Outbox: Send + Sync + 'static {
    /// Conversations in the order of their ids, after `after`, up to `limit` (1 at least): for walks over all of them.
    /// A page is empty only when nothing comes after `after`. Conversations in which nothing was ever written may be left
    /// out, or be there with an end of 0.
    async fn walk(&self, after: Option<ConversationId>, limit: usize) -> StoreResult<Vec<Outgoing>>;

    /// Up to where the messages of a conversation have been told; 0 if none has.
    async fn told(&self, conversation_id: ConversationId) -> StoreResult<u64>;

    /// Moves positions; those that would go back stay where they are.
    async fn advance(&self, told: Vec<(ConversationId, u64)>) -> StoreResult<()>;
}
