//! What an agent says of itself: what it is, what it can do, where it takes its messages, and how much of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::InvalidId;
use crate::limits::LABEL_MAX_BYTES;

/// The agent that messages go to when nothing else decides.
pub const DEFAULT_AGENT: &str = "agent-bruno";

macro_rules! label {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
        #[serde(transparent)]
        pub struct $name(Box<str>);

        impl $name {
            /// # Errors
            /// [`InvalidId::NotLabel`] unless `text` is 1 to [`LABEL_MAX_BYTES`] bytes of `a-z 0-9 -`, the first a letter,
            /// the last no hyphen.
            pub fn new(text: &str) -> Result<Self, InvalidId> {
                if is_label(text) { Ok(Self(text.into())) } else { Err(InvalidId::NotLabel) }
            }

            /// As it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

label!(
    /// An agent, named by whoever runs it (`agent-bruno`); unique in an installation.
    AgentId
);
label!(
    /// Something an agent can do (`triage`). Two agents that can do the same call it by the same name.
    Capability
);
label!(
    /// What somebody wants of an agent (`book-appointment`).
    IntentLabel
);

fn is_label(text: &str) -> bool {
    (1..=LABEL_MAX_BYTES).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && !text.ends_with('-')
}

/// What an agent says of itself. Bounds are in [`crate::limits`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentProfile {
    /// As shown to people; 1 to 100 characters after trimming.
    pub name: String,
    /// What it is for, in a few sentences; up to 2,000 characters.
    #[serde(default)]
    pub description: String,
    /// Its own version (`1.4.0`), as whoever runs it counts; 1 to 64 visible ASCII characters.
    #[serde(default = "first_version")]
    pub version: String,
    /// Who runs it and is to be asked: free text of up to 100 characters.
    #[serde(default)]
    pub owner: String,
    /// What it can do; up to 32.
    #[serde(default)]
    pub capabilities: Vec<Capability>,
    /// What people want of it, with examples; up to 64.
    #[serde(default)]
    pub intents: Vec<Intent>,
    /// Where its messages are posted as CloudEvents: an http or https URL. Only hosts that the installation allows.
    pub sink: String,
    /// How they are put into requests.
    #[serde(default)]
    pub sink_mode: SinkMode,
    /// What becomes of a message that comes while the one before it is being answered.
    #[serde(default)]
    pub when_busy: WhenBusy,
    /// How much of it there may be.
    #[serde(default)]
    pub limits: AgentLimits,
}

impl AgentProfile {
    /// An agent of this name whose messages are posted there, and nothing else.
    #[must_use]
    pub fn new(name: impl Into<String>, sink: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            description: String::new(),
            version: first_version(),
            owner: String::new(),
            capabilities: Vec::new(),
            intents: Vec::new(),
            sink: sink.into(),
            sink_mode: SinkMode::default(),
            when_busy: WhenBusy::default(),
            limits: AgentLimits::default(),
        }
    }
}

fn first_version() -> String {
    "1.0.0".to_owned()
}

/// Something people want, and how they say it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// What it is called.
    pub label: IntentLabel,
    /// How people say it: 1 to 32 utterances of up to 200 characters.
    pub examples: Vec<String>,
}

/// How a CloudEvent is put into an HTTP request (CloudEvents HTTP protocol binding 1.0.2, section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SinkMode {
    /// Attributes in headers, data in the body.
    #[default]
    Binary,
    /// All in the body, as JSON.
    Structured,
}

/// What becomes of a message that comes while the one before it is being answered, in the same conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenBusy {
    /// It waits for its turn.
    #[default]
    Queue,
    /// The one before it is cancelled.
    Interrupt,
    /// It is answered by nobody: its sender is told that the agent is busy.
    Reject,
}

/// How much an agent takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AgentLimits {
    /// Turns under way at the same time, over all conversations; 1 to 1,024.
    pub turns_at_once: u32,
    /// From a turn's first event until it is given up, milliseconds; 1,000 to 3,600,000.
    pub turn_timeout_ms: u64,
}

impl Default for AgentLimits {
    fn default() -> Self {
        Self { turns_at_once: 16, turn_timeout_ms: 120_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_short_plain_and_starts_with_a_letter() {
        for good in ["a", "agent-bruno", "agent-2", &"x".repeat(LABEL_MAX_BYTES)] {
            assert_eq!(AgentId::new(good).map(|id| id.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "-a", "a-", "2a", "Agent", "a b", "a_b", "ä", &"x".repeat(LABEL_MAX_BYTES + 1)] {
            assert_eq!(AgentId::new(bad), Err(InvalidId::NotLabel), "{bad}");
        }
        assert!(AgentId::new(DEFAULT_AGENT).is_ok());
    }

    #[test]
    fn an_agent_needs_a_name_and_a_sink_and_nothing_else() {
        let profile: AgentProfile =
            serde_json::from_str(r#"{"name": "Bruno", "sink": "http://127.0.0.1:9000/"}"#).unwrap();
        assert_eq!(profile, AgentProfile::new("Bruno", "http://127.0.0.1:9000/"));
        assert!(serde_json::from_str::<AgentProfile>(r#"{"name": "Bruno", "sink": "", "x": 1}"#).is_err());
    }
}
