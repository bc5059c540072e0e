//! Agents. That a name is one agent's is the document's id; each change is of one document, under the condition that it is
//! still as its maker has seen it.

use std::sync::Arc;

use async_trait::async_trait;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::agent::{AgentId, AgentProfile};
use colloquy_protocol::ids::UserId;
use colloquy_storage::model::agent::{Agent, Revised};
use colloquy_storage::ports::{Agents, StoreError, StoreResult};
use mongodb::bson::{Document, RawDocument, deserialize_from_slice, doc, serialize_to_document};
use mongodb::options::ReturnDocument;

use super::engine::Engine;
use super::error::{is_duplicate, unavailable};
use super::index::{Index, index};
use super::row::{Fields, date, malformed, number, uuid};

const AGENTS: &str = "agents";

pub(in crate::mongo) fn indexes() -> Vec<Index> {
    vec![
        index(AGENTS, "user_unique", doc! { "user_id": 1 }).unique().build(),
        index(AGENTS, "capability", doc! { "profile.capabilities": 1 }).build(),
    ]
}

pub(in crate::mongo) struct MongoAgents(pub(in crate::mongo) Arc<Engine>);

#[async_trait]
impl Agents for MongoAgents {
    async fn create(&self, agent: Agent) -> StoreResult<bool> {
        let (agents, row) = (self.0.db.collection::<Document>(AGENTS), write(&agent)?);
        match self.0.run(|| agents.insert_one(&row)).await {
            Ok(_) => Ok(true),
            // A retry, or another's name.
            Err(error) if is_duplicate(&error) => {
                Ok(self.get(&agent.agent_id).await?.is_some_and(|there| there.user_id == agent.user_id))
            }
            Err(error) => Err(unavailable(&error)),
        }
    }

    async fn get(&self, agent_id: &AgentId) -> StoreResult<Option<Agent>> {
        self.find(doc! { "_id": agent_id.as_str() }).await
    }

    async fn of_user(&self, user_id: UserId) -> StoreResult<Option<Agent>> {
        self.find(doc! { "user_id": uuid(user_id.0) }).await
    }

    async fn list(&self, after: Option<&AgentId>, limit: usize) -> StoreResult<Vec<Agent>> {
        let agents = self.0.collection(AGENTS);
        let filter = after.map_or_else(Document::new, |after| doc! { "_id": { "$gt": after.as_str() } });
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let find = || agents.find(filter.clone()).sort(doc! { "_id": 1 }).limit(limit);
        self.0.all(find).await?.iter().map(|row| read(row)).collect()
    }

    async fn revise(
        &self,
        agent_id: &AgentId,
        revision: u64,
        profile: AgentProfile,
        now: UnixMillis,
    ) -> StoreResult<Revised> {
        let agents = self.0.collection(AGENTS);
        let as_seen = doc! { "_id": agent_id.as_str(), "revision": number(revision) };
        let profile = serialize_to_document(&profile).map_err(StoreError::corrupt)?;
        let change = doc! {
            "$set": { "profile": profile, "changed_at": date(now), "revision": number(revision + 1) },
        };
        let revise = || {
            let revise = agents.find_one_and_update(as_seen.clone(), change.clone());
            revise.return_document(ReturnDocument::After)
        };
        if let Some(row) = self.0.ask(revise).await? {
            return Ok(Revised::Changed(read(&row)?));
        }
        Ok(self.get(agent_id).await?.map_or(Revised::Unknown, Revised::Stale))
    }

    async fn remove(&self, agent_id: &AgentId) -> StoreResult<bool> {
        // Looked for first: a deletion that is repeated because its answer was lost finds nothing.
        let is_there = self.get(agent_id).await?.is_some();
        let agents = self.0.collection(AGENTS);
        self.0.ask(|| agents.delete_one(doc! { "_id": agent_id.as_str() })).await?;
        Ok(is_there)
    }
}

impl MongoAgents {
    async fn find(&self, filter: Document) -> StoreResult<Option<Agent>> {
        let agents = self.0.collection(AGENTS);
        let row = self.0.ask(|| agents.find_one(filter.clone())).await?;
        row.map(|row| read(&row)).transpose()
    }
}

fn write(agent: &Agent) -> StoreResult<Document> {
    Ok(doc! {
        "_id": agent.agent_id.as_str(),
        "user_id": uuid(agent.user_id.0),
        "revision": number(agent.revision),
        "profile": serialize_to_document(&agent.profile).map_err(StoreError::corrupt)?,
        "created_at": date(agent.created_at),
        "changed_at": date(agent.changed_at),
    })
}

fn read(row: &RawDocument) -> StoreResult<Agent> {
    let profile = row.value("profile")?.and_then(|value| value.as_document());
    let profile = profile.ok_or_else(|| malformed("profile"))?;
    Ok(Agent {
        agent_id: AgentId::new(row.text("_id")?).map_err(|_| malformed("_id"))?,
        user_id: UserId(row.uuid("user_id")?),
        revision: row.number("revision")?,
        profile: deserialize_from_slice(profile.as_bytes()).map_err(|_| malformed("profile"))?,
        created_at: row.date("created_at")?,
        changed_at: row.date("changed_at")?,
    })
}
