//! `/admin/dead-letters`, for whoever runs the installation.

use colloquy_protocol::agent::AgentId;
use colloquy_protocol::ids::MessageId;
use colloquy_protocol::rest::dead_letters::{DeadLetterEntries, DeadLetterEntry, Replayed};
use reqwest::Method;

use super::{Api, ApiError};

impl Api {
    /// `GET /admin/dead-letters`: those of one agent or of all, a page at a time.
    ///
    /// # Errors
    /// What every call fails with.
    pub async fn dead_letters(
        &self,
        bearer: &str,
        agent_id: Option<&AgentId>,
        after: Option<MessageId>,
    ) -> Result<DeadLetterEntries, ApiError> {
        let after = after.map(|after| after.to_string());
        let agent = agent_id.map(|agent_id| ("agent_id", agent_id.as_str()));
        let after = after.as_deref().map(|after| ("after", after));
        let query: Vec<_> = agent.into_iter().chain(after).collect();
        let url = self.url(&["admin", "dead-letters"], &query);
        self.call::<(), _>(Method::GET, url, Some(bearer), None).await
    }

    /// `GET /admin/dead-letters/{turn_id}`.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `unknown_dead_letter`; and what every call fails with.
    pub async fn dead_letter(&self, bearer: &str, turn_id: MessageId) -> Result<DeadLetterEntry, ApiError> {
        let url = self.url(&["admin", "dead-letters", &turn_id.to_string()], &[]);
        self.call::<(), _>(Method::GET, url, Some(bearer), None).await
    }

    /// `POST /admin/dead-letters/{turn_id}/replay`.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `unknown_dead_letter` or `unknown_agent`; and what every call fails with.
    pub async fn replay_dead_letter(&self, bearer: &str, turn_id: MessageId) -> Result<Replayed, ApiError> {
        let url = self.url(&["admin", "dead-letters", &turn_id.to_string(), "replay"], &[]);
        self.call::<(), _>(Method::POST, url, Some(bearer), None).await
    }

    /// `DELETE /admin/dead-letters/{turn_id}`.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `unknown_dead_letter`; and what every call fails with.
    pub async fn drop_dead_letter(&self, bearer: &str, turn_id: MessageId) -> Result<(), ApiError> {
        let url = self.url(&["admin", "dead-letters", &turn_id.to_string()], &[]);
        self.call_without_answer(Method::DELETE, url, bearer).await
    }
}
