//! The listener: takes in what other pods say over the bus, and hands it to the sessions of this one.

use std::collections::HashMap;
use std::sync::Arc;

use colloquy_protocol::ids::UserId;
use colloquy_storage::model::live::PodId;
use colloquy_storage::ports::live::{Channel, LiveDirectory, Signal, SignalReceiver};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, sleep};

use super::wire::{Bulletin, Hint, Notice, Sighting, Tidings, decode};
use super::{Cluster, Membership, Numbers, Registrar, Sweeper};
use crate::account_changes::AccountChanges;
use crate::metrics::Metrics;
use crate::presence::{TrackerMessage, Trackers};
use crate::session::{Reach, SessionMessage};
use crate::supervision::{ActorKind, Fault, Letter, answered, befall};

/// Signals taken from the bus and not yet handled.
const UNDER_WAY_MAX: usize = 256;
/// Changes of devices that are being passed on to conversations at once.
const CHANGES_MAX: usize = 16;
/// Until the next attempt to listen, while the bus is away.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How often it is looked whether a pod has fallen silent.
const SILENCE_CHECK: Duration = Duration::from_secs(2);
/// A pod that has not been heard for so long cannot be heard: it says something every second.
const SILENCE_MAX: Duration = Duration::from_secs(4);

/// What the listener is told.
pub enum ListenerMessage {
    /// Something came over the bus.
    Heard(Signal, OwnedSemaphorePermit),
    /// Look whether a pod has fallen silent.
    CheckSilence,
    /// The bus has ended for good.
    Deaf,
}

/// What the listener is started with.
#[derive(Clone)]
pub struct ListenerArguments {
    /// This pod.
    pub pod_id: PodId,
    /// Where to subscribe.
    pub live: Arc<dyn LiveDirectory>,
    /// What comes of it; taken by one listener at a time.
    pub signals: Arc<Mutex<SignalReceiver>>,
    /// The sessions of this pod.
    pub reach: Reach,
    /// Who is watched.
    pub trackers: Trackers,
    /// Which pods there are.
    pub cluster: Cluster,
    /// Looks who runs.
    pub membership: Membership,
    /// Enters everybody again.
    pub registrar: Registrar,
    /// Has sessions look for what was lost.
    pub sweeper: Sweeper,
    /// Acts on changes of accounts.
    pub changes: AccountChanges,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// The actor.
pub struct ListenerActor;

/// Its state.
pub struct ListenerState {
    services: ListenerArguments,
    numbers: Numbers,
    /// When each other pod was heard last.
    heard_at: HashMap<PodId, Instant>,
    changes: Arc<Semaphore>,
    _ear: Ear,
}

/// The task that takes signals from the bus.
struct Ear(JoinHandle<()>);

impl Drop for Ear {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ListenerActor {
    /// Starts the listener under `parent`.
    ///
    /// # Errors
    /// If the parent is stopping.
    pub async fn start(arguments: ListenerArguments, parent: ActorCell) -> Result<ActorCell, SpawnErr> {
        let metrics = Arc::clone(&arguments.metrics);
        let (actor, _) = Actor::spawn_linked(None, Self, arguments, parent).await?;
        metrics.actor_started(ActorKind::Listener);
        actor.send_interval(SILENCE_CHECK, || Letter::uncounted(ListenerMessage::CheckSilence));
        Ok(actor.get_cell())
    }
}

impl Actor for ListenerActor {
    type Msg = Letter<ListenerMessage>;
    type State = ListenerState;
    type Arguments = ListenerArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        services: ListenerArguments,
    ) -> Result<ListenerState, ActorProcessingErr> {
        // What a predecessor had taken and not handled is lost, be it a gap.
        services.mind_a_gap();
        let ear = Ear(tokio::spawn(listen(services.clone(), myself)));
        let changes = Arc::new(Semaphore::new(CHANGES_MAX));
        let (numbers, heard_at) = (Numbers::default(), HashMap::new());
        Ok(ListenerState { services, numbers, heard_at, changes, _ear: ear })
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        letter: Self::Msg,
        state: &mut ListenerState,
    ) -> Result<(), ActorProcessingErr> {
        befall(&state.services.metrics, ActorKind::Listener).await;
        let (message, _handling) = letter.open();
        match message {
            ListenerMessage::Heard(signal, _permit) => state.heard(signal),
            ListenerMessage::CheckSilence => state.check_silence(),
            ListenerMessage::Deaf => return Err(Box::new(Fault { what: "the bus has ended", source: None })),
        }
        Ok(())
    }
}

/// Ends its listener with itself, be it by a panic.
struct Hearing(ActorRef<Letter<ListenerMessage>>);

impl Drop for Hearing {
    fn drop(&mut self) {
        let _ = self.0.cast(Letter::uncounted(ListenerMessage::Deaf));
    }
}

/// Subscribes, then passes signals on, as many at a time as may be under way.
async fn listen(services: ListenerArguments, listener: ActorRef<Letter<ListenerMessage>>) {
    let listener = Hearing(listener);
    let channels = vec![Channel::Pod(services.pod_id.clone()), Channel::Pods];
    while answered(services.live.subscribe(channels.clone())).await.is_err() {
        sleep(RETRY_PAUSE).await;
    }
    // What was told before was not heard.
    services.sweeper.sweep();
    let mut signals = services.signals.lock().await;
    let under_way = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    while let Ok(permit) = Arc::clone(&under_way).acquire_owned().await {
        let Some(signal) = signals.next().await else { break };
        if listener.0.cast(Letter::uncounted(ListenerMessage::Heard(signal, permit))).is_err() {
            return;
        }
    }
}

impl ListenerArguments {
    /// Anything may have been lost up to now.
    fn mind_a_gap(&self) {
        // Entered again first, swept then: the registrar sees to the order.
        self.registrar.enter_all();
        self.membership.look();
        self.trackers.tell_all(|| TrackerMessage::LookElsewhere);
        self.sweeper.sweep();
    }
}

impl ListenerState {
    /// What a pod that runs and cannot be heard has to tell, its peers have to find (NOLOSS, AUTHZ): it may have lost the
    /// bus, and still store messages.
    fn check_silence(&mut self) {
        let (pods, now) = (self.services.cluster.pods(), Instant::now());
        self.heard_at.retain(|pod_id, _| pods.contains(pod_id));
        let mut is_silent = false;
        for pod_id in pods.iter() {
            let heard_at = *self.heard_at.entry(pod_id.clone()).or_insert(now);
            is_silent |= heard_at + SILENCE_MAX <= now;
        }
        if is_silent {
            self.services.sweeper.sweep();
        }
    }

    fn heard(&mut self, signal: Signal) {
        let services = &self.services;
        match signal {
            Signal::Published(Channel::Pod(_), bytes) => match decode::<Bulletin>(&bytes) {
                Ok(bulletin) => self.read(bulletin),
                Err(error) => {
                    // Of a newer release, perhaps: sessions find by themselves what it told.
                    tracing::warn!(%error, "a bulletin is not understood");
                    services.sweeper.sweep();
                }
            },
            Signal::Published(Channel::Pods, _) => services.membership.look(),
            Signal::Published(Channel::Presence(_), bytes) => {
                if let Ok(sighting) = decode::<Sighting>(&bytes)
                    && sighting.pod_id != services.pod_id
                {
                    let (user_id, sighting) = (sighting.user_id, TrackerMessage::Sighted(sighting));
                    let share = services.trackers.share_of(user_id);
                    // Full, it looks again by itself within a minute.
                    let _ = services.trackers.tell_share(share, sighting);
                }
            }
            Signal::Published(Channel::User(_) | Channel::Notification(_), _) => {}
            Signal::Gap => services.mind_a_gap(),
        }
    }

    fn read(&mut self, bulletin: Bulletin) {
        let Bulletin { from, series, number, incomplete, hints, notices } = bulletin;
        self.heard_at.insert(from.clone(), Instant::now());
        let follows = self.numbers.follows(&from, series, number);
        if !follows || incomplete {
            tracing::debug!(%from, number, incomplete, "something was lost between pods");
            self.services.sweeper.sweep();
            let pods = self.services.cluster.pods();
            self.numbers.retain(|pod_id| *pod_id == from || pods.contains(pod_id));
        }
        for notice in notices {
            self.act(notice);
        }
        for hint in hints {
            self.pass_on(&hint);
        }
    }

    fn act(&self, notice: Notice) {
        match notice {
            Notice::LoginRevoked(user_id, login_id) => self.services.changes.login_revoked(user_id, login_id),
            Notice::DevicesChanged(user_id, removed) => {
                self.services.changes.device_removed(user_id, removed.as_ref());
                // With too many at once, conversations keep an old list, which they read again before they refuse anything.
                let Ok(permit) = Arc::clone(&self.changes).try_acquire_owned() else { return };
                let changes = self.services.changes.clone();
                tokio::spawn(async move {
                    changes.tell_conversations(user_id).await;
                    drop(permit);
                });
            }
        }
    }

    fn pass_on(&self, hint: &Hint) {
        let reach = &self.services.reach;
        let audience: &[UserId] = &hint.audience;
        match &hint.tidings {
            Tidings::Stored(messages) => {
                reach.here(audience, |session| {
                    session.offer(SessionMessage::Delivered(Arc::clone(messages)));
                });
            }
            Tidings::LogReaches(conversation_id, end) => {
                let (id, end) = (*conversation_id, *end);
                reach.here(audience, |session| session.offer(SessionMessage::LogReaches(id, end)));
            }
            Tidings::Push(text) => {
                reach.here(audience, |session| session.offer(SessionMessage::Push(Arc::clone(text))));
            }
            Tidings::Whisper(text) => {
                reach.here(audience, |session| session.whisper(SessionMessage::Whisper(Arc::clone(text))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use colloquy_protocol::close::CloseCode;
    use colloquy_protocol::ids::LoginId;
    use colloquy_storage::ambient::{Clock, Entropy};
    use colloquy_storage::embedded::{EmbeddedOptions, EmbeddedStore};
    use colloquy_storage::local::LocalBus;
    use prometheus_client::registry::Registry;
    use tempfile::TempDir;
    use tokio::sync::watch;
    use tokio::time::timeout;

    use super::*;
    use crate::cluster::bridge::Links;
    use crate::cluster::registrar::{RegistrarActor, RegistrarArguments};
    use crate::cluster::sweeper::{SweeperActor, SweeperArguments};
    use crate::cluster::tests::stage::{DEADLINE, Quiet, Session, pass, pod, user};
    use crate::cluster::{Forwarding, encode};
    use crate::conversation::ConversationIndex;
    use crate::session::{Drain, LiveSessions};

    /// Pod `b`, which listens; pod `a` speaks to it.
    struct Town {
        bus: LocalBus,
        a: Arc<dyn LiveDirectory>,
        session: Session,
        number: u64,
        /// Dropped, the pod ends.
        _kept: (TempDir, watch::Sender<bool>, SignalReceiver),
    }

    impl Town {
        async fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let store = EmbeddedStore::open(directory.path(), &EmbeddedOptions::default()).unwrap().store();
            let bus = LocalBus::new();
            let ((a, heard_by_a), (live, signals)) = (bus.join(), bus.join());
            let (sessions, index, trackers) =
                (LiveSessions::default(), ConversationIndex::default(), Trackers::new(1));
            let metrics = Arc::new(Metrics::register(&mut Registry::default()));
            let (parent, _) = Actor::spawn(None, Quiet, ()).await.unwrap();
            let session = Session::of(user(1), 1 << 80).await;
            sessions.enter(Arc::clone(&session.handle));
            let (healthy, health) = watch::channel(true);
            let (sweeper, registrar) = (Sweeper::default(), Registrar::default());
            let arguments = SweeperArguments {
                sweeper: sweeper.clone(),
                sessions: sessions.clone(),
                health,
                metrics: Arc::clone(&metrics),
            };
            SweeperActor::start(arguments, parent.get_cell()).await.unwrap();
            let arguments = RegistrarArguments {
                registrar: registrar.clone(),
                pod_id: pod("b"),
                live: Arc::clone(&live),
                sessions: sessions.clone(),
                drain: Drain::new(Entropy::from_os()),
                sweeper: sweeper.clone(),
                clock: Clock::System,
                metrics: Arc::clone(&metrics),
            };
            RegistrarActor::start(arguments, parent.get_cell()).await.unwrap();
            let arguments = ListenerArguments {
                pod_id: pod("b"),
                live,
                signals: Arc::new(Mutex::new(signals)),
                reach: Reach::new(sessions.clone(), None),
                trackers,
                cluster: Cluster::new(pod("b"), Forwarding::over(Links::default(), 1)),
                membership: Membership::default(),
                registrar,
                sweeper,
                changes: AccountChanges::new(sessions, index, store.conversations),
                metrics,
            };
            ListenerActor::start(arguments, parent.get_cell()).await.unwrap();
            let mut town = Self { bus, a, session, number: 0, _kept: (directory, healthy, heard_by_a) };
            // It begins by looking, as often as its parts have begun.
            town.calm().await;
            while town.tell("hello").await == 0 {
                pass(Duration::from_millis(1)).await;
            }
            town.calm().await;
            town
        }

        /// Tells `b` that number of a bulletin; answers how many heard it.
        async fn publish(&self, number: u64, hints: Vec<Hint>, notices: Vec<Notice>) -> u64 {
            let bulletin = Bulletin { from: pod("a"), series: 1, number, incomplete: false, hints, notices };
            self.raw(encode(&bulletin).unwrap().into()).await
        }

        async fn raw(&self, bytes: Bytes) -> u64 {
            self.a.publish(vec![(Channel::Pod(pod("b")), bytes)]).await.unwrap()[0]
        }

        async fn tell(&mut self, text: &str) -> u64 {
            self.number += 1;
            let hint = Hint { audience: [user(1)].into(), tidings: Tidings::Push(text.into()) };
            self.publish(self.number, vec![hint], Vec::new()).await
        }

        /// Until nothing more is said to the session.
        async fn calm(&mut self) {
            while timeout(Duration::from_secs(3), self.session.next()).await.is_ok() {}
        }

        async fn hears(&mut self, text: &str) {
            let heard = self.session.next().await;
            assert!(matches!(&heard, SessionMessage::Push(said) if **said == *text), "{heard:?}");
        }

        async fn looks(&mut self) {
            let heard = self.session.next().await;
            assert!(matches!(heard, SessionMessage::Resync), "{heard:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_hear_what_is_told_and_look_for_themselves_when_something_was_lost() {
        let mut town = Town::new().await;
        town.tell("one").await;
        town.hears("one").await;
        town.number += 1;
        town.tell("three").await;
        town.hears("three").await;
        town.looks().await;
        town.tell("four").await;
        town.hears("four").await;
        town.session.hears_nothing().await;
        town.raw(Bytes::from_static(b"of a newer release")).await;
        town.looks().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_told_to_others_is_not_heard() {
        let town = &mut Town::new().await;
        let hint = Hint { audience: [user(2)].into(), tidings: Tidings::Push("not for you".into()) };
        town.publish(town.number + 1, vec![hint], Vec::new()).await;
        town.session.hears_nothing().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_in_that_was_revoked_on_another_pod_is_closed_here() {
        let mut town = Town::new().await;
        let login_id = LoginId(town.session.id().0);
        town.publish(town.number + 1, Vec::new(), vec![Notice::LoginRevoked(user(1), login_id)]).await;
        let closed = timeout(DEADLINE, town.session.handle.closing.requested()).await.unwrap();
        assert_eq!(closed, CloseCode::TokenRevoked.number());
        town.session.hears_nothing().await;
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_bus_was_away_everybody_is_entered_again_and_looks() {
        let mut town = Town::new().await;
        town.bus.cut();
        town.bus.mend();
        town.looks().await;
        assert_eq!(town.a.pods_of(&[user(1)]).await.unwrap(), [[pod("b")]]);
    }
}
