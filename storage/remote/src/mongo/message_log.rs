//! The message log.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use colloquy_protocol::ids::{ConversationId, IdempotencyKey, MessageId, UserId};
use colloquy_protocol::window::SequenceWindow;
use colloquy_storage::model::conversation::LogEnd;
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::message_log::{Append, Appended, Located, MessageLog, Ownership};
use colloquy_storage::ports::{StoreError, StoreResult};
use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::options::ReturnDocument;
use tokio::time::sleep;

use super::conversations::hint;
use super::engine::Engine;
use super::error::{is_duplicate, refused_at, unavailable};
use super::index::{Index, index};
use super::log_ends;
use super::message_row;
use super::placing::Placing;
use super::refusal;
use super::row::{Fields, number, uuid};

pub(in crate::mongo) const MESSAGES: &str = "messages";
pub(in crate::mongo) const SEQUENCE_NUMBERS: &str = "sequence_numbers";
const POSITION_UNIQUE: &str = "position_unique";
/// Those without an index of ours.
pub(in crate::mongo) const COLLECTIONS: [&str; 1] = [SEQUENCE_NUMBERS];

/// Two that take ownership for the first time meet in one upsert: how often it is tried.
const TAKE_ATTEMPTS_MAX: u32 = 5;
/// A refusal that nothing visible explains: how often the reason is looked for. A majority may not have it yet.
const EXPLAIN_ATTEMPTS_MAX: u32 = 6;
/// Before the reason of a refusal is looked for again.
const EXPLAIN_PAUSE: Duration = Duration::from_millis(20);
/// Messages a cursor brings at once.
const READ_BATCH: u32 = 100;

pub(in crate::mongo) fn indexes(keep: Duration) -> Vec<Index> {
    vec![
        // ORDER, FENCE.
        index(MESSAGES, POSITION_UNIQUE, doc! { "conversation_id": 1, "sequence_number": 1 })
            .unique()
            .build(),
        // ONCE.
        index(MESSAGES, "key_unique", doc! { "sender_id": 1, "idempotency_key": 1 }).unique().build(),
        index(MESSAGES, "history", doc! { "conversation_id": 1, "timestamp": -1 }).build(),
        index(MESSAGES, "retention", doc! { "created_at": 1 }).expires_after(keep).build(),
    ]
}

pub(in crate::mongo) struct MongoMessageLog(pub(in crate::mongo) Arc<Engine>);

#[async_trait]
impl MessageLog for MongoMessageLog {
    async fn take_ownership(&self, conversation_id: ConversationId) -> StoreResult<Ownership> {
        let epoch = self.raise_epoch(conversation_id).await?;
        // Only now: what an earlier owner stores later than this meets the new one's numbers (FENCE).
        let LogEnd { last_sequence, last_message_at } = self.end(conversation_id).await?;
        Ok(Ownership { epoch, last_sequence, last_message_at })
    }

    async fn append(&self, appends: Vec<Append>) -> StoreResult<Vec<Appended>> {
        let mut placings: Vec<Placing> = appends.into_iter().map(Placing::new).collect();
        let mut unexplained = 0;
        loop {
            let (rows, owners) = rows(&placings)?;
            if rows.is_empty() {
                break;
            }
            let refused = self.insert(&rows).await?;
            let stored = refused.unwrap_or(owners.len());
            for (place, placing) in placings.iter_mut().enumerate() {
                placing.stored(owners[..stored].iter().filter(|owner| **owner == place).count());
            }
            let Some(refused) = refused else { break };
            if stored > 0 || refusal::explain(&self.0, &mut placings).await? {
                unexplained = 0;
                continue;
            }
            unexplained += 1;
            if unexplained >= EXPLAIN_ATTEMPTS_MAX {
                let of_refused = owners.get(refused).and_then(|place| placings.get_mut(*place));
                of_refused.into_iter().for_each(|placing| placing.refuse(Appended::Unknown));
                unexplained = 0;
            } else {
                sleep(EXPLAIN_PAUSE).await;
            }
        }
        placings.iter().filter_map(Placing::newest).for_each(|message| self.0.log_ends.note(message));
        Ok(placings.into_iter().map(Placing::finish).collect())
    }

    async fn read(
        &self,
        conversation_id: ConversationId,
        window: SequenceWindow,
        max_messages: usize,
        max_bytes: usize,
    ) -> StoreResult<Vec<Arc<Message>>> {
        if max_messages == 0 {
            return Ok(Vec::new());
        }
        let range = range(conversation_id, window.from(), window.to());
        let read = || self.read_range(range.clone(), max_messages, max_bytes);
        let messages = self.0.ask(read).await??;
        let first = messages.first().map_or(window.from(), |first| first.sequence_number);
        // Retention takes the oldest: whatever else is missing in front is a hole, and nothing is shown beyond one.
        if first > window.from() && self.is_any(conversation_id, 1, window.from()).await? {
            return Ok(Vec::new());
        }
        Ok(messages)
    }

    async fn oldest(&self, conversation_id: ConversationId) -> StoreResult<Option<u64>> {
        let messages = self.0.collection(MESSAGES);
        let of_conversation = doc! { "conversation_id": uuid(conversation_id.0) };
        let find = || {
            let find = messages.find_one(of_conversation.clone());
            let order = doc! { "conversation_id": 1, "sequence_number": 1 };
            find.sort(order).projection(doc! { "_id": 0, "sequence_number": 1 })
        };
        self.0.ask(find).await?.map(|row| row.number("sequence_number")).transpose()
    }

    async fn end(&self, conversation_id: ConversationId) -> StoreResult<LogEnd> {
        let written = hint(&self.0, conversation_id).await?;
        let ends = log_ends::exact(&self.0, &[(conversation_id, written)]).await?;
        Ok(ends.first().copied().unwrap_or(written))
    }

    async fn locate(&self, message_ids: &[MessageId]) -> StoreResult<Vec<Located>> {
        if message_ids.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> = message_ids.iter().map(|id| uuid(id.0)).collect();
        let messages = self.0.collection(MESSAGES);
        let find = || {
            let find = messages.find(doc! { "_id": { "$in": ids.clone() } });
            find.projection(doc! { "_id": 1, "conversation_id": 1, "sequence_number": 1 })
        };
        let located = |row: &RawDocumentBuf| {
            Ok(Located {
                message_id: MessageId(row.uuid("_id")?),
                conversation_id: ConversationId(row.uuid("conversation_id")?),
                sequence_number: row.number("sequence_number")?,
            })
        };
        self.0.all(find).await?.iter().map(located).collect()
    }

    async fn find_by_key(&self, sender_id: UserId, key: IdempotencyKey) -> StoreResult<Option<Arc<Message>>> {
        let messages = self.0.collection(MESSAGES);
        let filter = doc! { "sender_id": uuid(sender_id.0), "idempotency_key": uuid(key.uuid()) };
        let row = self.0.ask(|| messages.find_one(filter.clone())).await?;
        row.map(|row| message_row::read(&row)).transpose()
    }
}

impl MongoMessageLog {
    async fn raise_epoch(&self, conversation_id: ConversationId) -> StoreResult<u64> {
        let numbers = self.0.collection(SEQUENCE_NUMBERS);
        let raise = || {
            let update = doc! { "$inc": { "epoch": 1_i64 }, "$currentDate": { "updated_at": true } };
            let raise = numbers.find_one_and_update(doc! { "_id": uuid(conversation_id.0) }, update);
            raise.upsert(true).return_document(ReturnDocument::After)
        };
        for _ in 0..TAKE_ATTEMPTS_MAX {
            match self.0.run(raise).await {
                Ok(Some(row)) => return row.number("epoch"),
                // Another upsert was faster; its document is there now.
                Ok(None) => {}
                Err(error) if is_duplicate(&error) => {}
                Err(error) => return Err(unavailable(&error)),
            }
        }
        Err(StoreError::Busy)
    }

    /// Stores rows in order until one is refused by a unique index; which.
    async fn insert(&self, rows: &[RawDocumentBuf]) -> StoreResult<Option<usize>> {
        let messages = self.0.collection(MESSAGES);
        // Ordered: nothing is stored behind what was refused, so no hole comes of it (ORDER).
        match self.0.run(|| messages.insert_many(rows).ordered(true)).await {
            Ok(_) => Ok(None),
            Err(error) => refused_at(&error).map(Some).ok_or_else(|| unavailable(&error)),
        }
    }

    async fn read_range(
        &self,
        range: Document,
        max_messages: usize,
        max_bytes: usize,
    ) -> Result<StoreResult<Vec<Arc<Message>>>, mongodb::error::Error> {
        let limit = i64::try_from(max_messages).unwrap_or(i64::MAX);
        let messages = self.0.collection(MESSAGES);
        let order = doc! { "conversation_id": 1, "sequence_number": 1 };
        let find = messages.find(range).sort(order);
        let mut cursor = find.limit(limit).batch_size(READ_BATCH).await?;
        let (mut read, mut bytes) = (Vec::<Arc<Message>>::new(), 0);
        while cursor.advance().await? {
            let message = match message_row::read(cursor.current()) {
                Ok(message) => message,
                // It keeps nobody from what comes before it.
                Err(_) if !read.is_empty() => break,
                Err(error) => return Ok(Err(error)),
            };
            let is_next = read.last().is_none_or(|last| last.sequence_number + 1 == message.sequence_number);
            bytes += message.weight();
            if !is_next || (bytes > max_bytes && !read.is_empty()) {
                break;
            }
            read.push(message);
        }
        Ok(Ok(read))
    }

    /// Is there a message with a number from `from` on and before `before`?
    async fn is_any(&self, conversation_id: ConversationId, from: u64, before: u64) -> StoreResult<bool> {
        let Some(through) = before.checked_sub(1).filter(|through| *through >= from) else {
            return Ok(false);
        };
        let messages = self.0.collection(MESSAGES);
        let range = range(conversation_id, from, through);
        let find = || {
            let find = messages.find_one(range.clone());
            find.projection(doc! { "_id": 0, "sequence_number": 1 })
        };
        Ok(self.0.ask(find).await?.is_some())
    }
}

/// The rows to be stored and, for each, which append it belongs to. Those of an append are together and in order.
fn rows(placings: &[Placing]) -> StoreResult<(Vec<RawDocumentBuf>, Vec<usize>)> {
    let (mut rows, mut owners) = (Vec::new(), Vec::new());
    for (owner, placing) in placings.iter().enumerate() {
        for (_, sequence_number, message) in placing.pending() {
            rows.push(message_row::write(message, sequence_number)?);
            owners.push(owner);
        }
    }
    Ok((rows, owners))
}

fn range(conversation_id: ConversationId, from: u64, through: u64) -> Document {
    let numbers = doc! { "$gte": number(from), "$lte": number(through) };
    doc! { "conversation_id": uuid(conversation_id.0), "sequence_number": numbers }
}
