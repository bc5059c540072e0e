//! Devices and their public keys.
//!
//! A user's devices with their fallback keys are one document: how many there are, and the version, change together. Their
//! one-time keys are documents of their own, which belong to one registration of a device (`since`, the list's version
//! then): whatever a publication leaves behind that crosses a removal is nobody's.

use std::sync::Arc;

use async_trait::async_trait;
use colloquy_protocol::ids::{DeviceId, UserId};
use colloquy_protocol::limits::{DEVICES_PER_USER_MAX, FORMER_DEVICES_PER_USER_MAX, ONE_TIME_KEYS_MAX};
use colloquy_storage::model::device::{
    ClaimedKey, Device, DeviceList, Publication, PublishedKey, Registration,
};
use colloquy_storage::ports::{KeyDirectory, StoreError, StoreResult};
use futures_util::future::try_join_all;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};
use mongodb::options::ReturnDocument;
use serde::{Deserialize, Serialize};

use super::engine::Engine;
use super::error::{is_duplicate, unavailable};
use super::index::Index;
use super::one_time_keys::{Known, OneTimeKeys, is_other, new_keys, reuses_id};
use super::row::{Fields, malformed, number, uuid};

const DEVICE_LISTS: &str = "device_lists";
const REMOVED_IDENTITIES: &str = "removed_identities";
/// Those without an index of ours.
pub(in crate::mongo) const COLLECTIONS: [&str; 2] = [DEVICE_LISTS, REMOVED_IDENTITIES];

/// How often a registration starts over because another device of the user was faster.
const REGISTRATIONS_MAX: usize = 2 * DEVICES_PER_USER_MAX;

pub(in crate::mongo) fn indexes() -> Vec<Index> {
    super::one_time_keys::indexes()
}

pub(in crate::mongo) struct MongoKeyDirectory(pub(in crate::mongo) Arc<Engine>);

/// A user's devices.
#[derive(Default, Serialize, Deserialize)]
struct List {
    version: u64,
    devices: Vec<Listed>,
    /// Those removed, the last removed last. A list that was written before there were any has none.
    #[serde(default)]
    former: Vec<Device>,
}

/// A device in the list.
#[derive(Clone, Serialize, Deserialize)]
struct Listed {
    /// The list's version since which it has been there.
    since: u64,
    device: Device,
    fallback_key: PublishedKey,
}

impl List {
    fn find(&self, device_id: &DeviceId) -> Option<&Listed> {
        self.devices.iter().find(|listed| listed.device.device_id == *device_id)
    }
}

impl Listed {
    /// What finds it in a list, and no other registration of the same device.
    fn query(&self) -> Document {
        doc! { "device.device_id": self.device.device_id.as_str(), "since": number(self.since) }
    }
}

/// What happens to one-time keys beyond [`ONE_TIME_KEYS_MAX`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Excess {
    /// Nothing is published.
    Refuse,
    /// Those that fit are published: a registration cannot fail for having too many.
    LeaveOut,
}

/// What is published at once.
struct Keys {
    one_time_keys: Vec<PublishedKey>,
    fallback_key: Option<PublishedKey>,
    excess: Excess,
}

#[async_trait]
impl KeyDirectory for MongoKeyDirectory {
    async fn register(
        &self,
        user_id: UserId,
        device: Device,
        one_time_keys: Vec<PublishedKey>,
        fallback_key: PublishedKey,
    ) -> StoreResult<Registration> {
        let Some(mut new) = new_keys(&fallback_key, one_time_keys.clone(), &Known::new()) else {
            return self.refuse_keys(user_id, &device).await;
        };
        new.truncate(ONE_TIME_KEYS_MAX);
        for _ in 0..REGISTRATIONS_MAX {
            let list = self.list(user_id).await?;
            if let Some(listed) = list.find(&device.device_id) {
                if !is_same(&listed.device, &device) {
                    return Ok(Registration::Conflict);
                }
                let fallback_key = Some(fallback_key);
                let keys = Keys { one_time_keys, fallback_key, excess: Excess::LeaveOut };
                return Ok(match self.publish_to(user_id, listed, keys).await? {
                    Publication::KeyIdReused => Registration::KeyIdReused,
                    _ => Registration::Unchanged,
                });
            }
            // After the list was read: a removal notes the identity first. Its claimed keys are forgotten, so under the
            // same identity they could be handed out again.
            if self.is_removed(user_id, &device.identity_key).await? {
                return Ok(Registration::Conflict);
            }
            if list.devices.len() >= DEVICES_PER_USER_MAX {
                return Ok(Registration::TooManyDevices);
            }
            let since = list.version + 1;
            let listed = Listed { since, device: device.clone(), fallback_key: fallback_key.clone() };
            if self.enlist(user_id, &listed).await? {
                // A crash in between leaves a device without them, until it registers again or publishes more.
                self.keys_of(user_id, &listed).add(&new).await?;
                return Ok(Registration::Registered { version: since });
            }
        }
        Err(StoreError::Busy)
    }

    async fn publish(
        &self,
        user_id: UserId,
        device_id: &DeviceId,
        one_time_keys: Vec<PublishedKey>,
        fallback_key: Option<PublishedKey>,
    ) -> StoreResult<Publication> {
        let list = self.list(user_id).await?;
        let Some(listed) = list.find(device_id) else { return Ok(Publication::UnknownDevice) };
        let keys = Keys { one_time_keys, fallback_key, excess: Excess::Refuse };
        self.publish_to(user_id, listed, keys).await
    }

    async fn remove(&self, user_id: UserId, device_id: &DeviceId) -> StoreResult<Option<u64>> {
        let list = self.list(user_id).await?;
        let Some(listed) = list.find(device_id) else { return Ok(None) };
        self.note_removal(user_id, &listed.device.identity_key).await?;
        let lists = self.0.collection(DEVICE_LISTS);
        let with_it = doc! { "_id": uuid(user_id.0), "devices": { "$elemMatch": listed.query() } };
        let device = mongodb::bson::serialize_to_document(&listed.device).map_err(StoreError::corrupt)?;
        let newest = -(FORMER_DEVICES_PER_USER_MAX as i32);
        let without = doc! {
            "$inc": { "version": 1_i64 },
            "$pull": { "devices": listed.query() },
            "$push": { "former": { "$each": [device], "$slice": newest } },
        };
        let remove = || {
            let remove = lists.find_one_and_update(with_it.clone(), without.clone());
            remove.return_document(ReturnDocument::After)
        };
        let version = match self.0.ask(remove).await? {
            Some(row) => row.number("version")?,
            // It was there: either somebody else has removed it too, or this is the second try of a first one that did.
            None => self.list(user_id).await?.version,
        };
        if let Err(error) = self.keys_of(user_id, listed).forget().await {
            tracing::warn!(%error, "the one-time keys of a removed device are left behind, and nobody's");
        }
        Ok(Some(version))
    }

    async fn devices(&self, user_id: UserId) -> StoreResult<DeviceList> {
        let list = self.list(user_id).await?;
        let devices = list.devices.into_iter().map(|listed| listed.device).collect();
        Ok(DeviceList::new(user_id, list.version, devices, list.former))
    }

    async fn claim(&self, user_id: UserId, device_ids: &[DeviceId]) -> StoreResult<Vec<ClaimedKey>> {
        let list = self.list(user_id).await?;
        let mut wanted: Vec<&Listed> = Vec::new();
        for listed in device_ids.iter().filter_map(|device_id| list.find(device_id)) {
            if !wanted.iter().any(|known| known.device.device_id == listed.device.device_id) {
                wanted.push(listed);
            }
        }
        // As many at once as a user has devices, at most.
        try_join_all(wanted.into_iter().map(|listed| self.claim_from(user_id, listed))).await
    }

    async fn one_time_keys(&self, user_id: UserId, device_id: &DeviceId) -> StoreResult<u64> {
        match self.list(user_id).await?.find(device_id) {
            Some(listed) => self.keys_of(user_id, listed).unclaimed().await,
            None => Ok(0),
        }
    }
}

impl MongoKeyDirectory {
    async fn list(&self, user_id: UserId) -> StoreResult<List> {
        let lists = self.0.collection(DEVICE_LISTS);
        let row = self.0.ask(|| lists.find_one(doc! { "_id": uuid(user_id.0) })).await?;
        let Some(row) = row else { return Ok(List::default()) };
        mongodb::bson::deserialize_from_slice(row.as_bytes()).map_err(|_| malformed("devices"))
    }

    fn keys_of(&self, user_id: UserId, listed: &Listed) -> OneTimeKeys<'_> {
        let (since, device_id) = (listed.since.to_be_bytes(), listed.device.device_id.as_str());
        let owner = [user_id.0.as_bytes().as_slice(), &since, device_id.as_bytes()].concat();
        OneTimeKeys { engine: &self.0, owner }
    }

    /// Adds a device to the list, if that still has the version before the device's.
    async fn enlist(&self, user_id: UserId, listed: &Listed) -> StoreResult<bool> {
        let lists = self.0.collection(DEVICE_LISTS);
        let before = listed.since.saturating_sub(1);
        let unchanged = doc! { "_id": uuid(user_id.0), "version": number(before) };
        let listed = mongodb::bson::serialize_to_document(listed).map_err(StoreError::corrupt)?;
        let more = doc! { "$inc": { "version": 1_i64 }, "$push": { "devices": listed } };
        // Only the first device makes the list; a list of another version is in the way of making it.
        let push = || lists.update_one(unchanged.clone(), more.clone()).upsert(before == 0);
        match self.0.run(push).await {
            Ok(changed) => Ok(changed.matched_count > 0 || changed.upserted_id.is_some()),
            Err(error) if is_duplicate(&error) => Ok(false),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// What a registration comes to whose keys contradict each other.
    async fn refuse_keys(&self, user_id: UserId, device: &Device) -> StoreResult<Registration> {
        let list = self.list(user_id).await?;
        let known = list.find(&device.device_id);
        let is_conflict = known.is_some_and(|listed| !is_same(&listed.device, device));
        Ok(if is_conflict { Registration::Conflict } else { Registration::KeyIdReused })
    }

    async fn publish_to(&self, user_id: UserId, listed: &Listed, keys: Keys) -> StoreResult<Publication> {
        let one_time_keys = self.keys_of(user_id, listed);
        let known = one_time_keys.known(keys.one_time_keys.iter().chain(&keys.fallback_key)).await?;
        if let Some(key) = &keys.fallback_key
            && (reuses_id(&listed.fallback_key, key) || is_other(&known, key))
        {
            return Ok(Publication::KeyIdReused);
        }
        let in_force = keys.fallback_key.as_ref().unwrap_or(&listed.fallback_key);
        let Some(mut new) = new_keys(in_force, keys.one_time_keys, &known) else {
            return Ok(Publication::KeyIdReused);
        };
        let unclaimed = one_time_keys.unclaimed().await?;
        let room = usize::try_from((ONE_TIME_KEYS_MAX as u64).saturating_sub(unclaimed)).unwrap_or(0);
        if new.len() > room && keys.excess == Excess::Refuse {
            return Ok(Publication::TooManyKeys);
        }
        new.truncate(room);
        if let Some(key) = keys.fallback_key.filter(|key| *key != listed.fallback_key)
            && !self.replace_fallback_key(user_id, listed, &key).await?
        {
            return Ok(Publication::UnknownDevice);
        }
        if new.is_empty() {
            return Ok(Publication::Published { one_time_keys: unclaimed });
        }
        one_time_keys.add(&new).await?;
        one_time_keys.forget_claimed_first().await?;
        let list = self.list(user_id).await?;
        if list.find(&listed.device.device_id).is_none_or(|now| now.since != listed.since) {
            one_time_keys.forget().await?;
            return Ok(Publication::UnknownDevice);
        }
        let settled = one_time_keys.settle(&new).await?;
        let published = |one_time_keys| Publication::Published { one_time_keys };
        Ok(settled.map_or(Publication::TooManyKeys, published))
    }

    async fn replace_fallback_key(
        &self,
        user_id: UserId,
        listed: &Listed,
        key: &PublishedKey,
    ) -> StoreResult<bool> {
        let lists = self.0.collection(DEVICE_LISTS);
        let with_it = doc! { "_id": uuid(user_id.0), "devices": { "$elemMatch": listed.query() } };
        let key = mongodb::bson::serialize_to_document(key).map_err(StoreError::corrupt)?;
        let replace = doc! { "$set": { "devices.$.fallback_key": key } };
        let changed = self.0.ask(|| lists.update_one(with_it.clone(), replace.clone())).await?;
        Ok(changed.matched_count > 0)
    }

    async fn claim_from(&self, user_id: UserId, listed: &Listed) -> StoreResult<ClaimedKey> {
        let device_id = listed.device.device_id.clone();
        let one_time_key = self.keys_of(user_id, listed).claim().await?;
        let fallback = one_time_key.is_none();
        let key = one_time_key.unwrap_or_else(|| listed.fallback_key.clone());
        Ok(ClaimedKey { device_id, key, fallback })
    }

    async fn is_removed(&self, user_id: UserId, identity_key: &str) -> StoreResult<bool> {
        let removed = self.0.collection(REMOVED_IDENTITIES);
        let filter = doc! { "_id": identity(user_id, identity_key) };
        Ok(self.0.ask(|| removed.find_one(filter.clone())).await?.is_some())
    }

    async fn note_removal(&self, user_id: UserId, identity_key: &str) -> StoreResult<()> {
        let removed = self.0.db.collection::<Document>(REMOVED_IDENTITIES);
        let row = doc! { "_id": identity(user_id, identity_key) };
        match self.0.run(|| removed.insert_one(&row)).await {
            Err(error) if !is_duplicate(&error) => Err(unavailable(&error)),
            _ => Ok(()),
        }
    }
}

/// Is it the same device, with the same keys for life?
fn is_same(known: &Device, device: &Device) -> bool {
    known.identity_key == device.identity_key && known.signing_key == device.signing_key
}

fn identity(user_id: UserId, identity_key: &str) -> Bson {
    let bytes = [user_id.0.as_bytes().as_slice(), identity_key.as_bytes()].concat();
    Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes })
}
