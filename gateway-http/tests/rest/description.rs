//! `/openapi.json` says all there is to say.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::Method;
use colloquy_protocol::agent::DEFAULT_AGENT;
use serde_json::{Value, json};

use crate::fixture::Fixture;

/// Every route there is, by hand: a route that is added without a description fails here.
const ROUTES: &[(&str, &str)] = &[
    ("get", "/.well-known/agent-card.json"),
    ("get", "/.well-known/jwks.json"),
    ("post", "/events"),
    ("get", "/openapi.json"),
    ("post", "/v1/accounts"),
    ("get", "/v1/agents"),
    ("get", "/v1/agents/{agent_id}"),
    ("get", "/v1/agents/{agent_id}/agent-card.json"),
    ("get", "/v1/conversations"),
    ("post", "/v1/conversations"),
    ("get", "/v1/conversations/{conversation_id}"),
    ("get", "/v1/conversations/{conversation_id}/messages"),
    ("delete", "/v1/devices/{device_id}"),
    ("put", "/v1/devices/{device_id}"),
    ("post", "/v1/devices/{device_id}/keys"),
    ("get", "/v1/logins"),
    ("post", "/v1/logins"),
    ("delete", "/v1/logins/current"),
    ("post", "/v1/logins/refresh"),
    ("delete", "/v1/logins/{login_id}"),
    ("get", "/v1/me"),
    ("patch", "/v1/me"),
    ("get", "/v1/users"),
    ("get", "/v1/users/{user_id}/devices"),
    ("post", "/v1/route"),
    ("post", "/v1/users/{user_id}/keys/claim"),
];

/// Routes that nobody has to log in for.
const PUBLIC: &[(&str, &str)] = &[
    ("get", "/.well-known/agent-card.json"),
    ("get", "/.well-known/jwks.json"),
    ("get", "/openapi.json"),
    ("get", "/v1/agents/{agent_id}/agent-card.json"),
    ("post", "/v1/accounts"),
    ("post", "/v1/logins"),
    ("post", "/v1/logins/refresh"),
];

async fn description() -> Value {
    Fixture::open().await.ask(Method::GET, "/openapi.json", None, None).await.json()
}

fn operations(description: &Value) -> BTreeMap<(&str, &str), &Value> {
    let paths = description["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().iter();
            methods.map(move |(method, operation)| ((method.as_str(), path.as_str()), operation))
        })
        .collect()
}

#[tokio::test]
async fn the_description_lists_every_route() {
    let description = description().await;
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1"));
    let described: BTreeSet<_> = operations(&description).into_keys().collect();
    assert_eq!(described, ROUTES.iter().copied().collect());
}

#[tokio::test]
async fn every_described_route_is_there_and_asks_for_a_token_exactly_if_it_says_so() {
    let fixture = Fixture::open().await;
    let agent = json!({"agent_id": DEFAULT_AGENT, "profile": {"name": "Bruno", "sink": "http://127.0.0.1/"}});
    fixture.post("/admin/agents", Some(&fixture.admin_token()), &agent).await;
    let description = description().await;
    for ((method, path), operation) in operations(&description) {
        let public = PUBLIC.contains(&(method, path));
        assert_eq!(operation.get("security").is_none(), public, "{method} {path}");
        let concrete = path
            .replace("{device_id}", "phone")
            .replace("{agent_id}", DEFAULT_AGENT)
            .replace("{conversation_id}", "00000000-0000-7000-8000-000000000000")
            .replace("{login_id}", "00000000-0000-7000-8000-000000000000")
            .replace("{user_id}", "00000000-0000-7000-8000-000000000000");
        let asked = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let answer = fixture.ask(asked, &concrete, None, None).await;
        assert_eq!(answer.status.as_u16() == 401, !public, "{method} {path}: {}", answer.status);
        assert!(![404, 405].contains(&answer.status.as_u16()), "{method} {path}: {}", answer.status);
    }
    let scheme = &description["components"]["securitySchemes"]["bearer"];
    assert_eq!((scheme["type"].as_str(), scheme["scheme"].as_str()), (Some("http"), Some("bearer")));
}

#[tokio::test]
async fn every_route_names_its_error_codes_and_every_reference_leads_somewhere() {
    let description = description().await;
    for ((method, path), operation) in operations(&description) {
        let responses = operation["responses"].as_object().unwrap();
        let protected = operation.get("security").is_some();
        let codes = |status: &str| {
            responses.get(status).and_then(|r| r["description"].as_str()).unwrap_or_default().to_owned()
        };
        assert_eq!(codes("401").contains("`token_revoked`"), protected, "{method} {path}");
        if operation.get("requestBody").is_some() {
            assert!(codes("400").contains("`malformed_frame`"), "{method} {path}");
            assert!(codes("413").contains("`too_large`"), "{method} {path}");
        }
    }
    assert!(
        description
            .pointer("/paths/~1v1~1accounts/post/responses/409/description")
            .unwrap()
            .as_str()
            .unwrap()
            .contains("`phone_taken`, `email_taken`")
    );
    let mut references = Vec::new();
    collect_references(&description, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(description.pointer(pointer).is_some(), "{reference}");
    }
}

fn collect_references(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            into.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|field| collect_references(field, into));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, into)),
        _ => {}
    }
}
