//! `/v1/me`: the caller's own account.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use colloquy_accounts::profile::{ChangeProfileError, Profiles};
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::rest::accounts::{ChangeProfile, Profile};

use crate::extract::{Caller, Json};
use crate::openapi::problems;
use crate::problem::Refusal;

problems!(ShowProblems: CALLER, ALWAYS; UnknownUser);
problems!(ChangeProblems: CALLER, BODY, ALWAYS; PhoneTaken, EmailTaken, UnknownUser);

pub(crate) struct RouteError(ChangeProfileError);

impl<E: Into<ChangeProfileError>> From<E> for RouteError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for RouteError {
    fn into_response(self) -> Response {
        let refusal = match self.0 {
            ChangeProfileError::InvalidField(error) => error.into(),
            ChangeProfileError::PhoneTaken => Refusal::new(ErrorCode::PhoneTaken).field("phone"),
            ChangeProfileError::EmailTaken => Refusal::new(ErrorCode::EmailTaken).field("email"),
            ChangeProfileError::UnknownUser => Refusal::new(ErrorCode::UnknownUser),
            ChangeProfileError::Store(error) => error.into(),
        };
        refusal.into_response()
    }
}

/// The caller's account.
#[utoipa::path(get, path = "/v1/me", tag = "accounts", security(("bearer" = [])),
    responses((status = 200, description = "The caller's account", body = Profile), ShowProblems))]
pub(crate) async fn show(
    caller: Caller,
    State(profiles): State<Profiles>,
) -> Result<axum::Json<Profile>, RouteError> {
    let profile = profiles.own(caller.user_id).await?;
    Ok(axum::Json(profile.ok_or(ChangeProfileError::UnknownUser)?))
}

/// Changes the caller's account; what is left out stays as it is.
#[utoipa::path(patch, path = "/v1/me", tag = "accounts", security(("bearer" = [])), request_body = ChangeProfile,
    responses((status = 200, description = "The account as it is now", body = Profile), ChangeProblems))]
pub(crate) async fn change(
    caller: Caller,
    State(profiles): State<Profiles>,
    Json(request): Json<ChangeProfile>,
) -> Result<axum::Json<Profile>, RouteError> {
    Ok(axum::Json(profiles.change(caller.user_id, request).await?))
}
