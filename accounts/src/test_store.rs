//! The services of this crate over an embedded store in a folder of its own, for tests.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use colloquy_protocol::ids::{DeviceAddress, DeviceId, LoginId, UserId};
use colloquy_protocol::rest::accounts::{LogIn, Register, Tokens};
use colloquy_protocol::rest::devices::{RegisterDevice, SignedKey};
use colloquy_protocol::signing::{KeyPurpose, key_message};
use colloquy_storage::ambient::{Clock, Entropy, Workers};
use colloquy_storage::embedded::{EmbeddedOptions, EmbeddedStore};
use colloquy_storage::ports::Store;
use serde_json::Value;

use crate::access_token::{TokenOptions, TokenVerifier};
use crate::agents::{Agents, AgentsParts};
use crate::authenticate::Authenticator;
use crate::devices::Devices;
use crate::hooks::AccountHooks;
use crate::logins::{Logins, LoginsParts};
use crate::password::{PasswordOptions, Passwords};
use crate::profile::Profiles;
use crate::registration::Registrations;
use crate::signed_event::SignedEvents;
use crate::signing_key::SigningKey;
use crate::sink::SinkHosts;

pub(crate) const NOW: u64 = 1_800_000_000_000;

/// What the hooks were called with.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    revoked: Vec<LoginId>,
    changed: Vec<(UserId, u64, Option<DeviceId>)>,
}

#[derive(Debug, Default)]
struct Listener(Mutex<Heard>);

#[async_trait]
impl AccountHooks for Listener {
    async fn login_revoked(&self, _: UserId, login_id: LoginId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).revoked.push(login_id);
    }

    async fn devices_changed(&self, user_id: UserId, version: u64, removed: Option<DeviceId>) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.changed.push((user_id, version, removed));
    }
}

#[derive(Clone)]
pub(crate) struct TestStore {
    store: Store,
    key: Arc<SigningKey>,
    passwords: Arc<Passwords>,
    listener: Arc<Listener>,
    clock: Clock,
    entropy: Entropy,
    _folder: Arc<tempfile::TempDir>,
}

impl TestStore {
    pub(crate) async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(folder.path(), &EmbeddedOptions::default()).unwrap().store();
        let entropy = Entropy::from_seed(1);
        Self {
            store,
            key: Arc::new(SigningKey::generate(&entropy).unwrap()),
            passwords: Arc::new(
                Passwords::new(PasswordOptions::cheapest(), entropy.clone(), Workers::Threads).unwrap(),
            ),
            listener: Arc::default(),
            clock: Clock::starting_at(NOW),
            entropy,
            _folder: Arc::new(folder),
        }
    }

    /// The same store, some time later.
    pub(crate) fn later(&self, duration: Duration) -> Self {
        let passed = u64::try_from(duration.as_millis()).unwrap();
        Self { clock: Clock::starting_at(self.clock.now() + passed), ..self.clone() }
    }

    pub(crate) fn logins(&self) -> Logins {
        Logins::new(LoginsParts {
            accounts: Arc::clone(&self.store.accounts),
            logins: Arc::clone(&self.store.logins),
            agents: Arc::clone(&self.store.agents),
            passwords: Arc::clone(&self.passwords),
            key: Arc::clone(&self.key),
            tokens: TokenOptions::default(),
            hooks: Arc::clone(&self.listener) as Arc<dyn AccountHooks>,
            clock: self.clock,
            entropy: self.entropy.clone(),
        })
    }

    pub(crate) fn authenticator(&self) -> Authenticator {
        let verifier = TokenVerifier::new(&self.key, &TokenOptions::default().issuer, self.clock);
        Authenticator::new(verifier, Arc::clone(&self.store.logins))
    }

    pub(crate) fn signed_events(&self) -> SignedEvents {
        self.signed_events_kept(Duration::MAX)
    }

    /// Where the log keeps messages for so long.
    pub(crate) fn signed_events_kept(&self, kept: Duration) -> SignedEvents {
        let (keys, logins) = (Arc::clone(&self.store.keys), Arc::clone(&self.store.logins));
        SignedEvents::new(keys, logins, &TokenOptions::default(), kept, self.clock)
    }

    pub(crate) fn registrations(&self) -> Registrations {
        let (accounts, passwords) = (Arc::clone(&self.store.accounts), Arc::clone(&self.passwords));
        Registrations::new(accounts, passwords, self.logins(), self.clock, self.entropy.clone())
    }

    pub(crate) fn profiles(&self) -> Profiles {
        Profiles::new(Arc::clone(&self.store.accounts))
    }

    pub(crate) fn agents(&self) -> Agents {
        Agents::new(AgentsParts {
            agents: Arc::clone(&self.store.agents),
            accounts: Arc::clone(&self.store.accounts),
            stored_logins: Arc::clone(&self.store.logins),
            keys: Arc::clone(&self.store.keys),
            logins: self.logins(),
            devices: self.devices(),
            passwords: Arc::clone(&self.passwords),
            sink_hosts: SinkHosts::parse(&["127.0.0.1"]).unwrap(),
            clock: self.clock,
            entropy: self.entropy.clone(),
        })
    }

    pub(crate) fn devices(&self) -> Devices {
        Devices::new(
            Arc::clone(&self.store.keys),
            Arc::clone(&self.store.logins),
            Arc::clone(&self.store.accounts),
            Arc::clone(&self.listener) as Arc<dyn AccountHooks>,
            self.clock,
        )
    }

    pub(crate) async fn log_in(&self, email: &str, password: &str) -> Tokens {
        let (email, password) = (Some(email.to_owned()), password.to_owned());
        self.logins().log_in(LogIn { phone: None, email, agent_id: None, password }).await.unwrap()
    }

    pub(crate) async fn register(&self, email: &str, password: &str) -> Tokens {
        let request = Register {
            phone: None,
            email: Some(email.to_owned()),
            name: "Somebody".to_owned(),
            password: password.to_owned(),
        };
        self.registrations().register(request).await.unwrap()
    }

    /// The log-ins whose sockets were closed.
    pub(crate) fn revoked(&self) -> Vec<LoginId> {
        self.listener.0.lock().unwrap_or_else(PoisonError::into_inner).revoked.clone()
    }

    /// The changes of device lists that were announced: the version, and the device that went.
    pub(crate) fn changed(&self) -> Vec<(u64, Option<DeviceId>)> {
        let heard = self.listener.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.changed.iter().map(|(_, version, removed)| (*version, removed.clone())).collect()
    }
}

/// A device's signing key, and what it publishes.
pub(crate) struct TestDevice {
    pub(crate) user_id: UserId,
    pub(crate) device_id: DeviceId,
    pair: Ed25519KeyPair,
}

impl TestDevice {
    pub(crate) fn new(user_id: UserId, name: &str, seed: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        Self { user_id, device_id: DeviceId::new(name).unwrap(), pair }
    }

    pub(crate) fn address(&self) -> DeviceAddress {
        DeviceAddress { user_id: self.user_id, device_id: self.device_id.clone() }
    }

    /// A JWT of these two, signed with Ed25519 whatever the header says.
    pub(crate) fn jwt(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    pub(crate) fn signing_key(&self) -> String {
        STANDARD_NO_PAD.encode(self.pair.public_key())
    }

    fn sign(&self, purpose: KeyPurpose, key_id: &str, key: &str) -> String {
        let message = key_message(purpose, self.user_id, &self.device_id, key_id, key);
        STANDARD_NO_PAD.encode(self.pair.sign(&message))
    }

    pub(crate) fn key(&self, purpose: KeyPurpose, key_id: &str, byte: u8) -> SignedKey {
        let key = STANDARD_NO_PAD.encode([byte; 32]);
        let signature = self.sign(purpose, key_id, &key);
        SignedKey { key_id: key_id.to_owned(), key, signature }
    }

    pub(crate) fn one_time_keys(&self, bytes: std::ops::Range<u8>) -> Vec<SignedKey> {
        bytes.map(|byte| self.key(KeyPurpose::OneTime, &format!("k{byte}"), byte)).collect()
    }

    pub(crate) fn registration(&self) -> RegisterDevice {
        let identity_key = STANDARD_NO_PAD.encode([200; 32]);
        RegisterDevice {
            platform: "terminal".to_owned(),
            identity_signature: self.sign(KeyPurpose::Identity, "", &identity_key),
            identity_key,
            signing_key: self.signing_key(),
            one_time_keys: self.one_time_keys(0..3),
            fallback_key: self.key(KeyPurpose::Fallback, "f", 201),
        }
    }
}
