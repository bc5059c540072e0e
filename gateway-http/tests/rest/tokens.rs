//! Access tokens and refresh tokens, good and bad.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use colloquy_accounts::signing_key::SigningKey;
use colloquy_protocol::rest::accounts::Tokens;
use colloquy_storage::ambient::Entropy;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::fixture::{Answer, Fixture, START};

const DAY: u64 = 24 * 60 * 60 * 1000;

async fn me(fixture: &Fixture, token: &str) -> Answer {
    fixture.get("/v1/me", token).await
}

async fn refresh(fixture: &Fixture, token: &str) -> Answer {
    fixture.post("/v1/logins/refresh", None, &json!({"refresh_token": token})).await
}

#[tokio::test]
async fn without_a_bearer_token_nobody_is_asking() {
    let fixture = Fixture::open().await;
    let ask = async |authorization: Option<&str>| {
        let mut request = Request::get("/v1/me");
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        fixture.send(request.body(Body::empty()).unwrap()).await
    };
    for authorization in [None, Some(""), Some("Bearer"), Some("Basic YTpi")] {
        let answer = ask(authorization).await;
        assert_eq!(answer.problem(), (401, "invalid_token".into()), "{authorization:?}");
        assert_eq!(answer.headers[header::WWW_AUTHENTICATE], r#"Bearer realm="colloquy""#);
    }
    let answer = ask(Some("bearer nonsense")).await;
    assert_eq!(answer.headers[header::WWW_AUTHENTICATE], r#"Bearer realm="colloquy", error="invalid_token""#);
}

#[tokio::test]
async fn a_forged_token_is_nobodys_whatever_algorithm_it_names() {
    let fixture = Fixture::open().await;
    let tokens = fixture.user("ann").await;
    let parts: Vec<&str> = tokens.access_token.split('.').collect();
    let jwk = fixture.key.json_web_keys().keys.remove(0);
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    let mut forged = Vec::new();
    for alg in ["none", "HS256", "RS256"] {
        let head = json!({"alg": alg, "typ": "at+jwt", "kid": jwk.kid}).to_string();
        forged.push(format!("{}.{}.", URL_SAFE_NO_PAD.encode(&head), parts[1]));
        forged.push(format!("{}.{}.{}", URL_SAFE_NO_PAD.encode(&head), parts[1], parts[2]));
    }
    let mut head = Header::new(Algorithm::HS256);
    (head.typ, head.kid) = (Some("at+jwt".into()), Some(jwk.kid.clone()));
    for secret in [URL_SAFE_NO_PAD.decode(&jwk.x).unwrap(), jwk.x.clone().into_bytes()] {
        forged.push(jsonwebtoken::encode(&head, &claims, &EncodingKey::from_secret(&secret)).unwrap());
    }
    let mut changed = claims;
    changed["sub"] = json!("00000000-0000-7000-8000-000000000000");
    let changed = URL_SAFE_NO_PAD.encode(changed.to_string());
    forged.push(format!("{}.{changed}.{}", parts[0], parts[2]));
    forged.push(tokens.refresh_token.clone());
    for token in forged {
        assert_eq!(me(&fixture, &token).await.problem(), (401, "invalid_token".into()), "{token}");
    }
    assert_eq!(me(&fixture, &tokens.access_token).await.status.as_u16(), 200);
}

#[tokio::test]
async fn a_token_of_another_installation_is_not_ours() {
    let fixture = Fixture::open().await;
    let other = Fixture::open().await;
    let key = SigningKey::generate(&Entropy::from_seed(99)).unwrap();
    let other = other.with_key(key);
    let tokens = other.user("ann").await;
    assert_eq!(me(&fixture, &tokens.access_token).await.problem(), (401, "invalid_token".into()));
    assert_eq!(refresh(&fixture, &tokens.refresh_token).await.problem(), (401, "invalid_token".into()));
}

#[tokio::test]
async fn a_token_expires_and_a_clock_that_is_a_day_off_is_not_believed() {
    let fixture = Fixture::open().await;
    let tokens = fixture.user("ann").await;
    let expired = me(&fixture.later(Duration::from_secs(17 * 60)), &tokens.access_token).await;
    assert_eq!(expired.problem(), (401, "token_expired".into()));
    let ahead = me(&fixture.at(START + DAY), &tokens.access_token).await;
    assert_eq!(ahead.problem(), (401, "token_expired".into()));
    let behind = me(&fixture.at(START - DAY), &tokens.access_token).await;
    // It is ours: the clock is wrong, and whoever holds it keeps it.
    assert_eq!(behind.problem(), (503, "unavailable".into()));
    assert_eq!(
        refresh(&fixture.at(START - DAY), &tokens.refresh_token).await.problem(),
        (503, "unavailable".into())
    );
}

#[tokio::test]
async fn a_refresh_that_is_retried_within_the_grace_gives_tokens_that_work() {
    let fixture = Fixture::open().await;
    let first = fixture.user("ann").await;
    let lost: Tokens = refresh(&fixture, &first.refresh_token).await.json();
    let retried: Tokens = refresh(&fixture, &first.refresh_token).await.json();
    assert_eq!(retried.login_id, lost.login_id);
    assert_eq!(me(&fixture, &retried.access_token).await.status.as_u16(), 200);
    assert_eq!(refresh(&fixture, &retried.refresh_token).await.status.as_u16(), 200);
}

#[tokio::test]
async fn a_refresh_token_used_again_later_revokes_the_whole_log_in() {
    let fixture = Fixture::open().await;
    let first = fixture.user("ann").await;
    let second: Tokens = refresh(&fixture, &first.refresh_token).await.json();
    let later = fixture.later(Duration::from_secs(11));
    let reused = refresh(&later, &first.refresh_token).await;
    assert_eq!(reused.problem(), (401, "refresh_token_reused".into()));
    assert_eq!(me(&later, &second.access_token).await.problem(), (401, "token_revoked".into()));
    assert_eq!(refresh(&later, &second.refresh_token).await.problem(), (401, "invalid_token".into()));
    let anew = later.log_in("ann").await;
    assert_eq!(anew.status.as_u16(), 200, "the account itself is untouched");
}

#[tokio::test]
async fn what_is_no_refresh_token_refreshes_nothing() {
    let fixture = Fixture::open().await;
    let tokens = fixture.user("ann").await;
    for token in ["", "secret", &tokens.access_token] {
        let answer = refresh(&fixture, token).await;
        assert_eq!(answer.problem(), (401, "invalid_token".into()));
        assert!(!answer.text().contains("secret"));
    }
}

#[tokio::test]
async fn anybody_can_get_the_keys_that_tokens_are_verified_with() {
    let fixture = Fixture::open().await;
    let tokens = fixture.user("ann").await;
    let answer = fixture.ask(axum::http::Method::GET, "/.well-known/jwks.json", None, None).await;
    let keys: Value = answer.json();
    let head = tokens.access_token.split('.').next().unwrap();
    let head: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head).unwrap()).unwrap();
    assert_eq!(head, json!({"typ": "at+jwt", "alg": "EdDSA", "kid": keys["keys"][0]["kid"]}));
    assert_eq!(keys["keys"][0]["crv"], "Ed25519");
    assert_eq!(keys["keys"][0].get("d"), None);
    let key = jsonwebtoken::DecodingKey::from_ed_components(keys["keys"][0]["x"].as_str().unwrap()).unwrap();
    let mut validation = jsonwebtoken::Validation::new(Algorithm::EdDSA);
    validation.set_audience(&["colloquy"]);
    assert!(jsonwebtoken::decode::<Value>(&tokens.access_token, &key, &validation).is_ok());
}
