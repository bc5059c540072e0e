//! Authentication in the handshake: the same tokens and devices are believed, and the same ones are not, as in an `auth`
//! frame.

use colloquy_protocol::close::CloseCode;
use colloquy_protocol::error_code::ErrorCode;
use colloquy_tests::forgery::Forgery;
use colloquy_tests::pair::Pair;
use colloquy_tests::raw_client::{RawClient, auth};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue};

const DAY_S: i64 = 24 * 60 * 60;

fn headers(authorization: &str, device: Option<&str>) -> HeaderMap {
    let value = |text: &str| HeaderValue::from_str(text).expect("a header is ascii");
    let mut headers = HeaderMap::new();
    headers.insert("authorization", value(authorization));
    if let Some(device) = device {
        headers.insert("x-colloquy-device", value(device));
    }
    headers
}

async fn open(pair: &Pair, authorization: &str, device: &str) -> RawClient {
    let headers = headers(authorization, Some(device));
    RawClient::open_with_headers(pair.server.address(), headers).await.expect("the upgrade is accepted")
}

/// A handshake with `token` for `device` is told `code` and closed with `close`.
async fn is_refused(pair: &Pair, token: &str, device: &str, code: ErrorCode, close: CloseCode) {
    let mut client = open(pair, &format!("Bearer {token}"), device).await;
    client.expect_refusal(code).await;
    client.expect_close(close).await;
}

#[tokio::test]
async fn a_bad_token_is_refused_with_the_codes_of_an_auth_frame() {
    let pair = Pair::start().await;
    let forgery = Forgery::of(&pair.left.tokens.access_token);
    for token in ["x", "not.a.token", &forgery.unsigned(), &forgery.signed_by_another_key()] {
        is_refused(&pair, token, "left-phone", ErrorCode::InvalidToken, CloseCode::InvalidToken).await;
    }
    let expired = forgery.shifted(-DAY_S).signed_by_the_server(&pair.server.data_dir());
    is_refused(&pair, &expired, "left-phone", ErrorCode::TokenExpired, CloseCode::TokenExpired).await;
    let revoked = pair.rest.log_in(&pair.left.email).await.access_token;
    pair.rest.delete("/v1/logins/current", &revoked).await;
    is_refused(&pair, &revoked, "left-phone", ErrorCode::TokenRevoked, CloseCode::TokenRevoked).await;
}

#[tokio::test]
async fn a_log_in_speaks_for_the_device_it_registered_and_for_no_other() {
    let pair = Pair::start().await;
    let laptop = pair.rest.add_device(&pair.left, "left-laptop").await;
    let (code, close) = (ErrorCode::DeviceMismatch, CloseCode::UnknownDevice);
    let phones = &pair.left.tokens.access_token;
    is_refused(&pair, phones, "left-laptop", code, close).await;
    is_refused(&pair, &laptop.tokens.access_token, "left-phone", code, close).await;
    let fresh = pair.rest.log_in(&pair.left.email).await.access_token;
    is_refused(&pair, &fresh, "left-phone", code, close).await;
    let mut client = open(&pair, &format!("Bearer {phones}"), "left-phone").await;
    client.expect_auth_success().await;
}

#[tokio::test]
async fn a_device_that_is_nobodys_or_somebody_elses_is_unknown() {
    let pair = Pair::start().await;
    let fresh = pair.rest.log_in(&pair.left.email).await.access_token;
    for token in [&fresh, &pair.left.tokens.access_token] {
        for device in ["never-registered", "right-phone"] {
            is_refused(&pair, token, device, ErrorCode::UnknownDevice, CloseCode::UnknownDevice).await;
        }
    }
}

#[tokio::test]
async fn a_token_without_a_device_is_refused_before_the_upgrade() {
    let pair = Pair::start().await;
    let bearer = format!("Bearer {}", pair.left.tokens.access_token);
    for device in [None, Some(""), Some("no such form of a name")] {
        let refused = RawClient::open_with_headers(pair.server.address(), headers(&bearer, device)).await;
        match refused.err().map(|error| *error) {
            Some(Error::Http(response)) => {
                assert_eq!(response.status().as_u16(), ErrorCode::InvalidField.http_status());
            }
            other => panic!("{device:?} was answered with {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_socket_authenticated_in_its_handshake_is_not_authenticated_again() {
    let pair = Pair::start().await;
    let mut left = RawClient::connect_by_header(pair.server.address(), &pair.left).await;
    left.expect_auth_success().await;
    left.send(&auth(&pair.left, &pair.left.tokens.access_token, Vec::new())).await;
    left.expect_refusal(ErrorCode::AlreadyAuthenticated).await;
    left.heartbeat().await;
}

#[tokio::test]
async fn the_scheme_of_a_token_is_a_word_in_any_case() {
    let pair = Pair::start().await;
    // RFC 9110, section 11.1: it is compared without regard to case.
    for scheme in ["bearer", "BEARER", "Bearer"] {
        let authorization = format!("{scheme} {}", pair.left.tokens.access_token);
        let mut left = open(&pair, &authorization, "left-phone").await;
        left.expect_auth_success().await;
    }
}
