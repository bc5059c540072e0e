//! Who talks with whom.

use async_trait::async_trait;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{ConversationId, UserId};

use super::StoreResult;
use crate::model::conversation::{Conversation, ConversationAtEnd, ListPosition};

/// Conversations and their participants.
#[async_trait]
pub trait Conversations: Send + Sync + 'static {
    /// The 1:1 conversation of two different users, made if it is not there; says whether it was made. Its id is
    /// [`ConversationId::of_pair`]. That both users exist is the caller's to check.
    async fn open_pair(&self, a: UserId, b: UserId, now: UnixMillis) -> StoreResult<(Conversation, bool)>;

    /// One conversation.
    async fn get(&self, conversation_id: ConversationId) -> StoreResult<Option<Conversation>>;

    /// A user's conversations, those with the newest activity first (ties: greater id first), after `after`.
    async fn list(
        &self,
        user_id: UserId,
        after: Option<ListPosition>,
        limit: usize,
    ) -> StoreResult<Vec<ConversationAtEnd>>;

    /// A user's conversations in the order of their ids, after `after`: for walks over all of them.
    async fn walk(
        &self,
        user_id: UserId,
        after: Option<ConversationId>,
        limit: usize,
    ) -> StoreResult<Vec<ConversationAtEnd>>;

    /// Do two users share a conversation (AUTHZ for presence)?
    async fn share_one(&self, a: UserId, b: UserId) -> StoreResult<bool>;
}
