//! How many frames the bridge carries in a second over loopback, and how long one takes there and back.
//!
//! ```text
//! cargo run --release -p colloquy-actors --example bridge_bench [-- seconds per row]
//! ```
//!
//! Both pods run in this process and share its two threads: a machine of its own for each carries more.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that prints a table")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use colloquy_actors::cluster::PROTOCOL;
use colloquy_actors::cluster::bridge::{
    Bridge, BridgeArguments, BridgeOptions, Cookie, LinkEvents, Links, Tcp, Unsent,
};
use colloquy_actors::metrics::Metrics;
use colloquy_actors::supervision::{
    ActorKind, ChildSpec, RestartIntensity, Supervisor, SupervisorArguments, SupervisorMessage,
};
use colloquy_storage::ambient::Entropy;
use colloquy_storage::model::live::{Member, PodId};
use prometheus_client::registry::Registry;
use ractor::{Actor, ActorRef};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep};

/// About what a short message to one device takes on its way to its owner.
const FRAME_BYTES: usize = 300;
/// How long a sender waits whose link has no room.
const PAUSE: Duration = Duration::from_millis(1);

/// Counts frames, or sends them back.
#[derive(Default)]
struct Events {
    links: OnceLock<Links>,
    echoes: AtomicBool,
    stopping: AtomicBool,
    received: AtomicU64,
    changed: Notify,
}

impl LinkEvents for Events {
    fn up(&self, _: &PodId, _: u64, _: u16) {
        self.changed.notify_one();
    }

    fn down(&self, peer: &PodId) {
        assert!(self.stopping.load(Ordering::Relaxed), "the link to {peer} is gone");
    }

    fn received(&self, peer: &PodId, frame: Vec<u8>) {
        self.received.fetch_add(1, Ordering::Relaxed);
        if self.echoes.load(Ordering::Relaxed) {
            self.links.get().unwrap().send(peer, frame).unwrap();
        } else {
            self.changed.notify_one();
        }
    }
}

struct Pod {
    pod_id: PodId,
    links: Links,
    events: Arc<Events>,
    root: ActorRef<SupervisorMessage>,
}

impl Pod {
    async fn start(name: &str) -> Self {
        let (links, events, pod_id) =
            (Links::default(), Arc::new(Events::default()), PodId::new(name).unwrap());
        events.links.set(links.clone()).unwrap();
        let metrics = Arc::new(Metrics::register(&mut Registry::default()));
        let arguments = BridgeArguments {
            options: BridgeOptions {
                pod_id: pod_id.clone(),
                incarnation: 1,
                listen: SocketAddr::from(([127, 0, 0, 1], 0)),
                cookie: Cookie::new("a benchmark's"),
                tls: None,
                protocol_version: PROTOCOL,
                wires: Arc::new(Tcp),
            },
            links: links.clone(),
            events: Arc::clone(&events) as Arc<dyn LinkEvents>,
            metrics: Arc::clone(&metrics),
            entropy: Entropy::from_os(),
        };
        let bridge =
            ChildSpec::permanent(ActorKind::Bridge, move |parent| Bridge::start(arguments.clone(), parent));
        let intensity = RestartIntensity::default();
        let arguments = SupervisorArguments { children: vec![bridge], intensity, metrics };
        let (root, _) = Actor::spawn(None, Supervisor, arguments).await.unwrap();
        Self { pod_id, links, events, root }
    }

    fn member(&self) -> Member {
        let address = self.links.local_address().unwrap().to_string();
        Member { pod_id: self.pod_id.clone(), incarnation: 1, address, takes_ownership: true }
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(5.0);
    let length = Duration::from_secs_f64(seconds);
    println!("{:<28} {:>12} {:>10}", format!("frames of {FRAME_BYTES} bytes"), "frames/s", "MB/s");
    one_way(length).await;
    both_ways(length).await;
    println!("{:<28} {:>12} {:>10} {:>10}", "there and back, one at a time", "p50 us", "p99 us", "max us");
    there_and_back(length).await;
}

/// Two pods with a link.
async fn pair(name: &str) -> (Pod, Pod) {
    let (a, b) = (Pod::start(&format!("a.{name}")).await, Pod::start(&format!("b.{name}")).await);
    [&a, &b].iter().for_each(|pod| pod.links.set_members(vec![a.member(), b.member()]));
    tokio::join!(a.events.changed.notified(), b.events.changed.notified());
    (a, b)
}

async fn stop(pods: [Pod; 2]) {
    pods.iter().for_each(|pod| pod.events.stopping.store(true, Ordering::Relaxed));
    for pod in pods {
        let (done, stopped) = oneshot::channel();
        pod.root.cast(SupervisorMessage::Stop(done)).unwrap();
        stopped.await.unwrap();
    }
}

/// Sends as much as the link takes, until `end`; how many frames that were.
async fn flood(from: &Pod, to: &Pod, end: Instant) -> u64 {
    let (frame, mut sent) = (vec![7; FRAME_BYTES], 0);
    while Instant::now() < end {
        match from.links.send(&to.pod_id, frame.clone()) {
            Ok(()) => sent += 1,
            Err(Unsent::Full) => sleep(PAUSE).await,
            Err(why) => panic!("{why}"),
        }
        if sent % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    sent
}

/// Until all of them have arrived.
async fn arrived(at: &Pod, frames: u64) {
    while at.events.received.load(Ordering::Relaxed) < frames {
        at.events.changed.notified().await;
    }
}

fn row(what: &str, frames: u64, took: Duration) {
    let a_second = frames as f64 / took.as_secs_f64();
    println!("{what:<28} {a_second:>12.0} {:>10.1}", a_second * FRAME_BYTES as f64 / 1e6);
}

async fn one_way(length: Duration) {
    let (a, b) = pair("one").await;
    let start = Instant::now();
    let sent = flood(&a, &b, start + length).await;
    arrived(&b, sent).await;
    row("one way", sent, start.elapsed());
    stop([a, b]).await;
}

async fn both_ways(length: Duration) {
    let (a, b) = pair("both").await;
    let start = Instant::now();
    let (from_a, from_b) = tokio::join!(flood(&a, &b, start + length), flood(&b, &a, start + length));
    tokio::join!(arrived(&b, from_a), arrived(&a, from_b));
    row("both ways, in sum", from_a + from_b, start.elapsed());
    stop([a, b]).await;
}

async fn there_and_back(length: Duration) {
    let (a, b) = pair("back").await;
    b.events.echoes.store(true, Ordering::Relaxed);
    let (end, mut took) = (Instant::now() + length, Vec::new());
    while Instant::now() < end {
        let start = Instant::now();
        a.links.send(&b.pod_id, vec![7; FRAME_BYTES]).unwrap();
        arrived(&a, took.len() as u64 + 1).await;
        took.push(start.elapsed());
    }
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_micros();
    println!("{:<28} {:>12} {:>10} {:>10}", "", at(0.5), at(0.99), at(1.0));
    stop([a, b]).await;
}
