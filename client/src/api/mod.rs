//! The REST interface, as typed calls. One method per route; one error enum that carries the server's problem.

pub mod accounts;
mod agents;
mod conversations;
mod dead_letters;
mod devices;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::problem::Problem;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::network::Network;

/// How long one call may take, from connecting to the last byte.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// How long connecting may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer that is read, bytes: a page of a hundred messages fits twice. A larger one is
/// [`ApiError::TooLarge`].
pub const ANSWER_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The server refused it, and says why.
    #[error("the server refused the request: {}", .0.code)]
    Refused(Box<Problem>),
    /// The server could not be reached, or the connection broke: the request may or may not have been served.
    #[error("the server could not be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The answer is not what the interface promises.
    #[error("the server answered {status} in a form that is not understood")]
    Unexpected {
        /// The HTTP status.
        status: u16,
    },
    /// The answer is longer than [`ANSWER_MAX_BYTES`].
    #[error("the server's answer is too large")]
    TooLarge,
    /// The base URL is not an http or https URL.
    #[error("not an http or https url")]
    BadUrl,
}

impl ApiError {
    /// The server's code, where it gave one.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(problem) => Some(problem.code),
            _ => None,
        }
    }

    /// May the same call succeed later, unchanged?
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(problem) => problem.retryable,
            Self::Unreachable(_) => true,
            Self::Unexpected { status } => *status >= 500,
            Self::TooLarge | Self::BadUrl => false,
        }
    }
}

/// The REST client of one server.
#[derive(Clone)]
pub struct Api {
    network: Arc<dyn Network>,
    base: Url,
}

impl Api {
    /// A client for the server at `base`, such as `https://chat.example`, over `network`. Connects to nothing yet.
    ///
    /// # Errors
    /// [`ApiError::BadUrl`] if `base` is not an http or https URL.
    pub fn new(base: &str, network: Arc<dyn Network>) -> Result<Self, ApiError> {
        Ok(Self { network, base: base_url(base)? })
    }

    /// What it goes over.
    #[must_use]
    pub fn network(&self) -> &Arc<dyn Network> {
        &self.network
    }

    /// The server's base URL, with a slash at the end.
    #[must_use]
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// The server's WebSocket address.
    #[must_use]
    pub fn socket_url(&self) -> Url {
        socket_url(&self.base)
    }

    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = beneath(&self.base, path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    async fn call<B: Serialize, A: DeserializeOwned>(
        &self,
        method: Method,
        url: Url,
        bearer: Option<&str>,
        body: Option<&B>,
    ) -> Result<A, ApiError> {
        let (status, bytes) = self.exchange(method, url, bearer, body).await?;
        serde_json::from_slice(&bytes).map_err(|_| ApiError::Unexpected { status: status.as_u16() })
    }

    async fn call_without_answer(&self, method: Method, url: Url, bearer: &str) -> Result<(), ApiError> {
        self.exchange::<()>(method, url, Some(bearer), None).await.map(|_| ())
    }

    async fn exchange<B: Serialize>(
        &self,
        method: Method,
        url: Url,
        bearer: Option<&str>,
        body: Option<&B>,
    ) -> Result<(StatusCode, Vec<u8>), ApiError> {
        let mut request = Request::new(method, url);
        if let Some(token) = bearer {
            let credentials = HeaderValue::try_from(format!("Bearer {token}"));
            let mut credentials = credentials.map_err(|error| ApiError::Unreachable(Box::new(error)))?;
            credentials.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, credentials);
        }
        if let Some(body) = body {
            let text = serde_json::to_vec(body).expect("bodies have string keys and no failing serializers");
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *request.body_mut() = Some(text.into());
        }
        let (status, bytes) = self.network.exchange(request).await?;
        if status.is_success() {
            return Ok((status, bytes));
        }
        match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => Err(ApiError::Refused(Box::new(problem))),
            Err(_) => Err(ApiError::Unexpected { status: status.as_u16() }),
        }
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

/// A server's base URL as it is meant, with a slash at the end.
fn base_url(text: &str) -> Result<Url, ApiError> {
    let mut base = Url::parse(text).map_err(|_| ApiError::BadUrl)?;
    if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
        return Err(ApiError::BadUrl);
    }
    if !base.path().ends_with('/') {
        base.set_path(&format!("{}/", base.path()));
    }
    Ok(base)
}

fn beneath(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    url.path_segments_mut().expect("http urls have paths").pop_if_empty().extend(path);
    url
}

fn socket_url(base: &Url) -> Url {
    let mut url = beneath(base, &["ws"]);
    let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
    url.set_scheme(scheme).expect("http and https may become ws and wss");
    url
}

/// The WebSocket address of another server, if that is what `base` names.
pub(crate) fn socket_url_of(base: &str) -> Option<Url> {
    base_url(base).ok().map(|base| socket_url(&base))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Internet;

    fn api(base: &str) -> Result<Api, ApiError> {
        Api::new(base, Arc::new(Internet::new()?))
    }

    #[test]
    fn a_base_url_may_have_a_path_and_the_socket_lies_beside_it() {
        let first = api("https://chat.example/colloquy").unwrap();
        assert_eq!(first.socket_url().as_str(), "wss://chat.example/colloquy/ws");
        let url = first.url(&["v1", "users"], &[("email", "a+b@c.example")]);
        assert_eq!(url.as_str(), "https://chat.example/colloquy/v1/users?email=a%2Bb%40c.example");
        let second = api("http://127.0.0.1:8080").unwrap();
        assert_eq!(second.socket_url().as_str(), "ws://127.0.0.1:8080/ws");
    }

    #[test]
    fn what_is_not_a_web_address_is_refused() {
        for bad in ["", "chat.example", "ftp://chat.example", "file:///etc"] {
            assert!(matches!(api(bad), Err(ApiError::BadUrl)), "{bad}");
        }
    }
}
