//! The message log.

use std::sync::Arc;

use async_trait::async_trait;
#[cfg(feature = "mutations")]
use colloquy_mutations::{self as mutations, Mutation};
use colloquy_protocol::ids::{ConversationId, IdempotencyKey, MessageId, UserId};
use colloquy_protocol::window::SequenceWindow;
use fjall::Slice;

use super::Engine;
use super::encoding::{ID, Position, decode_message, encode_message, idempotency_key, read_u64};
use super::group::Group;
use super::keyspaces::Space;
use super::log_ends::LogEndRecord;
use super::snapshot::{Rows, Snapshot};
use crate::model::conversation::LogEnd;
use crate::model::message::Message;
use crate::ports::message_log::{Append, Appended, Located, MessageLog, Ownership, Placed};
use crate::ports::{StoreError, StoreResult};

/// Look-ups by id that are done in place; more of them count as a walk over rows.
const LOCATE_IN_PLACE_MAX: usize = 16;

pub(super) struct EmbeddedMessageLog(pub(super) Arc<Engine>);

#[async_trait]
impl MessageLog for EmbeddedMessageLog {
    async fn take_ownership(&self, conversation_id: ConversationId) -> StoreResult<Ownership> {
        let take = move |group: &mut Group| {
            let mut end = group.log_end(conversation_id)?;
            end.epoch += 1;
            group.put_log_end(conversation_id, end);
            let LogEnd { last_sequence, last_message_at } = end.end();
            Ok(Ownership { epoch: end.epoch, last_sequence, last_message_at })
        };
        self.0.write(take).await
    }

    async fn append(&self, appends: Vec<Append>) -> StoreResult<Vec<Appended>> {
        // Encoded here and not on the writer's thread, which every other append waits for.
        let mut buffer = Vec::new();
        let mut encoded = Vec::with_capacity(appends.len());
        for append in appends {
            let bodies: Vec<Slice> = append
                .messages
                .iter()
                .map(|message| encode_message(message, &mut buffer))
                .collect::<StoreResult<_>>()?;
            encoded.push((append, bodies));
        }
        let append_all = move |group: &mut Group| {
            encoded.into_iter().map(|(append, bodies)| place_alone(group, append, bodies)).collect()
        };
        self.0.write(append_all).await
    }

    async fn read(
        &self,
        conversation_id: ConversationId,
        window: SequenceWindow,
        max_messages: usize,
        max_bytes: usize,
    ) -> StoreResult<Vec<Arc<Message>>> {
        let read = move |rows: &Snapshot| read_window(rows, conversation_id, window, max_messages, max_bytes);
        self.0.scan(read).await
    }

    async fn oldest(&self, conversation_id: ConversationId) -> StoreResult<Option<u64>> {
        let key = |sequence_number| Position { conversation_id, sequence_number }.key().to_vec();
        let rows = self.0.snapshot();
        let first = rows.range(Space::Messages, key(1)..=key(u64::MAX)).next().transpose()?;
        first.map(|(key, _)| read_u64(&key[ID..])).transpose()
    }

    async fn end(&self, conversation_id: ConversationId) -> StoreResult<LogEnd> {
        Ok(self.0.snapshot().log_end(conversation_id)?.end())
    }

    async fn locate(&self, message_ids: &[MessageId]) -> StoreResult<Vec<Located>> {
        if message_ids.len() <= LOCATE_IN_PLACE_MAX {
            return locate(&self.0.snapshot(), message_ids);
        }
        let message_ids = message_ids.to_vec();
        self.0.scan(move |rows| locate(rows, &message_ids)).await
    }

    async fn find_by_key(&self, sender_id: UserId, key: IdempotencyKey) -> StoreResult<Option<Arc<Message>>> {
        first_with_key(&self.0.snapshot(), sender_id, key)
    }
}

/// Appends to one conversation. What is unreadable there is that conversation's misfortune and nobody else's.
fn place_alone(group: &mut Group, append: Append, bodies: Vec<Slice>) -> StoreResult<Appended> {
    let before = group.savepoint();
    match place(group, append, bodies) {
        Err(error @ StoreError::Corrupt(_)) => {
            tracing::error!(%error, "nothing can be appended to a conversation");
            group.roll_back_to(before);
            Ok(Appended::Unreadable)
        }
        placed => placed,
    }
}

/// Appends to one conversation.
fn place(group: &mut Group, append: Append, bodies: Vec<Slice>) -> StoreResult<Appended> {
    let conversation_id = append.conversation_id;
    let end = group.log_end(conversation_id)?;
    // FENCE: an owner that is not the newest, or does not know the log's end, appends nothing.
    if end.epoch != append.epoch || end.last_sequence != append.after_sequence {
        #[cfg(feature = "mutations")]
        if mutations::is(Mutation::NoFencing) {
            let end = LogEndRecord { last_sequence: append.after_sequence, ..end };
            return place_from(group, end, append, bodies);
        }
        return Ok(Appended::Fenced { epoch: end.epoch, last_sequence: end.last_sequence });
    }
    place_from(group, end, append, bodies)
}

/// Appends behind `end`.
fn place_from(
    group: &mut Group,
    mut end: LogEndRecord,
    append: Append,
    bodies: Vec<Slice>,
) -> StoreResult<Appended> {
    let conversation_id = append.conversation_id;
    let mut placed = Vec::with_capacity(bodies.len());
    for (mut message, body) in append.messages.into_iter().zip(bodies) {
        debug_assert_eq!(message.conversation_id, conversation_id, "a message for another conversation");
        let key = idempotency_key(message.sender_id, message.idempotency_key);
        // ONCE: the group shows the keys of messages that are about to be committed, too.
        let earlier = group.get(Space::IdempotencyKeys, &key)?;
        #[cfg(feature = "mutations")]
        let earlier = earlier.filter(|_| !mutations::is(Mutation::NoUniqueKey));
        if let Some(position) = earlier {
            let first = Arc::new(group.message_at(Position::decode(&position)?)?);
            let same_body = first.same_body(&message);
            placed.push(Placed::Duplicate { first, same_body });
            continue;
        }
        end.last_sequence += 1;
        end.last_message_at = message.created_at;
        message.sequence_number = end.last_sequence;
        let position = Position { conversation_id, sequence_number: end.last_sequence };
        let indexed = position.encode();
        group.put(Space::Messages, position.key(), body);
        group.put(Space::MessageIds, *message.message_id.0.as_bytes(), indexed.clone());
        group.put(Space::IdempotencyKeys, key, indexed);
        placed.push(Placed::New(Arc::new(message)));
    }
    if end.last_sequence > append.after_sequence {
        group.put_log_end(conversation_id, end);
    }
    Ok(Appended::Placed(placed))
}

fn read_window(
    rows: &Snapshot,
    conversation_id: ConversationId,
    window: SequenceWindow,
    max_messages: usize,
    max_bytes: usize,
) -> StoreResult<Vec<Arc<Message>>> {
    let key = |sequence_number| Position { conversation_id, sequence_number }.key().to_vec();
    let mut messages = Vec::new();
    let mut bytes = 0;
    let mut expected = window.from();
    for row in rows.range(Space::Messages, key(window.from())..=key(window.to())) {
        if messages.len() >= max_messages {
            break;
        }
        let (key, value) = row?;
        let number = read_u64(&key[ID..])?;
        if number != expected {
            break;
        }
        let message = match decode_message(&value, number) {
            Ok(message) => message,
            // It keeps nobody from what comes before it.
            Err(_) if !messages.is_empty() => break,
            Err(error) => return Err(error),
        };
        bytes += message.weight();
        if bytes > max_bytes && !messages.is_empty() {
            break;
        }
        messages.push(Arc::new(message));
        expected = expected.saturating_add(1);
    }
    Ok(messages)
}

fn locate(rows: &Snapshot, message_ids: &[MessageId]) -> StoreResult<Vec<Located>> {
    let mut located = Vec::with_capacity(message_ids.len());
    for message_id in message_ids {
        if let Some(bytes) = rows.get(Space::MessageIds, message_id.0.as_bytes())? {
            let Position { conversation_id, sequence_number } = Position::decode(&bytes)?;
            located.push(Located { message_id: *message_id, conversation_id, sequence_number });
        }
    }
    Ok(located)
}

fn first_with_key(
    rows: &Snapshot,
    sender_id: UserId,
    key: IdempotencyKey,
) -> StoreResult<Option<Arc<Message>>> {
    let Some(position) = rows.get(Space::IdempotencyKeys, &idempotency_key(sender_id, key))? else {
        return Ok(None);
    };
    rows.message_at(Position::decode(&position)?).map(|message| Some(Arc::new(message)))
}
