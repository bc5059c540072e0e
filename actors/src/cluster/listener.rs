//! The listener: takes in what other pods say over the bus, and hands it to the sessions of this one.

use std::sync::Arc;

use colloquy_protocol::ids::UserId;
use colloquy_storage::model::live::PodId;
use colloquy_storage::ports::live::{Channel, LiveDirectory, Signal, SignalReceiver};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{Duration, sleep};

use super::wire::{Bulletin, Hint, Notice, Sighting, Tidings, decode};
use super::{Cluster, Membership, Numbers, Registrar, Sweeper};
use crate::account_changes::AccountChanges;
use crate::metrics::Metrics;
use crate::presence::{TrackerMessage, Trackers};
use crate::session::{Reach, SessionMessage};
use crate::supervision::{ActorKind, Fault, Letter};

/// Signals taken from the bus and not yet handled.
const UNDER_WAY_MAX: usize = 256;
/// Changes of devices that are being passed on to conversations at once.
const CHANGES_MAX: usize = 16;
/// Until the next attempt to listen, while the bus is away.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What the listener is told.
pub enum ListenerMessage {
    /// Something came over the bus.
    Heard(Signal, OwnedSemaphorePermit),
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
        // What a predecessor had taken and not handled is lost.
        services.sweeper.sweep();
        let ear = Ear(tokio::spawn(listen(services.clone(), myself)));
        let changes = Arc::new(Semaphore::new(CHANGES_MAX));
        Ok(ListenerState { services, numbers: Numbers::default(), changes, _ear: ear })
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        letter: Self::Msg,
        state: &mut ListenerState,
    ) -> Result<(), ActorProcessingErr> {
        match letter.open() {
            ListenerMessage::Heard(signal, _permit) => state.heard(signal),
            ListenerMessage::Deaf => return Err(Box::new(Fault { what: "the bus has ended", source: None })),
        }
        Ok(())
    }
}

/// Subscribes, then passes signals on, as many at a time as may be under way.
async fn listen(services: ListenerArguments, listener: ActorRef<Letter<ListenerMessage>>) {
    let channels = vec![Channel::Pod(services.pod_id.clone()), Channel::Pods];
    while services.live.subscribe(channels.clone()).await.is_err() {
        sleep(RETRY_PAUSE).await;
    }
    // What was told before was not heard.
    services.sweeper.sweep();
    let mut signals = services.signals.lock().await;
    let under_way = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    while let Ok(permit) = Arc::clone(&under_way).acquire_owned().await {
        let Some(signal) = signals.next().await else { break };
        if listener.cast(Letter::uncounted(ListenerMessage::Heard(signal, permit))).is_err() {
            return;
        }
    }
    let _ = listener.cast(Letter::uncounted(ListenerMessage::Deaf));
}

impl ListenerState {
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
                    services.trackers.announce(user_id, sighting);
                }
            }
            Signal::Published(Channel::User(_) | Channel::Notification(_), _) => {}
            Signal::Gap => {
                // Entered again first, swept then: the registrar sees to the order.
                services.registrar.enter_all();
                services.membership.look();
                services.trackers.tell_all(|| TrackerMessage::LookElsewhere);
            }
        }
    }

    fn read(&mut self, bulletin: Bulletin) {
        let Bulletin { from, series, number, incomplete, hints, notices } = bulletin;
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
