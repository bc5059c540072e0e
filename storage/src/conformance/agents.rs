//! What every registry of agents does.

use colloquy_protocol::agent::{
    AgentId, AgentLimits, AgentProfile, Capability, Intent, IntentLabel, SinkMode, WhenBusy,
};

use super::user;
use crate::model::agent::{Agent, Revised};
use crate::ports::Store;

fn id(name: &str) -> AgentId {
    AgentId::new(name).unwrap()
}

fn profile(name: &str) -> AgentProfile {
    AgentProfile {
        name: name.to_owned(),
        description: "knows \"things\", and says so".to_owned(),
        version: "1.4.0-rc.1".to_owned(),
        owner: "somebody@example.com".to_owned(),
        capabilities: vec![Capability::new("triage").unwrap()],
        intents: vec![Intent {
            label: IntentLabel::new("book-appointment").unwrap(),
            examples: vec!["I'd like to see a doctor".to_owned(), "Termin, bitte".to_owned()],
        }],
        sink: "http://127.0.0.1:9000/events".to_owned(),
        sink_mode: SinkMode::Structured,
        when_busy: WhenBusy::Interrupt,
        limits: AgentLimits { turns_at_once: 3, turn_timeout_ms: 30_000 },
    }
}

fn agent(name: &str, n: u128) -> Agent {
    Agent {
        agent_id: id(name),
        user_id: user(n),
        revision: 1,
        profile: profile(name),
        created_at: 1_000,
        changed_at: 1_000,
    }
}

pub async fn an_agent_is_found_by_id_and_by_user_as_it_was_registered(store: &Store) {
    assert_eq!(store.agents.get(&id("agent-bruno")).await.unwrap(), None);
    assert_eq!(store.agents.of_user(user(1)).await.unwrap(), None);
    assert!(store.agents.create(agent("agent-bruno", 1)).await.unwrap());
    let expected = Some(agent("agent-bruno", 1));
    assert_eq!(store.agents.get(&id("agent-bruno")).await.unwrap(), expected);
    assert_eq!(store.agents.of_user(user(1)).await.unwrap(), expected);
    assert_eq!(store.agents.of_user(user(2)).await.unwrap(), None);
}

pub async fn of_fifty_that_want_one_name_one_gets_it(store: &Store) {
    let mut creating = tokio::task::JoinSet::new();
    for n in 0..50 {
        let agents = store.agents.clone();
        creating.spawn(async move { agents.create(agent("agent-bruno", n)).await.unwrap() });
    }
    let made = creating.join_all().await;
    assert_eq!(made.iter().filter(|made| **made).count(), 1);
    let winner = store.agents.get(&id("agent-bruno")).await.unwrap().unwrap();
    assert_eq!(store.agents.of_user(winner.user_id).await.unwrap(), Some(winner.clone()));
    // Also when it is asked again.
    assert!(store.agents.create(winner).await.unwrap());
}

pub async fn a_change_is_made_to_what_its_maker_has_seen_or_not_at_all(store: &Store) {
    assert_eq!(store.agents.revise(&id("agent-x"), 1, profile("x"), 5).await.unwrap(), Revised::Unknown);
    store.agents.create(agent("agent-x", 1)).await.unwrap();
    let Revised::Changed(changed) = store.agents.revise(&id("agent-x"), 1, profile("y"), 5).await.unwrap()
    else {
        panic!("it is at the revision named");
    };
    assert_eq!((changed.revision, changed.profile.name.as_str(), changed.changed_at), (2, "y", 5));
    assert_eq!(changed.created_at, 1_000);
    let stale = store.agents.revise(&id("agent-x"), 1, profile("z"), 6).await.unwrap();
    assert_eq!(stale, Revised::Stale(changed.clone()));
    // Registering it again, because an answer was lost, does not bring the old profile back.
    assert!(store.agents.create(agent("agent-x", 1)).await.unwrap());
    assert_eq!(store.agents.get(&id("agent-x")).await.unwrap(), Some(changed));
}

pub async fn agents_are_listed_in_the_order_of_their_ids_page_by_page(store: &Store) {
    for (n, name) in ["agent-c", "agent-a", "agent-bb", "agent-b"].into_iter().enumerate() {
        store.agents.create(agent(name, n as u128)).await.unwrap();
    }
    let page = async |after: Option<&AgentId>, limit| -> Vec<String> {
        let agents = store.agents.list(after, limit).await.unwrap();
        agents.into_iter().map(|agent| agent.agent_id.to_string()).collect()
    };
    assert_eq!(page(None, 3).await, ["agent-a", "agent-b", "agent-bb"]);
    assert_eq!(page(Some(&id("agent-bb")), 3).await, ["agent-c"]);
    assert_eq!(page(Some(&id("agent-aa")), 1).await, ["agent-b"]);
    assert!(page(Some(&id("agent-c")), 3).await.is_empty());
}

pub async fn a_name_that_is_given_up_is_free(store: &Store) {
    store.agents.create(agent("agent-x", 1)).await.unwrap();
    assert!(store.agents.remove(&id("agent-x")).await.unwrap());
    assert!(!store.agents.remove(&id("agent-x")).await.unwrap());
    assert_eq!(store.agents.of_user(user(1)).await.unwrap(), None);
    assert!(store.agents.create(agent("agent-x", 2)).await.unwrap());
    assert_eq!(store.agents.of_user(user(2)).await.unwrap(), Some(agent("agent-x", 2)));
}
