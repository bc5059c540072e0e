//! `/v1/conversations`.

use colloquy_protocol::ids::{ConversationId, DeviceId, UserId};
use colloquy_protocol::rest::conversations::{Conversation, Conversations, OpenConversation};
use reqwest::Method;

use super::{Api, ApiError};

impl Api {
    /// `POST /v1/conversations`.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `unknown_user` or `invalid_participant`; and what every call fails with.
    pub async fn open_conversation(&self, bearer: &str, with: UserId) -> Result<Conversation, ApiError> {
        let body = OpenConversation { participant_id: with };
        self.call(Method::POST, self.url(&["v1", "conversations"], &[]), Some(bearer), Some(&body)).await
    }

    /// `GET /v1/conversations`: one page, newest first.
    ///
    /// # Errors
    /// What every call fails with.
    pub async fn conversations(
        &self,
        bearer: &str,
        device: &DeviceId,
        cursor: Option<&str>,
    ) -> Result<Conversations, ApiError> {
        let mut query = vec![("device_id", device.as_str())];
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let url = self.url(&["v1", "conversations"], &query);
        self.call::<(), _>(Method::GET, url, Some(bearer), None).await
    }

    /// `GET /v1/conversations/{id}`.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `unknown_conversation`; and what every call fails with.
    pub async fn conversation(&self, bearer: &str, id: ConversationId) -> Result<Conversation, ApiError> {
        let url = self.url(&["v1", "conversations", &id.to_string()], &[]);
        self.call::<(), _>(Method::GET, url, Some(bearer), None).await
    }
}
