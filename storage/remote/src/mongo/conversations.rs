//! Conversations.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{ConversationId, UserId};
use colloquy_storage::model::conversation::{Conversation, ConversationAtEnd, ListPosition, LogEnd};
use colloquy_storage::ports::{Conversations, StoreResult};
use mongodb::bson::{Document, RawDocument, RawDocumentBuf, doc};

use super::engine::Engine;
use super::error::{is_duplicate, unavailable};
use super::index::{Index, index};
use super::log_ends;
use super::row::{Fields, date, malformed, number, uuid};

pub(in crate::mongo) const CONVERSATIONS: &str = "conversations";

/// How often a page of a list is read when conversations in it turn out to have moved.
const LIST_ROUNDS_MAX: usize = 3;

pub(in crate::mongo) fn indexes() -> Vec<Index> {
    vec![
        // A user's list, newest first.
        index(CONVERSATIONS, "list", doc! { "participants": 1, "last_activity": -1, "_id": -1 }).build(),
        // A user's conversations by id.
        index(CONVERSATIONS, "walk", doc! { "participants": 1, "_id": 1 }).build(),
    ]
}

pub(in crate::mongo) struct MongoConversations(pub(in crate::mongo) Arc<Engine>);

#[async_trait]
impl Conversations for MongoConversations {
    async fn open_pair(&self, a: UserId, b: UserId, now: UnixMillis) -> StoreResult<(Conversation, bool)> {
        let conversation_id = ConversationId::of_pair(a, b);
        // Most pairs are open already.
        if let Some(conversation) = self.get(conversation_id).await? {
            return Ok((conversation, false));
        }
        let participants = vec![a.min(b), a.max(b)];
        let conversation = Conversation { conversation_id, participants, created_at: now };
        let row = RawDocumentBuf::try_from(&new_row(&conversation)).map_err(|_| malformed("participants"))?;
        let collection = self.0.collection(CONVERSATIONS);
        match self.0.run(|| collection.insert_one(&row)).await {
            Ok(_) => Ok((conversation, true)),
            // Somebody else was faster, or this is the second try of a first one that was.
            Err(error) if is_duplicate(&error) => {
                let opened = self.get(conversation_id).await?;
                Ok((opened.unwrap_or(conversation), false))
            }
            Err(error) => Err(unavailable(&error)),
        }
    }

    async fn get(&self, conversation_id: ConversationId) -> StoreResult<Option<Conversation>> {
        let row = find(&self.0, conversation_id).await?;
        row.map(|row| conversation(&row)).transpose()
    }

    async fn list(
        &self,
        user_id: UserId,
        after: Option<ListPosition>,
        limit: usize,
    ) -> StoreResult<Vec<ConversationAtEnd>> {
        let mut filter = doc! { "participants": uuid(user_id.0) };
        if let Some(ListPosition { last_activity, conversation_id }) = after {
            let at = date(last_activity);
            filter.insert(
                "$or",
                vec![
                    doc! { "last_activity": { "$lt": at } },
                    doc! { "last_activity": at, "_id": { "$lt": uuid(conversation_id.0) } },
                ],
            );
        }
        let order = doc! { "last_activity": -1, "_id": -1 };
        let mut round = 1;
        loop {
            // What this process knows and the database does not yet would be out of order.
            self.0.log_ends.flush_of(&self.0, user_id).await?;
            let (page, moved) = self.page(&filter, &order, limit).await?;
            // The next page starts where this one ends: each must stand where it says it does.
            if !moved || round >= LIST_ROUNDS_MAX {
                return Ok(page);
            }
            round += 1;
        }
    }

    async fn walk(
        &self,
        user_id: UserId,
        after: Option<ConversationId>,
        limit: usize,
    ) -> StoreResult<Vec<ConversationAtEnd>> {
        let mut filter = doc! { "participants": uuid(user_id.0) };
        if let Some(after) = after {
            filter.insert("_id", doc! { "$gt": uuid(after.0) });
        }
        Ok(self.page(&filter, &doc! { "_id": 1 }, limit).await?.0)
    }

    async fn share_one(&self, a: UserId, b: UserId) -> StoreResult<bool> {
        // Every conversation is a pair's.
        Ok(find(&self.0, ConversationId::of_pair(a, b)).await?.is_some())
    }
}

impl MongoConversations {
    /// A page, and whether any log in it ends elsewhere than was written.
    async fn page(
        &self,
        filter: &Document,
        order: &Document,
        limit: usize,
    ) -> StoreResult<(Vec<ConversationAtEnd>, bool)> {
        if limit == 0 {
            return Ok((Vec::new(), false));
        }
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let collection = self.0.collection(CONVERSATIONS);
        let rows = self.0.all(|| collection.find(filter.clone()).sort(order.clone()).limit(limit)).await?;
        let mut conversations = Vec::with_capacity(rows.len());
        let mut written = Vec::with_capacity(rows.len());
        for row in &rows {
            let conversation = conversation(row)?;
            written.push((conversation.conversation_id, written_end(row)?));
            conversations.push(conversation);
        }
        let ends = log_ends::exact(&self.0, &written).await?;
        let moved =
            written.iter().zip(&ends).any(|((_, written), end)| written.last_sequence != end.last_sequence);
        let page = conversations.into_iter().zip(ends);
        Ok((page.map(|(conversation, end)| ConversationAtEnd { conversation, end }).collect(), moved))
    }
}

async fn find(engine: &Engine, conversation_id: ConversationId) -> StoreResult<Option<RawDocumentBuf>> {
    let collection = engine.collection(CONVERSATIONS);
    engine.ask(|| collection.find_one(doc! { "_id": uuid(conversation_id.0) })).await
}

/// What is written of where a log ends; nothing for a conversation that is not there.
pub(in crate::mongo) async fn hint(engine: &Engine, conversation_id: ConversationId) -> StoreResult<LogEnd> {
    find(engine, conversation_id).await?.map_or(Ok(LogEnd::default()), |row| written_end(&row))
}

/// [`hint`] of each.
pub(in crate::mongo) async fn hints(engine: &Engine, ids: &[ConversationId]) -> StoreResult<Vec<LogEnd>> {
    let wanted: Vec<_> = ids.iter().map(|id| uuid(id.0)).collect();
    let collection = engine.collection(CONVERSATIONS);
    let find = || {
        let find = collection.find(doc! { "_id": { "$in": wanted.clone() } });
        find.projection(doc! { "_id": 1, "last_sequence_number": 1, "last_message_at": 1 })
    };
    let rows = engine.all(find).await?;
    let hint = |row: &RawDocumentBuf| Ok((ConversationId(row.uuid("_id")?), written_end(row)?));
    let hints: HashMap<_, _> = rows.iter().map(hint).collect::<StoreResult<_>>()?;
    Ok(ids.iter().map(|id| hints.get(id).copied().unwrap_or_default()).collect())
}

fn new_row(conversation: &Conversation) -> Document {
    let participants: Vec<_> = conversation.participants.iter().map(|id| uuid(id.0)).collect();
    doc! {
        "_id": uuid(conversation.conversation_id.0),
        "type": "1:1",
        "participants": participants,
        "last_sequence_number": number(0),
        "last_activity": date(conversation.created_at),
        "created_at": date(conversation.created_at),
    }
}

fn conversation(row: &RawDocument) -> StoreResult<Conversation> {
    let participants = row.value("participants")?.and_then(|value| value.as_array());
    let participants = participants.ok_or_else(|| malformed("participants"))?;
    let participant = |value: Result<mongodb::bson::RawBsonRef<'_>, _>| {
        let binary = value.ok().and_then(|value| value.as_binary());
        let id = binary.and_then(|binary| uuid::Uuid::from_slice(binary.bytes).ok());
        id.map(UserId).ok_or_else(|| malformed("participants"))
    };
    Ok(Conversation {
        conversation_id: ConversationId(row.uuid("_id")?),
        participants: participants.into_iter().map(participant).collect::<StoreResult<_>>()?,
        created_at: row.date("created_at")?,
    })
}

pub(in crate::mongo) fn written_end(row: &RawDocument) -> StoreResult<LogEnd> {
    Ok(LogEnd {
        last_sequence: row.number("last_sequence_number")?,
        last_message_at: row.optional_date("last_message_at")?,
    })
}
