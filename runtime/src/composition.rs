//! The composition root: which adapter stands behind which port, and what is handed to whom.

use std::path::PathBuf;
use std::sync::Arc;

use colloquy_accounts::access_token::TokenVerifier;
use colloquy_accounts::admin_token::AdminTokens;
use colloquy_accounts::agents::{Agents, AgentsParts};
use colloquy_accounts::authenticate::Authenticator;
use colloquy_accounts::devices::Devices;
use colloquy_accounts::hooks::AccountHooks;
use colloquy_accounts::logins::{Logins, LoginsParts};
use colloquy_accounts::password::{PasswordError, Passwords};
use colloquy_accounts::profile::Profiles;
use colloquy_accounts::registration::Registrations;
use colloquy_accounts::signed_event::SignedEvents;
use colloquy_accounts::signing_key::{SigningKey, SigningKeyError};
use colloquy_actors::agent::{DeadLetterOffice, IntentClassifier, Routes, RoutesArguments};
use colloquy_actors::cluster::PodArguments;
use colloquy_actors::feed::FeedOffice;
use colloquy_actors::metrics::Metrics;
use colloquy_actors::node::{Node, NodeArguments, NodeHooks};
use colloquy_actors::outbox::Sinks;
use colloquy_gateway_http::observe::HttpMetrics;
use colloquy_gateway_http::readiness::Readiness;
use colloquy_gateway_http::websocket::{WebSocketDependencies, websocket_router};
use colloquy_gateway_http::{
    AdminDependencies, RestDependencies, Router, admin_router, operations_router, router,
};
use colloquy_storage::ambient::{Clock, Entropy, Workers};
use colloquy_storage::cached_agents::CachedAgents;
use colloquy_storage::embedded::OpenError;
use colloquy_storage::local::LocalCache;
use colloquy_storage::ports::cache::Cache;
use colloquy_storage::ports::{self, Store};
use colloquy_storage_remote::mongo;
use prometheus_client::registry::Registry;

use crate::admin::signing_key_path;
use crate::classifier::OpenClassifierError;
use crate::config::Config;
use crate::config::store::Backend;
use crate::pod::{self, OpenPod, OpenPodError};
use crate::sinks::HttpSinks;
use crate::store::OpenStore;

/// The purpose of the secret under which texts are named in the cache.
const INTENT_NAMES: &str = "colloquy/intent-names/1";

/// Everything that runs, put together but not yet reachable.
pub struct Composition {
    /// The parts that need nothing more.
    pub assembly: Assembly,
    /// The store, to be closed last.
    pub store: OpenStore,
}

/// What a node is made of, whatever stands behind its ports.
pub struct Parts {
    /// Where truth is kept.
    pub store: Store,
    /// What tokens are signed with.
    pub key: SigningKey,
    /// What makes it one pod of several.
    pub pod: Option<PodArguments>,
    /// What time it is.
    pub clock: Clock,
    /// Ids, salts and jitter.
    pub entropy: Entropy,
    /// Where passwords are checked.
    pub workers: Workers,
    /// Where events are taken: agents', and the feed's.
    pub sinks: Arc<dyn Sinks>,
    /// What is kept for a while.
    pub cache: Arc<dyn Cache>,
    /// Says what people want, if not the built-in one is to.
    pub classifier: Option<Arc<dyn IntentClassifier>>,
}

/// Actors and routes.
pub struct Assembly {
    /// The actors.
    pub node: Node,
    /// What they count.
    pub metrics: Arc<Metrics>,
    /// Whether traffic should come here.
    pub readiness: Readiness,
    /// REST and `/ws`.
    pub public: Router,
    /// Health and metrics, and `/admin`.
    pub operations: Router,
}

/// Why the parts could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// The data directory cannot be made.
    #[error("the data directory {path} cannot be made: {source}")]
    DataDir {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The database cannot be used.
    #[error(transparent)]
    Mongo(#[from] mongo::OpenError),
    /// The signing key cannot be read or made.
    #[error(transparent)]
    SigningKey(#[from] SigningKeyError),
    /// The password options are not usable.
    #[error(transparent)]
    Passwords(#[from] PasswordError),
    /// The node cannot be made a pod.
    #[error(transparent)]
    Pod(#[from] OpenPodError),
    /// Nothing can be posted to anybody.
    #[error("the HTTP client for sinks cannot be made: {0}")]
    Sinks(#[from] reqwest::Error),
    /// Nobody can be asked what people want.
    #[error(transparent)]
    Classifier(#[from] OpenClassifierError),
    /// An actor did not start.
    #[error("the actors did not start: {0}")]
    Actors(#[from] colloquy_actors::node::StartFailed),
    /// A blocking task was cancelled or panicked.
    #[error("opening the data directory failed: {0}")]
    Blocking(#[from] tokio::task::JoinError),
}

/// Puts everything together on the store that is configured.
///
/// # Errors
/// [`ComposeError`].
pub async fn compose(config: &Config) -> Result<Composition, ComposeError> {
    let (clock, entropy) = (Clock::System, Entropy::from_os());
    let (store, key) = open(config, &entropy).await?;
    let (pod, cache) = match pod::open(&config.cluster, &entropy).await? {
        Some(OpenPod { arguments, cache }) => (Some(arguments), cache),
        None => (None, Arc::new(LocalCache::new()) as Arc<dyn Cache>),
    };
    let classifier = config.classifier()?.map(|classifier| Arc::new(classifier) as Arc<dyn IntentClassifier>);
    let sinks: Arc<dyn Sinks> = Arc::new(HttpSinks::new(config.sinks())?);
    let (store_ports, workers) = (store.ports(), Workers::Threads);
    let parts = Parts { store: store_ports, key, pod, clock, entropy, workers, sinks, cache, classifier };
    Ok(Composition { assembly: assemble(config, parts).await?, store })
}

/// Puts together what does not depend on where the parts come from, and starts the actors.
///
/// # Errors
/// [`ComposeError::Passwords`], [`ComposeError::Actors`].
pub async fn assemble(config: &Config, parts: Parts) -> Result<Assembly, ComposeError> {
    let Parts { store: ports, key, pod, clock, entropy, workers, sinks, cache, classifier } = parts;
    let key = Arc::new(key);
    let agents: Arc<dyn ports::Agents> =
        Arc::new(CachedAgents::new(Arc::clone(&ports.agents), Arc::clone(&cache)));
    let ports = Store { agents, ..ports };
    let mut registry = Registry::default();
    let metrics = Arc::new(Metrics::register(&mut registry));
    let http_metrics = HttpMetrics::register(&mut registry);

    let node_hooks = NodeHooks::default();
    let hooks: Arc<dyn AccountHooks> = Arc::new(node_hooks.clone());
    let passwords = Arc::new(Passwords::new(config.password_options(), entropy.clone(), workers)?);
    let tokens = config.token_options();
    let verifier = TokenVerifier::new(&key, &tokens.issuer, clock);
    let authenticator = Authenticator::new(verifier, Arc::clone(&ports.logins));
    let logins = Logins::new(LoginsParts {
        accounts: Arc::clone(&ports.accounts),
        logins: Arc::clone(&ports.logins),
        agents: Arc::clone(&ports.agents),
        passwords: Arc::clone(&passwords),
        key: Arc::clone(&key),
        tokens,
        hooks: Arc::clone(&hooks),
        clock,
        entropy: entropy.clone(),
    });

    let routes = Routes::new(RoutesArguments {
        cache,
        secret: key.derive(INTENT_NAMES),
        outside: classifier,
        metrics: Arc::clone(&metrics),
    });
    let dead_letters = DeadLetterOffice {
        letters: Arc::clone(&ports.dead_letters),
        agents: Arc::clone(&ports.agents),
        log: Arc::clone(&ports.log),
        sinks: Arc::clone(&sinks),
        clock,
    };
    let untold = FeedOffice {
        letters: Arc::clone(&ports.untold),
        log: Arc::clone(&ports.log),
        sinks: Arc::clone(&sinks),
    };
    let node = Node::start(NodeArguments {
        store: ports.clone(),
        authenticator: authenticator.clone(),
        issuer: Arc::clone(logins.issuer()),
        metrics: Arc::clone(&metrics),
        clock,
        entropy: entropy.clone(),
        options: config.node_options(),
        hooks: node_hooks,
        pod,
        sinks,
        routes: routes.clone(),
        feed_since: config.feed.starts_at(),
    })
    .await?;

    let readiness = Readiness::new();
    let accounts = Arc::clone(&ports.accounts);
    let stored_logins = Arc::clone(&ports.logins);
    let devices = Devices::new(
        Arc::clone(&ports.keys),
        Arc::clone(&stored_logins),
        Arc::clone(&accounts),
        hooks,
        clock,
    );
    let agents = Agents::new(AgentsParts {
        agents: ports.agents,
        accounts: Arc::clone(&accounts),
        stored_logins: Arc::clone(&stored_logins),
        keys: Arc::clone(&ports.keys),
        logins: logins.clone(),
        devices: devices.clone(),
        passwords: Arc::clone(&passwords),
        sink_hosts: config.sink_hosts(),
        clock,
        entropy: entropy.clone(),
    });
    let rest = router(RestDependencies {
        registrations: Registrations::new(accounts, passwords, logins.clone(), clock, entropy.clone()),
        logins,
        profiles: Profiles::new(Arc::clone(&ports.accounts)),
        devices,
        agents: agents.clone(),
        turns: node.turns().clone(),
        routes,
        authenticator,
        signed_events: SignedEvents::new(
            ports.keys,
            stored_logins,
            &config.token_options(),
            config.store.keeps_messages(),
            clock,
        ),
        json_web_keys: key.json_web_keys(),
        conversations: ports.conversations,
        log: ports.log,
        cursors: ports.cursors,
        dead_letters: ports.dead_letters,
        metrics: http_metrics,
        clock,
        entropy,
        options: config.rest_options(),
    });
    let websocket = websocket_router(WebSocketDependencies {
        sessions: node.session_services(),
        readiness: readiness.clone(),
        options: config.websocket_options(),
    });
    let tokens = Arc::new(AdminTokens::new(&key, &config.accounts.token_issuer, clock));
    let admin = admin_router(AdminDependencies { agents, dead_letters, untold, tokens });
    let operations = operations_router(Arc::new(registry), readiness.clone()).merge(admin);
    Ok(Assembly { node, metrics, readiness, public: rest.merge(websocket), operations })
}

/// The store, and the key that tokens are signed with.
async fn open(config: &Config, entropy: &Entropy) -> Result<(OpenStore, SigningKey), ComposeError> {
    let (local, drawn) = (config.clone(), entropy.clone());
    let (embedded, key) = tokio::task::spawn_blocking(move || open_local(&local, &drawn)).await??;
    let store = match embedded {
        Some(embedded) => embedded,
        None => OpenStore::mongo(config).await?,
    };
    Ok((store, key))
}

/// What of it lies on this machine.
fn open_local(config: &Config, entropy: &Entropy) -> Result<(Option<OpenStore>, SigningKey), ComposeError> {
    let data_dir = config.data_dir.as_path();
    if config.uses_data_dir() {
        std::fs::create_dir_all(data_dir)
            .map_err(|source| ComposeError::DataDir { path: data_dir.to_owned(), source })?;
    }
    let store = match config.store.backend {
        Backend::Embedded => Some(OpenStore::embedded(data_dir)?),
        Backend::Mongodb => None,
    };
    let path = signing_key_path(config);
    let is_own = config.accounts.signing_key_file.as_os_str().is_empty();
    let key = if is_own { SigningKey::load_or_create(&path, entropy)? } else { SigningKey::read(&path)? };
    Ok((store, key))
}
