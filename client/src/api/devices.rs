//! `/v1/devices`, and the devices and keys of other users.

use colloquy_protocol::ids::{DeviceId, UserId};
use colloquy_protocol::rest::devices::{
    ClaimKeys, ClaimedKeys, DeviceList, KeyCount, PublishKeys, RegisterDevice,
};
use reqwest::Method;

use super::{Api, ApiError};

impl Api {
    /// `PUT /v1/devices/{device_id}`.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `device_exists`, `device_mismatch`, `too_many_devices` or `bad_key_signature`.
    pub async fn register_device(
        &self,
        bearer: &str,
        device: &DeviceId,
        body: &RegisterDevice,
    ) -> Result<KeyCount, ApiError> {
        let url = self.url(&["v1", "devices", device.as_str()], &[]);
        self.call(Method::PUT, url, Some(bearer), Some(body)).await
    }

    /// `POST /v1/devices/{device_id}/keys`.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `too_many_keys`, `key_id_reused` or `unknown_device`.
    pub async fn publish_keys(
        &self,
        bearer: &str,
        device: &DeviceId,
        body: &PublishKeys,
    ) -> Result<KeyCount, ApiError> {
        let url = self.url(&["v1", "devices", device.as_str(), "keys"], &[]);
        self.call(Method::POST, url, Some(bearer), Some(body)).await
    }

    /// `DELETE /v1/devices/{device_id}`.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `unknown_device`; and what every call fails with.
    pub async fn remove_device(&self, bearer: &str, device: &DeviceId) -> Result<(), ApiError> {
        let url = self.url(&["v1", "devices", device.as_str()], &[]);
        self.call_without_answer(Method::DELETE, url, bearer).await
    }

    /// `GET /v1/users/{user_id}/devices`.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `unknown_user`; and what every call fails with.
    pub async fn devices(&self, bearer: &str, user: UserId) -> Result<DeviceList, ApiError> {
        let url = self.url(&["v1", "users", &user.to_string(), "devices"], &[]);
        self.call::<(), _>(Method::GET, url, Some(bearer), None).await
    }

    /// `POST /v1/users/{user_id}/keys/claim`.
    ///
    /// # Errors
    /// [`ApiError::Refused`] with `unknown_user` or `rate_limited`; and what every call fails with.
    pub async fn claim_keys(
        &self,
        bearer: &str,
        user: UserId,
        devices: Vec<DeviceId>,
    ) -> Result<ClaimedKeys, ApiError> {
        let url = self.url(&["v1", "users", &user.to_string(), "keys", "claim"], &[]);
        let body = ClaimKeys { device_ids: devices };
        self.call(Method::POST, url, Some(bearer), Some(&body)).await
    }
}
