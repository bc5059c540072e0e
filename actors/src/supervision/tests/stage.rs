//! Children that live and die on command, and a journal of what became of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use prometheus_client::registry::Registry;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::metrics::Metrics;
use crate::supervision::{
    ActorKind, ChildSpec, ExitReason, Fault, RestartIntensity, RestartPolicy, StartChild, Supervisor,
    SupervisorArguments, SupervisorMessage,
};

/// Reaching it is a failure, never a way to pass time.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// Far more than any test writes.
const JOURNAL_MAX: usize = 256;

/// What happened to a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happened {
    /// It was started, for the n-th time.
    Started(ActorKind, u32),
    /// It ended in order.
    Ended(ActorKind),
}

/// How a child is to end.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// It is done.
    Done,
    /// It gives up.
    Fail,
    /// A defect.
    Panic,
}

impl ractor::Message for End {}

/// A child, as one incarnation of it is started.
struct Child;

pub(super) struct ChildState {
    kind: ActorKind,
    journal: mpsc::Sender<Happened>,
}

impl Actor for Child {
    type Msg = End;
    type State = ChildState;
    type Arguments = ChildState;

    async fn pre_start(
        &self,
        _: ActorRef<End>,
        arguments: ChildState,
    ) -> Result<ChildState, ActorProcessingErr> {
        Ok(arguments)
    }

    async fn post_stop(&self, _: ActorRef<End>, state: &mut ChildState) -> Result<(), ActorProcessingErr> {
        state.journal.try_send(Happened::Ended(state.kind)).expect("the journal has room");
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<End>,
        end: End,
        _: &mut ChildState,
    ) -> Result<(), ActorProcessingErr> {
        match end {
            End::Done => myself.stop(ExitReason::Done.as_stop_reason()),
            End::Fail => return Err(Fault::because("nothing works", std::fmt::Error)),
            End::Panic => panic!("a defect, as ordered"),
        }
        Ok(())
    }
}

/// One child of a stage: how it is started, and where its newest incarnation is.
#[derive(Clone)]
pub(super) struct Part {
    kind: ActorKind,
    starts: Arc<AtomicU32>,
    newest: Arc<std::sync::Mutex<Option<ActorRef<End>>>>,
}

impl Part {
    pub(super) fn of(kind: ActorKind) -> Self {
        Self { kind, starts: Arc::default(), newest: Arc::default() }
    }

    /// Tells the newest incarnation how to end.
    pub(super) fn end(&self, end: End) {
        let newest = self.newest.lock().unwrap();
        newest.as_ref().expect("the child was started").cast(end).expect("the child is there");
    }

    /// How often it was started.
    pub(super) fn starts(&self) -> u32 {
        self.starts.load(Ordering::SeqCst)
    }

    fn spec(
        &self,
        policy: RestartPolicy,
        journal: &mpsc::Sender<Happened>,
        metrics: &Arc<Metrics>,
    ) -> ChildSpec {
        let (part, journal, metrics) = (self.clone(), journal.clone(), Arc::clone(metrics));
        let start: StartChild = Arc::new(move |parent: ActorCell| {
            let (part, journal, metrics) = (part.clone(), journal.clone(), Arc::clone(&metrics));
            Box::pin(async move {
                let number = part.starts.fetch_add(1, Ordering::SeqCst) + 1;
                let state = ChildState { kind: part.kind, journal: journal.clone() };
                let (child, _) = Actor::spawn_linked(None, Child, state, parent).await?;
                metrics.actor_started(part.kind);
                let cell = child.get_cell();
                *part.newest.lock().unwrap() = Some(child);
                journal.try_send(Happened::Started(part.kind, number)).expect("the journal has room");
                Ok(cell)
            })
        });
        ChildSpec { kind: self.kind, policy, start }
    }
}

/// A supervisor over some parts, and what is seen of them.
pub(super) struct Stage {
    pub(super) supervisor: ActorRef<SupervisorMessage>,
    pub(super) ended: tokio::task::JoinHandle<()>,
    pub(super) metrics: Arc<Metrics>,
    journal: mpsc::Receiver<Happened>,
}

/// Restarts as soon as can be.
pub(super) fn at_once(max_restarts: usize) -> RestartIntensity {
    RestartIntensity {
        max_restarts,
        period: Duration::from_secs(600),
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(1),
    }
}

impl Stage {
    /// Starts a supervisor, without looking at what its children write.
    pub(super) async fn set(parts: &[(Part, RestartPolicy)], intensity: RestartIntensity) -> Self {
        let metrics = Arc::new(Metrics::register(&mut Registry::default()));
        let (sender, journal) = mpsc::channel(JOURNAL_MAX);
        let children = parts.iter().map(|(part, policy)| part.spec(*policy, &sender, &metrics)).collect();
        let arguments = SupervisorArguments { children, intensity, metrics: Arc::clone(&metrics) };
        let (supervisor, ended) =
            Actor::spawn(None, Supervisor, arguments).await.expect("the children start");
        Self { supervisor, ended, metrics, journal }
    }

    /// A supervisor of permanent children under another one, which starts it again.
    pub(super) async fn set_under_another(parts: &[Part], intensity: RestartIntensity) -> Self {
        let metrics = Arc::new(Metrics::register(&mut Registry::default()));
        let (sender, journal) = mpsc::channel(JOURNAL_MAX);
        let specs: Vec<ChildSpec> =
            parts.iter().map(|part| part.spec(RestartPolicy::Permanent, &sender, &metrics)).collect();
        let counted = Arc::clone(&metrics);
        let inner = ChildSpec::permanent(ActorKind::Node, move |parent| {
            let (children, metrics) = (specs.clone(), Arc::clone(&counted));
            async move {
                let arguments = SupervisorArguments { children, intensity, metrics };
                let (inner, _) = Actor::spawn_linked(None, Supervisor, arguments, parent).await?;
                Ok(inner.get_cell())
            }
        });
        let arguments =
            SupervisorArguments { children: vec![inner], intensity, metrics: Arc::clone(&metrics) };
        let (supervisor, ended) =
            Actor::spawn(None, Supervisor, arguments).await.expect("the children start");
        Self { supervisor, ended, metrics, journal }
    }

    /// The next things that happened, in their order.
    pub(super) async fn expect(&mut self, expected: &[Happened]) {
        for (index, expected) in expected.iter().enumerate() {
            let next = timeout(DEADLINE, self.journal.recv()).await;
            let next = next.unwrap_or_else(|_| panic!("{expected:?} ({index}) does not happen"));
            assert_eq!(next, Some(*expected), "as number {index}");
        }
    }

    /// Kills the first running child of a kind; says whether there was one.
    pub(super) async fn kill(&self, kind: ActorKind) -> bool {
        let (done, killed) = oneshot::channel();
        self.supervisor.cast(SupervisorMessage::Kill(kind, done)).expect("the supervisor is there");
        timeout(DEADLINE, killed).await.expect("it answers in time").expect("it answers")
    }

    /// Stops the supervisor and its children, in order.
    pub(super) async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        self.supervisor.cast(SupervisorMessage::Stop(done)).expect("the supervisor is there");
        timeout(DEADLINE, stopped).await.expect("it stops in time").expect("it says so");
    }

    /// Waits until so many exits of this kind and reason are counted.
    pub(super) async fn expect_exits(&self, kind: ActorKind, reason: ExitReason, count: u64) {
        until(|| self.metrics.exits_of(kind, reason) == count).await;
    }

    /// Exits of a kind, whatever their reason.
    pub(super) fn exits(&self, kind: ActorKind) -> u64 {
        use ExitReason::{Done, Failed, Fenced, Killed, Panicked, Passivated, Stopped};
        let reasons = [Done, Stopped, Passivated, Fenced, Killed, Failed, Panicked];
        reasons.iter().map(|reason| self.metrics.exits_of(kind, *reason)).sum()
    }
}

/// Lets everybody run until `holds`.
pub(super) async fn until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, waiting).await.expect("what must come true comes true in time");
}
