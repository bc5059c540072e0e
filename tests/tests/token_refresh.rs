//! A fresh token on the open socket: a good one prolongs the session, a bad one costs nothing but a word, a revoked one
//! ends it.

use std::time::Duration;

use colloquy_protocol::close::CloseCode;
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::client::{ClientFrame, TokenRefresh};
use colloquy_protocol::frame::server::ServerFrame;
use colloquy_protocol::rest::accounts::{Refresh, Tokens};
use colloquy_tests::ambient::now;
use colloquy_tests::forgery::Forgery;
use colloquy_tests::options::ServerOptions;
use colloquy_tests::pair::Pair;
use colloquy_tests::raw_client::RawClient;
use tokio::time::interval;

const DAY_S: i64 = 24 * 60 * 60;
/// Long enough to be refreshed in, short enough to be waited for.
const LIFETIME_S: u32 = 4;

async fn offer(client: &mut RawClient, token: &str) {
    client.send(&ClientFrame::TokenRefresh(TokenRefresh { auth_token: token.to_owned() })).await;
}

async fn expect_refreshed(client: &mut RawClient) -> u64 {
    client
        .expect("token_refreshed", |frame| match frame {
            ServerFrame::TokenRefreshed { payload } => Some(payload.token_expires_at),
            _ => None,
        })
        .await
}

/// `token` gets `code`, and the socket goes on.
async fn is_refused(client: &mut RawClient, token: &str, code: ErrorCode) {
    offer(client, token).await;
    client.expect_refusal(code).await;
    client.heartbeat().await;
}

#[tokio::test]
async fn a_fresh_token_of_the_same_log_in_prolongs_the_session() {
    let options = ServerOptions::default().set("accounts.access_token_lifetime_s", LIFETIME_S);
    let pair = Pair::start_with(options).await;
    let (mut left, success) =
        RawClient::connect_and_resume(pair.server.address(), &pair.left, Vec::new()).await;
    // A heartbeat's timer, over half of the token's life.
    let mut timer = interval(Duration::from_secs(1));
    for _ in 0..3 {
        timer.tick().await;
        left.heartbeat().await;
    }
    let refresh = Refresh { refresh_token: pair.left.tokens.refresh_token.clone() };
    let fresh: Tokens = pair.rest.post("/v1/logins/refresh", None, &refresh).await.read();
    offer(&mut left, &fresh.access_token).await;
    let until = expect_refreshed(&mut left).await;
    assert_eq!(until, fresh.access_token_expires_at);
    assert!(until > success.token_expires_at);
    left.expect_close(CloseCode::TokenExpired).await;
    assert!(now() >= until, "the first token's end is of no account any more");
}

#[tokio::test]
async fn an_expired_token_is_refused_and_the_session_goes_on_with_the_old_one() {
    let pair = Pair::start().await;
    let mut left = pair.connect(&pair.left).await;
    let expired = Forgery::of(&pair.left.tokens.access_token).shifted(-DAY_S);
    let expired = expired.signed_by_the_server(&pair.server.data_dir());
    is_refused(&mut left, &expired, ErrorCode::TokenExpired).await;
    pair.assert_conversation_works().await;
}

#[tokio::test]
async fn a_token_that_is_not_this_sessions_is_refused_and_the_session_stays_who_it_was() {
    let pair = Pair::start().await;
    let (mut left, mut right) = pair.connect_both().await;
    let elsewhere = pair.rest.log_in(&pair.left.email).await;
    let forged = Forgery::of(&pair.left.tokens.access_token).signed_by_another_key();
    for token in [
        pair.right.tokens.access_token.as_str(),
        elsewhere.access_token.as_str(),
        pair.left.tokens.refresh_token.as_str(),
        forged.as_str(),
        "",
    ] {
        is_refused(&mut left, token, ErrorCode::InvalidToken).await;
    }
    let message = left.send_message(&pair.left, &[&pair.right], "still me").await;
    left.expect_ack(&message).await;
    assert_eq!(right.expect_message().await.sender_id, pair.left.user_id);
}

#[tokio::test]
async fn a_revoked_token_ends_the_session() {
    let pair = Pair::start().await;
    let mut left = pair.connect(&pair.left).await;
    let revoked = pair.rest.log_in(&pair.left.email).await;
    let gone = pair.rest.delete("/v1/logins/current", &revoked.access_token).await;
    assert!((200..300).contains(&gone.status), "{gone:?}");
    offer(&mut left, &revoked.access_token).await;
    left.expect_refusal(ErrorCode::TokenRevoked).await;
    left.expect_close(CloseCode::TokenRevoked).await;
}

#[tokio::test]
async fn a_token_offered_before_authentication_is_refused_like_every_other_frame() {
    let pair = Pair::start().await;
    let mut client = RawClient::open(pair.server.address()).await;
    offer(&mut client, &pair.left.tokens.access_token).await;
    client.expect_refusal(ErrorCode::NotAuthenticated).await;
}
