//! How the rest of the node reaches one session: its mailbox, and a way to close its socket that needs no mailbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use colloquy_protocol::close::CloseCode;
use colloquy_protocol::ids::{DeviceId, LoginId, SessionId, UserId};
use tokio::sync::Notify;

use super::SessionMessage;
use crate::supervision::{Mailbox, Refused};

/// A session, as others see it.
#[derive(Debug)]
pub struct SessionHandle {
    /// The session.
    pub session_id: SessionId,
    /// Whose it is.
    pub user_id: UserId,
    /// On which device.
    pub device_id: DeviceId,
    /// Through which log-in.
    pub login_id: LoginId,
    pub(super) mailbox: Mailbox<SessionMessage>,
    pub(crate) closing: Closing,
    pub(super) ended: AtomicBool,
    /// It has been entered in the live directory: whoever looks there finds it, unless the directory has forgotten it.
    pub(crate) is_entered: AtomicBool,
    /// A `Resync` waits in the mailbox.
    pub(super) resyncs: AtomicBool,
}

impl SessionHandle {
    /// A session whose letters a test reads.
    #[cfg(test)]
    pub(crate) fn read_by(
        mailbox: Mailbox<SessionMessage>,
        session_id: SessionId,
        (user_id, device_id): (UserId, DeviceId),
    ) -> Self {
        let (login_id, closing) = (LoginId(session_id.0), Closing::default());
        Self {
            session_id,
            user_id,
            device_id,
            login_id,
            mailbox,
            closing,
            ended: AtomicBool::new(false),
            is_entered: AtomicBool::new(false),
            resyncs: AtomicBool::new(false),
        }
    }

    /// Hands the session something that it can catch up on later by itself. A session whose mailbox is full is
    /// closed with `slow_consumer`: it resumes from its cursors (BOUND, NOLOSS).
    pub fn offer(&self, message: SessionMessage) {
        if let Err(Refused::Busy(_)) = self.mailbox.try_cast(message) {
            self.close(CloseCode::SlowConsumer);
        }
    }

    /// Answers something the session asked. Their number is bounded by what it may ask at once.
    pub fn answer(&self, message: SessionMessage) {
        // A session that has ended needs no answer: its client resumes and asks again.
        let _ = self.mailbox.cast_beyond_capacity(message);
    }

    /// Hands the session something that may be lost: it is dropped if the mailbox is full.
    pub fn whisper(&self, message: SessionMessage) {
        let _ = self.mailbox.try_cast(message);
    }

    /// Has the session look for what was lost. One such letter waits at a time.
    pub fn resync(&self) {
        if !self.resyncs.swap(true, Ordering::SeqCst) {
            self.answer(SessionMessage::Resync);
        }
    }

    /// It looks now: the next such letter is another one.
    pub(crate) fn resyncing(&self) {
        self.resyncs.store(false, Ordering::SeqCst);
    }

    /// Has the session ended, by whatever end? Then nothing more comes from it.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// The actor, for chaos tests to kill.
    #[must_use]
    pub fn cell(&self) -> ractor::ActorCell {
        self.mailbox.cell()
    }

    /// Closes the socket; the session ends when the socket has.
    pub fn close(&self, code: CloseCode) {
        self.closing.request(code);
    }
}

/// A request to close a socket, seen by the task that owns it even while every queue is full. The first one counts.
#[derive(Clone, Debug, Default)]
pub struct Closing(Arc<ClosingSlot>);

#[derive(Debug, Default)]
struct ClosingSlot {
    /// 0 while open.
    number: AtomicU16,
    requested: Notify,
}

impl Closing {
    /// Asks for the socket to be closed.
    pub fn request(&self, code: CloseCode) {
        let first = self.0.number.compare_exchange(0, code.number(), Ordering::AcqRel, Ordering::Acquire);
        if first.is_ok() {
            self.0.requested.notify_one();
        }
    }

    /// Waits for a request. One task may wait at a time: the one that owns the socket.
    pub async fn requested(&self) -> u16 {
        loop {
            let number = self.0.number.load(Ordering::Acquire);
            if number != 0 {
                return number;
            }
            self.0.requested.notified().await;
        }
    }
}
