//! Pure machines: what came, what goes, and when to try again. They take `now` and random numbers as arguments,
//! hold no socket and no store, and are tested beside their code.
//!
//! Times are milliseconds on any clock that does not go back.

pub mod backoff;
pub mod inbound;
pub mod outbound;
pub mod stream;

pub use backoff::{Backoff, BackoffPolicy, Reconnect};
pub use inbound::Inbound;
pub use outbound::{Need, Outbound, Work};
