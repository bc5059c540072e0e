//! MongoDB goes away and comes back: nobody waits longer than is said, nothing that was acked is missing, and numbers have
//! no hole (DURABLE, ORDER, ONCE).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use colloquy_protocol::envelope::{Algorithm, Envelope};
use colloquy_protocol::frame::MessageType;
use colloquy_protocol::ids::{ConversationId, DeviceId, IdempotencyKey, MessageId, UserId};
use colloquy_protocol::window::SequenceWindow;
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::message_log::{Append, Appended, Placed};
use colloquy_storage::ports::{Store, StoreError};
use colloquy_test_services::start_mongo;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::super::engine::{OPERATION_DEADLINE, REPEAT_WITHIN};
use super::super::{MongoOptions, MongoStore, migrate};

/// Conversations that are appended to at the same time, each by its own owner.
const OWNERS: u128 = 6;
/// Messages of one append.
const BATCH: u128 = 3;
/// Kills in one run ...
const KILLS: u64 = 2;
/// ... after each of which, and before the first, this many appends are acked.
const ACKS_BETWEEN: u64 = 60;
/// Messages that are read at once.
const PAGE: u64 = 100;
/// How long an operation waits for a server here: less than usual, so that outages take less time.
const SELECTION: Duration = Duration::from_millis(500);
/// What a busy machine may add to a wait.
const SLACK: Duration = Duration::from_secs(3);

pub(super) fn user(n: u128) -> UserId {
    UserId(Uuid::from_u128(n))
}

pub(super) fn message(conversation_id: ConversationId, sender: u128, n: u128) -> Message {
    let key = uuid::Builder::from_random_bytes(((sender << 64) | n).to_be_bytes()).into_uuid();
    let envelope =
        Envelope { algorithm: Algorithm::OlmV1, sender_key: "A".repeat(43), ciphertexts: Vec::new() };
    Message {
        message_id: MessageId(Uuid::from_u128((sender << 64) | n)),
        sequence_number: 0,
        conversation_id,
        sender_id: user(sender),
        sender_device_id: DeviceId::new("phone").unwrap(),
        receiver_id: user(1),
        idempotency_key: IdempotencyKey::new(key).unwrap(),
        r#type: MessageType::Text,
        content: envelope,
        media_url: None,
        reply_to_message_id: None,
        sent_at: 1,
        created_at: 1,
    }
}

/// What owners tell the test, and the test them.
#[derive(Clone)]
struct Run {
    store: Store,
    acked: watch::Sender<u64>,
    failed: watch::Sender<u64>,
    stop: watch::Receiver<bool>,
}

impl Run {
    /// Owns a conversation and appends to it until it is told to stop; what was acked, by number. A batch whose fate is
    /// not known is appended again, under the same keys, until it is.
    async fn own(
        self,
        conversation_id: ConversationId,
        sender: u128,
    ) -> (ConversationId, BTreeMap<u64, MessageId>) {
        let mut acked = BTreeMap::new();
        let mut batch = 0;
        let mut own = None;
        while !*self.stop.borrow() {
            let begun = Instant::now();
            let owned = match own {
                Some(owned) => Ok(owned),
                None => self.store.log.take_ownership(conversation_id).await,
            };
            let Ok(mut owned) = owned else {
                self.fail(begun);
                continue;
            };
            let messages = (batch..batch + BATCH).map(|n| message(conversation_id, sender, n)).collect();
            let append =
                Append { conversation_id, epoch: owned.epoch, after_sequence: owned.last_sequence, messages };
            let begun = Instant::now();
            let answer = self.store.log.append(vec![append]).await.map(|mut answers| answers.remove(0));
            own = None;
            match answer {
                Ok(Appended::Placed(placed)) => {
                    for message in placed.iter().map(stored) {
                        owned.last_sequence = owned.last_sequence.max(message.sequence_number);
                        acked.insert(message.sequence_number, message.message_id);
                    }
                    own = Some(owned);
                    batch += BATCH;
                    self.acked.send_modify(|acked| *acked += 1);
                }
                Ok(Appended::Fenced { .. } | Appended::Unknown) => {}
                Ok(Appended::Unreadable) => panic!("a record cannot be read back"),
                Err(_) => self.fail(begun),
            }
        }
        (conversation_id, acked)
    }

    /// An operation has failed: it must have done so within the bounds of one.
    fn fail(&self, begun: Instant) {
        // The driver looks for a server twice, once for its own second try, in the last attempt that is begun in time.
        let most = REPEAT_WITHIN + 2 * SELECTION + SLACK;
        assert!(begun.elapsed() <= most, "failed only after {:?}", begun.elapsed());
        self.failed.send_modify(|failed| *failed += 1);
    }
}

fn stored(placed: &Placed) -> &Message {
    match placed {
        Placed::New(message) | Placed::Duplicate { first: message, same_body: true } => message,
        Placed::Duplicate { .. } => panic!("a key with another body"),
    }
}

async fn whole_log(store: &Store, conversation_id: ConversationId) -> Vec<Arc<Message>> {
    let mut log: Vec<Arc<Message>> = Vec::new();
    loop {
        let from = log.last().map_or(1, |last| last.sequence_number + 1);
        let window = SequenceWindow::new(from, from + PAGE - 1).unwrap();
        let page = store.log.read(conversation_id, window, usize::MAX, usize::MAX).await.unwrap();
        if page.is_empty() {
            return log;
        }
        log.extend(page);
    }
}

async fn grown_by(count: &mut watch::Receiver<u64>, by: u64) {
    let now = *count.borrow();
    count.wait_for(|count| *count >= now + by).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acked_outlives_kills_under_load_and_meanwhile_appends_fail_fast() {
    let mut mongo = start_mongo();
    if !mongo.is_own() {
        return;
    }
    let options = MongoOptions { server_selection_timeout: SELECTION, ..super::options(&mongo) };
    migrate(&options).await.unwrap();
    let opened = MongoStore::open(&options).await.unwrap();
    let (acked, mut acks) = watch::channel(0);
    let (failed, mut failures) = watch::channel(0);
    let (stopping, stop) = watch::channel(false);
    let run = Run { store: opened.store(), acked, failed, stop };
    let mut owners = JoinSet::new();
    let mut conversations = Vec::new();
    for sender in 100..100 + OWNERS {
        let opened = run.store.conversations.open_pair(user(1), user(sender), 1).await.unwrap();
        conversations.push((opened.0.conversation_id, sender));
    }
    // Only now: whatever is asked from here on may be asked of a server that is gone.
    for (conversation_id, sender) in conversations {
        owners.spawn(run.clone().own(conversation_id, sender));
    }
    for _ in 0..KILLS {
        grown_by(&mut acks, ACKS_BETWEEN).await;
        mongo.kill();
        grown_by(&mut failures, 2 * OWNERS as u64).await;
        mongo.restart();
    }
    grown_by(&mut acks, ACKS_BETWEEN).await;
    stopping.send_replace(true);
    for (conversation_id, acked) in owners.join_all().await {
        let read = whole_log(&run.store, conversation_id).await;
        let numbers: Vec<u64> = read.iter().map(|message| message.sequence_number).collect();
        assert_eq!(numbers, (1..=read.len() as u64).collect::<Vec<_>>(), "no hole and no repeat");
        let positions: BTreeMap<u64, MessageId> =
            read.iter().map(|message| (message.sequence_number, message.message_id)).collect();
        for (number, message_id) in &acked {
            assert_eq!(positions.get(number), Some(message_id), "acked, and not where it was said to be");
        }
        let mut ids: Vec<MessageId> = positions.values().copied().collect();
        assert!(ids.is_sorted(), "the sender's order is kept");
        ids.dedup();
        assert_eq!(ids.len(), read.len(), "nothing is stored twice");
        assert_eq!(run.store.log.end(conversation_id).await.unwrap().last_sequence, read.len() as u64);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_holds_nobody_beyond_the_deadline_and_serves_when_it_goes_on() {
    let mongo = start_mongo();
    if !mongo.is_own() {
        return;
    }
    let options = super::options(&mongo);
    migrate(&options).await.unwrap();
    let store = MongoStore::open(&options).await.unwrap().store();
    let opened = store.conversations.open_pair(user(1), user(2), 1).await.unwrap();
    let conversation_id = opened.0.conversation_id;
    let own = store.log.take_ownership(conversation_id).await.unwrap();
    let append = |n: u64| {
        let (epoch, after_sequence) = (own.epoch, n);
        let messages = vec![message(conversation_id, 2, n.into())];
        store.log.append(vec![Append { conversation_id, epoch, after_sequence, messages }])
    };
    assert!(matches!(append(0).await.unwrap()[..], [Appended::Placed(_)]));

    mongo.freeze();
    let begun = Instant::now();
    let key = message(conversation_id, 2, 0).idempotency_key;
    let (appended, taken, read, found) = tokio::join!(
        append(1),
        store.log.take_ownership(conversation_id),
        store.log.read(conversation_id, SequenceWindow::new(1, 9).unwrap(), 9, usize::MAX),
        store.log.find_by_key(user(2), key),
    );
    assert!(begun.elapsed() <= OPERATION_DEADLINE + SLACK, "{:?}", begun.elapsed());
    let errors = [appended.map(drop), taken.map(drop), read.map(drop), found.map(drop)];
    assert!(errors.iter().all(|error| matches!(error, Err(StoreError::Unavailable(_)))), "{errors:?}");

    mongo.thaw();
    // Whatever of it the server still did: the same message is there once, and the next one after it.
    let own = store.log.take_ownership(conversation_id).await.unwrap();
    let again = Append {
        conversation_id,
        epoch: own.epoch,
        after_sequence: own.last_sequence,
        messages: vec![message(conversation_id, 2, 1), message(conversation_id, 2, 2)],
    };
    let answer = store.log.append(vec![again]).await.unwrap().remove(0);
    let Appended::Placed(placed) = answer else { panic!("{answer:?}") };
    let numbers: Vec<u64> = placed.iter().map(|placed| stored(placed).sequence_number).collect();
    assert_eq!(numbers, [2, 3]);
}
