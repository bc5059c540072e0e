//! Messages and conversations as they are shown.

use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{ConversationId, DeviceId, MessageId, UserId};

use crate::crypto::{ApprovalRequest, Body, DecryptionFailure, Verdict};
use crate::store::{
    ConversationRecord, LocalMessageId, MessageContent, MessageRecord, OutboxRecord, OutboxState, SendFailure,
};

/// A message as it is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Its name on this device, if it was written here.
    pub local_id: Option<LocalMessageId>,
    /// Its name, once the server has stored it.
    pub message_id: Option<MessageId>,
    /// Where.
    pub conversation_id: ConversationId,
    /// Its number there, once the server has stored it.
    pub sequence_number: Option<u64>,
    /// Who wrote it.
    pub sender_id: UserId,
    /// On which device.
    pub sender_device_id: DeviceId,
    /// Was it written by this user, on whichever device?
    pub is_own: bool,
    /// When: by the server's clock once it is stored, by this device's before.
    pub timestamp: UnixMillis,
    /// What it says.
    pub content: ShownContent,
    /// How far it has come. Messages of others are always [`MessageState::Received`].
    pub state: MessageState,
    /// Whoever it was for was not able to take it: it is answered only if whoever runs the installation has it delivered again.
    /// Of own messages only, until the answer comes.
    pub given_up: bool,
    /// The message it answers, if it says so: an agent's answers do, and what they go on with.
    pub reply_to: Option<MessageId>,
}

/// What can be shown of a message.
#[derive(Clone, PartialEq, Eq)]
pub enum ShownContent {
    /// Its text.
    Text(String),
    /// Somebody asks to be allowed something.
    Request(Box<ShownRequest>),
    /// Somebody has decided on such a request.
    Verdict {
        /// The message that asked.
        request_id: MessageId,
        /// What was decided.
        verdict: Verdict,
        /// Is it the one that counts, or on its way to be? Anybody can say anything: only such a one decides.
        counts: bool,
    },
    /// It could not be decrypted (yet).
    Undecryptable(DecryptionFailure),
    /// It was never encrypted for this device.
    Unavailable,
}

/// A request for approval as it is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ShownRequest {
    /// What is said beside it; may be empty.
    pub text: String,
    /// What is to be decided on: all of it must be shown to whoever decides.
    pub request: ApprovalRequest,
    /// What was decided, if it was.
    pub verdict: Option<Verdict>,
}

impl std::fmt::Debug for ShownRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShownRequest")
            .field("request", &self.request)
            .field("verdict", &self.verdict)
            .finish_non_exhaustive()
    }
}

impl ShownRequest {
    /// Can it be decided on at this time?
    #[must_use]
    pub fn is_open(&self, now: UnixMillis) -> bool {
        self.verdict.is_none() && !self.request.is_expired(now)
    }
}

impl ShownContent {
    /// What a body shows, with what was decided on it or by it; nothing if it is not for a person.
    fn of(body: &Body, decided: Option<Verdict>) -> Option<Self> {
        match body {
            Body::Text(text) => Some(Self::Text(text.text.clone())),
            Body::ApprovalRequest(asked) => Some(Self::Request(Box::new(ShownRequest {
                text: asked.text.clone(),
                request: asked.request.clone(),
                verdict: decided,
            }))),
            Body::Verdict(said) => Some(Self::Verdict {
                request_id: said.request_id,
                verdict: said.verdict,
                counts: decided.is_some(),
            }),
            Body::SessionRepair { .. } | Body::Resend { .. } | Body::Blank => None,
        }
    }
}

/// How far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageState {
    /// In the outbox.
    Queued,
    /// The server has stored it.
    Sent,
    /// It is on a device of the recipient.
    Delivered,
    /// The recipient has seen it.
    Read,
    /// It will not be sent.
    Failed(SendFailure),
    /// It is another user's.
    Received,
}

impl Message {
    /// A stored message, with what was decided on it or by it; nothing if it is not for a person.
    #[must_use]
    pub(crate) fn stored(
        record: &MessageRecord,
        own: UserId,
        marks: &ConversationRecord,
        decided: Option<Verdict>,
    ) -> Option<Self> {
        let content = match &record.content {
            MessageContent::Known(body) => ShownContent::of(body, decided)?,
            MessageContent::Undecryptable(why) => ShownContent::Undecryptable(*why),
            MessageContent::Unavailable => ShownContent::Unavailable,
        };
        let is_own = record.sender.user_id == own;
        let state = match record.sequence_number {
            _ if !is_own => MessageState::Received,
            number if number <= marks.read_through => MessageState::Read,
            number if number <= marks.delivered_through => MessageState::Delivered,
            _ => MessageState::Sent,
        };
        Some(Self {
            local_id: record.local_id,
            message_id: Some(record.message_id),
            conversation_id: record.conversation_id,
            sequence_number: Some(record.sequence_number),
            sender_id: record.sender.user_id,
            sender_device_id: record.sender.device_id.clone(),
            is_own,
            timestamp: record.timestamp,
            content,
            state,
            given_up: is_own && marks.given_up.contains(&record.message_id),
            reply_to: record.reply_to,
        })
    }

    /// A message in the outbox; nothing if it is not for a person.
    #[must_use]
    pub(crate) fn queued(record: &OutboxRecord, own: UserId, device: &DeviceId) -> Option<Self> {
        let state = match record.state {
            OutboxState::Failed(reason) => MessageState::Failed(reason),
            OutboxState::Written | OutboxState::Sealed(_) => MessageState::Queued,
        };
        let decided = match &record.body {
            Body::Verdict(said) if state == MessageState::Queued => Some(said.verdict),
            _ => None,
        };
        Some(Self {
            local_id: Some(record.local_id),
            message_id: None,
            conversation_id: record.conversation_id,
            sequence_number: None,
            sender_id: own,
            sender_device_id: device.clone(),
            is_own: true,
            timestamp: record.written_at,
            content: ShownContent::of(&record.body, decided)?,
            state,
            given_up: false,
            reply_to: record.reply_to,
        })
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("message_id", &self.message_id)
            .field("sequence_number", &self.sequence_number)
            .field("content", &self.content)
            .field("state", &self.state)
            .field("given_up", &self.given_up)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ShownContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(..)"),
            Self::Request(_) => f.write_str("Request(..)"),
            Self::Verdict { .. } => f.write_str("Verdict(..)"),
            Self::Undecryptable(why) => write!(f, "Undecryptable({why:?})"),
            Self::Unavailable => f.write_str("Unavailable"),
        }
    }
}

/// A conversation as it stands in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationSummary {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// The other participant.
    pub peer: UserId,
    /// Their name, if it was ever looked up.
    pub peer_name: Option<String>,
    /// The newest message that can be shown, those in the outbox included.
    pub last_message: Option<Message>,
    /// Messages of theirs this user has not seen.
    pub unread: u64,
    /// When something last happened.
    pub last_activity_at: UnixMillis,
    /// Every message up to here is on this device.
    pub held_through: u64,
    /// Does the server know it? Before its first message is stored there is nobody to watch or to tell there.
    pub is_at_server: bool,
}
