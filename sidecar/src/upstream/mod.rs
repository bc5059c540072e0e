//! The agent itself, as the sidecar asks it.

mod bruno;
mod completions;
mod service;

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::prompt::Prompt;

pub use bruno::Bruno;
pub use completions::Completions;
pub use service::Service;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer that is read, bytes.
const ANSWER_MAX_BYTES: usize = 1024 * 1024;
/// Names a turn to the agent: the same however often it is asked, so that one that remembers does its work once.
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
    /// Asks.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn ask(&self, prompt: &Prompt) -> Result<String, UpstreamError> {
        match self {
            Self::Completions(completions) => completions.ask(prompt).await,
            Self::Service(service) => service.ask(prompt).await,
            Self::Bruno(bruno) => bruno.ask(prompt).await,
        }
    }
}

/// A client that asks agents. Follows no redirect: what is asked is plain text, and goes to whom it was meant for.
fn http(timeout: Duration) -> Result<Client, UpstreamError> {
    let builder =
        Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(timeout).redirect(Policy::none());
    builder.build().map_err(|error| UpstreamError::Refused(error.to_string()))
}

/// Posts a question and reads the answer.
async fn post<Q: Serialize, A: DeserializeOwned>(
    http: &Client,
    url: &Url,
    headers: HeaderMap,
    turn: &str,
    question: &Q,
) -> Result<A, UpstreamError> {
    let body = serde_json::to_vec(question).expect("plain data is json");
    let mut request = http.post(url.clone()).headers(headers).body(body);
    request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let response = request.header(IDEMPOTENCY_KEY, turn).send().await.map_err(|error| unavailable(&error))?;
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
    let bytes = read(response).await?;
    serde_json::from_slice(&bytes)
        .map_err(|_| UpstreamError::Refused("its answer has another form".to_owned()))
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
