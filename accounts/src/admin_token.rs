//! Admin tokens: whoever can read the key that tokens are signed with may administer the installation, and proves it by
//! signing one of these. No password and no secret beside that key is needed.

use std::time::Duration;

use colloquy_protocol::UnixMillis;
use colloquy_storage::ambient::Clock;
use serde::{Deserialize, Serialize};

use crate::access_token::{InvalidToken, SigningFailed, TokenShape, check_times, sign};
use crate::signing_key::SigningKey;

const AUDIENCE: &str = "colloquy/admin";
const TYPE: &str = "admin+jwt";

/// How long one is good for: as long as a command takes.
pub const ADMIN_TOKEN_LIFETIME: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    iat: u64,
    exp: u64,
}

/// Signs one.
///
/// # Errors
/// [`SigningFailed`], which does not happen with a key that was loaded.
pub fn issue_admin_token(key: &SigningKey, issuer: &str, now: UnixMillis) -> Result<String, SigningFailed> {
    let iat = now / 1000;
    let exp = iat.saturating_add(ADMIN_TOKEN_LIFETIME.as_secs());
    sign(key, TYPE, &Claims { iss: issuer.to_owned(), aud: AUDIENCE.to_owned(), iat, exp })
}

/// Verifies them.
#[derive(Debug)]
pub struct AdminTokens {
    shape: TokenShape,
    clock: Clock,
}

impl AdminTokens {
    /// Verifies tokens of `issuer` signed with `key`.
    #[must_use]
    pub fn new(key: &SigningKey, issuer: &str, clock: Clock) -> Self {
        Self { shape: TokenShape::new(key, issuer, AUDIENCE, TYPE), clock }
    }

    /// Does the token count?
    ///
    /// # Errors
    /// [`InvalidToken`] says why not.
    pub fn verify(&self, token: &str) -> Result<(), InvalidToken> {
        let claims: Claims = self.shape.open(token)?;
        check_times(claims.iat, claims.exp, self.clock.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_token::{LEEWAY, TokenIssuer, TokenOptions};
    use colloquy_protocol::ids::{LoginId, UserId};
    use colloquy_storage::ambient::Entropy;
    use std::sync::Arc;
    use uuid::Uuid;

    const NOW: UnixMillis = 1_800_000_000_000;

    #[tokio::test(start_paused = true)]
    async fn only_the_installations_own_key_makes_one_and_only_for_a_short_time() {
        let key = Arc::new(SigningKey::generate(&Entropy::from_seed(1)).unwrap());
        let token = issue_admin_token(&key, "colloquy", NOW).unwrap();
        let at = |millis| AdminTokens::new(&key, "colloquy", Clock::starting_at(millis));
        assert_eq!(at(NOW).verify(&token), Ok(()));
        let later = NOW + u64::try_from((ADMIN_TOKEN_LIFETIME + LEEWAY).as_millis()).unwrap();
        assert_eq!(at(later).verify(&token), Err(InvalidToken::Expired));
        let others = SigningKey::generate(&Entropy::from_seed(2)).unwrap();
        let forged = issue_admin_token(&others, "colloquy", NOW).unwrap();
        assert_eq!(at(NOW).verify(&forged), Err(InvalidToken::Invalid));
        // What makes a user makes no administrator.
        let issuer = TokenIssuer::new(Arc::clone(&key), TokenOptions::default());
        let (user, login) = (UserId(Uuid::from_u128(1)), LoginId(Uuid::from_u128(2)));
        let access = issuer.issue(user, login, NOW).unwrap().token;
        assert_eq!(at(NOW).verify(&access), Err(InvalidToken::Invalid));
    }
}
