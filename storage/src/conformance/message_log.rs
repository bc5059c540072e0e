//! What every message log does (ORDER, ONCE, FENCE).

use std::collections::BTreeSet;
use std::sync::Arc;

use colloquy_protocol::ids::{ConversationId, MessageId};
use colloquy_protocol::window::SequenceWindow;
use uuid::Uuid;

use super::{key, message, pair, user};
use crate::model::message::Message;
use crate::ports::Store;
use crate::ports::message_log::{Append, Appended, Ownership, Placed};

async fn append(store: &Store, id: ConversationId, own: Ownership, messages: Vec<Message>) -> Appended {
    let append =
        Append { conversation_id: id, epoch: own.epoch, after_sequence: own.last_sequence, messages };
    store.log.append(vec![append]).await.unwrap().remove(0)
}

async fn owned(store: &Store) -> (ConversationId, Ownership) {
    let id = pair(store, 1, 2).await;
    (id, store.log.take_ownership(id).await.unwrap())
}

fn placed(appended: Appended) -> Vec<Placed> {
    match appended {
        Appended::Placed(placed) => placed,
        other => panic!("not placed: {other:?}"),
    }
}

fn new(placed: &Placed) -> &Arc<Message> {
    match placed {
        Placed::New(message) => message,
        Placed::Duplicate { .. } => panic!("a duplicate"),
    }
}

pub(super) async fn all(store: &Store, id: ConversationId) -> Vec<Arc<Message>> {
    store.log.read(id, SequenceWindow::new(1, 1_000).unwrap(), 1_000, usize::MAX).await.unwrap()
}

pub async fn numbers_are_contiguous_and_start_at_one(store: &Store) {
    let (id, mut own) = owned(store).await;
    assert_eq!(own, Ownership { epoch: 1, last_sequence: 0, last_message_at: None });
    assert_eq!(store.log.oldest(id).await.unwrap(), None);
    for batch in 0..3_u128 {
        let messages = (0..5).map(|n| message(id, 1, batch * 5 + n, "text")).collect();
        let placed = placed(append(store, id, own, messages).await);
        let numbers: Vec<u64> = placed.iter().map(|placed| new(placed).sequence_number).collect();
        assert_eq!(numbers, (own.last_sequence + 1..=own.last_sequence + 5).collect::<Vec<_>>());
        own.last_sequence += 5;
    }
    let read = all(store, id).await;
    assert_eq!(read.iter().map(|m| m.sequence_number).collect::<Vec<_>>(), (1..=15).collect::<Vec<_>>());
    assert_eq!(read[7].content, message(id, 1, 7, "text").content);
    assert_eq!(store.log.end(id).await.unwrap().last_sequence, 15);
    assert_eq!(store.log.end(id).await.unwrap().last_message_at, Some(14));
    assert_eq!(store.log.oldest(id).await.unwrap(), Some(1));
}

pub async fn a_retry_gets_the_first_message_and_uses_no_number(store: &Store) {
    let (id, own) = owned(store).await;
    let first = new(&placed(append(store, id, own, vec![message(id, 1, 1, "text")]).await)[0]).clone();
    let own = Ownership { last_sequence: 1, ..own };
    let mut retry = message(id, 1, 1, "text");
    retry.message_id = MessageId(Uuid::from_u128(77));
    let got = placed(append(store, id, own, vec![retry, message(id, 1, 2, "next")]).await);
    assert_eq!(got[0], Placed::Duplicate { first, same_body: true });
    assert_eq!(new(&got[1]).sequence_number, 2);
    assert_eq!(all(store, id).await.len(), 2);
}

pub async fn the_second_of_two_equal_keys_in_one_append_is_a_duplicate(store: &Store) {
    let (id, own) = owned(store).await;
    let batch = vec![message(id, 1, 1, "text"), message(id, 1, 1, "text"), message(id, 1, 2, "next")];
    let got = placed(append(store, id, own, batch).await);
    assert!(matches!(&got[1], Placed::Duplicate { first, same_body: true } if first == new(&got[0])));
    assert_eq!(new(&got[2]).sequence_number, 2);
}

pub async fn a_key_with_another_body_is_told_from_a_retry(store: &Store) {
    let (id, own) = owned(store).await;
    append(store, id, own, vec![message(id, 1, 1, "text")]).await;
    let own = Ownership { last_sequence: 1, ..own };
    let got = placed(append(store, id, own, vec![message(id, 1, 1, "other")]).await);
    assert!(matches!(got[0], Placed::Duplicate { same_body: false, .. }));
    // In another conversation as well: the key is the sender's, not the conversation's.
    let other = pair(store, 1, 3).await;
    let owner = store.log.take_ownership(other).await.unwrap();
    let got = placed(append(store, other, owner, vec![message(other, 1, 1, "text")]).await);
    assert!(matches!(got[0], Placed::Duplicate { same_body: false, .. }));
    assert_eq!(store.log.end(other).await.unwrap().last_sequence, 0);
}

pub async fn the_same_key_of_another_sender_is_another_message(store: &Store) {
    let (id, own) = owned(store).await;
    let got = placed(append(store, id, own, vec![message(id, 1, 1, "one"), message(id, 2, 1, "two")]).await);
    assert_eq!((new(&got[0]).sequence_number, new(&got[1]).sequence_number), (1, 2));
}

pub async fn many_conversations_are_appended_to_at_once(store: &Store) {
    let mut appends = Vec::new();
    for peer in 2..40 {
        let id = pair(store, 1, peer).await;
        let own = store.log.take_ownership(id).await.unwrap();
        let messages = (0..3).map(|n| message(id, 1, peer * 100 + n, "text")).collect();
        appends.push(Append {
            conversation_id: id,
            epoch: own.epoch,
            after_sequence: own.last_sequence,
            messages,
        });
    }
    // One that is fenced, because it has missed a message, fences nobody else.
    let mut missed = appends[5].clone();
    missed.messages = vec![message(missed.conversation_id, 1, 99_999, "text")];
    placed(store.log.append(vec![missed]).await.unwrap().remove(0));
    let ids: Vec<ConversationId> = appends.iter().map(|append| append.conversation_id).collect();
    let answers = store.log.append(appends).await.unwrap();
    for (index, (answer, id)) in answers.into_iter().zip(ids).enumerate() {
        let expected = if index == 5 { 1 } else { 3 };
        assert_eq!(matches!(answer, Appended::Fenced { .. }), index == 5);
        assert_eq!(all(store, id).await.len(), expected);
    }
}

pub async fn a_stale_owner_is_fenced_or_the_new_one_is_told_what_it_stored(store: &Store) {
    let (id, first) = owned(store).await;
    append(store, id, first, vec![message(id, 1, 1, "text")]).await;
    let second = store.log.take_ownership(id).await.unwrap();
    assert_eq!(second, Ownership { epoch: 2, last_sequence: 1, last_message_at: Some(1) });
    let stale = Ownership { last_sequence: 1, ..first };
    let own = match append(store, id, stale, vec![message(id, 1, 2, "late")]).await {
        Appended::Fenced { epoch, last_sequence } => {
            assert_eq!((epoch, last_sequence), (2, 1));
            second
        }
        late => {
            assert_eq!(new(&placed(late)[0]).sequence_number, 2);
            let fenced = append(store, id, second, vec![message(id, 2, 3, "mine")]).await;
            assert_eq!(fenced, Appended::Fenced { epoch: 2, last_sequence: 2 });
            Ownership { last_sequence: 2, ..second }
        }
    };
    let number = own.last_sequence + 1;
    let got = placed(append(store, id, own, vec![message(id, 2, 3, "mine")]).await);
    assert_eq!(new(&got[0]).sequence_number, number);
    // Now at the latest the stale one learns of it, whatever it takes for the log's end but the truth.
    let stale = Ownership { last_sequence: number - 1, ..first };
    let fenced = append(store, id, stale, vec![message(id, 1, 4, "later")]).await;
    assert_eq!(fenced, Appended::Fenced { epoch: 2, last_sequence: number });
    let numbers: Vec<u64> = all(store, id).await.iter().map(|message| message.sequence_number).collect();
    assert_eq!(numbers, (1..=number).collect::<Vec<_>>());
}

pub async fn an_owner_learns_when_the_newest_message_was_stored(store: &Store) {
    let (id, own) = owned(store).await;
    append(store, id, own, (5..8).map(|n| message(id, 1, n, "text")).collect()).await;
    let own = store.log.take_ownership(id).await.unwrap();
    assert_eq!(own, Ownership { epoch: 2, last_sequence: 3, last_message_at: Some(7) });
    // By number, whatever the clocks of its owners say.
    append(store, id, own, vec![message(id, 1, 2, "text")]).await;
    let own = store.log.take_ownership(id).await.unwrap();
    assert_eq!(own, Ownership { epoch: 3, last_sequence: 4, last_message_at: Some(2) });
}

pub async fn an_owner_that_missed_a_message_is_fenced(store: &Store) {
    let (id, own) = owned(store).await;
    append(store, id, own, vec![message(id, 1, 1, "text")]).await;
    let fenced = append(store, id, own, vec![message(id, 1, 2, "text")]).await;
    assert_eq!(fenced, Appended::Fenced { epoch: 1, last_sequence: 1 });
}

pub async fn a_read_stops_at_its_bounds(store: &Store) {
    let (id, own) = owned(store).await;
    append(store, id, own, (0..10).map(|n| message(id, 1, n, "text")).collect()).await;
    let window = |from, to| SequenceWindow::new(from, to).unwrap();
    let numbers = async |window, most, bytes| -> Vec<u64> {
        let read = store.log.read(id, window, most, bytes).await.unwrap();
        read.iter().map(|message| message.sequence_number).collect()
    };
    assert_eq!(numbers(window(3, 5), 100, usize::MAX).await, [3, 4, 5]);
    assert_eq!(numbers(window(8, 500), 100, usize::MAX).await, [8, 9, 10]);
    assert_eq!(numbers(window(1, 10), 2, usize::MAX).await, [1, 2]);
    assert_eq!(numbers(window(11, 20), 2, usize::MAX).await, Vec::<u64>::new());
    let weight = message(id, 1, 0, "text").weight();
    assert_eq!(numbers(window(1, 10), 100, 2 * weight).await, [1, 2]);
    assert_eq!(numbers(window(1, 10), 100, 1).await, [1], "the first is always read");
}

pub async fn messages_are_found_by_id_and_by_key(store: &Store) {
    let (id, own) = owned(store).await;
    let got = placed(append(store, id, own, vec![message(id, 1, 1, "one"), message(id, 2, 2, "two")]).await);
    let ids = [new(&got[1]).message_id, MessageId(Uuid::from_u128(404)), new(&got[0]).message_id];
    let mut located = store.log.locate(&ids).await.unwrap();
    located.sort_by_key(|located| located.sequence_number);
    let found: Vec<(MessageId, u64)> =
        located.iter().map(|located| (located.message_id, located.sequence_number)).collect();
    assert_eq!(found, [(ids[2], 1), (ids[0], 2)]);
    assert!(located.iter().all(|located| located.conversation_id == id));
    let found = store.log.find_by_key(user(2), key(2)).await.unwrap();
    assert_eq!(found.as_ref(), Some(new(&got[1])));
    assert_eq!(store.log.find_by_key(user(1), key(2)).await.unwrap(), None);
}

pub async fn two_owners_that_race_leave_no_hole_and_no_repeat(store: &Store) {
    let id = pair(store, 1, 2).await;
    let race = async |sender: u128| {
        for n in 0..40_u128 {
            loop {
                // Each takes over from the other all the time, as two pods would that cannot see each other.
                let own = store.log.take_ownership(id).await.unwrap();
                let batch = vec![message(id, sender, sender * 1_000 + n, "text")];
                if matches!(append(store, id, own, batch).await, Appended::Placed(_)) {
                    break;
                }
            }
        }
    };
    tokio::join!(race(1), race(2));
    let read = all(store, id).await;
    assert_eq!(read.iter().map(|m| m.sequence_number).collect::<Vec<_>>(), (1..=80).collect::<Vec<_>>());
    let distinct: BTreeSet<MessageId> = read.iter().map(|message| message.message_id).collect();
    assert_eq!(distinct.len(), 80);
    for sender in [user(1), user(2)] {
        let order: Vec<u64> = read.iter().filter(|m| m.sender_id == sender).map(|m| m.created_at).collect();
        assert!(order.is_sorted(), "each sender's order is kept");
    }
}
