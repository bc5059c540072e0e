//! Conversations.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use async_trait::async_trait;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{ConversationId, UserId};

use super::Engine;
use super::encoding::{ID, decode, encode, id_pair, malformed, read_u64, read_uuid};
use super::group::Group;
use super::keyspaces::Space;
use super::snapshot::{Rows, Snapshot};
use crate::model::conversation::{Conversation, ConversationAtEnd, ListPosition};
use crate::ports::{Conversations, StoreResult};

pub(super) struct EmbeddedConversations(pub(super) Arc<Engine>);

#[async_trait]
impl Conversations for EmbeddedConversations {
    async fn open_pair(&self, a: UserId, b: UserId, now: UnixMillis) -> StoreResult<(Conversation, bool)> {
        // Most pairs are open already, and a conversation never changes: no need to wait for a commit.
        if let Some(conversation) = get(&self.0.snapshot(), ConversationId::of_pair(a, b))? {
            return Ok((conversation, false));
        }
        self.0.write(move |group| open_pair(group, a, b, now)).await
    }

    async fn get(&self, conversation_id: ConversationId) -> StoreResult<Option<Conversation>> {
        get(&self.0.snapshot(), conversation_id)
    }

    async fn list(
        &self,
        user_id: UserId,
        after: Option<ListPosition>,
        limit: usize,
    ) -> StoreResult<Vec<ConversationAtEnd>> {
        self.0.scan(move |rows| list(rows, user_id, after, limit)).await
    }

    async fn walk(
        &self,
        user_id: UserId,
        after: Option<ConversationId>,
        limit: usize,
    ) -> StoreResult<Vec<ConversationAtEnd>> {
        self.0.scan(move |rows| walk(rows, user_id, after, limit)).await
    }

    async fn share_one(&self, a: UserId, b: UserId) -> StoreResult<bool> {
        // Every conversation is a pair's.
        let pair = ConversationId::of_pair(a, b);
        Ok(self.0.snapshot().get(Space::Conversations, pair.0.as_bytes())?.is_some())
    }
}

fn get(rows: &impl Rows, conversation_id: ConversationId) -> StoreResult<Option<Conversation>> {
    let stored = rows.get(Space::Conversations, conversation_id.0.as_bytes())?;
    stored.map(|bytes| decode(&bytes)).transpose()
}

fn open_pair(group: &mut Group, a: UserId, b: UserId, now: UnixMillis) -> StoreResult<(Conversation, bool)> {
    let conversation_id = ConversationId::of_pair(a, b);
    if let Some(conversation) = get(group, conversation_id)? {
        return Ok((conversation, false));
    }
    let participants = vec![a.min(b), a.max(b)];
    for participant in &participants {
        group.put(Space::Participations, id_pair(participant.0, conversation_id.0), now.to_be_bytes());
    }
    let conversation = Conversation { conversation_id, participants, created_at: now };
    group.put(Space::Conversations, *conversation_id.0.as_bytes(), encode(&conversation)?);
    Ok((conversation, true))
}

/// Looks at where every conversation of the user ends and keeps the `limit` newest after `after`. An index by
/// activity would cost each append four more rows, which is where the store earns its keep; this costs one short
/// row per conversation when somebody opens their list.
fn list(
    rows: &Snapshot,
    user_id: UserId,
    after: Option<ListPosition>,
    limit: usize,
) -> StoreResult<Vec<ConversationAtEnd>> {
    let after = after.map(|position| (position.last_activity, position.conversation_id));
    let mut newest = BinaryHeap::with_capacity(limit.min(1024) + 1);
    for row in rows.prefix(Space::Participations, user_id.0.as_bytes()) {
        let (key, opened_at) = row?;
        let conversation_id = ConversationId(read_uuid(&key[ID..])?);
        let end = rows.log_end(conversation_id)?.end();
        let last_activity = match end.last_message_at {
            Some(at) => at,
            None => read_u64(&opened_at)?,
        };
        let place = (last_activity, conversation_id);
        if after.is_none_or(|after| place < after) {
            newest.push(Reverse((place, end.last_sequence)));
            if newest.len() > limit {
                newest.pop();
            }
        }
    }
    // Ascending order of what is reversed is newest first.
    newest.into_sorted_vec().into_iter().map(|Reverse(((_, id), _))| at_end(rows, id)).collect()
}

fn walk(
    rows: &Snapshot,
    user_id: UserId,
    after: Option<ConversationId>,
    limit: usize,
) -> StoreResult<Vec<ConversationAtEnd>> {
    let from = after.map_or(uuid::Uuid::nil(), |after| after.0);
    let range = id_pair(user_id.0, from).to_vec()..=id_pair(user_id.0, uuid::Uuid::max()).to_vec();
    let ids = rows.range(Space::Participations, range).map(|row| {
        let (key, _) = row?;
        Ok(ConversationId(read_uuid(&key[ID..])?))
    });
    ids.filter(|id| !matches!(id, Ok(id) if Some(*id) == after))
        .take(limit)
        .map(|id| at_end(rows, id?))
        .collect()
}

fn at_end(rows: &Snapshot, conversation_id: ConversationId) -> StoreResult<ConversationAtEnd> {
    let conversation =
        get(rows, conversation_id)?.ok_or_else(|| malformed("participation: no such conversation"))?;
    Ok(ConversationAtEnd { conversation, end: rows.log_end(conversation_id)?.end() })
}
