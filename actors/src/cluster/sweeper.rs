//! The sweeper: has every session of this pod look for itself what it has missed, at a bounded rate.
//!
//! What is told between pods may be lost: with a pod that dies, with the live directory while it is away. Wherever that
//! is noticed, a sweep makes it good (NOLOSS, AUTHZ: a session also looks whether its log-in still stands). While the
//! directory is away, sweeps follow each other: that is the polling that stands in for hints.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::session::{LiveSessions, SessionHandle};
use crate::supervision::{ActorKind, Address, Letter, Mailbox, befall};

/// Sessions told in one step ...
const STEP_SESSIONS: usize = 50;
/// ... and how long until the next: 500 sessions a second.
const STEP_INTERVAL: Duration = Duration::from_millis(100);
/// Between the end of one sweep and the next while the live directory is away.
const POLL_PAUSE: Duration = Duration::from_secs(2);
/// Without any cause there is a sweep as long after the last: whatever was lost unnoticed is found.
const SLOW_INTERVAL: Duration = Duration::from_secs(300);
/// After a pod has ended there is a second sweep as much later: what it had handed to the store, or to the bus, may not
/// have been there yet at the first.
const AFTERMATH: Duration = Duration::from_secs(10);
/// Letters that may wait: a request that finds more is covered by those.
const MAILBOX_CAPACITY: usize = 64;

/// Where to ask for a sweep.
#[derive(Clone, Debug, Default)]
pub struct Sweeper(Address<SweeperMessage>);

impl Sweeper {
    /// Something may have been lost up to now: every session that is open looks for itself.
    pub fn sweep(&self) {
        // One that is restarting begins with a sweep.
        let _ = self.0.try_cast(SweeperMessage::Sweep);
    }

    /// A pod has ended, or cannot be reached: look now, and once more later.
    pub fn sweep_after_an_end(&self) {
        let _ = self.0.try_cast(SweeperMessage::SweepTwice);
    }
}

/// What the sweeper is told.
pub enum SweeperMessage {
    /// Begin.
    Sweep,
    /// Begin, and once more after a while.
    SweepTwice,
    /// Go on.
    Step,
    /// Look whether to poll.
    Poll,
}

/// What the sweeper is started with.
#[derive(Clone)]
pub struct SweeperArguments {
    /// Where to ask it.
    pub sweeper: Sweeper,
    /// Whom it tells.
    pub sessions: LiveSessions,
    /// Whether the live directory answers.
    pub health: watch::Receiver<bool>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// The actor.
pub struct SweeperActor;

/// Its state.
pub struct SweeperState {
    services: SweeperArguments,
    remaining: VecDeque<Arc<SessionHandle>>,
    /// Asked for during a sweep: sessions that were told before that are to look once more.
    again: bool,
    begun_at: Instant,
    /// A second sweep is due.
    aftermath: Option<Instant>,
}

impl SweeperActor {
    /// Starts the sweeper under `parent` and points its address at it.
    ///
    /// # Errors
    /// If the parent is stopping.
    pub async fn start(arguments: SweeperArguments, parent: ActorCell) -> Result<ActorCell, SpawnErr> {
        let (address, metrics) = (arguments.sweeper.0.clone(), Arc::clone(&arguments.metrics));
        let (actor, _) = Actor::spawn_linked(None, Self, arguments, parent).await?;
        let mailbox = Mailbox::new(actor.clone(), metrics.depth_of(ActorKind::Sweeper), MAILBOX_CAPACITY);
        address.install(mailbox);
        metrics.actor_started(ActorKind::Sweeper);
        // A predecessor may have died in the middle of one.
        let _ = actor.cast(Letter::uncounted(SweeperMessage::Sweep));
        actor.send_interval(POLL_PAUSE, || Letter::uncounted(SweeperMessage::Poll));
        Ok(actor.get_cell())
    }
}

impl Actor for SweeperActor {
    type Msg = Letter<SweeperMessage>;
    type State = SweeperState;
    type Arguments = SweeperArguments;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        services: SweeperArguments,
    ) -> Result<SweeperState, ActorProcessingErr> {
        let (remaining, begun_at) = (VecDeque::new(), Instant::now());
        // A predecessor may have owed one.
        let aftermath = Some(Instant::now() + AFTERMATH);
        Ok(SweeperState { services, remaining, again: false, begun_at, aftermath })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        letter: Self::Msg,
        state: &mut SweeperState,
    ) -> Result<(), ActorProcessingErr> {
        befall(&state.services.metrics, ActorKind::Sweeper).await;
        let (message, _handling) = letter.open();
        match message {
            SweeperMessage::Sweep => state.sweep(&myself),
            SweeperMessage::SweepTwice => {
                state.aftermath = Some(Instant::now() + AFTERMATH);
                state.sweep(&myself);
            }
            SweeperMessage::Poll => {
                let is_due = state.aftermath.take_if(|at| *at <= Instant::now()).is_some();
                let is_away = !*state.services.health.borrow();
                if is_due || is_away || state.begun_at.elapsed() >= SLOW_INTERVAL {
                    state.sweep(&myself);
                }
            }
            SweeperMessage::Step => state.step(&myself),
        }
        Ok(())
    }
}

impl SweeperState {
    fn sweep(&mut self, myself: &ActorRef<Letter<SweeperMessage>>) {
        if self.remaining.is_empty() {
            self.begin(myself);
        } else {
            self.again = true;
        }
    }

    fn begin(&mut self, myself: &ActorRef<Letter<SweeperMessage>>) {
        self.services.metrics.sweeps.inc();
        (self.again, self.begun_at) = (false, Instant::now());
        let remaining = &mut self.remaining;
        self.services.sessions.for_each(|session| remaining.push_back(Arc::clone(session)));
        self.step(myself);
    }

    fn step(&mut self, myself: &ActorRef<Letter<SweeperMessage>>) {
        let share = STEP_SESSIONS.min(self.remaining.len());
        for session in self.remaining.drain(..share) {
            session.resync();
        }
        if !self.remaining.is_empty() {
            myself.send_after(STEP_INTERVAL, || Letter::uncounted(SweeperMessage::Step));
        } else if self.again {
            self.again = false;
            myself.send_after(STEP_INTERVAL, || Letter::uncounted(SweeperMessage::Sweep));
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;
    use ractor::Actor;

    use super::*;
    use crate::cluster::tests::stage::{Quiet, Session, pass, user};
    use crate::session::SessionMessage;

    /// A sweeper over so many sessions.
    async fn sweeper_over(count: u128, health: watch::Receiver<bool>) -> (Sweeper, Vec<Session>) {
        let (live, sweeper) = (LiveSessions::default(), Sweeper::default());
        let mut sessions = Vec::new();
        for n in 0..count {
            let session = Session::of(user(n), n).await;
            live.enter(Arc::clone(&session.handle));
            sessions.push(session);
        }
        let arguments = SweeperArguments {
            sweeper: sweeper.clone(),
            sessions: live,
            health,
            metrics: Arc::new(Metrics::register(&mut Registry::default())),
        };
        let (parent, _) = Actor::spawn(None, Quiet, ()).await.unwrap();
        SweeperActor::start(arguments, parent.get_cell()).await.unwrap();
        (sweeper, sessions)
    }

    async fn all_look(sessions: &mut [Session]) {
        for session in sessions {
            assert!(matches!(session.next().await, SessionMessage::Resync));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_session_looks_once_for_each_sweep_and_not_all_at_the_same_time() {
        let (_healthy, health) = watch::channel(true);
        let (sweeper, mut sessions) = sweeper_over(120, health).await;
        let begun = Instant::now();
        // A new sweeper begins with one.
        all_look(&mut sessions).await;
        assert_eq!(begun.elapsed(), 2 * STEP_INTERVAL, "50, 50 and 20");
        sweeper.sweep();
        all_look(&mut sessions).await;
        sessions[0].hears_nothing().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_for_during_a_sweep_is_another_one() {
        let (_healthy, health) = watch::channel(true);
        let (sweeper, mut sessions) = sweeper_over(120, health).await;
        // The first sweep has told some of them by now.
        pass(STEP_INTERVAL / 2).await;
        sweeper.sweep();
        sweeper.sweep();
        all_look(&mut sessions).await;
        all_look(&mut sessions).await;
        sessions[0].hears_nothing().await;
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_directory_is_away_sessions_look_again_and_again() {
        let (healthy, health) = watch::channel(false);
        let (_sweeper, mut sessions) = sweeper_over(3, health).await;
        // Beyond the second one that a new sweeper owes.
        for _ in 0..8 {
            all_look(&mut sessions).await;
        }
        healthy.send_replace(true);
        pass(2 * POLL_PAUSE).await;
        sessions[0].hears_nothing().await;
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_pod_has_ended_sessions_look_at_once_and_a_while_later() {
        let (_healthy, health) = watch::channel(true);
        let (sweeper, mut sessions) = sweeper_over(3, health).await;
        all_look(&mut sessions).await;
        let ended = Instant::now();
        sweeper.sweep_after_an_end();
        all_look(&mut sessions).await;
        assert_eq!(ended.elapsed(), Duration::ZERO);
        all_look(&mut sessions).await;
        assert!((AFTERMATH..AFTERMATH + 2 * POLL_PAUSE).contains(&ended.elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn without_any_cause_sessions_look_seldom_but_for_ever() {
        let (_healthy, health) = watch::channel(true);
        let (_sweeper, mut sessions) = sweeper_over(3, health).await;
        // A new sweeper begins with one, and owes another.
        all_look(&mut sessions).await;
        all_look(&mut sessions).await;
        for _ in 0..3 {
            pass(SLOW_INTERVAL - POLL_PAUSE).await;
            sessions[0].hears_nothing().await;
            all_look(&mut sessions).await;
        }
    }
}
