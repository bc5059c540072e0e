//! The REST interface, as typed calls. One method per route; one error enum that carries the server's problem.

pub mod accounts;
mod conversations;
mod devices;

use std::fmt;
use std::time::Duration;

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::problem::Problem;
use reqwest::{Method, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

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
    http: reqwest::Client,
    base: Url,
}

impl Api {
    /// A client for the server at `base`, such as `https://chat.example`. Connects to nothing yet.
    ///
    /// # Errors
    /// [`ApiError::BadUrl`] if `base` is not an http or https URL.
    pub fn new(base: &str) -> Result<Self, ApiError> {
        let mut base = Url::parse(base).map_err(|_| ApiError::BadUrl)?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(ApiError::BadUrl);
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let http = reqwest::Client::builder()
            .timeout(CALL_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| ApiError::Unreachable(Box::new(error)))?;
        Ok(Self { http, base })
    }

    /// The server's base URL, with a slash at the end.
    #[must_use]
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// The server's WebSocket address.
    #[must_use]
    pub fn socket_url(&self) -> Url {
        let mut url = self.url(&["ws"], &[]);
        let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
        url.set_scheme(scheme).expect("http and https may become ws and wss");
        url
    }

    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("http urls have paths").pop_if_empty().extend(path);
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
        let bytes = self.exchange(method, url, bearer, body).await?;
        serde_json::from_slice(&bytes.1).map_err(|_| ApiError::Unexpected { status: bytes.0.as_u16() })
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
        let mut request = self.http.request(method, url);
        if let Some(token) = bearer {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        // The URL of a failed look-up names a phone number or an address: it must not reach a log (PRIVATE).
        let unreachable = |error: reqwest::Error| ApiError::Unreachable(Box::new(error.without_url()));
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if bytes.len() + chunk.len() > ANSWER_MAX_BYTES {
                return Err(ApiError::TooLarge);
            }
            bytes.extend_from_slice(&chunk);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_may_have_a_path_and_the_socket_lies_beside_it() {
        let api = Api::new("https://chat.example/colloquy").unwrap();
        assert_eq!(api.socket_url().as_str(), "wss://chat.example/colloquy/ws");
        let url = api.url(&["v1", "users"], &[("email", "a+b@c.example")]);
        assert_eq!(url.as_str(), "https://chat.example/colloquy/v1/users?email=a%2Bb%40c.example");
        let api = Api::new("http://127.0.0.1:8080").unwrap();
        assert_eq!(api.socket_url().as_str(), "ws://127.0.0.1:8080/ws");
    }

    #[test]
    fn what_is_not_a_web_address_is_refused() {
        for bad in ["", "chat.example", "ftp://chat.example", "file:///etc"] {
            assert!(matches!(Api::new(bad), Err(ApiError::BadUrl)), "{bad}");
        }
    }
}
