//! Which agent a message goes to, asked before it is encrypted.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::agent::{AgentId, Capability, IntentLabel};
use crate::ids::{ConversationId, UserId};

/// `POST /v1/route`. Of what is given the first that fits an agent decides, in this order; with nothing, the default agent is
/// named.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AskRoute {
    /// This agent and no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// The agent that this conversation is with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<ConversationId>,
    /// What is wanted, as found out on the device: nothing of the message is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intent: Option<IntentLabel>,
    /// What the agent must be able to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capability: Option<Capability>,
    /// **In the clear**: what is wanted, for the server to find out; up to 1,000 characters. It is not stored and not logged.
    /// Only looked at without an `intent`. For who cannot find out on the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl std::fmt::Debug for AskRoute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AskRoute").field("intent", &self.intent).finish_non_exhaustive()
    }
}

/// What has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RouteLevel {
    /// The agent was named.
    Explicit,
    /// The conversation is with it.
    Context,
    /// It answers what is wanted.
    Intent,
    /// It can do what is needed.
    Capability,
    /// Nothing else has decided.
    Default,
}

impl RouteLevel {
    /// All of them, in the order in which they decide.
    pub const ALL: [Self; 5] = [Self::Explicit, Self::Context, Self::Intent, Self::Capability, Self::Default];

    /// Its name in frames and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Explicit => "explicit",
            Self::Context => "context",
            Self::Intent => "intent",
            Self::Capability => "capability",
            Self::Default => "default",
        }
    }
}

/// The agent that a message goes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Route {
    /// Which one.
    pub agent_id: AgentId,
    /// Whom to write to.
    pub user_id: UserId,
    /// What has decided.
    pub level: RouteLevel,
    /// Why, for a person to read.
    pub reason: String,
}
