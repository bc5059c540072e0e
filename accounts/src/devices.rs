//! Devices and the public keys they publish (E2EE).
//!
//! Signatures are checked here to refuse mistakes early; clients check them again, because they need not trust the
//! server. No private key ever comes here.

use std::sync::Arc;

use colloquy_protocol::ids::{DeviceId, UserId};
use colloquy_protocol::limits::DEVICES_PER_USER_MAX;
use colloquy_protocol::rest::devices::{
    ClaimKeys, ClaimedKey, ClaimedKeys, Device as DeviceView, DeviceList, KeyCount, PublishKeys,
    RegisterDevice, SignedKey,
};
use colloquy_protocol::signing::KeyPurpose;
use colloquy_storage::ambient::Clock;
use colloquy_storage::model::device::{Device, Publication, PublishedKey, Registration};
use colloquy_storage::ports::{self, StoreError, StoreResult};

use crate::authenticate::Authenticated;
use crate::hooks::{AccountHooks, awaited, to_its_end};
use crate::invalid_field::InvalidField;
use crate::signed_key::{KeyError, Signer, check_key, check_text};

/// Longest platform name, bytes.
const PLATFORM_MAX_BYTES: usize = 32;

/// Why a device was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterDeviceError {
    /// A key is not accepted.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The log-in is bound to another device.
    #[error("the log-in belongs to another device")]
    DeviceMismatch,
    /// The device is registered with other keys.
    #[error("the device exists with other keys")]
    DeviceExists,
    /// The user has as many devices as one may have.
    #[error("too many devices")]
    TooManyDevices,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<InvalidField> for RegisterDeviceError {
    fn from(error: InvalidField) -> Self {
        Self::Key(error.into())
    }
}

/// Why keys were not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishKeysError {
    /// A key is not accepted.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The user has no such device.
    #[error("no such device")]
    UnknownDevice,
    /// The log-in is not this device's.
    #[error("the log-in belongs to another device")]
    DeviceMismatch,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a device was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveDeviceError {
    /// The user has no such device (any more).
    #[error("no such device")]
    UnknownDevice,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a user's devices or their keys were not given.
#[derive(Debug, thiserror::Error)]
pub enum LookUpError {
    /// No devices, or more than a user may have, were asked for.
    #[error(transparent)]
    InvalidField(#[from] InvalidField),
    /// There is no such user.
    #[error("no such user")]
    UnknownUser,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Registers devices, publishes their keys and hands them out. Cheap to clone.
#[derive(Clone)]
pub struct Devices {
    keys: Arc<dyn ports::KeyDirectory>,
    logins: Arc<dyn ports::Logins>,
    accounts: Arc<dyn ports::Accounts>,
    hooks: Arc<dyn AccountHooks>,
    clock: Clock,
}

impl Devices {
    /// The service over its parts.
    #[must_use]
    pub fn new(
        keys: Arc<dyn ports::KeyDirectory>,
        logins: Arc<dyn ports::Logins>,
        accounts: Arc<dyn ports::Accounts>,
        hooks: Arc<dyn AccountHooks>,
        clock: Clock,
    ) -> Self {
        Self { keys, logins, accounts, hooks, clock }
    }

    /// Registers a device of the caller, or recognises it, and binds the caller's log-in to it.
    ///
    /// # Errors
    /// [`RegisterDeviceError`].
    pub async fn register(
        &self,
        caller: &Authenticated,
        device_id: &DeviceId,
        request: RegisterDevice,
    ) -> Result<KeyCount, RegisterDeviceError> {
        if caller.device_id.as_ref().is_some_and(|bound| bound != device_id) {
            return Err(RegisterDeviceError::DeviceMismatch);
        }
        check_text("platform", &request.platform, PLATFORM_MAX_BYTES)?;
        check_key("identity_key", &request.identity_key)?;
        let signer = Signer::new(caller.user_id, device_id, &request.signing_key)?;
        let identity = (request.identity_key.as_str(), request.identity_signature.as_str());
        signer.check(KeyPurpose::Identity, "identity_signature", "", identity)?;
        let one_time_keys = signer.check_one_time_keys(request.one_time_keys).await?;
        let fallback_key = signer.check_fallback_key(request.fallback_key)?;
        let device = Device {
            device_id: device_id.clone(),
            platform: request.platform,
            identity_key: request.identity_key,
            signing_key: request.signing_key,
            identity_signature: request.identity_signature,
            registered_at: self.clock.now(),
        };
        let (this, caller) = (self.clone(), caller.clone());
        to_its_end(async move { this.register_checked(&caller, device, one_time_keys, fallback_key).await })
            .await
    }

    async fn register_checked(
        &self,
        caller: &Authenticated,
        device: Device,
        one_time_keys: Vec<PublishedKey>,
        fallback_key: PublishedKey,
    ) -> Result<KeyCount, RegisterDeviceError> {
        let (user_id, device_id) = (caller.user_id, device.device_id.clone());
        let registration = self.keys.register(user_id, device, one_time_keys, fallback_key).await?;
        let (version, is_new) = match registration {
            Registration::Registered { version } => (version, true),
            Registration::Unchanged => (self.keys.devices(user_id).await?.version, false),
            Registration::Conflict => return Err(RegisterDeviceError::DeviceExists),
            Registration::TooManyDevices => return Err(RegisterDeviceError::TooManyDevices),
            Registration::KeyIdReused => return Err(KeyError::KeyIdReused.into()),
        };
        // Told before anything else can fail, and also of a device that was there: the telling may be what failed then.
        awaited(self.hooks.devices_changed(user_id, version, None)).await;
        // Bound after registering and not before: a log-in must never be bound to a device that refused it.
        let bound = self.logins.bind(caller.login_id, &device_id).await?;
        if !bound && is_new {
            // The same log-in registered another device at the same moment, or was revoked. Nobody could ever act
            // as this device, and every sender would have to encrypt for it.
            let removed = self.keys.remove(user_id, &device_id).await?;
            awaited(self.hooks.devices_changed(user_id, removed.unwrap_or(version), None)).await;
        }
        if !bound {
            return Err(RegisterDeviceError::DeviceMismatch);
        }
        Ok(KeyCount { one_time_key_count: self.keys.one_time_keys(user_id, &device_id).await? })
    }

    /// Publishes more keys of the caller's own device.
    ///
    /// # Errors
    /// [`PublishKeysError`].
    pub async fn publish(
        &self,
        caller: &Authenticated,
        device_id: &DeviceId,
        request: PublishKeys,
    ) -> Result<KeyCount, PublishKeysError> {
        let list = self.keys.devices(caller.user_id).await?;
        let device = list.devices.iter().find(|device| device.device_id == *device_id);
        let device = device.ok_or(PublishKeysError::UnknownDevice)?;
        if caller.device_id.as_ref() != Some(device_id) {
            return Err(PublishKeysError::DeviceMismatch);
        }
        let signer = Signer::new(caller.user_id, device_id, &device.signing_key).map_err(KeyError::from)?;
        let one_time_keys = signer.check_one_time_keys(request.one_time_keys).await?;
        let fallback_key = request.fallback_key.map(|key| signer.check_fallback_key(key)).transpose()?;
        match self.keys.publish(caller.user_id, device_id, one_time_keys, fallback_key).await? {
            Publication::Published { one_time_keys } => Ok(KeyCount { one_time_key_count: one_time_keys }),
            Publication::UnknownDevice => Err(PublishKeysError::UnknownDevice),
            Publication::TooManyKeys => Err(KeyError::TooManyKeys.into()),
            Publication::KeyIdReused => Err(KeyError::KeyIdReused.into()),
        }
    }

    /// Removes a device of a user and revokes the log-ins bound to it. When this returns, nothing is delivered to
    /// the device any more.
    ///
    /// The device goes first: a crash in between leaves log-ins without a device, which receive nothing. All steps
    /// are taken also for a device that is gone already, so that a retry finishes them.
    ///
    /// # Errors
    /// [`RemoveDeviceError`].
    pub async fn remove(&self, user_id: UserId, device_id: &DeviceId) -> Result<(), RemoveDeviceError> {
        let (this, device_id) = (self.clone(), device_id.clone());
        to_its_end(async move {
            let removed = this.keys.remove(user_id, &device_id).await?;
            let version = match removed {
                Some(version) => version,
                None => this.keys.devices(user_id).await?.version,
            };
            // First, so that the device's own socket is told the reason that is its own.
            awaited(this.hooks.devices_changed(user_id, version, Some(device_id.clone()))).await;
            for login_id in this.logins.revoke_device(user_id, &device_id).await? {
                awaited(this.hooks.login_revoked(user_id, login_id)).await;
            }
            removed.map(|_| ()).ok_or(RemoveDeviceError::UnknownDevice)
        })
        .await
    }

    /// Does the user have this device?
    ///
    /// # Errors
    /// The store's.
    pub async fn has(&self, user_id: UserId, device_id: &DeviceId) -> StoreResult<bool> {
        let list = self.keys.devices(user_id).await?;
        Ok(list.devices.iter().any(|device| device.device_id == *device_id))
    }

    /// A user's devices, for whoever wants to write to them.
    ///
    /// # Errors
    /// [`LookUpError`].
    pub async fn list(&self, user_id: UserId) -> Result<DeviceList, LookUpError> {
        let list = self.keys.devices(user_id).await?;
        if list.version == 0 {
            self.check_user(user_id).await?;
        }
        let views = |devices: Vec<Device>| devices.into_iter().map(view).collect();
        Ok(DeviceList {
            user_id,
            version: list.version,
            devices: views(list.devices),
            former: views(list.former),
        })
    }

    /// Takes one key from each of a user's devices, to open sessions with them.
    ///
    /// # Errors
    /// [`LookUpError`].
    pub async fn claim(&self, user_id: UserId, request: ClaimKeys) -> Result<ClaimedKeys, LookUpError> {
        let mut device_ids = request.device_ids;
        // One key for each device, however often it is named.
        device_ids.sort();
        device_ids.dedup();
        if !(1..=DEVICES_PER_USER_MAX).contains(&device_ids.len()) {
            return Err(InvalidField::new("device_ids", "1 to 16 devices").into());
        }
        let claimed = self.keys.claim(user_id, &device_ids).await?;
        if claimed.is_empty() {
            self.check_user(user_id).await?;
        }
        let keys = claimed.into_iter().map(|claimed| ClaimedKey {
            device_id: claimed.device_id,
            key: SignedKey {
                key_id: claimed.key.key_id,
                key: claimed.key.key,
                signature: claimed.key.signature,
            },
            fallback: claimed.fallback,
        });
        Ok(ClaimedKeys { keys: keys.collect() })
    }

    async fn check_user(&self, user_id: UserId) -> Result<(), LookUpError> {
        let user = self.accounts.get(user_id).await?;
        user.map(|_| ()).ok_or(LookUpError::UnknownUser)
    }
}

fn view(device: Device) -> DeviceView {
    DeviceView {
        device_id: device.device_id,
        platform: device.platform,
        identity_key: device.identity_key,
        signing_key: device.signing_key,
        identity_signature: device.identity_signature,
        registered_at: device.registered_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_store::{TestDevice, TestStore};
    use colloquy_protocol::rest::accounts::Tokens;

    async fn caller(store: &TestStore, tokens: &Tokens) -> Authenticated {
        store.authenticator().authenticate(&tokens.access_token).await.unwrap()
    }

    async fn registered(store: &TestStore) -> (Tokens, TestDevice) {
        let tokens = store.register("a@b.de", "correct horse").await;
        let device = TestDevice::new(tokens.user_id, "phone", 1);
        let caller = caller(store, &tokens).await;
        let count =
            store.devices().register(&caller, &device.device_id, device.registration()).await.unwrap();
        assert_eq!(count.one_time_key_count, 3);
        (tokens, device)
    }

    #[tokio::test]
    async fn registering_binds_the_log_in_to_the_device_and_a_retry_changes_nothing() {
        let store = TestStore::open().await;
        let (tokens, device) = registered(&store).await;
        let caller = caller(&store, &tokens).await;
        assert_eq!(caller.device_id.as_ref(), Some(&device.device_id));
        let again =
            store.devices().register(&caller, &device.device_id, device.registration()).await.unwrap();
        assert_eq!(again.one_time_key_count, 3);
        // The list's version is the same: those who are told twice of it have nothing to do the second time.
        assert_eq!(store.changed(), [(1, None), (1, None)]);
    }

    #[tokio::test]
    async fn a_log_in_has_one_device_and_a_device_that_refused_it_is_not_bound() {
        let store = TestStore::open().await;
        let (tokens, _) = registered(&store).await;
        let first = caller(&store, &tokens).await;
        let laptop = TestDevice::new(tokens.user_id, "laptop", 2);
        let refused = store.devices().register(&first, &laptop.device_id, laptop.registration()).await;
        assert!(matches!(refused, Err(RegisterDeviceError::DeviceMismatch)));
        let tokens = store.logins().open(tokens.user_id).await.unwrap();
        let second = caller(&store, &tokens).await;
        let impostor = TestDevice::new(tokens.user_id, "phone", 3);
        let refused = store.devices().register(&second, &impostor.device_id, impostor.registration()).await;
        assert!(matches!(refused, Err(RegisterDeviceError::DeviceExists)));
        assert_eq!(caller(&store, &tokens).await.device_id, None);
        assert!(store.devices().register(&second, &laptop.device_id, laptop.registration()).await.is_ok());
    }

    #[tokio::test]
    async fn two_devices_registered_at_once_by_one_log_in_leave_one() {
        let store = TestStore::open().await;
        let tokens = store.register("a@b.de", "correct horse").await;
        let unbound = caller(&store, &tokens).await;
        let [phone, laptop] =
            [("phone", 1), ("laptop", 2)].map(|(name, seed)| TestDevice::new(tokens.user_id, name, seed));
        let devices = store.devices();
        let (first, second) = tokio::join!(
            devices.register(&unbound, &phone.device_id, phone.registration()),
            devices.register(&unbound, &laptop.device_id, laptop.registration()),
        );
        assert!(first.is_ok() != second.is_ok());
        let list = devices.list(tokens.user_id).await.unwrap();
        assert_eq!(list.devices.len(), 1);
        let bound = caller(&store, &tokens).await.device_id;
        assert_eq!(bound.as_ref(), Some(&list.devices[0].device_id));
    }

    #[tokio::test]
    async fn a_removed_device_is_told_its_log_ins_are_gone_and_a_retry_tells_it_again() {
        let store = TestStore::open().await;
        let (tokens, device) = registered(&store).await;
        store.devices().remove(tokens.user_id, &device.device_id).await.unwrap();
        assert_eq!(store.revoked(), [tokens.login_id]);
        assert_eq!(store.changed(), [(1, None), (2, Some(device.device_id.clone()))]);
        assert!(store.authenticator().authenticate(&tokens.access_token).await.is_err());
        let again = store.devices().remove(tokens.user_id, &device.device_id).await;
        assert!(matches!(again, Err(RemoveDeviceError::UnknownDevice)));
        assert_eq!(store.changed().last(), Some(&(2, Some(device.device_id))));
    }

    #[tokio::test]
    async fn keys_are_published_by_their_own_device_only() {
        let store = TestStore::open().await;
        let (tokens, device) = registered(&store).await;
        let keys = || PublishKeys { one_time_keys: device.one_time_keys(3..5), fallback_key: None };
        let own = caller(&store, &tokens).await;
        let count = store.devices().publish(&own, &device.device_id, keys()).await.unwrap();
        assert_eq!(count.one_time_key_count, 5);
        let other = store.logins().open(tokens.user_id).await.unwrap();
        let other = caller(&store, &other).await;
        let refused = store.devices().publish(&other, &device.device_id, keys()).await;
        assert!(matches!(refused, Err(PublishKeysError::DeviceMismatch)));
        let unknown = DeviceId::new("tablet").unwrap();
        let refused = store.devices().publish(&own, &unknown, keys()).await;
        assert!(matches!(refused, Err(PublishKeysError::UnknownDevice)));
    }

    #[tokio::test]
    async fn a_claimed_key_is_never_given_again_and_the_fallback_key_is() {
        let store = TestStore::open().await;
        let (tokens, device) = registered(&store).await;
        let claim = async || {
            // Named twice on purpose: one key each time.
            let device_ids = vec![device.device_id.clone(), device.device_id.clone()];
            let mut claimed = store.devices().claim(tokens.user_id, ClaimKeys { device_ids }).await.unwrap();
            assert_eq!(claimed.keys.len(), 1);
            claimed.keys.remove(0)
        };
        let mut key_ids = std::collections::BTreeSet::new();
        for _ in 0..3 {
            let claimed = claim().await;
            assert!(!claimed.fallback && key_ids.insert(claimed.key.key_id));
        }
        assert!(claim().await.fallback && claim().await.fallback);
    }

    #[tokio::test]
    async fn nobody_has_no_devices_rather_than_an_empty_list() {
        let store = TestStore::open().await;
        let tokens = store.register("a@b.de", "correct horse").await;
        assert!(store.devices().list(tokens.user_id).await.unwrap().devices.is_empty());
        let nobody = UserId(uuid::Uuid::from_u128(9));
        assert!(matches!(store.devices().list(nobody).await, Err(LookUpError::UnknownUser)));
        let claim = ClaimKeys { device_ids: vec![DeviceId::new("phone").unwrap()] };
        assert!(matches!(store.devices().claim(nobody, claim).await, Err(LookUpError::UnknownUser)));
        let claim = ClaimKeys { device_ids: vec![] };
        assert!(matches!(store.devices().claim(nobody, claim).await, Err(LookUpError::InvalidField(_))));
    }
}
