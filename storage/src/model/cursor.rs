//! How far devices and people have come. Cursors only move forward.

use colloquy_protocol::ids::{ConversationId, DeviceId, UserId};
use serde::{Deserialize, Serialize};

/// What a cursor counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CursorKind {
    /// This device of the user holds everything up to here.
    Delivered(DeviceId),
    /// The user has seen everything up to here.
    Read,
    /// The user's own newest message: it and what came before count as seen, without a receipt.
    Sent,
}

/// One cursor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// In this conversation ...
    pub conversation_id: ConversationId,
    /// ... this user ...
    pub user_id: UserId,
    /// ... counts this ...
    pub kind: CursorKind,
    /// ... and has come up to here, inclusive.
    pub through: u64,
}
