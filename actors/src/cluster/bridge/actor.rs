//! The actor: the one of a pod that is mirrored on other pods.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use colloquy_storage::ambient::Entropy;
use colloquy_storage::model::live::{Member, PodId};
use ractor::message::{BoxedDowncastErr, SerializedMessage};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use ractor_cluster::node::{NodeConnectionMode, NodeServerSessionInformation};
use ractor_cluster::{IncomingEncryptionMode, NodeEventSubscription, NodeServer, NodeServerMessage};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::connections::{Connection, Connections};
use super::exchange::{Exchange, actor_name};
use super::gate::{self, Gate, Stranger};
use super::link::Greeter;
use super::links::Links;
use super::options::BridgeOptions;
use super::outgoing::Outgoing;
use super::tls::Encryption;
use super::transport::Transport;
use super::wires::Wires;
use super::{DIAL_TIMEOUT, FRAME_MAX, LinkEvents};
use crate::metrics::Metrics;
use crate::supervision::{ActorKind, Fault, befall, outcome};

/// How often the bridge looks at the time. Silence is noticed, and a dial begun, so much later at most.
const TICK: Duration = Duration::from_millis(100);
/// Largest message of a session: one frame, its heads, and what `ractor_cluster` wraps around it.
const MESSAGE_MAX: u64 = FRAME_MAX as u64 + 4096;
/// How long the node server of a stopping bridge may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// What a bridge is told.
pub struct BridgeMessage(pub(super) Told);

/// Only packets come from other pods; how many wait is bounded by every peer's window. Everything else is bounded by the
/// connections and members there are.
pub(super) enum Told {
    /// Another pod's bridge says this.
    Packet(Vec<u8>),
    /// A link has frames to be sent: one request at a time for each.
    Empty(Arc<Outgoing>),
    /// The members were set anew.
    MembersChanged,
    /// A stranger has come in by the gate.
    Accepted(Box<(Transport, Stranger)>),
    /// A dial has come to something, or not.
    Dialled(Member, io::Result<Box<Transport>>),
    /// `ractor_cluster` has news of a session.
    Session(SessionNews, Box<NodeServerSessionInformation>),
    /// Time has passed.
    Tick,
}

/// News of a session.
#[derive(Clone, Copy, Debug)]
pub(super) enum SessionNews {
    /// It was made.
    Opened,
    /// It knows the cookie.
    Authenticated,
    /// Both sides know each other's actors.
    Ready,
    /// It has ended.
    Ended,
}

impl ractor::Message for BridgeMessage {
    fn serializable() -> bool {
        true
    }

    fn serialize(self) -> Result<SerializedMessage, BoxedDowncastErr> {
        match self.0 {
            Told::Packet(args) => {
                Ok(SerializedMessage::Cast { variant: String::new(), args, metadata: None })
            }
            _ => Err(BoxedDowncastErr),
        }
    }

    fn deserialize(message: SerializedMessage) -> Result<Self, BoxedDowncastErr> {
        match message {
            SerializedMessage::Cast { args, .. } => Ok(Self(Told::Packet(args))),
            _ => Err(BoxedDowncastErr),
        }
    }
}

/// The actor.
pub struct Bridge;

/// What a bridge is started with.
#[derive(Clone)]
pub struct BridgeArguments {
    /// About its own pod.
    pub options: BridgeOptions,
    /// Its handle.
    pub links: Links,
    /// Who hears of links.
    pub events: Arc<dyn LinkEvents>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Link numbers and jitter.
    pub entropy: Entropy,
}

/// State of a bridge. Fields are dropped in order: first nobody else comes in, then what stands is ended.
pub struct BridgeState {
    _gate: Gate,
    /// Dials under way; one for each peer at most.
    dials: JoinSet<()>,
    exchange: Exchange,
    encryption: Encryption,
    wires: Arc<dyn Wires>,
}

impl Bridge {
    /// Starts a bridge under `parent` and points its handle at it.
    ///
    /// # Errors
    /// If the parent is stopping, the TLS files cannot be used or the address stays taken.
    pub async fn start(arguments: BridgeArguments, parent: ActorCell) -> Result<ActorCell, SpawnErr> {
        let metrics = Arc::clone(&arguments.metrics);
        let name = actor_name(&arguments.options.pod_id, arguments.options.incarnation);
        let (actor, _) = Actor::spawn_linked(Some(name), Self, arguments, parent).await?;
        metrics.actor_started(ActorKind::Bridge);
        actor.send_interval(TICK, || BridgeMessage(Told::Tick));
        Ok(actor.get_cell())
    }
}

impl Actor for Bridge {
    type Msg = BridgeMessage;
    type State = BridgeState;
    type Arguments = BridgeArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: BridgeArguments,
    ) -> Result<BridgeState, ActorProcessingErr> {
        let BridgeArguments { options, links, events, metrics, entropy } = arguments;
        let encryption = Encryption::load(options.tls.as_ref())
            .map_err(|error| Fault::because("the bridge's TLS files cannot be used", error))?;
        // After a restart the port is the same: members know it.
        let listener = options
            .wires
            .listen(links.local_address().unwrap_or(options.listen))
            .await
            .map_err(|error| Fault::because("the bridge cannot listen", error))?;
        let local_address = listener.local_address()?;
        let node = start_node(&myself, &options, &encryption).await?;
        links.install(myself.clone(), local_address);
        let BridgeOptions { pod_id, incarnation, protocol_version: versions, wires, .. } = options;
        let mut exchange = Exchange {
            greeter: Greeter { pod_id, incarnation, versions },
            links,
            events,
            metrics,
            rng: entropy.fork(),
            node,
            peers: BTreeMap::new(),
            connections: Connections::default(),
            carried: BTreeMap::new(),
            numbers: HashMap::new(),
        };
        exchange.members_changed(Instant::now());
        let _gate = gate::open(listener, encryption.clone(), myself);
        Ok(BridgeState { _gate, dials: JoinSet::new(), exchange, encryption, wires })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: BridgeMessage,
        state: &mut BridgeState,
    ) -> Result<(), ActorProcessingErr> {
        befall(&state.exchange.metrics, ActorKind::Bridge).await;
        let (exchange, now) = (&mut state.exchange, Instant::now());
        match message.0 {
            Told::Packet(bytes) => exchange.packet(bytes, now),
            Told::Empty(outgoing) => exchange.empty(&outgoing, now),
            Told::MembersChanged => {
                exchange.members_changed(now);
                state.dial(&myself, now);
            }
            Told::Accepted(stranger) => {
                let (transport, stranger) = *stranger;
                exchange.connected(transport, Connection::new(None, Some(stranger), now));
            }
            Told::Dialled(member, Ok(transport)) => {
                let dialled = Some((member.pod_id, member.incarnation));
                exchange.connected(*transport, Connection::new(dialled, None, now));
            }
            Told::Dialled(member, Err(error)) => exchange.dial_failed(&member, &error, now),
            Told::Session(news, session) => heard_of_session(exchange, news, &session, now),
            Told::Tick => {
                exchange.tick(now);
                state.dial(&myself, now);
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        _: &mut BridgeState,
    ) -> Result<(), ActorProcessingErr> {
        // The node server is the only child: without it there is no bridge, and the next one makes another.
        match event {
            SupervisionEvent::ActorFailed(..) | SupervisionEvent::ActorTerminated(..) => {
                Err(Box::new(Fault { what: "the node server has ended", source: None }))
            }
            _ => Ok(()),
        }
    }

    async fn post_stop(
        &self,
        _: ActorRef<Self::Msg>,
        state: &mut BridgeState,
    ) -> Result<(), ActorProcessingErr> {
        state.exchange.end(Instant::now());
        // What does not stop in time is killed with this actor.
        let _ = state.exchange.node.stop_and_wait(None, Some(STOP_TIMEOUT)).await;
        Ok(())
    }
}

impl BridgeState {
    /// Dials whom it is time to dial.
    fn dial(&mut self, myself: &ActorRef<BridgeMessage>, now: Instant) {
        while self.dials.try_join_next().is_some() {}
        for member in self.exchange.dials(now) {
            let (encryption, myself) = (self.encryption.clone(), myself.clone());
            let wires = Arc::clone(&self.wires);
            self.dials.spawn(async move {
                let dial = async {
                    let transport = wires.dial(&member.address).await?;
                    encryption.connect(transport).await.map(Box::new)
                };
                let dialled = outcome(DIAL_TIMEOUT, dial).await;
                let dialled = dialled.unwrap_or_else(|why| Err(io::Error::other(why)));
                // A bridge that has ended takes its dials with it.
                let _ = myself.cast(BridgeMessage(Told::Dialled(member, dialled)));
            });
        }
    }
}

/// Starts `ractor_cluster`'s side of this pod, under the bridge.
async fn start_node(
    myself: &ActorRef<BridgeMessage>,
    options: &BridgeOptions,
    encryption: &Encryption,
) -> Result<ActorRef<NodeServerMessage>, ActorProcessingErr> {
    // It insists on a listener of its own: on the loopback interface, and whoever comes in there is sent away.
    let loopback = match options.listen.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    let spare = options.wires.spare_address(loopback);
    let node = NodeServer::new(
        spare.port(),
        options.cookie.reveal().to_owned(),
        node_name(&options.pod_id, options.incarnation),
        // Of two nodes with the same host and port it takes one for the other.
        options.pod_id.to_string(),
        encryption.acceptor().map(IncomingEncryptionMode::Tls),
        Some(NodeConnectionMode::Isolated),
    );
    let node = node.with_listen_addr(spare.ip()).with_max_inbound_frame_size(MESSAGE_MAX);
    let (node, _) = Actor::spawn_linked(None, node, (), myself.get_cell()).await?;
    let (id, subscription) = ("bridge".to_owned(), Box::new(Subscription(myself.clone())));
    node.cast(NodeServerMessage::SubscribeToEvents { id, subscription })?;
    Ok(node)
}

/// Another incarnation is another node: the connections of one that has died do not compete with its own.
fn node_name(pod_id: &PodId, incarnation: u64) -> String {
    format!("{pod_id}/{incarnation:016x}")
}

/// What [`node_name`] was made of; `ractor_cluster` has put `@` and the host behind it.
fn named_pod(name: &str) -> Option<(PodId, u64)> {
    let (pod_id, incarnation) = name.split_once('@')?.0.split_once('/')?;
    Some((PodId::new(pod_id).ok()?, u64::from_str_radix(incarnation, 16).ok()?))
}

fn heard_of_session(
    exchange: &mut Exchange,
    news: SessionNews,
    session: &NodeServerSessionInformation,
    now: Instant,
) {
    // The number under which the connection was handed over.
    let number = session.peer_addr.parse::<u64>().ok();
    match (news, number) {
        (SessionNews::Opened, number) => exchange.session_opened(number, session.actor.clone()),
        (SessionNews::Authenticated, Some(number)) => exchange.session_authenticated(number),
        (SessionNews::Ready, Some(number)) => {
            let pod = session.peer_name.as_ref().and_then(|name| named_pod(&name.name));
            exchange.session_ready(number, pod, now);
        }
        (SessionNews::Ended, Some(number)) => exchange.session_ended(number, now),
        (_, None) => {}
    }
}

/// Passes news of sessions on.
struct Subscription(ActorRef<BridgeMessage>);

impl Subscription {
    fn tell(&self, news: SessionNews, session: NodeServerSessionInformation) {
        // A bridge that has ended takes its sessions with it.
        let _ = self.0.cast(BridgeMessage(Told::Session(news, Box::new(session))));
    }
}

impl NodeEventSubscription for Subscription {
    fn node_session_opened(&self, session: NodeServerSessionInformation) {
        self.tell(SessionNews::Opened, session);
    }

    fn node_session_disconnected(&self, session: NodeServerSessionInformation) {
        self.tell(SessionNews::Ended, session);
    }

    fn node_session_authenticated(&self, session: NodeServerSessionInformation) {
        self.tell(SessionNews::Authenticated, session);
    }

    fn node_session_ready(&self, session: NodeServerSessionInformation) {
        self.tell(SessionNews::Ready, session);
    }
}
