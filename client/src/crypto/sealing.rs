//! One plaintext for a set of devices.

use colloquy_protocol::envelope::{Algorithm, Envelope};
use colloquy_protocol::ids::{ConversationId, DeviceAddress, IdempotencyKey};
use colloquy_protocol::limits::{CIPHERTEXTS_MAX, FRAME_MAX_BYTES};
use serde::{Deserialize, Serialize};
use vodozemac::Curve25519PublicKey;

use super::account::OwnIdentity;
use super::peer::PeerDevice;
use super::plaintext::{Body, Plaintext, TEXT_MAX_BYTES};

/// What a frame has beside its ciphertexts at most, and each ciphertext beside the text, bytes as they are sent.
const OVERHEAD_MAX_BYTES: usize = 1024;

/// A device that was told what a message says, by the key it had then: only it may be told again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The device.
    pub address: DeviceAddress,
    /// Its identity key at that time. The same device id under another key is another device.
    pub identity_key: Curve25519PublicKey,
}

impl Told {
    /// Those of `peers` that a message with this `only_for` tells its body.
    #[must_use]
    pub fn of(peers: &[PeerDevice], only_for: Option<&DeviceAddress>) -> Vec<Self> {
        let concerned = peers.iter().filter(|peer| only_for.is_none_or(|only| only == peer.address()));
        concerned.map(Self::by).collect()
    }

    /// Is `peer` the device that was told?
    #[must_use]
    pub fn is(&self, peer: &PeerDevice) -> bool {
        self.address == *peer.address() && self.identity_key == peer.identity_key()
    }

    fn by(peer: &PeerDevice) -> Self {
        Self { address: peer.address().clone(), identity_key: peer.identity_key() }
    }
}

/// Why nothing was encrypted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Claim a key for each of these devices, open a session with it, and try again. No ratchet has moved.
    #[error("keys must be claimed for {} devices", .0.len())]
    NeedKeys(Vec<DeviceAddress>),
    /// More devices than an envelope may have ciphertexts.
    #[error("more than {CIPHERTEXTS_MAX} devices")]
    TooManyDevices,
}

/// What is to be encrypted, apart from who it is for.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// Where it belongs.
    pub conversation_id: ConversationId,
    /// The message's key.
    pub idempotency_key: IdempotencyKey,
    /// What it says.
    pub body: &'a Body,
    /// If given, only this device is told `body`; the others get [`Body::Blank`].
    pub only_for: Option<&'a DeviceAddress>,
}

/// The longest text, bytes of UTF-8, that one message can hold for so many devices: a frame has to hold a ciphertext for each.
#[must_use]
pub fn text_room(devices: usize) -> usize {
    let for_each = (FRAME_MAX_BYTES - OVERHEAD_MAX_BYTES) / devices.max(1);
    // In base64, three bytes are four.
    (for_each.saturating_sub(OVERHEAD_MAX_BYTES) * 3 / 4).min(TEXT_MAX_BYTES)
}

/// Encrypts `draft` for every device of `peers`, each with its own copy bound to its own address.
///
/// The ratchets of `peers` move: write them back together with the envelope, before it is sent.
///
/// # Errors
/// [`SealError::NeedKeys`] names *all* devices without a usable session, so one round of claims is enough.
pub fn seal(own: &OwnIdentity, peers: &mut [PeerDevice], draft: Draft<'_>) -> Result<Envelope, SealError> {
    if peers.len() > CIPHERTEXTS_MAX {
        return Err(SealError::TooManyDevices);
    }
    let keyless: Vec<DeviceAddress> =
        peers.iter().filter(|peer| peer.needs_key()).map(|peer| peer.address().clone()).collect();
    if !keyless.is_empty() {
        return Err(SealError::NeedKeys(keyless));
    }
    let mut ciphertexts = Vec::with_capacity(peers.len());
    for peer in peers.iter_mut() {
        let concerned = draft.only_for.is_none_or(|only| only == peer.address());
        let plaintext = Plaintext {
            conversation_id: draft.conversation_id,
            sender: own.address.clone(),
            recipient: peer.address().clone(),
            idempotency_key: draft.idempotency_key,
            body: if concerned { draft.body.clone() } else { Body::Blank },
        };
        let Some(ciphertext) = peer.encrypt(&plaintext.to_bytes()) else {
            // Olm refused a degenerate ratchet key: only a new session gets past it.
            peer.wedge();
            return Err(SealError::NeedKeys(vec![peer.address().clone()]));
        };
        ciphertexts.push(ciphertext);
    }
    Ok(Envelope { algorithm: Algorithm::OlmV1, sender_key: own.identity_key.to_base64(), ciphertexts })
}
