//! Bruno: the agent that is there before any other. He needs no model: he says who else can be asked, and finds again what
//! was said.

use colloquy_client::{Client, ClientError};
use colloquy_protocol::rest::agents::AgentEntry;

use super::UpstreamError;
use crate::prompt::{Prompt, Role};

/// Most of what was said that is found again in one answer.
const FOUND_MAX: usize = 5;

/// The agent.
#[derive(Clone, Debug)]
pub struct Bruno {
    client: Client,
}

impl Bruno {
    /// He looks around as `client` may.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    pub(super) async fn ask(&self, prompt: &Prompt, text: &str) -> Result<String, UpstreamError> {
        let text = text.trim();
        let (verb, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        match verb.to_lowercase().trim_end_matches(['?', '!', '.']) {
            "agents" | "who" => Ok(introduce(&self.others().await?)),
            "find" if !rest.trim().is_empty() => Ok(find(prompt, rest.trim())),
            _ => Ok(HELP.to_owned()),
        }
    }

    async fn others(&self) -> Result<Vec<AgentEntry>, UpstreamError> {
        let own = self.client.user_id().ok().flatten();
        let all = self.client.agents().await.map_err(|error| match error {
            ClientError::Api(error) if error.is_retryable() => UpstreamError::Unavailable(error.to_string()),
            error => UpstreamError::Refused(error.to_string()),
        })?;
        Ok(all.into_iter().filter(|agent| Some(agent.user_id) != own).collect())
    }
}

const HELP: &str = "I am Bruno. Write:\n  agents         and I say who else can be asked, and what for\n  find WORDS     and \
                    I find again what you said to me\n  help           for this";

fn introduce(others: &[AgentEntry]) -> String {
    if others.is_empty() {
        return "There is nobody here but me.".to_owned();
    }
    let line = |agent: &AgentEntry| {
        let purpose = if agent.description.is_empty() { "no description" } else { agent.description.trim() };
        let can: Vec<&str> = agent.capabilities.iter().map(|capability| capability.as_str()).collect();
        let can = if can.is_empty() { String::new() } else { format!(" ({})", can.join(", ")) };
        format!("{}, {}: {purpose}{can}", agent.agent_id, agent.name)
    };
    others.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What the person said that holds all of the words.
fn find(prompt: &Prompt, words: &str) -> String {
    let words: Vec<String> = words.split_whitespace().map(str::to_lowercase).collect();
    let holds_all = |text: &str| {
        let text = text.to_lowercase();
        words.iter().all(|word| text.contains(word))
    };
    let own = prompt.history.iter().rev().filter(|said| said.role == Role::User);
    let found: Vec<String> = own
        .filter(|said| holds_all(&said.text))
        .take(FOUND_MAX)
        .map(|said| format!("- {}", said.text))
        .collect();
    match found.len() {
        0 => "I find nothing like that in what you said lately.".to_owned(),
        _ => found.join("\n"),
    }
}
