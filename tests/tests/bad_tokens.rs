//! Tokens that are expired, forged, unsigned or revoked: refused alike on the WebSocket and over REST.

use colloquy_protocol::close::CloseCode;
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::rest::accounts::{Refresh, Tokens};
use colloquy_tests::forgery::Forgery;
use colloquy_tests::options::ServerOptions;
use colloquy_tests::pair::Pair;
use colloquy_tests::raw_client::{RawClient, auth};
use serde_json::Value;

const DAY_S: i64 = 24 * 60 * 60;

/// `token` in the name of Left gets `code` over REST, and `code` and then `close` on the WebSocket.
async fn is_refused(pair: &Pair, token: &str, code: ErrorCode, close: CloseCode) {
    assert_eq!(pair.rest.get("/v1/me", token).await.refusal(), code);
    let mut client = RawClient::open(pair.server.address()).await;
    client.send(&auth(&pair.left, token, Vec::new())).await;
    client.expect_refusal(code).await;
    client.expect_close(close).await;
}

#[tokio::test]
async fn an_expired_token_is_told_from_a_bad_one() {
    let pair = Pair::start().await;
    let expired = Forgery::of(&pair.left.tokens.access_token).shifted(-DAY_S);
    let token = expired.signed_by_the_server(&pair.server.data_dir());
    is_refused(&pair, &token, ErrorCode::TokenExpired, CloseCode::TokenExpired).await;
}

#[tokio::test]
async fn a_token_from_a_clock_that_is_a_day_ahead_is_not_believed_and_not_thrown_away() {
    let pair = Pair::start().await;
    let early = Forgery::of(&pair.left.tokens.access_token).shifted(DAY_S);
    let token = early.signed_by_the_server(&pair.server.data_dir());
    is_refused(&pair, &token, ErrorCode::Unavailable, CloseCode::Internal).await;
}

#[tokio::test]
async fn a_forged_token_is_not_believed() {
    let pair = Pair::start().await;
    let forgery = Forgery::of(&pair.left.tokens.access_token);
    let stolen = Forgery::of(&pair.right.tokens.access_token).of_subject(&pair.left.user_id.to_string());
    for token in [
        forgery.signed_by_another_key(),
        stolen.under_the_old_signature(),
        pair.left.tokens.refresh_token.clone(),
        "not.a.token".to_owned(),
        String::from("x"),
    ] {
        is_refused(&pair, &token, ErrorCode::InvalidToken, CloseCode::InvalidToken).await;
    }
}

#[tokio::test]
async fn a_token_without_a_signature_is_not_believed() {
    let pair = Pair::start().await;
    let token = Forgery::of(&pair.left.tokens.access_token).unsigned();
    is_refused(&pair, &token, ErrorCode::InvalidToken, CloseCode::InvalidToken).await;
}

#[tokio::test]
async fn a_token_signed_with_the_public_key_as_a_secret_is_not_believed() {
    let pair = Pair::start().await;
    let keys: Value = pair.rest.get("/.well-known/jwks.json", "").await.read();
    let public = keys["keys"][0]["x"].as_str().unwrap();
    let token = Forgery::of(&pair.left.tokens.access_token).confused(public);
    is_refused(&pair, &token, ErrorCode::InvalidToken, CloseCode::InvalidToken).await;
}

#[tokio::test]
async fn somebody_elses_good_token_is_not_believed() {
    let pair = Pair::start().await;
    let mut client = RawClient::open(pair.server.address()).await;
    client.send(&auth(&pair.left, &pair.right.tokens.access_token, Vec::new())).await;
    client.expect_refusal(ErrorCode::InvalidToken).await;
    client.expect_close(CloseCode::InvalidToken).await;
}

#[tokio::test]
async fn logging_out_closes_the_open_socket_and_revokes_the_token() {
    let pair = Pair::start().await;
    let mut open = pair.connect(&pair.left).await;
    let token = &pair.left.tokens.access_token;
    let gone = pair.rest.delete("/v1/logins/current", token).await;
    assert!((200..300).contains(&gone.status), "{gone:?}");
    open.expect_close(CloseCode::TokenRevoked).await;
    is_refused(&pair, token, ErrorCode::TokenRevoked, CloseCode::TokenRevoked).await;
}

#[tokio::test]
async fn a_refresh_token_used_long_ago_revokes_its_log_in() {
    let pair = Pair::start().await;
    let mut open = pair.connect(&pair.left).await;
    let refresh = Refresh { refresh_token: pair.left.tokens.refresh_token.clone(), request_id: None };
    let second: Tokens = pair.rest.post("/v1/logins/refresh", None, &refresh).await.read();
    // The newest but one is still taken for a retry whose answer was lost; an older one is not.
    let next = Refresh { refresh_token: second.refresh_token, request_id: None };
    let fresh: Tokens = pair.rest.post("/v1/logins/refresh", None, &next).await.read();
    let again = pair.rest.post("/v1/logins/refresh", None, &refresh).await;
    assert_eq!(again.refusal(), ErrorCode::RefreshTokenReused);
    open.expect_close(CloseCode::TokenRevoked).await;
    is_refused(&pair, &fresh.access_token, ErrorCode::TokenRevoked, CloseCode::TokenRevoked).await;
}

#[tokio::test]
async fn a_socket_whose_token_runs_out_is_told_to_refresh_it() {
    let options = ServerOptions::default().set("accounts.access_token_lifetime_s", 2);
    let pair = Pair::start_with(options).await;
    let mut left = RawClient::open(pair.server.address()).await;
    left.send(&auth(&pair.left, &pair.left.tokens.access_token, Vec::new())).await;
    left.expect_auth_success().await;
    left.expect_close(CloseCode::TokenExpired).await;
}
