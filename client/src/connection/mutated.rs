//! What an engine does otherwise when a defect is made.

use std::time::Duration;

use colloquy_mutations::{self as mutations, Mutation};
use tokio::time::sleep;

use super::ingest::{Arrival, Batch};
use crate::ambient;
use crate::store::{ConversationRecord, OutboxRecord, OutboxState, Store, StoreError, Transaction};

/// How long a cursor is ahead of its messages: a process may die meanwhile.
const AHEAD_FOR: Duration = Duration::from_millis(50);

/// The outbox as it is; with [`Mutation::RetryWithoutKey`], with new keys for what may have been sent already.
pub(super) fn forget_keys(
    tx: &mut Transaction<'_>,
    mut outbox: Vec<OutboxRecord>,
) -> Result<Vec<OutboxRecord>, StoreError> {
    let is_sealed = |record: &&mut OutboxRecord| matches!(record.state, OutboxState::Sealed(_));
    if mutations::is(Mutation::RetryWithoutKey) {
        for record in outbox.iter_mut().filter(is_sealed) {
            (record.state, record.idempotency_key) = (OutboxState::Written, ambient::idempotency_key());
            tx.put_outbox(record);
        }
    }
    Ok(outbox)
}

/// Nothing; with [`Mutation::CursorBeforeDelivery`], cursors are moved on disk before the messages of a batch are stored.
/// Returns what [`fall_back`] is to undo when they are.
pub(super) async fn run_ahead(store: &Store, batch: &Batch) -> Result<Vec<ConversationRecord>, StoreError> {
    let mut before = Vec::new();
    if mutations::is(Mutation::CursorBeforeDelivery) {
        store.update(|tx| {
            for arrival in &batch.arrivals {
                let Arrival::Message(message) = arrival else { continue };
                let Some(record) = tx.conversation(message.conversation_id)? else { continue };
                let cursor = record.cursor.max(message.sequence_number);
                tx.put_conversation(&ConversationRecord { cursor, ..record.clone() });
                before.push(record);
            }
            Ok::<_, StoreError>(())
        })?;
        sleep(AHEAD_FOR).await;
    }
    Ok(before)
}

/// Undoes what ran ahead, in the batch that makes it true.
pub(super) fn fall_back(tx: &mut Transaction<'_>, before: &[ConversationRecord]) {
    // The first one noted of a conversation is the oldest.
    before.iter().rev().for_each(|record| tx.put_conversation(record));
}
