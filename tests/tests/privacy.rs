//! PRIVATE: whatever is logged, it is never a secret, an address, a user's id or a message's content.

use colloquy_protocol::error_code::ErrorCode;
use colloquy_tests::options::ServerOptions;
use colloquy_tests::pair::Pair;

/// Everything our own crates have to say.
const TALKATIVE: &str = "info,colloquy=trace,colloquy_accounts=trace,colloquy_actors=trace,\
                         colloquy_gateway_http=trace,colloquy_runtime=trace,colloquy_storage=trace";

#[tokio::test]
async fn the_most_talkative_log_of_good_and_bad_traffic_holds_nothing_private() {
    let options = ServerOptions::default().set("log.filter", TALKATIVE).set("log.format", "json");
    let mut pair = Pair::start_with(options).await;
    let (mut left, mut right) = pair.connect_both().await;
    left.send_many(&pair.left, &[&pair.right], 3).await;
    let received = right.expect_message().await;
    right.acknowledge(&received).await;
    right.mark_read(&received).await;
    left.expect_read_through(1).await;
    left.send_text(&format!("{{\"type\":\"{}\"", pair.left.email)).await;
    left.expect_refusal(ErrorCode::MalformedFrame).await;
    let wrong = pair.rest.get("/v1/me", &format!("{}x", pair.left.tokens.access_token)).await;
    assert_eq!(wrong.refusal(), ErrorCode::InvalidToken);
    let path = format!("/v1/users?email={}", pair.right.email);
    assert_eq!(pair.rest.get(&path, &pair.left.tokens.access_token).await.status, 200);
    let path = format!("/v1/users/{}/devices", pair.right.user_id);
    assert_eq!(pair.rest.get(&path, &pair.left.tokens.access_token).await.status, 200);
    left.close().await;
    right.close().await;
    assert_eq!(pair.server.terminate().await, Some(0));
    assert!(!pair.server.log().is_empty(), "there is a log to look at");
    pair.server.assert_log_is_private();
}
