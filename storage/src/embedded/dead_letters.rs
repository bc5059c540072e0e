//! Dead letters.

use std::sync::Arc;

use async_trait::async_trait;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::agent::AgentId;
use colloquy_protocol::ids::MessageId;
use colloquy_protocol::limits::DEAD_LETTERS_MAX;
use uuid::Uuid;

use super::Engine;
use super::encoding::{decode, encode};
use super::group::Group;
use super::keyspaces::Space;
use super::snapshot::{Rows, Snapshot};
use crate::model::dead_letter::DeadLetter;
use crate::ports::{DeadLetters, StoreResult};

pub(super) struct EmbeddedDeadLetters(pub(super) Arc<Engine>);

#[async_trait]
impl DeadLetters for EmbeddedDeadLetters {
    async fn put(&self, letter: DeadLetter) -> StoreResult<bool> {
        // Counted beside the writer: one more than there may be does no harm, and holding up everybody's messages would.
        let is_full = self.0.scan(|rows| Ok(count(rows) >= DEAD_LETTERS_MAX)).await?;
        self.0.write(move |group| put(group, &letter, is_full)).await
    }

    async fn get(&self, turn_id: MessageId) -> StoreResult<Option<DeadLetter>> {
        get(&self.0.snapshot(), turn_id)
    }

    async fn list(
        &self,
        agent_id: Option<&AgentId>,
        after: Option<MessageId>,
        limit: usize,
    ) -> StoreResult<Vec<DeadLetter>> {
        let agent_id = agent_id.cloned();
        self.0.scan(move |rows| list(rows, agent_id.as_ref(), after, limit)).await
    }

    async fn replayed(&self, turn_id: MessageId, now: UnixMillis) -> StoreResult<()> {
        self.0.write(move |group| replayed(group, turn_id, now)).await
    }

    async fn remove(&self, turn_id: MessageId) -> StoreResult<bool> {
        self.0.write(move |group| remove(group, turn_id)).await
    }
}

fn count(rows: &Snapshot) -> usize {
    rows.prefix(Space::DeadLetters, b"").count()
}

fn get(rows: &impl Rows, turn_id: MessageId) -> StoreResult<Option<DeadLetter>> {
    rows.get(Space::DeadLetters, turn_id.0.as_bytes())?.map(|bytes| decode(&bytes)).transpose()
}

fn list(
    rows: &Snapshot,
    agent_id: Option<&AgentId>,
    after: Option<MessageId>,
    limit: usize,
) -> StoreResult<Vec<DeadLetter>> {
    let from = after.map_or(Uuid::nil(), |after| after.0).as_bytes().to_vec();
    let there = rows.range(Space::DeadLetters, from..=Uuid::max().as_bytes().to_vec());
    let letters = there.map(|row| decode::<DeadLetter>(&row?.1));
    let is_asked_for = |letter: &StoreResult<DeadLetter>| {
        letter.as_ref().map_or(true, |letter| {
            Some(letter.turn_id) != after && agent_id.is_none_or(|agent_id| letter.agent_id == *agent_id)
        })
    };
    letters.filter(is_asked_for).take(limit).collect()
}

fn put(group: &mut Group, letter: &DeadLetter, is_full: bool) -> StoreResult<bool> {
    if get(group, letter.turn_id)?.is_some() {
        return Ok(true);
    }
    if is_full {
        return Ok(false);
    }
    write(group, letter)?;
    Ok(true)
}

fn replayed(group: &mut Group, turn_id: MessageId, now: UnixMillis) -> StoreResult<()> {
    let Some(letter) = get(group, turn_id)? else { return Ok(()) };
    write(group, &DeadLetter { replayed_at: Some(now), ..letter })
}

fn remove(group: &mut Group, turn_id: MessageId) -> StoreResult<bool> {
    let is_there = get(group, turn_id)?.is_some();
    group.remove(Space::DeadLetters, *turn_id.0.as_bytes());
    Ok(is_there)
}

fn write(group: &mut Group, letter: &DeadLetter) -> StoreResult<()> {
    group.put(Space::DeadLetters, *letter.turn_id.0.as_bytes(), encode(letter)?);
    Ok(())
}
