//! End-to-end encrypted content: one ciphertext for each recipient device (E2EE).
//!
//! The server checks the *form* of an envelope and the *set of devices* it is for; it can read neither. Each
//! device is handed its own ciphertext only, as [`SealedContent`].

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ids::{DeviceAddress, DeviceId, UserId};
use crate::limits::{CIPHERTEXT_MAX_BYTES, CIPHERTEXTS_MAX};

/// How a ciphertext was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// Olm: 3DH key agreement and the Double Ratchet, pairwise between devices.
    #[serde(rename = "olm.v1")]
    OlmV1,
}

/// The two kinds of Olm message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CiphertextKind {
    /// Opens a session: carries the sender's keys beside the ciphertext.
    PreKey,
    /// Belongs to a session that both sides have.
    Normal,
}

/// One device's ciphertext.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceCiphertext {
    /// The owner of the device this is for.
    pub user_id: UserId,
    /// The device this is for.
    pub device_id: DeviceId,
    /// Which kind of Olm message `body` is.
    pub kind: CiphertextKind,
    /// The ciphertext, standard base64 without padding.
    pub body: String,
}

/// The `content` of a message as its sender gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// How every ciphertext in this envelope was made.
    pub algorithm: Algorithm,
    /// The sending device's Curve25519 identity key, standard base64 without padding.
    pub sender_key: String,
    /// One for each device of the other participants and each *other* device of the sender.
    pub ciphertexts: Vec<DeviceCiphertext>,
}

/// The `content` of a message as one device receives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SealedContent<'a> {
    /// How the ciphertext was made.
    pub algorithm: Algorithm,
    /// The sending device's Curve25519 identity key.
    pub sender_key: &'a str,
    /// Which kind of Olm message `body` is.
    pub kind: CiphertextKind,
    /// The ciphertext for this device.
    pub body: &'a str,
}

/// [`SealedContent`] as a client parses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedSealedContent {
    /// How the ciphertext was made.
    pub algorithm: Algorithm,
    /// The sending device's Curve25519 identity key.
    pub sender_key: String,
    /// Which kind of Olm message `body` is.
    pub kind: CiphertextKind,
    /// The ciphertext for this device.
    pub body: String,
}

/// Why an envelope's form is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedEnvelope {
    /// The sender's key is not 32 bytes of unpadded base64.
    #[error("sender_key is not a curve25519 key in unpadded base64")]
    SenderKey,
    /// More than [`CIPHERTEXTS_MAX`] ciphertexts.
    #[error("too many ciphertexts")]
    TooMany,
    /// A body that is not unpadded standard base64.
    #[error("a ciphertext is not unpadded standard base64")]
    NotBase64,
    /// An empty body, or one longer than [`CIPHERTEXT_MAX_BYTES`].
    #[error("a ciphertext is empty or too long")]
    Length,
    /// Two ciphertexts for one device.
    #[error("two ciphertexts are for the same device")]
    Repeated,
}

impl Envelope {
    /// Checks everything about the envelope that needs no knowledge of who has which devices.
    ///
    /// # Errors
    /// The first [`MalformedEnvelope`] found.
    pub fn check_form(&self) -> Result<(), MalformedEnvelope> {
        if !is_key(&self.sender_key) {
            return Err(MalformedEnvelope::SenderKey);
        }
        if self.ciphertexts.len() > CIPHERTEXTS_MAX {
            return Err(MalformedEnvelope::TooMany);
        }
        for (index, ciphertext) in self.ciphertexts.iter().enumerate() {
            if ciphertext.body.is_empty() || ciphertext.body.len() > CIPHERTEXT_MAX_BYTES {
                return Err(MalformedEnvelope::Length);
            }
            if !is_unpadded_base64(&ciphertext.body) {
                return Err(MalformedEnvelope::NotBase64);
            }
            // At most CIPHERTEXTS_MAX of them: comparing pairs is cheaper than building a set.
            let same = |other: &DeviceCiphertext| {
                other.user_id == ciphertext.user_id && other.device_id == ciphertext.device_id
            };
            if self.ciphertexts[..index].iter().any(same) {
                return Err(MalformedEnvelope::Repeated);
            }
        }
        Ok(())
    }

    /// Compares the devices this envelope is for with those it must be for; `expected` names no device twice.
    ///
    /// # Errors
    /// [`WrongDevices`] names what is missing and what is extra.
    pub fn check_devices(&self, expected: &[DeviceAddress]) -> Result<(), WrongDevices> {
        // Both sides hold at most CIPHERTEXTS_MAX devices and no device twice; the usual case allocates nothing.
        let is_expected = |c: &DeviceCiphertext| {
            expected.iter().any(|e| e.user_id == c.user_id && e.device_id == c.device_id)
        };
        if self.ciphertexts.len() == expected.len() && self.ciphertexts.iter().all(is_expected) {
            return Ok(());
        }
        let given: BTreeSet<DeviceAddress> = self
            .ciphertexts
            .iter()
            .map(|c| DeviceAddress { user_id: c.user_id, device_id: c.device_id.clone() })
            .collect();
        let expected: BTreeSet<DeviceAddress> = expected.iter().cloned().collect();
        Err(WrongDevices {
            missing: expected.difference(&given).cloned().collect(),
            extra: given.difference(&expected).cloned().collect(),
        })
    }

    /// The ciphertext for one device, or nothing if the envelope was not made for it.
    #[must_use]
    pub fn sealed_for(&self, user_id: UserId, device_id: &DeviceId) -> Option<SealedContent<'_>> {
        let own = self.ciphertexts.iter().find(|c| c.user_id == user_id && c.device_id == *device_id)?;
        Some(SealedContent {
            algorithm: self.algorithm,
            sender_key: &self.sender_key,
            kind: own.kind,
            body: &own.body,
        })
    }
}

/// The difference between the devices an envelope is for and those it must be for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrongDevices {
    /// Devices that have no ciphertext.
    pub missing: Vec<DeviceAddress>,
    /// Devices that have one and are not recipients.
    pub extra: Vec<DeviceAddress>,
}

/// 32 bytes are 43 characters of unpadded base64.
const KEY_BASE64_BYTES: usize = 43;

/// Is `text` a 32-byte key in unpadded standard base64?
#[must_use]
pub fn is_key(text: &str) -> bool {
    text.len() == KEY_BASE64_BYTES && is_unpadded_base64(text)
}

/// Is `text` standard base64 (RFC 4648, section 4) without padding? Checks the form; decodes nothing.
#[must_use]
pub fn is_unpadded_base64(text: &str) -> bool {
    const IN_ALPHABET: [bool; 256] = {
        let mut table = [false; 256];
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut i = 0;
        while i < alphabet.len() {
            table[alphabet[i] as usize] = true;
            i += 1;
        }
        table
    };
    // A lone last character carries 6 bits: no whole byte ends there.
    text.len() % 4 != 1 && text.bytes().all(|b| IN_ALPHABET[usize::from(b)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn address(user: u128, device: &str) -> DeviceAddress {
        DeviceAddress { user_id: UserId(Uuid::from_u128(user)), device_id: DeviceId::new(device).unwrap() }
    }

    fn envelope(devices: &[DeviceAddress]) -> Envelope {
        Envelope {
            algorithm: Algorithm::OlmV1,
            sender_key: "A".repeat(KEY_BASE64_BYTES),
            ciphertexts: devices
                .iter()
                .map(|d| DeviceCiphertext {
                    user_id: d.user_id,
                    device_id: d.device_id.clone(),
                    kind: CiphertextKind::Normal,
                    body: "c2VjcmV0".into(),
                })
                .collect(),
        }
    }

    #[test]
    fn what_is_not_base64_or_empty_or_repeated_is_refused() {
        let device = address(1, "phone");
        let good = envelope(std::slice::from_ref(&device));
        assert_eq!(good.check_form(), Ok(()));
        for (body, why) in [
            ("", MalformedEnvelope::Length),
            ("a", MalformedEnvelope::NotBase64),
            ("aGk=", MalformedEnvelope::NotBase64),
            ("hello world!", MalformedEnvelope::NotBase64),
            ("aGk-", MalformedEnvelope::NotBase64),
        ] {
            let mut bad = good.clone();
            bad.ciphertexts[0].body = body.into();
            assert_eq!(bad.check_form(), Err(why), "{body}");
        }
        assert_eq!(envelope(&[device.clone(), device]).check_form(), Err(MalformedEnvelope::Repeated));
        let mut bad = good;
        bad.sender_key = "short".into();
        assert_eq!(bad.check_form(), Err(MalformedEnvelope::SenderKey));
    }

    proptest! {
        #[test]
        fn the_device_check_passes_exactly_when_the_sets_are_equal_and_names_the_difference(
            given in proptest::collection::btree_set((0_u128..4, 0_u8..4), 0..10),
            expected in proptest::collection::btree_set((0_u128..4, 0_u8..4), 0..10),
        ) {
            let devices = |set: &BTreeSet<(u128, u8)>| -> BTreeSet<DeviceAddress> {
                set.iter().map(|(u, d)| address(*u, &format!("d{d}"))).collect()
            };
            let (given, expected) = (devices(&given), devices(&expected));
            let list: Vec<DeviceAddress> = given.iter().cloned().collect();
            let expected_list: Vec<DeviceAddress> = expected.iter().cloned().collect();
            match envelope(&list).check_devices(&expected_list) {
                Ok(()) => prop_assert_eq!(given, expected),
                Err(wrong) => {
                    prop_assert_ne!(&given, &expected);
                    let mut mended = given;
                    for extra in &wrong.extra { prop_assert!(mended.remove(extra)); }
                    for missing in wrong.missing { prop_assert!(mended.insert(missing)); }
                    prop_assert_eq!(mended, expected);
                }
            }
        }

        #[test]
        fn a_device_is_handed_its_own_ciphertext_and_no_other(
            set in proptest::collection::btree_set((0_u128..4, 0_u8..4), 0..10), user in 0_u128..4, device in 0_u8..4,
        ) {
            let list: Vec<DeviceAddress> = set.iter().map(|(u, d)| address(*u, &format!("d{d}"))).collect();
            let mut made = envelope(&list);
            for (index, c) in made.ciphertexts.iter_mut().enumerate() { c.body = format!("{index:04}"); }
            let own = address(user, &format!("d{device}"));
            let sealed = made.sealed_for(own.user_id, &own.device_id).map(|s| s.body.to_owned());
            let index = list.iter().position(|d| *d == own).map(|i| format!("{i:04}"));
            prop_assert_eq!(sealed, index);
        }
    }
}
