//! Access tokens: JWTs (RFC 9068) that say who asks and by which log-in, for a quarter of an hour.
//!
//! Time comes from the [`Clock`], not from the JWT library: simulations run on virtual time. A token is good until
//! [`LEEWAY`] after its `exp`, so that a pod whose clock runs ahead does not refuse what another has just issued; for
//! the same reason a token may be up to [`LEEWAY`] from the future. One that is further ahead is [`InvalidToken::Early`]:
//! it is ours, so it is a pod's clock that is wrong, and nobody is to lose a log-in over that.

use std::sync::Arc;
use std::time::Duration;

use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{LoginId, UserId};
use colloquy_storage::ambient::Clock;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::signing_key::SigningKey;

/// How far the clocks of two pods may lie apart.
pub const LEEWAY: Duration = Duration::from_secs(60);
/// What an access token is for.
const AUDIENCE: &str = "colloquy";
/// RFC 9068, section 2.1. Keeps a token of another purpose from passing for an access token.
const TYPE: &str = "at+jwt";
/// Our tokens take some 450 bytes; longer texts are refused unread (BOUND).
const TOKEN_MAX_BYTES: usize = 2048;

/// How tokens are made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenOptions {
    /// The `iss` of every token.
    pub issuer: String,
    /// How long an access token is good for.
    pub access_lifetime_secs: u64,
    /// How long a refresh token is good for: a log-in not used for so long is over.
    pub refresh_lifetime_secs: u64,
}

impl Default for TokenOptions {
    fn default() -> Self {
        Self {
            issuer: "colloquy".to_owned(),
            access_lifetime_secs: 15 * 60,
            refresh_lifetime_secs: 90 * 24 * 60 * 60,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: UserId,
    sid: LoginId,
    iat: u64,
    exp: u64,
}

/// An access token just issued. `Debug` shows when it expires only.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// The JWT.
    pub token: String,
    /// Its `exp`.
    pub expires_at: UnixMillis,
}

impl std::fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessToken").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// What an access token that verifies says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessClaims {
    /// Who asks.
    pub user_id: UserId,
    /// By which log-in.
    pub login_id: LoginId,
    /// Until when.
    pub expires_at: UnixMillis,
}

/// Why a token does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// It is not a token, is forged, or of another purpose.
    #[error("the token is not valid")]
    Invalid,
    /// It is ours and from the future: the clock here is behind, or that of the pod that issued it ahead.
    #[error("the token is from the future: the clocks of two pods lie further apart than {LEEWAY:?}")]
    Early,
    /// It was good once.
    #[error("the token has expired")]
    Expired,
}

/// A token could not be signed: a defect, since the key was checked when it was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token could not be signed")]
pub struct SigningFailed;

/// Issues access tokens.
#[derive(Debug)]
pub struct TokenIssuer {
    key: Arc<SigningKey>,
    options: TokenOptions,
}

impl TokenIssuer {
    /// Issues tokens signed with `key`.
    #[must_use]
    pub fn new(key: Arc<SigningKey>, options: TokenOptions) -> Self {
        Self { key, options }
    }

    /// A token for a user and a log-in.
    ///
    /// # Errors
    /// [`SigningFailed`], which does not happen with a key that was loaded.
    pub fn issue(
        &self,
        user_id: UserId,
        login_id: LoginId,
        now: UnixMillis,
    ) -> Result<AccessToken, SigningFailed> {
        let iat = now / 1000;
        let exp = iat.saturating_add(self.options.access_lifetime_secs);
        let iss = self.options.issuer.clone();
        let claims = Claims { iss, aud: AUDIENCE.to_owned(), sub: user_id, sid: login_id, iat, exp };
        Ok(AccessToken { token: sign(&self.key, TYPE, &claims)?, expires_at: exp.saturating_mul(1000) })
    }
}

/// Verifies access tokens; knows nothing of revocation.
#[derive(Debug)]
pub struct TokenVerifier {
    shape: TokenShape,
    clock: Clock,
}

impl TokenVerifier {
    /// Verifies tokens of `issuer` signed with `key`.
    #[must_use]
    pub fn new(key: &SigningKey, issuer: &str, clock: Clock) -> Self {
        Self { shape: TokenShape::new(key, issuer, AUDIENCE, TYPE), clock }
    }

    /// What the token says, if it counts.
    ///
    /// # Errors
    /// [`InvalidToken`] says whether a refresh would help.
    pub fn verify(&self, token: &str) -> Result<AccessClaims, InvalidToken> {
        let claims: Claims = self.shape.open(token)?;
        check_times(claims.iat, claims.exp, self.clock.now())?;
        Ok(AccessClaims {
            user_id: claims.sub,
            login_id: claims.sid,
            expires_at: claims.exp.saturating_mul(1000),
        })
    }
}

/// What all tokens of one purpose have in common.
pub(crate) struct TokenShape {
    key: DecodingKey,
    key_id: String,
    typ: &'static str,
    validation: Validation,
}

impl std::fmt::Debug for TokenShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenShape").field("typ", &self.typ).finish_non_exhaustive()
    }
}

impl TokenShape {
    pub(crate) fn new(key: &SigningKey, issuer: &str, audience: &str, typ: &'static str) -> Self {
        // One algorithm, named here and not by the token: `none`, HS256 with our public key as its secret, and
        // every other confusion fail before a signature is looked at (RFC 8725, section 3.1).
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[audience]);
        validation.set_issuer(&[issuer]);
        validation.set_required_spec_claims(&["iss", "aud", "exp"]);
        // By our clock, in `check_times`.
        validation.validate_exp = false;
        Self { key: key.decoding(), key_id: key.key_id().to_owned(), typ, validation }
    }

    /// The claims, if signature and purpose are right. Times are the caller's to check.
    pub(crate) fn open<C: DeserializeOwned>(&self, token: &str) -> Result<C, InvalidToken> {
        if token.len() > TOKEN_MAX_BYTES {
            return Err(InvalidToken::Invalid);
        }
        let data = jsonwebtoken::decode::<C>(token, &self.key, &self.validation)
            .map_err(|_| InvalidToken::Invalid)?;
        let header = &data.header;
        let ours = header.kid.as_deref() == Some(self.key_id.as_str())
            && header.typ.as_deref() == Some(self.typ)
            && header.crit.is_none();
        if ours { Ok(data.claims) } else { Err(InvalidToken::Invalid) }
    }
}

pub(crate) fn sign<C: Serialize>(key: &SigningKey, typ: &str, claims: &C) -> Result<String, SigningFailed> {
    let mut header = Header::new(Algorithm::EdDSA);
    header.typ = Some(typ.to_owned());
    header.kid = Some(key.key_id().to_owned());
    jsonwebtoken::encode(&header, claims, key.encoding()).map_err(|_| SigningFailed)
}

pub(crate) fn check_times(iat: u64, exp: u64, now: UnixMillis) -> Result<(), InvalidToken> {
    if iat > (now / 1000).saturating_add(LEEWAY.as_secs()) {
        return Err(InvalidToken::Early);
    }
    if has_run_out(exp, now) { Err(InvalidToken::Expired) } else { Ok(()) }
}

/// Is it [`LEEWAY`] past this `exp`?
pub(crate) fn has_run_out(exp: u64, now: UnixMillis) -> bool {
    exp.saturating_add(LEEWAY.as_secs()) <= now / 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use colloquy_storage::ambient::Entropy;
    use jsonwebtoken::EncodingKey;
    use serde_json::json;
    use uuid::Uuid;

    const NOW: UnixMillis = 1_800_000_000_000;
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const USER: UserId = UserId(Uuid::from_u128(1));
    const LOGIN: LoginId = LoginId(Uuid::from_u128(2));

    fn key(seed: u64) -> Arc<SigningKey> {
        Arc::new(SigningKey::generate(&Entropy::from_seed(seed)).unwrap())
    }

    fn issue(key: &Arc<SigningKey>) -> String {
        TokenIssuer::new(Arc::clone(key), TokenOptions::default()).issue(USER, LOGIN, NOW).unwrap().token
    }

    fn verify_at(token: &str, now: UnixMillis) -> Result<AccessClaims, InvalidToken> {
        TokenVerifier::new(&key(1), "colloquy", Clock::starting_at(now)).verify(token)
    }

    fn forge(header: &serde_json::Value, signature: &[u8]) -> String {
        let claims = json!({"iss": "colloquy", "aud": "colloquy", "sub": USER, "sid": LOGIN,
            "iat": NOW / 1000, "exp": NOW / 1000 + 900});
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.{}", part(header), part(&claims), URL_SAFE_NO_PAD.encode(signature))
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_says_who_and_until_when() {
        let claims = verify_at(&issue(&key(1)), NOW).unwrap();
        assert_eq!(claims, AccessClaims { user_id: USER, login_id: LOGIN, expires_at: NOW + 900_000 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_expires_a_leeway_after_its_time() {
        let token = issue(&key(1));
        assert!(verify_at(&token, NOW + 959_999).is_ok());
        assert_eq!(verify_at(&token, NOW + 960_000), Err(InvalidToken::Expired));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_a_day_off_is_not_believed() {
        let (token, day) = (issue(&key(1)), u64::try_from(DAY.as_millis()).unwrap());
        assert_eq!(verify_at(&token, NOW + day), Err(InvalidToken::Expired));
        assert_eq!(verify_at(&token, NOW - day), Err(InvalidToken::Early));
        assert!(verify_at(&token, NOW - 60_000).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_of_another_key_is_forged_even_under_our_key_id() {
        assert_eq!(verify_at(&issue(&key(2)), NOW), Err(InvalidToken::Invalid));
        let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": key(1).key_id()});
        assert_eq!(verify_at(&forge(&header, &[0; 64]), NOW), Err(InvalidToken::Invalid));
    }

    #[tokio::test(start_paused = true)]
    async fn no_algorithm_but_eddsa_is_accepted() {
        for alg in ["none", "None", "HS256", "RS256", "ES256"] {
            let header = json!({"alg": alg, "typ": "at+jwt", "kid": key(1).key_id()});
            assert_eq!(verify_at(&forge(&header, b""), NOW), Err(InvalidToken::Invalid), "{alg}");
        }
        // HS256 with the public key as its secret: what a verifier that trusts the header's `alg` would accept.
        let mut header = Header::new(Algorithm::HS256);
        header.typ = Some("at+jwt".into());
        header.kid = Some(key(1).key_id().to_owned());
        let claims = json!({"iss": "colloquy", "aud": "colloquy", "sub": USER, "sid": LOGIN,
            "iat": NOW / 1000, "exp": NOW / 1000 + 900});
        let jwk = key(1).json_web_keys().keys.remove(0);
        let public = URL_SAFE_NO_PAD.decode(&jwk.x).unwrap();
        for secret in [public, jwk.x.into_bytes()] {
            let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(&secret)).unwrap();
            assert_eq!(verify_at(&token, NOW), Err(InvalidToken::Invalid));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_of_another_purpose_or_issuer_is_refused() {
        let claims = |iss: &str, aud: &str| Claims {
            iss: iss.into(),
            aud: aud.into(),
            sub: USER,
            sid: LOGIN,
            iat: NOW / 1000,
            exp: NOW / 1000 + 900,
        };
        for (typ, iss, aud) in [
            ("JWT", "colloquy", "colloquy"),
            ("at+jwt", "colloquy", "colloquy/refresh"),
            ("at+jwt", "another", "colloquy"),
        ] {
            let token = sign(&key(1), typ, &claims(iss, aud)).unwrap();
            assert_eq!(verify_at(&token, NOW), Err(InvalidToken::Invalid), "{typ} {iss} {aud}");
        }
        let token = sign(&key(1), TYPE, &claims("colloquy", "colloquy")).unwrap();
        assert!(verify_at(&token, NOW).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_token_is_refused() {
        let huge = "a".repeat(TOKEN_MAX_BYTES + 1);
        for text in ["", ".", "..", "a.b.c", "🦀", &huge] {
            assert_eq!(verify_at(text, NOW), Err(InvalidToken::Invalid));
        }
    }

    #[test]
    fn debug_shows_no_token() {
        let token = AccessToken { token: "secret".into(), expires_at: 1 };
        assert!(!format!("{token:?}").contains("secret"));
    }
}
