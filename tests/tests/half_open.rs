//! Sockets whose other end has gone silent, or says a byte at a time, are closed, and what they held is given back; those
//! that say something stay.

use std::time::Duration;

use colloquy_protocol::close::CloseCode;
use colloquy_protocol::frame::PresenceStatus;
use colloquy_protocol::frame::client::{ClientFrame, PresenceSubscribe};
use colloquy_protocol::frame::server::ServerFrame;
use colloquy_tests::DEADLINE;
use colloquy_tests::device::Device;
use colloquy_tests::metrics::{Sample, sum};
use colloquy_tests::options::ServerOptions;
use colloquy_tests::pair::Pair;
use colloquy_tests::raw_client::{RawClient, auth};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, timeout};

const IDLE_TIMEOUT_MS: u32 = 1_000;
const SHORT_TIMEOUT_MS: u32 = 500;
/// A byte of a slow sender comes this often: many times in every deadline that is to cut it off.
const DRIP_INTERVAL: Duration = Duration::from_millis(50);
/// What the server gives a peer to answer its close frame, after the idle timeout; the rest is for a busy machine.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2 + 4);

fn impatient() -> ServerOptions {
    ServerOptions::default().set("limits.idle_timeout_ms", IDLE_TIMEOUT_MS)
}

/// A socket of which the test has every byte in its hand.
struct BareSocket {
    stream: TcpStream,
}

impl BareSocket {
    async fn connect(pair: &Pair) -> Self {
        let stream = TcpStream::connect(pair.server.address()).await.expect("the port is open");
        stream.set_nodelay(true).expect("an open socket can be tuned");
        Self { stream }
    }

    /// Upgraded to a WebSocket by hand.
    async fn upgraded(pair: &Pair) -> Self {
        let mut socket = Self::connect(pair).await;
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            pair.server.address()
        );
        socket.stream.write_all(request.as_bytes()).await.expect("the server reads");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.stream.read_u8().await.expect("the handshake is answered"));
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        socket
    }

    /// Upgraded and authenticated as `device`.
    async fn authenticated(pair: &Pair, device: &Device) -> Self {
        let mut socket = Self::upgraded(pair).await;
        let text = auth(device, &device.tokens.access_token, Vec::new()).to_json();
        socket.stream.write_all(&masked_text(&text)).await.expect("the server reads");
        // Some byte of `auth_success`; nothing else is said before it.
        assert_eq!(socket.stream.read_u8().await.expect("the server answers"), 0x81);
        socket
    }

    /// Writes `bytes` one at a time until the server hangs up; returns how long that took and what it said.
    async fn drip(self, bytes: &[u8]) -> (Duration, Vec<u8>) {
        let (mut reader, mut writer) = self.stream.into_split();
        let began = Instant::now();
        let mut said = Vec::new();
        let dripping = async {
            let mut timer = interval(DRIP_INTERVAL);
            for byte in bytes {
                timer.tick().await;
                if writer.write_all(&[*byte]).await.is_err() {
                    break;
                }
            }
            // All is said: only the server can end it now.
            std::future::pending::<()>().await;
        };
        // An end or a reset: either way it is over.
        let ended = timeout(DEADLINE, async {
            tokio::select! {
                ended = reader.read_to_end(&mut said) => ended,
                () = dripping => unreachable!("dripping has no end of its own"),
            }
        });
        let _ = ended.await.expect("a slow sender is not waited for without end");
        (began.elapsed(), said)
    }
}

/// A client's text frame of more than 125 and less than 64 KiB bytes, masked with zeros (RFC 6455, section 5.2).
fn masked_text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a frame of ours has less than 64 KiB");
    assert!(length > 125, "short frames have another head");
    let mut frame = vec![0x81, 0x80 | 126];
    frame.extend(length.to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    frame
}

/// The number in the close frame that ends `bytes`.
fn close_number(bytes: &[u8]) -> Option<u16> {
    // Frames of the server are not masked: 0x88, a length below 126, the number, the reason.
    let start = bytes.windows(2).rposition(|head| head[0] == 0x88 && head[1] >= 2 && head[1] < 126)?;
    let number = bytes.get(start + 2..start + 4)?;
    Some(u16::from_be_bytes([number[0], number[1]]))
}

async fn watch(client: &mut RawClient, watched: &Device) {
    let subscribe = PresenceSubscribe { user_ids: vec![watched.user_id] };
    client.send(&ClientFrame::PresenceSubscribe(subscribe)).await;
}

fn is_offline(frame: &ServerFrame) -> bool {
    matches!(frame, ServerFrame::Presence { payload } if payload.status == PresenceStatus::Offline)
}

#[tokio::test]
async fn a_socket_that_says_nothing_is_closed() {
    let pair = Pair::start_with(impatient()).await;
    let mut left = pair.connect(&pair.left).await;
    left.expect_close(CloseCode::IdleTimeout).await;
}

#[tokio::test]
async fn a_socket_with_heartbeats_stays_open() {
    let pair = Pair::start_with(impatient()).await;
    let mut left = pair.connect(&pair.left).await;
    // A client's heartbeat timer, over three times the idle timeout.
    let mut timer = interval(Duration::from_millis(u64::from(IDLE_TIMEOUT_MS) / 4));
    for _ in 0..12 {
        timer.tick().await;
        left.heartbeat().await;
    }
}

#[tokio::test]
async fn a_socket_that_never_authenticates_is_closed() {
    let options = ServerOptions::default().set("limits.auth_timeout_ms", SHORT_TIMEOUT_MS);
    let pair = Pair::start_with(options).await;
    let mut client = RawClient::open(pair.server.address()).await;
    client.expect_close(CloseCode::AuthTimeout).await;
}

#[tokio::test]
async fn a_peer_that_neither_reads_nor_writes_again_is_given_up_with_all_it_held() {
    let pair = Pair::start_with(impatient()).await;
    let mut left = pair.connect(&pair.left).await;
    left.send_many(&pair.left, &[&pair.right], 1).await;
    // It stays open at this end, and nobody touches it any more: no close frame is answered, no end is seen.
    let vanished = BareSocket::authenticated(&pair, &pair.right).await;
    let began = Instant::now();
    watch(&mut left, &pair.right).await;
    let mut timer = interval(Duration::from_millis(u64::from(IDLE_TIMEOUT_MS) / 4));
    while !left.has_seen(is_offline) {
        timer.tick().await;
        left.heartbeat().await;
        assert!(began.elapsed() < DEADLINE, "somebody who has vanished is still shown as online");
    }
    let (took, idle) = (began.elapsed(), Duration::from_millis(u64::from(IDLE_TIMEOUT_MS)));
    println!("gone after {took:?}");
    assert!(took < idle + CLOSE_PATIENCE, "given up after {took:?} only");
    let sessions = |samples: &[Sample]| sum(samples, "colloquy_actors", &[("kind", "Session")]);
    let counted = timeout(DEADLINE, async { while sessions(&pair.server.scrape().await) > 1.0 {} });
    counted.await.expect("its session is gone as well");
    drop(vanished);
    // Its user is let in again and has missed nothing.
    let mut right = pair.connect(&pair.right).await;
    assert_eq!(right.expect_pages().await.len(), 1);
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_cut_off() {
    let options = ServerOptions::default().set("limits.header_timeout_ms", SHORT_TIMEOUT_MS);
    let pair = Pair::start_with(options).await;
    let mut slow = BareSocket::connect(&pair).await.stream;
    slow.write_all(b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: webs").await.unwrap();
    let mut answer = Vec::new();
    let ended = timeout(DEADLINE, slow.read_to_end(&mut answer)).await;
    // Whether it ends with an answer (408), an end or a reset: it ends.
    let _ = ended.expect("a slow handshake is not waited for without end");
    assert!(!answer.starts_with(b"HTTP/1.1 101"));
    pair.assert_conversation_works().await;
}

#[tokio::test]
async fn a_request_head_that_drips_is_cut_off_at_its_deadline() {
    let options = ServerOptions::default().set("limits.header_timeout_ms", SHORT_TIMEOUT_MS);
    let pair = Pair::start_with(options).await;
    let head = format!("GET /v1/me HTTP/1.1\r\nHost: localhost\r\nX-Padding: {}", "x".repeat(1_000));
    let (took, answer) = BareSocket::connect(&pair).await.drip(head.as_bytes()).await;
    println!("cut off after {took:?}");
    assert!(took >= Duration::from_millis(u64::from(SHORT_TIMEOUT_MS)), "cut off after {took:?} already");
    assert!(took < Duration::from_secs(5), "cut off after {took:?} only");
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
    pair.assert_conversation_works().await;
}

#[tokio::test]
async fn an_auth_frame_that_drips_is_cut_off_when_the_time_to_authenticate_is_up() {
    let options = ServerOptions::default().set("limits.auth_timeout_ms", SHORT_TIMEOUT_MS);
    let pair = Pair::start_with(options).await;
    let text = auth(&pair.left, &pair.left.tokens.access_token, Vec::new()).to_json();
    let socket = BareSocket::upgraded(&pair).await;
    let (took, said) = socket.drip(&masked_text(&text)).await;
    println!("cut off after {took:?}");
    assert!(took < Duration::from_millis(u64::from(SHORT_TIMEOUT_MS)) + CLOSE_PATIENCE);
    assert_eq!(close_number(&said), Some(CloseCode::AuthTimeout.number()));
    pair.assert_conversation_works().await;
}

#[tokio::test]
async fn a_frame_that_drips_does_not_keep_its_socket_open() {
    let pair = Pair::start_with(impatient()).await;
    let socket = BareSocket::authenticated(&pair, &pair.left).await;
    let (took, said) = socket.drip(&masked_text(&"x".repeat(60_000))).await;
    println!("cut off after {took:?}");
    assert!(took < Duration::from_millis(u64::from(IDLE_TIMEOUT_MS)) + CLOSE_PATIENCE);
    assert_eq!(close_number(&said), Some(CloseCode::IdleTimeout.number()));
    pair.assert_conversation_works().await;
}
