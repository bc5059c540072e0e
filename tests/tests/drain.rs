//! SIGTERM loses nothing and leaves no client without a place to go (DRAIN).

use colloquy_protocol::frame::client::ResumeCursor;
use colloquy_tests::options::ServerOptions;
use colloquy_tests::pair::Pair;
use colloquy_tests::raw_client::RawClient;
use colloquy_tests::rest::http_client;

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
    assert_eq!(close, Some(colloquy_protocol::close::CloseCode::Draining.number()));
    assert_eq!(pair.server.exit_code().await, Some(0));
}
