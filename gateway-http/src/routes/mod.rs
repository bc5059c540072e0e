//! The REST interface: one file per resource, with one error enum each and a single `match` from it to the wire.

mod accounts;
mod agents;
mod conversation_view;
mod conversations;
mod description;
mod devices;
mod events;
mod given_up;
mod json_web_keys;
mod logins;
mod me;
mod routing;
mod users;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef};
use axum::middleware::from_fn_with_state;
use colloquy_accounts::agents::Agents;
use colloquy_accounts::authenticate::Authenticator;
use colloquy_accounts::devices::Devices;
use colloquy_accounts::logins::Logins;
use colloquy_accounts::profile::Profiles;
use colloquy_accounts::registration::Registrations;
use colloquy_accounts::signed_event::SignedEvents;
use colloquy_accounts::signing_key::JsonWebKeySet;
use colloquy_actors::agent::{Routes, Turns};
use colloquy_storage::ambient::{Clock, Entropy};
use colloquy_storage::ports::{Conversations, Cursors, DeadLetters, MessageLog};
use serde::{Deserialize, Serialize};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::extract::{BODY_MAX_BYTES, TrustForwardedFor};
use crate::observe::{HttpMetrics, Observer, observe};
use crate::openapi::skeleton;
use crate::problem::{method_not_allowed, not_found, panicked};
use crate::rate_limit::{RateLimitOptions, RateLimits};

/// How the REST interface behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RestOptions {
    /// From a request's head to its answer; then it is answered with `unavailable`.
    pub request_timeout_ms: u64,
    /// Believe the last entry of `X-Forwarded-For`: only behind exactly one proxy that appends to it.
    pub trust_forwarded_for: bool,
    /// Who may ask how often.
    pub rate_limits: RateLimitOptions,
}

impl Default for RestOptions {
    fn default() -> Self {
        Self {
            request_timeout_ms: 15_000,
            trust_forwarded_for: false,
            rate_limits: RateLimitOptions::default(),
        }
    }
}

/// What the REST interface works with.
pub struct RestDependencies {
    /// Makes accounts.
    pub registrations: Registrations,
    /// Opens and ends log-ins.
    pub logins: Logins,
    /// Reads and changes profiles.
    pub profiles: Profiles,
    /// Registers devices and hands out their keys.
    pub devices: Devices,
    /// Says which agents there are.
    pub agents: Agents,
    /// Takes what they answer.
    pub turns: Turns,
    /// Says which of them a message goes to.
    pub routes: Routes,
    /// Says who is asking.
    pub authenticator: Authenticator,
    /// Who says what comes through a broker.
    pub signed_events: SignedEvents,
    /// What access tokens are verified with.
    pub json_web_keys: JsonWebKeySet,
    /// Who talks with whom.
    pub conversations: Arc<dyn Conversations>,
    /// The messages.
    pub log: Arc<dyn MessageLog>,
    /// How far everybody has come. Sessions write cursors lazily, so what is read here may lag them by one such
    /// interval; it never runs ahead.
    pub cursors: Arc<dyn Cursors>,
    /// What agents were not able to take.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// Counts and durations of requests.
    pub metrics: HttpMetrics,
    /// The time.
    pub clock: Clock,
    /// Where ids come from.
    pub entropy: Entropy,
    /// How it behaves.
    pub options: RestOptions,
}

/// What the handlers' extractors pick from: each handler asks for the parts it uses.
#[derive(Clone)]
pub(crate) struct RestState(Arc<Parts>);

struct Parts {
    dependencies: RestDependencies,
    limits: Arc<RateLimits>,
}

macro_rules! part {
    ($type:ty, $state:ident => $part:expr) => {
        impl FromRef<RestState> for $type {
            fn from_ref($state: &RestState) -> Self {
                $part
            }
        }
    };
}
part!(Registrations, state => state.0.dependencies.registrations.clone());
part!(Logins, state => state.0.dependencies.logins.clone());
part!(Profiles, state => state.0.dependencies.profiles.clone());
part!(Devices, state => state.0.dependencies.devices.clone());
part!(Turns, state => state.0.dependencies.turns.clone());
part!(Routes, state => state.0.dependencies.routes.clone());
part!(Agents, state => state.0.dependencies.agents.clone());
part!(Authenticator, state => state.0.dependencies.authenticator.clone());
part!(SignedEvents, state => state.0.dependencies.signed_events.clone());
part!(JsonWebKeySet, state => state.0.dependencies.json_web_keys.clone());
part!(Arc<dyn Conversations>, state => Arc::clone(&state.0.dependencies.conversations));
part!(Arc<dyn MessageLog>, state => Arc::clone(&state.0.dependencies.log));
part!(Arc<dyn Cursors>, state => Arc::clone(&state.0.dependencies.cursors));
part!(Arc<dyn DeadLetters>, state => Arc::clone(&state.0.dependencies.dead_letters));
part!(Clock, state => state.0.dependencies.clock);
part!(Arc<RateLimits>, state => Arc::clone(&state.0.limits));
part!(TrustForwardedFor, state => TrustForwardedFor(state.0.dependencies.options.trust_forwarded_for));

/// The REST interface. Whoever merges other routes into it (`/ws`) shares its answer for unknown paths, not its time
/// limit and its body limit.
pub fn router(dependencies: RestDependencies) -> Router {
    let options = dependencies.options;
    let observer = Observer {
        metrics: dependencies.metrics.clone(),
        clock: dependencies.clock,
        entropy: dependencies.entropy.clone(),
        request_timeout: Duration::from_millis(options.request_timeout_ms.max(1)),
    };
    let limits = Arc::new(RateLimits::new(&options.rate_limits, &dependencies.entropy));
    let state = RestState(Arc::new(Parts { dependencies, limits }));
    let (routes, description) = OpenApiRouter::with_openapi(skeleton())
        .routes(routes!(accounts::register))
        .routes(routes!(logins::log_in, logins::list))
        .routes(routes!(logins::refresh))
        .routes(routes!(logins::log_out))
        .routes(routes!(logins::revoke))
        .routes(routes!(me::show, me::change))
        .routes(routes!(users::find))
        .routes(routes!(agents::list))
        .routes(routes!(agents::show))
        .routes(routes!(agents::card))
        .routes(routes!(agents::default_card))
        .routes(routes!(routing::find))
        .routes(routes!(devices::register, devices::remove))
        .routes(routes!(devices::publish))
        .routes(routes!(devices::list))
        .routes(routes!(devices::claim))
        .routes(routes!(conversations::open, conversations::list))
        .routes(routes!(conversations::show))
        .routes(routes!(conversations::history))
        .routes(routes!(events::take))
        .routes(routes!(json_web_keys::show))
        .routes(routes!(description::show))
        .split_for_parts();
    routes
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(axum::Extension(description::Description::new(&description)))
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(observer, observe))
        .with_state(state)
}
