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
use crate::supervision::{ActorKind, Address, Letter, Mailbox, Refused, answered, befall};

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
        befall(&state.services.metrics, ActorKind::Herald).await;
        let (message, _handling) = letter.open();
        match message {
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
            let published = answered(round).await;
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
mod tests;
