//! Dead letters: two lists of them, each in rows of its own.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::agent::AgentId;
use colloquy_protocol::ids::{ConversationId, MessageId};
use colloquy_protocol::limits::DEAD_LETTERS_MAX;
use fjall::{Database, OwnedWriteBatch, PersistMode};
use uuid::Uuid;

use super::Engine;
use super::encoding::{ID, decode, encode, id_pair, read_uuid};
use super::group::Group;
use super::keyspaces::{Keyspaces, Space};
use super::snapshot::{Rows, Snapshot};
use crate::model::dead_letter::DeadLetter;
use crate::ports::{DeadLetters, StoreResult};

/// The rows of one list.
#[derive(Clone, Copy)]
pub(super) struct Table {
    letters: Space,
    /// Finds them by conversation.
    places: Space,
}

/// Turns that were given up.
pub(super) const GIVEN_UP: Table = Table { letters: Space::DeadLetters, places: Space::DeadLetterPlaces };
/// Messages that could not be told.
pub(super) const UNTOLD: Table = Table { letters: Space::Untold, places: Space::UntoldPlaces };

pub(super) struct EmbeddedDeadLetters(pub(super) Arc<Engine>, pub(super) Table);

#[async_trait]
impl DeadLetters for EmbeddedDeadLetters {
    async fn put(&self, letter: DeadLetter) -> StoreResult<bool> {
        // Counted beside the writer: one more than there may be does no harm, and holding up everybody's messages would.
        let table = self.1;
        let is_full = self.0.scan(move |rows| Ok(table.count(rows) >= DEAD_LETTERS_MAX)).await?;
        self.0.write(move |group| table.put(group, &letter, is_full)).await
    }

    async fn get(&self, turn_id: MessageId) -> StoreResult<Option<DeadLetter>> {
        self.1.get(&self.0.snapshot(), turn_id)
    }

    async fn list(
        &self,
        agent_id: Option<&AgentId>,
        after: Option<MessageId>,
        limit: usize,
    ) -> StoreResult<Vec<DeadLetter>> {
        let (table, agent_id) = (self.1, agent_id.cloned());
        self.0.scan(move |rows| table.list(rows, agent_id.as_ref(), after, limit)).await
    }

    async fn of_conversations(
        &self,
        conversation_ids: &[ConversationId],
        limit: usize,
    ) -> StoreResult<Vec<DeadLetter>> {
        // Asked for with every list of conversations, and mostly there are none at all.
        let table = self.1;
        if self.0.snapshot().prefix(table.places, b"").next().transpose()?.is_none() {
            return Ok(Vec::new());
        }
        let conversation_ids = conversation_ids.to_vec();
        self.0.scan(move |rows| table.of_conversations(rows, &conversation_ids, limit)).await
    }

    async fn replayed(&self, turn_id: MessageId, now: UnixMillis) -> StoreResult<()> {
        let table = self.1;
        self.0.write(move |group| table.replayed(group, turn_id, now)).await
    }

    async fn remove(&self, turn_id: MessageId) -> StoreResult<bool> {
        let table = self.1;
        self.0.write(move |group| table.remove(group, turn_id)).await
    }
}

impl Table {
    fn count(self, rows: &Snapshot) -> usize {
        rows.prefix(self.letters, b"").count()
    }

    fn get(self, rows: &impl Rows, turn_id: MessageId) -> StoreResult<Option<DeadLetter>> {
        rows.get(self.letters, turn_id.0.as_bytes())?.map(|bytes| decode(&bytes)).transpose()
    }

    fn list(
        self,
        rows: &Snapshot,
        agent_id: Option<&AgentId>,
        after: Option<MessageId>,
        limit: usize,
    ) -> StoreResult<Vec<DeadLetter>> {
        let from = after.map_or(Uuid::nil(), |after| after.0).as_bytes().to_vec();
        let there = rows.range(self.letters, from..=Uuid::max().as_bytes().to_vec());
        let letters = there.map(|row| decode::<DeadLetter>(&row?.1));
        let is_asked_for = |letter: &StoreResult<DeadLetter>| {
            letter.as_ref().map_or(true, |letter| {
                Some(letter.turn_id) != after && agent_id.is_none_or(|agent_id| letter.agent_id == *agent_id)
            })
        };
        letters.filter(is_asked_for).take(limit).collect()
    }

    fn of_conversations(
        self,
        rows: &Snapshot,
        conversation_ids: &[ConversationId],
        limit: usize,
    ) -> StoreResult<Vec<DeadLetter>> {
        let mut letters = Vec::new();
        for conversation_id in conversation_ids {
            let (first, last) = (place(*conversation_id, Uuid::nil()), place(*conversation_id, Uuid::max()));
            let there = rows.range(self.places, first.to_vec()..=last.to_vec());
            for row in there.rev().take(limit) {
                let turn_id = MessageId(read_uuid(&row?.0[ID..])?);
                letters.extend(self.get(rows, turn_id)?);
            }
        }
        Ok(letters)
    }

    fn put(self, group: &mut Group, letter: &DeadLetter, is_full: bool) -> StoreResult<bool> {
        if self.get(group, letter.turn_id)?.is_some() {
            return Ok(true);
        }
        if is_full {
            return Ok(false);
        }
        self.write(group, letter)?;
        group.put(self.places, place(letter.conversation_id, letter.turn_id.0), *b"");
        Ok(true)
    }

    fn replayed(self, group: &mut Group, turn_id: MessageId, now: UnixMillis) -> StoreResult<()> {
        let Some(letter) = self.get(group, turn_id)? else { return Ok(()) };
        self.write(group, &DeadLetter { replayed_at: Some(now), ..letter })
    }

    fn remove(self, group: &mut Group, turn_id: MessageId) -> StoreResult<bool> {
        let Some(letter) = self.get(group, turn_id)? else { return Ok(false) };
        group.remove(self.letters, *turn_id.0.as_bytes());
        group.remove(self.places, place(letter.conversation_id, turn_id.0));
        Ok(true)
    }

    fn write(self, group: &mut Group, letter: &DeadLetter) -> StoreResult<()> {
        group.put(self.letters, *letter.turn_id.0.as_bytes(), encode(letter)?);
        Ok(())
    }
}

fn place(conversation_id: ConversationId, turn_id: Uuid) -> [u8; 2 * ID] {
    id_pair(conversation_id.0, turn_id)
}

/// Makes the index of the turns that were given up what they are: a build of before it may have used the store, and may
/// again. Those that could not be told have had theirs from the first.
pub(super) fn index_what_is_there(database: &Database, spaces: &Keyspaces) -> fjall::Result<()> {
    let (letters, places) = (spaces.of(GIVEN_UP.letters), spaces.of(GIVEN_UP.places));
    let mut is = BTreeSet::new();
    for row in letters.iter() {
        // One that cannot be read is nobody's any more.
        if let Ok(letter) = decode::<DeadLetter>(&row.into_inner()?.1) {
            is.insert(place(letter.conversation_id, letter.turn_id.0).to_vec());
        }
    }
    let was: BTreeSet<Vec<u8>> =
        places.iter().map(|row| Ok(row.into_inner()?.0.to_vec())).collect::<fjall::Result<_>>()?;
    if is == was {
        return Ok(());
    }
    let mut batch = OwnedWriteBatch::with_capacity(database.clone(), DEAD_LETTERS_MAX)
        .durability(Some(PersistMode::SyncAll));
    is.difference(&was).for_each(|place| batch.insert(places, place.as_slice(), []));
    was.difference(&is).for_each(|place| batch.remove(places, place.as_slice()));
    batch.commit()
}
