//! What the client's events change.

use colloquy_protocol::UnixMillis;
use colloquy_protocol::frame::{PresenceStatus, TypingState};
use colloquy_protocol::ids::{ConversationId, MessageId, UserId};
use colloquy_protocol::limits::TYPING_TTL;

use super::draw::peer_name;
use super::screen::{Effect, Link, Screen};
use crate::crypto::IdentityChangeKind;
use crate::event::Event;
use crate::message::MessageState;

/// [`TYPING_TTL`], ms.
const TYPING_TTL_MS: u64 = TYPING_TTL.as_millis() as u64;

impl Screen {
    pub(super) fn happened(&mut self, event: Event, effects: &mut Vec<Effect>) {
        if matches!(event, Event::EventsMissed { .. }) {
            // That one has ended may be among them; one that goes on is told of again.
            self.answers.clear();
        }
        match event {
            Event::Connected { .. } | Event::EventsMissed { is_connected: true, .. } => {
                self.link = Link::Connected;
                self.looked_up.clear();
                self.reload(self.selected, effects);
            }
            Event::Disconnected { reason, retry_in } => {
                self.link = match retry_in {
                    Some(wait) => {
                        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                        Link::Waiting { reason, until_ms: self.now_ms.saturating_add(wait_ms) }
                    }
                    None => Link::Ended(reason),
                };
                // Without a connection nobody tells when they leave or stop.
                self.online.clear();
                self.typing.clear();
            }
            Event::LoggedOut => self.link = Link::LoggedOut,
            Event::StoreFailed => self.link = Link::StoreFailed,
            Event::MessageReceived(message) => {
                self.typing.remove(&message.conversation_id);
                self.reload(Some(message.conversation_id), effects);
            }
            Event::DecryptionFailed { message, .. } | Event::MessageRepaired(message) => {
                self.reload(Some(message.conversation_id), effects);
            }
            Event::MessageSent { conversation_id, .. }
            | Event::MessageFailed { conversation_id, .. }
            | Event::MessagesLost { conversation_id, .. } => self.reload(Some(conversation_id), effects),
            Event::MarksMoved { conversation_id, delivered_through, read_through, .. } => {
                self.move_marks(conversation_id, delivered_through, read_through);
                effects.push(Effect::LoadConversations);
            }
            Event::PresenceChanged { user_id, status, last_seen } => {
                self.presence_changed(user_id, status, last_seen);
            }
            Event::TypingChanged { conversation_id, user_id, state } => {
                self.typing_changed(conversation_id, user_id, state);
            }
            Event::AnswerGrows(answer) => drop(self.answers.insert(answer.conversation_id, *answer)),
            Event::AnswerEnded { turn_id, conversation_id } => {
                if self.answers.get(&conversation_id).is_some_and(|answer| answer.turn_id == turn_id) {
                    self.answers.remove(&conversation_id);
                }
            }
            Event::TurnGivenUp { turn_id, conversation_id } => self.turn_given_up(turn_id, conversation_id),
            Event::IdentityChanged(change) => {
                let who = self.name_of(change.address.user_id);
                let what = match change.kind {
                    IdentityChangeKind::Added => "has a new device",
                    IdentityChangeKind::Replaced => "has a device with new keys",
                    IdentityChangeKind::Removed => "has a device less",
                    IdentityChangeKind::Former => "had another device, which can still be read",
                };
                self.notify(format!(
                    "{who} {what}: the safety number may have changed, compare it with /safety"
                ));
            }
            // That there is no connection any more is told by one of those that follow.
            Event::EventsMissed { is_connected: false, .. } => self.reload(self.selected, effects),
        }
    }

    /// Something changed in a conversation: the list shows it, and the history if it is that one.
    fn reload(&mut self, changed: Option<ConversationId>, effects: &mut Vec<Effect>) {
        effects.push(Effect::LoadConversations);
        if let Some(conversation) = changed
            && self.selected == changed
        {
            effects.push(Effect::LoadHistory { conversation, before: None });
        }
    }

    fn turn_given_up(&mut self, turn: MessageId, conversation: ConversationId) {
        for message in self.history.iter_mut().filter(|message| message.message_id == Some(turn)) {
            message.given_up = message.is_own;
        }
        let shown = self.conversations.iter().find(|shown| shown.conversation_id == conversation);
        let who = shown.map_or_else(|| "the agent".to_owned(), peer_name);
        self.notify(format!(
            "{who} could not take your question: whoever runs the installation can have it delivered again"
        ));
    }

    /// Everything loaded is marked, however far up it was loaded.
    fn move_marks(&mut self, conversation: ConversationId, delivered: u64, read: u64) {
        if self.selected != Some(conversation) {
            return;
        }
        for message in self.history.iter_mut().filter(|message| message.is_own) {
            let Some(number) = message.sequence_number else { continue };
            message.state = match message.state {
                MessageState::Read => MessageState::Read,
                _ if number <= read => MessageState::Read,
                MessageState::Delivered => MessageState::Delivered,
                _ if number <= delivered => MessageState::Delivered,
                before => before,
            };
        }
    }

    fn presence_changed(&mut self, user: UserId, status: PresenceStatus, last_seen: Option<UnixMillis>) {
        match (status, last_seen) {
            (PresenceStatus::Online, _) => {
                self.online.insert(user);
                // Should the connection break, nothing is better than what was true before they came.
                self.last_seen.remove(&user);
            }
            (PresenceStatus::Offline, last_seen) => {
                self.online.remove(&user);
                self.last_seen.extend(last_seen.map(|at| (user, at)));
            }
        }
    }

    fn typing_changed(&mut self, conversation: ConversationId, user: UserId, state: TypingState) {
        // Another device of this user is nobody else.
        if user == self.own {
            return;
        }
        match state {
            TypingState::Started => drop(self.typing.insert(conversation, self.now_ms + TYPING_TTL_MS)),
            TypingState::Stopped => drop(self.typing.remove(&conversation)),
        }
    }

    /// The name of a user in the list, or their id.
    pub(super) fn name_of(&self, user: UserId) -> String {
        let shown = self.conversations.iter().find(|shown| shown.peer == user);
        shown.and_then(|shown| shown.peer_name.clone()).unwrap_or_else(|| user.to_string())
    }
}
