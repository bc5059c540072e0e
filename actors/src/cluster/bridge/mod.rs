//! The bridge: one link to each other pod, over `ractor_cluster`. Carries opaque frames, in order, or says that the link is
//! gone.
//!
//! | file | what |
//! |---|---|
//! | [`options`] | what a bridge is started with |
//! | [`links`] | the handle: sending, membership |
//! | `actor` | the shell: the one remotable actor of a pod, above its `NodeServer` |
//! | `exchange` | who is linked over which connection |
//! | `connections` | the connections that stand |
//! | `link` | one link: greeting, pulse, silence. Pure |
//! | `peer` | who dials, and when again. Pure |
//! | `outgoing`, `window` | what has been sent and not been taken in (BOUND) |
//! | `packet` | the bytes. Pure |
//! | `transport`, `gate`, `tls` | connections: cut at once, accepted within bounds, encrypted |
//! | `wires` | what makes them: TCP, or a simulation's network |
//!
//! `ractor_cluster` gives framing, the cookie's challenge and the election among several connections of one pair. Its
//! queues have no bound, a peer that falls silent is never given up, and nothing connects again: that is done here. A link
//! has a number at each end, drawn anew for each attempt; every packet carries the receiver's, so what was sent over an
//! earlier link is never taken for a later one's.
//!
//! Every actor whose messages can be serialised is mirrored on every peer: [`Bridge`] must stay the only one. A peer's
//! mirror is found by its name among the children of the very session it belongs to. Process groups cannot serve: the ids
//! of mirrors of two nodes within one process collide in them.
//!
//! What the cookie's challenge does not give: it is 32 bits wide, not bound to the connection, and what follows it is
//! neither encrypted nor signed. Without TLS it keeps out strangers, not somebody between two pods. With TLS both sides
//! show a certificate of the same authority, which must name [`TLS_NAME`]; which *pod* a certificate belongs to is not
//! checked. `ractor_cluster` writes whole messages to its log at level `debug`: it must be kept above (PRIVATE).

mod actor;
mod connections;
mod exchange;
#[cfg(test)]
mod far_end;
mod gate;
mod link;
pub mod links;
pub mod options;
mod outgoing;
mod packet;
mod peer;
#[cfg(test)]
mod tests;
mod tls;
mod transport;
mod window;
mod wires;

use std::time::Duration;

use colloquy_storage::model::live::PodId;

#[cfg(test)]
pub(in crate::cluster) use far_end::FarEnd;

pub use actor::{Bridge, BridgeArguments, BridgeMessage};
pub use links::{Links, Unsent};
pub use options::{BridgeOptions, BridgeTls, Cookie, TLS_NAME};
pub use tls::TlsUnusable;
pub use transport::Transport;
pub use wires::{Listening, Tcp, Wires};

/// Largest frame, bytes.
pub const FRAME_MAX: usize = 1024 * 1024;
/// Frames sent to one peer that its bridge has not yet taken in; with so many, sending says [`Unsent::Full`].
pub const WINDOW_FRAMES: u64 = 8192;
/// The same in bytes.
pub const WINDOW_BYTES: u64 = 8 * 1024 * 1024;
/// How often each end of a link is heard, even if it has nothing to say.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// A peer that was not heard for so long is down.
pub const SILENCE_MAX: Duration = Duration::from_secs(4);
/// How long a connection may take from being opened to carrying a link.
pub const GREETING_MAX: Duration = Duration::from_secs(4);
/// How long the TCP and TLS handshakes of a dial may take.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// The wait before a lost link is dialled again; doubles, less up to a half by chance, ...
pub const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// ... up to this.
pub const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Who hears of links. Called by the bridge, one call at a time: none of these may block, and what panics here ends the
/// bridge, with every link. For one peer the calls come as `up`, any number of `received`, `down`, and over again.
pub trait LinkEvents: Send + Sync + 'static {
    /// A link to this pod stands; nothing that was sent over an earlier one will arrive any more. `version` is the newest
    /// protocol version that both speak.
    fn up(&self, peer: &PodId, incarnation: u64, version: u16);
    /// The link is gone; what was sent over it may or may not have arrived.
    fn down(&self, peer: &PodId);
    /// A frame, in the order in which they were sent over this link.
    fn received(&self, peer: &PodId, frame: Vec<u8>);
}
