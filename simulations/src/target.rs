//! The server under load: spawned from the same build as this program, or one that is running.

use std::net::SocketAddr;

use clap::Args;
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
}

/// The server, and what is known of it.
pub(crate) struct Target {
    /// Where REST and WebSocket are served.
    pub(crate) address: SocketAddr,
    /// Where metrics are served.
    pub(crate) operations: Option<SocketAddr>,
    /// Its process.
    pub(crate) pid: Option<u32>,
    /// Its REST interface.
    pub(crate) rest: Rest,
    /// Ends with this value, if it was spawned.
    _server: Option<Server>,
}

impl Target {
    /// Starts or finds the server.
    pub(crate) async fn reach(options: &TargetOptions) -> Self {
        if let Some(address) = options.url {
            return Self {
                address,
                operations: options.operations,
                pid: options.server_pid,
                rest: Rest::new(address, Secrets::default()),
                _server: None,
            };
        }
        let server = Server::start(ServerOptions::default()).await;
        Self {
            address: server.address(),
            operations: Some(server.operations()),
            pid: Some(server.pid()),
            rest: server.rest(),
            _server: Some(server),
        }
    }
}
