//! A client driven by lines: one command in, JSON objects out. Made for tests and for pipes.
//!
//! Blank lines and lines that begin with `#` are passed over. The first command that fails ends the script. The
//! end of the lines is the end of the script; what is not sent by then stays in the outbox.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use colloquy_protocol::ids::{ConversationId, MessageId, UserId};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::script_command::ScriptCommand;
use crate::api::accounts::UserQuery;
use crate::client::routing::RouteHints;
use crate::client::{Client, ClientError};
use crate::event::{Event, Events};
use crate::message::{Message, MessageState, ShownContent, ShownRequest};
use crate::store::{LocalMessageId, SendFailure};

/// Messages `history` prints, and `wait-read` looks through.
const HISTORY_MAX: usize = 500;
/// Addresses remembered, so that the server is asked once for each; beyond it the first is forgotten.
const ADDRESSES_MAX: usize = 256;

/// Which line ended the script, and why.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct ScriptError {
    /// Counted from 1.
    pub line: u64,
    /// Why.
    #[source]
    pub why: ScriptFailure,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum ScriptFailure {
    /// Not a command, or its address is neither an email address, a phone number nor a user id.
    #[error("not a command, or its address or number cannot be read")]
    NotACommand,
    /// The lines cannot be read.
    #[error("the script cannot be read: {0}")]
    Unreadable(std::io::Error),
    /// The client failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// What was waited for did not happen in time.
    #[error("waited {seconds} s in vain for {what}")]
    Deadline {
        /// For what.
        what: &'static str,
        /// How long.
        seconds: u64,
    },
    /// A message of this script will not be sent.
    #[error("a message was not sent: {0}")]
    NotSent(SendFailure),
    /// The log-in is no longer good.
    #[error("logged out by the server")]
    LoggedOut,
    /// The client has stopped.
    #[error("the client has stopped")]
    Stopped,
    /// No request was printed since the start, or since the last decision, and none is named.
    #[error("which request? wait-request prints one, or name it by its message id")]
    NothingAsked,
    /// There is no own message that could be read.
    #[error("no message of yours is there to be read")]
    NothingToRead,
}

/// A running script.
pub struct Script<'a, E: FnMut(&Value)> {
    client: &'a Client,
    own: UserId,
    events: Events,
    /// How long one `wait-` command waits.
    deadline: Duration,
    /// Takes what is told.
    emit: E,
    /// Messages of others since the start.
    received: u64,
    /// Sent by this script, and not acknowledged; the outbox bounds it.
    unsent: BTreeSet<LocalMessageId>,
    not_sent: Option<SendFailure>,
    /// Turns whose answers are being written; the client follows a bounded number of them.
    growing: BTreeSet<MessageId>,
    /// The newest request for approval that was not decided on here.
    asked: Option<Box<Message>>,
    /// The one that `wait-request` has printed last, until it is decided on: what comes meanwhile does not take its place.
    printed: Option<MessageId>,
    known: VecDeque<(UserQuery, UserId)>,
}

impl<'a, E: FnMut(&Value)> Script<'a, E> {
    /// Connects.
    ///
    /// # Errors
    /// [`ClientError::LoggedOut`].
    pub fn start(client: &'a Client, deadline: Duration, emit: E) -> Result<Self, ClientError> {
        let own = client.user_id()?.ok_or(ClientError::LoggedOut)?;
        // The stream is there before the connection: nothing is missed.
        let events = client.connect()?;
        let unsent = BTreeSet::new();
        Ok(Self {
            client,
            own,
            events,
            deadline,
            emit,
            received: 0,
            unsent,
            not_sent: None,
            growing: BTreeSet::new(),
            asked: None,
            printed: None,
            known: VecDeque::new(),
        })
    }

    /// Runs the lines as they come. Events are told meanwhile.
    ///
    /// # Errors
    /// The first failure.
    pub async fn run(
        &mut self,
        mut lines: mpsc::Receiver<std::io::Result<String>>,
    ) -> Result<(), ScriptError> {
        let mut number = 0;
        loop {
            let line = tokio::select! {
                line = lines.recv() => line,
                event = self.events.next() => {
                    let told = event.ok_or(ScriptFailure::Stopped).and_then(|event| self.tell(event));
                    told.map_err(|why| ScriptError { line: number, why })?;
                    continue;
                }
            };
            let Some(line) = line else { return Ok(()) };
            number += 1;
            match self.line(line).await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(why) => {
                    (self.emit)(&json!({"event": "error", "line": number, "why": why.to_string()}));
                    return Err(ScriptError { line: number, why });
                }
            }
        }
    }

    /// Runs one line. `false` if it was the last one.
    async fn line(&mut self, line: std::io::Result<String>) -> Result<bool, ScriptFailure> {
        let line = line.map_err(ScriptFailure::Unreadable)?;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(true);
        }
        match ScriptCommand::parse(line).ok_or(ScriptFailure::NotACommand)? {
            ScriptCommand::Quit => return Ok(false),
            ScriptCommand::Find(query) => {
                let card = self.client.find_user(query).await?;
                (self.emit)(&json!({"event": "found", "user_id": card.user_id, "name": card.name}));
            }
            ScriptCommand::Send(to, text) => self.send(to, text).await?,
            ScriptCommand::Ask(text) => {
                let route = self.client.route(&text, RouteHints::default()).await?;
                (self.emit)(&json!({"event": "routed", "agent_id": route.agent_id, "user_id": route.user_id,
                    "level": route.level, "reason": route.reason}));
                self.send(UserQuery::Id(route.user_id), text).await?;
            }
            ScriptCommand::WaitSent => self.wait_sent().await?,
            ScriptCommand::WaitAnswer => {
                self.wait_until("an answer to begin", |script| Ok(!script.growing.is_empty())).await?;
            }
            ScriptCommand::Stop => {
                for turn_id in self.growing.clone() {
                    self.client.cancel_turn(turn_id).await?;
                    (self.emit)(&json!({"event": "stopped", "turn_id": turn_id}));
                }
            }
            ScriptCommand::WaitRequest => {
                self.wait_until("a request for approval", |script| Ok(script.asked.is_some())).await?;
                self.asked.iter().for_each(|asked| (self.emit)(&described("request", asked)));
                self.printed = self.asked.as_ref().and_then(|asked| asked.message_id);
            }
            ScriptCommand::Decide(verdict, request) => {
                let request_id = request.or(self.printed).ok_or(ScriptFailure::NothingAsked)?;
                let local_id = self.client.decide(request_id, verdict).await?;
                self.asked.take_if(|asked| asked.message_id == Some(request_id));
                self.printed.take_if(|printed| *printed == request_id);
                self.unsent.insert(local_id);
                (self.emit)(&json!({"event": "decided", "local_id": local_id, "request_id": request_id,
                    "verdict": verdict}));
            }
            ScriptCommand::WaitMessages(count) => {
                self.wait_until("messages of others", |script| Ok(script.received >= count)).await?;
                (self.emit)(&json!({"event": "messages", "count": self.received}));
            }
            ScriptCommand::Read(query) => {
                let user = self.user(query).await?;
                self.client.mark_read(ConversationId::of_pair(self.own, user)).await?;
                (self.emit)(&json!({"event": "marked_read", "with": user}));
            }
            ScriptCommand::WaitRead(query) => {
                let user = self.user(query).await?;
                let conversation = ConversationId::of_pair(self.own, user);
                self.wait_until("the newest message to be read", |script| script.is_read(conversation))
                    .await?;
                (self.emit)(&json!({"event": "all_read", "with": user}));
            }
            ScriptCommand::History(query) => {
                let user = self.user(query).await?;
                let messages =
                    self.client.history(ConversationId::of_pair(self.own, user), None, HISTORY_MAX)?;
                for message in &messages {
                    (self.emit)(&described("message", message));
                }
                (self.emit)(&json!({"event": "history", "with": user, "count": messages.len()}));
            }
            ScriptCommand::Safety(query) => {
                let user = self.user(query).await?;
                let number = self.client.safety_number(user).await?;
                (self.emit)(&json!({"event": "safety", "with": user, "digits": number.digits()}));
            }
        }
        Ok(true)
    }

    async fn user(&mut self, query: UserQuery) -> Result<UserId, ScriptFailure> {
        // Known as it is: this works without a connection.
        if let UserQuery::Id(user) = query {
            return Ok(user);
        }
        if let Some((_, user)) = self.known.iter().find(|(known, _)| *known == query) {
            return Ok(*user);
        }
        let user = self.client.find_user(query.clone()).await?.user_id;
        if self.known.len() == ADDRESSES_MAX {
            self.known.pop_front();
        }
        self.known.push_back((query, user));
        Ok(user)
    }

    async fn send(&mut self, to: UserQuery, text: String) -> Result<(), ScriptFailure> {
        let user = self.user(to).await?;
        let id = self.client.send_text(user, text).await?;
        self.unsent.insert(id);
        (self.emit)(&json!({"event": "queued", "local_id": id, "to": user}));
        Ok(())
    }

    /// Earlier runs may have left something in the outbox: it counts too.
    async fn wait_sent(&mut self) -> Result<(), ScriptFailure> {
        let client = self.client;
        self.wait_until("messages to be sent", |script| match script.not_sent {
            Some(why) => Err(ScriptFailure::NotSent(why)),
            None => Ok(script.unsent.is_empty() && client.outbox_is_empty()),
        })
        .await?;
        (self.emit)(&json!({"event": "all_sent"}));
        Ok(())
    }

    fn is_read(&self, conversation: ConversationId) -> Result<bool, ScriptFailure> {
        let messages = self.client.history(conversation, None, HISTORY_MAX)?;
        match messages.iter().rev().find(|message| message.is_own).map(|message| message.state) {
            None => Err(ScriptFailure::NothingToRead),
            Some(MessageState::Failed(why)) => Err(ScriptFailure::NotSent(why)),
            Some(state) => Ok(state == MessageState::Read),
        }
    }

    async fn wait_until(
        &mut self,
        what: &'static str,
        is_met: impl Fn(&Self) -> Result<bool, ScriptFailure>,
    ) -> Result<(), ScriptFailure> {
        let until = Instant::now() + self.deadline;
        let client = self.client;
        while !is_met(self)? {
            // The outbox may become empty without a further event.
            let is_busy = !client.outbox_is_empty();
            tokio::select! {
                event = self.events.next() => self.tell(event.ok_or(ScriptFailure::Stopped)?)?,
                () = client.wait_until_sent(), if is_busy => {}
                () = tokio::time::sleep_until(until) => {
                    return Err(ScriptFailure::Deadline { what, seconds: self.deadline.as_secs() });
                }
            }
        }
        Ok(())
    }

    fn tell(&mut self, event: Event) -> Result<(), ScriptFailure> {
        let told = match event {
            Event::MessageReceived(message) if message.is_own => described("sent_elsewhere", &message),
            Event::MessageReceived(message) | Event::MessageRepaired(message) => {
                self.received += 1;
                let told = described("received", &message);
                if matches!(message.content, ShownContent::Request(_)) {
                    self.asked = Some(message);
                }
                told
            }
            Event::MessageSent { local_id, message_id, conversation_id, sequence_number } => {
                self.unsent.remove(&local_id);
                json!({"event": "sent", "local_id": local_id, "message_id": message_id,
                    "conversation_id": conversation_id, "sequence": sequence_number})
            }
            Event::MessageFailed { local_id, reason, .. } => {
                self.unsent.remove(&local_id);
                self.not_sent = Some(reason);
                json!({"event": "failed", "local_id": local_id, "why": reason.to_string()})
            }
            Event::MarksMoved { conversation_id, delivered_through, read_through, own_read_through } => {
                json!({
                "event": "marks", "conversation_id": conversation_id, "delivered_through": delivered_through,
                "read_through": read_through, "own_read_through": own_read_through})
            }
            Event::DecryptionFailed { message, failure, repair_asked } => json!({
                "event": "undecryptable", "from": message.sender_id, "sequence": message.sequence_number,
                "why": failure.to_string(), "repair_asked": repair_asked}),
            Event::Connected { unread_count } => json!({"event": "connected", "unread": unread_count}),
            Event::Disconnected { reason, retry_in } => json!({
                "event": "disconnected", "why": format!("{reason:?}"),
                "retry_in_ms": retry_in.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))}),
            Event::IdentityChanged(change) => json!({
                "event": "identity_changed", "user_id": change.address.user_id,
                "device_id": change.address.device_id, "kind": format!("{:?}", change.kind)}),
            Event::PresenceChanged { user_id, status, .. } => {
                json!({"event": "presence", "user_id": user_id, "status": status})
            }
            Event::TypingChanged { user_id, state, .. } => {
                json!({"event": "typing", "user_id": user_id, "state": state})
            }
            Event::AnswerGrows(answer) => {
                if !answer.text.is_empty() {
                    self.growing.insert(answer.turn_id);
                }
                json!({"event": "answering", "turn_id": answer.turn_id, "text": answer.text,
                    "status": answer.status})
            }
            Event::AnswerEnded { turn_id, .. } => {
                self.growing.remove(&turn_id);
                json!({"event": "answer_ended", "turn_id": turn_id})
            }
            Event::TurnGivenUp { turn_id, conversation_id } => {
                json!({"event": "given_up", "turn_id": turn_id, "conversation_id": conversation_id})
            }
            Event::MessagesLost { conversation_id, from, to } => {
                json!({"event": "lost", "conversation_id": conversation_id, "from_sequence": from, "to_sequence": to})
            }
            Event::EventsMissed { count, .. } => {
                // Which ones is not known: the outbox says whether all is sent.
                self.unsent.clear();
                json!({"event": "events_missed", "count": count})
            }
            Event::LoggedOut => return Err(ScriptFailure::LoggedOut),
            Event::StoreFailed => return Err(ScriptFailure::Stopped),
        };
        (self.emit)(&told);
        Ok(())
    }
}

fn described(event: &str, message: &Message) -> Value {
    let text = match &message.content {
        ShownContent::Text(text) => Some(text),
        ShownContent::Request(asked) => Some(&asked.text),
        ShownContent::Verdict { .. } | ShownContent::Undecryptable(_) | ShownContent::Unavailable => None,
    };
    let state = match message.state {
        MessageState::Queued => "queued",
        MessageState::Sent => "sent",
        MessageState::Delivered => "delivered",
        MessageState::Read => "read",
        MessageState::Failed(_) => "failed",
        MessageState::Received => "received",
    };
    let mut told = json!({"event": event, "from": message.sender_id, "text": text,
        "sequence": message.sequence_number, "own": message.is_own, "state": state,
        "message_id": message.message_id, "conversation_id": message.conversation_id,
        "given_up": message.given_up});
    match &message.content {
        ShownContent::Request(asked) => {
            let ShownRequest { request, verdict, .. } = &**asked;
            told["request"] = json!({"action": request.action, "arguments": request.arguments,
                "expires_at": request.expires_at, "verdict": verdict});
        }
        ShownContent::Verdict { request_id, verdict, counts } => {
            told["decision"] = json!({"request_id": request_id, "verdict": verdict, "counts": counts});
        }
        ShownContent::Text(_) | ShownContent::Undecryptable(_) | ShownContent::Unavailable => {}
    }
    told
}

#[cfg(test)]
mod tests {
    use colloquy_protocol::ids::DeviceId;

    use super::*;
    use crate::crypto::{ApprovalRequest, DecryptionFailure, Verdict};

    fn user(number: u8) -> UserId {
        format!("0192f7a4-7c1e-7000-8000-0000000000{number:02x}").parse().unwrap()
    }

    fn message(state: MessageState, content: ShownContent) -> Message {
        Message {
            local_id: None,
            message_id: None,
            conversation_id: ConversationId::of_pair(user(1), user(2)),
            sequence_number: Some(7),
            sender_id: user(2),
            sender_device_id: DeviceId::new("terminal-1").unwrap(),
            is_own: state != MessageState::Received,
            timestamp: 0,
            content,
            state,
            given_up: false,
            reply_to: None,
        }
    }

    #[test]
    fn a_message_is_told_with_who_what_where_and_how_far_it_has_come() {
        let states = [
            (MessageState::Queued, "queued"),
            (MessageState::Sent, "sent"),
            (MessageState::Delivered, "delivered"),
            (MessageState::Read, "read"),
            (MessageState::Failed(SendFailure::TooManyAttempts), "failed"),
            (MessageState::Received, "received"),
        ];
        for (state, word) in states {
            let told = described("message", &message(state, ShownContent::Text("hi".to_owned())));
            assert_eq!(told["event"], "message");
            assert_eq!(told["state"], word);
            assert_eq!(told["own"], word != "received");
            assert_eq!((&told["text"], &told["sequence"]), (&json!("hi"), &json!(7)));
            assert_eq!((&told["from"], &told["given_up"]), (&json!(user(2)), &json!(false)));
        }
        let read = message(MessageState::Read, ShownContent::Text("hi".to_owned()));
        assert_eq!(described("message", &Message { given_up: true, ..read })["given_up"], true);
    }

    #[test]
    fn what_cannot_be_shown_has_no_text() {
        let cannot = [ShownContent::Unavailable, ShownContent::Undecryptable(DecryptionFailure::Corrupt)];
        for content in cannot {
            assert!(described("message", &message(MessageState::Received, content))["text"].is_null());
        }
    }

    #[test]
    fn a_request_is_told_with_all_that_is_asked_for_and_a_verdict_with_what_it_is_on() {
        let request =
            ApprovalRequest { action: "pay".to_owned(), arguments: "{ \"a\": 1 }".to_owned(), expires_at: 5 };
        let asked = ShownRequest { text: "May I?".to_owned(), request, verdict: Some(Verdict::Denied) };
        let told =
            described("request", &message(MessageState::Received, ShownContent::Request(Box::new(asked))));
        assert_eq!(told["text"], "May I?");
        let expected =
            json!({"action": "pay", "arguments": "{ \"a\": 1 }", "expires_at": 5, "verdict": "denied"});
        assert_eq!(told["request"], expected);
        let request_id = MessageId(uuid::Uuid::from_u128(3));
        let decided = ShownContent::Verdict { request_id, verdict: Verdict::Approved, counts: true };
        let told = described("message", &message(MessageState::Sent, decided));
        assert_eq!(
            told["decision"],
            json!({"request_id": request_id, "verdict": "approved", "counts": true})
        );
        assert!(told["text"].is_null());
    }

    #[test]
    fn a_failure_names_its_line() {
        let why = ScriptFailure::Deadline { what: "messages to be sent", seconds: 5 };
        let told = ScriptError { line: 3, why }.to_string();
        assert_eq!(told, "line 3: waited 5 s in vain for messages to be sent");
    }
}
