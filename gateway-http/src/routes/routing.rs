//! `/v1/route`: which agent a message goes to, asked before it is encrypted.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use colloquy_actors::agent::{RouteError as NotFound, RouteRequest, Routes};
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::limits::ROUTING_TEXT_MAX_CHARS;
use colloquy_protocol::rest::routes::{AskRoute, Route};
use colloquy_storage::ports::{Conversations, StoreError};

use crate::extract::{Caller, Json};
use crate::openapi::problems;
use crate::problem::Refusal;

problems!(FindProblems: CALLER, BODY, ALWAYS; UnknownAgent, UnknownConversation, InvalidField);

pub(crate) enum RouteError {
    TooLong,
    UnknownConversation,
    NotFound(NotFound),
    Store(StoreError),
}

impl IntoResponse for RouteError {
    fn into_response(self) -> Response {
        let refusal = match self {
            Self::TooLong => Refusal::new(ErrorCode::InvalidField).detail("text has at most 1000 characters"),
            Self::UnknownConversation => Refusal::new(ErrorCode::UnknownConversation),
            Self::NotFound(NotFound::NotYet) => Refusal::new(ErrorCode::Unavailable),
            Self::NotFound(NotFound::NoRoute(_)) => Refusal::new(ErrorCode::UnknownAgent),
            Self::Store(error) => error.into(),
        };
        refusal.into_response()
    }
}

/// Finds the agent that a message goes to, and says why.
///
/// Of what is asked the first that fits decides: `agent_id`, `conversation_id`, `intent` (or what `text` is found to want),
/// `capability`, and otherwise the default agent. Nothing of it is stored.
#[utoipa::path(post, path = "/v1/route", tag = "agents", security(("bearer" = [])), request_body = AskRoute,
    responses((status = 200, description = "The agent, and what has decided", body = Route), FindProblems))]
pub(crate) async fn find(
    caller: Caller,
    State(routes): State<Routes>,
    State(conversations): State<Arc<dyn Conversations>>,
    Json(asked): Json<AskRoute>,
) -> Result<axum::Json<Route>, RouteError> {
    if asked.text.as_ref().is_some_and(|text| text.chars().count() > ROUTING_TEXT_MAX_CHARS) {
        return Err(RouteError::TooLong);
    }
    let context = match asked.conversation_id {
        None => None,
        Some(id) => {
            let conversation = conversations.get(id).await.map_err(RouteError::Store)?;
            // AUTHZ: another's conversation is none.
            let own = conversation.filter(|conversation| conversation.has(caller.user_id));
            let own = own.ok_or(RouteError::UnknownConversation)?;
            own.participants.iter().copied().find(|user_id| *user_id != caller.user_id)
        }
    };
    let AskRoute { agent_id, intent, capability, text, .. } = asked;
    let request = RouteRequest { agent: agent_id, context, intent, capability };
    routes.find(request, text.as_deref()).await.map(axum::Json).map_err(RouteError::NotFound)
}
