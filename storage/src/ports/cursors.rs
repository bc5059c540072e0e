//! How far everybody has come.

use async_trait::async_trait;
use colloquy_protocol::ids::{ConversationId, UserId};

use super::StoreResult;
use crate::model::cursor::Cursor;

/// Delivery and read cursors. They only move forward: the greater of two writes stays, in whatever order they come.
#[async_trait]
pub trait Cursors: Send + Sync + 'static {
    /// Moves cursors; those that would go back stay where they are.
    async fn advance(&self, cursors: Vec<Cursor>) -> StoreResult<()>;

    /// Every cursor in a conversation.
    async fn of_conversation(&self, conversation_id: ConversationId) -> StoreResult<Vec<Cursor>>;

    /// Every cursor of a user.
    async fn of_user(&self, user_id: UserId) -> StoreResult<Vec<Cursor>>;
}
