//! Events that prove themselves: their data is a JWT, signed by the device of whoever says it.
//!
//! A broker passes events on and no `Authorization`, and whoever may post to it could name anybody in an attribute. So what
//! an event says is signed, and nothing beside it is believed. Told again it says the same again, which ONCE sees to.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use colloquy_protocol::event::{SIGNED_DATA_LIFETIME_MAX, SIGNED_DATA_TYPE, SignedData};
use colloquy_protocol::ids::DeviceAddress;
use colloquy_storage::ambient::Clock;
use colloquy_storage::model::login::Login;
use colloquy_storage::ports::{KeyDirectory, Logins};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;

use crate::access_token::{LEEWAY, TokenOptions, has_run_out};
use crate::authenticate::AuthError;

/// What a signed event says, and who says it.
#[derive(Clone, PartialEq)]
pub struct Signed {
    /// Whose device has signed it.
    pub author: DeviceAddress,
    /// The event's data.
    pub data: Value,
}

impl std::fmt::Debug for Signed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signed").field("author", &self.author).finish_non_exhaustive()
    }
}

/// Finds out who has signed events. Cheap to clone.
#[derive(Clone)]
pub struct SignedEvents {
    keys: Arc<dyn KeyDirectory>,
    logins: Arc<dyn Logins>,
    /// How long a log-in lasts that is not used, seconds.
    lasts: u64,
    /// How long from now on an event may count.
    counts: Duration,
    clock: Clock,
}

impl SignedEvents {
    /// Looks devices up in `keys`, and in `logins`, which were made with `tokens`, whether they may still speak. The log keeps
    /// messages for as long as `kept`.
    #[must_use]
    pub fn new(
        keys: Arc<dyn KeyDirectory>,
        logins: Arc<dyn Logins>,
        tokens: &TokenOptions,
        kept: Duration,
        clock: Clock,
    ) -> Self {
        let counts = SIGNED_DATA_LIFETIME_MAX.min(kept / 2);
        Self { keys, logins, lasts: tokens.refresh_lifetime_secs, counts, clock }
    }

    /// Who says this, in an event of this type. A device may speak for as long as it is logged in: whoever revokes its log-ins,
    /// or removes it, has silenced it, and one that has not refreshed its log-in for as long as that lasts. Two reads of the store at most, and one of them before the signature is looked at. How
    /// long `token` may be is the caller's to bound.
    ///
    /// # Errors
    /// [`AuthError::Invalid`] for whatever is not signed by a device that there is, as an event of this type, from now or earlier
    /// on and for [`SIGNED_DATA_LIFETIME_MAX`] at most, or half as long as messages are kept; [`AuthError::Expired`],
    /// [`AuthError::Revoked`], [`AuthError::Unavailable`].
    pub async fn open(&self, token: &str, event_type: &str) -> Result<Signed, AuthError> {
        let author = author_of(token).ok_or(AuthError::Invalid)?;
        let devices = self.keys.devices(author.user_id).await?.devices;
        let device = devices.iter().find(|device| device.device_id == author.device_id);
        let key = device.and_then(|device| STANDARD_NO_PAD.decode(&device.signing_key).ok());
        let key = DecodingKey::from_ed_der(&key.ok_or(AuthError::Invalid)?);
        // The algorithm is named here, and not by the token (RFC 8725, section 3.1).
        let mut validation = Validation::new(Algorithm::EdDSA);
        // By our clock, below.
        validation.validate_exp = false;
        let signed = jsonwebtoken::decode::<SignedData<Value>>(token, &key, &validation);
        let SignedData { exp, nbf, r#type, data } = signed.map_err(|_| AuthError::Invalid)?.claims;
        if r#type != event_type {
            return Err(AuthError::Invalid);
        }
        let now = self.clock.now();
        if has_run_out(exp, now) {
            return Err(AuthError::Expired);
        }
        // For as long as it counts, the log remembers that it was told (ONCE).
        let is_after = |time: u64, span: Duration| time > (now / 1000).saturating_add(span.as_secs());
        if is_after(exp, self.counts + LEEWAY) || is_after(nbf, LEEWAY) {
            return Err(AuthError::Invalid);
        }
        let logins = self.logins.list(author.user_id).await?;
        let stands = |login: &Login| !has_run_out((login.rotated_at / 1000).saturating_add(self.lasts), now);
        let is_its = |login: &&Login| login.device_id.as_ref() == Some(&author.device_id);
        if !logins.iter().filter(is_its).any(stands) {
            return Err(AuthError::Revoked);
        }
        Ok(Signed { author, data })
    }
}

/// Who is said to have signed it, if it is made as such tokens are.
fn author_of(token: &str) -> Option<DeviceAddress> {
    let header = jsonwebtoken::decode_header(token).ok()?;
    let is_ours = header.typ.as_deref() == Some(SIGNED_DATA_TYPE) && header.crit.is_none();
    header.kid.filter(|_| is_ours)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use colloquy_protocol::event::{AGENT_RESPONSE, AGENT_RESPONSE_DELTA};
    use colloquy_protocol::ids::LoginId;
    use serde_json::json;

    use super::*;
    use crate::test_store::{NOW, TestDevice, TestStore};

    struct Spoken {
        store: TestStore,
        login_id: LoginId,
        device: TestDevice,
    }

    impl Spoken {
        async fn by_a_device() -> Self {
            let store = TestStore::open().await;
            let tokens = store.register("a@b.de", "correct horse").await;
            let device = TestDevice::new(tokens.user_id, "phone", 1);
            let caller = store.authenticator().authenticate(&tokens.access_token).await.unwrap();
            store.devices().register(&caller, &device.device_id, device.registration()).await.unwrap();
            Self { store, login_id: tokens.login_id, device }
        }

        fn header(&self) -> Value {
            let kid = self.device.address().to_string();
            json!({"alg": "EdDSA", "typ": SIGNED_DATA_TYPE, "kid": kid})
        }

        /// As the device signs it, under any header.
        fn token(&self, header: &Value) -> String {
            let claims = json!({"exp": NOW / 1000 + 60, "type": AGENT_RESPONSE, "data": {"a": 1}});
            self.device.jwt(header, &claims)
        }

        async fn open(&self, token: &str) -> Result<Signed, AuthError> {
            self.store.signed_events().open(token, AGENT_RESPONSE).await
        }
    }

    #[tokio::test]
    async fn what_a_device_signs_is_said_by_it() {
        let spoken = Spoken::by_a_device().await;
        let signed = spoken.open(&spoken.token(&spoken.header())).await.unwrap();
        assert_eq!(signed, Signed { author: spoken.device.address(), data: json!({"a": 1}) });
        assert!(!format!("{signed:?}").contains("data"));
    }

    #[tokio::test]
    async fn whatever_is_changed_about_it_it_is_not_believed() {
        let spoken = Spoken::by_a_device().await;
        let good = spoken.token(&spoken.header());
        let mut bad = vec![String::new(), ".".into(), "a.b.c".into(), "🦀".into()];
        // By another key; of another device, of another user.
        let other = TestDevice::new(spoken.device.user_id, "phone", 2);
        let stranger = spoken.store.register("b@b.de", "correct horse").await.user_id;
        let stranger = TestDevice::new(stranger, "phone", 1).address().to_string();
        bad.push(
            other.jwt(&spoken.header(), &json!({"exp": NOW / 1000 + 60, "type": AGENT_RESPONSE, "data": 1})),
        );
        for kid in ["", "/", "phone", &stranger, &other.address().to_string().replace("phone", "laptop")] {
            bad.push(spoken.token(&json!({"alg": "EdDSA", "typ": SIGNED_DATA_TYPE, "kid": kid})));
        }
        // Of another purpose, or by another algorithm.
        let kid = spoken.device.address().to_string();
        for (alg, typ) in
            [("none", SIGNED_DATA_TYPE), ("HS256", SIGNED_DATA_TYPE), ("EdDSA", "JWT"), ("EdDSA", "at+jwt")]
        {
            bad.push(spoken.token(&json!({"alg": alg, "typ": typ, "kid": kid})));
        }
        bad.push(
            spoken.token(&json!({"alg": "EdDSA", "typ": SIGNED_DATA_TYPE, "kid": kid, "crit": ["b64"]})),
        );
        // HS256 with the public key as its secret: what a verifier that trusts the header's `alg` would accept.
        let mut header = jsonwebtoken::Header::new(Algorithm::HS256);
        (header.typ, header.kid) = (Some(SIGNED_DATA_TYPE.into()), Some(kid.clone()));
        let claims = json!({"exp": NOW / 1000 + 60, "type": AGENT_RESPONSE, "data": 1});
        let secret = STANDARD_NO_PAD.decode(spoken.device.signing_key()).unwrap();
        let secret = jsonwebtoken::EncodingKey::from_secret(&secret);
        bad.push(jsonwebtoken::encode(&header, &claims, &secret).unwrap());
        // What was signed is not what is said.
        let said = URL_SAFE_NO_PAD
            .encode(json!({"exp": NOW / 1000 + 60, "type": AGENT_RESPONSE, "data": {"a": 2}}).to_string());
        let mut parts: Vec<&str> = good.split('.').collect();
        parts[1] = &said;
        bad.push(parts.join("."));
        for claims in [
            json!({"type": AGENT_RESPONSE, "data": 1}),
            json!({"exp": NOW / 1000 + 60, "data": 1}),
            json!({"exp": NOW / 1000 + 60, "type": AGENT_RESPONSE}),
            json!({"exp": NOW / 1000 + 60, "type": AGENT_RESPONSE, "data": 1, "aud": "somebody else"}),
            json!({"exp": -1, "type": AGENT_RESPONSE, "data": 1}),
            json!({"exp": "soon", "type": AGENT_RESPONSE, "data": 1}),
            json!({"exp": NOW / 1000 + 8 * 24 * 60 * 60, "type": AGENT_RESPONSE, "data": 1}),
            json!({"exp": NOW / 1000 + 600, "nbf": NOW / 1000 + 120, "type": AGENT_RESPONSE, "data": 1}),
        ] {
            bad.push(spoken.device.jwt(&spoken.header(), &claims));
        }
        for token in bad {
            assert!(matches!(spoken.open(&token).await, Err(AuthError::Invalid)), "{token}");
        }
        let as_another = spoken.store.signed_events().open(&good, AGENT_RESPONSE_DELTA).await;
        assert!(matches!(as_another, Err(AuthError::Invalid)));
        assert!(spoken.open(&good).await.is_ok());
    }

    /// RFC 7519, sections 2 and 4: a date may have a fraction, and claims that nobody knows are passed over.
    #[tokio::test]
    async fn what_other_libraries_put_into_a_jwt_is_taken() {
        let spoken = Spoken::by_a_device().await;
        let exp = (NOW / 1000 + 60) as f64 + 0.25;
        let claims = json!({"exp": exp, "nbf": exp - 60.0, "iat": NOW / 1000, "jti": "1", "type": AGENT_RESPONSE, "data": {"a": 1}});
        assert!(spoken.open(&spoken.device.jwt(&spoken.header(), &claims)).await.is_ok());
    }

    #[tokio::test]
    async fn it_runs_out_a_leeway_after_its_time() {
        let spoken = Spoken::by_a_device().await;
        let token = spoken.token(&spoken.header());
        let later = |seconds| spoken.store.later(Duration::from_secs(seconds)).signed_events();
        assert!(later(119).open(&token, AGENT_RESPONSE).await.is_ok());
        let refused = later(120).open(&token, AGENT_RESPONSE).await;
        assert!(matches!(refused, Err(AuthError::Expired)), "{refused:?}");
    }

    #[tokio::test]
    async fn it_counts_for_no_longer_than_the_log_remembers_that_it_was_told() {
        let spoken = Spoken::by_a_device().await;
        let day = 24 * 60 * 60;
        let opened = async |hours: u64| {
            let claims = json!({"exp": NOW / 1000 + hours * 60 * 60, "type": AGENT_RESPONSE, "data": 1});
            let token = spoken.device.jwt(&spoken.header(), &claims);
            spoken.store.signed_events_kept(Duration::from_secs(day)).open(&token, AGENT_RESPONSE).await
        };
        assert!(opened(12).await.is_ok());
        assert!(matches!(opened(13).await, Err(AuthError::Invalid)));
    }

    #[tokio::test]
    async fn a_device_that_is_logged_out_or_removed_says_nothing_any_more() {
        let spoken = Spoken::by_a_device().await;
        let token = spoken.token(&spoken.header());
        let (user, device) = (spoken.device.user_id, &spoken.device.device_id);
        // Its owner's other device is none of its business.
        let other = spoken.store.log_in("a@b.de", "correct horse").await;
        let caller = spoken.store.authenticator().authenticate(&other.access_token).await.unwrap();
        let laptop = TestDevice::new(user, "laptop", 3);
        spoken.store.devices().register(&caller, &laptop.device_id, laptop.registration()).await.unwrap();
        assert!(spoken.open(&token).await.is_ok());
        spoken.store.logins().revoke(user, spoken.login_id).await.unwrap();
        assert!(matches!(spoken.open(&token).await, Err(AuthError::Revoked)));
        spoken.store.devices().remove(user, device).await.unwrap();
        assert!(matches!(spoken.open(&token).await, Err(AuthError::Invalid)));
    }

    #[tokio::test]
    async fn a_log_in_that_was_not_used_for_as_long_as_it_lasts_is_over() {
        let spoken = Spoken::by_a_device().await;
        let lasts = TokenOptions::default().refresh_lifetime_secs;
        let open = async |after: u64| {
            let later = spoken.store.later(Duration::from_secs(after));
            let claims = json!({"exp": NOW / 1000 + after + 60, "type": AGENT_RESPONSE, "data": 1});
            later.signed_events().open(&spoken.device.jwt(&spoken.header(), &claims), AGENT_RESPONSE).await
        };
        assert!(open(lasts).await.is_ok());
        let refused = open(lasts + LEEWAY.as_secs()).await;
        assert!(matches!(refused, Err(AuthError::Revoked)), "{refused:?}");
    }
}
