//! What indexes refuse, of many appends at once (ONCE, FENCE, ISOLATE).

use colloquy_protocol::ids::ConversationId;
use colloquy_storage::ports::message_log::{Append, Appended, MessageLog, Placed};
use colloquy_test_services::start_mongo;
use mongodb::bson::doc;
use uuid::Uuid;

use super::super::message_log::MongoMessageLog;
use super::commands::Overheard;
use super::outage::message;

/// Conversations whose owner stood still while others took them over.
const STALE: u128 = 200;
/// Commands that an append may take when some of it is refused, however much that is.
const COMMANDS_MAX: usize = 10;

fn conversation(n: u128) -> ConversationId {
    ConversationId(Uuid::from_u128(n))
}

/// Appends one message to each conversation, after its first `after_sequence` ones. Senders have a key for each `n`.
fn appends(conversations: impl Iterator<Item = u128>, after_sequence: u64, n: u128) -> Vec<Append> {
    let append = |c: u128| {
        let conversation_id = conversation(c);
        let messages = vec![message(conversation_id, 1_000 + c, n)];
        Append { conversation_id, epoch: 1, after_sequence, messages }
    };
    conversations.map(append).collect()
}

fn is_placed(appended: &Appended) -> bool {
    matches!(appended, Appended::Placed(placed) if matches!(placed[..], [Placed::New(_)]))
}

#[tokio::test]
async fn hundreds_of_stale_appends_are_fenced_in_a_few_commands_and_fence_nobody_else() {
    let mongo = start_mongo();
    let overheard = Overheard::open(&mongo).await;
    let log = MongoMessageLog(overheard.engine.clone());
    let stored = log.append(appends(0..STALE, 0, 0)).await.unwrap();
    assert!(stored.iter().all(is_placed));
    overheard.commands();
    // Every second one is of a conversation that nobody else has appended to.
    let stale_and_fresh = (0..STALE).flat_map(|n| [n, STALE + n]);
    let answers = log.append(appends(stale_and_fresh, 0, 1)).await.unwrap();
    for pair in answers.chunks(2) {
        assert_eq!(pair[0], Appended::Fenced { epoch: 0, last_sequence: 1 });
        assert!(is_placed(&pair[1]));
    }
    let commands = overheard.commands();
    assert!(commands.len() <= COMMANDS_MAX, "{} commands", commands.len());
}

#[tokio::test]
async fn hundreds_of_retries_are_met_in_a_few_commands() {
    let mongo = start_mongo();
    let overheard = Overheard::open(&mongo).await;
    let log = MongoMessageLog(overheard.engine.clone());
    log.append(appends(0..STALE, 0, 0)).await.unwrap();
    overheard.commands();
    let mut again = appends(0..STALE, 1, 0);
    for (append, n) in again.iter_mut().zip(0..) {
        append.messages[0].message_id.0 = Uuid::from_u128(1_000_000 + n);
        append.messages.push(message(append.conversation_id, 1_000 + n, 1));
    }
    for answer in log.append(again).await.unwrap() {
        let Appended::Placed(placed) = answer else { panic!("{answer:?}") };
        assert!(
            matches!(&placed[0], Placed::Duplicate { first, same_body: true } if first.sequence_number == 1)
        );
        assert!(matches!(&placed[1], Placed::New(message) if message.sequence_number == 2));
    }
    assert!(overheard.commands().len() <= COMMANDS_MAX);
}

#[tokio::test]
async fn a_message_that_cannot_be_read_back_ends_the_append_that_meets_it_and_no_other() {
    let mongo = start_mongo();
    let overheard = Overheard::open(&mongo).await;
    let log = MongoMessageLog(overheard.engine.clone());
    log.append(appends(0..3, 0, 0)).await.unwrap();
    let messages = overheard.engine.collection("messages");
    let first = doc! { "sequence_number": 1, "conversation_id": super::super::row::uuid(conversation(0).0) };
    messages.update_one(first, doc! { "$set": { "content": "what was it" } }).await.unwrap();
    // One that met what cannot be read, two retries, one that is new.
    let mut again = appends(0..4, 1, 0);
    again[3].after_sequence = 0;
    let answers = log.append(again).await.unwrap();
    assert_eq!(answers[0], Appended::Unreadable);
    for answer in &answers[1..3] {
        assert!(
            matches!(answer, Appended::Placed(placed) if matches!(placed[..], [Placed::Duplicate { .. }]))
        );
    }
    assert!(is_placed(&answers[3]));
}

#[tokio::test]
async fn an_end_that_cannot_be_read_back_ends_the_append_that_meets_it_and_no_other() {
    let mongo = start_mongo();
    let overheard = Overheard::open(&mongo).await;
    let log = MongoMessageLog(overheard.engine.clone());
    log.append(appends(0..3, 0, 0)).await.unwrap();
    let numbers = overheard.engine.collection("sequence_numbers");
    let row = doc! { "_id": super::super::row::uuid(conversation(1).0), "epoch": "a text" };
    numbers.insert_one(mongodb::bson::RawDocumentBuf::try_from(&row).unwrap()).await.unwrap();
    let answers = log.append(appends(0..4, 0, 1)).await.unwrap();
    let fenced = Appended::Fenced { epoch: 0, last_sequence: 1 };
    assert_eq!(answers[..3], [fenced.clone(), Appended::Unreadable, fenced]);
    assert!(is_placed(&answers[3]));
}
