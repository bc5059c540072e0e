//! Agents.

use std::sync::Arc;

use async_trait::async_trait;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::agent::{AgentId, AgentProfile};
use colloquy_protocol::ids::UserId;

use super::Engine;
use super::encoding::{decode, encode, malformed};
use super::group::Group;
use super::keyspaces::Space;
use super::snapshot::{Rows, Snapshot};
use crate::model::agent::{Agent, Revised};
use crate::ports::{Agents, StoreResult};

pub(super) struct EmbeddedAgents(pub(super) Arc<Engine>);

#[async_trait]
impl Agents for EmbeddedAgents {
    async fn create(&self, agent: Agent) -> StoreResult<bool> {
        self.0.write(move |group| create(group, &agent)).await
    }

    async fn get(&self, agent_id: &AgentId) -> StoreResult<Option<Agent>> {
        get(&self.0.snapshot(), agent_id.as_str().as_bytes())
    }

    async fn of_user(&self, user_id: UserId) -> StoreResult<Option<Agent>> {
        let rows = self.0.snapshot();
        let Some(agent_id) = rows.get(Space::AgentUsers, user_id.0.as_bytes())? else { return Ok(None) };
        get(&rows, &agent_id)?.ok_or_else(|| malformed("index: no such agent")).map(Some)
    }

    async fn list(&self, after: Option<&AgentId>, limit: usize) -> StoreResult<Vec<Agent>> {
        let after = after.cloned();
        self.0.scan(move |rows| list(rows, after.as_ref(), limit)).await
    }

    async fn revise(
        &self,
        agent_id: &AgentId,
        revision: u64,
        profile: AgentProfile,
        now: UnixMillis,
    ) -> StoreResult<Revised> {
        let agent_id = agent_id.clone();
        self.0.write(move |group| revise(group, &agent_id, revision, profile, now)).await
    }

    async fn remove(&self, agent_id: &AgentId) -> StoreResult<bool> {
        let agent_id = agent_id.clone();
        self.0.write(move |group| remove(group, &agent_id)).await
    }
}

fn get(rows: &impl Rows, agent_id: &[u8]) -> StoreResult<Option<Agent>> {
    rows.get(Space::Agents, agent_id)?.map(|bytes| decode(&bytes)).transpose()
}

fn list(rows: &Snapshot, after: Option<&AgentId>, limit: usize) -> StoreResult<Vec<Agent>> {
    // An installation has no more than fit into a few pages: they are passed over from the first.
    let all = rows.prefix(Space::Agents, b"").map(|row| decode::<Agent>(&row?.1));
    let comes_after = |agent: &StoreResult<Agent>| {
        agent.as_ref().map_or(true, |agent| after.is_none_or(|after| agent.agent_id > *after))
    };
    all.filter(comes_after).take(limit).collect()
}

fn create(group: &mut Group, agent: &Agent) -> StoreResult<bool> {
    if let Some(there) = get(group, agent.agent_id.as_str().as_bytes())? {
        return Ok(there.user_id == agent.user_id);
    }
    group.put(Space::AgentUsers, *agent.user_id.0.as_bytes(), agent.agent_id.as_str());
    put(group, agent)?;
    Ok(true)
}

fn revise(
    group: &mut Group,
    agent_id: &AgentId,
    revision: u64,
    profile: AgentProfile,
    now: UnixMillis,
) -> StoreResult<Revised> {
    let Some(mut agent) = get(group, agent_id.as_str().as_bytes())? else { return Ok(Revised::Unknown) };
    if agent.revision != revision {
        return Ok(Revised::Stale(agent));
    }
    agent.revision += 1;
    agent.profile = profile;
    agent.changed_at = now;
    put(group, &agent)?;
    Ok(Revised::Changed(agent))
}

fn remove(group: &mut Group, agent_id: &AgentId) -> StoreResult<bool> {
    let Some(agent) = get(group, agent_id.as_str().as_bytes())? else { return Ok(false) };
    group.remove(Space::AgentUsers, *agent.user_id.0.as_bytes());
    group.remove(Space::Agents, agent_id.as_str());
    Ok(true)
}

fn put(group: &mut Group, agent: &Agent) -> StoreResult<()> {
    group.put(Space::Agents, agent.agent_id.as_str(), encode(agent)?);
    Ok(())
}
