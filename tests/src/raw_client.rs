//! One WebSocket, frame by frame: does nothing by itself, so a test decides what is sent and when.

use std::collections::VecDeque;
use std::net::SocketAddr;

use colloquy_protocol::close::CloseCode;
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::client::{
    Auth, ClientFrame, DeliveryAck, Heartbeat, MessagePosition, ReadReceipt, ResumeCursor, SendMessage,
};
use colloquy_protocol::frame::delta::{Delta, TurnPlace};
use colloquy_protocol::frame::server::{
    AuthSuccess, DeliveredMessage, DeliveryReceipt, ErrorPayload, MessageAck, MessagesPage, Migration,
    Presence, ReadReceipt as WasRead, ServerFrame, Typing,
};
use colloquy_protocol::ids::MessageId;
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue, Request};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::DEADLINE;
use crate::ambient::now;
use crate::device::Device;

/// Frames that may be passed over while a test waits for another one (BOUND).
const PASSED_OVER_MAX: usize = 100_000;

/// Messages [`RawClient::send_many`] has on the way at once; below the server's own bound.
const SEND_AT_ONCE: u64 = 50;

/// One WebSocket connection.
pub struct RawClient {
    socket: WebSocketStream<TcpStream>,
    /// Frames that came while the test waited for another one, oldest first.
    passed_over: VecDeque<ServerFrame>,
}

/// What came out of the socket next.
#[derive(Debug)]
pub enum Incoming {
    /// A frame.
    Frame(Box<ServerFrame>),
    /// The end, with the number of the close frame if there was one.
    Closed(Option<u16>),
}

impl RawClient {
    /// Opens a socket that is not authenticated yet.
    pub async fn open(address: SocketAddr) -> Self {
        Self::open_with_headers(address, HeaderMap::new()).await.expect("the upgrade is accepted")
    }

    /// Opens a socket with further headers in the handshake.
    ///
    /// # Errors
    /// Whatever the handshake was refused with.
    pub async fn open_with_headers(address: SocketAddr, headers: HeaderMap) -> Result<Self, Box<Error>> {
        let stream = TcpStream::connect(address).await.map_err(Error::Io)?;
        Self::upgrade(stream, headers).await
    }

    /// Opens a socket that is authenticated as `device` and takes in little: its kernel keeps no more than about
    /// `receive_buffer_bytes` that the test has not read.
    pub async fn connect_narrow(address: SocketAddr, device: &Device, receive_buffer_bytes: u32) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket can be made");
        socket.set_recv_buffer_size(receive_buffer_bytes).expect("a receive buffer can be small");
        let stream = socket.connect(address).await.expect("the server accepts a connection");
        let mut client = Self::upgrade(stream, HeaderMap::new()).await.expect("the upgrade is accepted");
        client.send(&auth(device, &device.tokens.access_token, Vec::new())).await;
        client.expect_auth_success().await;
        client
    }

    async fn upgrade(stream: TcpStream, headers: HeaderMap) -> Result<Self, Box<Error>> {
        let address = stream.peer_addr().map_err(Error::Io)?;
        let mut request: Request<()> = format!("ws://{address}/ws").into_client_request()?;
        request.headers_mut().extend(headers);
        stream.set_nodelay(true).map_err(Error::Io)?;
        let handshake = tokio_tungstenite::client_async(request, stream);
        let (socket, _) = timeout(DEADLINE, handshake).await.expect("the handshake is answered in time")?;
        Ok(Self { socket, passed_over: VecDeque::new() })
    }

    /// Opens a socket that authenticates in the handshake.
    pub async fn connect_by_header(address: SocketAddr, device: &Device) -> Self {
        let mut headers = HeaderMap::new();
        let bearer = format!("Bearer {}", device.tokens.access_token);
        headers.insert("authorization", HeaderValue::from_str(&bearer).expect("a token is ascii"));
        let id = HeaderValue::from_str(device.device_id.as_str()).expect("a device id is ascii");
        headers.insert("x-colloquy-device", id);
        Self::open_with_headers(address, headers).await.expect("the upgrade is accepted")
    }

    /// Opens a socket for `device` and waits until it is authenticated.
    pub async fn connect(address: SocketAddr, device: &Device) -> Self {
        Self::connect_and_resume(address, device, Vec::new()).await.0
    }

    /// The same, from where `device` stands.
    pub async fn connect_and_resume(
        address: SocketAddr,
        device: &Device,
        resume: Vec<ResumeCursor>,
    ) -> (Self, AuthSuccess) {
        let mut client = Self::open(address).await;
        client.send(&auth(device, &device.tokens.access_token, resume)).await;
        let success = client.expect_auth_success().await;
        (client, success)
    }

    /// Sends one frame.
    pub async fn send(&mut self, frame: &ClientFrame) {
        self.send_text(&frame.to_json()).await;
    }

    /// Sends any text.
    pub async fn send_text(&mut self, text: &str) {
        self.try_send_text(text).await.expect("the socket takes a frame");
    }

    /// Sends any text to a socket that may be closed by now.
    ///
    /// # Errors
    /// If it is closed.
    pub async fn try_send_text(&mut self, text: &str) -> Result<(), Box<Error>> {
        let sent = timeout(DEADLINE, self.socket.send(Message::text(text))).await;
        sent.expect("the socket takes a frame in time").map_err(Box::new)
    }

    /// Puts a frame into the write buffer; [`RawClient::flush`] sends it.
    ///
    /// # Errors
    /// If the socket is closed.
    pub async fn feed(&mut self, frame: &ClientFrame) -> Result<(), Box<Error>> {
        self.socket.feed(Message::text(frame.to_json())).await.map_err(Box::new)
    }

    /// Sends what was fed.
    ///
    /// # Errors
    /// If the socket is closed.
    pub async fn flush(&mut self) -> Result<(), Box<Error>> {
        self.socket.flush().await.map_err(Box::new)
    }

    /// Sends a binary message, which no frame of ours is.
    pub async fn send_binary(&mut self, bytes: Vec<u8>) {
        self.socket.send(Message::binary(bytes)).await.expect("the socket takes a frame");
    }

    /// Sends a message from `sender` sealed for `recipients`, and returns what was sent.
    pub async fn send_message(&mut self, sender: &Device, recipients: &[&Device], text: &str) -> SendMessage {
        let message = sender.compose(recipients, text);
        self.send(&ClientFrame::Message(Box::new(message.clone()))).await;
        message
    }

    /// Sends `count` messages and waits for their acks, a few at a time.
    pub async fn send_many(&mut self, sender: &Device, recipients: &[&Device], count: u64) {
        let mut left = count;
        while left > 0 {
            let now = left.min(SEND_AT_ONCE);
            let mut sent = Vec::new();
            for _ in 0..now {
                sent.push(self.send_message(sender, recipients, "one of many").await);
            }
            for message in &sent {
                self.expect_ack(message).await;
            }
            left -= now;
        }
    }

    /// Acknowledges `message` and everything before it.
    pub async fn acknowledge(&mut self, message: &DeliveredMessage) {
        self.send(&ClientFrame::DeliveryAck(delivery_ack(message))).await;
    }

    /// Says that the user has seen `message` and everything before it.
    pub async fn mark_read(&mut self, message: &DeliveredMessage) {
        let receipt = ReadReceipt { message_ids: vec![message.message_id], timestamp: now() };
        self.send(&ClientFrame::ReadReceipt(receipt)).await;
    }

    /// Sends a heartbeat and waits for its answer: everything sent before it has been taken up by then.
    pub async fn heartbeat(&mut self) {
        self.send(&ClientFrame::Heartbeat(Heartbeat { timestamp: now() })).await;
        self.expect("heartbeat_ack", |frame| matches!(frame, ServerFrame::HeartbeatAck { .. }).then_some(()))
            .await;
    }

    /// The next frame, or the end; passed-over frames are not looked at.
    pub async fn next(&mut self) -> Incoming {
        timeout(DEADLINE, self.read()).await.expect("the server says something in time")
    }

    /// The same, however long it takes. What was begun is not lost when it is dropped.
    pub async fn read(&mut self) -> Incoming {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    let frame = serde_json::from_str(text.as_str());
                    return Incoming::Frame(frame.expect("every frame of the server is documented"));
                }
                Some(Ok(Message::Close(close))) => {
                    return Incoming::Closed(close.map(|close| close.code.into()));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => panic!("the server sent {other:?}, which is no frame of ours"),
                Some(Err(_)) | None => return Incoming::Closed(None),
            }
        }
    }

    /// Waits for the first frame that `pick` wants; others are kept for later expectations.
    pub async fn expect<T>(&mut self, kind: &str, pick: impl Fn(&ServerFrame) -> Option<T>) -> T {
        if let Some(index) = self.passed_over.iter().position(|frame| pick(frame).is_some())
            && let Some(frame) = self.passed_over.remove(index)
        {
            return pick(&frame).expect("the same frame is picked twice");
        }
        let waited = timeout(DEADLINE, async {
            loop {
                match self.read().await {
                    Incoming::Frame(frame) => match pick(&frame) {
                        Some(picked) => return picked,
                        None => self.passed_over.push_back(*frame),
                    },
                    Incoming::Closed(code) => {
                        panic!(
                            "closed with {code:?} while waiting for {kind}; before: {:?}",
                            self.passed_over
                        )
                    }
                }
                assert!(self.passed_over.len() <= PASSED_OVER_MAX, "no {kind} among very many frames");
            }
        })
        .await;
        match waited {
            Ok(picked) => picked,
            Err(_) => panic!("no {kind} within {DEADLINE:?}; instead: {:?}", self.passed_over),
        }
    }

    /// The same with no deadline, which the test has to set; what was kept before is not looked at, nothing is kept.
    ///
    /// # Panics
    /// If the socket is closed.
    pub async fn awaits<T>(&mut self, pick: impl Fn(&ServerFrame) -> Option<T>) -> T {
        loop {
            match self.read().await {
                Incoming::Frame(frame) => match pick(&frame) {
                    Some(picked) => return picked,
                    None => continue,
                },
                Incoming::Closed(code) => panic!("closed with {code:?} while waiting"),
            }
        }
    }

    /// Has any frame come, so far, that `pick` wants?
    #[must_use]
    pub fn has_seen(&self, pick: impl Fn(&ServerFrame) -> bool) -> bool {
        self.passed_over.iter().any(pick)
    }

    /// Waits for `auth_success`.
    pub async fn expect_auth_success(&mut self) -> AuthSuccess {
        self.expect("auth_success", |frame| match frame {
            ServerFrame::AuthSuccess { payload } => Some(payload.clone()),
            _ => None,
        })
        .await
    }

    /// Waits for the ack of `message`.
    pub async fn expect_ack(&mut self, message: &SendMessage) -> MessageAck {
        self.expect("message_ack", |frame| match frame {
            ServerFrame::MessageAck { client_message_id, payload }
                if *client_message_id == message.client_message_id =>
            {
                Some(*payload)
            }
            _ => None,
        })
        .await
    }

    /// Waits for a live message.
    pub async fn expect_message(&mut self) -> DeliveredMessage {
        self.expect("message", |frame| match frame {
            ServerFrame::Message { payload } => Some(payload.clone()),
            _ => None,
        })
        .await
    }

    /// Waits for this message, live or on a page: who has missed the moment is shown it from the log.
    pub async fn expect_shown(&mut self, id: MessageId) -> DeliveredMessage {
        self.expect("the message", |frame| message_with_id(frame, id)).await
    }

    /// Waits for a page of messages.
    pub async fn expect_page(&mut self) -> MessagesPage {
        self.expect("messages", |frame| match frame {
            ServerFrame::Messages { payload } => Some(payload.clone()),
            _ => None,
        })
        .await
    }

    /// Waits for pages until one says that nothing more follows, and returns what was on them.
    pub async fn expect_pages(&mut self) -> Vec<DeliveredMessage> {
        let mut messages = Vec::new();
        loop {
            let page = self.expect_page().await;
            messages.extend(page.messages);
            if !page.more {
                return messages;
            }
        }
    }

    /// Waits for an `error` frame.
    pub async fn expect_error(&mut self) -> (Option<String>, ErrorPayload) {
        self.expect("error", |frame| match frame {
            ServerFrame::Error { client_message_id, payload } => {
                Some((client_message_id.clone(), payload.clone()))
            }
            _ => None,
        })
        .await
    }

    /// Waits for an `error` frame, which must have `code`.
    pub async fn expect_refusal(&mut self, code: ErrorCode) -> Option<String> {
        let (client_message_id, payload) = self.expect_error().await;
        assert_eq!(payload.code, code, "{}", payload.message);
        assert_eq!(payload.retryable, code.is_retryable(), "a code is retryable everywhere or nowhere");
        client_message_id
    }

    /// Waits for a delivery receipt that covers `sequence`.
    pub async fn expect_delivered_through(&mut self, sequence: u64) -> DeliveryReceipt {
        self.expect("delivery_receipt", |frame| match frame {
            ServerFrame::DeliveryReceipt { payload } if payload.through_sequence >= sequence => {
                Some(payload.clone())
            }
            _ => None,
        })
        .await
    }

    /// Waits for a read receipt that covers `sequence`.
    pub async fn expect_read_through(&mut self, sequence: u64) -> WasRead {
        self.expect("read_receipt", |frame| match frame {
            ServerFrame::ReadReceipt { payload } if payload.through_sequence >= sequence => {
                Some(payload.clone())
            }
            _ => None,
        })
        .await
    }

    /// Waits for `migration`.
    pub async fn expect_migration(&mut self) -> Migration {
        self.expect("migration", |frame| match frame {
            ServerFrame::Migration { payload } => Some(payload.clone()),
            _ => None,
        })
        .await
    }

    /// Waits for `presence`.
    pub async fn expect_presence(&mut self) -> Presence {
        self.expect("presence", |frame| match frame {
            ServerFrame::Presence { payload } => Some(*payload),
            _ => None,
        })
        .await
    }

    /// Waits for `typing`.
    pub async fn expect_typing(&mut self) -> Typing {
        self.expect("typing", |frame| match frame {
            ServerFrame::Typing { payload } => Some(*payload),
            _ => None,
        })
        .await
    }

    /// Waits for `delta`.
    pub async fn expect_delta(&mut self) -> Delta {
        self.expect("delta", |frame| match frame {
            ServerFrame::Delta { payload } => Some(payload.clone()),
            _ => None,
        })
        .await
    }

    /// Waits for `turn_given_up`.
    pub async fn expect_turn_given_up(&mut self) -> TurnPlace {
        self.expect("turn_given_up", |frame| match frame {
            ServerFrame::TurnGivenUp { payload } => Some(*payload),
            _ => None,
        })
        .await
    }

    /// Waits for the socket to be closed; frames before the close are kept.
    pub async fn expect_end(&mut self) -> Option<u16> {
        loop {
            match self.next().await {
                Incoming::Frame(frame) => self.passed_over.push_back(*frame),
                Incoming::Closed(code) => return code,
            }
        }
    }

    /// Waits for the socket to be closed with `code`.
    pub async fn expect_close(&mut self, code: CloseCode) {
        let got = self.expect_end().await;
        assert_eq!(got, Some(code.number()), "expected {code:?}; before: {:?}", self.passed_over);
    }

    /// Says that the socket is to be closed; what the server has sent before it agrees still comes.
    pub async fn begin_close(&mut self) {
        // The server may have closed it first.
        let _ = self.socket.close(None).await;
    }

    /// Closes the socket as a client does that goes away in good order.
    pub async fn close(mut self) {
        self.begin_close().await;
        while let Incoming::Frame(_) = self.next().await {}
    }
}

/// The `auth` frame of `device` with `token`.
#[must_use]
pub fn auth(device: &Device, token: &str, resume: Vec<ResumeCursor>) -> ClientFrame {
    ClientFrame::Auth(Auth {
        user_id: device.user_id,
        auth_token: token.to_owned(),
        device_id: device.device_id.clone(),
        platform: "terminal".into(),
        app_version: "1.0.0".into(),
        resume,
    })
}

/// The message called `id`, if `frame` brings it, live or on a page.
#[must_use]
pub fn message_with_id(frame: &ServerFrame, id: MessageId) -> Option<DeliveredMessage> {
    match frame {
        ServerFrame::Message { payload } if payload.message_id == id => Some(payload.clone()),
        ServerFrame::Messages { payload } => payload.messages.iter().find(|m| m.message_id == id).cloned(),
        _ => None,
    }
}

/// The `delivery_ack` for `message`.
#[must_use]
pub fn delivery_ack(message: &DeliveredMessage) -> DeliveryAck {
    DeliveryAck {
        message_id: message.message_id,
        position: Some(MessagePosition {
            conversation_id: message.conversation_id,
            sequence_number: message.sequence_number,
        }),
        timestamp: now(),
    }
}
