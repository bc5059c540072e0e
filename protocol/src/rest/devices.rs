//! Devices and the public keys they publish.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::UnixMillis;
use crate::ids::{DeviceId, UserId};

/// A Curve25519 key, signed by the device's Ed25519 key over [`crate::signing::key_message`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedKey {
    /// The device's own name for the key, 1 to 64 bytes; never used for another key.
    pub key_id: String,
    /// Unpadded base64.
    pub key: String,
    /// Unpadded base64.
    pub signature: String,
}

/// `PUT /v1/devices/{device_id}`: registers a device, or changes nothing if it is registered with the same keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterDevice {
    /// `ios`, `android`, `web`, `terminal`, `agent`; at most 32 bytes.
    pub platform: String,
    /// The Curve25519 identity key, unpadded base64.
    pub identity_key: String,
    /// The Ed25519 signing key, unpadded base64.
    pub signing_key: String,
    /// The signing key's signature over the identity key ([`crate::signing::KeyPurpose::Identity`]).
    pub identity_signature: String,
    /// Keys that open one session each; at most [`crate::limits::ONE_TIME_KEYS_MAX`].
    #[serde(default)]
    pub one_time_keys: Vec<SignedKey>,
    /// Used while no one-time key is left.
    pub fallback_key: SignedKey,
}

/// `POST /v1/devices/{device_id}/keys`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishKeys {
    /// More one-time keys. Publishing a key again changes nothing.
    #[serde(default)]
    pub one_time_keys: Vec<SignedKey>,
    /// Replaces the fallback key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_key: Option<SignedKey>,
}

/// How many one-time keys are left unclaimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyCount {
    /// Publish more below [`crate::limits::ONE_TIME_KEYS_LOW`].
    pub one_time_key_count: u64,
}

/// One device as other users see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    /// The device.
    pub device_id: DeviceId,
    /// As its owner gave it.
    pub platform: String,
    /// Curve25519.
    pub identity_key: String,
    /// Ed25519.
    pub signing_key: String,
    /// The signing key's signature over the identity key.
    pub identity_signature: String,
    /// When it was registered.
    pub registered_at: UnixMillis,
}

/// `GET /v1/users/{user_id}/devices`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceList {
    /// The user.
    pub user_id: UserId,
    /// Grows by one whenever a device comes or goes.
    pub version: u64,
    /// In the order of their ids.
    pub devices: Vec<Device>,
    /// Removed ones, the last removed last, at most [`crate::limits::FORMER_DEVICES_PER_USER_MAX`]. What they wrote can
    /// be read with their keys; nothing is written to them any more.
    #[serde(default)]
    pub former: Vec<Device>,
}

/// `POST /v1/users/{user_id}/keys/claim`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimKeys {
    /// The devices to open a session with; at most [`crate::limits::DEVICES_PER_USER_MAX`].
    pub device_ids: Vec<DeviceId>,
}

/// A key claimed from one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClaimedKey {
    /// The device.
    pub device_id: DeviceId,
    /// A one-time key, which nobody else is ever given, or the fallback key.
    pub key: SignedKey,
    /// Is it the fallback key?
    pub fallback: bool,
}

/// Answer to [`ClaimKeys`]. Devices that do not exist (any more) are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClaimedKeys {
    /// One for each device that exists.
    pub keys: Vec<ClaimedKey>,
}
