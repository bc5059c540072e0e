//! The parameters after the `?`.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use colloquy_protocol::error_code::ErrorCode;
use serde::de::DeserializeOwned;

use crate::problem::Refusal;

/// A request's query; refused with `invalid_field`, without being quoted.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

impl<S, T> FromRequestParts<S> for Query<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        query.map(|axum::extract::Query(value)| Self(value)).map_err(|_| {
            Refusal::new(ErrorCode::InvalidField)
                .field("query")
                .detail("a parameter is unknown, repeated or malformed")
        })
    }
}
