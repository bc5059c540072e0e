//! A pod: what makes a node one of several, as children of its tree.

use std::sync::Arc;

use colloquy_storage::ambient::{Clock, Entropy};
use colloquy_storage::ports::live::{LiveDirectory, SignalReceiver};
use tokio::sync::{Mutex, watch};

use super::bridge::{Bridge, BridgeArguments, BridgeOptions, Links};
use super::{
    Cluster, Forwarding, Herald, HeraldActor, HeraldArguments, ListenerActor, ListenerArguments, Membership,
    MembershipActor, MembershipArguments, Reception, ReceptionActor, ReceptionArguments, Registrar,
    RegistrarActor, RegistrarArguments, Sweeper, SweeperActor, SweeperArguments, Switchboard,
};
use crate::account_changes::AccountChanges;
use crate::conversation::{ConversationIndex, Doorway};
use crate::metrics::Metrics;
use crate::presence::{Elsewhere, Trackers};
use crate::session::{Drain, LiveSessions, Reach};
use crate::supervision::{ActorKind, ChildSpec};

/// What makes a node one pod of several.
pub struct PodArguments {
    /// The pod's name, and how it is linked to the others.
    pub bridge: BridgeOptions,
    /// Where the others reach its bridge, `host:port`; where it listens if nothing is said.
    pub advertise: Option<String>,
    /// Who runs, and who is connected where.
    pub live: Arc<dyn LiveDirectory>,
    /// What comes over its bus.
    pub signals: SignalReceiver,
    /// Whether it answers.
    pub health: watch::Receiver<bool>,
}

/// The pod's own parts. Cheap to clone.
#[derive(Clone)]
pub struct Pod {
    bridge: BridgeOptions,
    advertise: Option<String>,
    live: Arc<dyn LiveDirectory>,
    signals: Arc<Mutex<SignalReceiver>>,
    health: watch::Receiver<bool>,
    links: Links,
    forwarding: Forwarding,
    reception: Reception,
    /// The way to conversations of other pods.
    pub cluster: Cluster,
    /// The way to their sessions.
    pub herald: Herald,
    /// Lets them know who is connected here.
    pub registrar: Registrar,
    /// Has sessions look for what was lost.
    pub sweeper: Sweeper,
    /// Who the others are.
    pub membership: Membership,
}

/// What the pod's parts share with the rest of the node.
#[derive(Clone)]
pub struct Shared {
    /// The sessions of this pod.
    pub sessions: LiveSessions,
    /// Its conversations that are awake.
    pub conversations: ConversationIndex,
    /// The way to them, and to no others.
    pub doorway: Doorway,
    /// Who is online.
    pub trackers: Trackers,
    /// Revoked log-ins and changed devices.
    pub changes: AccountChanges,
    /// Whether clients are on their way elsewhere.
    pub drain: Drain,
    /// What time it is.
    pub clock: Clock,
    /// Numbers and jitter.
    pub entropy: Entropy,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl Pod {
    /// Nothing of it runs yet.
    #[must_use]
    pub fn new(arguments: PodArguments) -> Self {
        let PodArguments { bridge, advertise, live, signals, health } = arguments;
        let links = Links::default();
        let forwarding = Forwarding::over(links.clone(), bridge.incarnation);
        let cluster = Cluster::new(bridge.pod_id.clone(), forwarding.clone());
        Self {
            bridge,
            advertise,
            live,
            signals: Arc::new(Mutex::new(signals)),
            health,
            links,
            forwarding,
            reception: Reception::default(),
            cluster,
            herald: Herald::default(),
            registrar: Registrar::default(),
            sweeper: Sweeper::default(),
            membership: Membership::default(),
        }
    }

    /// Where trackers look for users on other pods.
    #[must_use]
    pub fn elsewhere(&self) -> Elsewhere {
        let (cluster, registrar) = (self.cluster.clone(), self.registrar.clone());
        Elsewhere::new(Arc::clone(&self.live), self.health.clone(), cluster, registrar)
    }

    /// What sessions and conversations tell: starts before them, and hears what they have to say until they have ended.
    #[must_use]
    pub fn told_by_conversations(&self, shared: &Shared) -> Vec<ChildSpec> {
        let sweeper = SweeperArguments {
            sweeper: self.sweeper.clone(),
            sessions: shared.sessions.clone(),
            health: self.health.clone(),
            metrics: Arc::clone(&shared.metrics),
        };
        let registrar = RegistrarArguments {
            registrar: self.registrar.clone(),
            pod_id: self.bridge.pod_id.clone(),
            live: Arc::clone(&self.live),
            sessions: shared.sessions.clone(),
            drain: shared.drain.clone(),
            sweeper: self.sweeper.clone(),
            clock: shared.clock,
            metrics: Arc::clone(&shared.metrics),
        };
        let herald = HeraldArguments {
            herald: self.herald.clone(),
            pod_id: self.bridge.pod_id.clone(),
            entropy: shared.entropy.clone(),
            live: Arc::clone(&self.live),
            metrics: Arc::clone(&shared.metrics),
        };
        vec![
            ChildSpec::permanent(ActorKind::Sweeper, move |parent| {
                SweeperActor::start(sweeper.clone(), parent)
            }),
            ChildSpec::permanent(ActorKind::Registrar, move |parent| {
                RegistrarActor::start(registrar.clone(), parent)
            }),
            ChildSpec::permanent(ActorKind::Herald, move |parent| HeraldActor::start(herald.clone(), parent)),
        ]
    }

    /// What tells conversations and sessions: starts once they can be told.
    #[must_use]
    pub fn telling_conversations(&self, shared: &Shared) -> Vec<ChildSpec> {
        let mut children = Vec::new();
        for address in self.reception.shards() {
            let (doorway, metrics) = (shared.doorway.clone(), Arc::clone(&shared.metrics));
            let (address, arguments) = (address.clone(), ReceptionArguments { doorway, metrics });
            children.push(ChildSpec::permanent(ActorKind::Reception, move |parent| {
                ReceptionActor::start(address.clone(), arguments.clone(), parent)
            }));
        }
        let switchboard = Switchboard::new(
            self.links.clone(),
            self.forwarding.clone(),
            self.reception.clone(),
            Arc::new(self.membership.clone()),
        );
        let bridge = BridgeArguments {
            options: self.bridge.clone(),
            links: self.links.clone(),
            events: Arc::new(switchboard),
            metrics: Arc::clone(&shared.metrics),
            entropy: shared.entropy.clone(),
        };
        children.push(ChildSpec::permanent(ActorKind::Bridge, move |parent| {
            Bridge::start(bridge.clone(), parent)
        }));
        let listener = self.listener(shared);
        children.push(ChildSpec::permanent(ActorKind::Listener, move |parent| {
            ListenerActor::start(listener.clone(), parent)
        }));
        let membership = self.membership_of(shared);
        children.push(ChildSpec::permanent(ActorKind::Membership, move |parent| {
            MembershipActor::start(membership.clone(), parent)
        }));
        children
    }

    fn listener(&self, shared: &Shared) -> ListenerArguments {
        ListenerArguments {
            pod_id: self.bridge.pod_id.clone(),
            live: Arc::clone(&self.live),
            signals: Arc::clone(&self.signals),
            reach: Reach::new(shared.sessions.clone(), None),
            trackers: shared.trackers.clone(),
            cluster: self.cluster.clone(),
            membership: self.membership.clone(),
            registrar: self.registrar.clone(),
            sweeper: self.sweeper.clone(),
            changes: shared.changes.clone(),
            metrics: Arc::clone(&shared.metrics),
        }
    }

    fn membership_of(&self, shared: &Shared) -> MembershipArguments {
        MembershipArguments {
            membership: self.membership.clone(),
            pod_id: self.bridge.pod_id.clone(),
            incarnation: self.bridge.incarnation,
            advertise: self.advertise.clone(),
            live: Arc::clone(&self.live),
            links: self.links.clone(),
            cluster: self.cluster.clone(),
            conversations: shared.conversations.clone(),
            herald: self.herald.clone(),
            trackers: shared.trackers.clone(),
            sweeper: self.sweeper.clone(),
            metrics: Arc::clone(&shared.metrics),
        }
    }
}
