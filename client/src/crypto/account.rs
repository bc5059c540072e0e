//! This device's own keys: identity, signing, one-time and fallback.
//!
//! Private one-time keys outlive their publication until the message that uses them arrives, so an account is
//! written to the store before its public keys leave the device.

use std::fmt;

use colloquy_protocol::ids::{DeviceAddress, DeviceId, UserId};
use colloquy_protocol::limits::ONE_TIME_KEYS_MAX;
use colloquy_protocol::rest::devices::{PublishKeys, RegisterDevice, SignedKey};
use colloquy_protocol::signing::{KeyPurpose, key_message};
use serde::{Deserialize, Serialize};
use vodozemac::olm::{Account, IdentityKeys};
use vodozemac::{Curve25519PublicKey, KeyId};

/// One-time keys generated at once; half of what a device may have published, so that a refill never overshoots.
pub const ONE_TIME_KEYS_BATCH: usize = ONE_TIME_KEYS_MAX / 2;

/// The Olm account of this device, bound to its address.
pub struct DeviceAccount {
    address: DeviceAddress,
    pub(crate) olm: Account,
}

/// What other devices know this one by. All that a message needs of the account, unless it opens a session: reading the
/// account reckons the public half of some hundred keys again, which costs more than all the rest of sending.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnIdentity {
    /// The device.
    pub address: DeviceAddress,
    /// Its Curve25519 identity key.
    pub identity_key: Curve25519PublicKey,
}

/// A [`DeviceAccount`] as it is stored. Holds private keys: seal it before it touches a disk.
#[derive(Serialize, Deserialize)]
pub struct AccountPickle {
    address: DeviceAddress,
    olm: vodozemac::olm::AccountPickle,
}

impl DeviceAccount {
    /// Fresh keys for a device: identity, a fallback key and a first batch of one-time keys, none published yet.
    #[must_use]
    pub fn generate(address: DeviceAddress) -> Self {
        let mut olm = Account::new();
        olm.generate_one_time_keys(ONE_TIME_KEYS_BATCH);
        olm.generate_fallback_key();
        Self { address, olm }
    }

    /// The device these keys belong to.
    #[must_use]
    pub fn address(&self) -> &DeviceAddress {
        &self.address
    }

    /// The owner of the device.
    #[must_use]
    pub fn user_id(&self) -> UserId {
        self.address.user_id
    }

    /// The device among its owner's.
    #[must_use]
    pub fn device_id(&self) -> &DeviceId {
        &self.address.device_id
    }

    /// What others know it by.
    #[must_use]
    pub fn identity(&self) -> OwnIdentity {
        OwnIdentity { address: self.address.clone(), identity_key: self.olm.curve25519_key() }
    }

    /// The public identity keys.
    #[must_use]
    pub fn identity_keys(&self) -> IdentityKeys {
        self.olm.identity_keys()
    }

    /// The Curve25519 identity key, unpadded base64: `sender_key` of every envelope from this device.
    #[must_use]
    pub fn sender_key(&self) -> String {
        self.olm.curve25519_key().to_base64()
    }

    /// What `PUT /v1/devices/{device_id}` is sent: every key not yet confirmed by the server. Makes a fallback key
    /// if the last one is confirmed, because a registration must show one.
    pub fn registration(&mut self, platform: &str) -> RegisterDevice {
        if self.olm.fallback_key().is_empty() {
            self.olm.generate_fallback_key();
        }
        let identity_key = self.sender_key();
        let identity_signature = self.sign(KeyPurpose::Identity, "", &identity_key);
        let PublishKeys { one_time_keys, fallback_key } = self.unpublished();
        RegisterDevice {
            platform: platform.to_owned(),
            identity_key,
            signing_key: self.olm.ed25519_key().to_base64(),
            identity_signature,
            one_time_keys,
            fallback_key: fallback_key.expect("an unconfirmed fallback key was just made"),
        }
    }

    /// Signed public keys that the server has not confirmed yet.
    #[must_use]
    pub fn unpublished(&self) -> PublishKeys {
        let mut one_time: Vec<(KeyId, Curve25519PublicKey)> = self.olm.one_time_keys().into_iter().collect();
        one_time.sort_unstable_by_key(|(id, _)| *id);
        PublishKeys {
            one_time_keys: one_time
                .into_iter()
                .map(|(id, key)| self.signed(KeyPurpose::OneTime, id, key))
                .collect(),
            fallback_key: self
                .olm
                .fallback_key()
                .into_iter()
                .next()
                .map(|(id, key)| self.signed(KeyPurpose::Fallback, id, key)),
        }
    }

    /// Adds up to [`ONE_TIME_KEYS_BATCH`] one-time keys on top of those not yet published, so that the server
    /// ends with at most [`ONE_TIME_KEYS_MAX`] when it said it has `left` unclaimed.
    pub fn refill(&mut self, left: usize) {
        let unpublished = self.olm.one_time_keys().len();
        let room = ONE_TIME_KEYS_MAX.saturating_sub(left).min(ONE_TIME_KEYS_BATCH);
        let count = room.saturating_sub(unpublished);
        if count > 0 {
            self.olm.generate_one_time_keys(count);
        }
    }

    /// Makes a new fallback key; the previous one still opens sessions until the next rotation.
    pub fn rotate_fallback_key(&mut self) {
        self.olm.generate_fallback_key();
    }

    /// The server has confirmed `keys`. Keys made while they were on their way stay unconfirmed, and so then do
    /// `keys`: the server takes them a second time without harm.
    pub fn mark_published(&mut self, keys: &PublishKeys) {
        let PublishKeys { one_time_keys, fallback_key } = self.unpublished();
        let is_known = |key: &SignedKey| keys.one_time_keys.iter().any(|known| known.key_id == key.key_id);
        let is_same_fallback = fallback_key
            .is_none_or(|key| keys.fallback_key.as_ref().is_some_and(|known| known.key_id == key.key_id));
        if one_time_keys.iter().all(is_known) && is_same_fallback {
            self.olm.mark_keys_as_published();
        }
    }

    /// For the store.
    #[must_use]
    pub fn pickle(&self) -> AccountPickle {
        AccountPickle { address: self.address.clone(), olm: self.olm.pickle() }
    }

    /// From the store.
    #[must_use]
    pub fn from_pickle(pickle: AccountPickle) -> Self {
        Self { address: pickle.address, olm: Account::from_pickle(pickle.olm) }
    }

    fn signed(&self, purpose: KeyPurpose, id: KeyId, key: Curve25519PublicKey) -> SignedKey {
        // One-time and fallback keys count their ids apart; the prefix keeps them from naming two keys alike.
        let prefix = if purpose == KeyPurpose::Fallback { "f" } else { "o" };
        let key_id = format!("{prefix}{}", id.to_base64());
        let key = key.to_base64();
        let signature = self.sign(purpose, &key_id, &key);
        SignedKey { key_id, key, signature }
    }

    fn sign(&self, purpose: KeyPurpose, key_id: &str, key: &str) -> String {
        let message = key_message(purpose, self.address.user_id, &self.address.device_id, key_id, key);
        self.olm.sign(message).to_base64()
    }
}

impl fmt::Debug for DeviceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceAccount").field("device_id", &self.address.device_id).finish_non_exhaustive()
    }
}

impl fmt::Debug for AccountPickle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountPickle(..)")
    }
}
