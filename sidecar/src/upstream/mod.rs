//! The agent itself, as the sidecar asks it.

mod bruno;
mod completions;
mod lines;
mod service;

use std::time::Duration;

use colloquy_client::Answer;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::draft::Draft;
use crate::prompt::{Prompt, Question};

pub use bruno::Bruno;
pub use completions::Completions;
pub use service::Service;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer that is read, bytes.
const ANSWER_MAX_BYTES: usize = 1024 * 1024;
/// What is said to whoever decides on something where the agent can ask for nothing.
const ASKED_NOTHING: &str = "I did nothing: I can no longer do what I asked for.";
/// Names to the agent what it is asked ([`Prompt::idempotency_key`]), so that one that remembers does its work once.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// An agent.
#[derive(Clone, Debug)]
pub enum Upstream {
    /// A model behind an OpenAI-compatible `/chat/completions`.
    Completions(Completions),
    /// Any HTTP service: see [`Service`].
    Service(Service),
    /// One that is built in, and needs no model.
    Bruno(Bruno),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The agent cannot be reached, is overloaded, or took too long: the same may work later.
    #[error("the agent cannot be asked now: {0}")]
    Unavailable(String),
    /// The agent does not want this, or answers what is not understood: the same would not work later.
    #[error("the agent cannot answer this: {0}")]
    Refused(String),
}

impl Upstream {
    /// Asks. What the agent says bit by bit stands in `draft` as it comes; the answer is what is returned.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub(crate) async fn ask(&self, prompt: &Prompt, draft: &mut Draft) -> Result<Answer, UpstreamError> {
        let text = match (self, &prompt.question) {
            (Self::Service(service), _) => return service.ask(prompt, draft).await,
            // It was another agent that asked, under the same name.
            (_, Question::Approval(_)) => Ok(ASKED_NOTHING.to_owned()),
            (Self::Completions(completions), Question::Text(text)) => {
                completions.ask(prompt, text, draft).await
            }
            (Self::Bruno(bruno), Question::Text(text)) => bruno.ask(prompt, text).await,
        };
        text.map(Answer::from)
    }
}

/// A client that asks agents. Follows no redirect: what is asked is plain text, and goes to whom it was meant for.
fn http(timeout: Duration) -> Result<Client, UpstreamError> {
    let builder =
        Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(timeout).redirect(Policy::none());
    builder.build().map_err(|error| UpstreamError::Refused(error.to_string()))
}

/// Posts a question. What comes back is the beginning of an answer, and not yet all of it.
async fn post<Q: Serialize>(
    http: &Client,
    url: &Url,
    headers: HeaderMap,
    key: &str,
    question: &Q,
) -> Result<Response, UpstreamError> {
    let body = serde_json::to_vec(question).expect("plain data is json");
    let mut request = http.post(url.clone()).headers(headers).body(body);
    request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let response = request.header(IDEMPOTENCY_KEY, key).send().await.map_err(|error| unavailable(&error))?;
    let status = response.status();
    if !status.is_success() {
        let may_pass = status.is_server_error()
            || [
                StatusCode::REQUEST_TIMEOUT,
                StatusCode::CONFLICT,
                StatusCode::TOO_EARLY,
                StatusCode::TOO_MANY_REQUESTS,
            ]
            .contains(&status);
        let why = format!("it answered {status}");
        return Err(if may_pass { UpstreamError::Unavailable(why) } else { UpstreamError::Refused(why) });
    }
    Ok(response)
}

/// Is this what an answer is written in?
fn is_written_in(response: &Response, kind: &str) -> bool {
    let written_in = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    written_in.is_some_and(|value| value.split(';').next().unwrap_or_default().trim() == kind)
}

/// An answer that comes in one piece.
async fn whole<A: DeserializeOwned>(response: Response) -> Result<A, UpstreamError> {
    parsed(&read(response).await?)
}

/// A piece of an answer.
fn parsed<A: DeserializeOwned>(bytes: &[u8]) -> Result<A, UpstreamError> {
    serde_json::from_slice(bytes)
        .map_err(|_| UpstreamError::Refused("its answer has another form".to_owned()))
}

/// It ended before it said that it was complete.
fn broken_off() -> UpstreamError {
    UpstreamError::Unavailable("the answer broke off".to_owned())
}

async fn read(mut response: Response) -> Result<Vec<u8>, UpstreamError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unavailable(&error))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ANSWER_MAX_BYTES {
            return Err(UpstreamError::Refused("its answer is too long".to_owned()));
        }
    }
    Ok(bytes)
}

/// In words that hold no URL: it may hold a key (PRIVATE).
fn unavailable(error: &reqwest::Error) -> UpstreamError {
    let why = if error.is_timeout() {
        "it took too long"
    } else if error.is_connect() {
        "nobody listens there"
    } else {
        "the connection broke"
    };
    UpstreamError::Unavailable(why.to_owned())
}
