//! `/ws`: from an HTTP upgrade to a session, and the task that owns the socket.
//!
//! | file | noun |
//! |---|---|
//! | `transport` | the socket's tuned settings, the same for `/ws` and for the conformance echo |
//! | `pump` | moves frames between one socket and its session |

mod pump;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use colloquy_actors::session::{Preauthentication, SessionServices};
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::ids::DeviceId;
use tokio::sync::Semaphore;

pub use transport::{Transport, tuned};

use crate::extract::bearer_token;
use crate::problem::Refusal;
use crate::readiness::{Phase, Readiness};

/// Names the device in a handshake that carries a token in `Authorization`.
pub const DEVICE_HEADER: HeaderName = HeaderName::from_static("x-colloquy-device");

/// How sockets are taken in.
#[derive(Clone, Copy, Debug)]
pub struct WebSocketOptions {
    /// Open sockets on this node. One more is refused with `busy` (503) before the upgrade.
    pub sockets_max: usize,
    /// A socket from which nothing has come for this long is closed.
    pub idle_timeout: Duration,
    /// A socket that has not authenticated by now is closed.
    pub auth_timeout: Duration,
}

/// What the route works with.
#[derive(Clone)]
pub struct WebSocketDependencies {
    /// What sessions use.
    pub sessions: Arc<SessionServices>,
    /// Whether sockets are taken in at all.
    pub readiness: Readiness,
    /// How.
    pub options: WebSocketOptions,
}

#[derive(Clone)]
struct WebSocketState {
    dependencies: WebSocketDependencies,
    free: Arc<Semaphore>,
}

/// The `/ws` route.
pub fn websocket_router(dependencies: WebSocketDependencies) -> Router {
    let free = Arc::new(Semaphore::new(dependencies.options.sockets_max.min(Semaphore::MAX_PERMITS)));
    Router::new().route("/ws", any(upgrade)).with_state(WebSocketState { dependencies, free })
}

async fn upgrade(
    State(state): State<WebSocketState>,
    preauthenticated: MaybePreauthenticated,
    upgrade: WebSocketUpgrade,
) -> Response {
    if state.dependencies.readiness.phase() == Phase::Draining {
        return Refusal::new(ErrorCode::Draining).into_response();
    }
    let Ok(place) = state.free.try_acquire_owned() else {
        return Refusal::new(ErrorCode::Busy).detail("as many sockets are open as may be").into_response();
    };
    let WebSocketDependencies { sessions, options, .. } = state.dependencies;
    tuned(upgrade, Transport::default()).on_upgrade(async move |socket| {
        pump::start(socket, sessions, preauthenticated.0, options, place).await;
    })
}

/// A token and a device in the handshake's headers, if both are there.
struct MaybePreauthenticated(Option<Preauthentication>);

impl<S: Sync> FromRequestParts<S> for MaybePreauthenticated {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let bearer = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(token) = bearer.and_then(bearer_token) else {
            return Ok(Self(None));
        };
        let device = parts.headers.get(DEVICE_HEADER).and_then(|value| value.to_str().ok());
        let device_id = device.and_then(|text| DeviceId::new(text).ok()).ok_or_else(|| {
            Refusal::new(ErrorCode::InvalidField)
                .field(DEVICE_HEADER.as_str())
                .detail("name the device as well")
        })?;
        Ok(Self(Some(Preauthentication { token: token.to_owned(), device_id })))
    }
}
