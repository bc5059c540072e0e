//! Reads on in a conversation's log, and publishes what it finds, one message after the other.

use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "mutations")]
use colloquy_mutations::Mutation;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::agent::AgentId;
use colloquy_protocol::dead_letter::FEED;
use colloquy_storage::ambient::Clock;
use colloquy_storage::model::dead_letter::DeadLetter;
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::{DeadLetters, MessageLog, Outbox, StoreResult};
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::metrics::{FeedOutcome, Metrics};
use crate::outbox::{Death, Event, Outcome, Page, Posted, Sinks, Start, Tried, page_after};

/// After this a conversation lets another one go on, ready or not: a sink may take its time with each message.
const GO_MAX: Duration = Duration::from_secs(20);

/// What publishing needs. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    /// What was written.
    pub log: Arc<dyn MessageLog>,
    /// How far it has been told.
    pub outbox: Arc<dyn Outbox>,
    /// What was not taken.
    pub untold: Arc<dyn DeadLetters>,
    /// Which conversations are other pods' to see to.
    pub cluster: Option<Cluster>,
    /// The way to whoever is told.
    pub sinks: Arc<dyn Sinks>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What time it is.
    pub clock: Clock,
    /// What was numbered before is not told.
    pub since: UnixMillis,
}

impl Publisher {
    /// Tells the next messages of a conversation, as far as they are taken. [`Outcome::Taken`] names the last of them.
    pub(super) async fn publish(&self, start: Start) -> Outcome {
        if self.is_elsewhere(&start) {
            return Outcome::NotOurs;
        }
        let page = match self.next(&start).await {
            Ok(Page::Messages(page)) => page,
            Ok(Page::Nothing { through }) => return Outcome::Nothing { through },
            Err(error) => {
                tracing::warn!(%error, "what is to be told cannot be read");
                self.metrics.fed(FeedOutcome::Unread);
                return Outcome::Unread;
            }
        };
        let (old, due) = page.split_at(page.partition_point(|message| message.created_at < self.since));
        let Some(first) = due.first() else {
            let through = old.last().map_or(0, |last| last.sequence_number);
            return Outcome::Nothing { through };
        };
        // Of another message it says nothing.
        let tried = start.tried.filter(|tried| tried.turn_id == first.message_id);
        if let Some(Tried { posts, death: Some(death), .. }) = tried
            && let Some(outcome) = self.give_up(first, death, posts).await
        {
            return outcome;
        }
        let begun = Instant::now();
        let mut last = None;
        for message in due {
            if let Err(outcome) = self.tell(message).await {
                return match last {
                    // It is met again, as the first, and counts then.
                    Some(last) => taken(last),
                    None if self.is_given_up(message).await => passed_over(message),
                    None => outcome,
                };
            }
            last = Some(message);
            if begun.elapsed() >= GO_MAX {
                break;
            }
        }
        last.map_or(Outcome::Unread, taken)
    }

    fn is_elsewhere(&self, start: &Start) -> bool {
        let owner = self.cluster.as_ref().and_then(|cluster| cluster.elsewhere(start.conversation_id));
        owner.is_some() && !start.insists
    }

    async fn next(&self, start: &Start) -> StoreResult<Page> {
        let told = match start.settled {
            Some(told) => told,
            None => self.outbox.told(start.conversation_id).await?,
        };
        page_after(&*self.log, start.conversation_id, told).await
    }

    async fn tell(&self, message: &Message) -> Result<(), Outcome> {
        let turn_id = message.message_id;
        let posted = self.sinks.publish(&Event::of_stored(message)).await;
        #[cfg(feature = "mutations")]
        let posted = if colloquy_mutations::is(Mutation::TellOnce) { Posted::Taken } else { posted };
        let (counted, outcome) = match posted {
            Posted::Taken => {
                self.metrics.fed(FeedOutcome::Told);
                return Ok(());
            }
            Posted::Refused { status } => {
                tracing::warn!(status, "a message is refused by whoever is to be told of it");
                (FeedOutcome::Refused, Outcome::Refused { turn_id, status })
            }
            Posted::Failed { retry_after, is_busy } => {
                (FeedOutcome::Failed, Outcome::Failed { turn_id, retry_after, is_busy })
            }
            Posted::Forbidden => {
                (FeedOutcome::Failed, Outcome::Failed { turn_id, retry_after: None, is_busy: false })
            }
        };
        self.metrics.fed(counted);
        Err(outcome)
    }

    /// Whoever gave it up may not have lived to note that it is passed over.
    async fn is_given_up(&self, message: &Message) -> bool {
        self.untold.get(message.message_id).await.is_ok_and(|letter| letter.is_some())
    }

    /// Puts a message among the dead letters. Nothing comes of it if there is no room: it is tried on.
    async fn give_up(&self, message: &Message, death: Death, tries: u32) -> Option<Outcome> {
        let letter = DeadLetter {
            turn_id: message.message_id,
            agent_id: AgentId::new(FEED).expect("it is a label"),
            conversation_id: message.conversation_id,
            sequence_number: message.sequence_number,
            reason: death.reason,
            status: death.status,
            tries,
            died_at: self.clock.now(),
            replayed_at: None,
        };
        match self.untold.put(letter).await {
            Ok(true) => {
                self.metrics.fed(FeedOutcome::Dead);
                tracing::warn!(
                    reason = death.reason.as_str(),
                    "a message is told no more: see `colloquy admin dead-letters list --feed`"
                );
                Some(passed_over(message))
            }
            Ok(false) => {
                tracing::warn!("there are too many dead letters: a message is tried on");
                None
            }
            Err(error) => {
                tracing::warn!(%error, "a dead letter cannot be kept");
                Some(Outcome::Unread)
            }
        }
    }
}

fn passed_over(message: &Message) -> Outcome {
    Outcome::Buried { sequence_number: message.sequence_number, was_posted: false }
}

fn taken(message: &Arc<Message>) -> Outcome {
    Outcome::Taken { turn_id: message.message_id, sequence_number: message.sequence_number }
}

#[cfg(test)]
mod tests {
    use colloquy_protocol::dead_letter::DeadReason;
    use prometheus_client::registry::Registry;
    use tempfile::TempDir;

    use super::super::stage::{CONVERSATION, Sink, message_id, store_with, time_of};
    use super::*;

    /// A conversation of some messages, and whoever is told of them.
    struct Trial {
        publisher: Publisher,
        sink: Arc<Sink>,
        _folder: TempDir,
    }

    impl Trial {
        async fn of(messages: u128, says: impl IntoIterator<Item = Posted>) -> Self {
            let (store, folder) = store_with(messages).await;
            let sink = Sink::saying(says);
            let publisher = Publisher {
                log: store.log,
                outbox: store.outbox,
                untold: store.untold,
                cluster: None,
                sinks: Arc::clone(&sink) as Arc<dyn Sinks>,
                metrics: Arc::new(Metrics::register(&mut Registry::default())),
                clock: Clock::System,
                since: 0,
            };
            Self { publisher, sink, _folder: folder }
        }

        async fn publish(&self, settled: Option<u64>, tried: Option<Tried>) -> Outcome {
            let start = Start { conversation_id: CONVERSATION, settled, insists: false, tried };
            self.publisher.publish(start).await
        }

        /// The messages it was told of, by number.
        fn told(&self) -> Vec<u128> {
            let number = |event: &Event| {
                (1..100).find(|n| event.id == format!("{}/received", message_id(*n))).unwrap()
            };
            self.sink.told().iter().map(number).collect()
        }
    }

    fn taken_through(n: u128) -> Outcome {
        Outcome::Taken { turn_id: message_id(n), sequence_number: u64::try_from(n).unwrap() }
    }

    const REFUSED: Posted = Posted::Refused { status: 413 };

    #[tokio::test]
    async fn messages_are_told_from_where_their_conversation_has_been_told() {
        let trial = Trial::of(5, []).await;
        trial.publisher.outbox.advance(vec![(CONVERSATION, 2)]).await.unwrap();
        assert_eq!(trial.publish(None, None).await, taken_through(5));
        assert_eq!(trial.told(), [3, 4, 5]);
        assert_eq!(trial.publish(Some(5), None).await, Outcome::Nothing { through: 5 });
        assert_eq!(trial.publish(Some(4), None).await, taken_through(5), "whoever asks knows better");
    }

    #[tokio::test]
    async fn nothing_is_told_beyond_what_was_not_taken() {
        let trial = Trial::of(4, [Posted::Taken, Posted::Taken, REFUSED, Posted::SILENT]).await;
        assert_eq!(trial.publish(None, None).await, taken_through(2));
        let failed = Outcome::Failed { turn_id: message_id(3), retry_after: None, is_busy: false };
        assert_eq!(trial.publish(Some(2), None).await, failed);
        assert_eq!(trial.publish(Some(2), None).await, taken_through(4));
        assert_eq!(trial.told(), [1, 2, 3, 3, 3, 4]);
    }

    #[tokio::test]
    async fn what_was_written_before_is_passed_over() {
        let mut trial = Trial::of(5, []).await;
        trial.publisher.since = time_of(4);
        assert_eq!(trial.publish(None, None).await, taken_through(5));
        assert_eq!(trial.told(), [4, 5]);
        trial.publisher.since = time_of(6);
        assert_eq!(trial.publish(None, None).await, Outcome::Nothing { through: 5 });
    }

    #[tokio::test]
    async fn what_is_given_up_is_kept_and_passed_over() {
        let trial = Trial::of(3, []).await;
        let death = Some(Death { reason: DeadReason::Refused, status: Some(413) });
        let tried = |n| Some(Tried { turn_id: message_id(n), posts: 5, death });
        let buried = Outcome::Buried { sequence_number: 2, was_posted: false };
        assert_eq!(trial.publish(Some(1), tried(2)).await, buried);
        assert_eq!(trial.told(), []);
        let letter = trial.publisher.untold.get(message_id(2)).await.unwrap().unwrap();
        assert_eq!((letter.agent_id.as_str(), letter.sequence_number), (FEED, 2));
        assert_eq!((letter.status, letter.tries), (Some(413), 5));
        // Of another message it says nothing.
        assert_eq!(trial.publish(Some(2), tried(2)).await, taken_through(3));
    }

    #[tokio::test]
    async fn what_was_given_up_is_passed_over_by_whoever_comes_after() {
        let trial = Trial::of(2, [Posted::SILENT, REFUSED]).await;
        let failed = Outcome::Failed { turn_id: message_id(1), retry_after: None, is_busy: false };
        assert_eq!(trial.publish(None, None).await, failed);
        let death = Some(Death { reason: DeadReason::Refused, status: Some(413) });
        let buried = Outcome::Buried { sequence_number: 1, was_posted: false };
        let tried = Some(Tried { turn_id: message_id(1), posts: 5, death });
        assert_eq!(trial.publish(None, tried).await, buried);
        assert_eq!(trial.publish(None, None).await, buried);
        assert_eq!(trial.publish(Some(1), None).await, taken_through(2));
    }
}
