//! Requests that are refused before a route is asked, all as problem documents.

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, header};
use axum::routing::get;
use serde_json::json;

use crate::fixture::{Answer, Fixture};

async fn register(fixture: &Fixture, content_type: Option<&str>, body: impl Into<Body>) -> Answer {
    let mut request = Request::post("/v1/accounts");
    if let Some(content_type) = content_type {
        request = request.header(header::CONTENT_TYPE, content_type);
    }
    fixture.send(request.body(body.into()).unwrap()).await
}

#[tokio::test]
async fn a_body_that_is_not_the_expected_json_is_refused_without_being_quoted() {
    let fixture = Fixture::open().await;
    for body in [
        "",
        "secret",
        "{",
        "[]",
        "null",
        r#"{"name": "secret"}"#,
        r#"{"email": "secret@example.org", "name": "secret", "password": "correct horse", "secret": 1}"#,
        r#"{"email": "secret@example.org", "name": 7, "password": "correct horse"}"#,
        r#"{"name": "secret", "name": "secret", "password": "correct horse"}"#,
    ] {
        let answer = register(&fixture, Some("application/json"), body).await;
        assert_eq!(answer.problem(), (400, "malformed_frame".into()), "{body}");
        assert!(!answer.text().contains("secret"), "{}", answer.text());
    }
    let answer = register(&fixture, Some("application/json"), vec![0xff, 0xfe]).await;
    assert_eq!(answer.problem(), (400, "malformed_frame".into()));
}

#[tokio::test]
async fn a_body_of_another_content_type_is_refused() {
    let fixture = Fixture::open().await;
    let body = json!({"email": "ann@example.org", "name": "Ann", "password": "correct horse"}).to_string();
    for kind in
        [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("application/jsonx")]
    {
        let answer = register(&fixture, kind, body.clone()).await;
        assert_eq!(answer.problem(), (415, "malformed_frame".into()), "{kind:?}");
    }
    let answer = register(&fixture, Some("Application/JSON; charset=utf-8"), body).await;
    assert_eq!(answer.status.as_u16(), 201);
}

#[tokio::test]
async fn an_oversized_body_is_refused_with_and_without_a_declared_length() {
    let fixture = Fixture::open().await;
    let huge = format!(r#"{{"name": "{}"}}"#, "x".repeat(64 * 1024));
    let answer = register(&fixture, Some("application/json"), huge.clone()).await;
    assert_eq!(answer.problem(), (413, "too_large".into()));
    let chunks = futures_util::stream::iter(
        huge.into_bytes().chunks(1000).map(<[u8]>::to_vec).map(Ok::<_, std::io::Error>).collect::<Vec<_>>(),
    );
    let answer = register(&fixture, Some("application/json"), Body::from_stream(chunks)).await;
    assert_eq!(answer.problem(), (413, "too_large".into()));
}

#[tokio::test]
async fn an_unknown_path_or_method_is_a_problem_too() {
    let fixture = Fixture::open().await;
    for path in ["/", "/v1", "/v1/secret", "/v1/accounts/", "/metrics"] {
        let answer = fixture.ask(Method::GET, path, None, None).await;
        assert_eq!(answer.problem(), (404, "not_found".into()), "{path}");
        assert!(!answer.text().contains("secret"));
    }
    let answer = fixture.ask(Method::DELETE, "/v1/accounts", None, None).await;
    assert_eq!(answer.problem(), (405, "method_not_allowed".into()));
    assert_eq!(answer.headers[header::ALLOW], "POST");
}

#[tokio::test]
async fn a_malformed_id_in_a_path_is_refused_by_name() {
    let fixture = Fixture::open().await;
    let ann = fixture.user("ann").await;
    for (path, field) in [
        ("/v1/conversations/secret", "conversation_id"),
        ("/v1/conversations/secret/messages", "conversation_id"),
        ("/v1/users/secret/devices", "user_id"),
        ("/v1/users/%FF/devices", "path"),
    ] {
        let answer = fixture.get(path, &ann.access_token).await;
        assert_eq!(answer.problem(), (422, "invalid_field".into()), "{path}");
        assert_eq!(answer.field().as_deref(), Some(field));
        assert!(!answer.text().contains("secret"));
    }
}

#[tokio::test]
async fn every_answer_carries_a_request_id_of_its_own() {
    let fixture = Fixture::open().await;
    let ask = async || {
        let answer = fixture.ask(Method::GET, "/nowhere", None, None).await;
        answer.headers["x-request-id"].clone()
    };
    assert_ne!(ask().await, ask().await);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered_all_the_same() {
    let fixture = Fixture::open().await;
    let tokens = fixture.user("ann").await;
    // Only now: paused time runs ahead while the store's own thread works.
    tokio::time::pause();
    let never = Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let request = Request::patch("/v1/me")
        .header(header::AUTHORIZATION, format!("Bearer {}", tokens.access_token))
        .header(header::CONTENT_TYPE, "application/json")
        .body(never);
    let answer = fixture.send(request.unwrap()).await;
    assert_eq!(answer.problem(), (503, "unavailable".into()));
    assert_eq!(answer.headers[header::RETRY_AFTER], "1");
}

#[tokio::test]
async fn merged_routes_share_the_answer_for_unknown_paths() {
    let mut fixture = Fixture::open().await;
    fixture.router = fixture.router.merge(Router::new().route("/ws", get(async || "socket")));
    assert_eq!(fixture.ask(Method::GET, "/ws", None, None).await.text(), "socket");
    assert_eq!(fixture.ask(Method::GET, "/wss", None, None).await.problem(), (404, "not_found".into()));
}
