//! `/v1/logins`: logging in and out, refreshing, listing, revoking.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use colloquy_accounts::logins::{LogInError, Logins, RefreshError, RevokeError};
use colloquy_protocol::agent::AgentId;
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::ids::LoginId;
use colloquy_protocol::rest::accounts::{LogIn, Logins as LoginList, Refresh, Tokens};
use colloquy_storage::ports::StoreError;

use crate::extract::{Caller, ClientAddress, Json, Path};
use crate::openapi::problems;
use crate::problem::Refusal;
use crate::rate_limit::RateLimits;

problems!(LogInProblems: BODY, ALWAYS; InvalidCredentials, RateLimited);
problems!(RefreshProblems: ALWAYS; MalformedFrame, TooLarge, InvalidToken, RefreshTokenReused);
problems!(ListProblems: CALLER, ALWAYS;);
problems!(LogOutProblems: CALLER, ALWAYS; UnknownLogin);
problems!(RevokeProblems: CALLER, ALWAYS; UnknownLogin, InvalidField);

pub(crate) enum RouteError {
    Limited(Refusal),
    LogIn(LogInError),
    Refresh(RefreshError),
    Revoke(RevokeError),
    Store(StoreError),
}

impl IntoResponse for RouteError {
    fn into_response(self) -> Response {
        let refusal = match self {
            Self::Limited(refusal) => refusal,
            Self::LogIn(LogInError::InvalidField(error)) => error.into(),
            Self::LogIn(LogInError::InvalidCredentials) => Refusal::new(ErrorCode::InvalidCredentials),
            Self::LogIn(LogInError::Password(error)) => error.into(),
            Self::Refresh(RefreshError::Invalid) => {
                Refusal::new(ErrorCode::InvalidToken).detail("log in again")
            }
            Self::Refresh(RefreshError::Early) => {
                Refusal::new(ErrorCode::Unavailable).detail("the server's clock is wrong")
            }
            Self::Refresh(RefreshError::Reused) => Refusal::new(ErrorCode::RefreshTokenReused),
            Self::Revoke(RevokeError::Unknown) => Refusal::new(ErrorCode::UnknownLogin),
            Self::LogIn(LogInError::Signing(error)) | Self::Refresh(RefreshError::Signing(error)) => {
                Refusal::defect(&error)
            }
            Self::LogIn(LogInError::Store(error))
            | Self::Refresh(RefreshError::Store(error))
            | Self::Revoke(RevokeError::Store(error))
            | Self::Store(error) => error.into(),
        };
        refusal.into_response()
    }
}

/// Logs in.
#[utoipa::path(post, path = "/v1/logins", tag = "logins", request_body = LogIn,
    responses((status = 200, description = "A new log-in", body = Tokens), LogInProblems))]
pub(crate) async fn log_in(
    State(logins): State<Logins>,
    State(limits): State<Arc<RateLimits>>,
    ClientAddress(address): ClientAddress,
    Json(request): Json<LogIn>,
) -> Result<axum::Json<Tokens>, RouteError> {
    limits.check_address(address).map_err(RouteError::Limited)?;
    let contacts = [request.phone.as_deref(), request.email.as_deref()];
    let agent = request.agent_id.as_ref().map(AgentId::as_str);
    for identifier in contacts.into_iter().chain([agent]).flatten() {
        limits.check_identifier(identifier).map_err(RouteError::Limited)?;
    }
    logins.log_in(request).await.map(axum::Json).map_err(RouteError::LogIn)
}

/// Gives new tokens for the newest refresh token of a log-in.
///
/// The token used is void from then on. Using it again revokes the log-in, unless it is a retry: under the same
/// `request_id`, or within ten seconds.
#[utoipa::path(post, path = "/v1/logins/refresh", tag = "logins", request_body = Refresh,
    responses((status = 200, description = "The log-in's next tokens", body = Tokens), RefreshProblems))]
pub(crate) async fn refresh(
    State(logins): State<Logins>,
    Json(request): Json<Refresh>,
) -> Result<axum::Json<Tokens>, RouteError> {
    logins.refresh(request).await.map(axum::Json).map_err(RouteError::Refresh)
}

/// The caller's log-ins, newest first.
#[utoipa::path(get, path = "/v1/logins", tag = "logins", security(("bearer" = [])),
    responses((status = 200, description = "Those not revoked", body = LoginList), ListProblems))]
pub(crate) async fn list(
    caller: Caller,
    State(logins): State<Logins>,
) -> Result<axum::Json<LoginList>, RouteError> {
    let logins = logins.list(caller.user_id, caller.login_id).await.map_err(RouteError::Store)?;
    Ok(axum::Json(LoginList { logins }))
}

/// Logs out: revokes the log-in this request is made with.
#[utoipa::path(delete, path = "/v1/logins/current", tag = "logins", security(("bearer" = [])),
    responses((status = 204, description = "Revoked; its sockets are closed"), LogOutProblems))]
pub(crate) async fn log_out(caller: Caller, State(logins): State<Logins>) -> Result<StatusCode, RouteError> {
    logins.revoke(caller.user_id, caller.login_id).await.map_err(RouteError::Revoke)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Revokes one of the caller's log-ins.
#[utoipa::path(delete, path = "/v1/logins/{login_id}", tag = "logins", security(("bearer" = [])),
    params(("login_id" = LoginId, Path, description = "One of the caller's log-ins")),
    responses((status = 204, description = "Revoked; its sockets are closed"), RevokeProblems))]
pub(crate) async fn revoke(
    caller: Caller,
    State(logins): State<Logins>,
    Path(login_id): Path<LoginId>,
) -> Result<StatusCode, RouteError> {
    logins.revoke(caller.user_id, login_id).await.map_err(RouteError::Revoke)?;
    Ok(StatusCode::NO_CONTENT)
}
