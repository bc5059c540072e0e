//! How far messages have been told. One row for each conversation of which any was.

use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use colloquy_protocol::ids::ConversationId;

use super::Engine;
use super::encoding::{read_u64, read_uuid};
use super::group::Group;
use super::keyspaces::Space;
use super::log_ends::LogEndRecord;
use super::snapshot::{Rows, Snapshot};
use crate::model::conversation::LogEnd;
use crate::model::outgoing::Outgoing;
use crate::ports::{Outbox, StoreResult};

pub(super) struct EmbeddedOutbox(pub(super) Arc<Engine>);

#[async_trait]
impl Outbox for EmbeddedOutbox {
    async fn walk(&self, after: Option<ConversationId>, limit: usize) -> StoreResult<Vec<Outgoing>> {
        self.0.scan(move |rows| walk(rows, after, limit)).await
    }

    async fn told(&self, conversation_id: ConversationId) -> StoreResult<u64> {
        told(&self.0.snapshot(), conversation_id)
    }

    async fn advance(&self, told: Vec<(ConversationId, u64)>) -> StoreResult<()> {
        self.0.write(move |group| advance(group, &told)).await
    }
}

/// Every conversation that was ever owned has a log end, so those with messages are all there.
fn walk(rows: &Snapshot, after: Option<ConversationId>, limit: usize) -> StoreResult<Vec<Outgoing>> {
    let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.0.as_bytes().to_vec()));
    let ends = rows.range(Space::LogEnds, (from, Bound::Unbounded));
    let outgoing = ends.take(limit).map(|row| {
        let (key, end) = row?;
        let conversation_id = ConversationId(read_uuid(&key)?);
        // One that cannot be read keeps nobody from the others (ISOLATE).
        let end = LogEndRecord::decode(&end).map(LogEndRecord::end).unwrap_or_else(|error| {
            tracing::error!(%error, "where a log ends cannot be read: its messages are not told");
            LogEnd::default()
        });
        Ok(Outgoing { conversation_id, end, told: told(rows, conversation_id)? })
    });
    outgoing.collect()
}

fn told(rows: &impl Rows, conversation_id: ConversationId) -> StoreResult<u64> {
    let stored = rows.get(Space::Told, conversation_id.0.as_bytes())?;
    // One that cannot be read is lost: what was told is told again.
    Ok(stored.and_then(|bytes| read_u64(&bytes).ok()).unwrap_or(0))
}

fn advance(group: &mut Group, positions: &[(ConversationId, u64)]) -> StoreResult<()> {
    for (conversation_id, position) in positions {
        if *position > told(group, *conversation_id)? {
            group.put(Space::Told, *conversation_id.0.as_bytes(), position.to_be_bytes());
        }
    }
    Ok(())
}
