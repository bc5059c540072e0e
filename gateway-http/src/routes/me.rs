//! `/v1/me`: the caller's own account.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use colloquy_accounts::profile::{ChangeProfileError, Profiles};
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::rest::accounts::{ChangeProfile, Profile};

use crate::extract::{Caller, Json};
use crate::openapi::problems;
use crate::problem::Refusal;
use crate::rate_limit::RateLimits;

problems!(ShowProblems: CALLER, ALWAYS; UnknownUser);
problems!(ChangeProblems: CALLER, BODY, ALWAYS; PhoneTaken, EmailTaken, UnknownUser, RateLimited);

fn changes_contact(request: &ChangeProfile) -> bool {
    request.phone.is_some() || request.email.is_some()
}

pub(crate) enum RouteError {
    Limited(Refusal),
    Change(ChangeProfileError),
}

impl<E: Into<ChangeProfileError>> From<E> for RouteError {
    fn from(error: E) -> Self {
        Self::Change(error.into())
    }
}

impl IntoResponse for RouteError {
    fn into_response(self) -> Response {
        use ChangeProfileError::{EmailTaken, InvalidField, PhoneTaken, Store, UnknownUser};
        let refusal = match self {
            Self::Limited(refusal) => refusal,
            Self::Change(InvalidField(error)) => error.into(),
            Self::Change(PhoneTaken) => Refusal::new(ErrorCode::PhoneTaken).field("phone"),
            Self::Change(EmailTaken) => Refusal::new(ErrorCode::EmailTaken).field("email"),
            Self::Change(UnknownUser) => Refusal::new(ErrorCode::UnknownUser),
            Self::Change(Store(error)) => error.into(),
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
    State(limits): State<Arc<RateLimits>>,
    Json(request): Json<ChangeProfile>,
) -> Result<axum::Json<Profile>, RouteError> {
    if changes_contact(&request) {
        // "Taken" says that somebody has the number or address: as good as a look-up.
        limits.check_look_up(caller.user_id).map_err(RouteError::Limited)?;
    }
    Ok(axum::Json(profiles.change(caller.user_id, request).await?))
}
