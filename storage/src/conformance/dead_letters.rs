//! What every keeper of dead letters does, with each of its lists.

use std::sync::Arc;

use colloquy_protocol::agent::AgentId;
use colloquy_protocol::dead_letter::DeadReason;
use colloquy_protocol::ids::{ConversationId, MessageId};
use uuid::Uuid;

use crate::model::dead_letter::DeadLetter;
use crate::ports::{DeadLetters, Store};

fn turn(n: u128) -> MessageId {
    MessageId(Uuid::from_u128(n))
}

fn id(name: &str) -> AgentId {
    AgentId::new(name).unwrap()
}

/// Both lists: what is true of one is true of the other, whatever is in the first.
fn lists(store: &Store) -> [&Arc<dyn DeadLetters>; 2] {
    [&store.dead_letters, &store.untold]
}

/// The dead letter of turn number `n`.
pub(crate) fn letter(n: u128, agent: &str) -> DeadLetter {
    DeadLetter {
        turn_id: turn(n),
        agent_id: id(agent),
        conversation_id: ConversationId(Uuid::from_u128(7)),
        sequence_number: 12,
        reason: DeadReason::Refused,
        status: Some(422),
        tries: 5,
        died_at: 1_000,
        replayed_at: None,
    }
}

pub async fn a_dead_letter_is_kept_as_it_was_first_put_until_it_is_removed(store: &Store) {
    for letters in lists(store) {
        assert_eq!(letters.get(turn(1)).await.unwrap(), None);
        assert!(letters.put(letter(1, "agent-a")).await.unwrap());
        let again =
            DeadLetter { reason: DeadReason::Expired, status: None, died_at: 2_000, ..letter(1, "agent-a") };
        assert!(letters.put(again).await.unwrap());
        assert_eq!(letters.get(turn(1)).await.unwrap(), Some(letter(1, "agent-a")));
        let unanswered = DeadLetter { reason: DeadReason::Unanswered, status: None, ..letter(2, "agent-a") };
        assert!(letters.put(unanswered.clone()).await.unwrap());
        assert_eq!(letters.get(turn(2)).await.unwrap(), Some(unanswered));
        assert!(letters.remove(turn(1)).await.unwrap());
        assert!(!letters.remove(turn(1)).await.unwrap());
        assert_eq!(letters.get(turn(1)).await.unwrap(), None);
    }
}

pub async fn a_dead_letter_that_is_replayed_says_when(store: &Store) {
    for letters in lists(store) {
        letters.replayed(turn(1), 3_000).await.unwrap();
        assert_eq!(letters.get(turn(1)).await.unwrap(), None, "what is not there does not come to be");
        letters.put(letter(1, "agent-a")).await.unwrap();
        letters.replayed(turn(1), 3_000).await.unwrap();
        let replayed = DeadLetter { replayed_at: Some(3_000), ..letter(1, "agent-a") };
        assert_eq!(letters.get(turn(1)).await.unwrap(), Some(replayed));
    }
}

pub async fn dead_letters_are_listed_by_age_of_one_agent_or_of_all_page_by_page(store: &Store) {
    for letters in lists(store) {
        for (n, agent) in [(5, "agent-a"), (1, "agent-b"), (9, "agent-a"), (3, "agent-a")] {
            letters.put(letter(n, agent)).await.unwrap();
        }
        let page = async |agent: Option<&str>, after: Option<u128>, limit| -> Vec<u128> {
            let page = letters.list(agent.map(id).as_ref(), after.map(turn), limit).await.unwrap();
            page.into_iter().map(|letter| letter.turn_id.0.as_u128()).collect()
        };
        assert_eq!(page(None, None, 3).await, [1, 3, 5]);
        assert_eq!(page(None, Some(5), 3).await, [9]);
        assert_eq!(page(Some("agent-a"), None, 2).await, [3, 5]);
        assert_eq!(page(Some("agent-a"), Some(4), 9).await, [5, 9]);
        assert!(page(Some("agent-c"), None, 9).await.is_empty());
    }
}

pub async fn the_newest_dead_letters_of_each_of_many_conversations_are_found_at_once(store: &Store) {
    for letters in lists(store) {
        let conversation = |n| ConversationId(Uuid::from_u128(n));
        let found = async |conversations: &[u128], limit| -> Vec<(u128, u128)> {
            let conversations: Vec<_> = conversations.iter().copied().map(conversation).collect();
            let found = letters.of_conversations(&conversations, limit).await.unwrap();
            let numbers =
                |letter: &DeadLetter| (letter.conversation_id.0.as_u128(), letter.turn_id.0.as_u128());
            found.iter().map(numbers).collect()
        };
        assert!(found(&[1, 2], 3).await.is_empty(), "there are none at all");
        for (turn, of) in [(5, 1), (4, 2), (1, 1), (9, 1), (3, 3), (7, 1)] {
            letters
                .put(DeadLetter { conversation_id: conversation(of), ..letter(turn, "agent-a") })
                .await
                .unwrap();
        }
        let mut both = found(&[2, 1, 8], 3).await;
        both.sort_by_key(|(conversation, _)| *conversation);
        assert_eq!(both, [(1, 9), (1, 7), (1, 5), (2, 4)]);
        assert!(found(&[], 3).await.is_empty() && found(&[8], 3).await.is_empty());
        let whole = letters.of_conversations(&[conversation(3)], 1).await.unwrap();
        assert_eq!(whole, [DeadLetter { conversation_id: conversation(3), ..letter(3, "agent-a") }]);
        letters.remove(turn(9)).await.unwrap();
        letters.replayed(turn(5), 3_000).await.unwrap();
        assert_eq!(found(&[1], 2).await, [(1, 7), (1, 5)]);
    }
}

pub async fn what_is_in_one_list_is_not_in_the_other(store: &Store) {
    let conversation_id = letter(1, "agent-a").conversation_id;
    for [own, other] in [[&store.dead_letters, &store.untold], [&store.untold, &store.dead_letters]] {
        assert!(own.put(letter(1, "agent-a")).await.unwrap());
        assert_eq!(other.get(turn(1)).await.unwrap(), None);
        assert!(other.list(None, None, 9).await.unwrap().is_empty());
        assert!(other.of_conversations(&[conversation_id], 9).await.unwrap().is_empty());
        // Nor does anything happen to the one that is here.
        other.replayed(turn(1), 3_000).await.unwrap();
        assert!(!other.remove(turn(1)).await.unwrap());
        assert_eq!(own.get(turn(1)).await.unwrap(), Some(letter(1, "agent-a")));
        assert!(own.remove(turn(1)).await.unwrap());
    }
}
