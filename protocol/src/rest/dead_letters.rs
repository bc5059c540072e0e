//! Dead letters, as whoever runs the installation sees them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::UnixMillis;
use crate::agent::AgentId;
use crate::dead_letter::DeadReason;
use crate::ids::{ConversationId, MessageId};

/// What of the list is asked for: the parameters of `GET /admin/dead-letters`. The feed's are no agent's: `feed` together with
/// `agent_id` is refused with `invalid_field`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskDeadLetters {
    /// Those of this agent; without it, of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// Those after this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<MessageId>,
    /// What the feed's sink did not take, in the place of what agents did not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub feed: bool,
}

/// Whose dead letter is meant: the parameters of `GET` and `DELETE /admin/dead-letters/{turn_id}`, and of
/// `POST /admin/dead-letters/{turn_id}/replay`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhoseDeadLetter {
    /// The one that the feed's sink did not take, in the place of the one that an agent did not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub feed: bool,
}

/// A turn that was given up, or a message that the feed's sink is told of no more. What it says is in its conversation, and nobody
/// but its two ends can read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetterEntry {
    /// The turn: the message's id.
    pub turn_id: MessageId,
    /// The agent that did not take it; of the feed's, [`FEED`](crate::dead_letter::FEED).
    pub agent_id: AgentId,
    /// Where it was asked.
    pub conversation_id: ConversationId,
    /// Its message's number there.
    pub sequence_number: u64,
    /// Why it was given up.
    pub reason: DeadReason,
    /// The status that it was refused with last, if it was.
    pub status: Option<u16>,
    /// How often it was tried in a row.
    pub tries: u32,
    /// When it was given up.
    pub died_at: UnixMillis,
    /// When the agent has taken it again. It is listed until there is an answer; what the feed's sink takes is listed no more.
    pub replayed_at: Option<UnixMillis>,
}

/// `GET /admin/dead-letters`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetterEntries {
    /// The oldest turns first; up to a hundred.
    pub dead_letters: Vec<DeadLetterEntry>,
    /// There are more, after this one.
    pub next: Option<MessageId>,
}

/// `POST /admin/dead-letters/{turn_id}/replay`: what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Replayed {
    /// The agent has taken it, and owes an answer; or the feed's sink has, and it is no dead letter any more.
    Taken,
    /// It has been answered since, and is no dead letter any more. Not of the feed's.
    Answered,
    /// The agent, or the feed's sink, does not want it.
    Refused {
        /// The status it says so with.
        status: u16,
    },
    /// The agent, or the feed's sink, could not be reached, or cannot take it now.
    Failed,
    /// The agent's sink is on a host that `agents.sink_hosts` does not name; or the feed is off.
    Forbidden,
    /// Its message is no longer kept, so there is nothing to be taken.
    Gone,
}
