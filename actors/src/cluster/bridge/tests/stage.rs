//! Pods on loopback, a journal of what each hears, and a wire that can be frozen and cut.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use colloquy_storage::ambient::Entropy;
use colloquy_storage::model::live::{Member, PodId};
use prometheus_client::registry::Registry;
use ractor::{Actor, ActorRef};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::cluster::bridge::{
    Bridge, BridgeArguments, BridgeOptions, BridgeTls, Cookie, LinkEvents, Links, Tcp, Unsent,
};
use crate::metrics::Metrics;
use crate::supervision::{
    ActorKind, ChildSpec, RestartIntensity, Supervisor, SupervisorArguments, SupervisorMessage,
};

/// Reaching it is a failure, never a way to pass time. Longer than finding a silent peer and dialling again take.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);
/// The incarnation of a pod that has not been restarted.
pub(super) const FIRST: u64 = 1;
/// The only version there is, unless a test says otherwise.
pub(super) const VERSION: u16 = 1;

/// What a pod hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A link stands: to this pod, in this incarnation, with this version.
    Up(&'static str, u64, u16),
    /// It is gone.
    Down(&'static str),
    /// A frame.
    Frame(&'static str, Vec<u8>),
}

type BeforeFrame = Box<dyn Fn(&[u8]) + Send>;

/// Everything that a pod has heard, in order.
#[derive(Default)]
pub(super) struct Journal {
    entries: Mutex<VecDeque<Heard>>,
    written: Notify,
    /// Runs before each frame is written.
    before_frame: Mutex<Option<BeforeFrame>>,
}

impl Journal {
    fn write(&self, heard: Heard) {
        self.entries.lock().unwrap().push_back(heard);
        self.written.notify_one();
    }

    /// The next entry.
    pub(super) async fn next(&self) -> Heard {
        let next = async {
            loop {
                let written = self.written.notified();
                if let Some(heard) = self.entries.lock().unwrap().pop_front() {
                    return heard;
                }
                written.await;
            }
        };
        timeout(DEADLINE, next).await.expect("something is heard in time")
    }

    /// The next entry is this.
    pub(super) async fn expect(&self, heard: Heard) {
        assert_eq!(self.next().await, heard);
    }

    /// Skips entries until this one.
    pub(super) async fn skip_to(&self, heard: Heard) {
        while self.next().await != heard {}
    }

    /// What has been heard and not been asked for.
    pub(super) fn rest(&self) -> Vec<Heard> {
        self.entries.lock().unwrap().drain(..).collect()
    }

    /// Does something before a frame is written, in the bridge's place.
    pub(super) fn before_frame(&self, act: impl Fn(&[u8]) + Send + 'static) {
        *self.before_frame.lock().unwrap() = Some(Box::new(act));
    }
}

/// Pods' names outlive every test.
fn name(pod_id: &PodId) -> &'static str {
    ["a", "b", "c"].into_iter().find(|name| *name == pod_id.as_str().split('.').next().unwrap()).unwrap()
}

impl LinkEvents for Journal {
    fn up(&self, peer: &PodId, incarnation: u64, version: u16) {
        self.write(Heard::Up(name(peer), incarnation, version));
    }

    fn down(&self, peer: &PodId) {
        self.write(Heard::Down(name(peer)));
    }

    fn received(&self, peer: &PodId, frame: Vec<u8>) {
        if let Some(act) = &*self.before_frame.lock().unwrap() {
            act(&frame);
        }
        self.write(Heard::Frame(name(peer), frame));
    }
}

/// What makes a pod differ from another.
#[derive(Clone)]
pub(super) struct Traits {
    pub(super) incarnation: u64,
    pub(super) cookie: &'static str,
    pub(super) tls: Option<BridgeTls>,
    pub(super) versions: (u16, u16),
}

impl Default for Traits {
    fn default() -> Self {
        Self { incarnation: FIRST, cookie: "the cookie", tls: None, versions: (VERSION, VERSION) }
    }
}

/// A test's own pods: names are shared by a whole process.
#[derive(Clone, Copy)]
pub(super) struct Cluster(pub(super) &'static str);

impl Cluster {
    pub(super) fn id(self, name: &str) -> PodId {
        PodId::new(&format!("{name}.{}", self.0)).unwrap()
    }

    /// A pod that knows of no other.
    pub(super) async fn pod(self, name: &'static str, traits: Traits) -> Pod {
        let (links, journal) = (Links::default(), Arc::new(Journal::default()));
        let metrics = Arc::new(Metrics::register(&mut Registry::default()));
        let options = BridgeOptions {
            pod_id: self.id(name),
            incarnation: traits.incarnation,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            cookie: Cookie::new(traits.cookie),
            tls: traits.tls,
            protocol_version: traits.versions,
            wires: Arc::new(Tcp),
        };
        let arguments = BridgeArguments {
            options,
            links: links.clone(),
            events: Arc::clone(&journal) as Arc<dyn LinkEvents>,
            metrics: Arc::clone(&metrics),
            entropy: Entropy::from_seed(name.len() as u64),
        };
        let bridge =
            ChildSpec::permanent(ActorKind::Bridge, move |parent| Bridge::start(arguments.clone(), parent));
        let intensity = RestartIntensity::default();
        let arguments =
            SupervisorArguments { children: vec![bridge], intensity, metrics: Arc::clone(&metrics) };
        let (supervisor, _) = Actor::spawn(None, Supervisor, arguments).await.expect("the bridge starts");
        let pod_id = self.id(name);
        Pod { pod_id, incarnation: traits.incarnation, links, journal, metrics, supervisor }
    }

    /// Two that know each other.
    pub(super) async fn pair(self) -> (Pod, Pod) {
        let (a, b) = (self.pod("a", Traits::default()).await, self.pod("b", Traits::default()).await);
        introduce(&[&a, &b]);
        meet(&a, &b).await;
        (a, b)
    }

    /// Two whose link goes over a wire.
    pub(super) async fn wired_pair(self) -> (Pod, Pod, Wire) {
        let (a, b) = (self.pod("a", Traits::default()).await, self.pod("b", Traits::default()).await);
        let wire = Wire::to(b.address()).await;
        introduce_over(&a, &b, wire.address);
        meet(&a, &b).await;
        (a, b, wire)
    }
}

/// A pod.
pub(super) struct Pod {
    pub(super) pod_id: PodId,
    incarnation: u64,
    pub(super) links: Links,
    pub(super) journal: Arc<Journal>,
    pub(super) metrics: Arc<Metrics>,
    supervisor: ActorRef<SupervisorMessage>,
}

impl Pod {
    pub(super) fn address(&self) -> SocketAddr {
        self.links.local_address().expect("it listens")
    }

    pub(super) fn member_at(&self, address: SocketAddr) -> Member {
        let (pod_id, incarnation) = (self.pod_id.clone(), self.incarnation);
        Member { pod_id, incarnation, address: address.to_string(), takes_ownership: true }
    }

    pub(super) fn member(&self) -> Member {
        self.member_at(self.address())
    }

    /// Sends, and lets others run while there is no room.
    pub(super) async fn send(&self, to: &Pod, frame: &[u8]) {
        let sending = async {
            while let Err(why) = self.links.send(&to.pod_id, frame.to_vec()) {
                assert_eq!(why, Unsent::Full);
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, sending).await.expect("there is room in time");
    }

    /// Kills the bridge, as a fault would.
    pub(super) async fn kill_bridge(&self) {
        let (done, killed) = oneshot::channel();
        self.supervisor.cast(SupervisorMessage::Kill(ActorKind::Bridge, done)).expect("it is there");
        assert!(killed.await.expect("it answers"));
    }

    /// Ends in order.
    pub(super) async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        self.supervisor.cast(SupervisorMessage::Stop(done)).expect("it is there");
        timeout(DEADLINE, stopped).await.expect("it stops in time").expect("it says so");
    }
}

/// Tells each pod of all.
pub(super) fn introduce(pods: &[&Pod]) {
    let members: Vec<Member> = pods.iter().map(|pod| pod.member()).collect();
    pods.iter().for_each(|pod| pod.links.set_members(members.clone()));
}

/// Tells two pods of each other; `a` finds `b` there.
pub(super) fn introduce_over(a: &Pod, b: &Pod, address: SocketAddr) {
    a.links.set_members(vec![a.member(), b.member_at(address)]);
    b.links.set_members(vec![a.member(), b.member()]);
}

/// The next that both hear is that their link stands.
pub(super) async fn meet(a: &Pod, b: &Pod) {
    a.journal.expect(Heard::Up(name(&b.pod_id), b.incarnation, VERSION)).await;
    b.journal.expect(Heard::Up(name(&a.pod_id), a.incarnation, VERSION)).await;
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

/// What a wire does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wiring {
    Flows,
    Frozen,
}

/// A TCP proxy.
pub(super) struct Wire {
    pub(super) address: SocketAddr,
    wiring: Arc<watch::Sender<Wiring>>,
    cut: Arc<Notify>,
    connections: Arc<AtomicUsize>,
    carried: Arc<watch::Sender<Vec<Vec<u8>>>>,
    _serving: JoinSet<()>,
}

impl Wire {
    pub(super) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (wiring, cut) = (Arc::new(watch::Sender::new(Wiring::Flows)), Arc::new(Notify::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let carried = Arc::new(watch::Sender::new(Vec::new()));
        let carried_by_all = Arc::clone(&carried);
        let mut _serving = JoinSet::new();
        let (wiring_of_all, cut_of_all, counted) =
            (Arc::clone(&wiring), Arc::clone(&cut), Arc::clone(&connections));
        _serving.spawn(async move {
            let mut wires = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let (wiring, cut) = (wiring_of_all.subscribe(), Arc::clone(&cut_of_all));
                let carried = Arc::clone(&carried_by_all);
                wires.spawn(async move {
                    let Ok(far) = TcpStream::connect(target).await else { return };
                    let (near_in, near_out) = near.into_split();
                    let (far_in, far_out) = far.into_split();
                    let flow = async {
                        tokio::select! {
                            () = forward(near_in, far_out, wiring.clone(), &carried) => {}
                            () = forward(far_in, near_out, wiring, &carried) => {}
                        }
                    };
                    tokio::select! {
                        () = flow => {}
                        () = cut.notified() => {}
                    }
                });
            }
        });
        Self { address, wiring, cut, connections, carried, _serving }
    }

    /// Holds everything back, and says nothing to anybody.
    pub(super) fn freeze(&self) {
        self.wiring.send_replace(Wiring::Frozen);
    }

    /// Lets everything flow that was held back.
    pub(super) fn thaw(&self) {
        self.wiring.send_replace(Wiring::Flows);
    }

    /// Ends every connection.
    pub(super) fn cut(&self) {
        self.cut.notify_waiters();
    }

    /// Waits until so many more pieces have gone over it, in either direction.
    pub(super) async fn carries(&self, pieces: usize) {
        let mut carried = self.carried.subscribe();
        let enough = carried.borrow().len() + pieces;
        let carrying = carried.wait_for(|carried| carried.len() >= enough);
        timeout(DEADLINE, carrying).await.expect("it carries them in time").expect("it is there");
    }

    /// Have these bytes gone over it within one piece?
    pub(super) fn has_carried(&self, bytes: &[u8]) -> bool {
        self.carried.borrow().iter().any(|piece| piece.windows(bytes.len()).any(|window| window == bytes))
    }

    /// Connections so far.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn forward(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut wiring: watch::Receiver<Wiring>,
    carried: &watch::Sender<Vec<Vec<u8>>>,
) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if wiring.wait_for(|wiring| *wiring == Wiring::Flows).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
        carried.send_modify(|carried| carried.push(buffer[..length].to_vec()));
    }
}
