//! A message on its way into a conversation, and the answer that is owed for it.

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::server::{DeviceListStale, MessageAck};
use colloquy_storage::model::message::Message;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::correspondent::Correspondent;

/// A message on its way in. Its `sequence_number`, `message_id` and `created_at` are the owner's to give.
#[derive(Debug)]
pub struct Submission {
    /// The message.
    pub message: Message,
    /// Where it stands in its sender's own order, if the client counts.
    pub order: Option<SenderOrder>,
    /// Who waits for the answer.
    pub reply: Reply,
    /// When it reached the owner.
    pub arrived: Instant,
}

/// A message's place among those of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderOrder {
    /// The client's number for it.
    pub client_sequence: u64,
    /// The lowest number of this connection that has no final answer yet: what an owner that has never heard of
    /// the connection waits for first.
    pub expected: u64,
    /// A message with a lower number is on its way somewhere, perhaps to another owner, or is to be sent again: it may not
    /// be overtaken however long that takes.
    #[serde(default)]
    pub follows_unanswered: bool,
}

/// What a sender is told about a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It is durable, now or since an earlier try.
    Acked(MessageAck),
    /// It was not for exactly the recipients' devices.
    Stale(DeviceListStale),
    /// It was refused.
    Refused(ErrorCode),
}

impl Answer {
    /// Is the message done with? If not, its sender sends it again under the same `client_sequence`, and what it
    /// sent later waits (ORDER).
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Acked(_) => true,
            Self::Stale(_) => false,
            Self::Refused(code) => !code.is_retryable(),
        }
    }
}

/// The answer owed for one message. Dropped without an answer, because an actor on its way has died, it tells the
/// session so: no sender is left waiting by a crash (ISOLATE).
#[derive(Debug)]
pub struct Reply {
    to: Correspondent,
    token: u64,
    owed: bool,
}

impl Reply {
    /// An answer owed to a connection under its own `token`.
    #[must_use]
    pub fn owed_to(to: Correspondent, token: u64) -> Self {
        Self { to, token, owed: true }
    }

    /// The connection that waits for it.
    #[must_use]
    pub fn to(&self) -> &Correspondent {
        &self.to
    }

    /// Gives one answer.
    pub fn give(mut self, answer: Answer) {
        self.owed = false;
        self.to.answer(vec![(self.token, answer)]);
    }

    /// Gives many answers, in order, with one message to each connection.
    pub fn give_all(answers: Vec<(Reply, Answer)>) {
        type Group = (Correspondent, Vec<(u64, Answer)>);
        let mut groups: Vec<Group> = Vec::with_capacity(2);
        for (mut reply, answer) in answers {
            reply.owed = false;
            match groups.iter_mut().find(|(to, _)| to.is(&reply.to)) {
                Some((_, group)) => group.push((reply.token, answer)),
                None => groups.push((reply.to.clone(), vec![(reply.token, answer)])),
            }
        }
        for (to, group) in groups {
            to.answer(group);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.owed {
            self.to.lost(self.token);
        }
    }
}
