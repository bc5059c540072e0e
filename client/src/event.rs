//! What has happened, for whoever shows it. Everything told here is already in the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use colloquy_protocol::UnixMillis;
use colloquy_protocol::frame::{PresenceStatus, TypingState};
use colloquy_protocol::ids::{ConversationId, MessageId, UserId};
use tokio::sync::broadcast;

use crate::crypto::{DecryptionFailure, IdentityChange};
use crate::message::Message;
use crate::store::{LocalMessageId, SendFailure};

/// Events kept for a reader that lags. Beyond it the oldest are dropped and the reader is told with
/// [`Event::EventsMissed`]: the engine never waits for a screen, and the store has everything.
pub const EVENTS_MAX: usize = 1024;

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The server has accepted this device; what was missed follows.
    Connected {
        /// Messages the user has not read, over all conversations, by the server's count.
        unread_count: u64,
    },
    /// The connection ended, or could not be made.
    Disconnected {
        /// Why.
        reason: DisconnectReason,
        /// When it is tried again; `None`: not before [`crate::Client::connect`] is called again.
        retry_in: Option<Duration>,
    },
    /// The log-in is no longer good. Log in again.
    LoggedOut,
    /// A message for a person to read has come, from another user or another device of this one.
    MessageReceived(Box<Message>),
    /// The server has stored a message of this device (DURABLE).
    MessageSent {
        /// Its name on this device.
        local_id: LocalMessageId,
        /// Its name from now on.
        message_id: MessageId,
        /// Where.
        conversation_id: ConversationId,
        /// Its number there.
        sequence_number: u64,
    },
    /// A message of this device will not be sent unless a person tries again.
    MessageFailed {
        /// Its name on this device.
        local_id: LocalMessageId,
        /// Where.
        conversation_id: ConversationId,
        /// Why.
        reason: SendFailure,
    },
    /// The other participant holds, or has seen, more of a conversation; or this user has, on another device.
    MarksMoved {
        /// Where.
        conversation_id: ConversationId,
        /// Everything up to here is on a device of theirs.
        delivered_through: u64,
        /// Everything up to here was seen by them.
        read_through: u64,
        /// Everything up to here was seen by this user.
        own_read_through: u64,
    },
    /// A watched user came or went.
    PresenceChanged {
        /// Who.
        user_id: UserId,
        /// Here or gone.
        status: PresenceStatus,
        /// When a device of theirs was last here.
        last_seen: Option<UnixMillis>,
    },
    /// Somebody is composing a message, or no longer. Show it for at most
    /// [`colloquy_protocol::limits::TYPING_TTL`].
    TypingChanged {
        /// Where.
        conversation_id: ConversationId,
        /// Who.
        user_id: UserId,
        /// Composing, or no longer.
        state: TypingState,
    },
    /// An agent is writing an answer, and more of it is known than before. It is shown until [`Event::AnswerEnded`].
    AnswerGrows(Box<GrowingAnswer>),
    /// An answer is no longer being written: it has come as a message, or whoever wrote it has stopped.
    AnswerEnded {
        /// The turn that was answered.
        turn_id: MessageId,
        /// Where.
        conversation_id: ConversationId,
    },
    /// An agent was not able to take a question of this user. Told once of each, on every device that has it; it is answered
    /// only if whoever runs the installation has it delivered again.
    TurnGivenUp {
        /// The question's message.
        turn_id: MessageId,
        /// Where.
        conversation_id: ConversationId,
    },
    /// The devices or keys of a known user changed: their safety number is another one now.
    IdentityChanged(IdentityChange),
    /// A message could not be decrypted. Where a repair can help, its sender has been asked for it.
    DecryptionFailed {
        /// The message, as it is shown for now.
        message: Box<Message>,
        /// Why.
        failure: DecryptionFailure,
        /// Has its sender been asked?
        repair_asked: bool,
    },
    /// What could not be decrypted has been sent again, and is readable now.
    MessageRepaired(Box<Message>),
    /// The server no longer has these messages.
    MessagesLost {
        /// Where.
        conversation_id: ConversationId,
        /// The first number.
        from: u64,
        /// The last number, inclusive.
        to: u64,
    },
    /// The store failed; the engine has stopped.
    StoreFailed,
    /// The reader was too slow and events were dropped: read the conversations again.
    EventsMissed {
        /// How many.
        count: u64,
        /// Is there a connection? What said so may be among them.
        is_connected: bool,
    },
}

/// An answer as far as it is written and known.
#[derive(Clone, PartialEq, Eq)]
pub struct GrowingAnswer {
    /// The turn that is being answered: the question's message.
    pub turn_id: MessageId,
    /// Where.
    pub conversation_id: ConversationId,
    /// From the beginning, without a hole; not for ever: the message says what stands.
    pub text: String,
    /// What the agent says it is doing.
    pub status: Option<String>,
}

impl std::fmt::Debug for GrowingAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrowingAnswer").field("turn_id", &self.turn_id).finish_non_exhaustive()
    }
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisconnectReason {
    /// The server closed it with this code.
    Closed(u16),
    /// It broke off.
    Lost,
    /// It could not be made.
    Unreachable,
    /// The server asked to go elsewhere.
    Migrating,
    /// Nothing came for too long, a message went unanswered, or a gap was not filled.
    Unresponsive,
    /// The tokens could not be refreshed.
    NotAuthenticated,
}

/// A stream of events. Each has its own place; all see the same.
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<Event>,
    is_connected: Arc<AtomicBool>,
}

impl Events {
    pub(crate) fn new(receiver: broadcast::Receiver<Event>, is_connected: Arc<AtomicBool>) -> Self {
        Self { receiver, is_connected }
    }

    fn missed(&self, count: u64) -> Event {
        Event::EventsMissed { count, is_connected: self.is_connected.load(Ordering::Relaxed) }
    }

    /// The next event; `None` when the client is gone. Safe to cancel.
    pub async fn next(&mut self) -> Option<Event> {
        match self.receiver.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(self.missed(count)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// The next event, if one has happened already.
    pub fn try_next(&mut self) -> Option<Event> {
        match self.receiver.try_recv() {
            Ok(event) => Some(event),
            Err(broadcast::error::TryRecvError::Lagged(count)) => Some(self.missed(count)),
            Err(_) => None,
        }
    }
}
