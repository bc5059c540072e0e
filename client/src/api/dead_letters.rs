//! `/admin/dead-letters`, for whoever runs the installation.

use colloquy_protocol::ids::MessageId;
use colloquy_protocol::rest::dead_letters::{AskDeadLetters, DeadLetterEntries, DeadLetterEntry, Replayed};
use reqwest::Method;

use super::{Api, ApiError};

/// Asks for what the feed's sink did not take.
const FEED: (&str, &str) = ("feed", "true");

impl Api {
    /// `GET /admin/dead-letters`: those of one agent, of all, or of the feed, a page at a time.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `invalid_field` if those of the feed and of an agent are asked for; and what every call fails with.
    pub async fn dead_letters(
        &self,
        bearer: &str,
        asked: &AskDeadLetters,
    ) -> Result<DeadLetterEntries, ApiError> {
        let after = asked.after.map(|after| after.to_string());
        let agent = asked.agent_id.as_ref().map(|agent_id| ("agent_id", agent_id.as_str()));
        let after = after.as_deref().map(|after| ("after", after));
        let feed = asked.feed.then_some(FEED);
        let query: Vec<_> = agent.into_iter().chain(after).chain(feed).collect();
        let url = self.url(&["admin", "dead-letters"], &query);
        self.call::<(), _>(Method::GET, url, Some(bearer), None).await
    }

    /// `GET /admin/dead-letters/{turn_id}`: an agent's, or the feed's.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `unknown_dead_letter`; and what every call fails with.
    pub async fn dead_letter(
        &self,
        bearer: &str,
        turn_id: MessageId,
        feed: bool,
    ) -> Result<DeadLetterEntry, ApiError> {
        let url = self.url(&["admin", "dead-letters", &turn_id.to_string()], whose(feed));
        self.call::<(), _>(Method::GET, url, Some(bearer), None).await
    }

    /// `POST /admin/dead-letters/{turn_id}/replay`: of an agent's, or of the feed's.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `unknown_dead_letter` or `unknown_agent`; and what every call fails with.
    pub async fn replay_dead_letter(
        &self,
        bearer: &str,
        turn_id: MessageId,
        feed: bool,
    ) -> Result<Replayed, ApiError> {
        let url = self.url(&["admin", "dead-letters", &turn_id.to_string(), "replay"], whose(feed));
        self.call::<(), _>(Method::POST, url, Some(bearer), None).await
    }

    /// `DELETE /admin/dead-letters/{turn_id}`: an agent's, or the feed's.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `unknown_dead_letter`; and what every call fails with.
    pub async fn drop_dead_letter(
        &self,
        bearer: &str,
        turn_id: MessageId,
        feed: bool,
    ) -> Result<(), ApiError> {
        let url = self.url(&["admin", "dead-letters", &turn_id.to_string()], whose(feed));
        self.call_without_answer(Method::DELETE, url, bearer).await
    }
}

/// The parameters that say whose dead letter is meant.
fn whose(feed: bool) -> &'static [(&'static str, &'static str)] {
    if feed { &[FEED] } else { &[] }
}
