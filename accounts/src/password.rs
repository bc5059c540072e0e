//! Passwords: argon2id, off the async threads, and no more at once than the machine has memory and time for.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use colloquy_protocol::limits::{PASSWORD_MAX_BYTES, PASSWORD_MIN_BYTES};
use colloquy_storage::ambient::{Entropy, Workers};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use crate::invalid_field::InvalidField;

/// Bytes of salt: what the PHC string format recommends.
const SALT_BYTES: usize = 16;

/// What one hash costs, and how many may be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PasswordOptions {
    /// Memory of one hash, KiB. 19 MiB with two passes is OWASP's recommendation for argon2id.
    pub memory_kib: u32,
    /// Passes over that memory.
    pub iterations: u32,
    /// Lanes.
    pub parallelism: u32,
    /// Hashes computed at the same time. Each takes a thread and `memory_kib`.
    pub concurrent_max: usize,
    /// Hashes that may wait for their turn. One more is refused with [`PasswordError::Busy`]: whoever waits behind so
    /// many has gone by the time it is theirs.
    pub waiting_max: usize,
}

impl Default for PasswordOptions {
    fn default() -> Self {
        Self { memory_kib: 19 * 1024, iterations: 2, parallelism: 1, concurrent_max: 2, waiting_max: 64 }
    }
}

impl PasswordOptions {
    /// The least that argon2 allows; for tests and simulations.
    #[must_use]
    pub fn cheapest() -> Self {
        Self { memory_kib: 8, iterations: 1, ..Self::default() }
    }
}

/// A password in the clear. Wiped when dropped; `Debug` shows nothing.
pub struct Password(Zeroizing<String>);

impl Password {
    /// # Errors
    /// [`InvalidField`] unless `text` is 8 to 256 bytes long.
    pub fn new(text: String) -> Result<Self, InvalidField> {
        let text = Zeroizing::new(text);
        if (PASSWORD_MIN_BYTES..=PASSWORD_MAX_BYTES).contains(&text.len()) {
            return Ok(Self(text));
        }
        Err(InvalidField::new("password", "8 to 256 bytes"))
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Why a password was neither hashed nor checked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// As many hashes as allowed are under way or waiting (BOUND).
    #[error("too many passwords are being checked")]
    Busy,
    /// The options are not ones argon2 accepts.
    #[error("argon2 does not accept these options: {0}")]
    Options(argon2::Error),
    /// The stored hash is not in PHC form, or hashing failed.
    #[error("a stored password hash is unreadable")]
    Unreadable,
}

/// Hashes and checks passwords.
#[derive(Debug)]
pub struct Passwords {
    argon2: Argon2<'static>,
    /// Held from admission to the end: bounds who computes and who waits together.
    admitted: Arc<Semaphore>,
    /// Held while computing.
    computing: Arc<Semaphore>,
    /// Checked against when there is no such user, so that the answer takes as long.
    nobody: String,
    entropy: Entropy,
    workers: Workers,
}

impl Passwords {
    /// Computes one hash, to have one to check against for unknown users.
    ///
    /// # Errors
    /// [`PasswordError::Options`] if argon2 refuses the cost.
    pub fn new(options: PasswordOptions, entropy: Entropy, workers: Workers) -> Result<Self, PasswordError> {
        let params = Params::new(options.memory_kib, options.iterations, options.parallelism, None)
            .map_err(PasswordError::Options)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let concurrent = options.concurrent_max.clamp(1, Semaphore::MAX_PERMITS / 2);
        let waiting = options.waiting_max.min(Semaphore::MAX_PERMITS / 2);
        let mut unknown = Zeroizing::new([0_u8; 32]);
        entropy.fill(&mut *unknown);
        let nobody = hash(&argon2, &*unknown, &salt(&entropy))?;
        Ok(Self {
            argon2,
            admitted: Arc::new(Semaphore::new(concurrent + waiting)),
            computing: Arc::new(Semaphore::new(concurrent)),
            nobody,
            entropy,
            workers,
        })
    }

    /// The hash of a new password, in PHC form.
    ///
    /// # Errors
    /// [`PasswordError::Busy`] at the bound.
    pub async fn hash(&self, password: Password) -> Result<String, PasswordError> {
        let (argon2, salt) = (self.argon2.clone(), salt(&self.entropy));
        self.compute(move || hash(&argon2, password.0.as_bytes(), &salt)).await
    }

    /// Is it the password behind `stored`? Without a stored hash the answer is no, and takes as long to come.
    ///
    /// # Errors
    /// [`PasswordError::Busy`] at the bound, [`PasswordError::Unreadable`] for a hash that is not one.
    pub async fn verify(&self, password: Password, stored: Option<&str>) -> Result<bool, PasswordError> {
        let known = stored.is_some();
        let stored = stored.unwrap_or(&self.nobody).to_owned();
        let argon2 = self.argon2.clone();
        let matches = self.compute(move || {
            let stored = PasswordHash::new(&stored).map_err(|_| PasswordError::Unreadable)?;
            // Compares in constant time, with the cost that stands in the stored hash.
            match argon2.verify_password(password.0.as_bytes(), &stored) {
                Ok(()) => Ok(true),
                Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
                Err(_) => Err(PasswordError::Unreadable),
            }
        });
        Ok(matches.await? && known)
    }

    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let admitted = Arc::clone(&self.admitted).try_acquire_owned().map_err(|_| PasswordError::Busy)?;
        let computing = Arc::clone(&self.computing).acquire_owned().await.map_err(|_| PasswordError::Busy)?;
        // The permits go along: a caller that gives up does not free the thread that still computes.
        let permits: (OwnedSemaphorePermit, OwnedSemaphorePermit) = (admitted, computing);
        let done = self.workers.run(move || {
            let result = work();
            drop(permits);
            result
        });
        done.await.map_err(|_| PasswordError::Unreadable)?
    }
}

fn salt(entropy: &Entropy) -> [u8; SALT_BYTES] {
    let mut salt = [0_u8; SALT_BYTES];
    entropy.fill(&mut salt);
    salt
}

fn hash(argon2: &Argon2<'_>, password: &[u8], salt: &[u8]) -> Result<String, PasswordError> {
    let hash: PasswordHash =
        argon2.hash_password_with_salt(password, salt).map_err(|_| PasswordError::Unreadable)?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords(options: PasswordOptions) -> Passwords {
        Passwords::new(options, Entropy::from_seed(1), Workers::Threads).unwrap()
    }

    fn password(text: &str) -> Password {
        Password::new(text.to_owned()).unwrap()
    }

    #[tokio::test]
    async fn a_password_matches_its_own_hash_only() {
        let passwords = passwords(PasswordOptions::cheapest());
        let stored = passwords.hash(password("correct horse")).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=8,t=1,p=1$"));
        assert!(passwords.verify(password("correct horse"), Some(&stored)).await.unwrap());
        assert!(!passwords.verify(password("correct h0rse"), Some(&stored)).await.unwrap());
    }

    #[tokio::test]
    async fn two_hashes_of_one_password_differ() {
        let passwords = passwords(PasswordOptions::cheapest());
        let first = passwords.hash(password("correct horse")).await.unwrap();
        assert_ne!(first, passwords.hash(password("correct horse")).await.unwrap());
    }

    #[tokio::test]
    async fn nobody_has_a_password() {
        let passwords = passwords(PasswordOptions::cheapest());
        assert!(!passwords.verify(password("correct horse"), None).await.unwrap());
        let unreadable = passwords.verify(password("correct horse"), Some("not a hash")).await;
        assert_eq!(unreadable, Err(PasswordError::Unreadable));
    }

    #[tokio::test]
    async fn what_would_wait_beyond_the_bound_is_refused_at_once() {
        let passwords =
            passwords(PasswordOptions { concurrent_max: 1, waiting_max: 1, ..PasswordOptions::cheapest() });
        let _computing = passwords.admitted.try_acquire().unwrap();
        let _waiting = passwords.admitted.try_acquire().unwrap();
        assert_eq!(passwords.hash(password("correct horse")).await, Err(PasswordError::Busy));
    }

    #[test]
    fn a_password_is_8_to_256_bytes_and_never_shown() {
        assert!(Password::new("1234567".into()).is_err());
        assert!(Password::new("x".repeat(257)).is_err());
        assert!(Password::new("x".repeat(256)).is_ok());
        assert_eq!(format!("{:?}", password("12345678")), "Password(..)");
    }

    #[test]
    fn a_cost_that_argon2_refuses_is_an_error() {
        let options = PasswordOptions { memory_kib: 0, ..PasswordOptions::default() };
        let refused = Passwords::new(options, Entropy::from_seed(1), Workers::Threads);
        assert!(matches!(refused, Err(PasswordError::Options(_))));
    }
}
