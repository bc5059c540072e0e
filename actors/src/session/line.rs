//! The line between a session's actor and the task that owns its socket.
//!
//! ```text
//! socket task ── Inbound: parsed frames, each with a credit ──> session actor
//! socket task <── Outbound: texts, bounded ──────────────────── session actor
//!      both   ── Line: closing, authenticated, token expiry, "tell me when there is room"
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use colloquy_protocol::UnixMillis;
use colloquy_protocol::close::CloseCode;
use colloquy_protocol::frame::client::{ClientFrame, RefusedFrame};
use colloquy_protocol::limits::SEND_WINDOW_MAX;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::SessionMessage;
use super::handle::Closing;
use crate::supervision::Mailbox;

/// Texts that may wait for the socket.
pub const OUTBOUND_MAX_FRAMES: usize = 256;
/// Of those, how many are kept for answers and receipts: messages go no further than this, and are read from the
/// log again once there is room.
const OUTBOUND_RESERVE: usize = 128;
/// Bytes of text that may wait for the socket before messages are left in the log. One page more than this, and the
/// answers in the reserve, is the most a session holds for its socket.
const OUTBOUND_MAX_BYTES: usize = 256 * 1024;

/// One frame's right to be under way: given back when its answer has been given (for a message), or when it has been
/// handled (for all else). The socket is not read while none is free.
#[derive(Debug)]
pub struct Credit(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// The credits of one session: as many frames may be under way as there are, [`SEND_WINDOW_MAX`].
#[derive(Clone, Debug)]
pub struct Credits(Arc<Semaphore>);

impl Credits {
    /// The right to read one more frame, now; `None` if as many are under way as may be.
    #[must_use]
    pub fn try_take(&self) -> Option<Credit> {
        Arc::clone(&self.0).try_acquire_owned().ok().map(Credit)
    }

    /// Waits for the right to read one more frame.
    pub async fn take(&self) -> Credit {
        let permit = Arc::clone(&self.0).acquire_owned().await;
        Credit(permit.expect("this semaphore is never closed"))
    }
}

/// What both ends of the line see.
#[derive(Clone, Debug, Default)]
pub struct Line {
    closing: Closing,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    authenticated: AtomicBool,
    token_expires_at: AtomicU64,
    wants_room: AtomicBool,
    /// Bytes of the texts that wait.
    outbound_bytes: AtomicUsize,
}

impl Line {
    /// The way to close the socket.
    #[must_use]
    pub fn closing(&self) -> &Closing {
        &self.closing
    }

    /// Has the session been authenticated?
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.shared.authenticated.load(Ordering::Acquire)
    }

    /// When the session's token runs out; `None` before authentication.
    #[must_use]
    pub fn token_expires_at(&self) -> Option<UnixMillis> {
        self.is_authenticated().then(|| self.shared.token_expires_at.load(Ordering::Acquire))
    }

    pub(super) fn authenticated_until(&self, expires_at: UnixMillis) {
        self.shared.token_expires_at.store(expires_at, Ordering::Release);
        self.shared.authenticated.store(true, Ordering::Release);
    }
}

/// The session's end: texts for the socket.
#[derive(Debug)]
pub struct Outlet {
    frames: mpsc::Sender<String>,
    line: Line,
}

impl Outlet {
    /// Sends an answer or a receipt. If not even the reserve has room, the client is not reading: it is closed, and
    /// resumes (BOUND).
    pub fn control(&self, text: String) {
        if !self.send(text) && !self.frames.is_closed() {
            self.line.closing.request(CloseCode::SlowConsumer);
        }
    }

    /// Sends a message if there is room beyond the reserve; says whether it was sent.
    pub fn message(&self, text: impl FnOnce() -> String) -> bool {
        self.has_room() && self.send(text())
    }

    /// Is there room beyond the reserve? If not, the socket's task will say when there is.
    #[must_use]
    pub fn has_room(&self) -> bool {
        if self.is_below_bounds() {
            return true;
        }
        self.line.shared.wants_room.store(true, Ordering::SeqCst);
        // The socket's task may have emptied the queue between the two.
        self.is_below_bounds()
    }

    fn is_below_bounds(&self) -> bool {
        let bytes = self.line.shared.outbound_bytes.load(Ordering::SeqCst);
        self.frames.capacity() > OUTBOUND_RESERVE && bytes < OUTBOUND_MAX_BYTES
    }

    fn send(&self, text: String) -> bool {
        let bytes = text.len();
        // Counted before it can be taken out.
        self.line.shared.outbound_bytes.fetch_add(bytes, Ordering::SeqCst);
        let sent = self.frames.try_send(text).is_ok();
        if !sent {
            self.line.shared.outbound_bytes.fetch_sub(bytes, Ordering::SeqCst);
        }
        sent
    }

    /// The line.
    #[must_use]
    pub fn line(&self) -> &Line {
        &self.line
    }
}

/// The socket task's end. Dropping it ends the session.
#[derive(Debug)]
pub struct SocketEnd {
    /// Texts to write.
    pub outbound: mpsc::Receiver<String>,
    line: Line,
    mailbox: Mailbox<SessionMessage>,
    credits: Credits,
}

impl SocketEnd {
    pub(super) fn new(
        mailbox: Mailbox<SessionMessage>,
        outbound: mpsc::Receiver<String>,
        line: Line,
    ) -> Self {
        Self { outbound, line, mailbox, credits: Credits(Arc::new(Semaphore::new(SEND_WINDOW_MAX))) }
    }

    /// The line.
    #[must_use]
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// The session's credits.
    #[must_use]
    pub fn credits(&self) -> Credits {
        self.credits.clone()
    }

    /// Hands a frame to the session; says whether there still is one.
    #[must_use]
    pub fn received(&self, frame: Result<ClientFrame, RefusedFrame>, credit: Credit) -> bool {
        // Bounded by the credits.
        self.mailbox.cast_beyond_capacity(SessionMessage::Received(frame, credit)).is_ok()
    }

    /// Texts of this many bytes have been written out: the session may have waited for that.
    pub fn drained(&self, bytes: usize) {
        self.line.shared.outbound_bytes.fetch_sub(bytes, Ordering::SeqCst);
        if self.line.shared.wants_room.swap(false, Ordering::SeqCst) {
            // One per time the session asks for it.
            let _ = self.mailbox.cast_beyond_capacity(SessionMessage::Continue);
        }
    }
}

impl Drop for SocketEnd {
    fn drop(&mut self) {
        let _ = self.mailbox.cast_beyond_capacity(SessionMessage::SocketEnded);
    }
}

/// A line for a session that is about to be started.
#[must_use]
pub(super) fn lay() -> (Outlet, mpsc::Receiver<String>, Line) {
    let (frames, outbound) = mpsc::channel(OUTBOUND_MAX_FRAMES);
    let line = Line::default();
    (Outlet { frames, line: line.clone() }, outbound, line)
}
