//! An agent: a user who is a program.

use colloquy_protocol::UnixMillis;
use colloquy_protocol::agent::{AgentId, AgentProfile};
use colloquy_protocol::ids::UserId;
use serde::{Deserialize, Serialize};

/// An agent as it is registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Which one.
    pub agent_id: AgentId,
    /// Who it is in conversations: its devices, keys, log-ins and messages are this user's.
    pub user_id: UserId,
    /// Starts at 1 and grows by one with every change.
    pub revision: u64,
    /// What it says of itself.
    pub profile: AgentProfile,
    /// When it was registered.
    pub created_at: UnixMillis,
    /// When its profile was changed last.
    pub changed_at: UnixMillis,
}

/// What came of changing an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revised {
    /// It is like this now.
    Changed(Agent),
    /// Somebody else has changed it since: it is like this, and nothing was changed.
    Stale(Agent),
    /// There is no such agent.
    Unknown,
}
