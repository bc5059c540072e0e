//! The oldest messages go, as the index that deletes by age takes them: here they are deleted by hand.

use colloquy_protocol::ids::ConversationId;
use colloquy_protocol::window::SequenceWindow;
use colloquy_storage::ports::Store;
use colloquy_storage::ports::message_log::{Append, Appended};
use mongodb::bson::{Document, doc};

use super::super::MongoStore;
use super::outage::{message, user};

/// Messages in the log before any goes.
const MESSAGES: u64 = 10;

async fn written(store: &Store) -> ConversationId {
    let opened = store.conversations.open_pair(user(1), user(2), 1).await.unwrap();
    let conversation_id = opened.0.conversation_id;
    append(store, conversation_id, 0, MESSAGES).await;
    conversation_id
}

/// Appends `count` messages after the first `before`, as a new owner.
async fn append(store: &Store, conversation_id: ConversationId, before: u64, count: u64) {
    let own = store.log.take_ownership(conversation_id).await.unwrap();
    assert_eq!(own.last_sequence, before);
    let messages = (before..before + count).map(|n| message(conversation_id, 2, n.into())).collect();
    let append = Append { conversation_id, epoch: own.epoch, after_sequence: before, messages };
    let answer = store.log.append(vec![append]).await.unwrap().remove(0);
    assert!(matches!(answer, Appended::Placed(_)));
}

async fn delete(opened: &MongoStore, numbers: Document) {
    let messages = opened.0.collection("messages");
    messages.delete_many(doc! { "sequence_number": numbers }).await.unwrap();
}

async fn read(store: &Store, conversation_id: ConversationId, from: u64, to: u64) -> Vec<u64> {
    let window = SequenceWindow::new(from, to).unwrap();
    let read = store.log.read(conversation_id, window, 100, usize::MAX).await.unwrap();
    read.iter().map(|message| message.sequence_number).collect()
}

#[tokio::test]
async fn what_is_gone_from_the_front_is_passed_over() {
    let (store, (opened, _mongo)) = super::open().await;
    let conversation_id = written(&store).await;
    delete(&opened, doc! { "$lte": 4 }).await;
    assert_eq!(read(&store, conversation_id, 1, 100).await, [5, 6, 7, 8, 9, 10]);
    assert_eq!(read(&store, conversation_id, 3, 6).await, [5, 6]);
    assert_eq!(read(&store, conversation_id, 6, 7).await, [6, 7]);
    assert!(read(&store, conversation_id, 1, 4).await.is_empty());
    assert_eq!(store.log.oldest(conversation_id).await.unwrap(), Some(5));
    append(&store, conversation_id, MESSAGES, 1).await;
    assert_eq!(read(&store, conversation_id, 9, 100).await, [9, 10, 11]);
}

#[tokio::test]
async fn when_everything_is_gone_numbers_go_on_where_they_were() {
    let (store, (opened, _mongo)) = super::open().await;
    let conversation_id = written(&store).await;
    opened.0.log_ends.flush(&opened.0).await.unwrap();
    delete(&opened, doc! { "$lte": MESSAGES as i64 }).await;
    assert!(read(&store, conversation_id, 1, 100).await.is_empty());
    assert_eq!(store.log.oldest(conversation_id).await.unwrap(), None);
    assert_eq!(store.log.end(conversation_id).await.unwrap().last_sequence, MESSAGES);
    append(&store, conversation_id, MESSAGES, 2).await;
    assert_eq!(read(&store, conversation_id, 1, 100).await, [11, 12]);
}

#[tokio::test]
async fn nothing_is_read_beyond_a_hole_that_is_not_at_the_front() {
    let (store, (opened, _mongo)) = super::open().await;
    let conversation_id = written(&store).await;
    delete(&opened, doc! { "$eq": 7 }).await;
    assert_eq!(read(&store, conversation_id, 4, 100).await, [4, 5, 6]);
    assert!(read(&store, conversation_id, 7, 100).await.is_empty());
    // Until what stands before it has gone as well.
    delete(&opened, doc! { "$lt": 7 }).await;
    assert_eq!(read(&store, conversation_id, 1, 100).await, [8, 9, 10]);
}
