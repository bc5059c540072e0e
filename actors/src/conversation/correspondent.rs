//! Where a message came from: a connection on this pod, one on another, or a request that is answered once.

use std::sync::{Arc, Mutex, PoisonError};

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::ids::SessionId;

use tokio::sync::oneshot;

use super::submission::Answer;
use crate::cluster::ForeignSession;
use crate::session::{SessionHandle, SessionMessage};

/// Who is answered. To an owner it makes no difference where they are.
#[derive(Clone, Debug)]
pub enum Correspondent {
    /// A session of this pod.
    Here(Arc<SessionHandle>),
    /// A session of another pod, reached over the bridge.
    Elsewhere(Arc<ForeignSession>),
    /// Somebody who asks once, without a connection.
    Asker(Arc<Asker>),
}

/// Somebody who asks once: a request over HTTP. It has one message under way, in no order with any other.
#[derive(Debug)]
pub struct Asker {
    session_id: SessionId,
    answer: Mutex<Option<oneshot::Sender<Answer>>>,
}

impl Asker {
    /// Whoever waits on the receiver; `session_id` is drawn for this one question.
    #[must_use]
    pub fn new(session_id: SessionId) -> (Self, oneshot::Receiver<Answer>) {
        let (answer, answered) = oneshot::channel();
        (Self { session_id, answer: Mutex::new(Some(answer)) }, answered)
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<oneshot::Sender<Answer>>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&self, answer: Answer) {
        if let Some(slot) = self.slot().take() {
            // Whoever asked may have gone: they ask again.
            let _ = slot.send(answer);
        }
    }

    fn has_gone(&self) -> bool {
        self.slot().as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

impl Correspondent {
    /// The session.
    #[must_use]
    pub fn session_id(&self) -> SessionId {
        match self {
            Self::Here(session) => session.session_id,
            Self::Elsewhere(session) => session.session_id(),
            Self::Asker(asker) => asker.session_id,
        }
    }

    /// Has it ended, or is its pod out of reach? Then nothing more comes from it.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        match self {
            Self::Here(session) => session.has_ended(),
            Self::Elsewhere(session) => session.has_ended(),
            Self::Asker(asker) => asker.has_gone(),
        }
    }

    /// Answers messages, each by its token.
    pub(super) fn answer(&self, answers: Vec<(u64, Answer)>) {
        match self {
            Self::Here(session) => session.answer(SessionMessage::Answered(answers)),
            Self::Elsewhere(session) => session.answer(answers),
            Self::Asker(asker) => answers.into_iter().for_each(|(_, answer)| asker.give(answer)),
        }
    }

    /// Says that what became of a message is not known.
    pub(super) fn lost(&self, token: u64) {
        match self {
            Self::Here(session) => session.answer(SessionMessage::Lost(token)),
            Self::Elsewhere(session) => session.lost(token),
            Self::Asker(asker) => asker.give(Answer::Refused(ErrorCode::Unavailable)),
        }
    }

    /// Is it the same connection?
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Here(one), Self::Here(other)) => Arc::ptr_eq(one, other),
            (Self::Elsewhere(one), Self::Elsewhere(other)) => Arc::ptr_eq(one, other),
            (Self::Asker(one), Self::Asker(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}
