//! A user's devices and the keys they publish.

use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{DeviceId, UserId};
use colloquy_protocol::limits::FORMER_DEVICES_PER_USER_MAX;
use serde::{Deserialize, Serialize};

/// A registered device with its long-term public keys, all unpadded base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The device among its owner's.
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

/// All devices of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceList {
    /// The user.
    pub user_id: UserId,
    /// Grows by one whenever a device comes or goes; 0 before the first.
    pub version: u64,
    /// In the order of their ids.
    pub devices: Vec<Device>,
    /// Removed ones, the last removed last, at most [`FORMER_DEVICES_PER_USER_MAX`].
    pub former: Vec<Device>,
}

impl DeviceList {
    /// The list of `devices` in any order, and of those that were `removed`, the last removed last. An id names one device:
    /// the one that is there, or the last that was removed.
    #[must_use]
    pub fn new(user_id: UserId, version: u64, mut devices: Vec<Device>, removed: Vec<Device>) -> Self {
        devices.sort_by(|a, b| a.device_id.cmp(&b.device_id));
        let mut former: Vec<Device> = Vec::new();
        for device in removed.into_iter().rev() {
            let is_named = |known: &Device| known.device_id == device.device_id;
            if former.len() < FORMER_DEVICES_PER_USER_MAX && !devices.iter().chain(&former).any(is_named) {
                former.push(device);
            }
        }
        former.reverse();
        Self { user_id, version, devices, former }
    }
}

/// A published key, signed by its device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedKey {
    /// The device's own name for the key.
    pub key_id: String,
    /// Curve25519.
    pub key: String,
    /// Ed25519, by the device's signing key.
    pub signature: String,
}

/// A key taken from a device to open a session with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedKey {
    /// The device.
    pub device_id: DeviceId,
    /// The key.
    pub key: PublishedKey,
    /// The device had no one-time key left.
    pub fallback: bool,
}

/// What came of registering a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registration {
    /// It is new; the device list has this version now.
    Registered {
        /// The list's new version.
        version: u64,
    },
    /// It was registered with the same identity and signing key: a retry. The keys were published all the same.
    Unchanged,
    /// It is registered with other keys, or a device with this identity key was removed.
    Conflict,
    /// The user has as many devices as one may have.
    TooManyDevices,
    /// A key id was published before with another key.
    KeyIdReused,
}

/// What came of publishing keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publication {
    /// Published; this many one-time keys are unclaimed now.
    Published {
        /// Unclaimed one-time keys.
        one_time_keys: u64,
    },
    /// No such device.
    UnknownDevice,
    /// There would be more unclaimed keys than allowed; nothing was published.
    TooManyKeys,
    /// A key id was published before with another key; nothing was published.
    KeyIdReused,
}
