//! What two people compare to know that there is nobody between them.
//!
//! For each user: SHA-512 over a version, the user id and the identity and signing keys of all devices in the
//! order of their bytes, iterated [`ITERATIONS`] times with the keys fed in again, and of the result thirty
//! digits. The two halves stand in ascending order, so both sides see the same sixty digits. The iteration
//! makes it dear to search for keys whose digits look alike; five bytes give five digits, as in Signal's numbers.

use std::fmt;

use colloquy_protocol::ids::UserId;
use sha2::{Digest, Sha512};
use vodozemac::{Curve25519PublicKey, Ed25519PublicKey};

use super::peer::PeerDevice;

/// Rounds of SHA-512 per user: about 2^12.3 times the work of one hash for whoever looks for a collision.
pub const ITERATIONS: u32 = 5200;
/// Digits of one user's half.
const HALF_DIGITS: usize = 30;

/// Sixty decimal digits, the same on both sides of a conversation as long as both see the same keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafetyNumber {
    digits: String,
}

/// The public keys of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceFingerprint {
    /// The Curve25519 identity key.
    pub identity_key: Curve25519PublicKey,
    /// The Ed25519 signing key.
    pub signing_key: Ed25519PublicKey,
}

impl DeviceFingerprint {
    /// The pinned keys of another device.
    #[must_use]
    pub fn of(peer: &PeerDevice) -> Self {
        Self { identity_key: peer.identity_key(), signing_key: peer.signing_key() }
    }
}

impl SafetyNumber {
    /// The number of two users and all their devices, in any order.
    #[must_use]
    pub fn between(a: (UserId, &[DeviceFingerprint]), b: (UserId, &[DeviceFingerprint])) -> Self {
        let mut halves = [half(a.0, a.1), half(b.0, b.1)];
        halves.sort_unstable();
        Self { digits: halves.concat() }
    }

    /// The sixty digits without spaces.
    #[must_use]
    pub fn digits(&self) -> &str {
        &self.digits
    }
}

/// Twelve groups of five digits.
impl fmt::Display for SafetyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, digit) in self.digits.chars().enumerate() {
            if index > 0 && index % 5 == 0 {
                f.write_str(" ")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

fn half(user: UserId, devices: &[DeviceFingerprint]) -> String {
    let mut keys: Vec<[u8; 64]> = devices
        .iter()
        .map(|device| {
            let mut bytes = [0; 64];
            bytes[..32].copy_from_slice(device.identity_key.as_bytes());
            bytes[32..].copy_from_slice(device.signing_key.as_bytes());
            bytes
        })
        .collect();
    keys.sort_unstable();
    keys.dedup();
    let keys = keys.concat();
    let mut hash = Sha512::new()
        .chain_update(b"colloquy/safety-number/1\0")
        .chain_update(user.0.as_bytes())
        .chain_update(&keys)
        .finalize();
    for _ in 1..ITERATIONS {
        hash = Sha512::new().chain_update(hash).chain_update(&keys).finalize();
    }
    let mut digits = String::with_capacity(HALF_DIGITS);
    for chunk in hash[..HALF_DIGITS].chunks_exact(5) {
        let number = chunk.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        digits.push_str(&format!("{:05}", number % 100_000));
    }
    digits
}
