//! Presence trackers: who is online, each for a share of the users.
//!
//! A tracker knows only what sessions have told it, so one that has crashed asks every session on the node to
//! announce itself again and is whole when they have.

mod elsewhere;
mod roster;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use colloquy_protocol::UnixMillis;
use colloquy_protocol::frame::PresenceStatus;
use colloquy_protocol::frame::server::{Presence, ServerFrame};
use colloquy_protocol::ids::{SessionId, UserId};
use colloquy_storage::ambient::Clock;
use colloquy_storage::model::live::PodId;
use colloquy_storage::ports::Accounts;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use tokio::time::{Instant, timeout};

pub use elsewhere::Elsewhere;
pub use roster::{Notice, Roster};

use crate::cluster::Sighting;

use crate::metrics::Metrics;
use crate::session::{Drain, LiveSessions, SessionHandle, SessionMessage};
use crate::supervision::{ActorKind, Address, Letter, Mailbox, Refused, answered, befall};

/// Letters that may wait at one tracker. A session that wants to watch somebody and is refused has to ask again.
const MAILBOX_CAPACITY: usize = 65_536;
/// Of how many comings and goings "last seen" is kept while the store is away.
const SEEN_MAX: usize = 65_536;
/// How often "last seen" goes to the store, in bulk.
const SEEN_FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// How long the look-up of when somebody was here last may take.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(1);
/// A store that has not answered is asked again after this long.
const LOOK_UP_PAUSE: Duration = Duration::from_secs(10);
/// Users looked up at once in the live directory.
const LOOK_MAX_USERS: usize = 1000;

/// How often it is noted that those who are online were seen.
const ONLINE_SEEN_INTERVAL: Duration = Duration::from_secs(60);

/// What a tracker is told.
#[derive(Debug)]
pub enum TrackerMessage {
    /// A session is open.
    Join(Arc<SessionHandle>),
    /// A session has ended.
    Leave(UserId, SessionId),
    /// Tell this session about these users, now and whenever they come or go.
    Watch(Arc<SessionHandle>, Vec<UserId>),
    /// No longer.
    Unwatch(SessionId, Vec<UserId>),
    /// A user has come to another pod, or has gone from it.
    Sighted(Sighting),
    /// Whoever was there is not any more.
    PodEnded(PodId),
    /// What was heard of other pods may not be all: look again.
    LookElsewhere,
    /// Write when users were last seen.
    FlushSeen,
    /// That has been done; this could not be written.
    Flushed(Vec<(UserId, UnixMillis)>),
    /// Note that those who are here were seen now, so that a crash of the node forgets no more than a minute; and look who
    /// is elsewhere.
    NoteOnline,
}

/// The trackers of this node.
#[derive(Clone, Debug)]
pub struct Trackers(Arc<[Address<TrackerMessage>]>);

impl Trackers {
    /// Addresses for `count` trackers (at least one), still to be started.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self((0..count.max(1)).map(|_| Address::default()).collect())
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Which tracker a user belongs to.
    #[must_use]
    pub fn share_of(&self, user_id: UserId) -> usize {
        // The last bits of a UUID v7 are random.
        (user_id.0.as_u128() % self.0.len() as u128) as usize
    }

    /// Tells one tracker, if it has room.
    ///
    /// # Errors
    /// [`Refused`] hands the message back; `Stopped` while the tracker restarts.
    pub fn tell_share(&self, share: usize, message: TrackerMessage) -> Result<(), Refused<TrackerMessage>> {
        self.0[share].try_cast(message)
    }

    /// Tells a user's tracker of a session that comes or goes, whatever waits there already: their number is bounded by the
    /// open sockets, and one that was lost would be wrong for as long as the session lives.
    pub fn announce(&self, user_id: UserId, message: TrackerMessage) {
        self.announce_to_share(self.share_of(user_id), message);
    }

    /// As [`Self::announce`], to one tracker.
    pub fn announce_to_share(&self, share: usize, message: TrackerMessage) {
        // A tracker that is restarting asks all sessions.
        let _ = self.0[share].cast_beyond_capacity(message);
    }

    /// Tells every tracker, whatever waits there: pods come and go seldom.
    pub fn tell_all(&self, message: impl Fn() -> TrackerMessage) {
        for share in 0..self.count() {
            self.announce_to_share(share, message());
        }
    }

    /// Splits users by their trackers.
    #[must_use]
    pub fn by_share(&self, users: impl IntoIterator<Item = UserId>) -> Vec<Vec<UserId>> {
        let mut shares = vec![Vec::new(); self.count()];
        for user_id in users {
            shares[self.share_of(user_id)].push(user_id);
        }
        shares
    }
}

/// The actor.
pub struct PresenceTracker;

/// What a tracker is started with.
#[derive(Clone)]
pub struct TrackerArguments {
    /// Which one it is.
    pub share: usize,
    /// All of them.
    pub trackers: Trackers,
    /// Whom to ask to announce themselves.
    pub sessions: LiveSessions,
    /// Where "last seen" is kept.
    pub accounts: Arc<dyn Accounts>,
    /// Who is connected to other pods.
    pub elsewhere: Option<Elsewhere>,
    /// Whether clients are on their way elsewhere.
    pub drain: Drain,
    /// What time it is.
    pub clock: Clock,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// State of a tracker.
pub struct TrackerState {
    roster: Roster,
    seen: Vec<(UserId, UnixMillis)>,
    flushing: bool,
    /// The store did not answer; it is not asked before then.
    store_away_until: Option<Instant>,
    services: TrackerArguments,
}

impl PresenceTracker {
    /// Starts a tracker under `parent` and points its address at it.
    ///
    /// # Errors
    /// If the parent is stopping.
    pub async fn start(arguments: TrackerArguments, parent: ActorCell) -> Result<ActorCell, SpawnErr> {
        let (metrics, sessions) = (Arc::clone(&arguments.metrics), arguments.sessions.clone());
        let (trackers, share) = (arguments.trackers.clone(), arguments.share);
        let (actor, _) = Actor::spawn_linked(None, Self, arguments, parent).await?;
        trackers.0[share].install(Mailbox::new(
            actor.clone(),
            metrics.depth_of(ActorKind::PresenceTracker),
            MAILBOX_CAPACITY,
        ));
        metrics.actor_started(ActorKind::PresenceTracker);
        actor.send_interval(SEEN_FLUSH_INTERVAL, || Letter::uncounted(TrackerMessage::FlushSeen));
        actor.send_interval(ONLINE_SEEN_INTERVAL, || Letter::uncounted(TrackerMessage::NoteOnline));
        // All who are here first, and then who watches them: nobody is told that somebody is away who is not.
        sessions.for_each(|session| {
            if trackers.share_of(session.user_id) == share {
                trackers.announce(session.user_id, TrackerMessage::Join(Arc::clone(session)));
            }
        });
        sessions.for_each(|session| session.answer(SessionMessage::Announce(share)));
        Ok(actor.get_cell())
    }
}

impl Actor for PresenceTracker {
    type Msg = Letter<TrackerMessage>;
    type State = TrackerState;
    type Arguments = TrackerArguments;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        services: TrackerArguments,
    ) -> Result<TrackerState, ActorProcessingErr> {
        Ok(TrackerState {
            roster: Roster::default(),
            seen: Vec::new(),
            flushing: false,
            store_away_until: None,
            services,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        letter: Self::Msg,
        state: &mut TrackerState,
    ) -> Result<(), ActorProcessingErr> {
        let now = state.services.clock.now();
        befall(&state.services.metrics, ActorKind::PresenceTracker).await;
        let (message, _handling) = letter.open();
        match message {
            TrackerMessage::Join(session) => {
                // One that has left before it was heard of would stay for ever.
                if !session.has_ended() {
                    let was_here = state.roster.is_here(session.user_id);
                    send(state.roster.join(session.user_id, session.session_id, now));
                    if !was_here && let Some(elsewhere) = &state.services.elsewhere {
                        elsewhere.tell(session.user_id, PresenceStatus::Online, now);
                    }
                }
            }
            TrackerMessage::Leave(user_id, session_id) => {
                let was_here = state.roster.is_here(user_id);
                let notices = state.roster.leave(user_id, session_id, now);
                // Those who leave a pod that drains are expected on another one (no flapping).
                if !state.services.drain.has_begun() {
                    send(notices);
                }
                if was_here && !state.roster.is_here(user_id) {
                    state.seen.push((user_id, now));
                    if let Some(elsewhere) = &state.services.elsewhere {
                        elsewhere.tell(user_id, PresenceStatus::Offline, now);
                    }
                }
            }
            TrackerMessage::Watch(session, users) => state.watch(&session, users, now).await,
            TrackerMessage::Unwatch(session_id, users) => state.unwatch(session_id, &users).await,
            TrackerMessage::Sighted(sighting) => {
                let Sighting { user_id, pod_id, status, at } = sighting;
                send(state.roster.sighted(user_id, pod_id, status, at));
            }
            TrackerMessage::PodEnded(pod_id) => {
                send(state.roster.pod_ended(&pod_id, now));
                // Another one of its name may be there already.
                state.look_elsewhere(state.roster.watched().collect(), now).await;
            }
            TrackerMessage::LookElsewhere => {
                state.look_elsewhere(state.roster.watched().collect(), now).await;
            }
            TrackerMessage::FlushSeen => state.flush_seen(&myself),
            TrackerMessage::Flushed(unwritten) => state.flushed(unwritten),
            TrackerMessage::NoteOnline => {
                state.seen.extend(state.roster.online().map(|user| (user, now)));
                // What was heard of other pods may have been wrong, or lost, for whatever reason.
                state.look_elsewhere(state.roster.watched().collect(), now).await;
            }
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<Self::Msg>,
        state: &mut TrackerState,
    ) -> Result<(), ActorProcessingErr> {
        let seen = std::mem::take(&mut state.seen);
        if !seen.is_empty()
            && let Err(error) = state.services.accounts.seen(seen).await
        {
            tracing::warn!(%error, "last seen not written");
        }
        Ok(())
    }
}

impl TrackerState {
    async fn watch(&mut self, session: &Arc<SessionHandle>, users: Vec<UserId>, now: UnixMillis) {
        if session.has_ended() {
            return;
        }
        let unwatched = |user_id: &UserId| !self.roster.is_watched(*user_id);
        let fresh: Vec<UserId> = users.iter().copied().filter(unwatched).collect();
        if let Some(elsewhere) = &self.services.elsewhere {
            elsewhere.watch(&fresh).await;
        }
        // Heard from before it is looked: who comes in between is not missed.
        self.look_elsewhere(fresh, now).await;
        for user_id in users {
            if self.roster.last_seen_unknown(user_id) {
                self.look_up_last_seen(user_id).await;
            }
            let notice = self.roster.watch(Arc::clone(session), user_id, now);
            send(vec![notice]);
        }
    }

    /// A store that does not answer is not asked again for a while: others wait here, too.
    async fn look_up_last_seen(&mut self, user_id: UserId) {
        if self.store_away_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.store_away_until = None;
        match timeout(LOOK_UP_TIMEOUT, self.services.accounts.get(user_id)).await {
            Ok(Ok(Some(user))) => self.roster.know_last_seen(user_id, user.last_seen),
            Ok(Ok(None)) => {}
            Ok(Err(_)) | Err(_) => self.store_away_until = Some(Instant::now() + LOOK_UP_PAUSE),
        }
    }

    async fn unwatch(&mut self, session_id: SessionId, users: &[UserId]) {
        self.roster.unwatch(session_id, users);
        if let Some(elsewhere) = &self.services.elsewhere {
            let unwatched = users.iter().copied().filter(|user_id| !self.roster.is_watched(*user_id));
            elsewhere.unwatch(unwatched.collect()).await;
        }
    }

    /// Looks up on which other pods users are.
    async fn look_elsewhere(&mut self, users: Vec<UserId>, now: UnixMillis) {
        let Some(elsewhere) = &self.services.elsewhere else { return };
        for users in users.chunks(LOOK_MAX_USERS) {
            // Not answered, it is looked again when the live directory is back.
            let Some(pods) = elsewhere.pods_of(users).await else { return };
            for (user_id, pods) in users.iter().zip(pods) {
                send(self.roster.is_on(*user_id, pods, now));
            }
        }
    }

    /// Writes what was seen, not waited for: a store that is away must not hold up who comes and goes.
    fn flush_seen(&mut self, myself: &ActorRef<Letter<TrackerMessage>>) {
        if self.seen.is_empty() || std::mem::replace(&mut self.flushing, true) {
            return;
        }
        let seen = std::mem::take(&mut self.seen);
        let (accounts, myself) = (Arc::clone(&self.services.accounts), myself.clone());
        // At most one such task (`flushing`).
        tokio::spawn(async move {
            let unwritten = match answered(accounts.seen(seen.clone())).await {
                Ok(()) => Vec::new(),
                Err(error) => {
                    tracing::warn!(%error, "last seen not written");
                    seen
                }
            };
            // One that has died is replaced by one that notes who is here.
            let _ = myself.cast(Letter::uncounted(TrackerMessage::Flushed(unwritten)));
        });
    }

    fn flushed(&mut self, unwritten: Vec<(UserId, UnixMillis)>) {
        self.flushing = false;
        // Of each user the newest counts. Beyond the bound it is let go.
        let newer = std::mem::replace(&mut self.seen, unwritten);
        self.seen.extend(newer);
        // What is known of somebody who is here is noted again within the minute.
        let mut newest: HashMap<UserId, UnixMillis> = HashMap::new();
        for (user_id, at) in self.seen.drain(..) {
            let known = newest.entry(user_id).or_default();
            *known = at.max(*known);
        }
        self.seen.extend(newest.into_iter().take(SEEN_MAX));
    }
}

fn send(notices: Vec<Notice>) {
    for Notice { watcher, user_id, status, last_seen } in notices {
        let frame = ServerFrame::Presence { payload: Presence { user_id, status, last_seen } };
        watcher.offer(SessionMessage::Presence(user_id, frame.to_json().into()));
    }
}
