//! Agents: which there are, and what they say of themselves.

use async_trait::async_trait;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::agent::{AgentId, AgentProfile};
use colloquy_protocol::ids::UserId;

use super::StoreResult;
use crate::model::agent::{Agent, Revised};

/// Agents, by id and by user.
#[async_trait]
pub trait Agents: Send + Sync + 'static {
    /// Registers an agent. Says whether it is registered now, as this user: not if its id is another's. A retry changes
    /// nothing, also if the agent was changed since.
    async fn create(&self, agent: Agent) -> StoreResult<bool>;

    /// By id.
    async fn get(&self, agent_id: &AgentId) -> StoreResult<Option<Agent>>;

    /// The agent that is this user, if the user is one.
    async fn of_user(&self, user_id: UserId) -> StoreResult<Option<Agent>>;

    /// Up to `limit` of them in the order of their ids, those that come after one.
    async fn list(&self, after: Option<&AgentId>, limit: usize) -> StoreResult<Vec<Agent>>;

    /// Changes what an agent says of itself, if it is still at `revision`. Doing that again finds it changed, and says so
    /// ([`Revised::Stale`]) with what it is.
    async fn revise(
        &self,
        agent_id: &AgentId,
        revision: u64,
        profile: AgentProfile,
        now: UnixMillis,
    ) -> StoreResult<Revised>;

    /// Takes an agent out; says whether it was there. Its user stays, and so do its conversations.
    async fn remove(&self, agent_id: &AgentId) -> StoreResult<bool>;
}
