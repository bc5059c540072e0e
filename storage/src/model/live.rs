//! What is only true now: the pods that run, and which devices are connected to which of them.

use std::sync::Arc;

use colloquy_protocol::UnixMillis;
use colloquy_protocol::frame::PresenceStatus;
use colloquy_protocol::ids::{DeviceId, UserId};
use serde::{Deserialize, Serialize};

/// The name of a running process of the cluster: a Kubernetes pod's name, or anything else unique.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PodId(Arc<str>);

/// Not a pod's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pod's name has 1 to {max} letters, digits, '-', '_' and '.'", max = PodId::MAX_LENGTH)]
pub struct InvalidPodId;

impl PodId {
    /// Longest name, bytes: that of a Kubernetes pod (RFC 1123 subdomain).
    pub const MAX_LENGTH: usize = 253;

    /// A name.
    ///
    /// # Errors
    /// [`InvalidPodId`] if it is empty, too long, or has other characters than letters, digits, `-`, `_` and `.`: it
    /// is part of Redis keys and channel names.
    pub fn new(name: &str) -> Result<Self, InvalidPodId> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > Self::MAX_LENGTH || !name.chars().all(is_plain) {
            return Err(InvalidPodId);
        }
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for PodId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for PodId {
    type Error = InvalidPodId;

    fn try_from(name: String) -> Result<Self, InvalidPodId> {
        Self::new(&name)
    }
}

impl From<PodId> for String {
    fn from(pod_id: PodId) -> Self {
        pod_id.0.to_string()
    }
}

/// A pod that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub pod_id: PodId,
    /// Drawn at its start: tells a restarted pod from the one before it.
    pub incarnation: u64,
    /// Where its bridge listens, `host:port`.
    pub address: String,
    /// Does it take conversations? Not while it drains.
    pub takes_ownership: bool,
}

/// A device with a socket on a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Connection {
    /// Whose device.
    pub user_id: UserId,
    /// Which device.
    pub device_id: DeviceId,
    /// On this pod. A device that moves has sockets on two pods for a moment.
    pub pod_id: PodId,
    /// Grows with every connection the device makes to this pod: an older connection's end does not take out a newer
    /// one.
    pub generation: u64,
}

/// Whether a user is here, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// Here or gone.
    pub status: PresenceStatus,
    /// When last here, in milliseconds since 1970.
    pub last_seen: UnixMillis,
}
