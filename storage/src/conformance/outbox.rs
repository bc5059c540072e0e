//! What every keeper of how far messages were told does.

use colloquy_protocol::ids::ConversationId;

use super::{message, pair};
use crate::model::conversation::LogEnd;
use crate::model::outgoing::Outgoing;
use crate::ports::Store;
use crate::ports::message_log::{Append, Appended};

/// Appends `count` messages of `sender` to a conversation, each stored at the time that is its number less one.
async fn write(store: &Store, conversation_id: ConversationId, sender: u128, count: u64) {
    let own = store.log.take_ownership(conversation_id).await.unwrap();
    let (epoch, after_sequence) = (own.epoch, own.last_sequence);
    let numbers = after_sequence..after_sequence + count;
    let messages = numbers.map(|n| message(conversation_id, sender, n.into(), "text")).collect();
    let append = Append { conversation_id, epoch, after_sequence, messages };
    let answer = store.log.append(vec![append]).await.unwrap().remove(0);
    assert!(matches!(answer, Appended::Placed(_)));
}

/// The end of a log that [`write()`] has filled up to a number.
fn end(last_sequence: u64) -> LogEnd {
    LogEnd { last_sequence, last_message_at: Some(last_sequence - 1) }
}

/// Every conversation that a walk comes to, `limit` at a time.
async fn walked(store: &Store, limit: usize) -> Vec<Outgoing> {
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = store.outbox.walk(after, limit).await.unwrap();
        assert!(page.len() <= limit);
        let Some(last) = page.last() else { return seen };
        after = Some(last.conversation_id);
        seen.extend(page);
    }
}

pub async fn positions_only_move_forward_in_whatever_order_they_come(store: &Store) {
    let mut ids = Vec::new();
    for peer in 2..6 {
        ids.push(pair(store, 1, peer).await);
    }
    for position in [5, 3, 9, 0, 9, 4] {
        store.outbox.advance(vec![(ids[0], position), (ids[1], 10 - position)]).await.unwrap();
    }
    // Also within one call.
    store.outbox.advance(vec![(ids[2], 8), (ids[2], 2)]).await.unwrap();
    store.outbox.advance(Vec::new()).await.unwrap();
    let mut told = Vec::new();
    for id in ids {
        told.push(store.outbox.told(id).await.unwrap());
    }
    assert_eq!(told, [9, 10, 8, 0]);
}

pub async fn a_walk_visits_every_conversation_with_messages_once_with_its_end_and_position(store: &Store) {
    assert!(walked(store, 4).await.is_empty());
    let mut written = Vec::new();
    for peer in 2..25_u64 {
        let conversation_id = pair(store, 1, peer.into()).await;
        // In some of them nothing is ever said.
        let count = peer % 4;
        if count == 0 {
            continue;
        }
        write(store, conversation_id, peer.into(), count).await;
        let told = count.min(peer % 3);
        if told > 0 {
            store.outbox.advance(vec![(conversation_id, told)]).await.unwrap();
        }
        written.push(Outgoing { conversation_id, end: end(count), told });
    }
    written.sort_by_key(|outgoing| outgoing.conversation_id);
    for limit in [1, 4, written.len(), 1_000] {
        let mut seen = walked(store, limit).await;
        let ids: Vec<_> = seen.iter().map(|outgoing| outgoing.conversation_id).collect();
        assert!(ids.is_sorted_by(|one, next| one < next), "in the order of their ids, each once");
        seen.retain(|outgoing| outgoing.end.last_sequence > 0);
        assert_eq!(seen, written);
    }
}

pub async fn a_walk_shows_what_was_written_after_it_was_told(store: &Store) {
    let ids = [pair(store, 1, 2).await, pair(store, 1, 3).await];
    for (id, sender) in ids.into_iter().zip(2..) {
        write(store, id, sender, 2).await;
    }
    store.outbox.advance(ids.map(|id| (id, 2)).to_vec()).await.unwrap();
    write(store, ids[0], 2, 1).await;
    let mut wanted = [(ids[0], 3), (ids[1], 2)].map(|(conversation_id, last_sequence)| Outgoing {
        conversation_id,
        end: end(last_sequence),
        told: 2,
    });
    wanted.sort_by_key(|outgoing| outgoing.conversation_id);
    assert_eq!(walked(store, 10).await, wanted);
}
