//! Every refusal as a problem document (RFC 9457), whoever refuses: a route, an extractor, the router, a panic.

use std::any::Any;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use colloquy_accounts::invalid_field::InvalidField;
use colloquy_accounts::password::PasswordError;
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::problem::{PROBLEM_JSON, Problem};
use colloquy_storage::ports::StoreError;

/// How long a client is told to wait where nothing better is known, seconds.
const RETRY_AFTER_SECS: u64 = 1;

/// A refused request. Its texts name fields and rules and never quote what was sent (PRIVATE).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    code: ErrorCode,
    status: Option<StatusCode>,
    field: Option<String>,
    detail: Option<String>,
    retry_after: Option<Duration>,
    /// The request carried a token, so the challenge says what was wrong with it (RFC 6750, section 3).
    token_was_given: bool,
}

impl Refusal {
    /// The refusal for `code`.
    #[must_use]
    pub fn new(code: ErrorCode) -> Self {
        Self { code, status: None, field: None, detail: None, retry_after: None, token_was_given: false }
    }

    /// Names the refused field; only ever a name of ours.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// A more precise HTTP status than the code's own.
    #[must_use]
    pub(crate) fn status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// How long to wait before asking again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    pub(crate) fn of_given_token(code: ErrorCode) -> Self {
        Self { token_was_given: true, ..Self::new(code) }
    }

    /// A defect of ours, logged under the request's id.
    pub(crate) fn defect(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "a defect");
        Self::new(ErrorCode::Internal)
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.code
    }
}

impl From<InvalidField> for Refusal {
    fn from(error: InvalidField) -> Self {
        Self::new(ErrorCode::InvalidField).field(error.field).detail(error.rule)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy => Self::new(ErrorCode::Busy),
            StoreError::Unavailable(source) => {
                tracing::error!(error = %source, "the store is unavailable");
                Self::new(ErrorCode::Unavailable)
            }
            StoreError::Corrupt(_) => {
                // A decoder's error can quote the record it read.
                tracing::error!("a stored record is unreadable");
                Self::new(ErrorCode::Internal)
            }
        }
    }
}

impl From<PasswordError> for Refusal {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self::new(ErrorCode::Busy),
            PasswordError::Options(_) | PasswordError::Unreadable => Self::defect(&error),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut problem = Problem::new(self.code);
        let status = self.status.unwrap_or_else(|| {
            StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
        });
        problem.status = status.as_u16();
        problem.detail = self.detail;
        problem.field = self.field;
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        let headers = response.headers_mut();
        if self.code.is_retryable() {
            let seconds = self
                .retry_after
                .map_or(RETRY_AFTER_SECS, |wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110, section 15.5.2: every 401 carries a challenge.
            let challenge = if self.token_was_given {
                r#"Bearer realm="colloquy", error="invalid_token""#
            } else {
                r#"Bearer realm="colloquy""#
            };
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

/// No route has this path.
pub(crate) async fn not_found() -> Refusal {
    Refusal::new(ErrorCode::NotFound)
}

/// The path has routes, but none for this method.
pub(crate) async fn method_not_allowed() -> Refusal {
    Refusal::new(ErrorCode::MethodNotAllowed)
}

/// A handler panicked. What it said is not repeated: it may hold anything.
pub(crate) fn panicked(_panic: Box<dyn Any + Send + 'static>) -> Response {
    tracing::error!("a handler panicked");
    Refusal::new(ErrorCode::Internal).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use axum::routing::get;
    use tower::ServiceExt;
    use tower_http::catch_panic::CatchPanicLayer;

    #[tokio::test]
    async fn a_panic_is_an_internal_error_that_does_not_repeat_what_was_said() {
        let router = Router::new()
            .route("/", get(async || -> &'static str { panic!("secret") }))
            .layer(CatchPanicLayer::custom(panicked));
        let response = router.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
        let body = to_bytes(response.into_body(), 1024).await.unwrap();
        let problem: Problem = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem, Problem::new(ErrorCode::Internal));
    }

    #[test]
    fn every_code_is_a_document_with_its_own_status() {
        for code in ErrorCode::ALL {
            let response = Refusal::new(*code).into_response();
            assert_eq!(response.status().as_u16(), code.http_status());
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), code.is_retryable());
            let challenged = response.headers().contains_key(header::WWW_AUTHENTICATE);
            assert_eq!(challenged, code.http_status() == 401);
        }
    }
}
