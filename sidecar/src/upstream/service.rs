//! Any HTTP service as an agent: a question is posted as JSON, and answered with JSON.
//!
//! ```json
//! {"turn_id": "...", "conversation_id": "...", "user_id": "...", "text": "Is it open today?",
//!  "history": [{"role": "user", "text": "Hello", "at": 1767225600000}]}
//! ```
//!
//! is answered with `{"text": "It is."}`, of at most 64 KiB, in as many messages as it takes; or bit by bit, as `application/x-ndjson`, one object in a line:
//!
//! ```json
//! {"status": "looking at the calendar"}
//! {"delta": "It"}
//! {"delta": " is."}
//! {"done": true}
//! ```
//!
//! An answer may have the agent write to others, at most four: `"tell": [{"user_id": "...", "text": "..."}]`, or
//! `{"tell": {"user_id": "...", "text": "..."}}` in a line of its own. So an agent hands over to a person.
//!
//! A note may go to another agent too. That one is asked it, and its answer is a message in the conversation with it, which asks
//! nobody anything: two agents would answer each other for ever. Who wants to be asked again has itself told by a note.
//!
//! An answer may ask to be allowed something (`agent.approval.request`): an action, its arguments, at most 4 KiB of them, and for
//! how long there is to decide, a week at most. `"approval_request": {"action": "pay", "arguments": {"amount": "12.50"},
//! "expires_in_seconds": 600}` beside the text, or in a line of its own; one in an answer. The arguments are an object in one
//! line, in which no key stands twice: what a person reads must be what is done. What whoever was asked decides, on any device, is
//! signed by that device, and asked of the service as a question that has no text:
//!
//! ```json
//! {"turn_id": "...", "conversation_id": "...", "user_id": "...", "history": [],
//!  "approval": {"request_id": "...", "action": "pay", "arguments": {"amount": "12.50"}, "expires_at": 1767226200000,
//!               "verdict": "approved", "decided_by": {"user_id": "...", "device_id": "..."}, "agent_user_id": "...",
//!               "signature": "...", "signing_key": "..."}}
//! ```
//!
//! The verdict is `approved` or `denied`; the arguments are those that were asked for, byte for byte. It comes once, under one
//! turn, as any question does; one that was not asked for, came too late or not first, or is not signed, never comes. Who
//! remembers nothing can act on it as it is. The signature is over [`Statement`](colloquy_client::crypto::Statement), but the
//! key beside it comes from the sidecar: to who trusts no sidecar it proves something only if the person's signing key is known
//! from elsewhere, from the directory of devices, or from devices whose safety number was compared.
//!
//! What ends before it is `done` is asked for again, under the same header `idempotency-key`: of a text it is the turn, of a
//! decision a key that the agent's own device has drawn with the request. Turns are named by the server; so whatever it says,
//! one approval is asked about under one key, on whichever device of the agent, and a service that remembers keys does it once. A
//! decision is asked about until it is answered or refused, however long that takes, and nobody can stop it.

use std::time::Duration;

use colloquy_client::{Answer, Note, WantedApproval};
use colloquy_protocol::ids::UserId;
use reqwest::header::HeaderMap;
use reqwest::{Client, Url};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::lines::Lines;
use super::{UpstreamError, broken_off, http, is_written_in, parsed, post, whole};
use crate::draft::Draft;
use crate::prompt::Prompt;

/// A service at a URL.
#[derive(Clone, Debug)]
pub struct Service {
    url: Url,
    http: Client,
}

#[derive(Deserialize)]
struct Whole {
    text: String,
    #[serde(default)]
    tell: Vec<Tell>,
    approval_request: Option<Wanted>,
}

/// What is to be allowed first.
#[derive(Deserialize)]
struct Wanted {
    action: String,
    arguments: Box<RawValue>,
    expires_in_seconds: u64,
}

impl From<Wanted> for WantedApproval {
    fn from(wanted: Wanted) -> Self {
        Self {
            action: wanted.action,
            arguments: wanted.arguments.get().to_owned(),
            good_for: Duration::from_secs(wanted.expires_in_seconds),
        }
    }
}

/// What is to be written to somebody else.
#[derive(Deserialize)]
struct Tell {
    user_id: UserId,
    text: String,
}

impl From<Tell> for Note {
    fn from(tell: Tell) -> Self {
        Self { to: tell.user_id, text: tell.text }
    }
}

/// One line of an answer that comes bit by bit.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Bit {
    Delta(String),
    Status(String),
    Tell(Tell),
    ApprovalRequest(Wanted),
    Done(bool),
}

const LINES: &str = "application/x-ndjson";
/// Why nobody is asked for approval.
const NOT_TO_BE_ASKED: &str = "what it asks approval for is nothing, too much or too long open, or its arguments are not an \
                               object in one line in which no key stands twice";

impl Service {
    /// The service that questions are posted to at `url`, and that has `timeout` for each.
    ///
    /// # Errors
    /// [`UpstreamError::Refused`] if no HTTP client can be made.
    pub fn new(url: Url, timeout: Duration) -> Result<Self, UpstreamError> {
        Ok(Self { url, http: http(timeout)? })
    }

    pub(super) async fn ask(&self, prompt: &Prompt, draft: &mut Draft) -> Result<Answer, UpstreamError> {
        let key = prompt.idempotency_key();
        let response = post(&self.http, &self.url, HeaderMap::new(), &key, prompt).await?;
        if is_written_in(&response, LINES) {
            return follow(Lines::of(response), draft).await;
        }
        let Whole { text, tell, approval_request } = whole(response).await?;
        tell.into_iter().try_for_each(|tell| tell_of(draft, tell))?;
        approval_request.into_iter().try_for_each(|wanted| ask_for(draft, wanted))?;
        Ok(draft.complete(text))
    }
}

/// Takes in what is said bit by bit, to its end.
async fn follow(mut lines: Lines, draft: &mut Draft) -> Result<Answer, UpstreamError> {
    loop {
        let line = match lines.next().await {
            // It has said more than an answer may hold, and goes on and on.
            Err(UpstreamError::Refused(_)) if draft.is_full() => break,
            line => line?.ok_or_else(broken_off)?,
        };
        if line.is_empty() {
            continue;
        }
        match parsed(&line)? {
            // What is too much is passed over: who is told, and what is asked for, may stand behind it.
            Bit::Delta(text) => draft.append(&text),
            Bit::Status(status) => draft.set_status(&status),
            Bit::Tell(tell) => tell_of(draft, tell)?,
            Bit::ApprovalRequest(wanted) => ask_for(draft, wanted)?,
            Bit::Done(is_done) if is_done => break,
            Bit::Done(_) => {}
        }
    }
    let text = draft.text().to_owned();
    Ok(draft.complete(text))
}

/// A note that could not be sent would keep the answer from being given.
fn tell_of(draft: &mut Draft, tell: Tell) -> Result<(), UpstreamError> {
    match draft.note(tell.into()) {
        true => Ok(()),
        false => Err(UpstreamError::Refused("it tells too many, too much, or nothing".to_owned())),
    }
}

/// A request that nobody could decide on would keep the answer from being given.
fn ask_for(draft: &mut Draft, wanted: Wanted) -> Result<(), UpstreamError> {
    match draft.ask_for(wanted.into()) {
        true => Ok(()),
        false => Err(UpstreamError::Refused(NOT_TO_BE_ASKED.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_allowed_is_read_as_it_is_written() {
        let answer = r#"{"text": "May I?", "approval_request":
            {"action": "pay", "arguments": { "b": 1.50, "a": "\u0061" }, "expires_in_seconds": 60}}"#;
        let whole: Whole = parsed(answer.as_bytes()).unwrap();
        let wanted = WantedApproval::from(whole.approval_request.unwrap());
        assert_eq!(wanted.arguments, r#"{ "b": 1.50, "a": "\u0061" }"#);
        assert_eq!((wanted.action.as_str(), wanted.good_for), ("pay", Duration::from_secs(60)));
        let line =
            br#"{"approval_request": {"action": "pay", "arguments": {"a":  1}, "expires_in_seconds": 60}}"#;
        let Ok(Bit::ApprovalRequest(wanted)) = parsed(line) else { panic!("it is a line of an answer") };
        assert_eq!(wanted.arguments.get(), r#"{"a":  1}"#);
        // In several lines, or with a key twice, it is no request.
        for bad in ["{\"to\":\n\"a\"}", r#"{"to": "a", "to": "b"}"#] {
            let answer = format!(r#"{{"action": "pay", "arguments": {bad}, "expires_in_seconds": 60}}"#);
            let wanted: Wanted = parsed(answer.as_bytes()).unwrap();
            assert_eq!(WantedApproval::from(wanted).made_at(0), None, "{bad}");
        }
        let without: Whole = parsed(br#"{"text": "No."}"#).unwrap();
        assert!(without.approval_request.is_none());
        for bad in [r#"{"action": "pay"}"#, r#"{"action": "pay", "arguments": {}, "expires_in_seconds": -1}"#]
        {
            let answer = format!(r#"{{"text": "", "approval_request": {bad}}}"#);
            assert!(parsed::<Whole>(answer.as_bytes()).is_err(), "{bad}");
        }
    }
}
