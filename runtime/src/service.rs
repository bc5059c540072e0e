//! One node from start to stop: what comes up in which order, and how it goes down without losing anything (DRAIN).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use colloquy_actors::node::Node;
use colloquy_gateway_http::readiness::{Phase, Readiness};
use colloquy_gateway_http::server::{HttpServer, Stopped};
use colloquy_protocol::close::CloseCode;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::composition::{ComposeError, compose};
use crate::config::Config;
use crate::store::OpenStore;

/// Clients are spread over this much time for each of them when they are asked to move, so that a node with few
/// lets them go at once and one with many does not send them all in the same moment.
const MIGRATION_SPREAD_PER_SESSION: Duration = Duration::from_millis(1);
/// How often it is looked whether all clients have gone.
const DRAIN_POLL: Duration = Duration::from_millis(25);

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
        let composition = compose(config).await?;
        let operations = Listener::open(config.operations.listen, config, composition.operations)?;
        let public = Listener::open(config.listen, config, composition.public)?;
        composition.node.settled().await;
        composition.readiness.advance(Phase::Ready);
        let public_endpoint = match config.public_endpoint.as_str() {
            "" => format!("ws://{}/ws", public.address),
            endpoint => endpoint.to_owned(),
        };
        Ok(Self {
            node: composition.node,
            store: composition.store,
            readiness: composition.readiness,
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
        // First: who moves finds their conversations where they will stay.
        node.hand_over().await;
        let sessions = u32::try_from(node.open_sessions()).unwrap_or(u32::MAX);
        let spread = (MIGRATION_SPREAD_PER_SESSION * sessions).min(drain_window / 2);
        tracing::info!(sessions, "draining");
        node.migrate(&public_endpoint, spread);
        let deadline = Instant::now() + drain_window;
        while node.open_sessions() > 0 && Instant::now() < deadline {
            tokio::time::sleep(DRAIN_POLL).await;
        }
        node.close_sessions(CloseCode::Draining);
        let until_closed = Instant::now() + CLOSE_GRACE;
        while node.open_sessions() > 0 && Instant::now() < until_closed {
            tokio::time::sleep(DRAIN_POLL).await;
        }
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

/// How long sockets may take to close once they are told to.
const CLOSE_GRACE: Duration = Duration::from_secs(3);

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
