//! Where each log ends.
//!
//! A conversation's document holds a hint: the end as it was a moment ago. It is advanced lazily, in bulk, never in the
//! way of an ack. The hint is never beyond the end, so the end is found by looking beyond the hint; a hint that is lost
//! costs a longer look and nothing else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{ConversationId, UserId};
use colloquy_storage::model::conversation::LogEnd;
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::StoreResult;
use mongodb::bson::{Document, RawDocumentBuf, doc};

use super::conversations::CONVERSATIONS;
use super::engine::{Engine, majority};
use super::message_log::MESSAGES;
use super::row::{Fields, date, number, uuid};

/// Hints that wait to be written, at most; more are forgotten (BOUND).
const PENDING_MAX: usize = 65_536;
/// How long a hint waits to be written.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// Numbers looked at beyond each of many hints ...
const PROBE: u64 = 64;
/// ... and beyond a single one, or one that is further behind, at first. Each further look is [`PROBE_GROWTH`] times as wide.
const PROBE_WIDE: u64 = 4096;
const PROBE_GROWTH: u64 = 16;

/// Hints that are not written yet.
#[derive(Default)]
pub(in crate::mongo) struct LogEnds {
    pending: Mutex<HashMap<ConversationId, Advance>>,
}

#[derive(Clone, Copy)]
struct Advance {
    end: LogEnd,
    /// Whose lists change by it; nobody's for one that was found by looking.
    participants: Option<(UserId, UserId)>,
}

impl LogEnds {
    /// A message is in the log.
    pub(in crate::mongo) fn note(&self, message: &Message) {
        let end =
            LogEnd { last_sequence: message.sequence_number, last_message_at: Some(message.created_at) };
        let participants = Some((message.sender_id, message.receiver_id));
        self.put(message.conversation_id, Advance { end, participants });
    }

    fn put(&self, conversation_id: ConversationId, advance: Advance) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.len() >= PENDING_MAX && !pending.contains_key(&conversation_id) {
            return;
        }
        let known = pending.entry(conversation_id).or_insert(advance);
        if known.end.last_sequence < advance.end.last_sequence {
            *known = advance;
        }
    }

    fn known(&self, conversation_id: ConversationId) -> Option<LogEnd> {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.get(&conversation_id).map(|advance| advance.end)
    }

    fn take(&self, wanted: impl Fn(&Advance) -> bool) -> Vec<(ConversationId, Advance)> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.extract_if(|_, advance| wanted(advance)).collect()
    }

    /// Writes every hint.
    pub(in crate::mongo) async fn flush(&self, engine: &Engine) -> StoreResult<()> {
        self.write(engine, self.take(|_| true)).await
    }

    /// Writes the hints that move conversations in a user's list.
    pub(in crate::mongo) async fn flush_of(&self, engine: &Engine, user_id: UserId) -> StoreResult<()> {
        let is_theirs =
            |advance: &Advance| advance.participants.is_none_or(|(a, b)| a == user_id || b == user_id);
        self.write(engine, self.take(is_theirs)).await
    }

    async fn write(&self, engine: &Engine, advances: Vec<(ConversationId, Advance)>) -> StoreResult<()> {
        if advances.is_empty() {
            return Ok(());
        }
        let statements = advances.iter().map(|(id, advance)| statement(*id, advance.end)).collect();
        let written = engine.update_many(CONVERSATIONS, statements, majority()).await;
        if written.is_err() {
            advances.into_iter().for_each(|(id, advance)| self.put(id, advance));
        }
        written
    }
}

/// Moves a hint forward, never back.
fn statement(conversation_id: ConversationId, end: LogEnd) -> Document {
    let last_sequence = number(end.last_sequence);
    let at = date(end.last_message_at.unwrap_or_default());
    doc! {
        "q": { "_id": uuid(conversation_id.0), "last_sequence_number": { "$lt": last_sequence } },
        "u": { "$set": { "last_sequence_number": last_sequence, "last_message_at": at, "last_activity": at } },
    }
}

/// Writes hints every [`FLUSH_EVERY`] while the store is open.
pub(in crate::mongo) fn start_writing(engine: &Arc<Engine>) {
    let engine = Arc::downgrade(engine);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(FLUSH_EVERY).await;
            let Some(engine) = engine.upgrade() else { return };
            if let Err(error) = engine.log_ends.flush(&engine).await {
                tracing::debug!(%error, "where logs end is written later");
            }
        }
    });
}

/// Where logs end, exactly, given what is written of each.
pub(in crate::mongo) async fn exact(
    engine: &Engine,
    written: &[(ConversationId, LogEnd)],
) -> StoreResult<Vec<LogEnd>> {
    let known = |(id, written): &(ConversationId, LogEnd)| match engine.log_ends.known(*id) {
        Some(known) if known.last_sequence > written.last_sequence => known,
        _ => *written,
    };
    let mut ends: Vec<LogEnd> = written.iter().map(known).collect();
    match (written, &mut ends[..]) {
        ([], _) => {}
        ([(id, _)], [end]) => *end = look_further(engine, *id, *end).await?,
        _ => look_beyond(engine, written, &mut ends).await?,
    }
    for ((id, written), end) in written.iter().zip(&ends) {
        if end.last_sequence > written.last_sequence {
            engine.log_ends.put(*id, Advance { end: *end, participants: None });
        }
    }
    Ok(ends)
}

/// Looks beyond the hints of many. What lies there is counted in the index; read is only the newest of each.
async fn look_beyond(
    engine: &Engine,
    written: &[(ConversationId, LogEnd)],
    ends: &mut [LogEnd],
) -> StoreResult<()> {
    let clauses = written.iter().zip(&*ends).map(|((id, _), end)| beyond(*id, end.last_sequence, PROBE));
    let clauses: Vec<Document> = clauses.collect();
    let messages = engine.collection(MESSAGES);
    let find = || {
        let find = messages.find(doc! { "$or": clauses.clone() });
        find.projection(doc! { "_id": 0, "conversation_id": 1, "sequence_number": 1 })
    };
    let mut newest: HashMap<ConversationId, u64> = HashMap::new();
    for row in engine.all(find).await? {
        let number = row.number("sequence_number")?;
        let known = newest.entry(ConversationId(row.uuid("conversation_id")?)).or_default();
        *known = number.max(*known);
    }
    let read = newest_of(engine, &newest).await?;
    for ((id, _), end) in written.iter().zip(ends) {
        let Some(found) = newest.get(id).copied() else { continue };
        let is_further = found >= end.last_sequence.saturating_add(PROBE);
        // Retention may take it in between: then there is no time to tell.
        let last_message_at = read.get(id).copied().or(end.last_message_at);
        *end = LogEnd { last_sequence: found, last_message_at };
        if is_further {
            *end = look_further(engine, *id, *end).await?;
        }
    }
    Ok(())
}

/// When messages were stored, one of each conversation.
async fn newest_of(
    engine: &Engine,
    newest: &HashMap<ConversationId, u64>,
) -> StoreResult<HashMap<ConversationId, UnixMillis>> {
    if newest.is_empty() {
        return Ok(HashMap::new());
    }
    let clause = |(id, at): (&ConversationId, &u64)| {
        doc! { "conversation_id": uuid(id.0), "sequence_number": number(*at) }
    };
    let clauses: Vec<Document> = newest.iter().map(clause).collect();
    let messages = engine.collection(MESSAGES);
    let find = || {
        let find = messages.find(doc! { "$or": clauses.clone() });
        find.projection(doc! { "_id": 0, "conversation_id": 1, "created_at": 1 })
    };
    let rows = engine.all(find).await?;
    let read = |row: &RawDocumentBuf| -> StoreResult<(ConversationId, UnixMillis)> {
        Ok((ConversationId(row.uuid("conversation_id")?), row.date("created_at")?))
    };
    // Of one that cannot be read there is no time to tell (ISOLATE).
    Ok(rows.iter().filter_map(|row| read(row).ok()).collect())
}

/// The end of one log, however far beyond its hint.
async fn look_further(engine: &Engine, id: ConversationId, mut end: LogEnd) -> StoreResult<LogEnd> {
    let messages = engine.collection(MESSAGES);
    let mut width = PROBE_WIDE;
    loop {
        // A range without an upper bound is slow on some servers.
        let range = beyond(id, end.last_sequence, width);
        let newest = || {
            let find = messages.find_one(range.clone()).projection(position());
            find.sort(doc! { "sequence_number": -1 })
        };
        let Some(row) = engine.ask(newest).await? else { return Ok(end) };
        let found = end_at(&row)?;
        if found.last_sequence < end.last_sequence.saturating_add(width) {
            return Ok(found);
        }
        end = found;
        width = width.saturating_mul(PROBE_GROWTH);
    }
}

fn beyond(id: ConversationId, hint: u64, width: u64) -> Document {
    let range = doc! { "$gt": number(hint), "$lte": number(hint.saturating_add(width)) };
    doc! { "conversation_id": uuid(id.0), "sequence_number": range }
}

fn position() -> Document {
    doc! { "_id": 0, "sequence_number": 1, "created_at": 1 }
}

fn end_at(row: &impl Fields) -> StoreResult<LogEnd> {
    Ok(LogEnd {
        last_sequence: row.number("sequence_number")?,
        last_message_at: Some(row.date("created_at")?),
    })
}
