//! Cursors: one document each.

use std::sync::Arc;

use async_trait::async_trait;
use colloquy_protocol::ids::{ConversationId, DeviceId, UserId};
use colloquy_storage::model::cursor::{Cursor, CursorKind};
use colloquy_storage::ports::{Cursors, StoreResult};
use mongodb::bson::{Document, RawDocumentBuf, doc};

use super::engine::{Engine, majority};
use super::index::{Index, index};
use super::row::{Fields, malformed, number, uuid};

const CURSORS: &str = "cursors";

pub(in crate::mongo) fn indexes() -> Vec<Index> {
    vec![
        index(CURSORS, "of_user", doc! { "user_id": 1, "conversation_id": 1 }).build(),
        index(CURSORS, "of_conversation", doc! { "conversation_id": 1 }).build(),
    ]
}

pub(in crate::mongo) struct MongoCursors(pub(in crate::mongo) Arc<Engine>);

#[async_trait]
impl Cursors for MongoCursors {
    async fn advance(&self, cursors: Vec<Cursor>) -> StoreResult<()> {
        let statements: Vec<Document> = cursors.iter().map(statement).collect();
        if statements.is_empty() {
            return Ok(());
        }
        self.0.update_many(CURSORS, statements, majority()).await
    }

    async fn of_conversation(&self, conversation_id: ConversationId) -> StoreResult<Vec<Cursor>> {
        self.find(doc! { "conversation_id": uuid(conversation_id.0) }).await
    }

    async fn of_user(&self, user_id: UserId) -> StoreResult<Vec<Cursor>> {
        self.find(doc! { "user_id": uuid(user_id.0) }).await
    }
}

impl MongoCursors {
    async fn find(&self, filter: Document) -> StoreResult<Vec<Cursor>> {
        let cursors = self.0.collection(CURSORS);
        self.0.all(|| cursors.find(filter.clone())).await?.iter().map(read).collect()
    }
}

/// Moves one cursor, forward only: the greater of two writes stays, in whatever order they come.
fn statement(cursor: &Cursor) -> Document {
    let (user_id, conversation_id) = (uuid(cursor.user_id.0), uuid(cursor.conversation_id.0));
    let (kind, device_id) = match &cursor.kind {
        CursorKind::Delivered(device_id) => ("delivered", device_id.as_str()),
        CursorKind::Read => ("read", ""),
        CursorKind::Sent => ("sent", ""),
    };
    // One document for one cursor: its id says which.
    let id = doc! {
        "user_id": user_id.clone(),
        "conversation_id": conversation_id.clone(),
        "kind": kind,
        "device_id": device_id,
    };
    let update = doc! {
        "$max": { "through": number(cursor.through) },
        "$setOnInsert": {
            "user_id": user_id,
            "conversation_id": conversation_id,
            "kind": kind,
            "device_id": device_id,
        },
    };
    doc! { "q": { "_id": id }, "u": update, "upsert": true }
}

fn read(row: &RawDocumentBuf) -> StoreResult<Cursor> {
    let kind = match row.text("kind")? {
        "delivered" => {
            let device_id = DeviceId::new(row.text("device_id")?);
            CursorKind::Delivered(device_id.map_err(|_| malformed("device_id"))?)
        }
        "read" => CursorKind::Read,
        "sent" => CursorKind::Sent,
        _ => return Err(malformed("kind")),
    };
    Ok(Cursor {
        conversation_id: ConversationId(row.uuid("conversation_id")?),
        user_id: UserId(row.uuid("user_id")?),
        kind,
        through: row.number("through")?,
    })
}
