//! Agents: who registers them, what others see of them, and how they log in.

use axum::http::Method;
use colloquy_protocol::rest::accounts::Tokens;
use colloquy_protocol::rest::agents::{
    AddedAgent, AgentCard, AgentEntries, AgentEntry, AgentKeyRenewed, RegisteredAgent, RegisteredAgents,
};
use serde_json::{Value, json};

use crate::fixture::Fixture;

fn bruno() -> Value {
    json!({
        "name": "Bruno",
        "description": "Answers everything.",
        "sink": "http://127.0.0.1:9000/",
        "owner": "operations",
        "capabilities": ["small-talk"],
        "intents": [{"label": "say-hello", "examples": ["hi", "hello there"]}],
    })
}

async fn add(fixture: &Fixture, agent_id: &str) -> AddedAgent {
    let body = json!({"agent_id": agent_id, "profile": bruno()});
    let answer = fixture.post("/admin/agents", Some(&fixture.admin_token()), &body).await;
    assert_eq!(answer.status.as_u16(), 201, "{}", answer.text());
    answer.json()
}

#[tokio::test]
async fn whoever_does_not_run_the_installation_administers_nothing() {
    let fixture = Fixture::open().await;
    let user = fixture.user("ann").await;
    let body = json!({"agent_id": "agent-bruno", "profile": bruno()}).to_string();
    for (method, path) in [
        (Method::GET, "/admin/agents"),
        (Method::POST, "/admin/agents"),
        (Method::GET, "/admin/agents/agent-bruno"),
        (Method::PUT, "/admin/agents/agent-bruno"),
        (Method::DELETE, "/admin/agents/agent-bruno"),
        (Method::POST, "/admin/agents/agent-bruno/key"),
    ] {
        for token in [None, Some(user.access_token.as_str()), Some(user.refresh_token.as_str()), Some("x")] {
            let answer = fixture.ask(method.clone(), path, token, Some(body.clone())).await;
            assert_eq!(answer.problem(), (401, "invalid_token".into()), "{method} {path}");
        }
    }
    let token = fixture.admin_token();
    let later = fixture.later(std::time::Duration::from_secs(121));
    assert_eq!(later.get("/admin/agents", &token).await.problem(), (401, "token_expired".into()));
    // And an administrator is no user.
    assert_eq!(fixture.get("/v1/agents", &token).await.problem(), (401, "invalid_token".into()));
}

#[tokio::test]
async fn an_agent_is_registered_seen_changed_and_removed() {
    let fixture = Fixture::open().await;
    let (admin, user) = (fixture.admin_token(), fixture.user("ann").await.access_token);
    let added = add(&fixture, "agent-bruno").await;
    let entries: AgentEntries = fixture.get("/v1/agents", &user).await.json();
    assert_eq!(entries.agents.len(), 1);
    let answer = fixture.get("/v1/agents/agent-bruno", &user).await;
    assert_eq!(answer.json::<AgentEntry>(), entries.agents[0]);
    assert_eq!(entries.agents[0].user_id, added.agent.user_id);
    // Where it runs and who runs it is nobody's business.
    assert!(!answer.text().contains("9000") && !answer.text().contains("operations"), "{}", answer.text());

    let mut profile = bruno();
    profile["name"] = json!("Bruno the Second");
    let body = json!({"revision": 1, "profile": profile});
    let changed: RegisteredAgent = fixture.put("/admin/agents/agent-bruno", &admin, &body).await.json();
    assert_eq!((changed.revision, changed.profile.name.as_str()), (2, "Bruno the Second"));
    let body = json!({"revision": 1, "profile": bruno()});
    let refused = fixture.put("/admin/agents/agent-bruno", &admin, &body).await;
    assert_eq!(refused.problem(), (409, "agent_changed".into()));
    let body = json!({"agent_id": "agent-bruno", "profile": bruno()});
    let refused = fixture.post("/admin/agents", Some(&admin), &body).await;
    assert_eq!(refused.problem(), (409, "agent_exists".into()));

    assert_eq!(fixture.delete("/admin/agents/agent-bruno", &admin).await.status.as_u16(), 204);
    let left: RegisteredAgents = fixture.get("/admin/agents", &admin).await.json();
    assert!(left.agents.is_empty());
    for path in ["/v1/agents/agent-bruno", "/v1/agents/agent-bruno/agent-card.json"] {
        assert_eq!(fixture.get(path, &user).await.problem(), (404, "unknown_agent".into()));
    }
}

#[tokio::test]
async fn an_agent_logs_in_by_its_name_with_its_key() {
    let fixture = Fixture::open().await;
    let added = add(&fixture, "agent-bruno").await;
    let log_in = async |key: &str| {
        fixture.post("/v1/logins", None, &json!({"agent_id": "agent-bruno", "password": key})).await
    };
    let tokens: Tokens = log_in(&added.key).await.json();
    assert_eq!(tokens.user_id, added.agent.user_id);
    let path = "/admin/agents/agent-bruno/key";
    let renewed: AgentKeyRenewed =
        fixture.ask(Method::POST, path, Some(&fixture.admin_token()), None).await.json();
    assert_eq!(log_in(&added.key).await.problem(), (401, "invalid_credentials".into()));
    assert_eq!(fixture.get("/v1/me", &tokens.access_token).await.problem(), (401, "token_revoked".into()));
    assert_eq!(log_in(&renewed.key).await.status.as_u16(), 200);
    let both = json!({"agent_id": "agent-bruno", "email": "a@b.de", "password": renewed.key});
    let refused = fixture.post("/v1/logins", None, &both).await;
    assert_eq!(
        (refused.problem(), refused.field()),
        ((422, "invalid_field".into()), Some("agent_id".into()))
    );
}

#[tokio::test]
async fn a_card_says_what_an_agent_can_do_to_whoever_asks() {
    let fixture = Fixture::open().await;
    let card = async |path: &str| fixture.ask(Method::GET, path, None, None).await;
    assert_eq!(card("/.well-known/agent-card.json").await.problem(), (404, "unknown_agent".into()));
    add(&fixture, "agent-bruno").await;
    let of_default: AgentCard = card("/.well-known/agent-card.json").await.json();
    let of_bruno = card("/v1/agents/agent-bruno/agent-card.json").await;
    assert_eq!(of_bruno.json::<AgentCard>(), of_default);
    assert_eq!(of_default.skills.len(), 1);
    assert_eq!(of_default.skills[0].examples, ["hi", "hello there"]);
    let raw: Value = of_bruno.json();
    assert_eq!(raw["supportedInterfaces"][0]["protocolVersion"], "1.0");
    assert_eq!(raw["defaultInputModes"], json!(["text/plain"]));
    assert!(!of_bruno.text().contains("9000"), "{}", of_bruno.text());
}

#[tokio::test]
async fn what_an_agent_says_of_itself_is_checked_and_never_repeated() {
    let fixture = Fixture::open().await;
    for (field, change) in [
        ("name", json!({"name": ""})),
        ("sink", json!({"sink": "http://169.254.169.254/secret"})),
        ("sink", json!({"sink": "http://secret@127.0.0.1/"})),
        ("version", json!({"version": "secret secret"})),
        ("intents.examples", json!({"intents": [{"label": "secret", "examples": []}]})),
        ("limits.turns_at_once", json!({"limits": {"turns_at_once": 0}})),
    ] {
        let mut profile = bruno();
        profile.as_object_mut().unwrap().append(&mut change.as_object().unwrap().clone());
        let body = json!({"agent_id": "agent-x", "profile": profile});
        let answer = fixture.post("/admin/agents", Some(&fixture.admin_token()), &body).await;
        assert_eq!(answer.problem(), (422, "invalid_field".into()), "{change}");
        assert_eq!(answer.field().as_deref(), Some(field), "{change}");
        assert!(!answer.text().contains("secret"), "{}", answer.text());
    }
    let body = json!({"agent_id": "Not A Name", "profile": bruno()});
    let answer = fixture.post("/admin/agents", Some(&fixture.admin_token()), &body).await;
    assert_eq!(answer.problem(), (400, "malformed_frame".into()));
}
