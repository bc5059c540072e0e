//! Refresh tokens: each is good for one refresh of one log-in.
//!
//! A refresh token is signed, so the store keeps only which generation of a log-in is the newest; a stolen copy of
//! the store opens no log-in. A token of another audience than the access tokens': one can never pass for the other.

use std::sync::Arc;

use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::LoginId;
use serde::{Deserialize, Serialize};

use crate::access_token::{InvalidToken, SigningFailed, TokenOptions, TokenShape, check_times, sign};
use crate::signing_key::SigningKey;

const AUDIENCE: &str = "colloquy/refresh";
const TYPE: &str = "rt+jwt";

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sid: LoginId,
    /// Which generation of the log-in's tokens this is.
    r#gen: u64,
    iat: u64,
    exp: u64,
}

/// What a refresh token that verifies says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RefreshClaims {
    pub(crate) login_id: LoginId,
    pub(crate) generation: u64,
}

/// Issues and verifies refresh tokens.
#[derive(Debug)]
pub(crate) struct RefreshTokens {
    key: Arc<SigningKey>,
    shape: TokenShape,
    options: TokenOptions,
}

impl RefreshTokens {
    pub(crate) fn new(key: Arc<SigningKey>, options: TokenOptions) -> Self {
        let shape = TokenShape::new(&key, &options.issuer, AUDIENCE, TYPE);
        Self { key, shape, options }
    }

    pub(crate) fn issue(
        &self,
        login_id: LoginId,
        generation: u64,
        now: UnixMillis,
    ) -> Result<String, SigningFailed> {
        let iat = now / 1000;
        let exp = iat.saturating_add(self.options.refresh_lifetime_secs);
        let iss = self.options.issuer.clone();
        let claims = Claims { iss, aud: AUDIENCE.to_owned(), sid: login_id, r#gen: generation, iat, exp };
        sign(&self.key, TYPE, &claims)
    }

    pub(crate) fn verify(&self, token: &str, now: UnixMillis) -> Result<RefreshClaims, InvalidToken> {
        let claims: Claims = self.shape.open(token)?;
        check_times(claims.iat, claims.exp, now)?;
        Ok(RefreshClaims { login_id: claims.sid, generation: claims.r#gen })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_token::{TokenIssuer, TokenVerifier};
    use colloquy_protocol::ids::UserId;
    use colloquy_storage::ambient::{Clock, Entropy};
    use uuid::Uuid;

    const NOW: UnixMillis = 1_800_000_000_000;
    const LOGIN: LoginId = LoginId(Uuid::from_u128(2));

    #[tokio::test(start_paused = true)]
    async fn neither_kind_of_token_passes_for_the_other() {
        let key = Arc::new(SigningKey::generate(&Entropy::from_seed(1)).unwrap());
        let refresh = RefreshTokens::new(Arc::clone(&key), TokenOptions::default());
        let issuer = TokenIssuer::new(Arc::clone(&key), TokenOptions::default());
        let verifier = TokenVerifier::new(&key, "colloquy", Clock::starting_at(NOW));
        let refresh_token = refresh.issue(LOGIN, 3, NOW).unwrap();
        let access_token = issuer.issue(UserId(Uuid::from_u128(1)), LOGIN, NOW).unwrap().token;
        assert_eq!(refresh.verify(&refresh_token, NOW), Ok(RefreshClaims { login_id: LOGIN, generation: 3 }));
        assert_eq!(refresh.verify(&access_token, NOW), Err(InvalidToken::Invalid));
        assert_eq!(verifier.verify(&refresh_token), Err(InvalidToken::Invalid));
    }

    #[test]
    fn a_refresh_token_not_used_for_its_lifetime_is_over() {
        let key = Arc::new(SigningKey::generate(&Entropy::from_seed(1)).unwrap());
        let refresh = RefreshTokens::new(key, TokenOptions::default());
        let token = refresh.issue(LOGIN, 0, NOW).unwrap();
        let lifetime = TokenOptions::default().refresh_lifetime_secs * 1000;
        assert!(refresh.verify(&token, NOW + lifetime).is_ok());
        assert_eq!(refresh.verify(&token, NOW + lifetime + 60_000), Err(InvalidToken::Expired));
    }

    #[test]
    fn a_refresh_token_of_a_pod_whose_clock_is_ahead_is_not_yet_good_and_not_a_forgery() {
        let key = Arc::new(SigningKey::generate(&Entropy::from_seed(1)).unwrap());
        let refresh = RefreshTokens::new(key, TokenOptions::default());
        let token = refresh.issue(LOGIN, 0, NOW + 90_000).unwrap();
        assert_eq!(refresh.verify(&token, NOW), Err(InvalidToken::Early));
        assert!(refresh.verify(&token, NOW + 30_000).is_ok());
    }
}
