//! Public keys as a device signs them: their form, and whether the signature is the device's (E2EE).

use std::collections::BTreeMap;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use colloquy_protocol::envelope::is_key;
use colloquy_protocol::ids::{DeviceId, UserId};
use colloquy_protocol::limits::ONE_TIME_KEYS_MAX;
use colloquy_protocol::rest::devices::SignedKey;
use colloquy_protocol::signing::{KeyPurpose, key_message};
use colloquy_storage::model::device::PublishedKey;

use crate::invalid_field::InvalidField;

/// Longest key id, bytes.
const KEY_ID_MAX_BYTES: usize = 64;
/// Signatures checked (some 60 us each) before other tasks get a turn.
const CHECKS_PER_TURN: usize = 16;

/// Why a key is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a key, signature or key id by its form.
    #[error(transparent)]
    InvalidField(#[from] InvalidField),
    /// The signature is not the device's over this key for this purpose.
    #[error("the signature of {0} does not verify")]
    BadSignature(&'static str),
    /// More keys than a device may have unclaimed.
    #[error("too many keys")]
    TooManyKeys,
    /// One key id for two keys.
    #[error("a key id was used for another key")]
    KeyIdReused,
}

pub(crate) fn check_text(field: &'static str, text: &str, max_bytes: usize) -> Result<(), InvalidField> {
    // Control characters would let a NUL into what is signed, where NUL parts the fields.
    let fits = (1..=max_bytes).contains(&text.len()) && !text.chars().any(char::is_control);
    fits.then_some(()).ok_or(InvalidField::new(field, "short, not empty, no control characters"))
}

/// Form and canonical encoding: two texts must never be the same key.
pub(crate) fn check_key(field: &'static str, text: &str) -> Result<Vec<u8>, InvalidField> {
    let invalid = InvalidField::new(field, "32 bytes in unpadded base64");
    if !is_key(text) {
        return Err(invalid);
    }
    STANDARD_NO_PAD.decode(text).map_err(|_| invalid)
}

/// One device's signing key, and what it has to have signed.
pub(crate) struct Signer<'a> {
    user_id: UserId,
    device_id: &'a DeviceId,
    signing_key: UnparsedPublicKey<Vec<u8>>,
}

impl<'a> Signer<'a> {
    pub(crate) fn new(
        user_id: UserId,
        device_id: &'a DeviceId,
        signing_key: &str,
    ) -> Result<Self, InvalidField> {
        let key = check_key("signing_key", signing_key)?;
        Ok(Self { user_id, device_id, signing_key: UnparsedPublicKey::new(&ED25519, key) })
    }

    /// Checks the signature of one key; `field` is the request's field that is at fault otherwise.
    pub(crate) fn check(
        &self,
        purpose: KeyPurpose,
        field: &'static str,
        key_id: &str,
        (key, signature): (&str, &str),
    ) -> Result<(), KeyError> {
        let invalid = InvalidField::new(field, "a signature is 64 bytes in unpadded base64");
        let signature = STANDARD_NO_PAD.decode(signature).map_err(|_| invalid)?;
        if signature.len() != 64 {
            return Err(invalid.into());
        }
        let message = key_message(purpose, self.user_id, self.device_id, key_id, key);
        self.signing_key.verify(&message, &signature).map_err(|_| KeyError::BadSignature(field))
    }

    fn check_signed_key(
        &self,
        purpose: KeyPurpose,
        field: &'static str,
        signed: SignedKey,
    ) -> Result<PublishedKey, KeyError> {
        check_text(field, &signed.key_id, KEY_ID_MAX_BYTES)?;
        check_key(field, &signed.key)?;
        self.check(purpose, field, &signed.key_id, (&signed.key, &signed.signature))?;
        Ok(PublishedKey { key_id: signed.key_id, key: signed.key, signature: signed.signature })
    }

    pub(crate) fn check_fallback_key(&self, key: SignedKey) -> Result<PublishedKey, KeyError> {
        self.check_signed_key(KeyPurpose::Fallback, "fallback_key", key)
    }

    pub(crate) async fn check_one_time_keys(
        &self,
        keys: Vec<SignedKey>,
    ) -> Result<Vec<PublishedKey>, KeyError> {
        if keys.len() > ONE_TIME_KEYS_MAX {
            return Err(KeyError::TooManyKeys);
        }
        let mut checked: BTreeMap<String, PublishedKey> = BTreeMap::new();
        for (index, key) in keys.into_iter().enumerate() {
            if index % CHECKS_PER_TURN == CHECKS_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
            let key = self.check_signed_key(KeyPurpose::OneTime, "one_time_keys", key)?;
            match checked.get(&key.key_id) {
                Some(same) if same.key != key.key => return Err(KeyError::KeyIdReused),
                _ => checked.insert(key.key_id.clone(), key),
            };
        }
        Ok(checked.into_values().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_store::TestDevice;
    use uuid::Uuid;

    fn device(user: u128, name: &str) -> TestDevice {
        TestDevice::new(UserId(Uuid::from_u128(user)), name, 1)
    }

    fn signer(device: &TestDevice) -> Signer<'_> {
        Signer::new(device.user_id, &device.device_id, &device.signing_key()).unwrap()
    }

    #[test]
    fn a_signature_binds_a_key_to_its_owner_device_purpose_and_id() {
        let phone = device(1, "phone");
        let key = phone.key(KeyPurpose::Fallback, "f", 7);
        assert!(signer(&phone).check_fallback_key(key.clone()).is_ok());
        for other in [device(2, "phone"), device(1, "laptop")] {
            let refused = signer(&other).check_fallback_key(key.clone());
            assert_eq!(refused, Err(KeyError::BadSignature("fallback_key")));
        }
        let one_time = phone.key(KeyPurpose::OneTime, "f", 7);
        assert_eq!(signer(&phone).check_fallback_key(one_time), Err(KeyError::BadSignature("fallback_key")));
        let renamed = SignedKey { key_id: "g".into(), ..key };
        assert_eq!(signer(&phone).check_fallback_key(renamed), Err(KeyError::BadSignature("fallback_key")));
    }

    #[test]
    fn what_is_not_a_key_by_its_form_is_refused_by_name() {
        let phone = device(1, "phone");
        let good = phone.key(KeyPurpose::Fallback, "f", 7);
        let cases: [fn(&mut SignedKey); 8] = [
            |key| key.key = "short".into(),
            |key| key.key.push('='),
            |key| key.key.replace_range(0..1, "*"),
            // The last character carries two bits of nothing: another text for the same bytes.
            |key| key.key.replace_range(42..43, "d"),
            |key| key.signature = "AAAA".into(),
            |key| key.signature = "not base64".into(),
            |key| key.key_id = String::new(),
            |key| key.key_id = "a\0b".into(),
        ];
        for (index, spoil) in cases.into_iter().enumerate() {
            let mut bad = good.clone();
            spoil(&mut bad);
            let refused = signer(&phone).check_fallback_key(bad);
            assert!(matches!(refused, Err(KeyError::InvalidField(_))), "case {index}: {refused:?}");
        }
        assert!(Signer::new(phone.user_id, &phone.device_id, "short").is_err());
    }

    #[tokio::test]
    async fn one_time_keys_are_bounded_and_one_id_is_one_key() {
        let phone = device(1, "phone");
        let too_many = phone.one_time_keys(0..101);
        assert_eq!(signer(&phone).check_one_time_keys(too_many).await, Err(KeyError::TooManyKeys));
        let same = [7, 7].map(|byte| phone.key(KeyPurpose::OneTime, "k", byte)).to_vec();
        assert_eq!(signer(&phone).check_one_time_keys(same).await.unwrap().len(), 1);
        let reused = [7, 8].map(|byte| phone.key(KeyPurpose::OneTime, "k", byte)).to_vec();
        assert_eq!(signer(&phone).check_one_time_keys(reused).await, Err(KeyError::KeyIdReused));
    }
}
