//! Devices and their public keys. No private key ever comes here (E2EE).

use async_trait::async_trait;
use colloquy_protocol::ids::{DeviceId, UserId};

use super::StoreResult;
use crate::model::device::{ClaimedKey, Device, DeviceList, Publication, PublishedKey, Registration};

/// Devices and keys. Bounds are those of `colloquy_protocol::limits`.
#[async_trait]
pub trait KeyDirectory: Send + Sync + 'static {
    /// Registers a device with its first keys, or recognises it.
    async fn register(
        &self,
        user_id: UserId,
        device: Device,
        one_time_keys: Vec<PublishedKey>,
        fallback_key: PublishedKey,
    ) -> StoreResult<Registration>;

    /// Publishes more keys. A one-time key that is there already, or was and has been claimed, changes nothing:
    /// a retry never brings a claimed key back.
    async fn publish(
        &self,
        user_id: UserId,
        device_id: &DeviceId,
        one_time_keys: Vec<PublishedKey>,
        fallback_key: Option<PublishedKey>,
    ) -> StoreResult<Publication>;

    /// Removes a device and its keys; the device list's new version, or `None` if there was no such device. What it was
    /// known by moves to the list's former devices.
    async fn remove(&self, user_id: UserId, device_id: &DeviceId) -> StoreResult<Option<u64>>;

    /// A user's devices; an empty list of version 0 for a user without any.
    async fn devices(&self, user_id: UserId) -> StoreResult<DeviceList>;

    /// Takes one key from each device: a one-time key, which nobody is ever given again, or the fallback key.
    /// Devices that do not exist are left out.
    async fn claim(&self, user_id: UserId, device_ids: &[DeviceId]) -> StoreResult<Vec<ClaimedKey>>;

    /// Unclaimed one-time keys of a device.
    async fn one_time_keys(&self, user_id: UserId, device_id: &DeviceId) -> StoreResult<u64>;
}
