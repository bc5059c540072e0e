//! Takes the server's CloudEvents: one in a request, in binary or structured mode.
//!
//! What an event says is not believed, and need not be: it names a turn, and what is answered is the message of that name
//! in this device's own store, which came encrypted. Whoever makes an event up has a turn looked for that is not there.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloudevents::binding::http::to_event;
use cloudevents::{AttributesReader, Data, Event};
use colloquy_client::{Client, ClientError, StoreError};
use colloquy_protocol::event::{AGENT_CANCEL, AGENT_MESSAGE, AgentCancel, AgentMessage};
use colloquy_protocol::limits::EVENT_MAX_BYTES;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Connections at the same time; more wait.
const CONNECTIONS_MAX: usize = 256;
/// How long a client may take over the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// After a connection could not be accepted, until the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the server is to leave this sidecar alone when it can take no more turns, seconds.
const FULL_RETRY_AFTER_S: &str = "5";

/// What the desk hears of.
#[derive(Clone)]
pub(crate) struct Bell {
    /// A turn was taken.
    pub(crate) taken: Arc<Notify>,
    /// A turn is to be answered no further.
    pub(crate) cancelled: mpsc::Sender<AgentCancel>,
}

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, client: Client, bell: Bell) {
    let mut connections = JoinSet::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (client, bell) = (client.clone(), bell.clone());
        connections.spawn(async move {
            let service = service_fn(|request| answer(request, &client, &bell));
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "a connection ended badly");
            }
            drop(place);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(
    request: Request<Incoming>,
    client: &Client,
    bell: &Bell,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, why) = match read(request).await {
        Ok(event) => take(event, client, bell).await,
        Err(refused) => refused,
    };
    let mut response = Response::new(Full::from(why));
    *response.status_mut() = status;
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(FULL_RETRY_AFTER_S));
    }
    Ok(response)
}

type Refused = (StatusCode, &'static str);

async fn read(request: Request<Incoming>) -> Result<Event, Refused> {
    if request.method() != Method::POST {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "post a CloudEvent"));
    }
    let (head, body) = request.into_parts();
    let body = Limited::new(body, EVENT_MAX_BYTES).collect().await;
    let body = body.map_err(|_| (StatusCode::PAYLOAD_TOO_LARGE, "the event is too large, or broke off"))?;
    to_event(&head.headers, body.to_bytes().to_vec())
        .map_err(|_| (StatusCode::BAD_REQUEST, "not a CloudEvent 1.0, in binary or structured mode"))
}

async fn take(event: Event, client: &Client, bell: &Bell) -> Refused {
    const OTHER_DATA: Refused = (StatusCode::BAD_REQUEST, "the data is not that of the event's type");
    match event.ty() {
        AGENT_MESSAGE => match data_of(event) {
            Some(message) => take_turn(&message, client, bell).await,
            None => OTHER_DATA,
        },
        AGENT_CANCEL => match data_of::<AgentCancel>(event) {
            // With no room for it, it is told again.
            Some(cancel) => match bell.cancelled.try_send(cancel) {
                Ok(()) => (StatusCode::ACCEPTED, ""),
                Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "too much is being stopped"),
            },
            None => OTHER_DATA,
        },
        _ => (StatusCode::BAD_REQUEST, "events of this type are not taken here"),
    }
}

async fn take_turn(message: &AgentMessage, client: &Client, bell: &Bell) -> Refused {
    match client.take_turn(message.turn_id, message.conversation_id).await {
        // On disk: only now may the server stop telling of it.
        Ok(_) => {
            bell.taken.notify_one();
            (StatusCode::ACCEPTED, "")
        }
        Err(ClientError::Store(StoreError::TooManyTurns)) => {
            (StatusCode::TOO_MANY_REQUESTS, "as many turns are open as may be")
        }
        Err(error) => {
            tracing::warn!(%error, "a turn cannot be taken");
            (StatusCode::SERVICE_UNAVAILABLE, "the turn cannot be kept now")
        }
    }
}

fn data_of<T: DeserializeOwned>(mut event: Event) -> Option<T> {
    let (_, _, data) = event.take_data();
    match data? {
        Data::Json(value) => serde_json::from_value(value).ok(),
        Data::Binary(bytes) => serde_json::from_slice(&bytes).ok(),
        Data::String(text) => serde_json::from_str(&text).ok(),
    }
}
