//! The exact bytes a device signs (Ed25519) when it publishes keys.
//!
//! A signature binds a key to its owner, its device and its purpose, so that a server can neither pass one
//! device's key off as another's nor a one-time key as a fallback key. The server checks signatures to refuse
//! mistakes early; clients check them because they do not trust the server.

use crate::ids::{DeviceId, UserId};

/// What a signed Curve25519 key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPurpose {
    /// The device's long-term Curve25519 identity key.
    Identity,
    /// A key that opens one session and is then gone.
    OneTime,
    /// The key that opens sessions while no one-time key is left.
    Fallback,
}

/// The message a device signs to publish `key` (unpadded base64) under `key_id`.
///
/// Fields are joined by a NUL byte, which none of them can hold. The identity key has an empty `key_id`.
#[must_use]
pub fn key_message(
    purpose: KeyPurpose,
    user_id: UserId,
    device_id: &DeviceId,
    key_id: &str,
    key: &str,
) -> Vec<u8> {
    let purpose = match purpose {
        KeyPurpose::Identity => "identity",
        KeyPurpose::OneTime => "one-time",
        KeyPurpose::Fallback => "fallback",
    };
    format!("colloquy/device-key/1\0{purpose}\0{user_id}\0{device_id}\0{key_id}\0{key}").into_bytes()
}
