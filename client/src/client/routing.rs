//! Which agent a text goes to: what it wants is found out on this device, and only that is told.

use std::sync::PoisonError;

use colloquy_protocol::agent::{AgentId, Capability, IntentLabel};
use colloquy_protocol::ids::ConversationId;
use colloquy_protocol::limits::ROUTING_TEXT_MAX_CHARS;
use colloquy_protocol::rest::routes::{AskRoute, Route};
use colloquy_routing::Classifier;

use super::{Client, ClientError};
use crate::api::Api;

/// How long what agents answer is kept on this device, ms.
const AGENTS_TTL_MS: u64 = 5 * 60 * 1000;

/// What else decides, before what the text wants or after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteHints {
    /// This agent and no other.
    pub agent: Option<AgentId>,
    /// The conversation that the text belongs to.
    pub conversation: Option<ConversationId>,
    /// What the agent must be able to do, if nobody answers what is wanted.
    pub capability: Option<Capability>,
    /// The server may read the text, **in the clear**, to find out what it wants; for when this device does not.
    pub in_the_clear: bool,
}

/// What agents answer, as it was fetched last.
#[derive(Debug)]
pub(crate) struct KnownIntents {
    fetched_at: u64,
    classifier: Classifier,
}

impl Client {
    /// The agent that a text goes to, and why. What the text wants is found out here, from the examples that agents have
    /// registered: the server is told a label, and nothing of the text.
    ///
    /// # Errors
    /// [`crate::ApiError`] if the server refuses, with `unknown_agent` where there is no agent for it, or cannot be reached;
    /// [`ClientError::LoggedOut`].
    pub async fn route(&self, text: &str, hints: RouteHints) -> Result<Route, ClientError> {
        let RouteHints { agent, conversation, capability, in_the_clear } = hints;
        let is_decided = agent.is_some();
        let mut asked =
            AskRoute { agent_id: agent, conversation_id: conversation, capability, ..AskRoute::default() };
        if is_decided {
            // Whatever is wanted, it goes there.
        } else if in_the_clear {
            asked.text = Some(text.chars().take(ROUTING_TEXT_MAX_CHARS).collect());
        } else {
            asked.intent = self.intent_of(text).await?;
        }
        let ask = |api: Api, token: String| {
            let asked = asked.clone();
            async move { api.route(&token, &asked).await }
        };
        Ok(self.call(ask).await?)
    }

    async fn intent_of(&self, text: &str) -> Result<Option<IntentLabel>, ClientError> {
        let now = self.shared().clock.now();
        {
            let known = self.inner.intents.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) =
                known.as_ref().filter(|known| now.saturating_sub(known.fetched_at) < AGENTS_TTL_MS)
            {
                return Ok(known.classifier.classify(text).map(|guess| guess.intent));
            }
        }
        let agents = self.agents().await?;
        let intents = agents.iter().flat_map(|agent| &agent.intents);
        let classifier = Classifier::of(intents.map(|intent| (&intent.label, intent.examples.as_slice())));
        let intent = classifier.classify(text).map(|guess| guess.intent);
        let known = KnownIntents { fetched_at: now, classifier };
        *self.inner.intents.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
        Ok(intent)
    }
}
