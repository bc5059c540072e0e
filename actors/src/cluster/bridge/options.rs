//! What a bridge is started with.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use colloquy_storage::model::live::PodId;

use super::wires::Wires;

/// The DNS name that every pod's certificate must carry among its subject alternative names. Pods come and go under
/// addresses that no certificate could list.
pub const TLS_NAME: &str = "colloquy-bridge";

/// The secret that all pods share, in clear. Should be drawn at random, 32 bytes or more: whoever overhears a connection
/// without TLS can try guesses at leisure.
#[derive(Clone)]
pub struct Cookie(Arc<str>);

impl Cookie {
    /// A secret.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self(secret.into())
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookie(..)")
    }
}

/// Files, in PEM, for TLS 1.3 with certificates on both sides. Read when the bridge starts.
#[derive(Clone, Debug)]
pub struct BridgeTls {
    /// This pod's certificate, for [`TLS_NAME`], for use as server and as client; then any intermediate ones.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities that the other pods' certificates must descend from.
    pub ca: PathBuf,
}

/// What a bridge is told about its own pod.
#[derive(Clone, Debug)]
pub struct BridgeOptions {
    /// Its name.
    pub pod_id: PodId,
    /// Its incarnation.
    pub incarnation: u64,
    /// Where to listen. Port 0 is any free one, which the bridge then keeps over its own restarts.
    pub listen: SocketAddr,
    /// The secret of the cluster.
    pub cookie: Cookie,
    /// Encrypts every link; `None` sends in clear.
    pub tls: Option<BridgeTls>,
    /// The protocol versions this pod speaks: oldest, newest.
    pub protocol_version: (u16, u16),
    /// What links go over: [`Tcp`](super::Tcp), unless it is a simulation.
    pub wires: Arc<dyn Wires>,
}
