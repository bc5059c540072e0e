//! `/v1/accounts`: registering.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use colloquy_accounts::registration::{RegisterError, Registrations};
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::rest::accounts::{Register, Tokens};

use crate::extract::{ClientAddress, Json};
use crate::openapi::problems;
use crate::problem::Refusal;
use crate::rate_limit::RateLimits;

problems!(RegisterProblems: BODY, ALWAYS; PhoneTaken, EmailTaken, RateLimited);

pub(crate) enum RouteError {
    Limited(Refusal),
    Register(RegisterError),
}

impl From<RegisterError> for RouteError {
    fn from(error: RegisterError) -> Self {
        Self::Register(error)
    }
}

impl IntoResponse for RouteError {
    fn into_response(self) -> Response {
        let refusal = match self {
            Self::Limited(refusal) => refusal,
            Self::Register(RegisterError::InvalidField(error)) => error.into(),
            Self::Register(RegisterError::PhoneTaken) => Refusal::new(ErrorCode::PhoneTaken).field("phone"),
            Self::Register(RegisterError::EmailTaken) => Refusal::new(ErrorCode::EmailTaken).field("email"),
            Self::Register(RegisterError::Password(error)) => error.into(),
            Self::Register(RegisterError::Store(error)) => error.into(),
            Self::Register(RegisterError::Signing(error)) => Refusal::defect(&error),
        };
        refusal.into_response()
    }
}

/// Makes an account and logs its user in.
#[utoipa::path(post, path = "/v1/accounts", tag = "accounts", request_body = Register,
    responses((status = 201, description = "The account's first log-in", body = Tokens), RegisterProblems))]
pub(crate) async fn register(
    State(registrations): State<Registrations>,
    State(limits): State<Arc<RateLimits>>,
    ClientAddress(address): ClientAddress,
    Json(request): Json<Register>,
) -> Result<(StatusCode, axum::Json<Tokens>), RouteError> {
    limits.check_address(address).map_err(RouteError::Limited)?;
    for identifier in [&request.phone, &request.email].into_iter().flatten() {
        limits.check_identifier(identifier).map_err(RouteError::Limited)?;
    }
    let tokens = registrations.register(request).await?;
    Ok((StatusCode::CREATED, axum::Json(tokens)))
}
