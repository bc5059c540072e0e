//! The WebSocket frames. Every frame is one JSON text message with a `type`.
//!
//! [`client`] holds what a client may send, [`server`] what a server may send, [`delta`] what both may. Both sides of each frame live
//! here, so a client parses exactly what a server writes.

pub mod client;
pub mod delta;
#[cfg(test)]
mod golden;
pub mod server;

use serde::{Deserialize, Serialize};

/// What kind of thing a message carries; in the clear, because a client picks its renderer by it before decrypting.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum MessageType {
    /// Plain text, once decrypted.
    Text,
    /// A picture.
    Image,
    /// A film.
    Video,
    /// A recording.
    Audio,
    /// A file.
    Document,
    /// A place.
    Location,
}

/// How far a message has come. It never goes back.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum MessageStatus {
    /// In the store (DURABLE).
    Sent,
    /// On a device of every recipient.
    Delivered,
    /// Seen by every recipient.
    Read,
}

/// Whether a user has an open session.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum PresenceStatus {
    /// At least one device has an open session.
    Online,
    /// None has.
    Offline,
}

/// Whether a user is composing a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TypingState {
    /// Composing.
    Started,
    /// No longer.
    Stopped,
}
