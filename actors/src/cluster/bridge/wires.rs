//! How pods reach each other: TCP, or what a simulation has in its place.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::transport::Transport;

/// How often a port that is still taken is tried again: after a restart, by the listener of the incarnation before.
const BIND_TRIES: u32 = 50;
/// The wait in between.
const BIND_PAUSE: Duration = Duration::from_millis(20);

/// Makes connections between pods.
#[async_trait]
pub trait Wires: fmt::Debug + Send + Sync + 'static {
    /// Listens there; port 0 is any free one.
    ///
    /// # Errors
    /// The address cannot be had.
    async fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Listening>>;

    /// Connects to `host:port`, without a deadline.
    ///
    /// # Errors
    /// Nobody is reached there.
    async fn dial(&self, address: &str) -> io::Result<Transport>;

    /// Where `ractor_cluster` may have the listener it insists on, and nobody is to use: its port is told to other pods.
    fn spare_address(&self, loopback: IpAddr) -> SocketAddr {
        SocketAddr::new(loopback, 0)
    }
}

/// A place where connections come in. Dropped, it is closed.
#[async_trait]
pub trait Listening: Send + 'static {
    /// Where that is.
    ///
    /// # Errors
    /// The system's.
    fn local_address(&self) -> io::Result<SocketAddr>;

    /// The next connection. Safe to cancel.
    ///
    /// # Errors
    /// The system's; the next one may succeed.
    async fn accept(&mut self) -> io::Result<Transport>;
}

/// TCP.
#[derive(Clone, Copy, Debug)]
pub struct Tcp;

#[async_trait]
impl Wires for Tcp {
    async fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Listening>> {
        for _ in 1..BIND_TRIES {
            match TcpListener::bind(address).await {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => sleep(BIND_PAUSE).await,
                bound => return Ok(Box::new(bound?)),
            }
        }
        Ok(Box::new(TcpListener::bind(address).await?))
    }

    async fn dial(&self, address: &str) -> io::Result<Transport> {
        Transport::tcp(TcpStream::connect(address).await?)
    }
}

#[async_trait]
impl Listening for TcpListener {
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    async fn accept(&mut self) -> io::Result<Transport> {
        loop {
            let (stream, _) = TcpListener::accept(self).await?;
            // One that has ended already is its own business.
            if let Ok(transport) = Transport::tcp(stream) {
                return Ok(transport);
            }
        }
    }
}
