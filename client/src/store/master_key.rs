//! Passphrase or key file, and the keys derived from them.
//!
//! A random master key seals the database. It is itself stored, wrapped under a key that argon2id makes from the
//! passphrase, or that lies in a file only its owner can read. HKDF derives one key per purpose from it.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use hkdf::Hkdf;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use super::database::StoreError;
use crate::ambient;

/// Bytes of every symmetric key.
pub(super) const KEY_BYTES: usize = 32;
/// Bytes of an XChaCha20 nonce: long enough to be drawn at random for ever.
pub(super) const NONCE_BYTES: usize = 24;
/// Memory one passphrase guess costs, KiB.
const ARGON2_MEMORY_KIB: u32 = 64 * 1024;
/// Passes over that memory.
const ARGON2_PASSES: u32 = 3;
/// Lanes; one, because a desktop unlocks one store at a time.
const ARGON2_LANES: u32 = 1;
/// The most memory a stored header may ask for, KiB: a damaged file must not exhaust the machine.
const ARGON2_MEMORY_MAX_KIB: u32 = 1024 * 1024;
/// The most passes a stored header may ask for.
const ARGON2_PASSES_MAX: u32 = 64;
const SALT_BYTES: usize = 16;
/// Added to the name of a key file that is being written.
const UNFINISHED_SUFFIX: &str = ".unfinished";
const WRAP_CONTEXT: &[u8] = b"colloquy/store/master-key/1";

/// What unlocks a store.
#[derive(Clone)]
pub enum Unlock {
    /// A passphrase a person types.
    Passphrase(Zeroizing<String>),
    /// A file of 32 random bytes with mode 0600, made on first use.
    KeyFile(PathBuf),
}

impl Unlock {
    /// A passphrase; the text is wiped when the last copy is dropped.
    #[must_use]
    pub fn passphrase(text: impl Into<String>) -> Self {
        Self::Passphrase(Zeroizing::new(text.into()))
    }
}

impl std::fmt::Debug for Unlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Passphrase(..)",
            Self::KeyFile(_) => "KeyFile(..)",
        })
    }
}

/// How the wrapping key is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Derivation {
    Argon2id { salt: [u8; SALT_BYTES], memory_kib: u32, passes: u32, lanes: u32 },
    KeyFile,
}

/// The one record that is not sealed: how to unlock the others.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Header {
    derivation: Derivation,
    nonce: [u8; NONCE_BYTES],
    wrapped: Vec<u8>,
}

/// The key everything else is derived from; wiped when dropped.
pub(super) struct MasterKey(Zeroizing<[u8; KEY_BYTES]>);

impl MasterKey {
    /// A new master key and the header that unlocks it.
    pub(super) fn create(unlock: &Unlock) -> Result<(Self, Header), StoreError> {
        let mut master = Zeroizing::new([0; KEY_BYTES]);
        ambient::fill(&mut master[..]);
        let derivation = match unlock {
            Unlock::KeyFile(_) => Derivation::KeyFile,
            Unlock::Passphrase(_) => {
                let mut salt = [0; SALT_BYTES];
                ambient::fill(&mut salt);
                Derivation::Argon2id {
                    salt,
                    memory_kib: ARGON2_MEMORY_KIB,
                    passes: ARGON2_PASSES,
                    lanes: ARGON2_LANES,
                }
            }
        };
        let wrapping = wrapping_key(unlock, &derivation, true)?;
        let mut nonce = [0; NONCE_BYTES];
        ambient::fill(&mut nonce);
        let wrapped = aead(&wrapping)
            .encrypt(&nonce.into(), Payload { msg: &master[..], aad: WRAP_CONTEXT })
            .expect("32 bytes are within the limits of the cipher");
        Ok((Self(master), Header { derivation, nonce, wrapped }))
    }

    /// The master key of an existing store.
    pub(super) fn unlock(unlock: &Unlock, header: &Header) -> Result<Self, StoreError> {
        let wrapping = wrapping_key(unlock, &header.derivation, false)?;
        let payload = Payload { msg: &header.wrapped, aad: WRAP_CONTEXT };
        let master = aead(&wrapping)
            .decrypt(&header.nonce.into(), payload)
            .map(Zeroizing::new)
            .map_err(|_| StoreError::WrongKey)?;
        let master = <[u8; KEY_BYTES]>::try_from(&master[..]).map_err(|_| StoreError::WrongKey)?;
        Ok(Self(Zeroizing::new(master)))
    }

    /// The key for one purpose.
    pub(super) fn derive(&self, purpose: &str) -> Zeroizing<[u8; KEY_BYTES]> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        Hkdf::<Sha256>::new(None, &self.0[..])
            .expand(purpose.as_bytes(), &mut key[..])
            .expect("32 bytes are within what HKDF-SHA-256 can expand to");
        key
    }
}

fn aead(key: &[u8; KEY_BYTES]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.into())
}

fn wrapping_key(
    unlock: &Unlock,
    derivation: &Derivation,
    create: bool,
) -> Result<Zeroizing<[u8; KEY_BYTES]>, StoreError> {
    match (unlock, derivation) {
        (Unlock::Passphrase(passphrase), Derivation::Argon2id { salt, memory_kib, passes, lanes }) => {
            if *memory_kib > ARGON2_MEMORY_MAX_KIB || *passes > ARGON2_PASSES_MAX {
                return Err(StoreError::Damaged("key derivation parameters"));
            }
            let params = Params::new(*memory_kib, *passes, *lanes, Some(KEY_BYTES))
                .map_err(|_| StoreError::Damaged("key derivation parameters"))?;
            let mut key = Zeroizing::new([0; KEY_BYTES]);
            Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                .hash_password_into(passphrase.as_bytes(), salt, &mut key[..])
                .map_err(|_| StoreError::Damaged("key derivation parameters"))?;
            Ok(key)
        }
        (Unlock::KeyFile(path), Derivation::KeyFile) => {
            if create && !path.exists() {
                create_key_file(path)
            } else {
                read_key_file(path)
            }
        }
        (Unlock::Passphrase(_), Derivation::KeyFile) => Err(StoreError::NeedsKeyFile),
        (Unlock::KeyFile(_), Derivation::Argon2id { .. }) => Err(StoreError::NeedsPassphrase),
    }
}

/// Makes the key file whole or not at all: half a key would lock the store for ever.
fn create_key_file(path: &Path) -> Result<Zeroizing<[u8; KEY_BYTES]>, StoreError> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    ambient::fill(&mut key[..]);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(UNFINISHED_SUFFIX);
    let unfinished = PathBuf::from(unfinished);
    // One that a crash left behind sealed nothing. It is not written over: its mode is not known.
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(&unfinished)?;
    file.write_all(&key[..])?;
    // The file, and its name, must survive a crash before anything is sealed with it.
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(key)
}

fn read_key_file(path: &Path) -> Result<Zeroizing<[u8; KEY_BYTES]>, StoreError> {
    let file = File::open(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            return Err(StoreError::KeyFileExposed);
        }
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_BYTES + 1));
    file.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    let mut key = <[u8; KEY_BYTES]>::try_from(&bytes[..]).map_err(|_| StoreError::Damaged("key file"))?;
    let wiped = Zeroizing::new(key);
    key.zeroize();
    Ok(wiped)
}
