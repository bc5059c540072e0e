//! `/admin`: what whoever runs the installation may do to it. Beside the operations endpoints, not on the public port, and
//! only with a token that the installation's own key has signed.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef, FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use colloquy_accounts::access_token::InvalidToken;
use colloquy_accounts::admin_token::AdminTokens;
use colloquy_accounts::agents::{AgentError, Agents};
use colloquy_actors::agent::DeadLetterOffice;
use colloquy_actors::feed::FeedOffice;
use colloquy_protocol::agent::AgentId;
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::rest::agents::{
    AddAgent, AddedAgent, AgentKeyRenewed, RegisteredAgent, RegisteredAgents, ReviseAgent,
};
use colloquy_storage::model::agent::Agent;
use tower_http::catch_panic::CatchPanicLayer;

use crate::dead_letters;
use crate::extract::{BODY_MAX_BYTES, Json, Path, bearer_token};
use crate::problem::{Refusal, method_not_allowed, panicked};

/// What the routes work with.
#[derive(Clone)]
pub struct AdminDependencies {
    /// Registers agents.
    pub agents: Agents,
    /// Keeps what they did not take.
    pub dead_letters: DeadLetterOffice,
    /// Keeps what the feed's sink did not take.
    pub untold: FeedOffice,
    /// Says who may.
    pub tokens: Arc<AdminTokens>,
}

impl FromRef<AdminDependencies> for Agents {
    fn from_ref(dependencies: &AdminDependencies) -> Self {
        dependencies.agents.clone()
    }
}

impl FromRef<AdminDependencies> for DeadLetterOffice {
    fn from_ref(dependencies: &AdminDependencies) -> Self {
        dependencies.dead_letters.clone()
    }
}

impl FromRef<AdminDependencies> for FeedOffice {
    fn from_ref(dependencies: &AdminDependencies) -> Self {
        dependencies.untold.clone()
    }
}

/// The routes.
pub fn admin_router(dependencies: AdminDependencies) -> Router {
    Router::new()
        .route("/admin/agents", get(list).post(add))
        .route("/admin/agents/{agent_id}", get(show).put(revise).delete(remove))
        .route("/admin/agents/{agent_id}/key", post(renew_key))
        .route("/admin/dead-letters", get(dead_letters::list))
        .route("/admin/dead-letters/{turn_id}", get(dead_letters::show).delete(dead_letters::remove))
        .route("/admin/dead-letters/{turn_id}/replay", post(dead_letters::replay))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(dependencies)
}

/// Somebody who may administer the installation (AUTHZ).
pub(crate) struct Admin;

impl FromRequestParts<AdminDependencies> for Admin {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AdminDependencies) -> Result<Self, Refusal> {
        let missing =
            || Refusal::new(ErrorCode::InvalidToken).detail("use `colloquy admin`, or send its token");
        let authorization = parts.headers.get(header::AUTHORIZATION).ok_or_else(missing)?;
        let token = authorization.to_str().ok().and_then(bearer_token).ok_or_else(missing)?;
        state.tokens.verify(token).map(|()| Self).map_err(|error| match error {
            InvalidToken::Invalid => Refusal::of_given_token(ErrorCode::InvalidToken),
            InvalidToken::Expired => Refusal::of_given_token(ErrorCode::TokenExpired),
            InvalidToken::Early => Refusal::new(ErrorCode::Unavailable).detail("the server's clock is wrong"),
        })
    }
}

struct RouteError(AgentError);

impl<E: Into<AgentError>> From<E> for RouteError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for RouteError {
    fn into_response(self) -> Response {
        let refusal = match self.0 {
            AgentError::InvalidField(error) => error.into(),
            AgentError::Exists => Refusal::new(ErrorCode::AgentExists),
            AgentError::TooMany => Refusal::new(ErrorCode::TooManyAgents),
            AgentError::Unknown => Refusal::new(ErrorCode::UnknownAgent),
            AgentError::Stale => Refusal::new(ErrorCode::AgentChanged),
            AgentError::Password(error) => error.into(),
            AgentError::Store(error) => error.into(),
        };
        refusal.into_response()
    }
}

type Answer<T> = Result<T, RouteError>;

async fn list(_: Admin, State(agents): State<Agents>) -> Answer<axum::Json<RegisteredAgents>> {
    let agents = agents.all().await?.into_iter().map(registered).collect();
    Ok(axum::Json(RegisteredAgents { agents }))
}

async fn show(
    _: Admin,
    State(agents): State<Agents>,
    Path(agent_id): Path<AgentId>,
) -> Answer<axum::Json<RegisteredAgent>> {
    Ok(axum::Json(registered(agents.get(&agent_id).await?)))
}

async fn add(
    _: Admin,
    State(agents): State<Agents>,
    Json(request): Json<AddAgent>,
) -> Answer<(StatusCode, axum::Json<AddedAgent>)> {
    let (agent, key) = agents.add(request.agent_id, request.profile).await?;
    let added = AddedAgent { agent: registered(agent), key: key.as_str().to_owned() };
    Ok((StatusCode::CREATED, axum::Json(added)))
}

async fn revise(
    _: Admin,
    State(agents): State<Agents>,
    Path(agent_id): Path<AgentId>,
    Json(request): Json<ReviseAgent>,
) -> Answer<axum::Json<RegisteredAgent>> {
    let agent = agents.revise(&agent_id, request.revision, request.profile).await?;
    Ok(axum::Json(registered(agent)))
}

async fn remove(_: Admin, State(agents): State<Agents>, Path(agent_id): Path<AgentId>) -> Answer<StatusCode> {
    agents.remove(&agent_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn renew_key(
    _: Admin,
    State(agents): State<Agents>,
    Path(agent_id): Path<AgentId>,
) -> Answer<axum::Json<AgentKeyRenewed>> {
    let key = agents.renew_key(&agent_id).await?.as_str().to_owned();
    Ok(axum::Json(AgentKeyRenewed { key }))
}

fn registered(agent: Agent) -> RegisteredAgent {
    let Agent { agent_id, user_id, revision, profile, created_at, changed_at } = agent;
    RegisteredAgent { agent_id, user_id, revision, profile, created_at, changed_at }
}
