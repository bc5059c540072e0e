//! The sessions of users, wherever they are connected.

use std::sync::Arc;

use colloquy_protocol::ids::{ConversationId, UserId};
use colloquy_storage::model::message::Message;

use super::{LiveSessions, SessionMessage};
use crate::cluster::{Herald, Tidings};

/// Tells sessions what has happened: those of this pod at once, those of others by a hint that may be lost and is then
/// made good by reading the log.
#[derive(Clone, Debug)]
pub struct Reach(Arc<Everywhere>);

#[derive(Debug)]
struct Everywhere {
    here: LiveSessions,
    elsewhere: Option<Herald>,
}

impl Reach {
    /// The sessions of this pod, and with a `herald` those of all.
    #[must_use]
    pub fn new(here: LiveSessions, elsewhere: Option<Herald>) -> Self {
        Self(Arc::new(Everywhere { here, elsewhere }))
    }

    /// Shows messages that have just been stored, in order.
    pub fn show(&self, audience: &Arc<[UserId]>, messages: &Arc<[Arc<Message>]>) {
        self.here(audience, |session| session.offer(SessionMessage::Delivered(Arc::clone(messages))));
        self.elsewhere(audience, || Tidings::Stored(Arc::clone(messages)));
    }

    /// Says how far a conversation's log reaches.
    pub fn log_reaches(&self, audience: &Arc<[UserId]>, conversation_id: ConversationId, end: u64) {
        self.here(audience, |session| session.offer(SessionMessage::LogReaches(conversation_id, end)));
        self.elsewhere(audience, || Tidings::LogReaches(conversation_id, end));
    }

    /// Passes on a text.
    pub fn push(&self, audience: &Arc<[UserId]>, text: &Arc<str>) {
        self.here(audience, |session| session.offer(SessionMessage::Push(Arc::clone(text))));
        self.elsewhere(audience, || Tidings::Push(Arc::clone(text)));
    }

    /// Passes on a text that may be lost.
    pub fn whisper(&self, audience: &Arc<[UserId]>, text: &Arc<str>) {
        self.here(audience, |session| session.whisper(SessionMessage::Whisper(Arc::clone(text))));
        self.elsewhere(audience, || Tidings::Whisper(Arc::clone(text)));
    }

    /// Tells the sessions of this pod alone.
    pub fn here(&self, audience: &[UserId], tell: impl Fn(&super::SessionHandle)) {
        for user_id in audience {
            self.0.here.of_user(*user_id, |session| tell(session));
        }
    }

    fn elsewhere(&self, audience: &Arc<[UserId]>, tidings: impl FnOnce() -> Tidings) {
        if let Some(herald) = &self.0.elsewhere {
            herald.tell(Arc::clone(audience), tidings());
        }
    }
}
