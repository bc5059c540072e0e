//! The accept loop: plain HTTP/1.1 with upgrades, behind whatever ends TLS.
//!
//! Bounds (BOUND):
//! - At most `connections_max` connections speak HTTP at the same time. Over that no more are accepted: they wait in
//!   the kernel's backlog, where a full backlog makes clients' connects time out. An upgraded socket (WebSocket)
//!   leaves the count; how many of those there may be is their sessions' business.
//! - A client has `header_read_timeout_ms` for a request's head, also for the first one and for the next one on an
//!   idle connection, so neither a slow nor a silent client holds a connection. The head takes at most
//!   [`HEAD_MAX_BYTES`].
//! - How long a body and an answer may take is the routes' request timeout; a peer that acknowledges nothing for
//!   [`SEND_TIMEOUT`] is given up by the kernel.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tower::ServiceExt;

use crate::extract::PeerAddress;

/// Most bytes of a request's line and header fields; more is answered with 431.
pub const HEAD_MAX_BYTES: usize = 16 * 1024;
/// How long what was sent may stay unacknowledged (TCP_USER_TIMEOUT).
pub const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections the kernel keeps while none is accepted.
const BACKLOG: u32 = 4096;
/// What may lie unread in the kernel, bytes of each connection (Linux reserves twice as much for it). Without a bound of ours
/// it grows to megabytes, and who sends without waiting for answers waits the longer for each of them (BOUND).
const RECEIVE_BUFFER_BYTES: u32 = 32 * 1024;
/// First wait after a failed accept; doubles up to [`ACCEPT_BACKOFF_MAX`].
const ACCEPT_BACKOFF_MIN: Duration = Duration::from_millis(10);
const ACCEPT_BACKOFF_MAX: Duration = Duration::from_secs(1);

/// How connections are taken in and let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerOptions {
    /// Connections that speak HTTP at the same time.
    pub connections_max: usize,
    /// For a request's head, and between two requests.
    pub header_read_timeout_ms: u64,
    /// After the stop, for requests in flight; what is not answered by then is cut off.
    pub stop_deadline_ms: u64,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self { connections_max: 20_000, header_read_timeout_ms: 10_000, stop_deadline_ms: 20_000 }
    }
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Connections whose request was not answered before the deadline.
    pub cut_off: usize,
}

/// A listening socket that is not served yet.
#[derive(Debug)]
pub struct HttpServer {
    listener: TcpListener,
    options: ServerOptions,
}

impl HttpServer {
    /// Listens on `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// The system's.
    pub fn bind(address: SocketAddr, options: ServerOptions) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restarted process need not wait for its old connections to leave TIME_WAIT.
        socket.set_reuseaddr(true)?;
        // Inherited by every connection, and set before the first, as it decides what window is offered.
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        socket.bind(address)?;
        Ok(Self { listener: socket.listen(BACKLOG)?, options })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system's.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves `router` until `stop` turns true or its sender is dropped; then accepts nothing more, lets requests in
    /// flight finish until the deadline, and returns. Upgraded sockets go on: they belong to whoever upgraded them.
    pub async fn serve(self, router: Router, stop: watch::Receiver<bool>) -> Stopped {
        let Self { listener, options } = self;
        let free = Arc::new(Semaphore::new(options.connections_max.clamp(1, Semaphore::MAX_PERMITS)));
        let mut connections = JoinSet::new();
        let mut stopping = pin!(stopped(stop.clone()));
        loop {
            while connections.try_join_next().is_some() {}
            let next = accept(&listener, &free);
            let (stream, peer, permit) = tokio::select! {
                biased;
                () = &mut stopping => break,
                accepted = next => accepted,
            };
            tune(&stream);
            let (router, stop) = (router.clone(), stop.clone());
            connections.spawn(async move {
                serve_connection(stream, peer, router, options, stop).await;
                drop(permit);
            });
        }
        // Closes the port: whoever connects from now on is refused and goes elsewhere.
        drop(listener);
        finish(connections, Duration::from_millis(options.stop_deadline_ms)).await
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // A sender that is gone cannot ask for the stop any more; that must not keep the server for ever.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The next connection, whatever it takes: no accept error ends the server.
async fn accept(
    listener: &TcpListener,
    free: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let mut backoff = ACCEPT_BACKOFF_MIN;
    loop {
        let Ok(permit) = Arc::clone(free).acquire_owned().await else {
            return std::future::pending().await;
        };
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, permit),
            // The client went away while it waited: its own business.
            Err(error) if is_of_one_connection(&error) => {}
            // Most often EMFILE: nothing gets better before some connection has been closed.
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted");
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(ACCEPT_BACKOFF_MAX);
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn tune(stream: &TcpStream) {
    // Neither option is needed for correctness, so a refusal is not worth losing the connection.
    let _ = stream.set_nodelay(true);
    let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(SEND_TIMEOUT));
}

/// Serves one connection, over whatever carries it, until it ends or is upgraded; once `stop` turns true, until the
/// request in flight is answered.
pub async fn serve_connection<S>(
    stream: S,
    peer: SocketAddr,
    router: Router,
    options: ServerOptions,
    stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(options.header_read_timeout_ms.max(1)))
        .max_buf_size(HEAD_MAX_BYTES)
        .keep_alive(true);
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(PeerAddress(peer));
        router.clone().oneshot(request)
    });
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stopped(stop) => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = ended {
        // A client that goes away or is too slow is ordinary.
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn finish(mut connections: JoinSet<()>, deadline: Duration) -> Stopped {
    let deadline = Instant::now() + deadline;
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout_at(deadline, all).await;
    while connections.try_join_next().is_some() {}
    let cut_off = connections.len();
    connections.shutdown().await;
    Stopped { cut_off }
}
