//! The feed's actor: has messages told, those of each conversation in order, many conversations at once.
//!
//! It holds nothing that the store does not hold too, but for positions of the last second. A pod sees to the conversations that
//! belong to it; started, it walks through all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use colloquy_protocol::ids::ConversationId;
use colloquy_storage::ambient::Entropy;
use colloquy_storage::model::outgoing::Outgoing;
use colloquy_storage::ports::StoreResult;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::positions::Positions;
use super::publisher::{Published, Publisher};
use crate::cluster::{Cluster, Placement};
use crate::outbox::{Lanes, Outcome, Rounds};
use crate::supervision::{ActorKind, Address, Letter, Mailbox, answered, befall, outcome};

/// Letters that may wait. One more is dropped, and all conversations are walked through instead.
const MAILBOX_CAPACITY: usize = 65_536;
/// Conversations that are told at the same time.
const AT_ONCE: usize = 32;
/// Conversations that may wait for it. Of more it is found by walking that they do, for which there is always room for a page.
const LANES_MAX: usize = 16_384;
/// Before a conversation that another pod is to see to is looked after here: it was told of here.
const HANDED_OVER: Duration = Duration::from_secs(30);
/// How often it is looked whether somebody has rested for long enough.
const TICK: Duration = Duration::from_millis(250);
/// How long a position may wait to be written.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// How often all conversations are walked through for what was told nobody.
const WALK_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// Conversations that are looked at at once.
const WALK_PAGE: usize = 256;
/// How long reading and posting a page may take, whatever either's own bound is.
const PUBLISH_PATIENCE: Duration = Duration::from_secs(60);

/// The way to the feed. Leads nowhere if nobody is to be told. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Feed(Option<Arc<Way>>);

#[derive(Debug, Default)]
struct Way {
    address: Address<FeedMessage>,
    /// It was told something that there was no room for.
    missed: AtomicBool,
}

impl Feed {
    /// Leads to the actor that is [started](FeedActor::start) with it.
    #[must_use]
    pub fn new() -> Self {
        Self(Some(Arc::default()))
    }

    /// The log of a conversation reaches up to here.
    pub fn log_reaches(&self, conversation_id: ConversationId, end: u64) {
        let Some(way) = &self.0 else { return };
        if way.address.try_cast(FeedMessage::LogReaches(conversation_id, end)).is_err() {
            way.missed.store(true, Ordering::SeqCst);
        }
    }

    fn has_missed(&self) -> bool {
        self.0.as_ref().is_some_and(|way| way.missed.swap(false, Ordering::SeqCst))
    }
}

/// What the feed is started with.
#[derive(Clone)]
pub struct FeedArguments {
    /// The way that leads to it.
    pub feed: Feed,
    /// Tells.
    pub publisher: Publisher,
    /// Jitter.
    pub entropy: Entropy,
}

/// What it is told.
#[derive(Debug)]
pub enum FeedMessage {
    /// The log of a conversation reaches up to here.
    LogReaches(ConversationId, u64),
    /// A page of the walk is read, or could not be.
    Walked(StoreResult<Vec<Outgoing>>),
    /// A lane has come to this.
    Published(ConversationId, Published),
    /// Positions are written, or could not be.
    Written(bool),
    /// Time has passed.
    Tick,
}

/// The actor.
pub struct FeedActor;

/// Its state.
pub struct FeedState {
    arguments: FeedArguments,
    lanes: Lanes,
    positions: Positions,
    rng: StdRng,
    write_at: Instant,
    walk: Option<Walk>,
    rounds: Rounds,
    /// How conversations were placed when it was looked last: with another placement, others belong to this pod.
    placement: Option<Arc<Placement>>,
}

/// A walk through all conversations. It goes on as there is room for what it finds.
#[derive(Default)]
struct Walk {
    after: Option<ConversationId>,
    is_reading: bool,
}

impl FeedActor {
    /// Starts the feed under `parent`, and has the way lead to it.
    ///
    /// # Errors
    /// If the parent is stopping.
    pub async fn start(arguments: FeedArguments, parent: ActorCell) -> Result<ActorCell, SpawnErr> {
        let (metrics, feed) = (Arc::clone(&arguments.publisher.metrics), arguments.feed.clone());
        let (actor, _) = Actor::spawn_linked(None, Self, arguments, parent).await?;
        if let Some(way) = &feed.0 {
            let depth = metrics.depth_of(ActorKind::Feed);
            way.address.install(Mailbox::new(actor.clone(), depth, MAILBOX_CAPACITY));
        }
        metrics.actor_started(ActorKind::Feed);
        actor.send_interval(TICK, || Letter::uncounted(FeedMessage::Tick));
        Ok(actor.get_cell())
    }
}

impl Actor for FeedActor {
    type Msg = Letter<FeedMessage>;
    type State = FeedState;
    type Arguments = FeedArguments;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        arguments: FeedArguments,
    ) -> Result<FeedState, ActorProcessingErr> {
        let now = Instant::now();
        Ok(FeedState {
            lanes: Lanes::new(AT_ONCE, HANDED_OVER),
            positions: Positions::default(),
            rng: arguments.entropy.fork(),
            arguments,
            write_at: now + WRITE_INTERVAL,
            walk: None,
            rounds: Rounds::new(WALK_INTERVAL, now),
            placement: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        letter: Self::Msg,
        state: &mut FeedState,
    ) -> Result<(), ActorProcessingErr> {
        befall(&state.arguments.publisher.metrics, ActorKind::Feed).await;
        let (message, _handling) = letter.open();
        match message {
            FeedMessage::LogReaches(conversation_id, end) => {
                if state.lanes.has(conversation_id) || state.lanes.count() + WALK_PAGE < LANES_MAX {
                    state.lanes.told(conversation_id, end);
                } else {
                    // The walk finds it.
                    state.rounds.missed(Instant::now());
                }
            }
            FeedMessage::Walked(Ok(page)) => state.walked(&myself, &page),
            FeedMessage::Walked(Err(error)) => {
                tracing::warn!(%error, "which conversations have not been told cannot be read");
                // The next tick is soon enough.
                state.walk.iter_mut().for_each(|walk| walk.is_reading = false);
            }
            FeedMessage::Published(conversation_id, published) => state.published(conversation_id, published),
            FeedMessage::Written(is_done) => {
                state.positions.written(is_done);
                if is_done && state.positions.are_many() {
                    state.write(&myself);
                }
            }
            FeedMessage::Tick => state.tick(&myself),
        }
        state.start(&myself);
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<Self::Msg>,
        state: &mut FeedState,
    ) -> Result<(), ActorProcessingErr> {
        // What is being written is, or comes again.
        state.positions.written(false);
        while let Some(positions) = state.positions.take() {
            let written = answered(state.arguments.publisher.outbox.advance(positions)).await;
            if written.is_err() {
                // It is told again.
                break;
            }
            state.positions.written(true);
        }
        Ok(())
    }
}

impl FeedState {
    fn published(&mut self, conversation_id: ConversationId, published: Published) {
        let Published { told, passed_over, outcome } = published;
        if let Some(through) = told {
            self.lanes.progressed(conversation_id, through);
        }
        if let Some(through) = told.max(passed_over) {
            self.positions.told(conversation_id, through);
        }
        self.lanes.ended(conversation_id, outcome, Instant::now(), &mut self.rng);
    }

    fn start(&mut self, myself: &ActorRef<Letter<FeedMessage>>) {
        while self.positions.have_room()
            && let Some(mut start) = self.lanes.start(Instant::now())
        {
            let conversation_id = start.conversation_id;
            // The store may not know it yet.
            start.settled = start.settled.max(self.positions.of(conversation_id));
            let (publisher, myself) = (self.arguments.publisher.clone(), myself.clone());
            tokio::spawn(async move {
                let published = outcome(PUBLISH_PATIENCE, publisher.publish(start)).await;
                let published = published.unwrap_or(Outcome::Unread.into());
                let published = FeedMessage::Published(conversation_id, published);
                // One that has ended finds out anew.
                let _ = myself.cast(Letter::uncounted(published));
            });
        }
        self.arguments.publisher.metrics.feed_conversations.set(gauge(self.lanes.count()));
    }

    fn tick(&mut self, myself: &ActorRef<Letter<FeedMessage>>) {
        let now = Instant::now();
        self.lanes.tick(now, &mut self.rng);
        if self.is_placed_anew() {
            self.rounds.placed_anew(now);
        }
        if self.arguments.feed.has_missed() {
            self.rounds.missed(now);
        }
        if self.walk.is_none() && self.rounds.begin_if_due(now) {
            self.walk = Some(Walk::default());
        }
        self.walk_on(myself);
        if self.write_at <= now {
            self.write_at = now + WRITE_INTERVAL;
            self.write(myself);
        }
    }

    fn is_placed_anew(&mut self) -> bool {
        let Some(cluster) = &self.arguments.publisher.cluster else { return false };
        let placement = cluster.placement();
        let is_anew = self.placement.as_ref().is_some_and(|before| *before != placement);
        self.placement = Some(placement);
        is_anew
    }

    fn walk_on(&mut self, myself: &ActorRef<Letter<FeedMessage>>) {
        let Some(walk) = self.walk.as_mut().filter(|walk| !walk.is_reading) else { return };
        if self.lanes.count() + WALK_PAGE > LANES_MAX {
            return;
        }
        walk.is_reading = true;
        let (outbox, after) = (Arc::clone(&self.arguments.publisher.outbox), walk.after);
        let myself = myself.clone();
        tokio::spawn(async move {
            let page = answered(outbox.walk(after, WALK_PAGE)).await;
            let _ = myself.cast(Letter::uncounted(FeedMessage::Walked(page)));
        });
    }

    fn walked(&mut self, myself: &ActorRef<Letter<FeedMessage>>, page: &[Outgoing]) {
        let Some(last) = page.last() else {
            self.walk = None;
            self.rounds.ended(Instant::now());
            return;
        };
        self.walk = Some(Walk { after: Some(last.conversation_id), is_reading: false });
        let Publisher { cluster, since, .. } = &self.arguments.publisher;
        for Outgoing { conversation_id, end, told } in page {
            let is_due = end.last_sequence > *told && end.last_message_at.is_none_or(|at| at >= *since);
            if is_due && !Cluster::is_elsewhere(cluster.as_ref(), *conversation_id) {
                self.lanes.found(*conversation_id, end.last_sequence);
            }
        }
        self.walk_on(myself);
    }

    fn write(&mut self, myself: &ActorRef<Letter<FeedMessage>>) {
        let Some(positions) = self.positions.take() else { return };
        let (outbox, myself) = (Arc::clone(&self.arguments.publisher.outbox), myself.clone());
        tokio::spawn(async move {
            let written = answered(outbox.advance(positions)).await;
            if let Err(error) = &written {
                tracing::warn!(%error, "how far messages have been told cannot be written");
            }
            let _ = myself.cast(Letter::uncounted(FeedMessage::Written(written.is_ok())));
        });
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokio::sync::oneshot;

    use super::super::stage::{Sink, store_of};
    use super::*;
    use crate::supervision::{
        ChildSpec, RestartIntensity, Supervisor, SupervisorArguments, SupervisorMessage,
    };

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn more_conversations_than_may_wait_are_all_told_once() {
        let conversations = LANES_MAX + 2 * WALK_PAGE;
        let (store, _folder) = store_of(conversations as u128).await;
        let sink = Sink::saying([]);
        let publisher = sink.publisher(store);
        let metrics = Arc::clone(&publisher.metrics);
        let arguments = FeedArguments { feed: Feed::new(), publisher, entropy: Entropy::from_seed(1) };
        let feed = arguments.feed.clone();
        let child =
            ChildSpec::permanent(ActorKind::Feed, move |parent| FeedActor::start(arguments.clone(), parent));
        let (children, intensity) = (vec![child], RestartIntensity::default());
        let arguments = SupervisorArguments { children, intensity, metrics };
        let (root, root_ended) = Actor::spawn(None, Supervisor, arguments).await.unwrap();
        // So do those that are told of: there is room for some of them only.
        for n in (1..=conversations as u128).rev() {
            feed.log_reaches(ConversationId(uuid::Uuid::from_u128(n)), 1);
        }
        sink.is_told(conversations).await;
        let (stopped, is_stopped) = oneshot::channel();
        root.cast(SupervisorMessage::Stop(stopped)).unwrap();
        is_stopped.await.unwrap();
        root_ended.await.unwrap();
        let ids: BTreeSet<String> = sink.told().into_iter().map(|event| event.id).collect();
        assert_eq!((ids.len(), sink.told().len()), (conversations, conversations), "each once");
    }
}
