//! The WebSocket: frames out, frames in, bounded in size and time.

use std::time::Duration;

use colloquy_protocol::frame::client::ClientFrame;
use colloquy_protocol::frame::server::ServerFrame;
use colloquy_protocol::limits::FRAME_MAX_BYTES;
use futures_util::{FutureExt, SinkExt, StreamExt};
use reqwest::Url;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use super::reading::read_frame;
use crate::network::{ByteStream, Network};

/// How long connecting, the TLS handshake and the upgrade may take together.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the server may leave a frame unread before the connection counts as dead.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long saying goodbye may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes read at once.
const READ_BUFFER_BYTES: usize = 16 * 1024;

/// What came from the server.
#[derive(Debug)]
pub(super) enum Received {
    /// A frame.
    Frame(Box<ServerFrame>),
    /// Something else that shows the server to be alive: a ping, or a frame of a newer protocol.
    Other,
    /// The end, with the server's code if it gave one.
    Closed(Option<u16>),
}

/// An open WebSocket.
pub(super) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<Box<dyn ByteStream>>>,
}

impl Socket {
    /// Connects, or gives up after [`CONNECT_TIMEOUT`].
    pub(super) async fn connect(network: &dyn Network, url: &Url) -> Option<Self> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .max_message_size(Some(FRAME_MAX_BYTES))
            .max_frame_size(Some(FRAME_MAX_BYTES));
        let connecting = async {
            let stream = network.connect(url).await?;
            let (stream, _) = client_async_tls_with_config(url.as_str(), stream, Some(config), None).await?;
            Ok::<_, Error>(stream)
        };
        match timeout(CONNECT_TIMEOUT, Box::pin(connecting)).await {
            Ok(Ok(stream)) => Some(Self { stream }),
            Ok(Err(error)) => {
                tracing::debug!(%error, "connecting failed");
                None
            }
            Err(_) => None,
        }
    }

    /// Sends one frame; `false` means that the connection is dead.
    #[must_use]
    pub(super) async fn send(&mut self, frame: &ClientFrame) -> bool {
        self.feed(frame).await && matches!(timeout(WRITE_TIMEOUT, self.stream.flush()).await, Ok(Ok(())))
    }

    /// Queues one frame to leave with the next flush; `false` means that the connection is dead.
    #[must_use]
    pub(super) async fn feed(&mut self, frame: &ClientFrame) -> bool {
        let message = Message::text(frame.to_json());
        matches!(timeout(WRITE_TIMEOUT, self.stream.feed(message)).await, Ok(Ok(())))
    }

    /// Sends what was queued; `false` means that the connection is dead.
    #[must_use]
    pub(super) async fn flush(&mut self) -> bool {
        matches!(timeout(WRITE_TIMEOUT, self.stream.flush()).await, Ok(Ok(())))
    }

    /// Waits for what comes next. Safe to cancel.
    pub(super) async fn receive(&mut self) -> Received {
        read(self.stream.next().await)
    }

    /// What has come already, if anything.
    pub(super) fn try_receive(&mut self) -> Option<Received> {
        self.stream.next().now_or_never().map(read)
    }

    /// Says goodbye, briefly.
    pub(super) async fn close(mut self) {
        let _ = timeout(CLOSE_TIMEOUT, self.stream.close(None)).await;
    }
}

fn read(next: Option<Result<Message, Error>>) -> Received {
    match next {
        Some(Ok(Message::Text(text))) => {
            read_frame(&text).map_or(Received::Other, |frame| Received::Frame(Box::new(frame)))
        }
        Some(Ok(Message::Close(frame))) => Received::Closed(frame.map(|frame| frame.code.into())),
        Some(Ok(_)) => Received::Other,
        Some(Err(_)) | None => Received::Closed(None),
    }
}
