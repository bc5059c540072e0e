//! A pod: the production server on a host of its own, with the simulation's clock, network, store and bus beside it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use colloquy_accounts::signing_key::SigningKey;
use colloquy_actors::cluster::bridge::{BridgeOptions, Cookie};
use colloquy_actors::cluster::{PROTOCOL, PodArguments};
use colloquy_actors::metrics::Metrics;
use colloquy_actors::outbox::Sinks;
use colloquy_actors::supervision::{ActorKind, Doom};
use colloquy_gateway_http::Router;
use colloquy_gateway_http::readiness::Phase;
use colloquy_gateway_http::server::{ServerOptions, serve_connection};
use colloquy_protocol::UnixMillis;
use colloquy_runtime::composition::{Assembly, Parts, assemble};
use colloquy_runtime::config::Config;
use colloquy_runtime::drain::drain;
use colloquy_storage::ambient::{Clock, Entropy, Workers};
use colloquy_storage::local::{LocalBus, LocalCache};
use colloquy_storage::model::live::PodId;
use colloquy_storage::ports::Store;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::agents::PodSinks;
use super::archive::Archive;
use super::bus::{BusBehind, Post};
use super::forgery::{Forgeries, Forgery, WAITING_MAX, forge};
use super::host::Host;
use super::network::{Listener, Network, Place};
use super::plan::Plan;
use super::store::behind;
use super::time::WorldTime;
use super::weather::Weather;
use super::wires::PodWires;

/// The time at the beginning of every world.
pub(crate) const GENESIS: UnixMillis = 1_767_225_600_000;
/// What clients have to go elsewhere.
const DRAIN_WINDOW: Duration = Duration::from_secs(5);
/// Orders that wait for a pod (BOUND).
const ORDERS_MAX: usize = 16;
/// Where clients are told to go.
pub(crate) const ENDPOINT: &str = "http://colloquy.example";

/// What all pods of a world share.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) network: Network,
    pub(crate) store: Store,
    pub(crate) bus: LocalBus,
    pub(crate) bus_health: watch::Receiver<bool>,
    pub(crate) forgeries: Forgeries,
    pub(crate) archive: Archive,
    /// Of the world; every incarnation of every pod draws its own from it.
    pub(crate) seed: u64,
}

/// A pod, running or not.
pub(crate) struct Pod {
    pub(crate) name: PodId,
    pub(crate) place: Place,
    pub(crate) store_weather: Weather,
    pub(crate) bus_weather: Weather,
    pub(crate) post: Post,
    /// How far its clock is off, ms.
    pub(crate) set: &'static AtomicI64,
    pub(crate) running: Option<Running>,
    /// What each of its processes has counted, whether it runs or not.
    pub(crate) metrics: Arc<Mutex<Vec<Arc<Metrics>>>>,
    incarnation: u64,
}

/// Its process.
pub(crate) struct Running {
    pub(crate) host: Host,
    orders: mpsc::Sender<Order>,
    forged: mpsc::Sender<Forgery>,
    process: JoinHandle<()>,
}

enum Order {
    Kill(ActorKind),
    Drain,
}

impl Pod {
    /// The pod of this number; nothing of it runs.
    pub(crate) fn new(number: u16, plan: &Plan, time: &WorldTime) -> Self {
        let seed = plan.seed;
        let own = seed.wrapping_add(u64::from(number) << 32);
        Self {
            name: PodId::new(&format!("pod-{number}")).expect("a word, a hyphen and a number name a pod"),
            place: Place(number),
            store_weather: Weather::fair(time.clone(), own ^ 1, plan.store_delay.clone()),
            bus_weather: Weather::fair(time.clone(), own ^ 2, plan.bus_delay.clone()),
            post: Post::reliable(own ^ 3),
            // As many as there are pods in the one world of this process.
            set: Box::leak(Box::default()),
            running: None,
            metrics: Arc::default(),
            incarnation: 0,
        }
    }

    /// Where clients reach it.
    pub(crate) fn address(&self) -> SocketAddr {
        client_address(self.place)
    }

    /// Starts its process.
    pub(crate) fn start(&mut self, now: Duration, ground: &Ground) {
        self.incarnation += 1;
        let own = ground.seed ^ (u64::from(self.place.0) << 48) ^ (self.incarnation << 16);
        let entropy = Entropy::from_seed(own);
        let host = Host::start(now, self.name.as_str());
        let (orders, received) = mpsc::channel(ORDERS_MAX);
        let (forged, forging) = mpsc::channel(WAITING_MAX);
        let (live, signals) = ground.bus.join();
        let live = BusBehind { weather: self.bus_weather.clone(), post: self.post.clone(), live };
        let place = self.place;
        let bridge = BridgeOptions {
            pod_id: self.name.clone(),
            incarnation: self.incarnation,
            listen: SocketAddr::from(([10, 0, 0, u8::try_from(place.0).unwrap_or(u8::MAX)], 7000)),
            cookie: Cookie::new("the cookie of a world that does not exist"),
            tls: None,
            protocol_version: PROTOCOL,
            wires: Arc::new(PodWires { network: ground.network.clone(), place }),
        };
        let pod = PodArguments {
            bridge,
            advertise: None,
            live: Arc::new(live),
            signals,
            health: ground.bus_health.clone(),
        };
        let key = SigningKey::generate(&Entropy::from_seed(ground.seed)).expect("a key can be generated");
        let store = behind(&self.store_weather, &ground.store);
        let (network, start) = (ground.network.clone(), GENESIS + millis(now));
        let (set, metrics, forgeries) = (self.set, Arc::clone(&self.metrics), ground.forgeries.clone());
        let archive = ground.archive.clone();
        let process = host.spawn(async move {
            let clock = Clock::that_can_be_set(start, set);
            let sinks: Arc<dyn Sinks> = Arc::new(PodSinks { network: network.clone(), place, archive });
            let (workers, cache) = (Workers::InPlace, Arc::new(LocalCache::new()));
            let pod = Some(pod);
            let parts = Parts { store, key, pod, clock, entropy, workers, sinks, cache, classifier: None };
            // One that does not come up ends, and is started again.
            if let Ok(assembly) = assemble(&config(), parts).await {
                metrics.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&assembly.metrics));
                // Ends with the host.
                tokio::spawn(forge(assembly.node.turns().clone(), forging, forgeries));
                live_on(assembly, network, place, received).await;
            }
        });
        self.running = Some(Running { host, orders, forged, process });
    }

    /// This befalls an actor of its running process over what it takes up next.
    pub(crate) fn doom(&self, kind: ActorKind, doom: Option<Doom>) {
        let metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(_), Some(metrics)) = (&self.running, metrics.last()) {
            metrics.doom(kind, doom);
        }
    }

    /// Its process ends here and now (`kill -9`).
    pub(crate) fn crash(&mut self) {
        self.running = None;
        self.set.store(0, Ordering::Relaxed);
    }

    /// Has its process ended by itself?
    pub(crate) fn has_ended(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.process.is_finished())
    }

    /// Does it run, and is it not frozen?
    pub(crate) fn is_awake(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.host.is_frozen())
    }
}

impl Running {
    /// Kills an actor of this kind, if there is one and the pod hears of it.
    pub(crate) fn kill(&self, kind: ActorKind) {
        // A pod that is asked more than it can take is in trouble enough.
        let _ = self.orders.try_send(Order::Kill(kind));
    }

    /// Has somebody try to answer there what is not theirs to answer, unless too many do.
    pub(crate) fn forge(&self, forgery: Forgery) {
        let _ = self.forged.try_send(forgery);
    }

    /// Has it go away in order (SIGTERM).
    pub(crate) fn drain(&self) {
        let _ = self.orders.try_send(Order::Drain);
    }
}

/// Where clients reach the pod at a place.
pub(crate) fn client_address(place: Place) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(place.0).unwrap_or(u8::MAX)], 8080))
}

/// As an operator would set it, but for what costs time and proves nothing.
fn config() -> Config {
    let mut config = Config::default();
    // The least that argon2 takes.
    (config.accounts.password_memory_kib, config.accounts.password_iterations) = (8, 1);
    config.limits.logins_per_minute = 0;
    // Nothing is posted there: it goes to the archive.
    (config.feed.enabled, config.feed.url) = (true, "http://archive.example/".to_owned());
    config
}

async fn live_on(assembly: Assembly, network: Network, place: Place, mut orders: mpsc::Receiver<Order>) {
    let Assembly { mut node, readiness, public, .. } = assembly;
    let Ok(clients) = network.listen(place, client_address(place)) else { return };
    node.settled().await;
    readiness.advance(Phase::Ready);
    let (stop, stopped) = watch::channel(false);
    let clients = tokio::spawn(accept(clients, public, stopped));
    loop {
        let order = tokio::select! {
            biased;
            order = orders.recv() => order,
            () = node.failed() => return,
        };
        match order {
            None => return,
            Some(Order::Kill(kind)) => {
                node.kill_one(kind).await;
            }
            Some(Order::Drain) => {
                readiness.advance(Phase::Draining);
                stop.send_replace(true);
                let _ = clients.await;
                drain(&node, ENDPOINT, DRAIN_WINDOW).await;
                node.stop().await;
                return;
            }
        }
    }
}

/// Serves what comes in until it is told to stop.
async fn accept(listener: Listener, router: Router, mut stop: watch::Receiver<bool>) {
    loop {
        let stream = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            stream = listener.accept() => stream,
        };
        let (address, router, stop) = (listener.address(), router.clone(), stop.clone());
        tokio::spawn(serve_connection(stream, address, router, ServerOptions::default(), stop));
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
