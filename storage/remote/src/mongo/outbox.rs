//! How far messages have been told: one document for each conversation of which any was.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use colloquy_protocol::ids::ConversationId;
use colloquy_storage::model::outgoing::Outgoing;
use colloquy_storage::ports::{Outbox, StoreResult};
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};

use super::conversations::{CONVERSATIONS, written_end};
use super::engine::{Engine, majority};
use super::log_ends;
use super::row::{Fields, number, uuid};

const OUTBOX: &str = "outbox";
/// Those without an index of ours.
pub(in crate::mongo) const COLLECTIONS: [&str; 1] = [OUTBOX];

pub(in crate::mongo) struct MongoOutbox(pub(in crate::mongo) Arc<Engine>);

#[async_trait]
impl Outbox for MongoOutbox {
    async fn walk(&self, after: Option<ConversationId>, limit: usize) -> StoreResult<Vec<Outgoing>> {
        let filter = after.map_or_else(Document::new, |after| doc! { "_id": { "$gt": uuid(after.0) } });
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let conversations = self.0.collection(CONVERSATIONS);
        let find = || {
            let find = conversations.find(filter.clone()).sort(doc! { "_id": 1 }).limit(limit);
            find.projection(doc! { "_id": 1, "last_sequence_number": 1, "last_message_at": 1 })
        };
        let rows = self.0.all(find).await?;
        // A hint that cannot be read is none: the log is looked through from its beginning (ISOLATE).
        let written = |row: &RawDocumentBuf| {
            Ok((ConversationId(row.uuid("_id")?), written_end(row).unwrap_or_default()))
        };
        let written: Vec<_> = rows.iter().map(written).collect::<StoreResult<_>>()?;
        let ends = log_ends::exact(&self.0, &written).await?;
        let ids: Vec<ConversationId> = written.iter().map(|(id, _)| *id).collect();
        let told = self.told_of(&ids).await?;
        let outgoing = ids.iter().zip(ends).map(|(id, end)| Outgoing {
            conversation_id: *id,
            end,
            told: told.get(id).copied().unwrap_or_default(),
        });
        Ok(outgoing.collect())
    }

    async fn told(&self, conversation_id: ConversationId) -> StoreResult<u64> {
        let outbox = self.0.collection(OUTBOX);
        let row = self.0.ask(|| outbox.find_one(doc! { "_id": uuid(conversation_id.0) })).await?;
        Ok(row.map_or(0, |row| position(&row)))
    }

    async fn advance(&self, told: Vec<(ConversationId, u64)>) -> StoreResult<()> {
        let statements: Vec<Document> = told.iter().map(statement).collect();
        if statements.is_empty() {
            return Ok(());
        }
        self.0.update_many(OUTBOX, statements, majority()).await
    }
}

impl MongoOutbox {
    /// Positions by conversation; those of which nothing was told are left out.
    async fn told_of(&self, ids: &[ConversationId]) -> StoreResult<HashMap<ConversationId, u64>> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let wanted: Vec<Bson> = ids.iter().map(|id| uuid(id.0)).collect();
        let outbox = self.0.collection(OUTBOX);
        let rows = self.0.all(|| outbox.find(doc! { "_id": { "$in": wanted.clone() } })).await?;
        let told = |row: &RawDocumentBuf| Ok((ConversationId(row.uuid("_id")?), position(row)));
        rows.iter().map(told).collect()
    }
}

/// One that cannot be read is lost: what was told is told again.
fn position(row: &RawDocumentBuf) -> u64 {
    row.number("told").unwrap_or_default()
}

/// Moves one position, forward only: the greater of two writes stays, in whatever order they come.
fn statement((conversation_id, told): &(ConversationId, u64)) -> Document {
    let (id, told) = (uuid(conversation_id.0), number(*told));
    doc! { "q": { "_id": id }, "u": { "$max": { "told": told } }, "upsert": true }
}
