//! Any HTTP service as an agent: a question is posted as JSON, and answered with JSON.
//!
//! ```json
//! {"turn_id": "...", "conversation_id": "...", "user_id": "...", "text": "Is it open today?",
//!  "history": [{"role": "user", "text": "Hello", "at": 1767225600000}]}
//! ```
//!
//! is answered with `{"text": "It is."}`. The header `idempotency-key` holds the turn: the same if it is asked again.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, Url};
use serde::Deserialize;

use super::{UpstreamError, http, post};
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

impl Service {
    /// The service that questions are posted to at `url`, and that has `timeout` for each.
    ///
    /// # Errors
    /// [`UpstreamError::Refused`] if no HTTP client can be made.
    pub fn new(url: Url, timeout: Duration) -> Result<Self, UpstreamError> {
        Ok(Self { url, http: http(timeout)? })
    }

    pub(super) async fn ask(&self, prompt: &Prompt) -> Result<String, UpstreamError> {
        let turn = prompt.turn_id.to_string();
        let answer: Answer = post(&self.http, &self.url, HeaderMap::new(), &turn, prompt).await?;
        Ok(answer.text)
    }
}
