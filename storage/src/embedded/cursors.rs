//! Cursors. One row each, under the user; a conversation's are those of its participants.

use std::sync::Arc;

use async_trait::async_trait;
use colloquy_protocol::ids::{ConversationId, UserId};
use fjall::Slice;

use super::Engine;
use super::encoding::{cursor_key, decode, id_pair, read_cursor_key, read_u64};
use super::group::Group;
use super::keyspaces::Space;
use super::snapshot::{Rows, Snapshot};
use crate::model::conversation::Conversation;
use crate::model::cursor::Cursor;
use crate::ports::{Cursors, StoreResult};

pub(super) struct EmbeddedCursors(pub(super) Arc<Engine>);

#[async_trait]
impl Cursors for EmbeddedCursors {
    async fn advance(&self, cursors: Vec<Cursor>) -> StoreResult<()> {
        self.0.write(move |group| advance(group, &cursors)).await
    }

    async fn of_conversation(&self, conversation_id: ConversationId) -> StoreResult<Vec<Cursor>> {
        self.0.scan(move |rows| of_conversation(rows, conversation_id)).await
    }

    async fn of_user(&self, user_id: UserId) -> StoreResult<Vec<Cursor>> {
        let of_user = move |rows: &Snapshot| {
            rows.prefix(Space::Cursors, user_id.0.as_bytes()).map(|row| read_cursor(&row?)).collect()
        };
        self.0.scan(of_user).await
    }
}

fn advance(group: &mut Group, cursors: &[Cursor]) -> StoreResult<()> {
    for cursor in cursors {
        let key = cursor_key(cursor.user_id, cursor.conversation_id, &cursor.kind);
        let through = group.get(Space::Cursors, &key)?.map_or(Ok(0), |bytes| read_u64(&bytes))?;
        if cursor.through > through {
            group.put(Space::Cursors, key, cursor.through.to_be_bytes());
        }
    }
    Ok(())
}

fn of_conversation(rows: &Snapshot, conversation_id: ConversationId) -> StoreResult<Vec<Cursor>> {
    let Some(stored) = rows.get(Space::Conversations, conversation_id.0.as_bytes())? else {
        return Ok(Vec::new());
    };
    let conversation: Conversation = decode(&stored)?;
    let mut cursors = Vec::new();
    for participant in conversation.participants {
        for row in rows.prefix(Space::Cursors, &id_pair(participant.0, conversation_id.0)) {
            cursors.push(read_cursor(&row?)?);
        }
    }
    Ok(cursors)
}

fn read_cursor((key, through): &(Slice, Slice)) -> StoreResult<Cursor> {
    let (user_id, conversation_id, kind) = read_cursor_key(key)?;
    Ok(Cursor { conversation_id, user_id, kind, through: read_u64(through)? })
}
