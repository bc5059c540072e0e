//! The registry of agents, with what is asked most kept for a while: which agent a user is.
//!
//! What was changed through this adapter is mostly seen at once, through it and through others that share its cache; what
//! changed beside them, while the cache was away, or in the moment in which somebody else was reading, within
//! [`AGENT_TTL`](crate::ports::cache::AGENT_TTL). An agent that is removed is logged out: that it is still taken for one for so
//! long gives it nothing.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::agent::{AgentId, AgentProfile};
use colloquy_protocol::ids::UserId;

use crate::model::agent::{Agent, Revised};
use crate::ports::cache::{Cache, CacheKey};
use crate::ports::{Agents, StoreResult};

/// A registry before which a cache stands.
pub struct CachedAgents {
    agents: Arc<dyn Agents>,
    cache: Arc<dyn Cache>,
}

impl CachedAgents {
    /// What is kept stands in `cache`, what is true in `agents`.
    #[must_use]
    pub fn new(agents: Arc<dyn Agents>, cache: Arc<dyn Cache>) -> Self {
        Self { agents, cache }
    }

    async fn kept(&self, user_id: UserId) -> Option<Agent> {
        let kept = self.cache.get(&CacheKey::Agent(user_id)).await.ok().flatten()?;
        // What another release has put there may have another form.
        rmp_serde::from_slice(&kept).ok()
    }

    async fn forget(&self, user_id: UserId) {
        // One that is away forgets by itself.
        let _ = self.cache.forget(&CacheKey::Agent(user_id)).await;
    }
}

#[async_trait]
impl Agents for CachedAgents {
    async fn create(&self, agent: Agent) -> StoreResult<bool> {
        let user_id = agent.user_id;
        let created = self.agents.create(agent).await;
        // Whatever came of it: an error may have come after the deed.
        self.forget(user_id).await;
        created
    }

    async fn get(&self, agent_id: &AgentId) -> StoreResult<Option<Agent>> {
        self.agents.get(agent_id).await
    }

    async fn of_user(&self, user_id: UserId) -> StoreResult<Option<Agent>> {
        if let Some(kept) = self.kept(user_id).await {
            return Ok(Some(kept));
        }
        let agent = self.agents.of_user(user_id).await?;
        // Who is no agent is asked about seldom, and may become one.
        if let Some(agent) = &agent
            && let Ok(value) = rmp_serde::to_vec_named(agent)
        {
            let _ = self.cache.put(&CacheKey::Agent(user_id), Bytes::from(value)).await;
        }
        Ok(agent)
    }

    async fn list(&self, after: Option<&AgentId>, limit: usize) -> StoreResult<Vec<Agent>> {
        self.agents.list(after, limit).await
    }

    async fn revise(
        &self,
        agent_id: &AgentId,
        revision: u64,
        profile: AgentProfile,
        now: UnixMillis,
    ) -> StoreResult<Revised> {
        let agent = self.agents.get(agent_id).await?;
        let revised = self.agents.revise(agent_id, revision, profile, now).await;
        if let Some(agent) = agent {
            self.forget(agent.user_id).await;
        }
        revised
    }

    async fn remove(&self, agent_id: &AgentId) -> StoreResult<bool> {
        let agent = self.agents.get(agent_id).await?;
        let removed = self.agents.remove(agent_id).await;
        if let Some(agent) = agent {
            self.forget(agent.user_id).await;
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::conformance::agents as suite;
    use crate::embedded::{EmbeddedOptions, EmbeddedStore};
    use crate::local::LocalCache;
    use crate::ports::Store;

    /// A store whose agents are cached, and the agents behind the cache.
    fn open() -> (Store, Arc<dyn Agents>, (EmbeddedStore, TempDir)) {
        let folder = tempfile::tempdir().unwrap();
        let opened = EmbeddedStore::open(folder.path(), &EmbeddedOptions::default()).unwrap();
        let store = opened.store();
        let behind = Arc::clone(&store.agents);
        let agents = Arc::new(CachedAgents::new(Arc::clone(&behind), Arc::new(LocalCache::new())));
        (Store { agents, ..store }, behind, (opened, folder))
    }

    #[tokio::test]
    async fn it_does_what_every_registry_does() {
        let (store, _, _kept) = open();
        suite::an_agent_is_found_by_id_and_by_user_as_it_was_registered(&store).await;
        let (store, _, _kept) = open();
        suite::of_fifty_that_want_one_name_one_gets_it(&store).await;
        let (store, _, _kept) = open();
        suite::a_change_is_made_to_what_its_maker_has_seen_or_not_at_all(&store).await;
        let (store, _, _kept) = open();
        suite::agents_are_listed_in_the_order_of_their_ids_page_by_page(&store).await;
    }

    #[tokio::test]
    async fn who_was_asked_about_is_known_without_asking_until_something_changes() {
        let (store, behind, _kept) = open();
        suite::an_agent_is_found_by_id_and_by_user_as_it_was_registered(&store).await;
        let bruno = store.agents.list(None, 1).await.unwrap().remove(0);
        let (id, user_id) = (bruno.agent_id.clone(), bruno.user_id);
        // Beside the cache: it is still known.
        assert!(behind.remove(&id).await.unwrap());
        assert_eq!(store.agents.of_user(user_id).await.unwrap(), Some(bruno.clone()));
        assert!(behind.create(bruno.clone()).await.unwrap());
        let profile = AgentProfile::new("another name", "http://127.0.0.1:9/");
        store.agents.revise(&id, bruno.revision, profile.clone(), 2_000).await.unwrap();
        assert_eq!(store.agents.of_user(user_id).await.unwrap().unwrap().profile, profile);
        assert!(store.agents.remove(&id).await.unwrap());
        assert_eq!(store.agents.of_user(user_id).await.unwrap(), None);
    }
}
