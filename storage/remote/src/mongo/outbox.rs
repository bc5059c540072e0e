//! How far messages have been told: one document for each conversation of which any was.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use colloquy_protocol::ids::ConversationId;
use colloquy_storage::model::outgoing::Outgoing;
use colloquy_storage::ports::{Outbox, StoreResult};
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};

use super::conversations;
use super::engine::{Engine, majority};
use super::row::{Fields, number, uuid};

const OUTBOX: &str = "outbox";
/// Those without an index of ours.
pub(in crate::mongo) const COLLECTIONS: [&str; 1] = [OUTBOX];

pub(in crate::mongo) struct MongoOutbox(pub(in crate::mongo) Arc<Engine>);

#[async_trait]
impl Outbox for MongoOutbox {
    async fn walk(&self, after: Option<ConversationId>, limit: usize) -> StoreResult<Vec<Outgoing>> {
        let filter = after.map_or_else(Document::new, |after| doc! { "_id": { "$gt": uuid(after.0) } });
        let (page, _) = conversations::page(&self.0, &filter, &doc! { "_id": 1 }, limit).await?;
        let ids: Vec<ConversationId> =
            page.iter().map(|at_end| at_end.conversation.conversation_id).collect();
        let told = self.told_of(&ids).await?;
        let outgoing = ids.iter().zip(&page).map(|(id, at_end)| Outgoing {
            conversation_id: *id,
            end: at_end.end,
            told: told.get(id).copied().unwrap_or_default(),
        });
        Ok(outgoing.collect())
    }

    async fn told(&self, conversation_id: ConversationId) -> StoreResult<u64> {
        let outbox = self.0.collection(OUTBOX);
        let row = self.0.ask(|| outbox.find_one(doc! { "_id": uuid(conversation_id.0) })).await?;
        row.map_or(Ok(0), |row| row.number("told"))
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
        let told = |row: &RawDocumentBuf| Ok((ConversationId(row.uuid("_id")?), row.number("told")?));
        rows.iter().map(told).collect()
    }
}

/// Moves one position, forward only: the greater of two writes stays, in whatever order they come.
fn statement((conversation_id, told): &(ConversationId, u64)) -> Document {
    let (id, told) = (uuid(conversation_id.0), number(*told));
    doc! { "q": { "_id": id }, "u": { "$max": { "told": told } }, "upsert": true }
}
