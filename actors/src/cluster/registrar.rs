//! The registrar: enters the devices that are connected to this pod in the live directory, and tells the watchers of
//! their users that they have come or gone. Gathers what happens while a round trip is under way.
//!
//! A session waits to be entered before it reads what its device has missed: what is stored after that reading is told to
//! this pod (NOLOSS). What cannot be entered now is entered later, and then all sessions look for what they may have
//! missed meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::frame::PresenceStatus;
use colloquy_protocol::ids::{DeviceId, UserId};
use colloquy_storage::ambient::Clock;
use colloquy_storage::model::live::{Connection, PodId, Presence};
use colloquy_storage::ports::StoreResult;
use colloquy_storage::ports::live::{Channel, LiveDirectory};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Sweeper;
use super::wire::{Sighting, encode};
use crate::metrics::Metrics;
use crate::session::{Drain, LiveSessions, SessionHandle};
use crate::supervision::{ActorKind, Address, Letter, Mailbox};

/// How long an entry holds that is not renewed: so long may a device of a pod that has died seem to be connected.
const CONNECTION_TTL: Duration = Duration::from_secs(45);
/// How often every entry is renewed.
const RENEW_INTERVAL: Duration = Duration::from_secs(15);
/// How long it is kept that a user is here, or when they were.
const PRESENCE_TTL: Duration = Duration::from_secs(300);
/// Of so many renewals of entries, one renews that as well: every two minutes.
const RENEWALS_PER_PRESENCE: u32 = 8;
/// After a failure everything is entered again; this is how long until the next attempt.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long a session waits to be entered before it goes on without.
const ENTRY_PATIENCE: Duration = Duration::from_millis(1500);
/// Letters that may wait: sessions that come and go. One that is not taken is made good by entering everything again.
const MAILBOX_CAPACITY: usize = 65_536;

/// Where to tell the registrar.
#[derive(Clone, Debug, Default)]
pub struct Registrar(Address<RegistrarMessage>);

impl Registrar {
    /// A session is open. Returns when the live directory knows, or does not answer.
    pub async fn enter(&self, session: &SessionHandle) {
        let (entered, waiting) = oneshot::channel();
        let device = (session.user_id, session.device_id.clone());
        let enter = RegistrarMessage::Enter(device, generation_of(session), entered);
        if self.0.try_cast(enter).is_ok() {
            // Not entered in time, it is entered later, and everybody looks then.
            let _ = timeout(ENTRY_PATIENCE, waiting).await;
        }
    }

    /// A session has ended. An entry that is not taken out runs out.
    pub fn leave(&self, session: &SessionHandle) {
        let device = (session.user_id, session.device_id.clone());
        let _ = self.0.try_cast(RegistrarMessage::Leave(device, generation_of(session)));
    }

    /// A user has come to this pod, or has no session here any more.
    pub fn sighted(&self, user_id: UserId, status: PresenceStatus, at: UnixMillis) {
        let _ = self.0.try_cast(RegistrarMessage::Sighted(user_id, status, at));
    }

    /// The live directory may have forgotten everything: enter all, then have all sessions look for themselves.
    pub fn enter_all(&self) {
        let _ = self.0.try_cast(RegistrarMessage::EnterAll);
    }
}

/// Grows with every session of a device: the time in its id, ms (RFC 9562, 5.7).
fn generation_of(session: &SessionHandle) -> u64 {
    u64::try_from(session.session_id.0.as_u128() >> 80).unwrap_or(u64::MAX)
}

type Device = (UserId, DeviceId);

/// What the registrar is told.
pub enum RegistrarMessage {
    /// A session is open; answered when it is entered.
    Enter(Device, u64, oneshot::Sender<()>),
    /// A session has ended.
    Leave(Device, u64),
    /// A user has come or gone.
    Sighted(UserId, PresenceStatus, UnixMillis),
    /// Renew every entry.
    Renew,
    /// As [`Self::Renew`], and sessions have missed something meanwhile.
    EnterAll,
    /// A round has ended; whether it was one that renewed everything.
    Done(StoreResult<()>, bool),
}

/// What the registrar is started with.
#[derive(Clone)]
pub struct RegistrarArguments {
    /// Where to tell it.
    pub registrar: Registrar,
    /// This pod.
    pub pod_id: PodId,
    /// Where entries are made.
    pub live: Arc<dyn LiveDirectory>,
    /// Who is here.
    pub sessions: LiveSessions,
    /// Whether clients are on their way elsewhere.
    pub drain: Drain,
    /// Has sessions look.
    pub sweeper: Sweeper,
    /// What time it is.
    pub clock: Clock,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// The actor.
pub struct RegistrarActor;

/// Its state.
pub struct RegistrarState {
    services: RegistrarArguments,
    /// What is still to be done for each device; the newest session counts.
    devices: HashMap<Device, Wanted>,
    sightings: HashMap<UserId, (PresenceStatus, UnixMillis)>,
    under_way: bool,
    renew: bool,
    /// Sessions may have missed something since entries were last complete.
    incomplete: bool,
    renewals: u32,
}

/// An entry to be made or taken out.
struct Wanted {
    generation: u64,
    is_open: bool,
    waiting: Vec<oneshot::Sender<()>>,
}

impl RegistrarActor {
    /// Starts the registrar under `parent` and points its address at it.
    ///
    /// # Errors
    /// If the parent is stopping.
    pub async fn start(arguments: RegistrarArguments, parent: ActorCell) -> Result<ActorCell, SpawnErr> {
        let (address, metrics) = (arguments.registrar.0.clone(), Arc::clone(&arguments.metrics));
        let (actor, _) = Actor::spawn_linked(None, Self, arguments, parent).await?;
        address.install(Mailbox::new(
            actor.clone(),
            metrics.depth_of(ActorKind::Registrar),
            MAILBOX_CAPACITY,
        ));
        metrics.actor_started(ActorKind::Registrar);
        // What a predecessor had still to do has died with it.
        let _ = actor.cast(Letter::uncounted(RegistrarMessage::EnterAll));
        actor.send_interval(RENEW_INTERVAL, || Letter::uncounted(RegistrarMessage::Renew));
        Ok(actor.get_cell())
    }
}

impl Actor for RegistrarActor {
    type Msg = Letter<RegistrarMessage>;
    type State = RegistrarState;
    type Arguments = RegistrarArguments;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        services: RegistrarArguments,
    ) -> Result<RegistrarState, ActorProcessingErr> {
        Ok(RegistrarState {
            services,
            devices: HashMap::new(),
            sightings: HashMap::new(),
            under_way: false,
            renew: false,
            incomplete: false,
            renewals: 0,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        letter: Self::Msg,
        state: &mut RegistrarState,
    ) -> Result<(), ActorProcessingErr> {
        match letter.open() {
            RegistrarMessage::Enter(device, generation, waiting) => {
                state.want(device, generation, true).waiting.push(waiting);
            }
            RegistrarMessage::Leave(device, generation) => {
                state.want(device, generation, false);
            }
            RegistrarMessage::Sighted(user_id, status, at) => {
                state.sightings.insert(user_id, (status, at));
            }
            RegistrarMessage::Renew => state.renew = true,
            RegistrarMessage::EnterAll => (state.renew, state.incomplete) = (true, true),
            RegistrarMessage::Done(done, renewed) => state.done(&myself, done, renewed),
        }
        state.go_on(&myself);
        Ok(())
    }

    /// Takes out who was here, so that nobody is told what they cannot hear.
    async fn post_stop(
        &self,
        _: ActorRef<Self::Msg>,
        state: &mut RegistrarState,
    ) -> Result<(), ActorProcessingErr> {
        let round = state.round();
        let _ = timeout(ENTRY_PATIENCE, round).await;
        Ok(())
    }
}

impl RegistrarState {
    fn want(&mut self, device: Device, generation: u64, is_open: bool) -> &mut Wanted {
        let fresh = || Wanted { generation, is_open, waiting: Vec::new() };
        let wanted = self.devices.entry(device).or_insert_with(fresh);
        if generation >= wanted.generation {
            (wanted.generation, wanted.is_open) = (generation, is_open);
        }
        wanted
    }

    fn done(&mut self, myself: &ActorRef<Letter<RegistrarMessage>>, done: StoreResult<()>, renewed: bool) {
        self.under_way = false;
        match done {
            Ok(()) if renewed && !self.renew && std::mem::take(&mut self.incomplete) => {
                self.services.sweeper.sweep();
            }
            Ok(()) => {}
            Err(error) => {
                tracing::debug!(%error, "connections not entered");
                self.incomplete = true;
                myself.send_after(RETRY_PAUSE, || Letter::uncounted(RegistrarMessage::EnterAll));
            }
        }
    }

    /// Starts the next round unless one is under way.
    fn go_on(&mut self, myself: &ActorRef<Letter<RegistrarMessage>>) {
        let is_idle = self.devices.is_empty() && self.sightings.is_empty() && !self.renew;
        if self.under_way || is_idle {
            return;
        }
        self.under_way = true;
        let renews = std::mem::take(&mut self.renew);
        if renews {
            self.want_all();
        }
        let (round, myself) = (self.round(), myself.clone());
        // At most one such task (`under_way`).
        tokio::spawn(async move {
            // One that has died is replaced by one that enters everything again.
            let _ = myself.cast(Letter::uncounted(RegistrarMessage::Done(round.await, renews)));
        });
    }

    /// Everybody who is here is to be entered, whatever waits (BOUND: by the open sessions).
    fn want_all(&mut self) {
        let sessions = self.services.sessions.clone();
        let (now, presence_too) =
            (self.services.clock.now(), self.renewals.is_multiple_of(RENEWALS_PER_PRESENCE));
        self.renewals = self.renewals.wrapping_add(1);
        sessions.for_each(|session| {
            self.want((session.user_id, session.device_id.clone()), generation_of(session), true);
            if presence_too || self.incomplete {
                self.sightings.entry(session.user_id).or_insert((PresenceStatus::Online, now));
            }
        });
    }

    /// Enters, takes out and tells what is wanted. What waits is bounded by the mailbox and the open sessions.
    fn round(&mut self) -> impl Future<Output = StoreResult<()>> + Send + 'static {
        let (mut enter, mut leave, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
        let now = self.services.clock.now();
        for ((user_id, device_id), wanted) in std::mem::take(&mut self.devices) {
            let pod_id = self.services.pod_id.clone();
            let connection = Connection { user_id, device_id, pod_id, generation: wanted.generation };
            if wanted.is_open {
                enter.push(connection);
            } else if !self.has_another(&connection) {
                // A session of the device that was entered after this one may have ended before it.
                let generation = now.max(connection.generation);
                leave.push(Connection { generation, ..connection });
            }
            waiting.extend(wanted.waiting);
        }
        // Those who leave a pod that drains are expected on another: they are gone when it is (no flapping).
        let is_draining = self.services.drain.has_begun();
        let told = |(_, (status, _)): &(UserId, (PresenceStatus, UnixMillis))| {
            !is_draining || *status == PresenceStatus::Online
        };
        let sightings: Vec<_> = self.sightings.drain().filter(told).collect();
        let presence: Vec<(UserId, Presence)> = sightings
            .iter()
            .map(|(user_id, (status, at))| (*user_id, Presence { status: *status, last_seen: *at }))
            .collect();
        let sighting = |(user_id, (status, at)): (UserId, (PresenceStatus, UnixMillis))| {
            let pod_id = self.services.pod_id.clone();
            let sighting = Sighting { user_id, pod_id, status, at };
            Some((Channel::Presence(user_id), Bytes::from(encode(&sighting).ok()?)))
        };
        let signals: Vec<(Channel, Bytes)> = sightings.into_iter().filter_map(sighting).collect();
        let live = Arc::clone(&self.services.live);
        async move {
            live.enter(&enter, CONNECTION_TTL).await?;
            for waiting in waiting {
                // Not heard by one that has lost its patience, or has ended.
                let _ = waiting.send(());
            }
            live.leave(&leave).await?;
            if !presence.is_empty() {
                live.set_presence(&presence, PRESENCE_TTL).await?;
                live.publish(signals).await?;
            }
            Ok(())
        }
    }

    /// Has the device another session here than the one that has ended?
    fn has_another(&self, ended: &Connection) -> bool {
        let mut has_another = false;
        self.services.sessions.of_user(ended.user_id, |session| {
            has_another |= session.device_id == ended.device_id;
        });
        has_another
    }
}

#[cfg(test)]
mod tests {
    use colloquy_storage::local::LocalBus;
    use colloquy_storage::ports::live::{Signal, SignalReceiver};
    use prometheus_client::registry::Registry;
    use tokio::sync::watch;

    use super::*;
    use crate::cluster::decode;
    use crate::cluster::sweeper::{SweeperActor, SweeperArguments};
    use crate::cluster::tests::stage::{Quiet, Session, pass, pod, user};
    use crate::session::SessionMessage;

    /// Pod `a`, and what another one hears about user 1.
    struct Town {
        bus: LocalBus,
        live: Arc<dyn LiveDirectory>,
        registrar: Registrar,
        sessions: LiveSessions,
        drain: Drain,
        heard: SignalReceiver,
        _healthy: watch::Sender<bool>,
    }

    impl Town {
        async fn new() -> Self {
            let bus = LocalBus::new();
            let (live, heard) = bus.join();
            live.subscribe(vec![Channel::Presence(user(1))]).await.unwrap();
            let (sessions, sweeper) = (LiveSessions::default(), Sweeper::default());
            let metrics = Arc::new(Metrics::register(&mut Registry::default()));
            let (clock, entropy) = (Clock::System, colloquy_storage::ambient::Entropy::from_os());
            let (parent, _) = Actor::spawn(None, Quiet, ()).await.unwrap();
            let (_healthy, health) = watch::channel(true);
            let arguments = SweeperArguments {
                sweeper: sweeper.clone(),
                sessions: sessions.clone(),
                health,
                metrics: Arc::clone(&metrics),
            };
            SweeperActor::start(arguments, parent.get_cell()).await.unwrap();
            let (registrar, drain) = (Registrar::default(), Drain::new(entropy));
            let arguments = RegistrarArguments {
                registrar: registrar.clone(),
                pod_id: pod("a"),
                live: Arc::clone(&live),
                sessions: sessions.clone(),
                drain: drain.clone(),
                sweeper,
                clock,
                metrics,
            };
            RegistrarActor::start(arguments, parent.get_cell()).await.unwrap();
            let town = Self { bus, live, registrar, sessions, drain, heard, _healthy };
            // The first sweep of all finds nobody.
            pass(RETRY_PAUSE).await;
            town
        }

        /// The n-th session of user 1's phone.
        async fn session(&self, n: u128) -> Session {
            let session = Session::of(user(1), n << 80).await;
            self.sessions.enter(Arc::clone(&session.handle));
            session
        }

        async fn ends(&self, session: &Session) {
            self.sessions.leave(&session.handle);
            self.registrar.leave(&session.handle);
            pass(Duration::from_millis(1)).await;
        }

        async fn pods(&self) -> Vec<PodId> {
            self.live.pods_of(&[user(1)]).await.unwrap().remove(0)
        }

        async fn sighting(&mut self) -> Option<Sighting> {
            let next = timeout(Duration::from_millis(10), self.heard.next()).await.ok()?;
            let Some(Signal::Published(_, bytes)) = next else { panic!("not a sighting: {next:?}") };
            Some(decode(&bytes).unwrap())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_can_be_found_once_its_session_has_been_entered_and_until_its_last_one_ends() {
        let town = Town::new().await;
        let (first, second) = (town.session(1).await, town.session(2).await);
        town.registrar.enter(&first.handle).await;
        assert_eq!(town.pods().await, [pod("a")]);
        town.registrar.enter(&second.handle).await;
        town.ends(&second).await;
        assert_eq!(town.pods().await, [pod("a")], "its other session is open");
        town.ends(&first).await;
        assert_eq!(town.pods().await, []);
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_is_kept_for_as_long_as_the_session_is_open() {
        let town = Town::new().await;
        let session = town.session(1).await;
        town.registrar.enter(&session.handle).await;
        for _ in 0..10 {
            pass(RENEW_INTERVAL).await;
            assert_eq!(town.pods().await, [pod("a")]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_be_entered_is_entered_when_the_directory_is_back_and_then_looks_for_what_was_missed()
    {
        let town = Town::new().await;
        town.bus.cut();
        let mut session = town.session(1).await;
        town.registrar.enter(&session.handle).await;
        pass(3 * RETRY_PAUSE).await;
        session.hears_nothing().await;
        town.bus.mend();
        assert!(matches!(session.next().await, SessionMessage::Resync));
        assert_eq!(town.pods().await, [pod("a")]);
    }

    #[tokio::test(start_paused = true)]
    async fn watchers_hear_who_comes_and_goes_but_not_of_those_who_move_from_a_pod_that_drains() {
        let mut town = Town::new().await;
        town.registrar.sighted(user(1), PresenceStatus::Online, 5);
        let sighting = Sighting { user_id: user(1), pod_id: pod("a"), status: PresenceStatus::Online, at: 5 };
        assert_eq!(town.sighting().await, Some(sighting.clone()));
        town.registrar.sighted(user(1), PresenceStatus::Offline, 6);
        let gone = Sighting { status: PresenceStatus::Offline, at: 6, ..sighting };
        assert_eq!(town.sighting().await, Some(gone));
        let presence = town.live.presence_of(&[user(1)]).await.unwrap();
        assert_eq!(presence, [Some(Presence { status: PresenceStatus::Offline, last_seen: 6 })]);
        town.drain.begin("elsewhere", Duration::ZERO);
        town.registrar.sighted(user(1), PresenceStatus::Offline, 7);
        assert_eq!(town.sighting().await, None);
    }
}
