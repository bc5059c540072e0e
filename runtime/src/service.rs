//! One node from start to stop: what comes up in which order, and how it goes down without losing anything (DRAIN).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use colloquy_actors::node::Node;
use colloquy_gateway_http::readiness::{Phase, Readiness};
use colloquy_gateway_http::server::{HttpServer, Stopped};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::composition::{Assembly, ComposeError, Composition, compose};
use crate::config::Config;
use crate::drain::drain;
use crate::store::OpenStore;

/// A running node.
pub struct Service {
    node: Node,
    store: OpenStore,
    readiness: Readiness,
    public: Listener,
    operations: Listener,
    drain_window: Duration,
    public_endpoint: String,
}

struct Listener {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    served: JoinHandle<Stopped>,
}

/// Why a node cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// The restart budget of the root is spent.
    #[error("the actors have given up")]
    Actors,
    /// A commit has failed: a full or broken disk.
    #[error("the store takes no more writes")]
    Store,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its parts could not be put together.
    #[error(transparent)]
    Compose(#[from] ComposeError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl Service {
    /// Starts a node: store, actors, operations, and last the gateway.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let Composition { assembly, store } = compose(config).await?;
        let Assembly { node, readiness, public, operations, .. } = assembly;
        let operations = Listener::open(config.operations.listen, config, operations)?;
        let public = Listener::open(config.listen, config, public)?;
        node.settled().await;
        readiness.advance(Phase::Ready);
        let public_endpoint = match config.public_endpoint.as_str() {
            "" => format!("ws://{}/ws", public.address),
            endpoint => endpoint.to_owned(),
        };
        Ok(Self {
            node,
            store,
            readiness,
            public,
            operations,
            drain_window: Duration::from_millis(config.drain.window_ms),
            public_endpoint,
        })
    }

    /// Where clients connect.
    #[must_use]
    pub fn public_address(&self) -> SocketAddr {
        self.public.address
    }

    /// Where health and metrics are.
    #[must_use]
    pub fn operations_address(&self) -> SocketAddr {
        self.operations.address
    }

    /// The actors, for chaos tests.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Waits until the node cannot go on: the root of the actors has given up, or the store takes no more writes. The
    /// process should exit non-zero then, and be started again.
    pub async fn failed(&mut self) -> Failed {
        let failed = tokio::select! {
            () = self.node.failed() => Failed::Actors,
            () = self.store.failed() => Failed::Store,
        };
        self.readiness.advance(Phase::Draining);
        failed
    }

    /// Stops the node: no new clients, the open ones sent elsewhere and waited for, actors stopped bottom-up with
    /// what they hold written out, store closed last.
    pub async fn stop(self) {
        let Self { node, store, readiness, public, operations, drain_window, public_endpoint } = self;
        readiness.advance(Phase::Draining);
        public.stop.send_replace(true);
        drain(&node, &public_endpoint, drain_window).await;
        // A panic in a listener is no reason to leave the store open.
        let _ = public.served.await;
        node.stop().await;
        if let Err(error) = store.close().await {
            tracing::error!(%error, "the store did not close cleanly; what was acked is safe");
        }
        operations.stop.send_replace(true);
        let _ = operations.served.await;
        tracing::info!("stopped");
    }
}

impl Listener {
    fn open(
        address: SocketAddr,
        config: &Config,
        router: colloquy_gateway_http::Router,
    ) -> Result<Self, StartError> {
        let failed = |source| StartError::Listen { address, source };
        let server = HttpServer::bind(address, config.server_options()).map_err(failed)?;
        let bound = server.local_address().map_err(failed)?;
        let (stop, stopped) = watch::channel(false);
        let served = tokio::spawn(server.serve(router, stopped));
        Ok(Self { address: bound, stop, served })
    }
}
