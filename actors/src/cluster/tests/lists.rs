//! Device lists that can be made unreadable, and whose readings are counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use colloquy_protocol::ids::{DeviceId, UserId};
use colloquy_storage::model::device::{
    ClaimedKey, Device, DeviceList, Publication, PublishedKey, Registration,
};
use colloquy_storage::ports::{KeyDirectory, StoreError, StoreResult};

/// A key directory in front of another.
pub(in crate::cluster) struct Lists {
    keys: Arc<dyn KeyDirectory>,
    is_away: AtomicBool,
    read: AtomicUsize,
}

impl Lists {
    pub(in crate::cluster) fn of(keys: Arc<dyn KeyDirectory>) -> Self {
        Self { keys, is_away: AtomicBool::new(false), read: AtomicUsize::new(0) }
    }

    /// From now on no list can be read, or again.
    pub(in crate::cluster) fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::Relaxed);
    }

    /// How many lists have been read.
    pub(in crate::cluster) fn read(&self) -> usize {
        self.read.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl KeyDirectory for Lists {
    async fn register(
        &self,
        user_id: UserId,
        device: Device,
        one_time_keys: Vec<PublishedKey>,
        fallback_key: PublishedKey,
    ) -> StoreResult<Registration> {
        self.keys.register(user_id, device, one_time_keys, fallback_key).await
    }

    async fn publish(
        &self,
        user_id: UserId,
        device_id: &DeviceId,
        one_time_keys: Vec<PublishedKey>,
        fallback_key: Option<PublishedKey>,
    ) -> StoreResult<Publication> {
        self.keys.publish(user_id, device_id, one_time_keys, fallback_key).await
    }

    async fn remove(&self, user_id: UserId, device_id: &DeviceId) -> StoreResult<Option<u64>> {
        self.keys.remove(user_id, device_id).await
    }

    async fn devices(&self, user_id: UserId) -> StoreResult<DeviceList> {
        if self.is_away.load(Ordering::Relaxed) {
            return Err(StoreError::unavailable("made to fail"));
        }
        self.read.fetch_add(1, Ordering::Relaxed);
        self.keys.devices(user_id).await
    }

    async fn claim(&self, user_id: UserId, device_ids: &[DeviceId]) -> StoreResult<Vec<ClaimedKey>> {
        self.keys.claim(user_id, device_ids).await
    }

    async fn one_time_keys(&self, user_id: UserId, device_id: &DeviceId) -> StoreResult<u64> {
        self.keys.one_time_keys(user_id, device_id).await
    }
}
