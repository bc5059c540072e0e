//! `/v1/users`: finding somebody to talk to.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use colloquy_accounts::contact::Contact;
use colloquy_accounts::invalid_field::InvalidField;
use colloquy_accounts::profile::Profiles;
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::ids::UserId;
use colloquy_protocol::rest::accounts::UserCard;
use colloquy_storage::ports::StoreError;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::extract::{Caller, Query};
use crate::openapi::problems;
use crate::problem::Refusal;
use crate::rate_limit::RateLimits;

problems!(FindProblems: CALLER, ALWAYS; InvalidField, UnknownUser, RateLimited);

/// Exactly one of the three.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lookup {
    /// E.164; the `+` is sent as `%2B`.
    phone: Option<String>,
    /// In any case.
    email: Option<String>,
    /// By id.
    user_id: Option<UserId>,
}

pub(crate) enum RouteError {
    Limited(Refusal),
    NotExactlyOne,
    InvalidField(InvalidField),
    UnknownUser,
    Store(StoreError),
}

impl IntoResponse for RouteError {
    fn into_response(self) -> Response {
        let refusal = match self {
            Self::Limited(refusal) => refusal,
            Self::NotExactlyOne => Refusal::new(ErrorCode::InvalidField)
                .field("query")
                .detail("give exactly one of phone, email and user_id"),
            Self::InvalidField(error) => error.into(),
            Self::UnknownUser => Refusal::new(ErrorCode::UnknownUser),
            Self::Store(error) => error.into(),
        };
        refusal.into_response()
    }
}

/// Finds one user by the exact phone number, address or id.
#[utoipa::path(get, path = "/v1/users", tag = "users", security(("bearer" = [])), params(Lookup),
    responses((status = 200, description = "What others may see of the user", body = UserCard), FindProblems))]
pub(crate) async fn find(
    caller: Caller,
    State(profiles): State<Profiles>,
    State(limits): State<Arc<RateLimits>>,
    Query(lookup): Query<Lookup>,
) -> Result<axum::Json<UserCard>, RouteError> {
    limits.check_look_up(caller.user_id).map_err(RouteError::Limited)?;
    let found = match lookup {
        Lookup { phone: None, email: None, user_id: Some(user_id) } => profiles.card(user_id).await,
        Lookup { phone: Some(_), email: None, user_id: None }
        | Lookup { phone: None, email: Some(_), user_id: None } => {
            let contact =
                Contact::exactly_one(lookup.phone, lookup.email).map_err(RouteError::InvalidField)?;
            profiles.find(&contact).await
        }
        _ => return Err(RouteError::NotExactlyOne),
    };
    found.map_err(RouteError::Store)?.map(axum::Json).ok_or(RouteError::UnknownUser)
}
