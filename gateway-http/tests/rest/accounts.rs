//! Registering, logging in and out, profiles, finding users.

use std::num::NonZeroU32;

use axum::body::Body;
use axum::http::{Method, Request, header};
use colloquy_gateway_http::RestOptions;
use colloquy_gateway_http::extract::PeerAddress;
use colloquy_gateway_http::rate_limit::{Allowance, RateLimitOptions};
use colloquy_protocol::rest::accounts::{Logins, Profile, Tokens, UserCard};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::fixture::{Answer, Fixture};

#[tokio::test]
async fn one_number_registered_fifty_times_at_once_makes_one_account() {
    let fixture = Fixture::open().await;
    let mut racing = JoinSet::new();
    for _ in 0..50 {
        let fixture = fixture.clone();
        let body = json!({"phone": "+4915112345678", "name": "Ann", "password": "correct horse"});
        racing.spawn(async move { fixture.post("/v1/accounts", None, &body).await });
    }
    let answers = racing.join_all().await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status.as_u16() == 201);
    assert_eq!(made.len(), 1);
    assert!(refused.iter().all(|answer| answer.problem() == (409, "phone_taken".into())));
}

#[tokio::test]
async fn each_bad_value_is_refused_by_name_and_never_repeated() {
    let fixture = Fixture::open().await;
    let long = "🦀".repeat(101);
    for (field, change) in [
        ("phone", json!({"phone": "0151-secret"})),
        ("phone", json!({"phone": "+0123456789"})),
        ("email", json!({"email": "secret"})),
        ("email", json!({"email": "secret@secret"})),
        ("name", json!({"name": ""})),
        ("name", json!({"name": " \t "})),
        ("name", json!({"name": "sec\u{0}ret"})),
        ("name", json!({"name": long})),
        ("password", json!({"password": "secret"})),
        ("password", json!({"password": "secret".repeat(50)})),
        ("phone", json!({"email": null})),
    ] {
        let mut body = json!({"email": "ann@example.org", "name": "Ann", "password": "correct horse"});
        body.as_object_mut().unwrap().append(&mut change.as_object().unwrap().clone());
        let answer = fixture.post("/v1/accounts", None, &body).await;
        assert_eq!(answer.problem(), (422, "invalid_field".into()), "{change}");
        assert_eq!(answer.field().as_deref(), Some(field), "{change}");
        assert!(!answer.text().contains("secret"), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_name_of_a_hundred_four_byte_characters_is_a_name() {
    let fixture = Fixture::open().await;
    let name = "🦀".repeat(100);
    let body = json!({"email": "Ann@Example.org", "name": format!("  {name} "), "password": "correct horse"});
    let answer = fixture.post("/v1/accounts", None, &body).await;
    let tokens: Tokens = answer.json();
    let profile: Profile = fixture.get("/v1/me", &tokens.access_token).await.json();
    assert_eq!((profile.name, profile.email.as_deref()), (name, Some("ann@example.org")));
    assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
}

#[tokio::test]
async fn an_unknown_user_and_a_wrong_password_are_answered_alike() {
    let fixture = Fixture::open().await;
    fixture.user("ann").await;
    let log_in = async |name: &str, password: &str| {
        let body = json!({"email": format!("{name}@example.org"), "password": password});
        fixture.post("/v1/logins", None, &body).await
    };
    let wrong = log_in("ann", "wrong horse").await;
    let unknown = log_in("nobody", "correct horse").await;
    assert_eq!(wrong.problem(), (401, "invalid_credentials".into()));
    assert_eq!(wrong.body, unknown.body);
    assert_eq!(log_in("ann", "correct horse").await.status.as_u16(), 200);
    let both = json!({"email": "ann@example.org", "phone": "+4915112345678", "password": "correct horse"});
    assert_eq!(fixture.post("/v1/logins", None, &both).await.problem(), (422, "invalid_field".into()));
}

#[tokio::test]
async fn log_ins_are_listed_and_revoked_by_their_own_user_only() {
    let fixture = Fixture::open().await;
    let (ann, bob) = (fixture.user("ann").await, fixture.user("bob").await);
    let second: Tokens = fixture.later(std::time::Duration::from_secs(1)).log_in("ann").await.json();
    let list: Logins = fixture.get("/v1/logins", &second.access_token).await.json();
    let listed: Vec<_> = list.logins.iter().map(|login| (login.login_id, login.current)).collect();
    assert_eq!(listed, [(second.login_id, true), (ann.login_id, false)]);
    let path = format!("/v1/logins/{}", ann.login_id);
    let refused = fixture.delete(&path, &bob.access_token).await;
    assert_eq!(refused.problem(), (404, "unknown_login".into()));
    assert_eq!(fixture.delete(&path, &second.access_token).await.status.as_u16(), 204);
    let revoked = fixture.get("/v1/me", &ann.access_token).await;
    assert_eq!(revoked.problem(), (401, "token_revoked".into()));
    assert_eq!(fixture.delete("/v1/logins/current", &second.access_token).await.status.as_u16(), 204);
    let revoked = fixture.get("/v1/me", &second.access_token).await;
    assert_eq!(revoked.problem(), (401, "token_revoked".into()));
}

#[tokio::test]
async fn a_profile_changes_only_where_it_is_told_to() {
    let fixture = Fixture::open().await;
    let (ann, _bob) = (fixture.user("ann").await, fixture.user("bob").await);
    let change = async |body: Value| -> Answer {
        fixture.ask(Method::PATCH, "/v1/me", Some(&ann.access_token), Some(body.to_string())).await
    };
    let changed: Profile = change(json!({"avatar_url": "https://example.org/a.png"})).await.json();
    assert_eq!(changed.name, "ann");
    assert_eq!(changed.avatar_url.as_deref(), Some("https://example.org/a.png"));
    let changed: Profile = change(json!({"avatar_url": "", "name": " Ann "})).await.json();
    assert_eq!((changed.name.as_str(), changed.avatar_url), ("Ann", None));
    for (body, problem) in [
        (json!({"avatar_url": "javascript:alert(1)"}), (422, "invalid_field".to_owned())),
        (json!({"email": "BOB@example.org"}), (409, "email_taken".to_owned())),
        (json!({"user_id": "x"}), (400, "malformed_frame".to_owned())),
    ] {
        assert_eq!(change(body).await.problem(), problem);
    }
}

#[tokio::test]
async fn a_user_is_found_by_exactly_one_thing_and_shows_neither_number_nor_address() {
    let fixture = Fixture::open().await;
    let (ann, bob) = (fixture.user("ann").await, fixture.user("bob").await);
    let find = async |query: String| fixture.get(&format!("/v1/users?{query}"), &ann.access_token).await;
    for query in ["email=BOB@example.org".to_owned(), format!("user_id={}", bob.user_id)] {
        let answer = find(query).await;
        assert_eq!(answer.json::<UserCard>().user_id, bob.user_id);
        assert!(!answer.text().contains('@'));
    }
    assert_eq!(find("email=nobody@example.org".into()).await.problem(), (404, "unknown_user".into()));
    for bad in ["", "email=bob@example.org&phone=%2B4915112345678", "user_id=secret", "phone=secret", "x=1"] {
        let answer = find(bad.to_owned()).await;
        assert_eq!(answer.problem(), (422, "invalid_field".into()), "{bad}");
        assert!(!answer.text().contains("secret"));
    }
}

fn allow(burst: u32) -> Allowance {
    Allowance { burst: NonZeroU32::new(burst).unwrap(), per_minute: NonZeroU32::new(6).unwrap() }
}

async fn attempt(fixture: &Fixture, peer: &str, name: &str) -> Answer {
    let body = json!({"email": format!("{name}@example.org"), "password": "wrong horse"}).to_string();
    let request = Request::post("/v1/logins")
        .header(header::CONTENT_TYPE, "application/json")
        .header("x-forwarded-for", "198.51.100.1, 203.0.113.9")
        .extension(PeerAddress(peer.parse().unwrap()))
        .body(Body::from(body));
    fixture.send(request.unwrap()).await
}

#[tokio::test]
async fn guessing_is_slowed_down_by_address_and_by_account() {
    let rate_limits =
        RateLimitOptions { per_address: allow(3), per_identifier: allow(5), ..RateLimitOptions::default() };
    let fixture = Fixture::open_with(RestOptions { rate_limits, ..RestOptions::default() }).await;
    for _ in 0..3 {
        let answer = attempt(&fixture, "192.0.2.1:1", "ann").await;
        assert_eq!(answer.problem(), (401, "invalid_credentials".into()));
    }
    let limited = attempt(&fixture, "192.0.2.1:2", "other").await;
    assert_eq!(limited.problem(), (429, "rate_limited".into()));
    assert_eq!(limited.headers[header::RETRY_AFTER], "10");
    for peer in ["192.0.2.2:1", "192.0.2.3:1"] {
        assert_eq!(attempt(&fixture, peer, "ANN").await.status.as_u16(), 401);
    }
    assert_eq!(attempt(&fixture, "192.0.2.4:1", "ann").await.problem(), (429, "rate_limited".into()));
}

#[tokio::test]
async fn a_trusted_proxy_names_the_address_that_is_limited() {
    let rate_limits = RateLimitOptions { per_address: allow(1), ..RateLimitOptions::default() };
    let options = RestOptions { rate_limits, trust_forwarded_for: true, ..RestOptions::default() };
    let fixture = Fixture::open_with(options).await;
    assert_eq!(attempt(&fixture, "192.0.2.1:1", "ann").await.status.as_u16(), 401);
    assert_eq!(attempt(&fixture, "192.0.2.2:1", "bob").await.status.as_u16(), 429);
}
