//! The herald: tells other pods what their sessions have to hear of. Gathers hints while a round trip to the live
//! directory is under way, looks up all their audiences at once, and publishes one bulletin to each pod.
//!
//! A hint may be lost with the bus or with this pod. Bulletins are numbered, one goes out every [`BEAT`] even if there
//! is nothing to tell, and a pod that finds a number missing has its sessions read from the log what they have not been
//! shown (NOLOSS, also for the last message of a conversation that falls quiet).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use colloquy_protocol::ids::UserId;
use colloquy_storage::ambient::Entropy;
use colloquy_storage::model::live::PodId;
use colloquy_storage::ports::live::{Channel, LiveDirectory};
use colloquy_storage::ports::{StoreError, StoreResult};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use rand::RngExt;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::wire::{Bulletin, Hint, Notice, Tidings, encode};
use crate::metrics::Metrics;
use crate::supervision::{ActorKind, Address, Letter, Mailbox, Refused};

/// Letters that may wait at the herald. Beyond it, hints are dropped and every pod is told to look for itself.
const MAILBOX_CAPACITY: usize = 65_536;
/// Hints in one round ...
const ROUND_MAX_HINTS: usize = 1024;
/// ... and their weight, bytes: what a live directory can pass on at once.
const ROUND_MAX_BYTES: usize = 1024 * 1024;
/// Hints that may wait for their round, and as many changes of accounts. With more, it is told that something is missing.
const WAITING_MAX: usize = 65_536;
/// The weight of hints that wait, bytes.
const WAITING_MAX_BYTES: usize = 64 * 1024 * 1024;
/// Weight of messages in one hint, bytes; with more, only how far the log reaches is told.
const HINT_MAX_BYTES: usize = 64 * 1024;
/// What a hint weighs beside what it holds, bytes.
const HINT_BYTES: usize = 64;
/// What one of its audience weighs.
const USER_BYTES: usize = 18;
/// How often every pod hears the number it should have come to, also that something could not be told.
const BEAT: Duration = Duration::from_secs(1);
/// How long the last hints of a stopping pod may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// Until the next attempt to tell them.
const FLUSH_PAUSE: Duration = Duration::from_millis(100);

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

    /// Tells every other pod of a change that it is to act on.
    pub fn notify(&self, notice: Notice) {
        if self.address.try_cast(HeraldMessage::Notify(notice)).is_err() {
            self.overflowed.store(true, Ordering::Relaxed);
        }
    }

    /// These are the other pods now.
    pub fn pods_are(&self, pods: Vec<PodId>) {
        // One that is restarting hears of it at the next change or beat of the membership.
        let _ = self.address.try_cast(HeraldMessage::Pods(pods));
    }
}

/// What a hint takes on its way, bytes, about.
fn weight(hint: &Hint) -> usize {
    let tidings = match &hint.tidings {
        Tidings::Stored(messages) => messages.iter().map(|message| message.weight()).sum(),
        Tidings::LogReaches(..) => 0,
        Tidings::Push(text) | Tidings::Whisper(text) => text.len(),
    };
    HINT_BYTES + hint.audience.len() * USER_BYTES + tidings
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
    /// Tell everybody.
    Notify(Notice),
    /// The other pods.
    Pods(Vec<PodId>),
    /// What was published has arrived at the bus, or has not.
    Published(bool),
    /// Let the numbers be known.
    Beat,
}

/// What the herald is started with.
#[derive(Clone)]
pub struct HeraldArguments {
    /// Where to tell it.
    pub herald: Herald,
    /// This pod.
    pub pod_id: PodId,
    /// Where the numbers of series start.
    pub entropy: Entropy,
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
    /// What they weigh.
    waiting_bytes: usize,
    notices: VecDeque<Notice>,
    /// For each pod, the series it is told and the last number used in it. A pod that was not told for a while is told in
    /// another one, so that it cannot take the next number for the one it waits for.
    numbers: HashMap<PodId, (u64, u64)>,
    next_series: u64,
    /// The last round has failed, and the next beat has not come.
    pausing: bool,
    /// A round trip.
    under_way: Option<JoinHandle<()>>,
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
        // What an earlier incarnation had still to tell has died with it.
        services.herald.overflowed.store(true, Ordering::Relaxed);
        let next_series = services.entropy.fork().random();
        Ok(HeraldState {
            services,
            pods: Vec::new(),
            next_series,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            notices: VecDeque::new(),
            numbers: HashMap::new(),
            pausing: false,
            under_way: None,
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
                state.keep(hint);
                state.publish(&myself, false);
            }
            HeraldMessage::Notify(notice) if state.notices.len() >= WAITING_MAX => {
                state.services.herald.overflowed.store(true, Ordering::Relaxed);
                tracing::warn!(?notice, "too much waits to be told");
            }
            HeraldMessage::Notify(notice) => {
                state.notices.push_back(notice);
                state.publish(&myself, false);
            }
            HeraldMessage::Pods(pods) => {
                state.numbers.retain(|pod_id, _| pods.contains(pod_id));
                state.pods = pods;
            }
            HeraldMessage::Published(is_heard) => {
                state.under_way = None;
                // The bus is away: what waits is told with the next beat.
                state.pausing = !is_heard;
                if !state.has_told_all() {
                    state.publish(&myself, false);
                }
            }
            HeraldMessage::Beat => state.publish(&myself, true),
        }
        Ok(())
    }

    /// Tells what has waited, so that an orderly stop leaves nobody to look for themselves (DRAIN); or, if that fails, says
    /// that something is missing.
    async fn post_stop(
        &self,
        _: ActorRef<Self::Msg>,
        state: &mut HeraldState,
    ) -> Result<(), ActorProcessingErr> {
        let flush = async {
            if let Some(under_way) = state.under_way.take() {
                // What it tells comes before what is told now.
                let _ = under_way.await;
            }
            while !state.has_told_all() || state.services.herald.overflowed.load(Ordering::Relaxed) {
                if state.round().await.is_err() {
                    state.services.herald.overflowed.store(true, Ordering::Relaxed);
                    sleep(FLUSH_PAUSE).await;
                }
            }
        };
        // What is not told in time is found by the sweep for a pod that has ended.
        let _ = timeout(FLUSH_TIMEOUT, flush).await;
        Ok(())
    }
}

impl HeraldState {
    /// Keeps a hint for the next round, if there is room (BOUND).
    fn keep(&mut self, hint: Hint) {
        let bytes = weight(&hint);
        if self.waiting.len() >= WAITING_MAX || self.waiting_bytes + bytes > WAITING_MAX_BYTES {
            if !matches!(hint.tidings, Tidings::Whisper(_)) {
                self.services.herald.overflowed.store(true, Ordering::Relaxed);
            }
            return;
        }
        self.waiting_bytes += bytes;
        self.waiting.push_back(hint);
    }

    /// The hints of the next round.
    fn next_hints(&mut self) -> Vec<Hint> {
        let (mut hints, mut bytes) = (Vec::new(), 0);
        while hints.len() < ROUND_MAX_HINTS && bytes < ROUND_MAX_BYTES {
            let Some(hint) = self.waiting.pop_front() else { break };
            bytes += weight(&hint);
            hints.push(hint);
        }
        self.waiting_bytes -= bytes;
        hints
    }

    fn has_told_all(&self) -> bool {
        self.waiting.is_empty() && self.notices.is_empty()
    }

    /// Starts the next round unless one is under way.
    fn publish(&mut self, myself: &ActorRef<Letter<HeraldMessage>>, is_beat: bool) {
        let may_begin = is_beat || !(self.pausing || self.has_told_all());
        if self.under_way.is_some() || !may_begin {
            return;
        }
        let (round, myself) = (self.round(), myself.clone());
        let overflowed = Arc::clone(&self.services.herald.overflowed);
        // At most one such task.
        self.under_way = Some(tokio::spawn(async move {
            let published = round.await;
            if let Err(error) = &published {
                tracing::debug!(%error, "hints not published");
                overflowed.store(true, Ordering::Relaxed);
            }
            // A herald that has died is replaced by one that has nothing under way.
            let _ = myself.cast(Letter::uncounted(HeraldMessage::Published(published.is_ok())));
        }));
    }

    /// Tells the next hints. What fails is not kept: the numbers tell that something is missing.
    fn round(&mut self) -> impl Future<Output = StoreResult<()>> + Send + 'static {
        let hints = self.next_hints();
        let notices: Vec<Notice> = self.notices.drain(..self.notices.len().min(ROUND_MAX_HINTS)).collect();
        let overflowed = self.services.herald.overflowed.swap(false, Ordering::Relaxed);
        // Everybody's number is used up before anything can fail.
        let pods: Vec<(PodId, (u64, u64))> =
            self.pods.clone().into_iter().map(|pod_id| self.number(pod_id)).collect();
        let (live, from) = (Arc::clone(&self.services.live), self.services.pod_id.clone());
        async move {
            let told = addressed(&*live, hints).await?;
            let bulletin = |(to, (series, number)): (PodId, (u64, u64))| {
                let hints = told.get(&to).cloned().unwrap_or_default();
                // Before the first of a series it was not told anything.
                let incomplete = overflowed || number == 1;
                let (from, notices) = (from.clone(), notices.clone());
                let bulletin = Bulletin { from, series, number, incomplete, hints, notices };
                Some((Channel::Pod(to), encode(&bulletin).ok()?.into()))
            };
            live.publish(pods.into_iter().filter_map(bulletin).collect()).await.map(drop)
        }
    }

    /// The next number for a pod.
    fn number(&mut self, pod_id: PodId) -> (PodId, (u64, u64)) {
        let next_series = &mut self.next_series;
        let (series, last) = self.numbers.entry(pod_id.clone()).or_insert_with(|| {
            *next_series = next_series.wrapping_add(1);
            (*next_series, 0)
        });
        *last += 1;
        (pod_id, (*series, *last))
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
    use std::sync::atomic::AtomicU64;

    use colloquy_protocol::ids::ConversationId;
    use colloquy_storage::local::LocalBus;
    use colloquy_storage::model::live::Connection;
    use colloquy_storage::ports::live::{Signal, SignalReceiver};
    use prometheus_client::registry::Registry;
    use tokio::time::advance;

    use super::*;
    use crate::cluster::decode;
    use crate::cluster::tests::stage::{DEADLINE, Quiet, conversation, message, phone, pod, user};

    /// Pod `a` with its herald, and what pods `b` and `c` hear from it.
    struct Town {
        bus: LocalBus,
        live: Arc<dyn LiveDirectory>,
        herald: Herald,
        parent: ActorRef<()>,
        starts: AtomicU64,
        b: Ear,
        c: Ear,
    }

    /// What one pod hears, as long as it holds its handle.
    struct Ear {
        signals: SignalReceiver,
        _live: Arc<dyn LiveDirectory>,
        /// Of the last bulletin.
        series: Option<u64>,
    }

    impl Ear {
        async fn of(bus: &LocalBus, name: &str) -> Self {
            let (live, signals) = bus.join();
            live.subscribe(vec![Channel::Pod(pod(name))]).await.unwrap();
            Self { signals, _live: live, series: None }
        }

        /// The next bulletin. Only a first one is of another series than the one before.
        async fn next(&mut self) -> Bulletin {
            loop {
                let signal =
                    timeout(DEADLINE, self.signals.next()).await.expect("it is told in time").unwrap();
                if let Signal::Published(_, bytes) = signal {
                    let bulletin: Bulletin = decode(&bytes).unwrap();
                    assert_eq!(bulletin.from, pod("a"));
                    let before = self.series.replace(bulletin.series);
                    assert_eq!(before == self.series, bulletin.number > 1, "{bulletin:?}");
                    return bulletin;
                }
            }
        }

        /// Number, whether something is missing, and what is told, of the next one.
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
            let town = Self::silent().await;
            town.start().await;
            town.herald.pods_are(vec![pod("b"), pod("c")]);
            town
        }

        /// As above, before the herald starts.
        async fn silent() -> Self {
            let bus = LocalBus::new();
            let (live, _) = bus.join();
            let (b, c) = (Ear::of(&bus, "b").await, Ear::of(&bus, "c").await);
            let (parent, _) = Actor::spawn(None, Quiet, ()).await.unwrap();
            let (herald, starts) = (Herald::default(), AtomicU64::new(1));
            let town = Self { bus, live, herald, parent, starts, b, c };
            town.connect().await;
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
                entropy: Entropy::from_seed(self.starts.fetch_add(1, Ordering::Relaxed)),
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
    async fn every_pod_hears_every_notice() {
        let mut town = Town::new().await;
        town.begin().await;
        town.herald.notify(Notice::DevicesChanged(user(3), Some(phone())));
        for ear in [&mut town.b, &mut town.c] {
            let Bulletin { number: 2, incomplete: false, hints, notices, .. } = ear.next().await else {
                panic!("the second, and nothing is missing");
            };
            assert!(hints.is_empty());
            assert!(matches!(&notices[..], [Notice::DevicesChanged(of, Some(_))] if *of == user(3)));
        }
        for _ in 0..=MAILBOX_CAPACITY {
            town.herald.notify(Notice::DevicesChanged(user(3), None));
        }
        assert!(town.b.next().await.incomplete, "one found no room");
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
    async fn a_herald_that_starts_again_begins_another_series_and_says_that_something_is_missing() {
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
        let mut town = Town::silent().await;
        let cell = town.start().await;
        town.herald.pods_are(vec![pod("b"), pod("c")]);
        (0..3 * ROUND_MAX_HINTS).for_each(|n| town.push(&[2], &n.to_string()));
        cell.drain().unwrap();
        let mut told = Vec::new();
        while told.len() < 3 * ROUND_MAX_HINTS {
            told.extend(town.b.hears().await.2);
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
