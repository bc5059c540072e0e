//! How many messages MongoDB appends durably in a second, beside the embedded store on the same machine in the same run:
//! absolute figures are noisy, the ratio less so.
//!
//! ```text
//! cargo run --release -p colloquy-storage-remote --example mongo_append_bench [-- seconds per row]
//! ```
//!
//! On two shared and busy cores, against the stand-in that `tests/install-services` installs: one caller, 200
//! conversations, 3 messages each, 9,200 messages/s and 37,800 embedded, a ratio of 0.24. More callers at once changed
//! nothing: the server took 0.8 to 0.9 of a core and this program 0.04. A real MongoDB was not measured.
//!
//! MongoDB is `$MONGODB_URI`, or one started for the run (see `tests/install-services`). Every row starts on an empty
//! store.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that prints a table")]

use std::time::Duration;

use colloquy_protocol::envelope::{Algorithm, CiphertextKind, DeviceCiphertext, Envelope};
use colloquy_protocol::frame::MessageType;
use colloquy_protocol::ids::{ConversationId, DeviceId, IdempotencyKey, MessageId, UserId};
use colloquy_storage::ambient::Entropy;
use colloquy_storage::embedded::{EmbeddedOptions, EmbeddedStore};
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::Store;
use colloquy_storage::ports::message_log::{Append, Appended};
use colloquy_storage_remote::mongo::{MongoOptions, MongoStore, migrate};
use colloquy_test_services::start_mongo;
use tempfile::TempDir;
use tokio::time::Instant;

const NOW: u64 = 1_700_000_000_000;
/// Two devices' ciphertexts of a short text, after base64.
const CIPHERTEXT_BYTES: usize = 220;
/// Callers, conversations of each, messages to each conversation in one call.
const ROWS: [Shape; 6] = [
    Shape { callers: 1, conversations: 1, messages: 1 },
    Shape { callers: 1, conversations: 200, messages: 1 },
    Shape { callers: 1, conversations: 200, messages: 3 },
    Shape { callers: 4, conversations: 50, messages: 3 },
    Shape { callers: 8, conversations: 25, messages: 3 },
    Shape { callers: 16, conversations: 200, messages: 3 },
];

#[derive(Clone, Copy)]
struct Shape {
    callers: usize,
    conversations: usize,
    messages: usize,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(5.0);
    let length = Duration::from_secs_f64(seconds);
    println!("{:<60} {:>12} {:>10} {:>10} {:>10}", "append", "messages/s", "p50 ms", "p99 ms", "max ms");
    let mongo = start_mongo();
    for (row, shape) in ROWS.into_iter().enumerate() {
        let options = MongoOptions::new(&mongo.uri, format!("append_bench_{}_{row}", std::process::id()));
        migrate(&options).await.unwrap();
        let opened = MongoStore::open(&options).await.unwrap();
        let on_mongo = append("mongodb", &opened.store(), length, shape).await;
        let directory = TempDir::new().unwrap();
        let opened = EmbeddedStore::open(directory.path(), &EmbeddedOptions::default()).unwrap();
        let embedded = append("embedded", &opened.store(), length, shape).await;
        println!("{:<60} {:>12.2}", "  mongodb / embedded", on_mongo / embedded);
    }
}

fn message(entropy: &Entropy, conversation_id: ConversationId, sender_id: UserId) -> Message {
    let mut key = [0; 16];
    entropy.fill(&mut key);
    let ciphertext = |user_id, device: &str| DeviceCiphertext {
        user_id,
        device_id: DeviceId::new(device).unwrap(),
        kind: CiphertextKind::Normal,
        body: "x".repeat(CIPHERTEXT_BYTES),
    };
    let receiver_id = UserId(conversation_id.0);
    Message {
        message_id: MessageId(entropy.uuid_v7(NOW)),
        sequence_number: 0,
        conversation_id,
        sender_id,
        sender_device_id: DeviceId::new("phone-abc").unwrap(),
        receiver_id,
        idempotency_key: IdempotencyKey::new(uuid::Builder::from_random_bytes(key).into_uuid()).unwrap(),
        r#type: MessageType::Text,
        content: Envelope {
            algorithm: Algorithm::OlmV1,
            sender_key: "x".repeat(43),
            ciphertexts: vec![ciphertext(receiver_id, "phone-abc"), ciphertext(sender_id, "laptop-abc")],
        },
        media_url: None,
        reply_to_message_id: None,
        sent_at: NOW,
        created_at: NOW,
    }
}

/// A conversation and where its log ends.
struct Owned {
    conversation_id: ConversationId,
    sender_id: UserId,
    epoch: u64,
    last_sequence: u64,
}

/// Messages a second.
async fn append(on: &str, store: &Store, length: Duration, shape: Shape) -> f64 {
    let entropy = Entropy::from_seed(7);
    let mut callers = Vec::new();
    for _ in 0..shape.callers {
        callers.push(take_over(store, &entropy, shape.conversations).await);
    }
    let started = Instant::now();
    let call = |owned| tokio::spawn(call(store.clone(), entropy.clone(), owned, shape.messages, length));
    let calls: Vec<_> = callers.into_iter().map(call).collect();
    let mut latencies = Vec::new();
    for call in calls {
        latencies.extend(call.await.unwrap());
    }
    let appended = latencies.len() * shape.conversations * shape.messages;
    let rate = appended as f64 / started.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let Shape { callers, conversations, messages } = shape;
    let name = format!("{on}: {callers} callers x {conversations} conversations x {messages} messages");
    println!("{name:<60} {rate:>12.0} {:>10.2} {:>10.2} {:>10.2}", at(0.5), at(0.99), at(1.0));
    rate
}

async fn take_over(store: &Store, entropy: &Entropy, conversations: usize) -> Vec<Owned> {
    let mut owned = Vec::new();
    for _ in 0..conversations {
        let [a, b] = [0, 1].map(|_| UserId(entropy.uuid_v7(NOW)));
        let conversation_id = store.conversations.open_pair(a, b, NOW).await.unwrap().0.conversation_id;
        let epoch = store.log.take_ownership(conversation_id).await.unwrap().epoch;
        owned.push(Owned { conversation_id, sender_id: a, epoch, last_sequence: 0 });
    }
    owned
}

/// Appends until `length` has passed; how long each call took.
async fn call(
    store: Store,
    entropy: Entropy,
    mut owned: Vec<Owned>,
    messages: usize,
    length: Duration,
) -> Vec<Duration> {
    let mut latencies = Vec::new();
    let until = Instant::now() + length;
    while Instant::now() < until {
        let append = |owned: &Owned| Append {
            conversation_id: owned.conversation_id,
            epoch: owned.epoch,
            after_sequence: owned.last_sequence,
            messages: (0..messages)
                .map(|_| message(&entropy, owned.conversation_id, owned.sender_id))
                .collect(),
        };
        let appends = owned.iter().map(append).collect();
        let begun = Instant::now();
        let answers = store.log.append(appends).await.unwrap();
        latencies.push(begun.elapsed());
        assert!(answers.iter().all(|answer| matches!(answer, Appended::Placed(_))));
        owned.iter_mut().for_each(|owned| owned.last_sequence += messages as u64);
    }
    latencies
}
