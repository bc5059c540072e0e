//! The connection: one task per logged-in profile that drives the pure machines over a WebSocket and REST.
//!
//! ```text
//! socket ─ frames ─> engine ─> Inbound (order) ─> ingest: one batch in the store ─> delivery_ack, events
//! outbox (store) ──> Outbound (window, order) ─> dispatch: seal, one batch ─> socket
//!                    errands: device lists, keys, tokens, over REST, beside the loop
//! ```
//!
//! | file | noun |
//! |---|---|
//! | [`engine`] | the task: connects, waits, connects again |
//! | `live` | one authenticated connection, frame by frame |
//! | `sending` | the outbox of a live connection |
//! | `upkeep` | keys, tokens and heartbeats of a live connection |
//! | [`ingest`] | what arrived, into the store |
//! | [`verdicts`] | which verdict on a request for approval counts |
//! | `mending` | broken sessions, repaired |
//! | [`streaming`] | answers while they are being written |
//! | `resync` | marks that moved while this device was away |
//! | [`dispatch`] | what is to be sent, encrypted |
//! | [`errand`] | REST calls beside the loop |
//! | [`registration`] | this device, made known to the server |
//! | [`credentials`] | tokens that are always fresh |
//! | `reading` | a frame's text, of this protocol or a newer one |
//! | [`socket`] | the WebSocket |

pub(crate) mod credentials;
pub(crate) mod dispatch;
pub(crate) mod engine;
pub(crate) mod errand;
pub(crate) mod ingest;
mod live;
mod mending;
#[cfg(feature = "mutations")]
mod mutated;
mod reading;
pub(crate) mod registration;
mod resync;
mod sending;
pub(crate) mod socket;
pub(crate) mod streaming;
mod upkeep;
pub(crate) mod verdicts;

#[cfg(test)]
mod tests;
