//! Where each log ends.
//!
//! A conversation's document holds a hint: the end as it was a moment ago. It is advanced lazily, in bulk, never in the
//! way of an ack. The hint is never beyond the end, so the end is found by looking beyond the hint; a hint that is lost
//! costs a longer look and nothing else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use colloquy_protocol::ids::{ConversationId, UserId};
use colloquy_storage::model::conversation::LogEnd;
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::StoreResult;
use mongodb::bson::{Document, doc};

use super::conversations::CONVERSATIONS;
use super::engine::{Engine, majority};
use super::message_log::MESSAGES;
use super::row::{Fields, date, number, uuid};

/// Hints that wait to be written, at most; more are forgotten (BOUND).
const PENDING_MAX: usize = 65_536;
/// How long a hint waits to be written.
const FLUSH_EVERY: Duration = Duration::from_millis(200);
/// Numbers looked at beyond each of many hints.
const PROBE: u64 = 64;
/// Numbers looked at beyond a hint that is further behind, at first; each further look is [`PROBE_GROWTH`] times as wide.
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
    let mut ends: Vec<LogEnd> = written
        .iter()
        .map(|(id, end)| match engine.log_ends.known(*id) {
            Some(known) if known.last_sequence > end.last_sequence => known,
            _ => *end,
        })
        .collect();
    if ends.is_empty() {
        return Ok(ends);
    }
    let hints: Vec<u64> = ends.iter().map(|end| end.last_sequence).collect();
    let clauses: Vec<Document> =
        written.iter().zip(&hints).map(|((id, _), hint)| beyond(*id, *hint, PROBE)).collect();
    let messages = engine.collection(MESSAGES);
    let rows = engine.all(|| messages.find(doc! { "$or": clauses.clone() }).projection(position())).await?;
    let places: HashMap<ConversationId, usize> =
        written.iter().enumerate().map(|(place, (id, _))| (*id, place)).collect();
    for row in &rows {
        let place = places.get(&ConversationId(row.uuid("conversation_id")?));
        if let Some(end) = place.and_then(|place| ends.get_mut(*place)) {
            let found = end_at(row)?;
            if found.last_sequence > end.last_sequence {
                *end = found;
            }
        }
    }
    for (((id, written), end), hint) in written.iter().zip(&mut ends).zip(hints) {
        if end.last_sequence >= hint.saturating_add(PROBE) {
            *end = look_further(engine, *id, *end).await?;
        }
        if end.last_sequence > written.last_sequence {
            engine.log_ends.put(*id, Advance { end: *end, participants: None });
        }
    }
    Ok(ends)
}

/// The end of one log that lies far beyond its hint.
async fn look_further(engine: &Engine, id: ConversationId, mut end: LogEnd) -> StoreResult<LogEnd> {
    let messages = engine.collection(MESSAGES);
    let mut width = PROBE_WIDE;
    loop {
        // A range without an upper bound is slow on some servers.
        let range = beyond(id, end.last_sequence, width);
        let newest = || {
            let find = messages.find_one(range.clone()).projection(position());
            find.sort(doc! { "conversation_id": -1, "sequence_number": -1 })
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
    doc! { "_id": 0, "conversation_id": 1, "sequence_number": 1, "created_at": 1 }
}

fn end_at(row: &impl Fields) -> StoreResult<LogEnd> {
    Ok(LogEnd {
        last_sequence: row.number("sequence_number")?,
        last_message_at: Some(row.date("created_at")?),
    })
}
