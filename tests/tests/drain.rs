//! SIGTERM loses nothing and leaves no client without a place to go (DRAIN).

use std::collections::BTreeSet;

use colloquy_protocol::close::CloseCode;
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::client::ResumeCursor;
use colloquy_protocol::limits::SOCKETS_PER_DEVICE_MAX;
use colloquy_tests::options::ServerOptions;
use colloquy_tests::pair::Pair;
use colloquy_tests::raw_client::{RawClient, auth};
use colloquy_tests::rest::http_client;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::http::HeaderMap;

#[tokio::test]
async fn a_server_told_to_stop_sends_its_clients_away_and_loses_nothing() {
    let mut pair = Pair::start().await;
    let (mut left, mut right) = pair.connect_both().await;
    left.send_many(&pair.left, &[&pair.right], 200).await;
    let readiness = format!("http://{}/readyz", pair.server.operations());
    let http = http_client();
    assert_eq!(http.get(&readiness).send().await.unwrap().status(), 200);

    pair.server.ask_to_stop();
    for client in [&mut left, &mut right] {
        let migration = client.expect_migration().await;
        assert!(!migration.new_endpoint.is_empty());
        assert!(!migration.session_token.is_empty(), "a move needs no refresh");
        assert!(migration.reconnect_after_ms <= 30_000);
    }
    assert_eq!(http.get(&readiness).send().await.unwrap().status(), 503, "no new clients are sent here");
    // What was sent before the client leaves is still taken.
    let last = left.send_message(&pair.left, &[&pair.right], "one more thing").await;
    let last = left.expect_ack(&last).await;
    left.close().await;
    right.close().await;
    assert_eq!(pair.server.exit_code().await, Some(0));

    pair.server.restart().await;
    let log = pair.log().await;
    assert_eq!(log.len(), 201);
    assert_eq!(log.last().unwrap().message_id, last.message_id);
    let cursor = ResumeCursor { conversation_id: pair.conversation(), after_sequence: 200 };
    let (mut right, _) =
        RawClient::connect_and_resume(pair.server.address(), &pair.right, vec![cursor]).await;
    assert_eq!(right.expect_pages().await.len(), 1);
}

#[tokio::test]
async fn a_server_without_clients_stops_at_once() {
    let mut pair = Pair::start().await;
    assert_eq!(pair.server.terminate().await, Some(0));
}

#[tokio::test]
async fn a_client_that_does_not_leave_is_closed_with_a_code_that_brings_it_back() {
    let mut pair = Pair::start_with(ServerOptions::default().set("drain.window_ms", 1_000)).await;
    let mut left = pair.connect(&pair.left).await;
    pair.server.ask_to_stop();
    left.expect_migration().await;
    // It stays: the server ends the connection when its patience does.
    let close = left.expect_end().await;
    assert_eq!(close, Some(CloseCode::Draining.number()));
    assert_eq!(pair.server.exit_code().await, Some(0));
}

#[tokio::test]
async fn while_a_server_drains_nobody_new_is_let_in() {
    let mut pair = Pair::start().await;
    let mut left = pair.connect(&pair.left).await;
    // A connection that was opened before and has asked for something already: it is closed or told to go elsewhere.
    let http = http_client();
    let me = format!("http://{}/v1/me", pair.server.address());
    let ask = || http.get(&me).bearer_auth(&pair.left.tokens.access_token).send();
    assert_eq!(ask().await.unwrap().status(), 200);

    pair.server.ask_to_stop();
    left.expect_migration().await;
    if let Ok(answer) = ask().await {
        assert_eq!(answer.status().as_u16(), ErrorCode::Draining.http_status());
    }
    let address = pair.server.address();
    assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
    assert!(http_client().get(&me).send().await.is_err(), "no new connection speaks HTTP");
    assert!(RawClient::open_with_headers(address, HeaderMap::new()).await.is_err(), "nor WebSocket");
    // The one that is there is served until it leaves.
    let message = left.send_message(&pair.left, &[&pair.right], "one more thing").await;
    left.expect_ack(&message).await;
    left.close().await;
    assert_eq!(pair.server.exit_code().await, Some(0));
}

#[tokio::test]
async fn the_token_of_a_migration_authenticates_at_the_new_place() {
    let mut pair = Pair::start().await;
    let mut left = pair.connect(&pair.left).await;
    pair.server.ask_to_stop();
    let migration = left.expect_migration().await;
    assert_eq!(migration.new_endpoint, format!("ws://{}/ws", pair.server.address()));
    left.close().await;
    assert_eq!(pair.server.exit_code().await, Some(0));
    pair.server.restart().await;

    let mut moved = RawClient::open(pair.server.address()).await;
    moved.send(&auth(&pair.left, &migration.session_token, Vec::new())).await;
    moved.expect_auth_success().await;
    let message = moved.send_message(&pair.left, &[&pair.right], "here I am").await;
    moved.expect_ack(&message).await;
    // It is of the same log-in: the token the device had before goes on counting, and ends with it.
    let gone = pair.rest.delete("/v1/logins/current", &pair.left.tokens.access_token).await;
    assert!((200..300).contains(&gone.status), "{gone:?}");
    moved.expect_close(CloseCode::TokenRevoked).await;
    let mut again = RawClient::open(pair.server.address()).await;
    again.send(&auth(&pair.left, &migration.session_token, Vec::new())).await;
    again.expect_refusal(ErrorCode::TokenRevoked).await;
}

#[tokio::test]
async fn clients_are_sent_away_at_moments_of_their_own_within_the_window() {
    const CLIENTS: usize = 50;
    const WINDOW_MS: u32 = 10_000;
    let mut pair = Pair::start_with(ServerOptions::default().set("drain.window_ms", WINDOW_MS)).await;
    let mut clients = Vec::new();
    while clients.len() < CLIENTS {
        let device = pair.rest.register_user("Somebody", "phone").await;
        for _ in 0..SOCKETS_PER_DEVICE_MAX.min(CLIENTS - clients.len()) {
            clients.push(pair.connect(&device).await);
        }
    }
    pair.server.ask_to_stop();
    let mut waits = BTreeSet::new();
    for client in &mut clients {
        let wait = client.expect_migration().await.reconnect_after_ms;
        assert!(wait <= u64::from(WINDOW_MS), "{wait} ms is after the end");
        waits.insert(wait);
    }
    println!("{} different moments for {CLIENTS} clients: {waits:?}", waits.len());
    assert!(waits.len() > CLIENTS / 4, "they would all come at once: {waits:?}");
    for client in clients {
        client.close().await;
    }
    assert_eq!(pair.server.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_client_that_authenticates_while_the_server_drains_is_sent_away_as_well() {
    let mut pair = Pair::start().await;
    let mut left = pair.connect(&pair.left).await;
    // Upgraded before the drain began, and not told of it: nobody knew yet who it is.
    let mut late = RawClient::open(pair.server.address()).await;
    pair.server.ask_to_stop();
    left.expect_migration().await;
    late.send(&auth(&pair.right, &pair.right.tokens.access_token, Vec::new())).await;
    late.expect_auth_success().await;
    let migration = late.expect_migration().await;
    assert!(!migration.session_token.is_empty());
    left.close().await;
    late.close().await;
    assert_eq!(pair.server.exit_code().await, Some(0));
}
