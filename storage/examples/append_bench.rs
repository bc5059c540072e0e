//! How many messages the embedded store appends durably in a second, and how long one append takes.
//!
//! ```text
//! cargo run --release -p colloquy-storage --example append_bench [-- seconds per row]
//! ```
//!
//! Every row starts on an empty store. The last rows write the rows of a message straight to fjall, without
//! anything of ours: what our part costs is the difference.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that prints a table")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use colloquy_protocol::envelope::{Algorithm, CiphertextKind, DeviceCiphertext, Envelope};
use colloquy_protocol::frame::MessageType;
use colloquy_protocol::ids::{ConversationId, DeviceId, IdempotencyKey, MessageId, UserId};
use colloquy_protocol::window::SequenceWindow;
use colloquy_storage::ambient::uuid_v7;
use colloquy_storage::embedded::{EmbeddedOptions, EmbeddedStore};
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::Store;
use colloquy_storage::ports::message_log::{Append, Appended};
use fjall::{KeyspaceCreateOptions, PersistMode, Readable, SingleWriterTxDatabase};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;
use tokio::time::Instant;

const NOW: u64 = 1_700_000_000_000;
/// Two devices' ciphertexts of a short text, after base64.
const CIPHERTEXT_BYTES: usize = 220;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(5.0);
    let length = Duration::from_secs_f64(seconds);
    println!("{:<52} {:>12} {:>10} {:>10} {:>10}", "append", "messages/s", "p50 ms", "p99 ms", "max ms");
    for (callers, conversations, messages) in
        [(1, 1, 1), (64, 1, 1), (1, 100, 1), (2, 100, 1), (4, 250, 1), (2, 1000, 1), (2, 100, 10)]
    {
        append(length, callers, conversations, messages).await;
    }
    for batch in [100, 1000] {
        raw_batch(length, batch);
        raw_transaction(length, batch);
    }
    reads().await;
}

fn message(rng: &mut StdRng, conversation_id: ConversationId, sender_id: UserId) -> Message {
    let mut key = [0; 16];
    rng.fill_bytes(&mut key);
    let ciphertext = |user_id, device: &str| DeviceCiphertext {
        user_id,
        device_id: DeviceId::new(device).unwrap(),
        kind: CiphertextKind::Normal,
        body: "x".repeat(CIPHERTEXT_BYTES),
    };
    let receiver_id = UserId(conversation_id.0);
    Message {
        message_id: MessageId(uuid_v7(rng, NOW)),
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

fn open() -> (Store, TempDir) {
    let directory = TempDir::new_in("target").unwrap();
    (EmbeddedStore::open(directory.path(), &EmbeddedOptions::default()).unwrap().store(), directory)
}

fn report(name: &str, messages: u64, elapsed: Duration, mut latencies: Vec<Duration>) {
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let rate = messages as f64 / elapsed.as_secs_f64();
    println!("{name:<52} {rate:>12.0} {:>10.2} {:>10.2} {:>10.2}", at(0.5), at(0.99), at(1.0));
}

/// `callers` at once, each for conversations of its own, `messages` to each of `conversations` in one call.
async fn append(length: Duration, callers: usize, conversations: usize, messages: usize) {
    let (store, _directory) = open();
    let total = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let (store, total) = (store.clone(), Arc::clone(&total));
            tokio::spawn(async move {
                let mut rng = StdRng::seed_from_u64(caller as u64);
                let mut owned = Vec::new();
                for _ in 0..conversations {
                    let id = ConversationId(uuid_v7(&mut rng, NOW));
                    store.log.take_ownership(id).await.unwrap();
                    owned.push((id, UserId(uuid_v7(&mut rng, NOW)), 0));
                }
                let mut latencies = Vec::new();
                let until = Instant::now() + length;
                while Instant::now() < until {
                    let appends = owned
                        .iter()
                        .map(|(id, sender, after_sequence)| Append {
                            conversation_id: *id,
                            epoch: 1,
                            after_sequence: *after_sequence,
                            messages: (0..messages).map(|_| message(&mut rng, *id, *sender)).collect(),
                        })
                        .collect();
                    let begun = Instant::now();
                    let answers = store.log.append(appends).await.unwrap();
                    latencies.push(begun.elapsed());
                    assert!(answers.iter().all(|answer| matches!(answer, Appended::Placed(_))));
                    owned.iter_mut().for_each(|owned| owned.2 += messages as u64);
                    total.fetch_add((conversations * messages) as u64, Ordering::Relaxed);
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.unwrap());
    }
    let name = format!("{callers} callers x {conversations} conversations x {messages} messages");
    report(&name, total.load(Ordering::Relaxed), started.elapsed(), latencies);
}

/// The four rows of one message.
struct RawRows {
    message: ([u8; 24], Vec<u8>),
    id: [u8; 16],
    key: [u8; 32],
    end: [u8; 16],
}

fn raw_rows(rng: &mut StdRng, number: u64) -> RawRows {
    let mut rows = RawRows { message: ([0; 24], vec![b'x'; 700]), id: [0; 16], key: [0; 32], end: [0; 16] };
    rng.fill_bytes(&mut rows.message.0[..16]);
    rows.message.0[16..].copy_from_slice(&number.to_be_bytes());
    rows.id.copy_from_slice(uuid_v7(rng, NOW).as_bytes());
    rng.fill_bytes(&mut rows.key);
    rows.end.copy_from_slice(&rows.message.0[..16]);
    rows
}

fn raw_batch(length: Duration, size: usize) {
    let directory = TempDir::new_in("target").unwrap();
    let database = fjall::Database::builder(directory.path()).open().unwrap();
    let [messages, ids, keys, ends] = ["messages", "ids", "keys", "ends"]
        .map(|name| database.keyspace(name, KeyspaceCreateOptions::default).unwrap());
    let mut rng = StdRng::seed_from_u64(7);
    let (started, mut written, mut latencies) = (Instant::now(), 0, Vec::new());
    while started.elapsed() < length {
        let begun = Instant::now();
        let mut batch = database.batch().durability(Some(PersistMode::SyncAll));
        for _ in 0..size {
            let rows = raw_rows(&mut rng, written);
            assert!(keys.get(rows.key).unwrap().is_none());
            batch.insert(&messages, rows.message.0, rows.message.1);
            batch.insert(&ids, rows.id, [0; 20]);
            batch.insert(&keys, rows.key, [0; 20]);
            batch.insert(&ends, rows.end, [0; 24]);
            written += 1;
        }
        batch.commit().unwrap();
        latencies.push(begun.elapsed());
    }
    report(&format!("fjall: batch of {size}"), written, started.elapsed(), latencies);
}

fn raw_transaction(length: Duration, size: usize) {
    let directory = TempDir::new_in("target").unwrap();
    let database = SingleWriterTxDatabase::builder(directory.path()).open().unwrap();
    let [messages, ids, keys, ends] = ["messages", "ids", "keys", "ends"]
        .map(|name| database.keyspace(name, KeyspaceCreateOptions::default).unwrap());
    let mut rng = StdRng::seed_from_u64(7);
    let (started, mut written, mut latencies) = (Instant::now(), 0, Vec::new());
    while started.elapsed() < length {
        let begun = Instant::now();
        let mut transaction = database.write_tx().durability(Some(PersistMode::SyncAll));
        for _ in 0..size {
            let rows = raw_rows(&mut rng, written);
            assert!(transaction.get(&keys, rows.key).unwrap().is_none());
            transaction.insert(&messages, rows.message.0, rows.message.1);
            transaction.insert(&ids, rows.id, [0; 20]);
            transaction.insert(&keys, rows.key, [0; 20]);
            transaction.insert(&ends, rows.end, [0; 24]);
            written += 1;
        }
        transaction.commit().unwrap();
        latencies.push(begun.elapsed());
    }
    report(&format!("fjall: write transaction of {size}"), written, started.elapsed(), latencies);
}

/// Reads, one after the other, from a store of 200,000 messages in 1,000 conversations.
async fn reads() {
    let (store, _directory) = open();
    let mut rng = StdRng::seed_from_u64(9);
    let mut conversations = Vec::new();
    let mut known = Vec::new();
    for _ in 0..1000 {
        let (a, b) = (UserId(uuid_v7(&mut rng, NOW)), UserId(uuid_v7(&mut rng, NOW)));
        let (conversation, _) = store.conversations.open_pair(a, b, NOW).await.unwrap();
        let id = conversation.conversation_id;
        let epoch = store.log.take_ownership(id).await.unwrap().epoch;
        let messages: Vec<Message> = (0..200).map(|_| message(&mut rng, id, a)).collect();
        known.push((messages[7].message_id, a, messages[7].idempotency_key));
        let append = Append { conversation_id: id, epoch, after_sequence: 0, messages };
        store.log.append(vec![append]).await.unwrap();
        conversations.push(id);
    }
    println!("\n{:<52} {:>12} {:>10} {:>10} {:>10}", "read", "reads/s", "p50 us", "p99 us", "max us");
    for name in ["end", "locate one", "find by key", "read a page of 1", "read a page of 100", "cursors"] {
        let mut latencies = Vec::new();
        let started = Instant::now();
        for round in 0..20_000_usize {
            let (id, known) = (conversations[round * 7 % 1000], known[round * 7 % 1000]);
            let begun = Instant::now();
            match name {
                "end" => drop(store.log.end(id).await.unwrap()),
                "locate one" => drop(store.log.locate(&[known.0]).await.unwrap()),
                "find by key" => drop(store.log.find_by_key(known.1, known.2).await.unwrap()),
                "cursors" => drop(store.cursors.of_conversation(id).await.unwrap()),
                _ => {
                    let most = if name.ends_with("100") { 100 } else { 1 };
                    let window = SequenceWindow::new(1, 200).unwrap();
                    drop(store.log.read(id, window, most, usize::MAX).await.unwrap());
                }
            }
            latencies.push(begun.elapsed());
        }
        let rate = latencies.len() as f64 / started.elapsed().as_secs_f64();
        latencies.sort_unstable();
        let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
        println!("{name:<52} {rate:>12.0} {:>10.1} {:>10.1} {:>10.1}", at(0.5), at(0.99), at(1.0));
    }
}
