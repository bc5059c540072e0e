//! Who is asking, from `Authorization: Bearer` (AUTHZ).

use std::ops::Deref;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::header;
use axum::http::request::Parts;
use colloquy_accounts::authenticate::{AuthError, Authenticated, Authenticator};
use colloquy_protocol::error_code::ErrorCode;

use crate::problem::Refusal;

/// The authenticated caller of a request.
#[derive(Clone, Debug)]
pub struct Caller(pub Authenticated);

impl Deref for Caller {
    type Target = Authenticated;

    fn deref(&self) -> &Authenticated {
        &self.0
    }
}

/// The token in an `Authorization` header; the scheme's case does not matter (RFC 9110, section 11.1).
pub(crate) fn bearer_token(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Invalid => Self::of_given_token(ErrorCode::InvalidToken),
            AuthError::Expired => Self::of_given_token(ErrorCode::TokenExpired),
            AuthError::Revoked => Self::of_given_token(ErrorCode::TokenRevoked),
            AuthError::Early => Self::new(ErrorCode::Unavailable).detail("the server's clock is wrong"),
            AuthError::Unavailable(error) => error.into(),
        }
    }
}

impl<S> FromRequestParts<S> for Caller
where
    Authenticator: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let missing = || Refusal::new(ErrorCode::InvalidToken).detail("send Authorization: Bearer <token>");
        let authorization = parts.headers.get(header::AUTHORIZATION).ok_or_else(missing)?;
        let authorization = authorization.to_str().map_err(|_| missing())?;
        let token = bearer_token(authorization).ok_or_else(missing)?;
        let authenticated = Authenticator::from_ref(state).authenticate(token).await;
        authenticated.map(Self).map_err(Refusal::from)
    }
}
