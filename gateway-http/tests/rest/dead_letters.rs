//! Messages that agents, or the feed's sink, did not take, as whoever runs the installation asks for them.

use axum::http::Method;
use colloquy_protocol::dead_letter::{DeadReason, FEED};
use colloquy_protocol::ids::{ConversationId, MessageId};
use colloquy_protocol::rest::dead_letters::{DeadLetterEntries, DeadLetterEntry, Replayed};
use colloquy_storage::model::dead_letter::DeadLetter;
use serde_json::json;
use uuid::Uuid;

use crate::fixture::{Fixture, dead_letter};

fn turn(n: u128) -> MessageId {
    MessageId(Uuid::from_u128(n))
}

fn letter(n: u128, agent: &str) -> DeadLetter {
    dead_letter(turn(n), agent, ConversationId(Uuid::from_u128(7)), 1)
}

async fn give_up(fixture: &Fixture, turns: impl Iterator<Item = u128>, agent: &str) {
    for n in turns {
        assert!(fixture.store.dead_letters.put(letter(n, agent)).await.unwrap());
    }
}

#[tokio::test]
async fn dead_letters_are_listed_a_page_at_a_time_of_one_agent_or_of_all() {
    let fixture = Fixture::open().await;
    let admin = fixture.admin_token();
    give_up(&fixture, 1..=103, "agent-a").await;
    give_up(&fixture, 200..=201, "agent-b").await;
    let page = async |query: &str| -> DeadLetterEntries {
        fixture.get(&format!("/admin/dead-letters{query}"), &admin).await.json()
    };
    let first = page("").await;
    assert_eq!((first.dead_letters.len(), first.next), (100, Some(turn(100))));
    let rest = page(&format!("?after={}", turn(100))).await;
    assert_eq!((rest.dead_letters.len(), rest.next), (5, None));
    let of_b = page("?agent_id=agent-b").await;
    assert_eq!(
        of_b.dead_letters.iter().map(|entry| entry.turn_id).collect::<Vec<_>>(),
        [turn(200), turn(201)]
    );
    for bad in ["?agent_id=no%20name", "?after=1", "?limit=5", "?feed=maybe"] {
        let refused = fixture.get(&format!("/admin/dead-letters{bad}"), &admin).await;
        assert_eq!(refused.problem(), (422, "invalid_field".into()), "{bad}");
    }
}

#[tokio::test]
async fn a_dead_letter_is_shown_replayed_and_dropped() {
    let fixture = Fixture::open().await;
    let admin = fixture.admin_token();
    give_up(&fixture, 1..=1, "agent-a").await;
    let path = format!("/admin/dead-letters/{}", turn(1));
    let entry: DeadLetterEntry = fixture.get(&path, &admin).await.json();
    assert_eq!((entry.turn_id, entry.reason, entry.status), (turn(1), DeadReason::Refused, Some(422)));
    let replay = async || fixture.post(&format!("{path}/replay"), Some(&admin), &json!({})).await;
    assert_eq!(replay().await.problem(), (404, "unknown_agent".into()), "it is registered no more");
    let profile = json!({"name": "A", "sink": "http://127.0.0.1:9000/"});
    fixture.post("/admin/agents", Some(&admin), &json!({"agent_id": "agent-a", "profile": profile})).await;
    assert_eq!(replay().await.json::<Replayed>(), Replayed::Gone, "its message is not in the log");
    let gone = fixture.ask(Method::DELETE, &path, Some(&admin), None).await;
    assert_eq!(gone.status.as_u16(), 204);
    for (method, path) in [
        (Method::GET, path.clone()),
        (Method::DELETE, path.clone()),
        (Method::POST, format!("{path}/replay")),
    ] {
        let answer = fixture.ask(method.clone(), &path, Some(&admin), None).await;
        assert_eq!(answer.problem(), (404, "unknown_dead_letter".into()), "{method} {path}");
    }
}

#[tokio::test]
async fn what_the_feeds_sink_did_not_take_is_kept_apart_from_what_agents_did_not() {
    let fixture = Fixture::open().await;
    let admin = fixture.admin_token();
    give_up(&fixture, 1..=2, "agent-a").await;
    for n in 2..=3 {
        assert!(fixture.store.untold.put(letter(n, FEED)).await.unwrap());
    }
    let listed = async |query: &str| -> Vec<MessageId> {
        let page = fixture.get(&format!("/admin/dead-letters{query}"), &admin).await;
        let page: DeadLetterEntries = page.json();
        page.dead_letters.into_iter().map(|entry| entry.turn_id).collect()
    };
    assert_eq!(listed("").await, [turn(1), turn(2)]);
    assert_eq!(listed("?feed=false").await, [turn(1), turn(2)]);
    assert_eq!(listed("?feed=true").await, [turn(2), turn(3)]);
    assert_eq!(listed(&format!("?feed=true&after={}", turn(2))).await, [turn(3)]);
    let both = fixture.get("/admin/dead-letters?feed=true&agent_id=feed", &admin).await;
    assert_eq!(both.problem(), (422, "invalid_field".into()));
    assert_eq!(both.field().as_deref(), Some("agent_id"));

    let path = format!("/admin/dead-letters/{}?feed=true", turn(2));
    let replay = format!("/admin/dead-letters/{}/replay?feed=true", turn(2));
    let entry: DeadLetterEntry = fixture.get(&path, &admin).await.json();
    assert_eq!((entry.turn_id, entry.agent_id.as_str()), (turn(2), FEED));
    let replayed = fixture.ask(Method::POST, &replay, Some(&admin), None).await;
    assert_eq!(replayed.json::<Replayed>(), Replayed::Gone, "its message is not in the log");
    assert_eq!(fixture.delete(&path, &admin).await.status.as_u16(), 204);
    for (method, path) in [(Method::GET, &path), (Method::DELETE, &path), (Method::POST, &replay)] {
        let answer = fixture.ask(method.clone(), path, Some(&admin), None).await;
        assert_eq!(answer.problem(), (404, "unknown_dead_letter".into()), "{method} {path}");
    }
    assert_eq!(listed("").await, [turn(1), turn(2)], "the agent's of the same message is another");
    assert_eq!(listed("?feed=true").await, [turn(3)]);
}

#[tokio::test]
async fn nobody_else_sees_or_touches_a_dead_letter() {
    let fixture = Fixture::open().await;
    let user = fixture.user("ann").await;
    give_up(&fixture, 1..=1, "agent-a").await;
    let path = format!("/admin/dead-letters/{}", turn(1));
    for (method, path) in [
        (Method::GET, "/admin/dead-letters".to_owned()),
        (Method::GET, path.clone()),
        (Method::DELETE, path.clone()),
        (Method::POST, format!("{path}/replay")),
    ] {
        for token in [None, Some(user.access_token.as_str()), Some("x")] {
            let answer = fixture.ask(method.clone(), &path, token, None).await;
            assert_eq!(answer.problem(), (401, "invalid_token".into()), "{method} {path}");
        }
    }
    assert!(fixture.store.dead_letters.get(turn(1)).await.unwrap().is_some());
}
