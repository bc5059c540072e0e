//! The task that owns one socket: parses what comes, writes what the session says, and watches the clock.
//!
//! Frames are parsed here and not in the session, so what travels on is owned data: a slice of the read buffer
//! would pin the whole buffer.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use colloquy_actors::session::{self, Credit, Preauthentication, SessionServices, SocketEnd};
use colloquy_protocol::close::CloseCode;
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::client::{ClientFrame, RefusedFrame};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite;

use super::WebSocketOptions;

/// A client that has not taken one more text, at most [`FRAME_MAX_BYTES`](colloquy_protocol::limits::FRAME_MAX_BYTES),
/// within this time is a slow consumer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the client may take to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Texts written in one burst.
const BURST_MAX: usize = 64;
/// The clock is looked at no less often than this.
const CHECK_INTERVAL_MAX: Duration = Duration::from_secs(30);

/// Starts the session of a socket that has just been upgraded, and the task that serves it until either side closes it.
///
/// A task of its own: the one that brought the socket here keeps room for the handshake for as long as it lives. `place`
/// is dropped when the socket is closed.
pub(super) async fn start(
    mut socket: WebSocket,
    services: Arc<SessionServices>,
    preauthentication: Option<Preauthentication>,
    options: WebSocketOptions,
    place: OwnedSemaphorePermit,
) {
    match session::start(Arc::clone(&services), preauthentication).await {
        Ok(end) => {
            let now = Instant::now();
            let pump = Pump { socket, end, services, options, opened: now, last_received: now };
            // Bounded by the places.
            tokio::spawn(pump.run(place));
        }
        Err(error) => {
            tracing::warn!(%error, "no session for a new socket");
            let code = CloseCode::Overloaded;
            close(&mut socket, code.number(), code.reason()).await;
        }
    }
}

/// Why the loop ended.
enum Ended {
    /// The client closed, or the connection broke.
    Peer,
    /// What came was not WebSocket, or too large.
    Violation(u16, &'static str),
    /// The server closes, for this reason.
    Us(u16),
}

struct Pump {
    socket: WebSocket,
    end: SocketEnd,
    services: Arc<SessionServices>,
    options: WebSocketOptions,
    opened: Instant,
    last_received: Instant,
}

impl Pump {
    async fn run(mut self, _place: OwnedSemaphorePermit) {
        let ended = self.until_closed().await;
        // Rare and large: an open socket keeps no room for it.
        Box::pin(self.finish(ended)).await;
    }

    async fn until_closed(&mut self) -> Ended {
        let mut burst: Vec<String> = Vec::new();
        let credits = self.end.credits();
        let mut credit = credits.try_take();
        let mut check = pin!(tokio::time::sleep_until(self.next_check()));
        let closing = self.end.line().closing().clone();
        let mut requested = pin!(closing.requested());
        loop {
            tokio::select! {
                biased;
                number = &mut requested => return Ended::Us(number),
                count = self.end.outbound.recv_many(&mut burst, BURST_MAX) => {
                    if count == 0 {
                        // The session has died (ISOLATE): the client reconnects and resumes.
                        let draining = self.services.drain.has_begun();
                        let code = if draining { CloseCode::Draining } else { CloseCode::Internal };
                        return Ended::Us(code.number());
                    }
                    tokio::select! {
                        biased;
                        number = &mut requested => return Ended::Us(number),
                        written = self.write(&mut burst) => if let Err(ended) = written {
                            return ended;
                        },
                    }
                    // What the client says is not kept waiting by what there is to say to it.
                    if credit.is_some()
                        && let Some(received) = self.socket.next().now_or_never()
                        && let Some(ended) = self.take_in(received, &mut credit)
                    {
                        return ended;
                    }
                }
                received = self.socket.next(), if credit.is_some() => {
                    if let Some(ended) = self.take_in(received, &mut credit) {
                        return ended;
                    }
                }
                // As many frames are under way as may be: the socket is not read until one is answered.
                free = credits.take(), if credit.is_none() => {
                    // What the client has sent meanwhile waits in the kernel; it has not been silent.
                    self.last_received = Instant::now();
                    credit = Some(free);
                }
                () = &mut check => {
                    if let Some(code) = self.overdue() {
                        return Ended::Us(code.number());
                    }
                    let next = self.next_check();
                    check.as_mut().reset(next);
                }
            }
        }
    }

    /// Hands what the socket brought to the session, under a credit; says if that was the end.
    fn take_in(
        &mut self,
        received: Option<Result<Message, axum::Error>>,
        credit: &mut Option<Credit>,
    ) -> Option<Ended> {
        self.last_received = Instant::now();
        let frame = match received {
            None => return Some(Ended::Peer),
            Some(Err(error)) => return Some(violation(error)),
            Some(Ok(Message::Close(_))) => return Some(Ended::Peer),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return None,
            Some(Ok(Message::Text(text))) => ClientFrame::parse(&text),
            Some(Ok(Message::Binary(_))) => Err(RefusedFrame {
                code: ErrorCode::MalformedFrame,
                detail: "frames are json text".to_owned(),
                client_message_id: None,
                place: None,
            }),
        };
        if let Some(credit) = credit.take()
            && !self.end.received(frame, credit)
        {
            return Some(Ended::Us(CloseCode::Internal.number()));
        }
        *credit = self.end.credits().try_take();
        None
    }

    /// Writes a burst with one flush. A client that does not take the next text in time is too slow.
    async fn write(&mut self, burst: &mut Vec<String>) -> Result<(), Ended> {
        let mut bytes = 0;
        for text in burst.drain(..) {
            bytes += text.len();
            in_time(self.socket.feed(Message::Text(text.into()))).await?;
        }
        in_time(self.socket.flush()).await?;
        self.end.drained(bytes);
        Ok(())
    }

    fn next_check(&self) -> Instant {
        let line = self.end.line();
        let mut next = self.last_received + self.options.idle_timeout;
        if !line.is_authenticated() {
            next = next.min(self.opened + self.options.auth_timeout);
        }
        if let Some(expires_at) = line.token_expires_at() {
            let left = expires_at.saturating_sub(self.services.clock.now());
            next = next.min(Instant::now() + Duration::from_millis(left));
        }
        next.min(Instant::now() + CHECK_INTERVAL_MAX)
    }

    /// Whose time is up?
    fn overdue(&self) -> Option<CloseCode> {
        let line = self.end.line();
        if !line.is_authenticated() && self.services.drain.has_begun() {
            return Some(CloseCode::Draining);
        }
        if !line.is_authenticated() && self.opened.elapsed() >= self.options.auth_timeout {
            return Some(CloseCode::AuthTimeout);
        }
        if self.last_received.elapsed() >= self.options.idle_timeout {
            return Some(CloseCode::IdleTimeout);
        }
        // No leeway here: that is for tokens that come from a pod with another clock.
        let expired = line.token_expires_at().is_some_and(|at| self.services.clock.now() >= at);
        expired.then_some(CloseCode::TokenExpired)
    }

    async fn finish(&mut self, ended: Ended) {
        let (number, reason) = match ended {
            // Answers a close frame, if there was one.
            Ended::Peer => return close(&mut self.socket, 1000, "").await,
            Ended::Violation(number, reason) => (number, reason),
            Ended::Us(number) => {
                // What was said before the close, an `error` for example, is still said.
                let mut burst = Vec::new();
                while let Ok(text) = self.end.outbound.try_recv() {
                    burst.push(text);
                }
                let said = timeout(CLOSE_TIMEOUT, self.write(&mut burst)).await;
                if !matches!(said, Ok(Ok(()))) {
                    // It takes nothing: not the close frame either.
                    return self.services.metrics.closed(number);
                }
                (number, reason(number))
            }
        };
        self.services.metrics.closed(number);
        close(&mut self.socket, number, reason).await;
    }
}

async fn in_time(write: impl Future<Output = Result<(), axum::Error>>) -> Result<(), Ended> {
    match timeout(WRITE_TIMEOUT, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Ended::Peer),
        Err(_) => Err(Ended::Us(CloseCode::SlowConsumer.number())),
    }
}

fn reason(number: u16) -> &'static str {
    let known = CloseCode::ALL.iter().find(|code| code.number() == number);
    known.map_or("", |code| code.reason())
}

/// What a socket that broke the rules is closed with (RFC 6455, section 7.4.1).
fn violation(error: axum::Error) -> Ended {
    use tungstenite::Error as Broken;
    match error.into_inner().downcast::<Broken>().map(|error| *error) {
        Ok(Broken::Capacity(_)) => Ended::Violation(1009, "message too big"),
        Ok(Broken::Utf8(_)) => Ended::Violation(1007, "not utf-8"),
        Ok(Broken::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => Ended::Peer,
        Ok(Broken::Protocol(_)) => Ended::Violation(1002, "protocol error"),
        _ => Ended::Peer,
    }
}

/// Closes in order: our close frame, then whatever the client still says until it has answered.
async fn close(socket: &mut WebSocket, number: u16, reason: &'static str) {
    let frame = CloseFrame { code: number, reason: reason.into() };
    let closing = async {
        // Fails where the close handshake is over or the connection is broken; both are what is wanted.
        let _ = socket.send(Message::Close(Some(frame))).await;
        while let Some(Ok(_)) = socket.next().await {}
    };
    let _ = timeout(CLOSE_TIMEOUT, closing).await;
}
