//! What changes of accounts mean to the actors of this pod.

use std::sync::Arc;

use colloquy_protocol::ids::{ConversationId, DeviceId, LoginId, UserId};
use colloquy_storage::ports::Conversations;

use crate::conversation::{ConversationIndex, ConversationMessage};
use crate::session::LiveSessions;

/// Conversations read at once while telling them that a participant's devices have changed.
const WALK_PAGE: usize = 500;

/// Acts on revoked log-ins and changed devices. Cheap to clone.
#[derive(Clone)]
pub struct AccountChanges {
    sessions: LiveSessions,
    conversations: ConversationIndex,
    directory: Arc<dyn Conversations>,
}

impl AccountChanges {
    /// On these sessions and conversations.
    #[must_use]
    pub fn new(
        sessions: LiveSessions,
        conversations: ConversationIndex,
        directory: Arc<dyn Conversations>,
    ) -> Self {
        Self { sessions, conversations, directory }
    }

    /// A log-in no longer stands: what is open under it is closed (AUTHZ).
    pub fn login_revoked(&self, user_id: UserId, login_id: LoginId) {
        self.sessions.close_login(user_id, login_id);
    }

    /// A device was removed, if any: what is open on it is closed (AUTHZ).
    pub fn device_removed(&self, user_id: UserId, removed: Option<&DeviceId>) {
        if let Some(device_id) = removed {
            self.sessions.close_device(user_id, device_id);
        }
    }

    /// Tells the user's conversations that are awake here that their devices are others now.
    pub async fn tell_conversations(&self, user_id: UserId) {
        let mut after: Option<ConversationId> = None;
        // A page that cannot be read leaves conversations with an old list. They read it again before they refuse
        // anything, and one that is left out of an envelope meanwhile is a device its sender could not know of.
        while let Ok(page) = self.directory.walk(user_id, after, WALK_PAGE).await {
            for at_end in &page {
                let conversation_id = at_end.conversation.conversation_id;
                self.conversations.tell_awake(conversation_id, ConversationMessage::DevicesChanged(user_id));
            }
            match page.last() {
                Some(last) if page.len() == WALK_PAGE => after = Some(last.conversation.conversation_id),
                _ => return,
            }
        }
    }
}
