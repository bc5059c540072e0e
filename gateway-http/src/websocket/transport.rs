//! The socket's settings.

use axum::extract::ws::WebSocketUpgrade;
use colloquy_protocol::limits::FRAME_MAX_BYTES;

/// Read buffer, bytes. tungstenite's default of 128 KiB is what an idle connection would cost.
const READ_BUFFER_BYTES: usize = 2048;
/// Texts are gathered up to here before they are written: one system call for a burst. Nothing is held back, because
/// every burst ends with a flush.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;
/// Most that may wait for a slow socket inside the WebSocket layer.
const WRITE_BUFFER_MAX_BYTES: usize = 256 * 1024;

/// The one thing that differs between `/ws` and the conformance echo: how large a message may be.
#[derive(Clone, Copy, Debug)]
pub struct Transport {
    /// Largest message and largest frame, bytes.
    pub message_max_bytes: usize,
}

impl Default for Transport {
    fn default() -> Self {
        Self { message_max_bytes: FRAME_MAX_BYTES }
    }
}

/// An upgrade with the tuned settings.
pub fn tuned(upgrade: WebSocketUpgrade, transport: Transport) -> WebSocketUpgrade {
    upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BUFFER_MAX_BYTES.max(2 * transport.message_max_bytes))
        .max_message_size(transport.message_max_bytes)
        .max_frame_size(transport.message_max_bytes)
}
