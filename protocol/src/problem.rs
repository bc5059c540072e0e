//! Problem documents: what every refused REST request is answered with (RFC 9457).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error_code::ErrorCode;

/// The media type of a problem document.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// An RFC 9457 problem document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A URI reference that names the kind of problem: `/problems/{code}`.
    pub r#type: String,
    /// The kind of problem in a few words; the same for every occurrence.
    pub title: String,
    /// The HTTP status, repeated.
    pub status: u16,
    /// What to do about this occurrence. Holds no personal data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The stable code to program against.
    pub code: ErrorCode,
    /// The field that was refused, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// May the same request succeed later, unchanged?
    pub retryable: bool,
}

impl Problem {
    /// The document for `code`.
    #[must_use]
    pub fn new(code: ErrorCode) -> Self {
        Self {
            r#type: format!("/problems/{code}"),
            title: code.as_str().replace('_', " "),
            status: code.http_status(),
            detail: None,
            code,
            field: None,
            retryable: code.is_retryable(),
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Names the field that was refused.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }
}
