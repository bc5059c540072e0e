//! A JSON body, bounded, refused without being quoted.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use colloquy_protocol::error_code::ErrorCode;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::problem::Refusal;

/// Longest request body. A longer one is refused with `too_large` once so much of it has been read.
pub const BODY_MAX_BYTES: usize = 64 * 1024;

/// A request's JSON body.
///
/// Refused with `malformed_frame`: status 415 for another content type, 400 for what is not JSON or not this JSON.
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

impl<S, T> FromRequest<S> for Json<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        if !is_json(request.headers()) {
            return Err(Refusal::new(ErrorCode::MalformedFrame)
                .status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
                .detail("the content type must be application/json"));
        }
        // The bound itself is a layer (`DefaultBodyLimit`) around all routes.
        let body = Bytes::from_request(request, state).await.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                return Refusal::new(ErrorCode::TooLarge).detail("a body has at most 65536 bytes");
            }
            Refusal::new(ErrorCode::MalformedFrame).detail("the body could not be read")
        })?;
        serde_json::from_slice(&body).map(Self).map_err(|error| refusal(&error))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// Serde's own text quotes the input, so only its place is repeated, and the name of a missing field, which is ours.
fn refusal(error: &serde_json::Error) -> Refusal {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let missing = text.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    let refusal = Refusal::new(ErrorCode::MalformedFrame);
    match (error.classify(), missing) {
        (Category::Data, Some(field)) => refusal.field(field).detail("the field is missing"),
        (Category::Data, None) => refusal.detail(format!(
            "a field is unknown, repeated or of the wrong type before line {line}, column {column}"
        )),
        _ => refusal.detail(format!("not JSON at line {line}, column {column}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use colloquy_protocol::rest::accounts::Register;

    fn refused(body: &str) -> String {
        match serde_json::from_str::<Register>(body) {
            Ok(_) => panic!("{body} was accepted"),
            Err(error) => format!("{:?}", refusal(&error)),
        }
    }

    #[test]
    fn a_refused_body_is_never_quoted() {
        for body in [
            r#"{"secret": 1}"#,
            r#"{"name": "secret", "password": {"secret": 1}}"#,
            r#"{"name": "missing field `secret`", "password": 7}"#,
            r#"{"missing field `secret`": 7}"#,
            r#""secret""#,
            "secret",
        ] {
            assert!(!refused(body).contains("secret"), "{}", refused(body));
        }
    }

    #[test]
    fn a_missing_field_is_named() {
        assert!(refused(r#"{"name": "x"}"#).contains("password"));
    }
}
