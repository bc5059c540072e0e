//! A question, and what was said before it in the same conversation.

use std::collections::BTreeSet;

use colloquy_client::{Client, ClientError, Decision, Message, ShownContent, Turn, Verdict};
use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{ConversationId, DeviceAddress, IdempotencyKey, MessageId, UserId};
use serde::ser::Error;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

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

/// Why an agent is asked.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Question {
    /// Somebody has written this.
    Text(String),
    /// Somebody has decided on what the agent asked to be allowed.
    Approval(Box<Approval>),
}

/// A decision, with all that is needed to check its signature.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Approval {
    /// The message that asked.
    pub request_id: MessageId,
    /// As it was asked for.
    pub action: String,
    /// As they were asked for, byte for byte: a JSON object.
    #[serde(serialize_with = "as_it_is")]
    pub arguments: String,
    /// Until when there was to be decided, milliseconds since 1970.
    pub expires_at: UnixMillis,
    /// What was decided.
    pub verdict: Verdict,
    /// By whom, on which device.
    pub decided_by: DeviceAddress,
    /// The agent, as others know it.
    pub agent_user_id: UserId,
    /// Ed25519, unpadded base64.
    pub signature: String,
    /// The device's public key, unpadded base64.
    pub signing_key: String,
    /// Names what is to be done, once.
    #[serde(skip)]
    pub key: IdempotencyKey,
}

impl From<Decision> for Approval {
    fn from(decision: Decision) -> Self {
        Self {
            request_id: decision.request_id,
            action: decision.request.action,
            arguments: decision.request.arguments,
            expires_at: decision.request.expires_at,
            verdict: decision.verdict,
            decided_by: decision.decided_by,
            agent_user_id: decision.agent,
            signature: decision.signature,
            signing_key: decision.signing_key,
            key: decision.verdict_key,
        }
    }
}

/// JSON within JSON, without a byte changed.
fn as_it_is<S: Serializer>(json: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serde_json::from_str::<&RawValue>(json).map_err(S::Error::custom)?.serialize(serializer)
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
    #[serde(flatten)]
    pub question: Question,
    /// What was said before, oldest first; what the agent has said while the question waited is the last of it.
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
        question: Question,
        limits: HistoryLimits,
    ) -> Result<Self, ClientError> {
        let said = match limits.messages {
            0 => Vec::new(),
            messages => {
                let before = client.history(turn.conversation_id, Some(turn.sequence_number), messages)?;
                let newest = client.history(turn.conversation_id, None, messages)?;
                with_answers(before, newest, turn.sequence_number)
            }
        };
        Ok(Self {
            turn_id: turn.turn_id,
            conversation_id: turn.conversation_id,
            user_id: turn.asked_by,
            question,
            history: newest(said, limits),
        })
    }

    /// The same however often this is asked. A decision's the agent has drawn when it asked for approval: turns are named by the
    /// server, which must not have the same approval acted upon under two names.
    pub(crate) fn idempotency_key(&self) -> String {
        match &self.question {
            Question::Text(_) => self.turn_id.to_string(),
            Question::Approval(approval) => approval.key.to_string(),
        }
    }
}

/// What was said before a question, and what of the `newest` was said to that while the question waited.
fn with_answers(mut before: Vec<Message>, newest: Vec<Message>, question: u64) -> Vec<Message> {
    let asked: BTreeSet<MessageId> = before.iter().filter_map(|message| message.message_id).collect();
    let is_since = |message: &Message| message.sequence_number.is_none_or(|number| number > question);
    let answers = newest.into_iter().filter(|message| {
        message.is_own && is_since(message) && message.reply_to.is_some_and(|turn| asked.contains(&turn))
    });
    before.extend(answers);
    before
}

/// The newest that fit, oldest first.
fn newest(messages: Vec<Message>, limits: HistoryLimits) -> Vec<Said> {
    let mut bytes = 0;
    let mut said: Vec<Said> = Vec::new();
    for message in messages.into_iter().rev() {
        let text = match message.content {
            ShownContent::Text(text) => text,
            ShownContent::Request(asked) if !asked.text.is_empty() => asked.text,
            _ => continue,
        };
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
    use colloquy_client::{ApprovalRequest, ShownRequest};

    use super::*;
    use crate::test_message::{AGENT, PERSON, message_id, test_message};

    fn message(number: u64, text: &str) -> Message {
        let by = if number.is_multiple_of(2) { AGENT } else { PERSON };
        test_message(number, by, ShownContent::Text(text.to_owned()))
    }

    #[test]
    fn what_was_answered_while_a_question_waited_is_part_of_what_was_said_and_what_came_after_it_is_not() {
        let answer = |number, to, text: &str| Message {
            reply_to: Some(message_id(to)),
            ..test_message(number, AGENT, ShownContent::Text(text.to_owned()))
        };
        let before = vec![answer(2, 1, "an answer"), message(3, "one more")];
        let queued = Message { sequence_number: None, message_id: None, ..answer(9, 3, "going on") };
        let newest = vec![
            answer(2, 1, "an answer"),
            message(3, "one more"),
            message(5, "the question"),
            message(7, "a later one"),
            answer(8, 3, "what waited"),
            answer(10, 7, "I am busy"),
            queued,
        ];
        let said = newest_texts(with_answers(before, newest, 5));
        assert_eq!(said, ["an answer", "one more", "what waited", "going on"]);
    }

    fn newest_texts(messages: Vec<Message>) -> Vec<String> {
        newest(messages, HistoryLimits::default()).into_iter().map(|said| said.text).collect()
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

    #[test]
    fn what_was_asked_for_is_part_of_what_was_said_as_far_as_it_is_a_text() {
        let request = |text: &str| {
            let request =
                ApprovalRequest { action: "a".to_owned(), arguments: "{}".to_owned(), expires_at: 1 };
            let asked = ShownRequest { text: text.to_owned(), request, verdict: None };
            Message { content: ShownContent::Request(Box::new(asked)), ..message(2, "") }
        };
        assert_eq!(newest_texts(vec![request("may I?"), request("")]), ["may I?"]);
    }

    #[test]
    fn a_decision_comes_with_the_arguments_as_they_were_written_and_without_a_text() {
        let arguments = "{ \"amount\":  1.50, \"to\": \"\\u0061\" }";
        let Message { conversation_id, sender_id, sender_device_id, .. } = message(1, "");
        let request_id = "0192f7a4-7c1e-7000-8000-000000000007".parse().unwrap();
        let approval = Approval {
            request_id,
            action: "pay".to_owned(),
            arguments: arguments.to_owned(),
            expires_at: 5,
            verdict: Verdict::Approved,
            decided_by: DeviceAddress { user_id: sender_id, device_id: sender_device_id },
            agent_user_id: sender_id,
            signature: "signature".to_owned(),
            signing_key: "key".to_owned(),
            key: IdempotencyKey::of_turn(request_id),
        };
        let key = approval.key;
        let mut prompt = Prompt {
            turn_id: request_id,
            conversation_id,
            user_id: sender_id,
            question: Question::Approval(Box::new(approval)),
            history: Vec::new(),
        };
        let posted = serde_json::to_string(&prompt).unwrap();
        assert!(posted.contains(&format!("\"arguments\":{arguments},")), "{posted}");
        assert!(posted.contains("\"approval\":{") && posted.contains("\"verdict\":\"approved\""), "{posted}");
        assert!(!posted.contains("\"text\""), "{posted}");
        assert_eq!(prompt.idempotency_key(), key.to_string(), "not the turn's, which the server names");
        prompt.question = Question::Text("hello".to_owned());
        assert_eq!(prompt.idempotency_key(), request_id.to_string());
        assert!(serde_json::to_string(&prompt).unwrap().contains("\"text\":\"hello\""));
    }
}
