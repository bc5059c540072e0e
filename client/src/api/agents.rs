//! `/v1/agents`, and `/admin/agents` for whoever runs the installation.

use colloquy_protocol::agent::AgentId;
use colloquy_protocol::rest::agents::{
    AddAgent, AddedAgent, AgentEntries, AgentEntry, AgentKeyRenewed, RegisteredAgent, RegisteredAgents,
    ReviseAgent,
};
use colloquy_protocol::rest::routes::{AskRoute, Route};
use reqwest::{Method, Url};

use super::{Api, ApiError};

impl Api {
    /// `GET /v1/agents`.
    ///
    /// # Errors
    /// What every call fails with.
    pub async fn agents(&self, bearer: &str) -> Result<AgentEntries, ApiError> {
        self.call::<(), _>(Method::GET, self.url(&["v1", "agents"], &[]), Some(bearer), None).await
    }

    /// `POST /v1/route`.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `unknown_agent` or `unknown_conversation`; and what every call fails with.
    pub async fn route(&self, bearer: &str, asked: &AskRoute) -> Result<Route, ApiError> {
        self.call(Method::POST, self.url(&["v1", "route"], &[]), Some(bearer), Some(asked)).await
    }

    /// `GET /v1/agents/{agent_id}`.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `unknown_agent`; and what every call fails with.
    pub async fn agent(&self, bearer: &str, agent_id: &AgentId) -> Result<AgentEntry, ApiError> {
        let url = self.url(&["v1", "agents", agent_id.as_str()], &[]);
        self.call::<(), _>(Method::GET, url, Some(bearer), None).await
    }

    /// `GET /admin/agents`; this and the others of `/admin` are on the operations port.
    ///
    /// # Errors
    /// What every call fails with.
    pub async fn registered_agents(&self, bearer: &str) -> Result<RegisteredAgents, ApiError> {
        self.call::<(), _>(Method::GET, self.url(&["admin", "agents"], &[]), Some(bearer), None).await
    }

    /// `GET /admin/agents/{agent_id}`.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `unknown_agent`; and what every call fails with.
    pub async fn registered_agent(
        &self,
        bearer: &str,
        agent_id: &AgentId,
    ) -> Result<RegisteredAgent, ApiError> {
        self.call::<(), _>(Method::GET, self.admin_url(agent_id), Some(bearer), None).await
    }

    /// `POST /admin/agents`.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `agent_exists`, `too_many_agents` or `invalid_field`; and what every call fails with.
    pub async fn add_agent(&self, bearer: &str, body: &AddAgent) -> Result<AddedAgent, ApiError> {
        self.call(Method::POST, self.url(&["admin", "agents"], &[]), Some(bearer), Some(body)).await
    }

    /// `PUT /admin/agents/{agent_id}`.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `unknown_agent`, `agent_changed` or `invalid_field`; and what every call fails with.
    pub async fn revise_agent(
        &self,
        bearer: &str,
        agent_id: &AgentId,
        body: &ReviseAgent,
    ) -> Result<RegisteredAgent, ApiError> {
        self.call(Method::PUT, self.admin_url(agent_id), Some(bearer), Some(body)).await
    }

    /// `DELETE /admin/agents/{agent_id}`.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `unknown_agent`; and what every call fails with.
    pub async fn remove_agent(&self, bearer: &str, agent_id: &AgentId) -> Result<(), ApiError> {
        self.call_without_answer(Method::DELETE, self.admin_url(agent_id), bearer).await
    }

    /// `POST /admin/agents/{agent_id}/key`.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `unknown_agent`; and what every call fails with.
    pub async fn renew_agent_key(
        &self,
        bearer: &str,
        agent_id: &AgentId,
    ) -> Result<AgentKeyRenewed, ApiError> {
        let url = self.url(&["admin", "agents", agent_id.as_str(), "key"], &[]);
        self.call::<(), _>(Method::POST, url, Some(bearer), None).await
    }

    fn admin_url(&self, agent_id: &AgentId) -> Url {
        self.url(&["admin", "agents", agent_id.as_str()], &[])
    }
}
