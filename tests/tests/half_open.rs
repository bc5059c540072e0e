//! Sockets whose other end has gone silent are closed; those that say something stay.

use std::time::Duration;

use colloquy_protocol::close::CloseCode;
use colloquy_tests::options::ServerOptions;
use colloquy_tests::pair::Pair;
use colloquy_tests::raw_client::RawClient;
use tokio::time::interval;

const IDLE_TIMEOUT_MS: u32 = 1_000;

fn impatient() -> ServerOptions {
    ServerOptions::default().set("limits.idle_timeout_ms", IDLE_TIMEOUT_MS)
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
    let pair = Pair::start_with(ServerOptions::default().set("limits.auth_timeout_ms", 500)).await;
    let mut client = RawClient::open(pair.server.address()).await;
    client.expect_close(CloseCode::AuthTimeout).await;
}
