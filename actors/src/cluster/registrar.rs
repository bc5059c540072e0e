//! The registrar: enters the devices that are connected to this pod in the live directory, and tells the watchers of
//! their users that they have come or gone. Gathers what happens while a round trip is under way.
//!
//! A session waits to be entered before it reads what its device has missed: what is stored after that reading is told to
//! this pod (NOLOSS). What cannot be entered now is entered later, and then all sessions look for what they may have
//! missed meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
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
use tokio::time::{Instant, timeout};

use super::Sweeper;
use super::wire::{Sighting, encode};
use crate::metrics::Metrics;
use crate::session::{Drain, LiveSessions, SessionHandle};
use crate::supervision::{ActorKind, Address, Letter, Mailbox, answered, befall};

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
        if self.0.try_cast(RegistrarMessage::Enter(device, entered)).is_ok() {
            // Not entered in time, it is entered later, and everybody looks then.
            let _ = timeout(ENTRY_PATIENCE, waiting).await;
        }
    }

    /// A session has ended. An entry that is not taken out runs out.
    pub fn leave(&self, session: &SessionHandle) {
        let device = (session.user_id, session.device_id.clone());
        let _ = self.0.try_cast(RegistrarMessage::Leave(device));
    }

    /// A user has come to this pod, or has no session here any more.
    pub fn sighted(&self, user_id: UserId, status: PresenceStatus, at: UnixMillis) {
        let _ = self.0.try_cast(RegistrarMessage::Sighted(user_id, status, at));
    }

    /// The live directory may have forgotten everything: enter all, then have all sessions look for themselves.
    pub fn enter_all(&self) {
        // Asked for seldom; one that is restarting does so by itself.
        let _ = self.0.cast_beyond_capacity(RegistrarMessage::EnterAll);
    }
}

type Device = (UserId, DeviceId);

/// What the registrar is told.
pub enum RegistrarMessage {
    /// A session is open; answered when it is entered.
    Enter(Device, oneshot::Sender<()>),
    /// A session has ended.
    Leave(Device),
    /// A user has come or gone.
    Sighted(UserId, PresenceStatus, UnixMillis),
    /// Renew every entry.
    Renew,
    /// As [`Self::Renew`], and sessions have missed something meanwhile.
    EnterAll,
    /// The pause after a failure is over.
    Retry,
    /// A round has ended.
    Done(Round, StoreResult<()>),
}

/// What is done in one round trip.
#[derive(Debug, Default)]
pub struct Round {
    enter: Vec<Connection>,
    /// Of those, which ought to be there.
    known: Vec<bool>,
    leave: Vec<Connection>,
    sightings: HashMap<UserId, Sighted>,
    /// Everybody who is here is entered.
    renews: bool,
    /// When it began; entries hold from then on at least.
    began: Option<Instant>,
    /// A session has not waited until it was entered: it may have missed what was told meanwhile.
    outwaited: bool,
    /// The directory had forgotten somebody, who may have missed what was told since.
    forgotten: bool,
}

type Sighted = (PresenceStatus, UnixMillis);

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
    /// What is still to be done for each device. Bounded by the sessions that come and go during one round trip.
    devices: HashMap<Device, Wanted>,
    sightings: HashMap<UserId, Sighted>,
    under_way: bool,
    /// The last round has failed, and its pause is not over.
    pausing: bool,
    renew: bool,
    renewed_at: Instant,
    /// Sessions may have missed something since entries were last complete.
    incomplete: bool,
    renewals: u32,
    /// Of the last round.
    generation: u64,
}

/// An entry to be made or taken out.
#[derive(Default)]
struct Wanted {
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
            pausing: false,
            renew: false,
            renewed_at: Instant::now(),
            incomplete: false,
            renewals: 0,
            generation: 0,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        letter: Self::Msg,
        state: &mut RegistrarState,
    ) -> Result<(), ActorProcessingErr> {
        befall(&state.services.metrics, ActorKind::Registrar).await;
        let (message, _handling) = letter.open();
        match message {
            RegistrarMessage::Enter(device, waiting) => {
                let wanted = state.devices.entry(device).or_default();
                wanted.is_open = true;
                // While the directory is away nobody is made to wait for it.
                if !state.pausing {
                    wanted.waiting.push(waiting);
                }
            }
            RegistrarMessage::Leave(device) => state.devices.entry(device).or_default().is_open = false,
            RegistrarMessage::Sighted(user_id, status, at) => {
                state.sightings.insert(user_id, (status, at));
            }
            RegistrarMessage::Renew => state.renew = true,
            RegistrarMessage::EnterAll => (state.renew, state.incomplete) = (true, true),
            RegistrarMessage::Retry => state.pausing = false,
            RegistrarMessage::Done(round, done) => state.done(&myself, round, done),
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
        let (mut round, waiting) = state.next_round();
        let live = Arc::clone(&state.services.live);
        let _ = timeout(ENTRY_PATIENCE, round.take(live, state.services.pod_id.clone(), waiting)).await;
        Ok(())
    }
}

impl RegistrarState {
    fn done(&mut self, myself: &ActorRef<Letter<RegistrarMessage>>, round: Round, done: StoreResult<()>) {
        self.under_way = false;
        match done {
            Ok(()) => {
                self.incomplete |= round.forgotten;
                self.mark(&round);
                if round.renews {
                    // This pod was frozen: what was entered has run out.
                    self.incomplete |= self.renewed_at.elapsed() >= CONNECTION_TTL;
                    self.renewed_at = round.began.unwrap_or_else(Instant::now);
                }
                // Everybody is entered: what they have missed before that, they can find now.
                let is_complete = round.renews && !self.renew && std::mem::take(&mut self.incomplete);
                if is_complete || round.outwaited {
                    self.services.sweeper.sweep();
                }
            }
            Err(error) => {
                tracing::debug!(%error, "connections not entered");
                self.put_back(round);
                (self.renew, self.incomplete, self.pausing) = (true, true, true);
                myself.send_after(RETRY_PAUSE, || Letter::uncounted(RegistrarMessage::Retry));
            }
        }
    }

    /// Notes who is entered now, in whichever round: whoever is forgotten after that has missed something.
    fn mark(&self, round: &Round) {
        let new = round.enter.iter().zip(&round.known).filter(|(_, known)| !**known);
        for (Connection { user_id, device_id, .. }, _) in new {
            self.services.sessions.of_user(*user_id, |session| {
                if session.device_id == *device_id {
                    session.is_entered.store(true, Ordering::Relaxed);
                }
            });
        }
    }

    /// What could not be said is said later, unless something newer is to be said by then.
    fn put_back(&mut self, round: Round) {
        for Connection { user_id, device_id, .. } in round.leave {
            self.devices.entry((user_id, device_id)).or_default();
        }
        for (user_id, sighted) in round.sightings {
            self.sightings.entry(user_id).or_insert(sighted);
        }
    }

    /// Starts the next round unless one is under way.
    fn go_on(&mut self, myself: &ActorRef<Letter<RegistrarMessage>>) {
        let is_idle = self.devices.is_empty() && self.sightings.is_empty() && !self.renew;
        if self.under_way || self.pausing || is_idle {
            return;
        }
        self.under_way = true;
        let (mut round, waiting) = self.next_round();
        let (live, pod_id, myself) =
            (Arc::clone(&self.services.live), self.services.pod_id.clone(), myself.clone());
        // At most one such task (`under_way`).
        tokio::spawn(async move {
            let done = answered(round.take(live, pod_id, waiting)).await;
            // One that has died is replaced by one that enters everything again.
            let _ = myself.cast(Letter::uncounted(RegistrarMessage::Done(round, done)));
        });
    }

    /// Everything that is wanted. What waits is bounded by the mailbox and the open sessions.
    fn next_round(&mut self) -> (Round, Vec<oneshot::Sender<()>>) {
        let mut round = Round {
            renews: std::mem::take(&mut self.renew),
            began: Some(Instant::now()),
            ..Round::default()
        };
        // Who is new comes first.
        let mut waiting = Vec::new();
        let now = self.services.clock.now();
        // The entries are this pod's own, and its rounds follow each other: what is said later is newer, whatever becomes
        // of the clock. Another process of this name said less, as far as clocks go.
        self.generation = now.max(self.generation + 1);
        for ((user_id, device_id), wanted) in std::mem::take(&mut self.devices) {
            let pod_id = self.services.pod_id.clone();
            let connection = Connection { user_id, device_id, pod_id, generation: self.generation };
            if wanted.is_open || self.has_another(&connection) {
                round.known.push(false);
                round.enter.push(connection);
            } else {
                round.leave.push(connection);
            }
            waiting.extend(wanted.waiting);
        }
        if round.renews {
            self.add_all(&mut round, now);
        }
        // Those who leave a pod that drains are expected on another: they are gone when it is (no flapping).
        let is_draining = self.services.drain.has_begun();
        round.sightings.extend(self.sightings.drain());
        round.sightings.retain(|_, (status, _)| !is_draining || *status == PresenceStatus::Online);
        (round, waiting)
    }

    /// Everybody who is here, to be entered for another while.
    fn add_all(&mut self, round: &mut Round, now: UnixMillis) {
        let presence_too = self.incomplete || self.renewals.is_multiple_of(RENEWALS_PER_PRESENCE);
        self.renewals = self.renewals.wrapping_add(1);
        let pod_id = &self.services.pod_id;
        self.services.sessions.for_each(|session| {
            round.known.push(session.is_entered.load(Ordering::Relaxed));
            round.enter.push(Connection {
                user_id: session.user_id,
                device_id: session.device_id.clone(),
                pod_id: pod_id.clone(),
                generation: self.generation,
            });
            if presence_too {
                round.sightings.insert(session.user_id, (PresenceStatus::Online, now));
            }
        });
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

impl Round {
    /// Does it, and lets those who wait know that they are entered.
    async fn take(
        &mut self,
        live: Arc<dyn LiveDirectory>,
        pod_id: PodId,
        waiting: Vec<oneshot::Sender<()>>,
    ) -> StoreResult<()> {
        let fresh = live.enter(&self.enter, CONNECTION_TTL).await?;
        self.forgotten = fresh.iter().zip(&self.known).any(|(fresh, known)| *fresh && *known);
        for waiting in waiting {
            self.outwaited |= waiting.send(()).is_err();
        }
        live.leave(&self.leave).await?;
        if self.sightings.is_empty() {
            return Ok(());
        }
        let presence = |(user_id, (status, at)): (&UserId, &Sighted)| {
            (*user_id, Presence { status: *status, last_seen: *at })
        };
        let presences: Vec<(UserId, Presence)> = self.sightings.iter().map(presence).collect();
        live.set_presence(&presences, PRESENCE_TTL).await?;
        let sighting = |(user_id, (status, at)): (&UserId, &Sighted)| {
            let sighting = Sighting { user_id: *user_id, pod_id: pod_id.clone(), status: *status, at: *at };
            Some((Channel::Presence(*user_id), Bytes::from(encode(&sighting).ok()?)))
        };
        live.publish(self.sightings.iter().filter_map(sighting).collect()).await.map(drop)
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
    async fn who_is_not_entered_because_a_call_has_panicked_is_entered_later() {
        let town = Town::new().await;
        let session = town.session(1).await;
        town.bus.trip();
        town.registrar.enter(&session.handle).await;
        assert_eq!(town.pods().await, []);
        pass(2 * RETRY_PAUSE).await;
        assert_eq!(town.pods().await, [pod("a")]);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_the_directory_has_forgotten_is_entered_again_and_looks_for_what_was_missed() {
        let town = Town::new().await;
        // A registrar that has just started has everybody look: nobody is there yet.
        pass(RENEW_INTERVAL).await;
        let mut session = town.session(1).await;
        town.registrar.enter(&session.handle).await;
        pass(2 * RENEW_INTERVAL).await;
        session.hears_nothing().await;
        town.bus.forget();
        assert_eq!(town.pods().await, []);
        pass(RENEW_INTERVAL).await;
        assert!(matches!(session.next().await, SessionMessage::Resync));
        assert_eq!(town.pods().await, [pod("a")]);
    }

    /// Found by seed 201180: who was entered by a renewal did not count as entered.
    #[tokio::test(start_paused = true)]
    async fn whoever_was_entered_late_and_is_then_forgotten_looks_as_well() {
        let town = Town::new().await;
        pass(RENEW_INTERVAL).await;
        town.bus.cut();
        let mut session = town.session(1).await;
        town.registrar.enter(&session.handle).await;
        town.bus.mend();
        assert!(matches!(session.next().await, SessionMessage::Resync));
        pass(2 * RENEW_INTERVAL).await;
        session.hears_nothing().await;
        town.bus.forget();
        pass(RENEW_INTERVAL).await;
        assert!(matches!(session.next().await, SessionMessage::Resync));
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
