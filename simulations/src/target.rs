//! The server under load: spawned from the same build as this program, or one that is running.

use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;
use colloquy_tests::cluster::{Cluster, ClusterOptions};
use colloquy_tests::http_server::{FREE_PORT, HttpServer, Reply};
use colloquy_tests::options::ServerOptions;
use colloquy_tests::rest::Rest;
use colloquy_tests::secrets::Secrets;
use colloquy_tests::server::Server;

/// Which server.
#[derive(Args, Clone, Debug)]
pub(crate) struct TargetOptions {
    /// A running server (`127.0.0.1:8080`); without it one is started, on a fresh data directory.
    #[arg(long, value_name = "ADDRESS")]
    url: Option<SocketAddr>,
    /// The running server's operations address, for its own histograms.
    #[arg(long, value_name = "ADDRESS", requires = "url")]
    operations: Option<SocketAddr>,
    /// The running server's process id, for its CPU time and memory.
    #[arg(long, requires = "url")]
    server_pid: Option<u32>,
    /// So many pods are started instead, on a MongoDB and a Redis of their own.
    #[arg(long, value_name = "PODS", conflicts_with = "url", value_parser = clap::value_parser!(u8).range(1..=9))]
    pods: Option<u8>,
    /// What is started tells every message to this program (the server's `feed`).
    #[arg(long, conflicts_with = "url")]
    feed: bool,
}

/// The server, or the pods, and what is known of them.
pub(crate) struct Target {
    /// Where REST and WebSocket are served, pod by pod.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where metrics are served, if it is one.
    pub(crate) operations: Option<SocketAddr>,
    /// The processes.
    pub(crate) pids: Vec<u32>,
    /// The REST interface of the first.
    pub(crate) rest: Rest,
    /// Whoever is told of every message, if anybody is.
    pub(crate) listener: Option<Listener>,
    /// What was spawned ends with this value.
    _spawned: Spawned,
}

/// Takes whatever it is told, and counts it.
pub(crate) struct Listener {
    server: HttpServer,
    told: Arc<AtomicU64>,
}

impl Listener {
    async fn start() -> Self {
        let told = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&told);
        let take = move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            ready(Reply::status(202))
        };
        Self { server: HttpServer::start(FREE_PORT, take).await, told }
    }

    /// How many messages it was told so far.
    pub(crate) fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }

    /// The options of a server that tells it.
    fn subscribe(&self, options: ServerOptions) -> ServerOptions {
        options.set("feed.enabled", true).set("feed.url", format!("http://{}/", self.server.address()))
    }
}

enum Spawned {
    Nothing,
    Server(#[expect(dead_code, reason = "held for its drop")] Box<Server>),
    Cluster(#[expect(dead_code, reason = "held for its drop")] Box<Cluster>),
}

impl Target {
    /// Starts or finds the server.
    pub(crate) async fn reach(options: &TargetOptions) -> Self {
        if let Some(address) = options.url {
            return Self {
                addresses: vec![address],
                operations: options.operations,
                pids: options.server_pid.into_iter().collect(),
                rest: Rest::new(address, Secrets::default()),
                listener: None,
                _spawned: Spawned::Nothing,
            };
        }
        let listener = if options.feed { Some(Listener::start().await) } else { None };
        let subscribed = |options| match &listener {
            Some(listener) => listener.subscribe(options),
            None => options,
        };
        if let Some(pods) = options.pods {
            let ClusterOptions { server, .. } = ClusterOptions::default();
            let options = ClusterOptions { pods: pods.into(), server: subscribed(server) };
            return Self { listener, ..Self::cluster(Cluster::start(options).await) };
        }
        let server = Server::start(subscribed(ServerOptions::default())).await;
        Self {
            addresses: vec![server.address()],
            operations: Some(server.operations()),
            pids: vec![server.pid()],
            rest: server.rest(),
            listener,
            _spawned: Spawned::Server(Box::new(server)),
        }
    }

    fn cluster(cluster: Cluster) -> Self {
        Self {
            addresses: cluster.addresses(),
            operations: None,
            pids: cluster.pods().iter().map(Server::pid).collect(),
            rest: cluster.rest(0),
            listener: None,
            _spawned: Spawned::Cluster(Box::new(cluster)),
        }
    }
}
