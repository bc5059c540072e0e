//! Reads on in a conversation's log, and publishes what it finds, one message after the other.

use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "mutations")]
use colloquy_mutations::Mutation;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::agent::AgentId;
use colloquy_protocol::dead_letter::FEED;
use colloquy_protocol::ids::ConversationId;
use colloquy_storage::ambient::Clock;
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::{DeadLetters, MessageLog, Outbox, StoreResult};
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::metrics::{FeedOutcome, Metrics};
use crate::outbox::{Death, Event, Outcome, Page, Posted, Sinks, Start, Tried, buried, page_after};

/// After this a conversation lets another one go on, ready or not: a sink may take its time with each message.
const GO_MAX: Duration = Duration::from_secs(20);
/// Before a message is as old as this, it is not given up because telling it fails.
const AGE_MIN: Duration = Duration::from_secs(24 * 60 * 60);

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

/// What a go at a conversation has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Up to here it has been told, if any of it was.
    pub(super) told: Option<u64>,
    /// Up to here nothing is to be told any more, if that is news.
    pub(super) passed_over: Option<u64>,
    /// How its lane ends.
    pub(super) outcome: Outcome,
}

impl From<Outcome> for Published {
    fn from(outcome: Outcome) -> Self {
        let passed_over = match outcome {
            Outcome::Buried { sequence_number, .. } => Some(sequence_number),
            _ => None,
        };
        Self { told: None, passed_over, outcome }
    }
}

/// What comes next in a conversation.
enum Next {
    /// These, in order: at least one.
    Due(Vec<Arc<Message>>),
    /// Nothing up to here.
    Nothing { told: u64, through: u64 },
}

impl Publisher {
    /// Tells the next messages of a conversation, as far as they are taken.
    pub(super) async fn publish(&self, start: Start) -> Published {
        if !start.insists && Cluster::is_elsewhere(self.cluster.as_ref(), start.conversation_id) {
            return Outcome::NotOurs.into();
        }
        let due = match self.next(&start).await {
            Ok(Next::Due(due)) => due,
            Ok(Next::Nothing { told, through }) => {
                let passed_over = Some(through).filter(|through| *through > told);
                return Published { told: None, passed_over, outcome: Outcome::Nothing { through } };
            }
            Err(error) => {
                tracing::warn!(%error, "what is to be told cannot be read");
                self.metrics.fed(FeedOutcome::Unread);
                return Outcome::Unread.into();
            }
        };
        // Of another message it says nothing.
        let tried = start.tried.filter(|tried| tried.turn_id == due[0].message_id);
        if let Some(Tried { posts, death: Some(death), .. }) = tried
            && let Some(outcome) = self.give_up(&due[0], death, posts).await
        {
            return outcome.into();
        }
        self.tell_all(&due).await
    }

    async fn tell_all(&self, due: &[Arc<Message>]) -> Published {
        let begun = Instant::now();
        let mut told = None;
        for message in due {
            if let Err(outcome) = self.tell(message).await {
                if told.is_none() && self.is_given_up(message).await {
                    return passed_over(message).into();
                }
                return Published { told, passed_over: None, outcome };
            }
            told = Some(message.sequence_number);
            if begun.elapsed() >= GO_MAX {
                break;
            }
        }
        let outcome = told.map_or(Outcome::Unread, |through| Outcome::Nothing { through });
        Published { told, passed_over: None, outcome }
    }

    async fn next(&self, start: &Start) -> StoreResult<Next> {
        let conversation_id = start.conversation_id;
        let told = match start.settled {
            Some(told) => told,
            None => self.outbox.told(conversation_id).await?,
        };
        if told >= start.end {
            return Ok(Next::Nothing { told, through: told });
        }
        let mut page = match page_after(&*self.log, conversation_id, told).await? {
            Page::Messages(page) => page,
            Page::Nothing { through } => return Ok(Next::Nothing { told, through }),
        };
        let old = page.partition_point(|message| message.created_at < self.since);
        if old < page.len() {
            return Ok(Next::Due(page.split_off(old)));
        }
        let from = page.last().map_or(told, |last| last.sequence_number);
        Ok(Next::Nothing { told, through: self.last_old(conversation_id, from).await? })
    }

    /// The number of the last message that is too old to be told, where `from` is: dates rise with numbers.
    async fn last_old(&self, conversation_id: ConversationId, from: u64) -> StoreResult<u64> {
        let (mut old, mut end) = (from, self.log.end(conversation_id).await?.last_sequence + 1);
        while end - old > 1 {
            let middle = old.midpoint(end);
            let message = self.log.message(conversation_id, middle).await?;
            // What is gone was older than what is left.
            if message.is_none_or(|message| message.created_at < self.since) {
                old = middle;
            } else {
                end = middle;
            }
        }
        Ok(old)
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
                // A part of it may be away, that of this conversation: not the message's fault, unless that takes a day.
                let age = Duration::from_millis(self.clock.now().saturating_sub(message.created_at));
                let is_busy = is_busy || age < AGE_MIN;
                (FeedOutcome::Failed, Outcome::Failed { turn_id, retry_after, is_busy })
            }
            Posted::Forbidden => {
                (FeedOutcome::Failed, Outcome::Failed { turn_id, retry_after: None, is_busy: true })
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
        let name = AgentId::new(FEED).expect("it is a label");
        let letter = death.letter(name, message, tries, self.clock.now());
        let kept = self.untold.put(letter).await;
        if matches!(kept, Ok(true)) {
            self.metrics.fed(FeedOutcome::Dead);
            tracing::warn!(
                reason = death.reason.as_str(),
                "a message is told no more: see `colloquy admin dead-letters list --feed`"
            );
        }
        buried(kept, message, false)
    }
}

fn passed_over(message: &Message) -> Outcome {
    Outcome::Buried { sequence_number: message.sequence_number, was_posted: false }
}

#[cfg(test)]
mod tests {
    use colloquy_protocol::dead_letter::DeadReason;
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
            Self { publisher: sink.publisher(store), sink, _folder: folder }
        }

        async fn publish(&self, settled: Option<u64>, tried: Option<Tried>) -> Published {
            let start =
                Start { conversation_id: CONVERSATION, end: u64::MAX, settled, insists: false, tried };
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

    fn taken_through(n: u64) -> Published {
        Published { told: Some(n), passed_over: None, outcome: Outcome::Nothing { through: n } }
    }

    fn nothing(through: u64, passed_over: Option<u64>) -> Published {
        Published { told: None, passed_over, outcome: Outcome::Nothing { through } }
    }

    /// It could not take message `n`; before that it was told up to `told`.
    fn failed(n: u128, told: Option<u64>, is_busy: bool) -> Published {
        let outcome = Outcome::Failed { turn_id: message_id(n), retry_after: None, is_busy };
        Published { told, passed_over: None, outcome }
    }

    const REFUSED: Posted = Posted::Refused { status: 413 };

    #[tokio::test]
    async fn messages_are_told_from_where_their_conversation_has_been_told() {
        let trial = Trial::of(5, []).await;
        trial.publisher.outbox.advance(vec![(CONVERSATION, 2)]).await.unwrap();
        assert_eq!(trial.publish(None, None).await, taken_through(5));
        assert_eq!(trial.told(), [3, 4, 5]);
        assert_eq!(trial.publish(Some(5), None).await, nothing(5, None));
        assert_eq!(trial.publish(Some(4), None).await, taken_through(5), "whoever asks knows better");
    }

    #[tokio::test]
    async fn nothing_is_told_beyond_what_was_not_taken() {
        let trial = Trial::of(4, [Posted::Taken, Posted::Taken, REFUSED, Posted::SILENT]).await;
        let refused = Outcome::Refused { turn_id: message_id(3), status: 413 };
        let published = Published { told: Some(2), passed_over: None, outcome: refused };
        assert_eq!(trial.publish(None, None).await, published);
        assert_eq!(trial.publish(Some(2), None).await, failed(3, None, false));
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
        assert_eq!(trial.publish(None, None).await, nothing(5, Some(5)));
    }

    #[tokio::test]
    async fn a_long_history_that_was_written_before_is_passed_over_at_once() {
        let mut trial = Trial::of(500, []).await;
        for since in [499, 500, 33, 34, 64] {
            trial.publisher.since = time_of(since);
            let through = u64::try_from(since).unwrap() - 1;
            assert_eq!(trial.publish(None, None).await, nothing(through, Some(through)));
        }
        assert_eq!(trial.told(), []);
    }

    #[tokio::test]
    async fn what_is_known_to_be_told_to_its_end_is_not_read() {
        let trial = Trial::of(5, []).await;
        trial.publisher.outbox.advance(vec![(CONVERSATION, 3)]).await.unwrap();
        let start =
            Start { conversation_id: CONVERSATION, end: 3, settled: None, insists: false, tried: None };
        assert_eq!(trial.publisher.publish(start).await, nothing(3, None));
    }

    #[tokio::test]
    async fn a_message_that_is_new_is_not_at_fault_if_telling_it_fails() {
        let mut trial = Trial::of(1, [Posted::SILENT, Posted::SILENT]).await;
        assert_eq!(trial.publish(None, None).await, failed(1, None, false), "it is from 1970");
        trial.publisher.clock = Clock::starting_at(time_of(1));
        assert_eq!(trial.publish(None, None).await, failed(1, None, true));
    }

    #[tokio::test]
    async fn what_is_given_up_is_kept_and_passed_over() {
        let trial = Trial::of(3, []).await;
        let death = Some(Death { reason: DeadReason::Refused, status: Some(413) });
        let tried = |n| Some(Tried { turn_id: message_id(n), posts: 5, death });
        let buried = Outcome::Buried { sequence_number: 2, was_posted: false }.into();
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
        assert_eq!(trial.publish(None, None).await, failed(1, None, false));
        let death = Some(Death { reason: DeadReason::Refused, status: Some(413) });
        let buried = Outcome::Buried { sequence_number: 1, was_posted: false }.into();
        let tried = Some(Tried { turn_id: message_id(1), posts: 5, death });
        assert_eq!(trial.publish(None, tried).await, buried);
        assert_eq!(trial.publish(None, None).await, buried);
        assert_eq!(trial.publish(Some(1), None).await, taken_through(2));
    }
}
