//! Dead letters: turns that are taken to their agent no more, because it does not take them; and messages that the feed's sink
//! is told of no more.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The name under which messages stand that the feed's sink did not take: where an agent's would stand otherwise.
pub const FEED: &str = "feed";

/// Why a turn was given up. What the feed's sink did not take is refused or failing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeadReason {
    /// The agent does not want it: a status of 4xx that says so, again and again.
    Refused,
    /// Whenever the agent is given it, it fails, while it answers others.
    Failing,
    /// The agent takes it and does not answer, while it answers others.
    Unanswered,
    /// The agent was not to be had for too long.
    Expired,
}

impl DeadReason {
    /// As it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Failing => "failing",
            Self::Unanswered => "unanswered",
            Self::Expired => "expired",
        }
    }
}
