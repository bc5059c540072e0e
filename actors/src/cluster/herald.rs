//! The herald: tells other pods what their sessions have to hear of. Gathers hints while a round trip to the live
//! directory is under way, looks up all their audiences at once, and publishes one bulletin to each pod.
//!
//! A hint may be lost with the bus or with this pod. Bulletins to a pod are numbered, one goes out every [`BEAT`] even if there
//! is nothing to tell, and a pod that finds a number missing has its sessions read from the log what they have not been
//! shown (NOLOSS, also for the last message of a conversation that falls quiet).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use colloquy_protocol::ids::UserId;
use colloquy_storage::model::live::PodId;
use colloquy_storage::ports::live::{Channel, LiveDirectory};
use colloquy_storage::ports::{StoreError, StoreResult};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use tokio::time::timeout;

use super::wire::{Bulletin, Hint, Tidings, encode};
use crate::metrics::Metrics;
use crate::supervision::{ActorKind, Address, Letter, Mailbox, Refused};

/// Letters that may wait at the herald. Beyond it, hints are dropped and every pod is told to look for itself.
const MAILBOX_CAPACITY: usize = 65_536;
/// Hints in one round.
const ROUND_MAX_HINTS: usize = 1024;
/// Weight of messages in one hint, bytes; with more, only how far the log reaches is told.
const HINT_MAX_BYTES: usize = 64 * 1024;
/// How often every pod hears the number it should have come to, also that something could not be told.
const BEAT: Duration = Duration::from_secs(1);
/// How long the last hints of a stopping pod may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Where to tell the herald.
#[derive(Clone, Debug, Default)]
pub struct Herald {
    address: Address<HeraldMessage>,
    overflowed: Arc<AtomicBool>,
}

impl Herald {
    /// Tells the other pods that have sessions of this audience.
    pub fn tell(&self, audience: Arc<[UserId]>, tidings: Tidings) {
        let may_be_lost = matches!(tidings, Tidings::Whisper(_));
        let told = self.address.try_cast(HeraldMessage::Tell(Hint { audience, tidings: small(tidings) }));
        if !may_be_lost && matches!(told, Err(Refused::Busy(_) | Refused::Stopped(_))) {
            self.overflowed.store(true, Ordering::Relaxed);
        }
    }

    /// These are the other pods now.
    pub fn pods_are(&self, pods: Vec<PodId>) {
        // One that is restarting hears of it at the next change or beat of the membership.
        let _ = self.address.try_cast(HeraldMessage::Pods(pods));
    }
}

/// A hint of bearable size.
fn small(tidings: Tidings) -> Tidings {
    let Tidings::Stored(messages) = &tidings else { return tidings };
    let weight: usize = messages.iter().map(|message| message.weight()).sum();
    match messages.last() {
        Some(last) if weight > HINT_MAX_BYTES => {
            Tidings::LogReaches(last.conversation_id, last.sequence_number)
        }
        _ => tidings,
    }
}

/// What the herald is told.
pub enum HeraldMessage {
    /// Tell others.
    Tell(Hint),
    /// The other pods.
    Pods(Vec<PodId>),
    /// What was published has arrived at the bus, or has not.
    Published(StoreResult<()>),
    /// Let the numbers be known.
    Beat,
}

/// What the herald is started with.
#[derive(Clone)]
pub struct HeraldArguments {
    /// Where to tell it.
    pub herald: Herald,
    /// This pod ...
    pub pod_id: PodId,
    /// ... and its incarnation.
    pub incarnation: u64,
    /// Where audiences are looked up and bulletins published.
    pub live: Arc<dyn LiveDirectory>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// The actor.
pub struct HeraldActor;

/// Its state.
pub struct HeraldState {
    services: HeraldArguments,
    pods: Vec<PodId>,
    waiting: VecDeque<Hint>,
    /// The last number used for each pod.
    numbers: HashMap<PodId, u64>,
    publishing: bool,
}

impl HeraldActor {
    /// Starts the herald under `parent` and points its address at it.
    ///
    /// # Errors
    /// If the parent is stopping.
    pub async fn start(arguments: HeraldArguments, parent: ActorCell) -> Result<ActorCell, SpawnErr> {
        let (herald, metrics) = (arguments.herald.clone(), Arc::clone(&arguments.metrics));
        let (actor, _) = Actor::spawn_linked(None, Self, arguments, parent).await?;
        let depth = metrics.depth_of(ActorKind::Herald);
        herald.address.install(Mailbox::new(actor.clone(), depth, MAILBOX_CAPACITY));
        metrics.actor_started(ActorKind::Herald);
        actor.send_interval(BEAT, || Letter::uncounted(HeraldMessage::Beat));
        Ok(actor.get_cell())
    }
}

impl Actor for HeraldActor {
    type Msg = Letter<HeraldMessage>;
    type State = HeraldState;
    type Arguments = HeraldArguments;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        services: HeraldArguments,
    ) -> Result<HeraldState, ActorProcessingErr> {
        // What an earlier incarnation had still to tell has died with it: its numbers start over, which says so.
        services.herald.overflowed.store(true, Ordering::Relaxed);
        Ok(HeraldState {
            services,
            pods: Vec::new(),
            waiting: VecDeque::new(),
            numbers: HashMap::new(),
            publishing: false,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        letter: Self::Msg,
        state: &mut HeraldState,
    ) -> Result<(), ActorProcessingErr> {
        match letter.open() {
            HeraldMessage::Tell(hint) => {
                state.waiting.push_back(hint);
                state.publish(&myself, false);
            }
            HeraldMessage::Pods(pods) => {
                state.numbers.retain(|pod_id, _| pods.contains(pod_id));
                state.pods = pods;
            }
            HeraldMessage::Published(published) => {
                state.publishing = false;
                match published {
                    // Told again with the next beat, and not at once: the bus is away.
                    Err(error) => {
                        tracing::debug!(%error, "hints not published");
                        state.services.herald.overflowed.store(true, Ordering::Relaxed);
                    }
                    Ok(()) if !state.waiting.is_empty() => state.publish(&myself, false),
                    Ok(()) => {}
                }
            }
            HeraldMessage::Beat => state.publish(&myself, true),
        }
        Ok(())
    }

    /// Tells what has waited, so that an orderly stop leaves nobody to look for themselves (DRAIN).
    async fn post_stop(
        &self,
        _: ActorRef<Self::Msg>,
        state: &mut HeraldState,
    ) -> Result<(), ActorProcessingErr> {
        while !state.waiting.is_empty() {
            let round = state.round();
            if !matches!(timeout(FLUSH_TIMEOUT, round).await, Ok(Ok(()))) {
                break;
            }
        }
        Ok(())
    }
}

impl HeraldState {
    /// Starts the next round unless one is under way.
    fn publish(&mut self, myself: &ActorRef<Letter<HeraldMessage>>, is_beat: bool) {
        if self.publishing || (self.waiting.is_empty() && !is_beat) {
            return;
        }
        self.publishing = true;
        let (round, myself) = (self.round(), myself.clone());
        // At most one such task (`publishing`).
        tokio::spawn(async move {
            // A herald that has died is replaced by one that is not publishing.
            let _ = myself.cast(Letter::uncounted(HeraldMessage::Published(round.await)));
        });
    }

    /// Tells the next hints. What fails is not kept: the numbers tell that something is missing.
    fn round(&mut self) -> impl Future<Output = StoreResult<()>> + Send + 'static {
        let hints: Vec<Hint> = self.waiting.drain(..self.waiting.len().min(ROUND_MAX_HINTS)).collect();
        let incomplete = self.services.herald.overflowed.swap(false, Ordering::Relaxed);
        let mut next = |pod_id: &PodId| {
            let number = self.numbers.entry(pod_id.clone()).or_default();
            *number += 1;
            *number
        };
        // Everybody's number is used up before anything can fail. The first one says that something is missing: the pod may
        // have had sessions before it was known here, and was not told what these had to hear of.
        let pods: Vec<(PodId, u64)> = self.pods.iter().map(|pod_id| (pod_id.clone(), next(pod_id))).collect();
        let HeraldArguments { live, pod_id, incarnation, .. } = self.services.clone();
        async move {
            let told = addressed(&*live, hints).await?;
            let bulletin = |(to, number): (PodId, u64)| {
                let hints = told.get(&to).cloned().unwrap_or_default();
                let incomplete = incomplete || number == 1;
                let bulletin = Bulletin { from: pod_id.clone(), incarnation, number, incomplete, hints };
                Some((Channel::Pod(to), encode(&bulletin).ok()?.into()))
            };
            live.publish(pods.into_iter().filter_map(bulletin).collect()).await.map(drop)
        }
    }
}

/// Which pod is to hear which hints.
async fn addressed(
    live: &dyn LiveDirectory,
    hints: Vec<Hint>,
) -> Result<BTreeMap<PodId, Vec<Hint>>, StoreError> {
    let users: BTreeSet<UserId> = hints.iter().flat_map(|hint| hint.audience.iter().copied()).collect();
    if users.is_empty() {
        return Ok(BTreeMap::new());
    }
    let users: Vec<UserId> = users.into_iter().collect();
    let pods: HashMap<UserId, Vec<PodId>> = users.iter().copied().zip(live.pods_of(&users).await?).collect();
    let mut told: BTreeMap<PodId, Vec<Hint>> = BTreeMap::new();
    for hint in hints {
        let hearing = hint.audience.iter().filter_map(|user_id| pods.get(user_id)).flatten();
        for pod_id in hearing.collect::<BTreeSet<_>>() {
            told.entry(pod_id.clone()).or_default().push(hint.clone());
        }
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use colloquy_protocol::ids::ConversationId;
    use colloquy_storage::local::LocalBus;
    use colloquy_storage::model::live::Connection;
    use colloquy_storage::ports::live::{Signal, SignalReceiver};
    use prometheus_client::registry::Registry;
    use tokio::time::advance;

    use super::*;
    use crate::cluster::decode;
    use crate::cluster::tests::stage::{DEADLINE, Quiet, conversation, message, phone, pod, user};

    const INCARNATION: u64 = 7;

    /// Pod `a` with its herald, and what pods `b` and `c` hear from it.
    struct Town {
        bus: LocalBus,
        live: Arc<dyn LiveDirectory>,
        herald: Herald,
        parent: ActorRef<()>,
        b: Ear,
        c: Ear,
    }

    /// What one pod hears, as long as it holds its handle.
    struct Ear(
        SignalReceiver,
        #[expect(dead_code, reason = "held for its subscription")] Arc<dyn LiveDirectory>,
    );

    impl Ear {
        async fn of(bus: &LocalBus, name: &str) -> Self {
            let (live, signals) = bus.join();
            live.subscribe(vec![Channel::Pod(pod(name))]).await.unwrap();
            Self(signals, live)
        }

        /// The next bulletin.
        async fn next(&mut self) -> Bulletin {
            loop {
                let signal = timeout(DEADLINE, self.0.next()).await.expect("it is told in time").unwrap();
                if let Signal::Published(_, bytes) = signal {
                    let bulletin: Bulletin = decode(&bytes).unwrap();
                    assert_eq!((&bulletin.from, bulletin.incarnation), (&pod("a"), INCARNATION));
                    return bulletin;
                }
            }
        }

        /// Number, whether something is missing, and what is told of the next one.
        async fn hears(&mut self) -> (u64, bool, Vec<String>) {
            let Bulletin { number, incomplete, hints, .. } = self.next().await;
            let text = |hint: Hint| match hint.tidings {
                Tidings::Push(text) | Tidings::Whisper(text) => text.to_string(),
                other => panic!("not a text: {other:?}"),
            };
            (number, incomplete, hints.into_iter().map(text).collect())
        }
    }

    impl Town {
        /// User 1 is connected to `a` and `b`, user 2 to `b` and `c`, user 3 nowhere.
        async fn new() -> Self {
            let bus = LocalBus::new();
            let (live, _) = bus.join();
            let (b, c) = (Ear::of(&bus, "b").await, Ear::of(&bus, "c").await);
            let (parent, _) = Actor::spawn(None, Quiet, ()).await.unwrap();
            let town = Self { bus, live, herald: Herald::default(), parent, b, c };
            town.connect().await;
            town.start().await;
            town.herald.pods_are(vec![pod("b"), pod("c")]);
            town
        }

        async fn connect(&self) {
            let connection = |(n, name): (u128, &str)| Connection {
                user_id: user(n),
                device_id: phone(),
                pod_id: pod(name),
                generation: 1,
            };
            let connections = [(1, "a"), (1, "b"), (2, "b"), (2, "c")].map(connection);
            self.live.enter(&connections, Duration::from_secs(3600)).await.unwrap();
        }

        async fn start(&self) -> ActorCell {
            let arguments = HeraldArguments {
                herald: self.herald.clone(),
                pod_id: pod("a"),
                incarnation: INCARNATION,
                live: Arc::clone(&self.live),
                metrics: Arc::new(Metrics::register(&mut Registry::default())),
            };
            HeraldActor::start(arguments, self.parent.get_cell()).await.unwrap()
        }

        fn push(&self, users: &[u128], text: &str) {
            self.herald.tell(users.iter().map(|n| user(*n)).collect(), Tidings::Push(text.into()));
        }

        /// The first that anybody hears of a herald is that something may be missing.
        async fn begin(&mut self) {
            assert_eq!(self.b.hears().await, (1, true, vec![]));
            assert_eq!(self.c.hears().await, (1, true, vec![]));
        }
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn each_pod_hears_what_its_own_sessions_have_to_hear_of_and_every_number() {
        let mut town = Town::new().await;
        town.begin().await;
        for (users, text) in [(&[1, 3][..], "one"), (&[2], "two"), (&[1, 2], "both"), (&[3], "nobody")] {
            town.push(users, text);
        }
        // While the first is on its way the others gather.
        assert_eq!(town.b.hears().await, (2, false, texts(&["one"])));
        assert_eq!(town.c.hears().await, (2, false, vec![]));
        assert_eq!(town.b.hears().await, (3, false, texts(&["two", "both"])));
        assert_eq!(town.c.hears().await, (3, false, texts(&["two", "both"])));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_hears_the_number_at_every_beat_though_there_is_nothing_to_tell() {
        let mut town = Town::new().await;
        town.begin().await;
        let start = tokio::time::Instant::now();
        for number in 2..5 {
            assert_eq!(town.b.hears().await, (number, false, vec![]));
            assert_eq!(town.c.hears().await, (number, false, vec![]));
        }
        assert_eq!(start.elapsed(), 3 * BEAT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_joins_is_told_that_it_may_have_missed_something_and_one_that_leaves_hears_no_more() {
        let mut town = Town::new().await;
        town.begin().await;
        town.herald.pods_are(vec![pod("b")]);
        assert_eq!(town.b.hears().await, (2, false, vec![]));
        town.herald.pods_are(vec![pod("b"), pod("c")]);
        assert_eq!(town.b.hears().await, (3, false, vec![]));
        assert_eq!(town.c.hears().await, (1, true, vec![]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_published_is_missed_by_its_number_and_said_to_be_missing() {
        let mut town = Town::new().await;
        town.begin().await;
        town.bus.cut();
        town.push(&[1], "lost");
        // Not tried again at once: the next is told with the beat.
        town.push(&[1], "lost as well");
        advance(BEAT / 2).await;
        town.bus.mend();
        town.connect().await;
        let (number, incomplete, told) = town.b.hears().await;
        assert!(number > 2 && incomplete, "number {number} of {told:?}");
        assert_eq!(town.c.hears().await, (number, true, vec![]));
        assert_eq!(town.b.hears().await, (number + 1, false, vec![]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_herald_that_has_more_to_tell_than_it_may_hold_says_that_something_is_missing() {
        let mut town = Town::new().await;
        town.begin().await;
        for _ in 0..MAILBOX_CAPACITY {
            town.herald.tell(Arc::new([]), Tidings::Push("".into()));
        }
        town.herald.tell([user(1)].into(), Tidings::Whisper("may be lost".into()));
        assert!(!town.herald.overflowed.load(Ordering::Relaxed));
        town.push(&[1], "must not be lost");
        assert!(town.herald.overflowed.load(Ordering::Relaxed));
        assert_eq!(town.b.hears().await, (2, true, vec![]));
        assert!(!town.b.next().await.incomplete);
    }

    #[tokio::test(start_paused = true)]
    async fn a_herald_that_starts_again_counts_from_one_and_says_that_something_is_missing() {
        let mut town = Town::new().await;
        town.begin().await;
        town.parent.kill();
        town.push(&[1], "nobody takes this");
        let (parent, _) = Actor::spawn(None, Quiet, ()).await.unwrap();
        town.parent = parent;
        town.start().await;
        town.herald.pods_are(vec![pod("b"), pod("c")]);
        town.begin().await;
        assert_eq!(town.b.hears().await, (2, false, vec![]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_herald_that_is_stopped_tells_first_what_waits() {
        let bus = LocalBus::new();
        let (live, _) = bus.join();
        let mut b = Ear::of(&bus, "b").await;
        let (parent, _) = Actor::spawn(None, Quiet, ()).await.unwrap();
        let town = Town {
            bus: bus.clone(),
            live,
            herald: Herald::default(),
            parent,
            c: Ear::of(&bus, "c").await,
            b: Ear::of(&bus, "d").await,
        };
        town.connect().await;
        let cell = town.start().await;
        town.herald.pods_are(vec![pod("b")]);
        (0..3 * ROUND_MAX_HINTS).for_each(|n| town.push(&[2], &n.to_string()));
        cell.drain().unwrap();
        let mut told = Vec::new();
        while told.len() < 3 * ROUND_MAX_HINTS {
            told.extend(b.hears().await.2);
        }
        assert!(told.iter().enumerate().all(|(n, text)| n.to_string() == *text));
    }

    #[test]
    fn messages_that_are_too_heavy_to_be_told_become_the_place_where_the_log_ends() {
        let message = |n: u64, bytes| {
            let mut message = message(n.into());
            message.sequence_number = n;
            message.content.ciphertexts[0].body = "x".repeat(bytes);
            Arc::new(message)
        };
        let light: Arc<[_]> = [message(1, 10), message(2, 10)].into();
        let Tidings::Stored(told) = small(Tidings::Stored(Arc::clone(&light))) else {
            panic!("they are told")
        };
        assert!(Arc::ptr_eq(&told, &light));
        let heavy = [message(3, HINT_MAX_BYTES / 2), message(4, HINT_MAX_BYTES / 2)].into();
        let expected: (ConversationId, u64) = (conversation(), 4);
        assert!(
            matches!(small(Tidings::Stored(heavy)), Tidings::LogReaches(id, end) if (id, end) == expected)
        );
    }
}
