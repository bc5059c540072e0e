//! A whole REST interface over an embedded store in a folder of its own, and a client without a network.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use colloquy_accounts::access_token::{TokenOptions, TokenVerifier};
use colloquy_accounts::admin_token::{AdminTokens, issue_admin_token};
use colloquy_accounts::agents::{Agents, AgentsParts};
use colloquy_accounts::authenticate::Authenticator;
use colloquy_accounts::devices::Devices;
use colloquy_accounts::hooks::NoHooks;
use colloquy_accounts::logins::{Logins, LoginsParts};
use colloquy_accounts::password::{PasswordOptions, Passwords};
use colloquy_accounts::profile::Profiles;
use colloquy_accounts::registration::Registrations;
use colloquy_accounts::signed_event::SignedEvents;
use colloquy_accounts::signing_key::SigningKey;
use colloquy_accounts::sink::SinkHosts;
use colloquy_actors::agent::{DeadLetterOffice, Routes, RoutesArguments, Turns};
use colloquy_actors::conversation::{ConversationIndex, Doorway};
use colloquy_actors::feed::FeedOffice;
use colloquy_actors::metrics::Metrics;
use colloquy_actors::outbox::NoSinks;
use colloquy_gateway_http::observe::HttpMetrics;
use colloquy_gateway_http::rate_limit::{Allowance, RateLimitOptions};
use colloquy_gateway_http::{AdminDependencies, RestDependencies, RestOptions, admin_router, router};
use colloquy_protocol::agent::AgentId;
use colloquy_protocol::dead_letter::DeadReason;
use colloquy_protocol::ids::{ConversationId, DeviceId, MessageId, UserId};
use colloquy_protocol::rest::accounts::Tokens;
use colloquy_protocol::rest::devices::{RegisterDevice, SignedKey};
use colloquy_protocol::signing::{KeyPurpose, key_message};
use colloquy_storage::ambient::{Clock, Entropy, Workers};
use colloquy_storage::embedded::{EmbeddedOptions, EmbeddedStore};
use colloquy_storage::local::LocalCache;
use colloquy_storage::model::dead_letter::DeadLetter;
use colloquy_storage::ports::Store;
use prometheus_client::registry::Registry;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tower::ServiceExt;

/// When every test begins.
pub(crate) const START: u64 = 1_800_000_000_000;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Of a problem document: its status and code, once its form has been checked.
    pub(crate) fn problem(&self) -> (u16, String) {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json", "{}", self.text());
        let problem: Value = self.json();
        assert_eq!(problem["status"], self.status.as_u16());
        assert_eq!(problem["type"], format!("/problems/{}", problem["code"].as_str().unwrap()));
        (self.status.as_u16(), problem["code"].as_str().unwrap().to_owned())
    }

    pub(crate) fn field(&self) -> Option<String> {
        self.json::<Value>()["field"].as_str().map(str::to_owned)
    }
}

#[derive(Clone)]
pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) key: Arc<SigningKey>,
    pub(crate) clock: Clock,
    pub(crate) options: RestOptions,
    entropy: Entropy,
    passwords: Arc<Passwords>,
    pub(crate) router: Router,
    _folder: Arc<tempfile::TempDir>,
}

impl Fixture {
    /// With limits that no test meets by accident.
    pub(crate) async fn open() -> Self {
        let plenty = NonZeroU32::new(100_000).unwrap();
        let plenty = Allowance { burst: plenty, per_minute: plenty };
        let rate_limits =
            RateLimitOptions { per_address: plenty, per_identifier: plenty, look_ups_per_user: plenty };
        Self::open_with(RestOptions { rate_limits, ..RestOptions::default() }).await
    }

    pub(crate) async fn open_with(options: RestOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(folder.path(), &EmbeddedOptions::default()).unwrap().store();
        let entropy = Entropy::from_seed(7);
        let fixture = Self {
            store,
            key: Arc::new(SigningKey::generate(&entropy).unwrap()),
            clock: Clock::starting_at(START),
            options,
            passwords: Arc::new(
                Passwords::new(PasswordOptions::cheapest(), entropy.clone(), Workers::Threads).unwrap(),
            ),
            entropy,
            router: Router::new(),
            _folder: Arc::new(folder),
        };
        Self { router: fixture.make_router(), ..fixture }
    }

    /// The same store and keys behind a clock that shows another time.
    pub(crate) fn at(&self, now: u64) -> Self {
        let moved = Self { clock: Clock::starting_at(now), ..self.clone() };
        Self { router: moved.make_router(), ..moved }
    }

    /// The same store behind another signing key.
    pub(crate) fn with_key(&self, key: SigningKey) -> Self {
        Self { key: Arc::new(key), ..self.clone() }.at(self.clock.now())
    }

    pub(crate) fn later(&self, duration: Duration) -> Self {
        self.at(self.clock.now() + u64::try_from(duration.as_millis()).unwrap())
    }

    fn make_router(&self) -> Router {
        let (accounts, logins) = (Arc::clone(&self.store.accounts), Arc::clone(&self.store.logins));
        let tokens = TokenOptions::default();
        let verifier = TokenVerifier::new(&self.key, &tokens.issuer, self.clock);
        let log_ins = Logins::new(LoginsParts {
            accounts: Arc::clone(&accounts),
            logins: Arc::clone(&logins),
            agents: Arc::clone(&self.store.agents),
            passwords: Arc::clone(&self.passwords),
            key: Arc::clone(&self.key),
            tokens: tokens.clone(),
            hooks: Arc::new(NoHooks),
            clock: self.clock,
            entropy: self.entropy.clone(),
        });
        let keys = Arc::clone(&self.store.keys);
        let devices = Devices::new(
            Arc::clone(&keys),
            Arc::clone(&logins),
            Arc::clone(&accounts),
            Arc::new(NoHooks),
            self.clock,
        );
        let agents = Agents::new(AgentsParts {
            agents: Arc::clone(&self.store.agents),
            accounts: Arc::clone(&accounts),
            stored_logins: Arc::clone(&logins),
            keys: Arc::clone(&keys),
            logins: log_ins.clone(),
            devices: devices.clone(),
            passwords: Arc::clone(&self.passwords),
            sink_hosts: SinkHosts::parse(&["127.0.0.1"]).unwrap(),
            clock: self.clock,
            entropy: self.entropy.clone(),
        });
        let admin_tokens = Arc::new(AdminTokens::new(&self.key, &tokens.issuer, self.clock));
        let admin = admin_router(AdminDependencies {
            agents: agents.clone(),
            dead_letters: DeadLetterOffice {
                letters: Arc::clone(&self.store.dead_letters),
                agents: Arc::clone(&self.store.agents),
                log: Arc::clone(&self.store.log),
                sinks: Arc::new(NoSinks),
                clock: self.clock,
            },
            untold: FeedOffice {
                letters: Arc::clone(&self.store.untold),
                log: Arc::clone(&self.store.log),
                sinks: Arc::new(NoSinks),
            },
            tokens: admin_tokens,
        });
        let (index, directory) = (ConversationIndex::default(), Arc::clone(&self.store.conversations));
        let doorway = Doorway::new(index, directory, Arc::clone(&accounts), self.clock, None);
        let turns = Turns::new(doorway, Arc::clone(&self.store.log), self.clock, self.entropy.clone());
        let routes = Routes::new(RoutesArguments {
            cache: Arc::new(LocalCache::new()),
            secret: self.key.derive("intent names of these tests"),
            outside: None,
            metrics: Arc::new(Metrics::register(&mut Registry::default())),
        });
        let public = router(RestDependencies {
            registrations: Registrations::new(
                Arc::clone(&accounts),
                Arc::clone(&self.passwords),
                log_ins.clone(),
                self.clock,
                self.entropy.clone(),
            ),
            logins: log_ins,
            profiles: Profiles::new(Arc::clone(&accounts)),
            devices,
            agents,
            turns,
            routes,
            signed_events: SignedEvents::new(keys, Arc::clone(&logins), &tokens, Duration::MAX, self.clock),
            authenticator: Authenticator::new(verifier, logins),
            json_web_keys: self.key.json_web_keys(),
            conversations: Arc::clone(&self.store.conversations),
            log: Arc::clone(&self.store.log),
            cursors: Arc::clone(&self.store.cursors),
            dead_letters: Arc::clone(&self.store.dead_letters),
            metrics: HttpMetrics::register(&mut Registry::default()),
            clock: self.clock,
            entropy: self.entropy.clone(),
            options: self.options,
        });
        public.merge(admin)
    }

    /// What `colloquy admin` would send.
    pub(crate) fn admin_token(&self) -> String {
        issue_admin_token(&self.key, &TokenOptions::default().issuer, self.clock.now()).unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 16 << 20).await.unwrap().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<String>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = match body {
            Some(body) => request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body)),
            None => request.body(Body::empty()),
        };
        self.send(request.unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.ask(Method::GET, path, Some(token), None).await
    }

    pub(crate) async fn delete(&self, path: &str, token: &str) -> Answer {
        self.ask(Method::DELETE, path, Some(token), None).await
    }

    pub(crate) async fn post<B: Serialize>(&self, path: &str, token: Option<&str>, body: &B) -> Answer {
        self.ask(Method::POST, path, token, Some(serde_json::to_string(body).unwrap())).await
    }

    pub(crate) async fn put<B: Serialize>(&self, path: &str, token: &str, body: &B) -> Answer {
        self.ask(Method::PUT, path, Some(token), Some(serde_json::to_string(body).unwrap())).await
    }

    /// A new user with an address of that name.
    pub(crate) async fn user(&self, name: &str) -> Tokens {
        let body = json!({"email": format!("{name}@example.org"), "name": name, "password": "correct horse"});
        let answer = self.post("/v1/accounts", None, &body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        answer.json()
    }

    pub(crate) async fn log_in(&self, name: &str) -> Answer {
        let body = json!({"email": format!("{name}@example.org"), "password": "correct horse"});
        self.post("/v1/logins", None, &body).await
    }

    /// Registers a device for a user.
    pub(crate) async fn device(&self, tokens: &Tokens, name: &str, seed: u8) -> Device {
        let device = Device::new(tokens.user_id, name, seed);
        let path = format!("/v1/devices/{name}");
        let answer = self.put(&path, &tokens.access_token, &device.registration()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        device
    }
}

/// What an agent, or the feed's sink, has refused: the message of that number.
pub(crate) fn dead_letter(
    turn_id: MessageId,
    agent: &str,
    conversation_id: ConversationId,
    sequence_number: u64,
) -> DeadLetter {
    DeadLetter {
        turn_id,
        agent_id: AgentId::new(agent).unwrap(),
        conversation_id,
        sequence_number,
        reason: DeadReason::Refused,
        status: Some(422),
        tries: 5,
        died_at: START,
        replayed_at: None,
    }
}

/// A device's signing key, and what it publishes.
pub(crate) struct Device {
    pub(crate) user_id: UserId,
    pub(crate) device_id: DeviceId,
    pair: Ed25519KeyPair,
}

impl Device {
    pub(crate) fn new(user_id: UserId, name: &str, seed: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        Self { user_id, device_id: DeviceId::new(name).unwrap(), pair }
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

    pub(crate) fn registration(&self) -> RegisterDevice {
        let identity_key = STANDARD_NO_PAD.encode([200; 32]);
        let one_time_key = |byte: u8| self.key(KeyPurpose::OneTime, &format!("k{byte}"), byte);
        RegisterDevice {
            platform: "terminal".to_owned(),
            identity_signature: self.sign(KeyPurpose::Identity, "", &identity_key),
            identity_key,
            signing_key: STANDARD_NO_PAD.encode(self.pair.public_key()),
            one_time_keys: (0..3).map(one_time_key).collect(),
            fallback_key: self.key(KeyPurpose::Fallback, "f", 201),
        }
    }
}
