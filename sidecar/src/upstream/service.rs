//! Any HTTP service as an agent: a question is posted as JSON, and answered with JSON.
//!
//! ```json
//! {"turn_id": "...", "conversation_id": "...", "user_id": "...", "text": "Is it open today?",
//!  "history": [{"role": "user", "text": "Hello", "at": 1767225600000}]}
//! ```
//!
//! is answered with `{"text": "It is."}`; or bit by bit, as `application/x-ndjson`, one object in a line:
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
//! What ends before it is `done` is asked for again. The header `idempotency-key` holds the turn: the same if it is asked
//! again.

use std::time::Duration;

use colloquy_client::Note;
use colloquy_protocol::ids::UserId;
use reqwest::header::HeaderMap;
use reqwest::{Client, Url};
use serde::Deserialize;

use super::lines::Lines;
use super::{Answer, UpstreamError, broken_off, http, is_written_in, parsed, post, whole};
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
    Done(bool),
}

const LINES: &str = "application/x-ndjson";

impl Service {
    /// The service that questions are posted to at `url`, and that has `timeout` for each.
    ///
    /// # Errors
    /// [`UpstreamError::Refused`] if no HTTP client can be made.
    pub fn new(url: Url, timeout: Duration) -> Result<Self, UpstreamError> {
        Ok(Self { url, http: http(timeout)? })
    }

    pub(super) async fn ask(&self, prompt: &Prompt, draft: &mut Draft) -> Result<Answer, UpstreamError> {
        let turn = prompt.turn_id.to_string();
        let response = post(&self.http, &self.url, HeaderMap::new(), &turn, prompt).await?;
        if is_written_in(&response, LINES) {
            return follow(Lines::of(response), draft).await;
        }
        let Whole { text, tell } = whole(response).await?;
        tell.into_iter().try_for_each(|tell| tell_of(draft, tell))?;
        Ok(Answer { text, notes: draft.take_notes() })
    }
}

/// Takes in what is said bit by bit, to its end.
async fn follow(mut lines: Lines, draft: &mut Draft) -> Result<Answer, UpstreamError> {
    while let Some(line) = lines.next().await? {
        if line.is_empty() {
            continue;
        }
        let is_over = match parsed(&line)? {
            Bit::Delta(text) => {
                draft.append(&text);
                draft.is_full()
            }
            Bit::Status(status) => {
                draft.set_status(&status);
                false
            }
            Bit::Tell(tell) => {
                tell_of(draft, tell)?;
                false
            }
            Bit::Done(is_done) => is_done,
        };
        if is_over {
            return Ok(Answer { text: draft.text().to_owned(), notes: draft.take_notes() });
        }
    }
    Err(broken_off())
}

/// A note that could not be sent would keep the answer from being given.
fn tell_of(draft: &mut Draft, tell: Tell) -> Result<(), UpstreamError> {
    match draft.note(tell.into()) {
        true => Ok(()),
        false => Err(UpstreamError::Refused("it tells too many, too much, or nothing".to_owned())),
    }
}
