//! The identifier in a path. No route has more than one.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use colloquy_protocol::error_code::ErrorCode;
use serde::de::DeserializeOwned;

use crate::problem::Refusal;

/// A path's parameter; a malformed one is refused with `invalid_field` under its name in the route.
#[derive(Clone, Copy, Debug)]
pub struct Path<T>(pub T);

impl<S, T> FromRequestParts<S> for Path<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        if let Ok(axum::extract::Path(value)) =
            axum::extract::Path::<T>::from_request_parts(parts, state).await
        {
            return Ok(Self(value));
        }
        // The rejection itself quotes the path, and knows the parameter's name only sometimes.
        let refusal = Refusal::new(ErrorCode::InvalidField).detail("an identifier in the path is malformed");
        let names = RawPathParams::from_request_parts(parts, state).await;
        let name = names.ok().and_then(|names| names.iter().next().map(|(name, _)| name.to_owned()));
        Err(refusal.field(name.unwrap_or_else(|| "path".to_owned())))
    }
}
