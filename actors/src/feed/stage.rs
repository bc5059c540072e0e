//! What tests of the feed stand on: a store with a conversation in it, and a sink that says one thing after the other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use colloquy_protocol::envelope::{Algorithm, Envelope};
use colloquy_protocol::frame::MessageType;
use colloquy_protocol::ids::{ConversationId, DeviceId, IdempotencyKey, MessageId, UserId};
use colloquy_storage::embedded::{EmbeddedOptions, EmbeddedStore};
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::Store;
use colloquy_storage::ports::message_log::Append;
use tempfile::TempDir;
use uuid::Uuid;

use crate::outbox::{Event, Posted, Sinks};

pub(super) const CONVERSATION: ConversationId = ConversationId(Uuid::from_u128(7));

pub(super) fn message_id(n: u128) -> MessageId {
    MessageId(Uuid::from_u128(n))
}

/// When message `n` was numbered.
pub(super) fn time_of(n: u128) -> u64 {
    1_000 * u64::try_from(n).unwrap()
}

/// A store with messages 1 to `count`, and the folder it is in.
pub(super) async fn store_with(count: u128) -> (Store, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path(), &EmbeddedOptions::default()).unwrap().store();
    let owned = store.log.take_ownership(CONVERSATION).await.unwrap();
    let append = Append {
        conversation_id: CONVERSATION,
        epoch: owned.epoch,
        after_sequence: owned.last_sequence,
        messages: (1..=count).map(message).collect(),
    };
    store.log.append(vec![append]).await.unwrap();
    (store, folder)
}

fn message(n: u128) -> Message {
    Message {
        message_id: message_id(n),
        sequence_number: 0,
        conversation_id: CONVERSATION,
        sender_id: UserId(Uuid::from_u128(1)),
        sender_device_id: DeviceId::new("phone").unwrap(),
        receiver_id: UserId(Uuid::from_u128(2)),
        idempotency_key: IdempotencyKey::of_turn(message_id(100 + n)),
        r#type: MessageType::Text,
        content: Envelope {
            algorithm: Algorithm::OlmV1,
            sender_key: "A".repeat(43),
            ciphertexts: Vec::new(),
        },
        media_url: None,
        reply_to_message_id: None,
        sent_at: time_of(n),
        created_at: time_of(n),
    }
}

/// Says one thing after the other, and then that it has taken what it is told.
#[derive(Default)]
pub(super) struct Sink {
    says: Mutex<VecDeque<Posted>>,
    told: Mutex<Vec<Event>>,
}

impl Sink {
    pub(super) fn saying(says: impl IntoIterator<Item = Posted>) -> Arc<Self> {
        Arc::new(Self { says: Mutex::new(says.into_iter().collect()), told: Mutex::default() })
    }

    /// What it was told so far.
    pub(super) fn told(&self) -> Vec<Event> {
        self.told.lock().unwrap().clone()
    }
}

#[async_trait]
impl Sinks for Sink {
    async fn post(&self, _: &str, _: &Event) -> Posted {
        panic!("no agent is told of it")
    }

    async fn announce(&self, _: &Event) -> Posted {
        panic!("nobody else is told of it")
    }

    async fn publish(&self, event: &Event) -> Posted {
        self.told.lock().unwrap().push(event.clone());
        self.says.lock().unwrap().pop_front().unwrap_or(Posted::Taken)
    }
}
