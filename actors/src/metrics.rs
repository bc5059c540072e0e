//! What operators see: every family the actors feed. Labels hold kinds and reasons, never ids (PRIVATE).

use colloquy_protocol::rest::routes::RouteLevel;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::supervision::{ActorKind, Depth, ExitReason, Meters};
#[cfg(feature = "mutations")]
use crate::supervision::{Doom, Dooms};

/// Labels of one kind of actor.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    kind: ActorKind,
}

/// Labels of one way of ending.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ExitLabel {
    kind: ActorKind,
    reason: ExitReason,
}

/// Labels of a close code.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CloseLabel {
    code: u16,
}

/// The invariants that a running node can see broken. Each must stay at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Invariant {
    /// Sequence numbers are 1..n without hole or repeat.
    Order,
    /// What is in the log can be read from it, without a hole.
    NoLoss,
}

/// Labels of an invariant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct InvariantLabel {
    invariant: Invariant,
}

/// What came of taking a turn to an agent, or of the turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum TurnOutcome {
    /// The agent has taken it.
    Taken,
    /// The agent has answered it.
    Answered,
    /// The agent did not answer, or said that it cannot take it now.
    Failed,
    /// The agent does not want it.
    Refused,
    /// It was given up, and is among the dead letters.
    Dead,
    /// The store did not say what is next.
    Unread,
    /// There was nothing to take.
    Nothing,
}

/// What came of telling a message to whoever is told of all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum FeedOutcome {
    /// It was taken.
    Told,
    /// Nothing was heard, or that it cannot be taken now.
    Failed,
    /// It is not wanted.
    Refused,
    /// It was given up, and is among the dead letters.
    Dead,
    /// The store did not say what is next.
    Unread,
}

/// Labels of what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FeedLabels {
    outcome: FeedOutcome,
}

/// Labels of what came of a turn.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TurnLabel {
    outcome: TurnOutcome,
}

/// Where it was found out what somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum IntentSource {
    /// It was known already.
    Cache,
    /// A classifier elsewhere said it.
    Outside,
    /// The built-in one did.
    BuiltIn,
}

/// Labels of where.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct IntentLabels {
    source: IntentSource,
}

/// Labels of what decided about a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RouteLabels {
    level: &'static str,
}

/// What mailboxes are measured by, kind by kind.
#[derive(Debug)]
struct Mailboxes {
    depth: Family<KindLabel, Gauge>,
    peak: Family<KindLabel, Gauge>,
    capacity: Family<KindLabel, Gauge>,
    refused: Family<KindLabel, Counter>,
    wait: Family<KindLabel, Histogram, fn() -> Histogram>,
    handle: Family<KindLabel, Histogram, fn() -> Histogram>,
}

impl Default for Mailboxes {
    fn default() -> Self {
        Self {
            depth: Family::default(),
            peak: Family::default(),
            capacity: Family::default(),
            refused: Family::default(),
            wait: Family::new_with_constructor(Meters::seconds),
            handle: Family::new_with_constructor(Meters::seconds),
        }
    }
}

impl Mailboxes {
    fn describe(&self, r: &mut Registry) {
        r.register("mailbox_depth", "Letters waiting in mailboxes", self.depth.clone());
        r.register(
            "mailbox_peak_depth",
            "The most letters that have waited in one mailbox",
            self.peak.clone(),
        );
        r.register(
            "mailbox_capacity",
            "The most letters that may wait in one mailbox",
            self.capacity.clone(),
        );
        r.register("mailbox_refused", "Messages refused by a full mailbox", self.refused.clone());
        let wait = "From sending a letter until its actor took it up; one of sixteen letters";
        r.register_with_unit("mailbox_wait", wait, Unit::Seconds, self.wait.clone());
        let handle = "From taking a letter up until its actor was done with it; one of sixteen letters";
        r.register_with_unit("handle", handle, Unit::Seconds, self.handle.clone());
    }

    fn of(&self, kind: ActorKind) -> Meters {
        let label = KindLabel { kind };
        Meters {
            depth: self.depth.get_or_create_owned(&label),
            peak: self.peak.get_or_create_owned(&label),
            capacity: self.capacity.get_or_create_owned(&label),
            refused: self.refused.get_or_create_owned(&label),
            wait_seconds: self.wait.get_or_create_owned(&label),
            handle_seconds: self.handle.get_or_create_owned(&label),
        }
    }
}

/// What supervision has seen of one kind of actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindFigures {
    /// The kind.
    pub kind: ActorKind,
    /// Started again by a supervisor.
    pub restarts: u64,
    /// Ended, by [`ExitReason::ALL`].
    pub exits: [u64; ExitReason::ALL.len()],
    /// The most letters that have waited in one mailbox.
    pub peak_depth: u64,
    /// The most that may, but for what something else bounds.
    pub capacity: u64,
}

/// Every metric of the actors.
#[derive(Debug)]
pub struct Metrics {
    exits: Family<ExitLabel, Counter>,
    restarts: Family<KindLabel, Counter>,
    alive: Family<KindLabel, Gauge>,
    mailboxes: Mailboxes,
    #[cfg(feature = "mutations")]
    pub(crate) dooms: Dooms,
    violations: Family<InvariantLabel, Counter>,
    closes: Family<CloseLabel, Counter>,
    turns: Family<TurnLabel, Counter>,
    fed: Family<FeedLabels, Counter>,
    /// Conversations with messages that are to be told, as far as this pod knows.
    pub feed_conversations: Gauge,
    routes: Family<RouteLabels, Counter>,
    intents: Family<IntentLabels, Counter>,
    /// Frames read from clients.
    pub frames_received: Counter,
    /// Frames handed to sockets.
    pub frames_sent: Counter,
    /// Frames refused with an `error` frame.
    pub frames_refused: Counter,
    /// Messages made durable.
    pub messages_appended: Counter,
    /// Retries answered with their first message (ONCE).
    pub duplicates: Counter,
    /// Messages in one commit.
    pub commit_messages: Histogram,
    /// From handing a commit to the store until its answer.
    pub commit_seconds: Histogram,
    /// Pods that run, this one among them, as it sees them.
    pub pods: Gauge,
    /// Times that all sessions were told to look for what was lost between pods.
    pub sweeps: Counter,
    /// From a message's arrival at its owner until its ack leaves the owner.
    pub owner_seconds: Histogram,
    /// Links to other pods that stand.
    pub bridge_links: Gauge,
    /// Frames handed to links.
    pub bridge_frames_sent: Counter,
    /// Frames that came over links.
    pub bridge_frames_received: Counter,
    /// Frames for which a link had no room.
    pub bridge_refused: Counter,
    /// Links that stand again.
    pub bridge_reconnects: Counter,
}

impl Metrics {
    /// Registers every family under `registry`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.000_05, 2.0, 18));
        let metrics = Self {
            exits: Family::default(),
            restarts: Family::default(),
            alive: Family::default(),
            mailboxes: Mailboxes::default(),
            #[cfg(feature = "mutations")]
            dooms: Dooms::default(),
            violations: Family::default(),
            closes: Family::default(),
            turns: Family::default(),
            fed: Family::default(),
            feed_conversations: Gauge::default(),
            routes: Family::default(),
            intents: Family::default(),
            frames_received: Counter::default(),
            frames_sent: Counter::default(),
            frames_refused: Counter::default(),
            messages_appended: Counter::default(),
            duplicates: Counter::default(),
            commit_messages: Histogram::new(exponential_buckets(1.0, 2.0, 14)),
            commit_seconds: seconds(),
            pods: Gauge::default(),
            sweeps: Counter::default(),
            owner_seconds: seconds(),
            bridge_links: Gauge::default(),
            bridge_frames_sent: Counter::default(),
            bridge_frames_received: Counter::default(),
            bridge_refused: Counter::default(),
            bridge_reconnects: Counter::default(),
        };
        metrics.describe(registry);
        metrics.describe_bridge(registry);
        for kind in ActorKind::ALL {
            drop(metrics.alive.get_or_create(&KindLabel { kind: *kind }));
            drop(metrics.restarts.get_or_create(&KindLabel { kind: *kind }));
        }
        for invariant in [Invariant::Order, Invariant::NoLoss] {
            drop(metrics.violations.get_or_create(&InvariantLabel { invariant }));
        }
        metrics
    }

    fn describe(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("colloquy");
        r.register("actor_exits", "Actors that ended, by kind and reason", self.exits.clone());
        r.register("actor_restarts", "Actors started again by a supervisor", self.restarts.clone());
        r.register("actors", "Actors alive", self.alive.clone());
        self.mailboxes.describe(r);
        r.register("invariant_violations", "Broken invariants; must be 0", self.violations.clone());
        r.register("session_closes", "Sockets closed by the server, by code", self.closes.clone());
        r.register("agent_turns", "Turns taken to agents, by what came of it", self.turns.clone());
        let fed = "Messages told to whoever is told of all of them, by what came of it";
        r.register("feed_messages", fed, self.fed.clone());
        let waiting = "Conversations with messages that are to be told";
        r.register("feed_conversations", waiting, self.feed_conversations.clone());
        r.register("routes", "Messages routed to agents, by what has decided", self.routes.clone());
        let intents = "Texts of which was found out what they want, by where";
        r.register("intents", intents, self.intents.clone());
        r.register("frames_received", "Frames read from clients", self.frames_received.clone());
        r.register("frames_sent", "Frames handed to sockets", self.frames_sent.clone());
        r.register("frames_refused", "Frames answered with an error", self.frames_refused.clone());
        r.register("messages_appended", "Messages made durable", self.messages_appended.clone());
        r.register("duplicates", "Retries answered with their first message", self.duplicates.clone());
        r.register("commit_messages", "Messages in one commit", self.commit_messages.clone());
        r.register("pods", "Pods that run, as this one sees them", self.pods.clone());
        r.register("sweeps", "Searches for what was lost between pods", self.sweeps.clone());
        r.register_with_unit(
            "commit",
            "From handing a commit to the store until its answer",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
        r.register_with_unit(
            "owner",
            "From a message's arrival at its owner until its ack",
            Unit::Seconds,
            self.owner_seconds.clone(),
        );
    }

    fn describe_bridge(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("colloquy_bridge");
        r.register("links", "Links to other pods that stand", self.bridge_links.clone());
        r.register("frames_sent", "Frames handed to links", self.bridge_frames_sent.clone());
        r.register("frames_received", "Frames that came over links", self.bridge_frames_received.clone());
        r.register("refused", "Frames for which a link had no room", self.bridge_refused.clone());
        r.register("reconnects", "Links that stand again", self.bridge_reconnects.clone());
    }

    /// Counts an exit.
    pub fn actor_exited(&self, kind: ActorKind, reason: ExitReason) {
        self.exits.get_or_create(&ExitLabel { kind, reason }).inc();
        self.alive.get_or_create(&KindLabel { kind }).dec();
    }

    /// Counts a start.
    pub fn actor_started(&self, kind: ActorKind) {
        self.alive.get_or_create(&KindLabel { kind }).inc();
    }

    /// Counts a restart.
    pub fn actor_restarted(&self, kind: ActorKind) {
        self.restarts.get_or_create(&KindLabel { kind }).inc();
    }

    /// Counts what came of a turn.
    pub(crate) fn turn(&self, outcome: TurnOutcome) {
        self.turns.get_or_create(&TurnLabel { outcome }).inc();
    }

    /// Counts what came of telling a message.
    pub(crate) fn fed(&self, outcome: FeedOutcome) {
        self.fed.get_or_create(&FeedLabels { outcome }).inc();
    }

    /// Counts a decision.
    pub(crate) fn routed(&self, level: RouteLevel) {
        self.routes.get_or_create(&RouteLabels { level: level.as_str() }).inc();
    }

    /// Counts where it was found out what a text wants.
    pub(crate) fn intent_found(&self, source: IntentSource) {
        self.intents.get_or_create(&IntentLabels { source }).inc();
    }

    /// Exits so far of one kind and reason.
    #[must_use]
    pub fn exits_of(&self, kind: ActorKind, reason: ExitReason) -> u64 {
        self.exits.get_or_create(&ExitLabel { kind, reason }).get()
    }

    /// Actors of a kind alive now.
    #[must_use]
    pub fn alive_of(&self, kind: ActorKind) -> i64 {
        self.alive.get_or_create(&KindLabel { kind }).get()
    }

    /// Broken invariants so far.
    #[must_use]
    pub fn violations(&self) -> Vec<(Invariant, u64)> {
        let count =
            |invariant| (invariant, self.violations.get_or_create(&InvariantLabel { invariant }).get());
        [Invariant::Order, Invariant::NoLoss].map(count).to_vec()
    }

    /// This befalls the next actor of a kind that takes something up, or nothing more does.
    #[cfg(feature = "mutations")]
    pub fn doom(&self, kind: ActorKind, doom: Option<Doom>) {
        self.dooms.set(kind, doom);
    }

    /// What supervision has seen, kind by kind.
    #[must_use]
    pub fn figures(&self) -> Vec<KindFigures> {
        let of_kind = |kind: &ActorKind| {
            let kind = *kind;
            let meters = self.mailboxes.of(kind);
            KindFigures {
                kind,
                restarts: self.restarts.get_or_create(&KindLabel { kind }).get(),
                exits: ExitReason::ALL.map(|reason| self.exits_of(kind, reason)),
                peak_depth: u64::try_from(meters.peak.get()).unwrap_or(0),
                capacity: u64::try_from(meters.capacity.get()).unwrap_or(0),
            }
        };
        ActorKind::ALL.iter().map(of_kind).collect()
    }

    /// A new mailbox's depth, counted with its kind's.
    #[must_use]
    pub fn depth_of(&self, kind: ActorKind) -> Depth {
        Depth::counted_in(self.mailboxes.of(kind))
    }

    /// Counts a broken invariant, and says so in the log.
    pub fn violated(&self, invariant: Invariant) {
        tracing::error!(?invariant, "invariant violated");
        self.violations.get_or_create(&InvariantLabel { invariant }).inc();
    }

    /// Counts a socket closed by the server.
    pub fn closed(&self, code: u16) {
        self.closes.get_or_create(&CloseLabel { code }).inc();
    }
}
