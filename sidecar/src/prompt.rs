//! A question, and what was said before it in the same conversation.

use colloquy_client::{Client, ClientError, Message, ShownContent, Turn};
use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{ConversationId, MessageId, UserId};
use serde::Serialize;

/// How much of what was said before is shown to an agent: the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Messages.
    pub messages: usize,
    /// Bytes of their texts.
    pub bytes: usize,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self { messages: 20, bytes: 32 * 1024 }
    }
}

/// Who said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The person.
    User,
    /// The agent.
    Assistant,
}

/// Something that was said.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Said {
    /// By whom.
    pub role: Role,
    /// What.
    pub text: String,
    /// When, milliseconds since 1970.
    pub at: UnixMillis,
}

/// What an agent is asked.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Prompt {
    /// The turn: the same however often it is asked.
    pub turn_id: MessageId,
    /// Where.
    pub conversation_id: ConversationId,
    /// By whom.
    pub user_id: UserId,
    /// The question.
    pub text: String,
    /// What was said before, oldest first.
    pub history: Vec<Said>,
}

impl std::fmt::Debug for Prompt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prompt").field("turn_id", &self.turn_id).finish_non_exhaustive()
    }
}

impl Prompt {
    /// What a turn asks, as far as `limits` go back.
    ///
    /// # Errors
    /// The store's.
    pub fn of(
        client: &Client,
        turn: &Turn,
        text: String,
        limits: HistoryLimits,
    ) -> Result<Self, ClientError> {
        let before = match limits.messages {
            0 => Vec::new(),
            messages => client.history(turn.conversation_id, Some(turn.sequence_number), messages)?,
        };
        Ok(Self {
            turn_id: turn.turn_id,
            conversation_id: turn.conversation_id,
            user_id: turn.asked_by,
            text,
            history: newest(before, limits),
        })
    }
}

/// The newest that fit, oldest first.
fn newest(messages: Vec<Message>, limits: HistoryLimits) -> Vec<Said> {
    let mut bytes = 0;
    let mut said: Vec<Said> = Vec::new();
    for message in messages.into_iter().rev() {
        let ShownContent::Text(text) = message.content else { continue };
        bytes += text.len();
        if bytes > limits.bytes || said.len() == limits.messages {
            break;
        }
        let role = if message.is_own { Role::Assistant } else { Role::User };
        said.push(Said { role, text, at: message.timestamp });
    }
    said.reverse();
    said
}

#[cfg(test)]
mod tests {
    use colloquy_client::MessageState;
    use colloquy_protocol::ids::DeviceId;

    use super::*;

    fn message(number: u64, text: &str) -> Message {
        let user = |n: u64| format!("0192f7a4-7c1e-7000-8000-00000000000{n}").parse::<UserId>().unwrap();
        Message {
            local_id: None,
            message_id: None,
            conversation_id: ConversationId::of_pair(user(1), user(2)),
            sequence_number: Some(number),
            sender_id: user(1 + number % 2),
            sender_device_id: DeviceId::new("sidecar").unwrap(),
            is_own: number.is_multiple_of(2),
            timestamp: number,
            content: ShownContent::Text(text.to_owned()),
            state: MessageState::Received,
        }
    }

    #[test]
    fn what_was_said_last_is_shown_as_far_as_it_fits_and_in_its_order() {
        let said = |limits| newest(vec![message(1, "one"), message(2, "two"), message(3, "three")], limits);
        let texts = |said: &[Said]| said.iter().map(|said| said.text.clone()).collect::<Vec<_>>();
        let all = said(HistoryLimits::default());
        assert_eq!(texts(&all), ["one", "two", "three"]);
        assert_eq!((all[0].role, all[1].role), (Role::User, Role::Assistant));
        assert_eq!(texts(&said(HistoryLimits { messages: 2, bytes: 100 })), ["two", "three"]);
        assert_eq!(texts(&said(HistoryLimits { messages: 20, bytes: 8 })), ["two", "three"]);
        assert_eq!(texts(&said(HistoryLimits { messages: 20, bytes: 4 })), [] as [&str; 0]);
    }
}
