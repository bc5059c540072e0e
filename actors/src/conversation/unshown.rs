//! What is stored and nobody has been shown yet.

use std::sync::Arc;

use colloquy_protocol::ids::{ConversationId, UserId};

use crate::feed::Feed;
use crate::session::Reach;

/// Travels with a batch to the log and back. If it is dropped on the way, because the owner has died, it tells the
/// participants' sessions how far the log reaches, and they read the rest for themselves, as the feed does: what is stored does not
/// wait for the next message to be shown (NOLOSS, ISOLATE).
#[derive(Debug)]
pub struct Unshown {
    conversation_id: ConversationId,
    audience: Arc<[UserId]>,
    reach: Reach,
    feed: Feed,
    /// The newest number the log has given; 0 while nothing is known to be stored.
    log_end: u64,
}

impl Unshown {
    /// Nothing yet, for the sessions of `audience` and whoever is told of all messages.
    #[must_use]
    pub fn new(conversation_id: ConversationId, audience: Arc<[UserId]>, reach: Reach, feed: Feed) -> Self {
        Self { conversation_id, audience, reach, feed, log_end: 0 }
    }

    /// The log has placed messages up to this number.
    pub fn stored_up_to(&mut self, log_end: u64) {
        self.log_end = log_end;
    }

    /// The owner has shown them.
    pub fn are_shown(mut self) {
        self.log_end = 0;
    }
}

impl Drop for Unshown {
    fn drop(&mut self) {
        if self.log_end == 0 {
            return;
        }
        self.reach.log_reaches(&self.audience, self.conversation_id, self.log_end);
        self.feed.log_reaches(self.conversation_id, self.log_end);
    }
}
