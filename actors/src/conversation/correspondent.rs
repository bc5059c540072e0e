//! The connection a message came from: on this pod, or on another.

use std::sync::Arc;

use colloquy_protocol::ids::SessionId;

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
}

impl Correspondent {
    /// The session.
    #[must_use]
    pub fn session_id(&self) -> SessionId {
        match self {
            Self::Here(session) => session.session_id,
            Self::Elsewhere(session) => session.session_id(),
        }
    }

    /// Has it ended, or is its pod out of reach? Then nothing more comes from it.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        match self {
            Self::Here(session) => session.has_ended(),
            Self::Elsewhere(session) => session.has_ended(),
        }
    }

    /// Answers messages, each by its token.
    pub(super) fn answer(&self, answers: Vec<(u64, Answer)>) {
        match self {
            Self::Here(session) => session.answer(SessionMessage::Answered(answers)),
            Self::Elsewhere(session) => session.answer(answers),
        }
    }

    /// Says that what became of a message is not known.
    pub(super) fn lost(&self, token: u64) {
        match self {
            Self::Here(session) => session.answer(SessionMessage::Lost(token)),
            Self::Elsewhere(session) => session.lost(token),
        }
    }

    /// Is it the same connection?
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Here(one), Self::Here(other)) => Arc::ptr_eq(one, other),
            (Self::Elsewhere(one), Self::Elsewhere(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}
