//! The Ed25519 key that signs every token, and the file it is kept in.
//!
//! The file is PKCS#8, in PEM as `openssl genpkey -algorithm ed25519` writes it (DER is read too). Whoever can read
//! it can be any user, so a file that others may read is refused rather than used.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use colloquy_storage::ambient::Entropy;
use jsonwebtoken::{DecodingKey, EncodingKey};
use serde::Serialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

/// Permission bits that a key file must not have: anything for group and others.
const FORBIDDEN_MODE: u32 = 0o077;
/// A PKCS#8 Ed25519 key takes about 120 bytes; more than this is not one.
const FILE_MAX_BYTES: u64 = 4096;
const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

/// Why there is no signing key.
#[derive(Debug, thiserror::Error)]
pub enum SigningKeyError {
    /// The file cannot be read or made.
    #[error("the signing key file {path} cannot be used")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It should be there.
    #[error(
        "there is no signing key at {path}: make one with `openssl genpkey -algorithm ed25519`, mode 600"
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Group or others may read it.
    #[error("the signing key file {path} has mode {mode:03o}; it must be 600")]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not a PKCS#8 Ed25519 private key.
    #[error("the signing key file {path} does not hold a PKCS#8 Ed25519 private key")]
    Contents {
        /// The file.
        path: PathBuf,
    },
    /// The cryptographic library failed.
    #[error("a signing key could not be made")]
    Generation,
}

/// The key pair. `Debug` shows the thumbprint only.
pub struct SigningKey {
    encoding: EncodingKey,
    public: [u8; 32],
    key_id: String,
    secrets: hmac::Key,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// A public key as a JSON Web Key (RFC 7517, RFC 8037).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct JsonWebKey {
    /// Always `OKP`.
    pub kty: &'static str,
    /// Always `Ed25519`.
    pub crv: &'static str,
    /// Always `EdDSA`.
    pub alg: &'static str,
    /// Always `sig`.
    pub r#use: &'static str,
    /// The key's thumbprint (RFC 7638); stands in the header of every token it signed.
    pub kid: String,
    /// The public key, base64url.
    pub x: String,
}

/// The keys that tokens are verified with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct JsonWebKeySet {
    /// One key.
    pub keys: Vec<JsonWebKey>,
}

impl SigningKey {
    /// Draws a new key.
    ///
    /// # Errors
    /// [`SigningKeyError::Generation`] if the library refuses the seed.
    pub fn generate(entropy: &Entropy) -> Result<Self, SigningKeyError> {
        let pkcs8 = draw(entropy)?;
        Self::from_pkcs8(&pkcs8).ok_or(SigningKeyError::Generation)
    }

    /// Reads the key from `path`, or makes one there. Processes that start at the same time agree on one key.
    ///
    /// # Errors
    /// [`SigningKeyError`] says what is wrong with the file.
    pub fn load_or_create(path: &Path, entropy: &Entropy) -> Result<Self, SigningKeyError> {
        if let Some(key) = Self::load(path)? {
            return Ok(key);
        }
        let pkcs8 = draw(entropy)?;
        let file_error = |source| SigningKeyError::File { path: path.to_owned(), source };
        place(path, &to_pem(&pkcs8), entropy).map_err(file_error)?;
        // Read back what stands there now: it may be another process's key.
        Self::load(path)?.ok_or_else(|| file_error(io::ErrorKind::NotFound.into()))
    }

    /// Reads the key from `path`: for a key that several processes share, which none of them makes.
    ///
    /// # Errors
    /// [`SigningKeyError`] says what is wrong with the file.
    pub fn read(path: &Path) -> Result<Self, SigningKeyError> {
        Self::load(path)?.ok_or_else(|| SigningKeyError::Missing { path: path.to_owned() })
    }

    fn load(path: &Path) -> Result<Option<Self>, SigningKeyError> {
        let file_error = |source| SigningKeyError::File { path: path.to_owned(), source };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file_error(error)),
        };
        let mode = file.metadata().map_err(file_error)?.mode() & 0o777;
        if mode & FORBIDDEN_MODE != 0 {
            return Err(SigningKeyError::Permissions { path: path.to_owned(), mode });
        }
        let mut contents = Zeroizing::new(Vec::new());
        file.take(FILE_MAX_BYTES).read_to_end(&mut contents).map_err(file_error)?;
        let key = match from_pem(&contents) {
            Some(pkcs8) => Self::from_pkcs8(&pkcs8),
            None => Self::from_pkcs8(&contents),
        };
        key.map(Some).ok_or_else(|| SigningKeyError::Contents { path: path.to_owned() })
    }

    fn from_pkcs8(pkcs8: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).ok()?;
        let public: [u8; 32] = pair.public_key().as_ref().try_into().ok()?;
        let key_id = thumbprint(&public);
        let secrets = hmac::Key::new(hmac::HMAC_SHA256, pkcs8);
        Some(Self { encoding: EncodingKey::from_ed_der(pkcs8), public, key_id, secrets })
    }

    /// The thumbprint (RFC 7638) that names the key.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// A secret for one purpose, the same on all pods that share the key; says nothing about the key, or about those for other
    /// purposes (HMAC-SHA-256 as a key derivation function: NIST SP 800-108, section 4.1).
    #[must_use]
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        let mut secret = [0; 32];
        secret.copy_from_slice(hmac::sign(&self.secrets, purpose.as_bytes()).as_ref());
        secret
    }

    /// What other services verify access tokens with.
    #[must_use]
    pub fn json_web_keys(&self) -> JsonWebKeySet {
        let key = JsonWebKey {
            kty: "OKP",
            crv: "Ed25519",
            alg: "EdDSA",
            r#use: "sig",
            kid: self.key_id.clone(),
            x: URL_SAFE_NO_PAD.encode(self.public),
        };
        JsonWebKeySet { keys: vec![key] }
    }

    pub(crate) fn encoding(&self) -> &EncodingKey {
        &self.encoding
    }

    pub(crate) fn decoding(&self) -> DecodingKey {
        DecodingKey::from_ed_der(&self.public)
    }
}

fn draw(entropy: &Entropy) -> Result<Zeroizing<Vec<u8>>, SigningKeyError> {
    let mut seed = Zeroizing::new([0_u8; 32]);
    entropy.fill(&mut *seed);
    let pair = Ed25519KeyPair::from_seed_unchecked(&*seed).map_err(|_| SigningKeyError::Generation)?;
    let pkcs8 = pair.to_pkcs8v1().map_err(|_| SigningKeyError::Generation)?;
    Ok(Zeroizing::new(pkcs8.as_ref().to_vec()))
}

/// RFC 7638 over the members that RFC 8037, section 2 requires, in lexicographic order.
fn thumbprint(public: &[u8; 32]) -> String {
    let json = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, URL_SAFE_NO_PAD.encode(public));
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, json.as_bytes()))
}

fn to_pem(pkcs8: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(pkcs8));
    Zeroizing::new(format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", *body))
}

fn from_pem(contents: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = std::str::from_utf8(contents).ok()?.trim();
    let body = text.strip_prefix(PEM_BEGIN)?.strip_suffix(PEM_END)?;
    let body: Zeroizing<String> = Zeroizing::new(body.split_whitespace().collect());
    STANDARD.decode(body.as_bytes()).ok().map(Zeroizing::new)
}

/// Makes `path` with `contents` unless it is there. It appears whole or not at all: written beside it first, then
/// linked to its name, which fails if another process was first (and then its file stands).
fn place(path: &Path, contents: &str, entropy: &Entropy) -> io::Result<()> {
    let mut nonce = [0_u8; 8];
    entropy.fill(&mut nonce);
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{:016x}.tmp", u64::from_be_bytes(nonce)));
    let beside = PathBuf::from(beside);
    let written = write_new(&beside, contents).and_then(|()| match fs::hard_link(&beside, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    });
    let removed = fs::remove_file(&beside);
    written.and(removed)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Without this a power cut can take the name back, and with it every token signed since.
    File::open(folder)?.sync_all()
}

fn write_new(path: &Path, contents: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(contents.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_key_is_made_once_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing.pem");
        let first = SigningKey::load_or_create(&path, &Entropy::from_seed(1)).unwrap();
        let again = SigningKey::load_or_create(&path, &Entropy::from_seed(2)).unwrap();
        assert_eq!(first.key_id(), again.key_id());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn processes_that_start_together_agree_on_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing.pem");
        let barrier = std::sync::Barrier::new(8);
        let key_ids: std::collections::BTreeSet<String> = std::thread::scope(|scope| {
            let start = |seed| {
                let (path, barrier) = (&path, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let key = SigningKey::load_or_create(path, &Entropy::from_seed(seed)).unwrap();
                    key.key_id().to_owned()
                })
            };
            let started: Vec<_> = (0..8).map(start).collect();
            started.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(key_ids.len(), 1);
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing.pem");
        SigningKey::load_or_create(&path, &Entropy::from_seed(1)).unwrap();
        chmod(&path, 0o640);
        let error = SigningKey::load_or_create(&path, &Entropy::from_seed(1)).unwrap_err();
        assert!(matches!(error, SigningKeyError::Permissions { mode: 0o640, .. }), "{error}");
        assert!(error.to_string().contains("must be 600"));
    }

    #[test]
    fn a_file_that_is_not_a_key_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing.pem");
        for contents in ["", "garbage", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            fs::write(&path, contents).unwrap();
            chmod(&path, 0o600);
            let error = SigningKey::load_or_create(&path, &Entropy::from_seed(1)).unwrap_err();
            assert!(matches!(error, SigningKeyError::Contents { .. }), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), contents);
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("signing.pem");
        let error = SigningKey::load_or_create(&path, &Entropy::from_seed(1)).unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
    }

    #[test]
    fn der_is_read_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing.der");
        let pkcs8 = draw(&Entropy::from_seed(1)).unwrap();
        fs::write(&path, &*pkcs8).unwrap();
        chmod(&path, 0o600);
        let key = SigningKey::load_or_create(&path, &Entropy::from_seed(2)).unwrap();
        assert_eq!(key.key_id(), SigningKey::generate(&Entropy::from_seed(1)).unwrap().key_id());
    }

    #[test]
    fn the_thumbprint_is_the_one_of_rfc_8037_appendix_a_3() {
        let x = URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        assert_eq!(thumbprint(&x.try_into().unwrap()), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }
}
