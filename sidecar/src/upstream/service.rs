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
//! What ends before it is `done` is asked for again. The header `idempotency-key` holds the turn: the same if it is asked
//! again.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, Url};
use serde::Deserialize;

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
struct Answer {
    text: String,
}

/// One line of an answer that comes bit by bit.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Bit {
    Delta(String),
    Status(String),
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

    pub(super) async fn ask(&self, prompt: &Prompt, draft: &mut Draft) -> Result<String, UpstreamError> {
        let turn = prompt.turn_id.to_string();
        let response = post(&self.http, &self.url, HeaderMap::new(), &turn, prompt).await?;
        if is_written_in(&response, LINES) {
            return follow(Lines::of(response), draft).await;
        }
        let answer: Answer = whole(response).await?;
        Ok(answer.text)
    }
}

/// Takes in what is said bit by bit, to its end.
async fn follow(mut lines: Lines, draft: &mut Draft) -> Result<String, UpstreamError> {
    while let Some(line) = lines.next().await? {
        if line.is_empty() {
            continue;
        }
        match parsed(&line)? {
            Bit::Delta(text) => draft.append(&text),
            Bit::Status(status) => draft.set_status(&status),
            Bit::Done(true) => return Ok(draft.text().to_owned()),
            Bit::Done(false) => {}
        }
    }
    Err(broken_off())
}
