//! The node: the whole supervision tree, started in one function.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use colloquy_accounts::access_token::TokenIssuer;
use colloquy_accounts::authenticate::Authenticator;
use colloquy_accounts::hooks::AccountHooks;
use colloquy_protocol::close::CloseCode;
use colloquy_protocol::ids::{ConversationId, DeviceId, LoginId, UserId};
use colloquy_storage::ambient::{Clock, Entropy};
use colloquy_storage::ports::{Conversations, Store};
use ractor::{Actor, ActorRef, SpawnErr};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::conversation::{
    ConversationDirectory, ConversationIndex, ConversationMessage, ConversationServices, DirectoryArguments,
    Doorway,
};
use crate::metrics::Metrics;
use crate::presence::{PresenceTracker, TrackerArguments, Trackers};
use crate::session::{
    Drain, LiveSessions, Reach, SessionMessage, SessionServices, SessionSupervisor,
    SessionSupervisorArguments,
};
use crate::store_writer::{StoreWriter, StoreWriterArguments, StoreWriters};
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
    metrics: Arc<Metrics>,
}

impl Node {
    /// Starts the tree, top-down. [`Self::stop`] stops it bottom-up.
    ///
    /// ```text
    /// node                          restart budget spent -> the process exits non-zero
    /// ├─ store writers              group commit; cursors
    /// ├─ presence trackers          sharded by user; rebuilt by sessions announcing again
    /// ├─ conversation directory     id -> actor; passivates the idle
    /// │   └─ conversation           transient; started again from the log under a new epoch
    /// └─ session supervisor
    ///     └─ session                temporary; its client reconnects and resumes
    /// ```
    ///
    /// # Errors
    /// If a child does not start.
    pub async fn start(arguments: NodeArguments) -> Result<Self, StartFailed> {
        let NodeArguments { store, authenticator, issuer, metrics, clock, entropy, options, hooks } =
            arguments;
        let (sessions, conversations) = (LiveSessions::default(), ConversationIndex::default());
        let writers = StoreWriters::new(options.store_writers);
        let trackers = Trackers::new(options.presence_trackers);
        let supervisor = Address::default();
        hooks.install(&sessions, &conversations, &store);

        let mut children = Vec::new();
        for address in writers.all() {
            let (log, cursors, metrics) = (store.log.clone(), store.cursors.clone(), Arc::clone(&metrics));
            let address = address.clone();
            let arguments = StoreWriterArguments { log, cursors, metrics };
            children.push(ChildSpec::permanent(ActorKind::StoreWriter, move |parent| {
                StoreWriter::start(address.clone(), arguments.clone(), parent)
            }));
        }
        for share in 0..trackers.count() {
            let (trackers, sessions, accounts) = (trackers.clone(), sessions.clone(), store.accounts.clone());
            let arguments = TrackerArguments {
                share,
                trackers,
                sessions,
                accounts,
                clock,
                metrics: Arc::clone(&metrics),
            };
            children.push(ChildSpec::permanent(ActorKind::PresenceTracker, move |parent| {
                PresenceTracker::start(arguments.clone(), parent)
            }));
        }
        let doorway = Doorway::new(
            conversations.clone(),
            store.conversations.clone(),
            store.accounts.clone(),
            clock,
            None,
        );
        let arguments = DirectoryArguments {
            index: conversations.clone(),
            services: ConversationServices {
                writers,
                log: store.log.clone(),
                cursors: store.cursors.clone(),
                keys: store.keys.clone(),
                reach: Reach::new(sessions.clone(), None),
                metrics: Arc::clone(&metrics),
                clock,
                entropy: entropy.clone(),
            },
        };
        children.push(ChildSpec::permanent(ActorKind::ConversationDirectory, move |parent| {
            ConversationDirectory::start(arguments.clone(), parent)
        }));
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
            metrics: Arc::clone(&metrics),
            clock,
            entropy: entropy.clone(),
            supervisor,
            heartbeat_interval: options.heartbeat_interval,
            drain: Drain::new(entropy),
        });
        Ok(Self { root, root_ended, services, conversations, metrics })
    }

    /// What a new session needs.
    #[must_use]
    pub fn session_services(&self) -> Arc<SessionServices> {
        Arc::clone(&self.services)
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

/// Tells a node about revoked log-ins and changed devices. Made before the node, because the account services that
/// call it are, and installed when the node starts.
#[derive(Clone, Default)]
pub struct NodeHooks(Arc<std::sync::OnceLock<Hooked>>);

struct Hooked {
    sessions: LiveSessions,
    conversations: ConversationIndex,
    directory: Arc<dyn Conversations>,
}

impl NodeHooks {
    fn install(&self, sessions: &LiveSessions, conversations: &ConversationIndex, store: &Store) {
        let (sessions, conversations) = (sessions.clone(), conversations.clone());
        let hooked = Hooked { sessions, conversations, directory: store.conversations.clone() };
        assert!(self.0.set(hooked).is_ok(), "hooks belong to one node");
    }
}

/// Conversations read at once while telling them that a participant's devices have changed.
const WALK_PAGE: usize = 500;

#[async_trait]
impl AccountHooks for NodeHooks {
    async fn login_revoked(&self, user_id: UserId, login_id: LoginId) {
        if let Some(node) = self.0.get() {
            node.sessions.close_login(user_id, login_id);
        }
    }

    async fn devices_changed(&self, user_id: UserId, _version: u64, removed: Option<DeviceId>) {
        let Some(node) = self.0.get() else { return };
        if let Some(device_id) = removed {
            node.sessions.close_device(user_id, &device_id);
        }
        let mut after: Option<ConversationId> = None;
        // A page that cannot be read leaves conversations with an old list. They read it again before they refuse
        // anything, and one that is left out of an envelope meanwhile is a device its sender could not know of.
        while let Ok(page) = node.directory.walk(user_id, after, WALK_PAGE).await {
            for at_end in &page {
                let conversation_id = at_end.conversation.conversation_id;
                node.conversations.tell_awake(conversation_id, ConversationMessage::DevicesChanged(user_id));
            }
            match page.last() {
                Some(last) if page.len() == WALK_PAGE => after = Some(last.conversation.conversation_id),
                _ => return,
            }
        }
    }
}
