//! The node: the whole supervision tree, started in one function.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use colloquy_accounts::access_token::TokenIssuer;
use colloquy_accounts::authenticate::Authenticator;
use colloquy_accounts::hooks::AccountHooks;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::close::CloseCode;
use colloquy_protocol::ids::{DeviceId, LoginId, UserId};
use colloquy_storage::ambient::{Clock, Entropy};
use colloquy_storage::ports::Store;
use ractor::{Actor, ActorRef, SpawnErr};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::account_changes::AccountChanges;
use crate::agent::{
    ANNOUNCEMENTS_MAX, AgentIndex, AgentRouter, AgentRouterArguments, AgentServices, Courier, Routes, Turns,
};
use crate::cluster::{Herald, Membership, Notice, Pod, PodArguments, Shared};
use crate::conversation::{
    ConversationDirectory, ConversationIndex, ConversationServices, DirectoryArguments, Doorway,
};
use crate::feed::{Feed, FeedActor, FeedArguments, Publisher};
use crate::metrics::Metrics;
use crate::outbox::Sinks;
use crate::presence::{Elsewhere, PresenceTracker, TrackerArguments, Trackers};
use crate::session::{
    Drain, LiveSessions, Reach, SessionMessage, SessionServices, SessionSupervisor,
    SessionSupervisorArguments,
};
use crate::store_writer::{StoreWriter, StoreWriterAddress, StoreWriterArguments, StoreWriters};
use crate::supervision::{
    ActorKind, Address, ChildSpec, ExitReason, RestartIntensity, Supervisor, SupervisorArguments,
    SupervisorMessage,
};

/// How the tree is laid out and how it behaves.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Store writers; more help a store with many disks or connections.
    pub store_writers: usize,
    /// Presence trackers.
    pub presence_trackers: usize,
    /// How often a client is told to send `heartbeat`.
    pub heartbeat_interval: Duration,
    /// The restart budget of the root.
    pub restart_intensity: RestartIntensity,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            store_writers: 1,
            presence_trackers: 4,
            heartbeat_interval: colloquy_protocol::limits::HEARTBEAT_INTERVAL,
            restart_intensity: RestartIntensity::default(),
        }
    }
}

/// What a node is started with.
pub struct NodeArguments {
    /// Where truth is kept.
    pub store: Store,
    /// Who is asking.
    pub authenticator: Authenticator,
    /// Tokens for clients that have to move.
    pub issuer: Arc<TokenIssuer>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What time it is.
    pub clock: Clock,
    /// Ids and jitter.
    pub entropy: Entropy,
    /// Layout.
    pub options: NodeOptions,
    /// Finds the node for hooks made before it.
    pub hooks: NodeHooks,
    /// Makes it one pod of several.
    pub pod: Option<PodArguments>,
    /// Where events are taken: agents', and the feed's.
    pub sinks: Arc<dyn Sinks>,
    /// Which agent a message goes to.
    pub routes: Routes,
    /// All messages that were numbered since are told to whoever is to be told of them. None: nobody is.
    pub feed_since: Option<UnixMillis>,
}

/// A child of the root did not start.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StartFailed(#[from] SpawnErr);

/// A running node.
pub struct Node {
    root: ActorRef<SupervisorMessage>,
    root_ended: JoinHandle<()>,
    services: Arc<SessionServices>,
    conversations: ConversationIndex,
    membership: Option<Membership>,
    turns: Turns,
    agents: AgentIndex,
    metrics: Arc<Metrics>,
}

/// How long a starting pod waits for its links to the others.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a pod that stops may take to hand its conversations over.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked whether it has.
const HANDOVER_POLL: Duration = Duration::from_millis(25);

impl Node {
    /// Starts the tree, top-down. [`Self::stop`] stops it bottom-up.
    ///
    /// ```text
    /// node                          restart budget spent -> the process exits non-zero
    /// ├─ store writers              group commit; cursors
    /// ├─ presence trackers          sharded by user; rebuilt by sessions announcing again
    /// ├─ sweeper, registrar, herald of several pods: what is told to the others
    /// ├─ feed                       has all messages told to whoever is to be, if anybody is
    /// ├─ agent router               which agents there are
    /// │   └─ agent                  takes turns to its sink; looks through its conversations when it starts
    /// ├─ conversation directory     id -> actor; passivates the idle
    /// │   └─ conversation           transient; started again from the log under a new epoch
    /// ├─ reception shards, bridge, listener, membership    of several pods: what the others tell
    /// └─ session supervisor
    ///     └─ session                temporary; its client reconnects and resumes
    /// ```
    ///
    /// # Errors
    /// If a child does not start.
    pub async fn start(arguments: NodeArguments) -> Result<Self, StartFailed> {
        let NodeArguments {
            store,
            authenticator,
            issuer,
            metrics,
            clock,
            entropy,
            options,
            hooks,
            pod,
            sinks,
            routes,
            feed_since,
        } = arguments;
        let (sessions, conversations) = (LiveSessions::default(), ConversationIndex::default());
        let writers = StoreWriters::new(options.store_writers);
        let trackers = Trackers::new(options.presence_trackers);
        let (supervisor, drain) = (Address::default(), Drain::new(entropy.clone()));
        let pod = pod.map(Pod::new);
        let doorway = |cluster| {
            let (index, directory) = (conversations.clone(), store.conversations.clone());
            Doorway::new(index, directory, store.accounts.clone(), clock, cluster)
        };
        let changes =
            AccountChanges::new(sessions.clone(), conversations.clone(), store.conversations.clone());
        let shared = Shared {
            sessions: sessions.clone(),
            conversations: conversations.clone(),
            doorway: doorway(None),
            trackers: trackers.clone(),
            changes: changes.clone(),
            drain: drain.clone(),
            clock,
            entropy: entropy.clone(),
            metrics: Arc::clone(&metrics),
        };
        hooks.install(changes, pod.as_ref().map(|pod| pod.herald.clone()));

        let mut children = store_writers(&writers, &store, &metrics);
        let elsewhere = pod.as_ref().map(Pod::elsewhere);
        children.extend(presence_trackers(&shared, &store, elsewhere.as_ref()));
        children.extend(pod.iter().flat_map(|pod| pod.told_by_conversations(&shared)));
        let cluster = pod.as_ref().map(|pod| pod.cluster.clone());
        let feed = feed_since.map_or_else(Feed::default, |_| Feed::new());
        children.extend(feed_since.map(|since| {
            let publisher = Publisher {
                log: store.log.clone(),
                outbox: store.outbox.clone(),
                untold: store.untold.clone(),
                cluster: cluster.clone(),
                sinks: Arc::clone(&sinks),
                metrics: Arc::clone(&metrics),
                clock,
                since,
            };
            let arguments = FeedArguments { feed: feed.clone(), publisher, entropy: entropy.clone() };
            ChildSpec::permanent(ActorKind::Feed, move |parent| FeedActor::start(arguments.clone(), parent))
        }));
        let agents = AgentIndex::default();
        let arguments = AgentRouterArguments {
            agents: store.agents.clone(),
            index: agents.clone(),
            routes,
            services: AgentServices {
                courier: Courier {
                    log: store.log.clone(),
                    cursors: store.cursors.clone(),
                    dead_letters: store.dead_letters.clone(),
                    doorway: doorway(cluster.clone()),
                    cluster: cluster.clone(),
                    sinks,
                    clock,
                    announcing: Arc::new(Semaphore::new(ANNOUNCEMENTS_MAX)),
                },
                directory: store.conversations.clone(),
                metrics: Arc::clone(&metrics),
                entropy: entropy.clone(),
            },
        };
        children.push(ChildSpec::permanent(ActorKind::AgentRouter, move |parent| {
            AgentRouter::start(arguments.clone(), parent)
        }));
        let arguments = DirectoryArguments {
            index: conversations.clone(),
            services: ConversationServices {
                writers,
                log: store.log.clone(),
                cursors: store.cursors.clone(),
                keys: store.keys.clone(),
                reach: Reach::new(sessions.clone(), pod.as_ref().map(|pod| pod.herald.clone())),
                agents: agents.clone(),
                feed,
                metrics: Arc::clone(&metrics),
                clock,
                entropy: entropy.clone(),
            },
            cluster: cluster.clone(),
        };
        children.push(ChildSpec::permanent(ActorKind::ConversationDirectory, move |parent| {
            ConversationDirectory::start(arguments.clone(), parent)
        }));
        children.extend(pod.iter().flat_map(|pod| pod.telling_conversations(&shared)));
        let arguments = SessionSupervisorArguments {
            address: supervisor.clone(),
            sessions: sessions.clone(),
            metrics: Arc::clone(&metrics),
        };
        children.push(ChildSpec::permanent(ActorKind::SessionSupervisor, move |parent| {
            SessionSupervisor::start(arguments.clone(), parent)
        }));

        let intensity = options.restart_intensity;
        let arguments = SupervisorArguments { children, intensity, metrics: Arc::clone(&metrics) };
        let (root, root_ended) = Actor::spawn(None, Supervisor, arguments).await?;
        metrics.actor_started(ActorKind::Node);
        let doorway = doorway(cluster);
        let turns = Turns::new(doorway.clone(), store.log.clone(), clock, entropy.clone());
        let services = Arc::new(SessionServices {
            authenticator,
            issuer,
            sessions,
            doorway,
            trackers,
            directory: store.conversations,
            log: store.log,
            cursors: store.cursors,
            keys: store.keys,
            accounts: store.accounts,
            agents: store.agents,
            metrics: Arc::clone(&metrics),
            clock,
            entropy,
            supervisor,
            heartbeat_interval: options.heartbeat_interval,
            drain,
            registrar: pod.as_ref().map(|pod| pod.registrar.clone()),
        });
        let membership = pod.map(|pod| pod.membership);
        Ok(Self { root, root_ended, services, conversations, membership, turns, agents, metrics })
    }

    /// Waits until the other pods are known and linked; no longer than [`SETTLE_TIMEOUT`]: one that cannot be reached
    /// keeps nobody from their messages.
    pub async fn settled(&self) {
        if let Some(membership) = &self.membership
            && timeout(SETTLE_TIMEOUT, membership.settled()).await.is_err()
        {
            tracing::warn!("going on without links to all other pods");
        }
    }

    /// Hands conversations over to the other pods, as far as there are any and as [`HANDOVER_TIMEOUT`] allows (DRAIN).
    /// Sessions stay, and reach them there.
    pub async fn hand_over(&self) {
        let Some(membership) = &self.membership else { return };
        let deadline = Instant::now() + HANDOVER_TIMEOUT;
        if timeout(HANDOVER_TIMEOUT, membership.drain()).await.is_err() {
            tracing::warn!("the other pods could not be told of the drain");
        }
        while !self.conversations.is_empty() && Instant::now() < deadline && membership.has_others() {
            sleep(HANDOVER_POLL).await;
        }
    }

    /// What a new session needs.
    #[must_use]
    pub fn session_services(&self) -> Arc<SessionServices> {
        Arc::clone(&self.services)
    }

    /// Takes what agents answer.
    #[must_use]
    pub fn turns(&self) -> &Turns {
        &self.turns
    }

    /// Waits for the root to end by itself: its restart budget is spent, and the process should exit.
    pub async fn failed(&mut self) {
        // An error here is the panic of the root's own task, which is an end as well.
        let _ = (&mut self.root_ended).await;
        self.metrics.actor_exited(ActorKind::Node, ExitReason::Failed);
    }

    /// Asks every client to go elsewhere, each in a slot of its own within `spread` (DRAIN).
    pub fn migrate(&self, new_endpoint: &str, spread: Duration) {
        // Begun first: a session that opens from now on finds out by itself.
        self.services.drain.begin(new_endpoint, spread);
        self.services.sessions.for_each(|session| session.answer(SessionMessage::Migrate));
    }

    /// Closes every session that is still open.
    pub fn close_sessions(&self, code: CloseCode) {
        self.services.sessions.for_each(|session| session.close(code));
    }

    /// How many sessions are open.
    #[must_use]
    pub fn open_sessions(&self) -> usize {
        self.services.sessions.len()
    }

    /// Stops the tree, last child first: sessions, conversations, trackers, writers.
    pub async fn stop(self) {
        let (done, stopped) = oneshot::channel();
        if self.root.cast(SupervisorMessage::Stop(done)).is_ok() {
            // Fails only if the root has ended already.
            let _ = stopped.await;
        }
        let _ = self.root_ended.await;
        self.metrics.actor_exited(ActorKind::Node, ExitReason::Stopped);
    }

    /// Kills one actor of a kind, as a fault would: for chaos tests. Says whether there was one.
    pub async fn kill_one(&self, kind: ActorKind) -> bool {
        match kind {
            ActorKind::Conversation => {
                let victim = self.conversations.any_awake();
                victim.inspect(|cell| cell.kill()).is_some()
            }
            ActorKind::Agent => self.agents.any().inspect(|cell| cell.kill()).is_some(),
            ActorKind::Session => {
                let mut victim = None;
                self.services.sessions.for_each(|session| victim = Some(session.cell()));
                victim.inspect(|cell| cell.kill()).is_some()
            }
            kind => {
                let (done, killed) = oneshot::channel();
                let asked = self.root.cast(SupervisorMessage::Kill(kind, done)).is_ok();
                asked && killed.await.unwrap_or(false)
            }
        }
    }

    /// What has been counted.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }
}

fn store_writers(writers: &StoreWriters, store: &Store, metrics: &Arc<Metrics>) -> Vec<ChildSpec> {
    let writer = |address: &StoreWriterAddress| {
        let (log, cursors, metrics) = (store.log.clone(), store.cursors.clone(), Arc::clone(metrics));
        let (address, arguments) = (address.clone(), StoreWriterArguments { log, cursors, metrics });
        ChildSpec::permanent(ActorKind::StoreWriter, move |parent| {
            StoreWriter::start(address.clone(), arguments.clone(), parent)
        })
    };
    writers.all().iter().map(writer).collect()
}

fn presence_trackers(shared: &Shared, store: &Store, elsewhere: Option<&Elsewhere>) -> Vec<ChildSpec> {
    let tracker = |share| {
        let arguments = TrackerArguments {
            share,
            trackers: shared.trackers.clone(),
            sessions: shared.sessions.clone(),
            accounts: store.accounts.clone(),
            elsewhere: elsewhere.cloned(),
            drain: shared.drain.clone(),
            clock: shared.clock,
            metrics: Arc::clone(&shared.metrics),
        };
        ChildSpec::permanent(ActorKind::PresenceTracker, move |parent| {
            PresenceTracker::start(arguments.clone(), parent)
        })
    };
    (0..shared.trackers.count()).map(tracker).collect()
}

/// Tells a node, and through it all pods, about revoked log-ins and changed devices. Made before the node, because the
/// account services that call it are, and installed when the node starts.
#[derive(Clone, Default)]
pub struct NodeHooks(Arc<std::sync::OnceLock<Hooked>>);

struct Hooked {
    changes: AccountChanges,
    herald: Option<Herald>,
}

impl NodeHooks {
    fn install(&self, changes: AccountChanges, herald: Option<Herald>) {
        assert!(self.0.set(Hooked { changes, herald }).is_ok(), "hooks belong to one node");
    }
}

#[async_trait]
impl AccountHooks for NodeHooks {
    async fn login_revoked(&self, user_id: UserId, login_id: LoginId) {
        let Some(Hooked { changes, herald }) = self.0.get() else { return };
        changes.login_revoked(user_id, login_id);
        if let Some(herald) = herald {
            herald.notify(Notice::LoginRevoked(user_id, login_id));
        }
    }

    async fn devices_changed(&self, user_id: UserId, _version: u64, removed: Option<DeviceId>) {
        let Some(Hooked { changes, herald }) = self.0.get() else { return };
        changes.device_removed(user_id, removed.as_ref());
        if let Some(herald) = herald {
            herald.notify(Notice::DevicesChanged(user_id, removed));
        }
        changes.tell_conversations(user_id).await;
    }
}
