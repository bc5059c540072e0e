//! Pods with real conversations over one store, whose log can be held up.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use colloquy_protocol::ids::{ConversationId, IdempotencyKey, MessageId, UserId};
use colloquy_protocol::window::SequenceWindow;
use colloquy_storage::ambient::{Clock, Entropy};
use colloquy_storage::embedded::{EmbeddedOptions, EmbeddedStore};
use colloquy_storage::model::conversation::LogEnd;
use colloquy_storage::model::device::{Device, PublishedKey};
use colloquy_storage::model::live::{Member, PodId};
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::message_log::{Append, Appended, Located, Ownership};
use colloquy_storage::ports::{KeyDirectory, MessageLog, Store, StoreResult};
use prometheus_client::registry::Registry;
use ractor::{Actor, ActorRef};
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::lists::Lists;
use super::stage::{DEADLINE, conversation, identity_key, phone, pod, user};
use crate::agent::AgentIndex;
use crate::cluster::bridge::{Bridge, BridgeArguments, BridgeOptions, Cookie, LinkEvents, Links, Tcp};
use crate::cluster::{
    Cluster, Ended, Forwarding, Neighbourhood, PROTOCOL, Reception, ReceptionActor, ReceptionArguments,
    Switchboard, View,
};
use crate::conversation::{
    ConversationDirectory, ConversationIndex, ConversationServices, DirectoryArguments, Doorway, Submission,
};
use crate::feed::Feed;
use crate::metrics::Metrics;
use crate::session::{LiveSessions, Reach};
use crate::store_writer::{StoreWriter, StoreWriterArguments, StoreWriters};
use crate::supervision::{
    ActorKind, ChildSpec, RestartIntensity, Supervisor, SupervisorArguments, SupervisorMessage,
};

/// A log that can be held up.
pub(in crate::cluster) struct Gate {
    log: Arc<dyn MessageLog>,
    is_open: watch::Sender<bool>,
    /// Appends that wait at it.
    waiting: watch::Sender<usize>,
    /// Times a message was looked for by its key.
    looks: AtomicUsize,
}

impl Gate {
    /// From now on nothing is appended.
    pub(in crate::cluster) fn close(&self) {
        self.is_open.send_replace(false);
    }

    /// What waits is appended.
    pub(in crate::cluster) fn open(&self) {
        self.is_open.send_replace(true);
    }

    /// How often a message was looked for by its key.
    pub(in crate::cluster) fn looks(&self) -> usize {
        self.looks.load(Ordering::Relaxed)
    }

    /// Until so many appends wait.
    pub(in crate::cluster) async fn holds(&self, appends: usize) {
        let mut waiting = self.waiting.subscribe();
        let holding = waiting.wait_for(|waiting| *waiting == appends);
        timeout(DEADLINE, holding).await.expect("they come in time").expect("it is there");
    }
}

#[async_trait]
impl MessageLog for Gate {
    async fn take_ownership(&self, conversation_id: ConversationId) -> StoreResult<Ownership> {
        self.log.take_ownership(conversation_id).await
    }

    async fn append(&self, appends: Vec<Append>) -> StoreResult<Vec<Appended>> {
        self.waiting.send_modify(|waiting| *waiting += 1);
        self.is_open.subscribe().wait_for(|is_open| *is_open).await.expect("it is there");
        self.waiting.send_modify(|waiting| *waiting -= 1);
        self.log.append(appends).await
    }

    async fn read(
        &self,
        conversation_id: ConversationId,
        window: SequenceWindow,
        max_messages: usize,
        max_bytes: usize,
    ) -> StoreResult<Vec<Arc<Message>>> {
        self.log.read(conversation_id, window, max_messages, max_bytes).await
    }

    async fn oldest(&self, conversation_id: ConversationId) -> StoreResult<Option<u64>> {
        self.log.oldest(conversation_id).await
    }

    async fn end(&self, conversation_id: ConversationId) -> StoreResult<LogEnd> {
        self.log.end(conversation_id).await
    }

    async fn locate(&self, message_ids: &[MessageId]) -> StoreResult<Vec<Located>> {
        self.log.locate(message_ids).await
    }

    async fn find_by_key(&self, sender: UserId, key: IdempotencyKey) -> StoreResult<Option<Arc<Message>>> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.log.find_by_key(sender, key).await
    }
}

/// What all pods share.
pub(in crate::cluster) struct World {
    pub(in crate::cluster) store: Store,
    pub(in crate::cluster) gate: Arc<Gate>,
    pub(in crate::cluster) lists: Arc<Lists>,
    /// Names are shared by a whole process: this is the test's own.
    name: &'static str,
    _directory: TempDir,
}

impl World {
    /// Users 1 and 2 have a phone each, and a conversation.
    pub(in crate::cluster) async fn new(name: &'static str) -> Self {
        let directory = TempDir::new().unwrap();
        let embedded = EmbeddedStore::open(directory.path(), &EmbeddedOptions::default()).unwrap();
        let mut store = embedded.store();
        let (is_open, waiting) = (watch::Sender::new(true), watch::Sender::new(0));
        let gate = Arc::new(Gate { log: store.log.clone(), is_open, waiting, looks: AtomicUsize::new(0) });
        store.log = Arc::clone(&gate) as Arc<dyn MessageLog>;
        let lists = Arc::new(Lists::of(Arc::clone(&store.keys)));
        store.keys = Arc::clone(&lists) as Arc<dyn KeyDirectory>;
        for user_id in [user(1), user(2)] {
            let device = Device {
                device_id: phone(),
                platform: "terminal".into(),
                identity_key: identity_key(),
                signing_key: "signing".into(),
                identity_signature: "signature".into(),
                registered_at: 1,
            };
            let fallback =
                PublishedKey { key_id: "f".into(), key: "fallback".into(), signature: "signature".into() };
            store.keys.register(user_id, device, Vec::new(), fallback).await.unwrap();
        }
        store.conversations.open_pair(user(1), user(2), 1).await.unwrap();
        Self { store, gate, lists, name, _directory: directory }
    }

    /// Everything in the log.
    pub(in crate::cluster) async fn log(&self) -> Vec<Arc<Message>> {
        let window = SequenceWindow::new(1, 1000).unwrap();
        self.store.log.read(conversation(), window, 1000, usize::MAX).await.unwrap()
    }

    /// A pod that knows of no other.
    pub(in crate::cluster) async fn pod(&self, name: &str) -> Pod {
        let pod_id = pod(&format!("{name}.{}", self.name));
        let (links, metrics) = (Links::default(), Arc::new(Metrics::register(&mut Registry::default())));
        let (sessions, index, reception) =
            (LiveSessions::default(), ConversationIndex::default(), Reception::default());
        let forwarding = Forwarding::over(links.clone(), 1);
        let cluster = Cluster::new(pod_id.clone(), forwarding.clone());
        let view = Mutex::new(View::of(pod_id.clone()));
        let placing = Arc::new(Placing { view, cluster: cluster.clone() });
        let neighbourhood = Arc::clone(&placing) as Arc<dyn Neighbourhood>;
        let switchboard = Switchboard::new(links.clone(), forwarding, reception.clone(), neighbourhood);
        let doorway = |cluster| {
            let Store { conversations, accounts, .. } = self.store.clone();
            Doorway::new(index.clone(), conversations, accounts, Clock::System, cluster)
        };
        let mut children = self.conversations(&index, &sessions, cluster.clone(), &metrics);
        for shard in reception.shards() {
            let arguments = ReceptionArguments { doorway: doorway(None), metrics: Arc::clone(&metrics) };
            let shard = shard.clone();
            children.push(ChildSpec::permanent(ActorKind::Reception, move |parent| {
                ReceptionActor::start(shard.clone(), arguments.clone(), parent)
            }));
        }
        let arguments = BridgeArguments {
            options: BridgeOptions {
                pod_id: pod_id.clone(),
                incarnation: 1,
                listen: SocketAddr::from(([127, 0, 0, 1], 0)),
                cookie: Cookie::new("the cookie"),
                tls: None,
                protocol_version: PROTOCOL,
                wires: Arc::new(Tcp),
            },
            links: links.clone(),
            events: Arc::new(switchboard.clone()) as Arc<dyn LinkEvents>,
            metrics: Arc::clone(&metrics),
            entropy: Entropy::from_seed(1),
        };
        children.push(ChildSpec::permanent(ActorKind::Bridge, move |parent| {
            Bridge::start(arguments.clone(), parent)
        }));
        let intensity = RestartIntensity::default();
        let arguments = SupervisorArguments { children, intensity, metrics };
        let (root, _) = Actor::spawn(None, Supervisor, arguments).await.expect("it starts");
        let doorway = doorway(Some(cluster));
        Pod { pod_id, links, sessions, index, reception, switchboard, placing, doorway, root }
    }

    /// The writers, and the parent of conversations.
    fn conversations(
        &self,
        index: &ConversationIndex,
        sessions: &LiveSessions,
        cluster: Cluster,
        metrics: &Arc<Metrics>,
    ) -> Vec<ChildSpec> {
        let Store { log, cursors, keys, .. } = self.store.clone();
        let (writers, mut children) = (StoreWriters::new(1), Vec::new());
        for address in writers.all() {
            let (log, cursors, metrics) = (log.clone(), cursors.clone(), Arc::clone(metrics));
            let (address, arguments) = (address.clone(), StoreWriterArguments { log, cursors, metrics });
            children.push(ChildSpec::permanent(ActorKind::StoreWriter, move |parent| {
                StoreWriter::start(address.clone(), arguments.clone(), parent)
            }));
        }
        let services = ConversationServices {
            agents: AgentIndex::default(),
            feed: Feed::default(),
            writers,
            log,
            cursors,
            keys,
            reach: Reach::new(sessions.clone(), None),
            metrics: Arc::clone(metrics),
            clock: Clock::System,
            entropy: Entropy::from_seed(2),
        };
        let arguments = DirectoryArguments { index: index.clone(), services, cluster: Some(cluster) };
        children.push(ChildSpec::permanent(ActorKind::ConversationDirectory, move |parent| {
            ConversationDirectory::start(arguments.clone(), parent)
        }));
        children
    }
}

/// Places conversations on the pods that are linked.
pub(in crate::cluster) struct Placing {
    view: Mutex<View>,
    cluster: Cluster,
}

impl Placing {
    fn change(&self, change: impl FnOnce(&mut View)) {
        let mut view = self.view.lock().unwrap();
        change(&mut view);
        self.cluster.place(view.placement());
    }
}

impl Neighbourhood for Placing {
    fn linked(&self, pod_id: &PodId, is_up: bool) {
        self.change(|view| assert_eq!(view.link(pod_id.clone(), is_up), Ended::default()));
    }
}

/// A pod.
pub(in crate::cluster) struct Pod {
    pub(in crate::cluster) pod_id: PodId,
    pub(in crate::cluster) links: Links,
    pub(in crate::cluster) sessions: LiveSessions,
    pub(in crate::cluster) index: ConversationIndex,
    pub(in crate::cluster) reception: Reception,
    pub(in crate::cluster) switchboard: Switchboard,
    placing: Arc<Placing>,
    /// As its sessions use it.
    pub(in crate::cluster) doorway: Doorway,
    root: ActorRef<SupervisorMessage>,
}

impl Pod {
    fn member(&self) -> Member {
        let address = self.links.local_address().expect("it listens").to_string();
        Member { pod_id: self.pod_id.clone(), incarnation: 1, address, takes_ownership: true }
    }

    /// Does it take itself for the owner of the conversation?
    pub(in crate::cluster) fn owns(&self) -> bool {
        self.placing.cluster.elsewhere(conversation()).is_none()
    }

    /// Kills its bridge, as a fault would.
    pub(in crate::cluster) async fn kill_bridge(&self) {
        let (done, killed) = oneshot::channel();
        self.root.cast(SupervisorMessage::Kill(ActorKind::Bridge, done)).expect("it is there");
        assert!(killed.await.expect("it answers"));
    }
}

/// As a session does it.
pub(in crate::cluster) async fn submit(pod: &Pod, submission: Submission) {
    if let Err(submission) = pod.doorway.hand_over(Box::new(submission)) {
        pod.doorway.pass_on(submission).await.unwrap();
    }
}

/// Tells two pods of each other, and waits for their link. Which of them owns the conversation, and the other.
pub(in crate::cluster) async fn linked(one: Pod, other: Pod) -> (Pod, Pod) {
    let members = vec![one.member(), other.member()];
    for pod in [&one, &other] {
        pod.placing.change(|view| assert_eq!(view.list(members.clone()), Ended::default()));
        pod.links.set_members(members.clone());
    }
    until(|| one.owns() != other.owns()).await;
    if one.owns() { (one, other) } else { (other, one) }
}

/// Lets everybody run until `holds`.
pub(in crate::cluster) async fn until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, waiting).await.expect("what must come true comes true in time");
}
