//! Sealing values and blinding ids.

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::database::StoreError;
use super::master_key::{KEY_BYTES, MasterKey, NONCE_BYTES};
use crate::ambient;

/// Bytes of a blinded id: 128 bits, so that two ids never meet by chance.
pub(super) const BLINDED_BYTES: usize = 16;
/// The form of a sealed value: this byte, the nonce, the ciphertext and tag.
const SEALED_VERSION: u8 = 1;

/// Holds the keys of an open store; wiped when dropped.
pub(super) struct Sealer {
    aead: XChaCha20Poly1305,
    blinding: Zeroizing<[u8; KEY_BYTES]>,
}

impl Sealer {
    pub(super) fn new(master: &MasterKey) -> Self {
        let values = master.derive("colloquy/store/values/1");
        Self {
            aead: XChaCha20Poly1305::new((&*values).into()),
            blinding: master.derive("colloquy/store/ids/1"),
        }
    }

    /// A keyed hash of an id: equal ids meet, and nobody without the key learns which they are.
    pub(super) fn blind(&self, id: &[u8]) -> [u8; BLINDED_BYTES] {
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&self.blinding[..])
            .expect("an HMAC takes a key of any length");
        mac.update(id);
        let digest = mac.finalize().into_bytes();
        let mut blinded = [0; BLINDED_BYTES];
        blinded.copy_from_slice(&digest[..BLINDED_BYTES]);
        blinded
    }

    /// Seals `value` so that it opens under `record_key` only.
    pub(super) fn seal(&self, record_key: &[u8], value: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        ambient::fill(&mut nonce);
        let ciphertext = self
            .aead
            .encrypt(&nonce.into(), Payload { msg: value, aad: record_key })
            .expect("a record is far below the limits of the cipher");
        let mut sealed = Vec::with_capacity(1 + NONCE_BYTES + ciphertext.len());
        sealed.push(SEALED_VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&ciphertext);
        sealed
    }

    /// The inverse of [`Sealer::seal`].
    pub(super) fn open(&self, record_key: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        const DAMAGED: StoreError = StoreError::Damaged("a sealed record");
        let (version, rest) = sealed.split_first().ok_or(DAMAGED)?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(DAMAGED)?;
        if *version != SEALED_VERSION {
            return Err(DAMAGED);
        }
        self.aead
            .decrypt(&(*nonce).into(), Payload { msg: ciphertext, aad: record_key })
            .map(Zeroizing::new)
            .map_err(|_| DAMAGED)
    }
}
