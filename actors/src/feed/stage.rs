//! What tests of the feed stand on: a store with a conversation in it, and a sink that says one thing after the other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use colloquy_protocol::envelope::{Algorithm, Envelope};
use colloquy_protocol::frame::MessageType;
use colloquy_protocol::ids::{ConversationId, DeviceId, IdempotencyKey, MessageId, UserId};
use colloquy_storage::ambient::Clock;
use colloquy_storage::embedded::{EmbeddedOptions, EmbeddedStore};
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::Store;
use colloquy_storage::ports::message_log::Append;
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::timeout;
use uuid::Uuid;

use super::publisher::Publisher;
use crate::metrics::Metrics;
use crate::outbox::{Event, Posted, Sinks};

/// How long a test waits.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) const CONVERSATION: ConversationId = ConversationId(Uuid::from_u128(7));

pub(super) fn message_id(n: u128) -> MessageId {
    MessageId(Uuid::from_u128(n))
}

/// When message `n` was numbered.
pub(super) fn time_of(n: u128) -> u64 {
    1_000 * u64::try_from(n).unwrap()
}

/// A store with messages 1 to `count`, and the folder it is in.
pub(super) async fn store_with(count: u128) -> (Store, TempDir) {
    let (store, folder) = empty_store();
    write(&store, vec![(1..=count).map(message).collect()]).await;
    (store, folder)
}

/// A store with so many conversations of one message each, and the folder it is in.
pub(super) async fn store_of(conversations: u128) -> (Store, TempDir) {
    let (store, folder) = empty_store();
    let alone = |n| Message { conversation_id: ConversationId(Uuid::from_u128(n)), ..message(n) };
    write(&store, (1..=conversations).map(|n| vec![alone(n)]).collect()).await;
    (store, folder)
}

fn empty_store() -> (Store, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (EmbeddedStore::open(folder.path(), &EmbeddedOptions::default()).unwrap().store(), folder)
}

/// Writes the first messages of conversations.
async fn write(store: &Store, logs: Vec<Vec<Message>>) {
    let append = |messages: Vec<Message>| {
        let conversation_id = messages[0].conversation_id;
        Append { conversation_id, epoch: 1, after_sequence: 0, messages }
    };
    let appends: Vec<Append> = logs.into_iter().map(append).collect();
    for append in &appends {
        assert_eq!(store.log.take_ownership(append.conversation_id).await.unwrap().epoch, 1);
    }
    store.log.append(appends).await.unwrap();
}

/// Message `n`, whose number is given by whoever stores it.
pub(crate) fn message(n: u128) -> Message {
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
    count: watch::Sender<usize>,
}

impl Sink {
    pub(super) fn saying(says: impl IntoIterator<Item = Posted>) -> Arc<Self> {
        Arc::new(Self { says: Mutex::new(says.into_iter().collect()), ..Self::default() })
    }

    /// Tells it of everything in a store.
    pub(super) fn publisher(self: &Arc<Self>, store: Store) -> Publisher {
        Publisher {
            log: store.log,
            outbox: store.outbox,
            untold: store.untold,
            cluster: None,
            sinks: Arc::clone(self) as Arc<dyn Sinks>,
            metrics: Arc::new(Metrics::register(&mut Registry::default())),
            clock: Clock::System,
            since: 0,
        }
    }

    /// What it was told so far.
    pub(super) fn told(&self) -> Vec<Event> {
        self.told.lock().unwrap().clone()
    }

    /// Waits until it has been told so often.
    pub(super) async fn is_told(&self, times: usize) {
        let is_reached = |count: &usize| *count >= times;
        timeout(DEADLINE, self.count.subscribe().wait_for(is_reached)).await.unwrap().unwrap();
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
        self.count.send_modify(|count| *count += 1);
        self.says.lock().unwrap().pop_front().unwrap_or(Posted::Taken)
    }
}
