//! `/v1/agents`: which agents there are, and each one's card.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use colloquy_accounts::agents::{AgentError, Agents};
use colloquy_protocol::agent::{AgentId, DEFAULT_AGENT};
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::rest::agents::{
    A2A_VERSION, AgentCapabilities, AgentCard, AgentEntries, AgentEntry, AgentInterface, AgentSkill,
    PROTOCOL_BINDING,
};
use colloquy_storage::model::agent::Agent;
use colloquy_storage::ports::StoreError;

use crate::extract::{Caller, Path};
use crate::openapi::problems;
use crate::problem::Refusal;

problems!(ListProblems: CALLER, ALWAYS;);
problems!(ShowProblems: CALLER, ALWAYS; UnknownAgent, InvalidField);
problems!(CardProblems: ALWAYS; UnknownAgent, InvalidField);

/// How long a card may be kept by whoever read it.
const CARD_CACHE: &str = "public, max-age=300";

pub(crate) enum RouteError {
    Unknown,
    Store(StoreError),
}

impl From<AgentError> for RouteError {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::Store(error) => Self::Store(error),
            // Looking one up fails in no other way.
            _ => Self::Unknown,
        }
    }
}

impl IntoResponse for RouteError {
    fn into_response(self) -> Response {
        let refusal = match self {
            Self::Unknown => Refusal::new(ErrorCode::UnknownAgent),
            Self::Store(error) => error.into(),
        };
        refusal.into_response()
    }
}

/// All agents.
#[utoipa::path(get, path = "/v1/agents", tag = "agents", security(("bearer" = [])),
    responses((status = 200, description = "In the order of their ids", body = AgentEntries), ListProblems))]
pub(crate) async fn list(
    _caller: Caller,
    State(agents): State<Agents>,
) -> Result<axum::Json<AgentEntries>, RouteError> {
    let agents = agents.all().await.map_err(RouteError::Store)?;
    Ok(axum::Json(AgentEntries { agents: agents.into_iter().map(entry).collect() }))
}

/// One agent.
#[utoipa::path(get, path = "/v1/agents/{agent_id}", tag = "agents", security(("bearer" = [])),
    params(("agent_id" = AgentId, Path, description = "The agent")),
    responses((status = 200, description = "What a user may see of it", body = AgentEntry), ShowProblems))]
pub(crate) async fn show(
    _caller: Caller,
    State(agents): State<Agents>,
    Path(agent_id): Path<AgentId>,
) -> Result<axum::Json<AgentEntry>, RouteError> {
    Ok(axum::Json(entry(agents.get(&agent_id).await?)))
}

/// One agent's card (A2A 1.0, section 4.4.1).
#[utoipa::path(get, path = "/v1/agents/{agent_id}/agent-card.json", tag = "agents",
    params(("agent_id" = AgentId, Path, description = "The agent")),
    responses((status = 200, description = "The card", body = AgentCard), CardProblems))]
pub(crate) async fn card(
    State(agents): State<Agents>,
    Path(agent_id): Path<AgentId>,
) -> Result<impl IntoResponse, RouteError> {
    let agent = agents.get(&agent_id).await?;
    Ok(([(header::CACHE_CONTROL, CARD_CACHE)], axum::Json(card_of(&agent))))
}

/// The card of the agent that answers when no other is chosen (A2A 1.0, section 8.2).
#[utoipa::path(get, path = "/.well-known/agent-card.json", tag = "agents",
    responses((status = 200, description = "The card", body = AgentCard), CardProblems))]
pub(crate) async fn default_card(State(agents): State<Agents>) -> Result<impl IntoResponse, RouteError> {
    let default = AgentId::new(DEFAULT_AGENT).map_err(|_| RouteError::Unknown)?;
    card(State(agents), Path(default)).await
}

fn entry(agent: Agent) -> AgentEntry {
    let Agent { agent_id, user_id, profile, .. } = agent;
    AgentEntry {
        agent_id,
        user_id,
        name: profile.name,
        description: profile.description,
        version: profile.version,
        capabilities: profile.capabilities,
        intents: profile.intents,
        when_busy: profile.when_busy,
    }
}

fn card_of(agent: &Agent) -> AgentCard {
    let profile = &agent.profile;
    let tags: Vec<String> = profile.capabilities.iter().map(ToString::to_string).collect();
    let skill = |intent: &colloquy_protocol::agent::Intent| {
        let name = intent.label.as_str().replace('-', " ");
        let description = format!("{} answers: {name}", profile.name);
        let (id, examples) = (intent.label.to_string(), intent.examples.clone());
        AgentSkill { id, name, description, tags: tags.clone(), examples }
    };
    let text = || vec!["text/plain".to_owned()];
    AgentCard {
        name: profile.name.clone(),
        description: profile.description.clone(),
        version: profile.version.clone(),
        supported_interfaces: vec![AgentInterface {
            url: format!("/v1/agents/{}", agent.agent_id),
            protocol_binding: PROTOCOL_BINDING.to_owned(),
            protocol_version: A2A_VERSION.to_owned(),
        }],
        capabilities: AgentCapabilities { streaming: true, push_notifications: false },
        default_input_modes: text(),
        default_output_modes: text(),
        skills: profile.intents.iter().map(skill).collect(),
    }
}
