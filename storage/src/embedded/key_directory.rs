//! Devices and their public keys.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use colloquy_protocol::ids::{DeviceId, UserId};
use colloquy_protocol::limits::{DEVICES_PER_USER_MAX, FORMER_DEVICES_PER_USER_MAX, ONE_TIME_KEYS_MAX};
use fjall::Slice;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Engine;
use super::encoding::{decode, device_key, device_row, encode, malformed, read_u64};
use super::group::Group;
use super::keyspaces::Space;
use super::snapshot::{Rows, Snapshot};
use crate::model::device::{ClaimedKey, Device, DeviceList, Publication, PublishedKey, Registration};
use crate::ports::{KeyDirectory, StoreResult};

/// Claimed one-time keys remembered for each device, about 150 bytes each, until the device is removed. Beyond
/// it the one claimed first is forgotten. A client publishes again what may have been lost within minutes; for
/// that to bring a claimed key back, this many others of the same device would have to be claimed in between.
pub(super) const CLAIMED_KEYS_REMEMBERED: u64 = 4_096;

pub(super) struct EmbeddedKeyDirectory(pub(super) Arc<Engine>);

/// What a device has published, in short.
#[derive(Serialize, Deserialize)]
struct KeyRing {
    fallback_key: PublishedKey,
    /// Rows in [`Space::OneTimeKeys`].
    unclaimed: u64,
    /// Keys ever claimed; gives the next slot in [`Space::ClaimedSlots`].
    claimed: u64,
}

#[async_trait]
impl KeyDirectory for EmbeddedKeyDirectory {
    async fn register(
        &self,
        user_id: UserId,
        device: Device,
        one_time_keys: Vec<PublishedKey>,
        fallback_key: PublishedKey,
    ) -> StoreResult<Registration> {
        self.0.write(move |group| register(group, user_id, &device, one_time_keys, fallback_key)).await
    }

    async fn publish(
        &self,
        user_id: UserId,
        device_id: &DeviceId,
        one_time_keys: Vec<PublishedKey>,
        fallback_key: Option<PublishedKey>,
    ) -> StoreResult<Publication> {
        let owner = Owner { user_id, device_id: device_id.clone() };
        self.0.write(move |group| publish(group, &owner, one_time_keys, fallback_key, Excess::Refuse)).await
    }

    async fn remove(&self, user_id: UserId, device_id: &DeviceId) -> StoreResult<Option<u64>> {
        let owner = Owner { user_id, device_id: device_id.clone() };
        self.0.write(move |group| remove(group, &owner)).await
    }

    async fn devices(&self, user_id: UserId) -> StoreResult<DeviceList> {
        // At most DEVICES_PER_USER_MAX neighbouring rows: done in place.
        devices(&self.0.snapshot(), user_id)
    }

    async fn claim(&self, user_id: UserId, device_ids: &[DeviceId]) -> StoreResult<Vec<ClaimedKey>> {
        let device_ids = device_ids.to_vec();
        self.0.write(move |group| claim(group, user_id, device_ids)).await
    }

    async fn one_time_keys(&self, user_id: UserId, device_id: &DeviceId) -> StoreResult<u64> {
        let owner = Owner { user_id, device_id: device_id.clone() };
        Ok(owner.ring(&self.0.snapshot())?.map_or(0, |ring| ring.unclaimed))
    }
}

/// The device whose keys are spoken of.
struct Owner {
    user_id: UserId,
    device_id: DeviceId,
}

impl Owner {
    fn key(&self) -> Vec<u8> {
        device_key(self.user_id, &self.device_id)
    }

    fn row(&self, rest: &[u8]) -> Vec<u8> {
        device_row(self.user_id, &self.device_id, rest)
    }

    fn ring(&self, rows: &impl Rows) -> StoreResult<Option<KeyRing>> {
        rows.get(Space::KeyRings, &self.key())?.map(|bytes| decode(&bytes)).transpose()
    }

    fn put_ring(&self, group: &mut Group, ring: &KeyRing) -> StoreResult<()> {
        group.put(Space::KeyRings, self.key(), encode(ring)?);
        Ok(())
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

fn register(
    group: &mut Group,
    user_id: UserId,
    device: &Device,
    one_time_keys: Vec<PublishedKey>,
    fallback_key: PublishedKey,
) -> StoreResult<Registration> {
    let owner = Owner { user_id, device_id: device.device_id.clone() };
    let known: Option<Device> =
        group.get(Space::Devices, &owner.key())?.map(|bytes| decode(&bytes)).transpose()?;
    if let Some(known) = known {
        if known.identity_key != device.identity_key || known.signing_key != device.signing_key {
            return Ok(Registration::Conflict);
        }
        return Ok(match publish(group, &owner, one_time_keys, Some(fallback_key), Excess::LeaveOut)? {
            Publication::KeyIdReused => Registration::KeyIdReused,
            _ => Registration::Unchanged,
        });
    }
    // Its claimed keys are forgotten: under the same identity they could be handed out again.
    if group.get(Space::RemovedIdentities, &identity_row(user_id, &device.identity_key))?.is_some() {
        return Ok(Registration::Conflict);
    }
    if group.prefix(Space::Devices, user_id.0.as_bytes())?.len() >= DEVICES_PER_USER_MAX {
        return Ok(Registration::TooManyDevices);
    }
    let Some(mut new) = new_keys(group, &owner, &fallback_key, one_time_keys)? else {
        return Ok(Registration::KeyIdReused);
    };
    new.truncate(ONE_TIME_KEYS_MAX);
    let ring = KeyRing { fallback_key, unclaimed: new.len() as u64, claimed: 0 };
    put_one_time_keys(group, &owner, &new)?;
    owner.put_ring(group, &ring)?;
    group.put(Space::Devices, owner.key(), encode(device)?);
    let version = raise_version(group, user_id)?;
    Ok(Registration::Registered { version })
}

fn publish(
    group: &mut Group,
    owner: &Owner,
    one_time_keys: Vec<PublishedKey>,
    fallback_key: Option<PublishedKey>,
    excess: Excess,
) -> StoreResult<Publication> {
    let Some(mut ring) = owner.ring(group)? else { return Ok(Publication::UnknownDevice) };
    if let Some(fallback_key) = fallback_key {
        if reuses_id(&ring.fallback_key, &fallback_key) || is_other_key(group, owner, &fallback_key)? {
            return Ok(Publication::KeyIdReused);
        }
        ring.fallback_key = fallback_key;
    }
    let Some(mut new) = new_keys(group, owner, &ring.fallback_key, one_time_keys)? else {
        return Ok(Publication::KeyIdReused);
    };
    let room = (ONE_TIME_KEYS_MAX as u64).saturating_sub(ring.unclaimed) as usize;
    if new.len() > room && excess == Excess::Refuse {
        return Ok(Publication::TooManyKeys);
    }
    new.truncate(room);
    ring.unclaimed += new.len() as u64;
    put_one_time_keys(group, owner, &new)?;
    owner.put_ring(group, &ring)?;
    Ok(Publication::Published { one_time_keys: ring.unclaimed })
}

/// Those of `keys` that were never published, each once, in the order given; `None` if a key id names another key.
fn new_keys(
    group: &Group,
    owner: &Owner,
    fallback_key: &PublishedKey,
    keys: Vec<PublishedKey>,
) -> StoreResult<Option<Vec<PublishedKey>>> {
    let mut new = Vec::new();
    let mut given: HashMap<String, String> = HashMap::new();
    for key in keys {
        if reuses_id(fallback_key, &key) || is_other_key(group, owner, &key)? {
            return Ok(None);
        }
        if let Some(given) = given.insert(key.key_id.clone(), key.key.clone()) {
            if given != key.key {
                return Ok(None);
            }
            continue;
        }
        let row = owner.row(key.key_id.as_bytes());
        let published = group.get(Space::OneTimeKeys, &row)?.is_some();
        if !published && group.get(Space::ClaimedKeys, &row)?.is_none() {
            new.push(key);
        }
    }
    Ok(Some(new))
}

fn reuses_id(known: &PublishedKey, key: &PublishedKey) -> bool {
    known.key_id == key.key_id && known.key != key.key
}

/// Is the key's id that of another one-time key, claimed or not?
fn is_other_key(group: &Group, owner: &Owner, key: &PublishedKey) -> StoreResult<bool> {
    let row = owner.row(key.key_id.as_bytes());
    if let Some(bytes) = group.get(Space::OneTimeKeys, &row)? {
        let known: PublishedKey = decode(&bytes)?;
        return Ok(known.key != key.key);
    }
    let claimed = group.get(Space::ClaimedKeys, &row)?;
    Ok(claimed.is_some_and(|known| known != fingerprint(key)))
}

/// Enough of a key to tell it from another under the same id.
fn fingerprint(key: &PublishedKey) -> Slice {
    Slice::from(&Sha256::digest(key.key.as_bytes())[..16])
}

fn put_one_time_keys(group: &mut Group, owner: &Owner, keys: &[PublishedKey]) -> StoreResult<()> {
    for key in keys {
        group.put(Space::OneTimeKeys, owner.row(key.key_id.as_bytes()), encode(key)?);
    }
    Ok(())
}

fn remove(group: &mut Group, owner: &Owner) -> StoreResult<Option<u64>> {
    let Some(device) = group.get(Space::Devices, &owner.key())? else { return Ok(None) };
    let device: Device = decode(&device)?;
    group.put(Space::RemovedIdentities, identity_row(owner.user_id, &device.identity_key), *b"");
    group.remove(Space::Devices, owner.key());
    let mut former = former(group, owner.user_id)?;
    former.push(device);
    former.drain(..former.len().saturating_sub(FORMER_DEVICES_PER_USER_MAX));
    group.put(Space::FormerDevices, *owner.user_id.0.as_bytes(), encode(&former)?);
    group.remove(Space::KeyRings, owner.key());
    for space in [Space::OneTimeKeys, Space::ClaimedKeys, Space::ClaimedSlots] {
        for (key, _) in group.prefix(space, &owner.row(b""))? {
            group.remove(space, key);
        }
    }
    raise_version(group, owner.user_id).map(Some)
}

fn identity_row(user_id: UserId, identity_key: &str) -> Vec<u8> {
    [user_id.0.as_bytes().as_slice(), identity_key.as_bytes()].concat()
}

fn former(rows: &impl Rows, user_id: UserId) -> StoreResult<Vec<Device>> {
    rows.get(Space::FormerDevices, user_id.0.as_bytes())?.map_or(Ok(Vec::new()), |bytes| decode(&bytes))
}

fn version(rows: &impl Rows, user_id: UserId) -> StoreResult<u64> {
    rows.get(Space::DeviceLists, user_id.0.as_bytes())?.map_or(Ok(0), |bytes| read_u64(&bytes))
}

fn raise_version(group: &mut Group, user_id: UserId) -> StoreResult<u64> {
    let version = version(group, user_id)? + 1;
    group.put(Space::DeviceLists, *user_id.0.as_bytes(), version.to_be_bytes());
    Ok(version)
}

fn devices(rows: &Snapshot, user_id: UserId) -> StoreResult<DeviceList> {
    let devices = rows
        .prefix(Space::Devices, user_id.0.as_bytes())
        .map(|row| decode(&row?.1))
        .collect::<StoreResult<_>>()?;
    Ok(DeviceList::new(user_id, version(rows, user_id)?, devices, former(rows, user_id)?))
}

fn claim(group: &mut Group, user_id: UserId, device_ids: Vec<DeviceId>) -> StoreResult<Vec<ClaimedKey>> {
    let mut claimed: Vec<ClaimedKey> = Vec::with_capacity(device_ids.len());
    for device_id in device_ids {
        if claimed.iter().any(|key| key.device_id == device_id) {
            continue;
        }
        let owner = Owner { user_id, device_id };
        let Some(ring) = owner.ring(group)? else { continue };
        claimed.push(claim_one(group, owner, ring)?);
    }
    Ok(claimed)
}

fn claim_one(group: &mut Group, owner: Owner, mut ring: KeyRing) -> StoreResult<ClaimedKey> {
    let Some((row, bytes)) = group.first(Space::OneTimeKeys, &owner.row(b""))? else {
        return Ok(ClaimedKey { device_id: owner.device_id, key: ring.fallback_key, fallback: true });
    };
    let key: PublishedKey = decode(&bytes)?;
    group.remove(Space::OneTimeKeys, row.clone());
    remember_claimed(group, &owner, &ring, row, &key)?;
    ring.claimed += 1;
    ring.unclaimed = ring.unclaimed.checked_sub(1).ok_or_else(|| malformed("count of one-time keys"))?;
    owner.put_ring(group, &ring)?;
    Ok(ClaimedKey { device_id: owner.device_id, key, fallback: false })
}

/// Notes that `key` was claimed, in the place of the key claimed [`CLAIMED_KEYS_REMEMBERED`] before it.
fn remember_claimed(
    group: &mut Group,
    owner: &Owner,
    ring: &KeyRing,
    row: Slice,
    key: &PublishedKey,
) -> StoreResult<()> {
    let slot = owner.row(&(ring.claimed % CLAIMED_KEYS_REMEMBERED).to_be_bytes());
    if let Some(oldest) = group.get(Space::ClaimedSlots, &slot)? {
        group.remove(Space::ClaimedKeys, owner.row(&oldest));
    }
    group.put(Space::ClaimedSlots, slot, key.key_id.as_bytes());
    group.put(Space::ClaimedKeys, row, fingerprint(key));
    Ok(())
}
