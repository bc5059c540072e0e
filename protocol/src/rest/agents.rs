//! Agents: what people and programs may see of them, and how they are registered.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::UnixMillis;
use crate::agent::{AgentId, AgentProfile, Capability, Intent, WhenBusy};
use crate::ids::UserId;

/// The version of the Agent2Agent protocol whose agent cards these are.
pub const A2A_VERSION: &str = "1.0";
/// How an agent is spoken to, as its card says: by messages of this installation, end to end encrypted.
pub const PROTOCOL_BINDING: &str = "https://colloquy.example/bindings/conversation/v1";

/// What a user may see of an agent: enough to choose one and to write to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentEntry {
    /// Which one.
    pub agent_id: AgentId,
    /// Whom to write to.
    pub user_id: UserId,
    /// As shown to people.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its own version.
    pub version: String,
    /// What it can do.
    pub capabilities: Vec<Capability>,
    /// What people want of it, with examples: a client finds out from them on the device whom a message is for.
    pub intents: Vec<Intent>,
    /// What becomes of a message that comes while the one before it is being answered.
    pub when_busy: WhenBusy,
}

/// `GET /v1/agents`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentEntries {
    /// In the order of their ids.
    pub agents: Vec<AgentEntry>,
}

/// `POST /admin/agents`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddAgent {
    /// What it is to be called.
    pub agent_id: AgentId,
    /// What it says of itself.
    pub profile: AgentProfile,
}

/// `PUT /admin/agents/{agent_id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReviseAgent {
    /// The revision that is changed. If it is not the newest any more, nothing is.
    pub revision: u64,
    /// What it says of itself from now on: all of it.
    pub profile: AgentProfile,
}

/// An agent as whoever administers it sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegisteredAgent {
    /// Which one.
    pub agent_id: AgentId,
    /// Who it is in conversations.
    pub user_id: UserId,
    /// Starts at 1 and grows by one with every change.
    pub revision: u64,
    /// What it says of itself.
    pub profile: AgentProfile,
    /// When it was registered.
    pub created_at: UnixMillis,
    /// When it was changed last.
    pub changed_at: UnixMillis,
}

/// `GET /admin/agents`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegisteredAgents {
    /// In the order of their ids.
    pub agents: Vec<RegisteredAgent>,
}

/// An agent just registered, and its key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddedAgent {
    /// The agent.
    pub agent: RegisteredAgent,
    /// What it logs in with. It is not shown again.
    pub key: String,
}

/// `POST /admin/agents/{agent_id}/key`: another key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentKeyRenewed {
    /// What it logs in with from now on. It is not shown again.
    pub key: String,
}

impl fmt::Debug for AddedAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddedAgent").field("agent", &self.agent).finish_non_exhaustive()
    }
}

impl fmt::Debug for AgentKeyRenewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AgentKeyRenewed(..)")
    }
}

/// An agent's card, as the Agent2Agent protocol has it (A2A 1.0, section 4.4.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentCard {
    /// As shown to people.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its own version.
    pub version: String,
    /// Where and how it is spoken to.
    pub supported_interfaces: Vec<AgentInterface>,
    /// What of the protocol it can do.
    pub capabilities: AgentCapabilities,
    /// Media types it reads.
    pub default_input_modes: Vec<String>,
    /// Media types it answers with.
    pub default_output_modes: Vec<String>,
    /// What it can do for people.
    pub skills: Vec<AgentSkill>,
}

/// Where and how an agent is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentInterface {
    /// What about the agent is known there: whom to write to.
    pub url: String,
    /// How: always [`PROTOCOL_BINDING`].
    pub protocol_binding: String,
    /// Always [`A2A_VERSION`].
    pub protocol_version: String,
}

/// What of the protocol an agent can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentCapabilities {
    /// Its answers come word by word.
    pub streaming: bool,
    /// It does not call back: answers come over the conversation.
    pub push_notifications: bool,
}

/// Something an agent can do for people: one of its intents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentSkill {
    /// The intent's label.
    pub id: String,
    /// The same, for people.
    pub name: String,
    /// What it is.
    pub description: String,
    /// The agent's capabilities.
    pub tags: Vec<String>,
    /// How people ask for it.
    pub examples: Vec<String>,
}
