//! Dead letters: two collections of them. A document is a turn or a message, so that each is there once.

use std::sync::Arc;

use async_trait::async_trait;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::agent::AgentId;
use colloquy_protocol::dead_letter::DeadReason;
use colloquy_protocol::ids::{ConversationId, MessageId};
use colloquy_protocol::limits::DEAD_LETTERS_MAX;
use colloquy_storage::model::dead_letter::DeadLetter;
use colloquy_storage::ports::{DeadLetters, StoreError, StoreResult};
use mongodb::bson::{Bson, Document, RawDocument, deserialize_from_bson, doc, serialize_to_bson};

use super::engine::Engine;
use super::error::{is_duplicate, unavailable};
use super::index::{Index, index};
use super::row::{Fields, date, malformed, number, uuid};

/// Turns that were given up.
pub(in crate::mongo) const GIVEN_UP: &str = "dead_letters";
/// Messages that could not be told.
pub(in crate::mongo) const UNTOLD: &str = "untold";

pub(in crate::mongo) fn indexes() -> Vec<Index> {
    let indexes_of = |collection: &'static str| {
        [
            index(collection, "of_agent", doc! { "agent_id": 1, "_id": 1 }).build(),
            index(collection, "of_conversation", doc! { "conversation_id": 1, "_id": -1 }).build(),
        ]
    };
    [GIVEN_UP, UNTOLD].into_iter().flat_map(indexes_of).collect()
}

pub(in crate::mongo) struct MongoDeadLetters {
    pub(in crate::mongo) engine: Arc<Engine>,
    /// Where they are kept: [`GIVEN_UP`] or [`UNTOLD`].
    pub(in crate::mongo) collection: &'static str,
}

#[async_trait]
impl DeadLetters for MongoDeadLetters {
    async fn put(&self, letter: DeadLetter) -> StoreResult<bool> {
        let (letters, row) = (self.engine.db.collection::<Document>(self.collection), write(&letter)?);
        let kept = self.engine.ask(|| letters.estimated_document_count()).await?;
        if usize::try_from(kept).is_ok_and(|kept| kept >= DEAD_LETTERS_MAX) {
            return Ok(self.get(letter.turn_id).await?.is_some());
        }
        match self.engine.run(|| letters.insert_one(&row)).await {
            Ok(_) => Ok(true),
            Err(error) if is_duplicate(&error) => Ok(true),
            Err(error) => Err(unavailable(&error)),
        }
    }

    async fn get(&self, turn_id: MessageId) -> StoreResult<Option<DeadLetter>> {
        let letters = self.engine.collection(self.collection);
        let row = self.engine.ask(|| letters.find_one(doc! { "_id": uuid(turn_id.0) })).await?;
        row.map(|row| read(&row)).transpose()
    }

    async fn list(
        &self,
        agent_id: Option<&AgentId>,
        after: Option<MessageId>,
        limit: usize,
    ) -> StoreResult<Vec<DeadLetter>> {
        let letters = self.engine.collection(self.collection);
        let mut filter = Document::new();
        if let Some(agent_id) = agent_id {
            filter.insert("agent_id", agent_id.as_str());
        }
        if let Some(after) = after {
            filter.insert("_id", doc! { "$gt": uuid(after.0) });
        }
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let find = || letters.find(filter.clone()).sort(doc! { "_id": 1 }).limit(limit);
        self.engine.all(find).await?.iter().map(|row| read(row)).collect()
    }

    async fn of_conversations(
        &self,
        conversation_ids: &[ConversationId],
        limit: usize,
    ) -> StoreResult<Vec<DeadLetter>> {
        if conversation_ids.is_empty() || limit == 0 {
            return Ok(Vec::new());
        }
        let ids: Vec<Bson> = conversation_ids.iter().map(|id| uuid(id.0)).collect();
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        // Cut where they lie: one conversation may have all there are.
        let stages = [
            doc! { "$match": { "conversation_id": { "$in": ids } } },
            doc! { "$sort": { "conversation_id": 1, "_id": -1 } },
            doc! { "$group": { "_id": "$conversation_id", "letters": { "$push": "$$ROOT" } } },
            doc! { "$project": { "letters": { "$slice": ["$letters", limit] } } },
        ];
        let groups = self.engine.all_of(&self.engine.collection(self.collection), &stages).await?;
        let mut letters = Vec::new();
        for group in &groups {
            for letter in group.get_array("letters").map_err(|_| malformed("letters"))? {
                let letter = letter.map_err(|_| malformed("letters"))?;
                letters.push(read(letter.as_document().ok_or_else(|| malformed("letters"))?)?);
            }
        }
        Ok(letters)
    }

    async fn replayed(&self, turn_id: MessageId, now: UnixMillis) -> StoreResult<()> {
        let letters = self.engine.collection(self.collection);
        let change = doc! { "$set": { "replayed_at": date(now) } };
        self.engine.ask(|| letters.update_one(doc! { "_id": uuid(turn_id.0) }, change.clone())).await?;
        Ok(())
    }

    async fn remove(&self, turn_id: MessageId) -> StoreResult<bool> {
        // Looked for first: a deletion that is repeated because its answer was lost finds nothing.
        let is_there = self.get(turn_id).await?.is_some();
        let letters = self.engine.collection(self.collection);
        self.engine.ask(|| letters.delete_one(doc! { "_id": uuid(turn_id.0) })).await?;
        Ok(is_there)
    }
}

fn write(letter: &DeadLetter) -> StoreResult<Document> {
    Ok(doc! {
        "_id": uuid(letter.turn_id.0),
        "agent_id": letter.agent_id.as_str(),
        "conversation_id": uuid(letter.conversation_id.0),
        "sequence_number": number(letter.sequence_number),
        "reason": serialize_to_bson(&letter.reason).map_err(StoreError::corrupt)?,
        "status": letter.status.map(i32::from),
        "tries": number(u64::from(letter.tries)),
        "died_at": date(letter.died_at),
        "replayed_at": letter.replayed_at.map(date),
    })
}

fn read(row: &RawDocument) -> StoreResult<DeadLetter> {
    let reason = Bson::String(row.text("reason")?.to_owned());
    let reason: DeadReason = deserialize_from_bson(reason).map_err(|_| malformed("reason"))?;
    let status = row.optional_number("status")?;
    Ok(DeadLetter {
        turn_id: MessageId(row.uuid("_id")?),
        agent_id: AgentId::new(row.text("agent_id")?).map_err(|_| malformed("agent_id"))?,
        conversation_id: ConversationId(row.uuid("conversation_id")?),
        sequence_number: row.number("sequence_number")?,
        reason,
        status: status.map(u16::try_from).transpose().map_err(|_| malformed("status"))?,
        tries: u32::try_from(row.number("tries")?).map_err(|_| malformed("tries"))?,
        died_at: row.date("died_at")?,
        replayed_at: row.optional_date("replayed_at")?,
    })
}
