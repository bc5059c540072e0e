//! Where connections come in. `ractor_cluster` has a listener of its own, but that one waits for each TLS handshake before
//! it accepts again, so that one silent stranger would lock everybody out; and it has no bound.

use std::sync::Arc;
use std::time::Duration;

use ractor::ActorRef;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::DIAL_TIMEOUT;
use super::actor::{BridgeMessage, Told};
use super::tls::Encryption;
use super::transport::Transport;
use super::wires::Listening;

/// Accepted connections that do not carry a link yet. More wait in the kernel, each at most [`super::GREETING_MAX`]
/// behind another.
const STRANGERS_MAX: usize = 32;
/// The wait after an accept that failed: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The open gate. Dropped, it closes, and nobody else comes in.
pub(super) struct Gate(JoinHandle<()>);

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Opens the gate: who gets through the TLS handshake is announced to the bridge.
pub(super) fn open(
    listener: Box<dyn Listening>,
    encryption: Encryption,
    bridge: ActorRef<BridgeMessage>,
) -> Gate {
    Gate(tokio::spawn(admit(listener, encryption, bridge)))
}

async fn admit(mut listener: Box<dyn Listening>, encryption: Encryption, bridge: ActorRef<BridgeMessage>) {
    let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
    // Ends with this future; each holds a permit, which bounds them.
    let mut handshakes = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&strangers).acquire_owned().await else { return };
        while handshakes.try_join_next().is_some() {}
        match listener.accept().await {
            Ok(transport) => {
                handshakes.spawn(greet(transport, Stranger(permit), encryption.clone(), bridge.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "the bridge cannot accept connections");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn greet(
    transport: Transport,
    stranger: Stranger,
    encryption: Encryption,
    bridge: ActorRef<BridgeMessage>,
) {
    // Anybody can cause these, at any rate: no warnings.
    match timeout(DIAL_TIMEOUT, encryption.accept(transport)).await {
        Ok(Ok(transport)) => {
            // A bridge that has ended has closed its gate.
            let _ = bridge.cast(BridgeMessage(Told::Accepted(Box::new((transport, stranger)))));
        }
        Ok(Err(error)) => tracing::debug!(%error, "a stranger did not get through TLS"),
        Err(_) => tracing::debug!("a stranger did not finish the TLS handshake in time"),
    }
}

/// A place among those that are not yet known.
pub(super) struct Stranger(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);
