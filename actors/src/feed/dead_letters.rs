//! Messages that the feed's sink did not take: listed, and told once more by whoever runs the installation.
//!
//! A message that is replayed comes after others of its conversation, under the `source` and `id` that it had. There is no answer
//! to wait for: what is taken is no dead letter any more. Whoever dies in between tells it twice at most.

use std::sync::Arc;

use colloquy_protocol::ids::MessageId;
use colloquy_protocol::rest::dead_letters::Replayed;
use colloquy_storage::model::dead_letter::DeadLetter;
use colloquy_storage::ports::{DeadLetters, MessageLog, StoreResult};

use crate::outbox::{Event, Sinks, message_of, next_page, what_came_of};

/// What the office works with. Cheap to clone.
#[derive(Clone)]
pub struct FeedOffice {
    /// What the feed's sink did not take: not the agents' dead letters.
    pub letters: Arc<dyn DeadLetters>,
    /// What was written.
    pub log: Arc<dyn MessageLog>,
    /// The way to the feed's sink.
    pub sinks: Arc<dyn Sinks>,
}

impl FeedOffice {
    /// The next page of them, and after which there are more.
    ///
    /// # Errors
    /// [`StoreError`](colloquy_storage::ports::StoreError).
    pub async fn page(&self, after: Option<MessageId>) -> StoreResult<(Vec<DeadLetter>, Option<MessageId>)> {
        next_page(&*self.letters, None, after).await
    }

    /// One of them.
    ///
    /// # Errors
    /// [`StoreError`](colloquy_storage::ports::StoreError).
    pub async fn get(&self, message_id: MessageId) -> StoreResult<Option<DeadLetter>> {
        self.letters.get(message_id).await
    }

    /// Tells the feed's sink of a message once more; `None` if there is no such dead letter. [`Replayed::Forbidden`] if the feed is
    /// off.
    ///
    /// # Errors
    /// [`StoreError`](colloquy_storage::ports::StoreError).
    pub async fn replay(&self, message_id: MessageId) -> StoreResult<Option<Replayed>> {
        let Some(letter) = self.letters.get(message_id).await? else { return Ok(None) };
        let Some(message) = message_of(&*self.log, &letter).await? else { return Ok(Some(Replayed::Gone)) };
        let replayed = what_came_of(self.sinks.publish(&Event::of_stored(&message)).await);
        if replayed == Replayed::Taken {
            self.letters.remove(message_id).await?;
        }
        Ok(Some(replayed))
    }

    /// Keeps it no longer: the feed's sink will not be told of it. Says whether it was there.
    ///
    /// # Errors
    /// [`StoreError`](colloquy_storage::ports::StoreError).
    pub async fn drop(&self, message_id: MessageId) -> StoreResult<bool> {
        self.letters.remove(message_id).await
    }
}

#[cfg(test)]
mod tests {
    use colloquy_protocol::agent::AgentId;
    use colloquy_protocol::dead_letter::{DeadReason, FEED};

    use super::super::stage::{CONVERSATION, Sink, message_id, store_with};
    use super::*;
    use crate::outbox::Posted;

    /// The dead letter of message `n`, which stands at this number.
    fn letter(n: u128, sequence_number: u64) -> DeadLetter {
        DeadLetter {
            turn_id: message_id(n),
            agent_id: AgentId::new(FEED).unwrap(),
            conversation_id: CONVERSATION,
            sequence_number,
            reason: DeadReason::Refused,
            status: Some(422),
            tries: 5,
            died_at: 2_000,
            replayed_at: None,
        }
    }

    #[tokio::test]
    async fn what_is_taken_in_the_end_is_no_dead_letter_any_more() {
        let (store, _folder) = store_with(1).await;
        let sink = Sink::saying([Posted::Refused { status: 410 }, Posted::SILENT, Posted::Forbidden]);
        let office = FeedOffice {
            letters: Arc::clone(&store.untold),
            log: Arc::clone(&store.log),
            sinks: Arc::clone(&sink) as Arc<dyn Sinks>,
        };
        // An agent's of the same message is another.
        for letters in [&store.untold, &store.dead_letters] {
            assert!(letters.put(letter(1, 1)).await.unwrap());
        }
        let came =
            [Replayed::Refused { status: 410 }, Replayed::Failed, Replayed::Forbidden, Replayed::Taken];
        for replayed in came {
            assert_eq!(office.get(message_id(1)).await.unwrap(), Some(letter(1, 1)));
            assert_eq!(office.page(None).await.unwrap(), (vec![letter(1, 1)], None));
            assert_eq!(office.replay(message_id(1)).await.unwrap(), Some(replayed));
        }
        assert_eq!(office.replay(message_id(1)).await.unwrap(), None);
        assert!(!office.drop(message_id(1)).await.unwrap());
        assert!(store.dead_letters.get(message_id(1)).await.unwrap().is_some());
        let stored = store.log.message(CONVERSATION, 1).await.unwrap().unwrap();
        let same = vec![Event::of_stored(&stored); 4];
        assert_eq!(sink.told(), same, "under the same name each time");
    }

    #[tokio::test]
    async fn of_what_is_no_longer_kept_nobody_is_told() {
        let (store, _folder) = store_with(1).await;
        let sink = Sink::saying([]);
        let (letters, log) = (Arc::clone(&store.untold), Arc::clone(&store.log));
        let office = FeedOffice { letters, log, sinks: Arc::clone(&sink) as Arc<dyn Sinks> };
        // At its number there is none, or another message.
        for gone in [letter(2, 2), letter(3, 1)] {
            assert!(store.untold.put(gone.clone()).await.unwrap());
            assert_eq!(office.replay(gone.turn_id).await.unwrap(), Some(Replayed::Gone));
            assert!(office.drop(gone.turn_id).await.unwrap());
        }
        assert_eq!(sink.told(), []);
    }
}
