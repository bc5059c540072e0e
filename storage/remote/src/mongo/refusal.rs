//! Why unique indexes refuse messages: one is in the log already (ONCE), or another owner has taken its number (FENCE).
//!
//! Whatever can be found out is found out of all appends at once: after a process stood still for a while, or a partition,
//! hundreds of them are stale together.

use std::collections::{BTreeMap, HashMap, HashSet};

use colloquy_protocol::ids::{ConversationId, IdempotencyKey, MessageId, UserId};
use colloquy_storage::model::conversation::LogEnd;
use colloquy_storage::ports::message_log::Appended;
use colloquy_storage::ports::{StoreError, StoreResult};
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};

use super::conversations::hints;
use super::engine::Engine;
use super::log_ends;
use super::message_log::{MESSAGES, SEQUENCE_NUMBERS};
use super::message_row;
use super::placing::{Firsts, Placing};
use super::row::{Fields, number, uuid};

/// Conversations that are asked about in one query (BOUND).
const ASKED_MAX: usize = 1_000;

/// Finds out why messages are refused, also of those that have not been tried yet; says whether anything was found.
pub(in crate::mongo) async fn explain(engine: &Engine, placings: &mut [Placing]) -> StoreResult<bool> {
    // All at once: where one is a retry, more often are.
    let firsts = firsts(engine, placings).await?;
    let met: usize = placings.iter_mut().map(|placing| placing.meet(&firsts)).sum();
    if met > 0 {
        return Ok(true);
    }
    let taken = taken(engine, placings).await?;
    let is_stale = |placing: &&mut Placing| taken.contains(&placing.append.conversation_id);
    let stale: Vec<&mut Placing> = placings.iter_mut().filter(is_stale).collect();
    fence(engine, stale).await?;
    Ok(!taken.is_empty())
}

/// The stored messages that have the keys of those that are pending.
async fn firsts(engine: &Engine, placings: &[Placing]) -> StoreResult<Firsts> {
    let mut keys: BTreeMap<UserId, Vec<IdempotencyKey>> = BTreeMap::new();
    for (_, _, message) in placings.iter().flat_map(Placing::pending) {
        keys.entry(message.sender_id).or_default().push(message.idempotency_key);
    }
    let clause = |(sender_id, keys): (&UserId, &Vec<IdempotencyKey>)| {
        let keys: Vec<_> = keys.iter().map(|key| uuid(key.uuid())).collect();
        doc! { "sender_id": uuid(sender_id.0), "idempotency_key": { "$in": keys } }
    };
    let clauses: Vec<Document> = keys.iter().map(clause).collect();
    if clauses.is_empty() {
        return Ok(Firsts::new());
    }
    let messages = engine.collection(MESSAGES);
    let rows = engine.all(|| messages.find(doc! { "$or": clauses.clone() })).await?;
    rows.iter().map(first).collect()
}

/// What it was found by can be read, whatever else cannot.
fn first(row: &RawDocumentBuf) -> StoreResult<<Firsts as IntoIterator>::Item> {
    let key = IdempotencyKey::new(row.uuid("idempotency_key")?).map_err(StoreError::corrupt)?;
    let message = match message_row::read(row) {
        Err(error @ StoreError::Corrupt(_)) => {
            tracing::error!(%error, "nothing can be appended to a conversation");
            None
        }
        read => Some(read?),
    };
    Ok(((UserId(row.uuid("sender_id")?), key), message))
}

/// The conversations in which another message has the number of the first pending one.
async fn taken(engine: &Engine, placings: &[Placing]) -> StoreResult<HashSet<ConversationId>> {
    let next = |placing: &Placing| {
        let (_, number, message) = placing.pending().next()?;
        Some((placing.append.conversation_id, number, message.message_id))
    };
    let next: Vec<_> = placings.iter().filter_map(next).collect();
    let ours: HashSet<MessageId> = next.iter().map(|(_, _, message_id)| *message_id).collect();
    let messages = engine.collection(MESSAGES);
    let mut taken = HashSet::new();
    for next in next.chunks(ASKED_MAX) {
        let position = |(id, at, _): &(ConversationId, u64, MessageId)| {
            doc! { "conversation_id": uuid(id.0), "sequence_number": number(*at) }
        };
        let clauses: Vec<Document> = next.iter().map(position).collect();
        let find = || {
            let find = messages.find(doc! { "$or": clauses.clone() });
            find.projection(doc! { "_id": 1, "conversation_id": 1 })
        };
        for row in engine.all(find).await? {
            // An earlier try of this very append, seen only now, is met by its key.
            if !row.uuid("_id").is_ok_and(|id| ours.contains(&MessageId(id))) {
                taken.insert(ConversationId(row.uuid("conversation_id")?));
            }
        }
    }
    Ok(taken)
}

/// Ends appends whose numbers are taken. What cannot be read back is one conversation's misfortune (ISOLATE).
async fn fence(engine: &Engine, stale: Vec<&mut Placing>) -> StoreResult<()> {
    let ids: Vec<ConversationId> = stale.iter().map(|placing| placing.append.conversation_id).collect();
    let together = match standings(engine, &ids).await {
        Err(StoreError::Corrupt(_)) => None,
        standings => Some(standings?),
    };
    for (place, placing) in stale.into_iter().enumerate() {
        let alone = match together.as_ref().and_then(|standings| standings.get(place)) {
            Some(standing) => Ok(*standing),
            None => standing(engine, placing.append.conversation_id).await,
        };
        placing.refuse(match alone {
            Ok(Standing { epoch, last_sequence }) => Appended::Fenced { epoch, last_sequence },
            Err(error @ StoreError::Corrupt(_)) => {
                tracing::error!(%error, "nothing can be appended to a conversation");
                Appended::Unreadable
            }
            Err(error) => return Err(error),
        });
    }
    Ok(())
}

/// What an owner that steps down is told of its conversation.
#[derive(Clone, Copy, Default)]
struct Standing {
    epoch: u64,
    last_sequence: u64,
}

async fn standing(engine: &Engine, id: ConversationId) -> StoreResult<Standing> {
    Ok(standings(engine, &[id]).await?.first().copied().unwrap_or_default())
}

async fn standings(engine: &Engine, ids: &[ConversationId]) -> StoreResult<Vec<Standing>> {
    let mut standings = Vec::with_capacity(ids.len());
    for ids in ids.chunks(ASKED_MAX) {
        let epochs = epochs(engine, ids).await?;
        let hints = hints(engine, ids).await?;
        let written: Vec<(ConversationId, LogEnd)> = ids.iter().copied().zip(hints).collect();
        for (id, end) in ids.iter().zip(log_ends::exact(engine, &written).await?) {
            let epoch = epochs.get(id).copied().unwrap_or_default();
            standings.push(Standing { epoch, last_sequence: end.last_sequence });
        }
    }
    Ok(standings)
}

async fn epochs(engine: &Engine, ids: &[ConversationId]) -> StoreResult<HashMap<ConversationId, u64>> {
    let ids: Vec<Bson> = ids.iter().map(|id| uuid(id.0)).collect();
    let numbers = engine.collection(SEQUENCE_NUMBERS);
    let rows = engine.all(|| numbers.find(doc! { "_id": { "$in": ids.clone() } })).await?;
    rows.iter().map(|row| Ok((ConversationId(row.uuid("_id")?), row.number("epoch")?))).collect()
}
