//! An agent asks, a person decides, and the agent is told: over real sockets, with the clocks of both at hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::ids::{ConversationId, IdempotencyKey, MessageId};

use super::server::{Fault, Server};
use super::turns::{due, stored};
use super::{Person, options, person, registered, sent, until};
use crate::ambient::Clock;
use crate::crypto::Statement;
use crate::surroundings::Surroundings;
use crate::sync::BackoffPolicy;
use crate::{
    APPROVAL_GOOD_FOR_MAX, Answer, Client, ClientError, Decision, Event, Events, Identifier, SendFailure,
    ShownContent, TurnContent, Verdict, VoidVerdict, WantedApproval,
};

const MINUTE_MS: u64 = 60_000;
const ARGUMENTS: &str = r#"{ "paths": ["a", "b"],  "force": false }"#;

/// What a device's clock is ahead of the machine's, ms.
type Ahead = Arc<AtomicU64>;

async fn open_with(server: &Server, folder: &tempfile::TempDir, ahead: &Ahead) -> Client {
    let ahead = Arc::clone(ahead);
    let clock = Clock::Simulated(Arc::new(move || Clock::System.now() + ahead.load(Ordering::Relaxed)));
    let surroundings = Surroundings { clock, ..Surroundings::of_this_machine().unwrap() };
    let backoff = BackoffPolicy { first_ms: 1, max_ms: 5, stable_after_ms: 1 };
    Client::open_with(options(server, folder), backoff, surroundings).await.unwrap()
}

async fn person_with_clock(server: &Server, name: &str) -> (Person, Ahead) {
    let (folder, ahead) = (tempfile::tempdir().unwrap(), Ahead::default());
    let client = open_with(server, &folder, &ahead).await;
    (registered(client, name, folder).await, ahead)
}

async fn another_device(server: &Server, name: &str) -> (Client, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let client = open_with(server, &folder, &Ahead::default()).await;
    let identifier = Identifier::Email(format!("{name}@example.org"));
    client.log_in(identifier, "a long password".into()).await.unwrap();
    (client, folder)
}

fn wanted() -> WantedApproval {
    let good_for = Duration::from_millis(MINUTE_MS);
    WantedApproval { action: "delete".into(), arguments: ARGUMENTS.into(), good_for }
}

fn asking(wanted: WantedApproval) -> Answer {
    Answer { approval: Some(wanted), ..Answer::from("I would delete two files.") }
}

/// Alice asks something, and is asked for approval. Returns the request.
async fn asked(alice: &Person, agent: &Person, events: &mut Events) -> MessageId {
    alice.client.send_text(agent.user_id, "tidy up").await.unwrap();
    let turn_id = stored(events, 1).await;
    let conversation = ConversationId::of_pair(alice.user_id, agent.user_id);
    agent.client.take_turn(turn_id, conversation).await.unwrap();
    due(&agent.client).await;
    agent.client.answer_turn_with(turn_id, asking(wanted())).await.unwrap().unwrap();
    request(events).await
}

/// The request that comes next.
async fn request(events: &mut Events) -> MessageId {
    until(events, |event| match event {
        Event::MessageReceived(message) => match message.content {
            ShownContent::Request(shown) => {
                assert_eq!((shown.text.as_str(), shown.verdict), ("I would delete two files.", None));
                assert_eq!(
                    (shown.request.action.as_str(), shown.request.arguments.as_str()),
                    ("delete", ARGUMENTS)
                );
                message.message_id
            }
            _ => None,
        },
        _ => None,
    })
    .await
}

async fn content(client: &Client) -> TurnContent {
    due(client).await.content
}

fn decision(content: TurnContent) -> Decision {
    match content {
        TurnContent::Decision(decision) => *decision,
        other => panic!("{other:?}"),
    }
}

/// What a device shows to be decided, over all of a conversation.
fn verdicts(client: &Client, conversation: ConversationId) -> Vec<Option<Verdict>> {
    let history = client.history(conversation, None, 10).unwrap();
    let verdict = |message: crate::Message| match message.content {
        ShownContent::Request(shown) => Some(shown.verdict),
        _ => None,
    };
    history.into_iter().filter_map(verdict).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_approves_is_told_once_with_a_signature_and_again_after_a_crash() {
    let server = Server::start().await;
    let (alice, (agent, ahead)) = (person(&server, "alice").await, person_with_clock(&server, "agent").await);
    let (mut a, _events) = (alice.client.connect().unwrap(), agent.client.connect().unwrap());
    let conversation = ConversationId::of_pair(alice.user_id, agent.user_id);
    let request_id = asked(&alice, &agent, &mut a).await;
    alice.client.decide(request_id, Verdict::Approved).await.unwrap();
    let again = alice.client.decide(request_id, Verdict::Denied).await;
    assert!(matches!(again, Err(ClientError::RequestDecided)), "{again:?}");
    let turn_id = stored(&mut a, 3).await;
    assert!(agent.client.take_turn(turn_id, conversation).await.unwrap());
    let told = decision(content(&agent.client).await);
    assert_eq!((told.verdict, told.request_id), (Verdict::Approved, request_id));
    assert_eq!((told.request.action.as_str(), told.request.arguments.as_str()), ("delete", ARGUMENTS));
    let device_id = alice.client.device_id().unwrap().unwrap();
    assert_eq!((told.decided_by.user_id, &told.decided_by.device_id), (alice.user_id, &device_id));
    let statement = Statement {
        verdict: Verdict::Approved,
        conversation_id: conversation,
        request_id,
        agent: agent.user_id,
        decided_by: &told.decided_by,
        request: &told.request,
    };
    let key = vodozemac::Ed25519PublicKey::from_base64(&told.signing_key).unwrap();
    assert!(statement.is_signed(&key, &told.signature));
    // It was taken on in time: that the agent comes back later changes nothing.
    let Person { client, folder, .. } = agent;
    drop(client);
    ahead.store(2 * MINUTE_MS, Ordering::Relaxed);
    let client = open_with(&server, &folder, &ahead).await;
    assert_eq!(decision(content(&client).await), told);
    client.answer_turn(turn_id, "deleted").await.unwrap();
    client.connect().unwrap();
    sent(&client).await;
    assert!(client.due_turns().await.unwrap().is_empty());
    assert!(!client.take_turn(turn_id, conversation).await.unwrap(), "it is answered");
    assert_eq!(verdicts(&alice.client, conversation), [Some(Verdict::Approved)]);
    assert_eq!(verdicts(&client, conversation), [Some(Verdict::Approved)]);
    let late = alice.client.decide(request_id, Verdict::Denied).await;
    assert!(matches!(late, Err(ClientError::RequestDecided)), "{late:?}");
}

/// ONCE: both devices send their verdict under the same key, and the log takes the first.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_devices_that_decide_without_having_heard_of_each_other_the_first_is_heard() {
    let server = Server::start().await;
    let (alice, agent) = (person(&server, "alice").await, person(&server, "agent").await);
    let (second, _folder) = another_device(&server, "alice").await;
    let (mut a, _events) = (alice.client.connect().unwrap(), agent.client.connect().unwrap());
    let mut s = second.connect().unwrap();
    let conversation = ConversationId::of_pair(alice.user_id, agent.user_id);
    let request_id = asked(&alice, &agent, &mut a).await;
    assert_eq!(request(&mut s).await, request_id);
    second.shutdown().await;
    let denied = second.decide(request_id, Verdict::Denied).await.unwrap();
    let twice = second.decide(request_id, Verdict::Denied).await;
    assert!(matches!(twice, Err(ClientError::RequestDecided)), "it waits to be sent");
    alice.client.decide(request_id, Verdict::Approved).await.unwrap();
    stored(&mut a, 3).await;
    let mut s = second.connect().unwrap();
    let failed = |event| match event {
        Event::MessageFailed { local_id, reason, .. } => Some((local_id, reason)),
        _ => None,
    };
    let (id, why) = until(&mut s, failed).await;
    assert!(id == denied && matches!(why, SendFailure::Refused(_)), "{why}");
    assert_eq!(verdicts(&second, conversation), [Some(Verdict::Approved)]);
    // Nor does it get through when it is tried again.
    let again = second.retry(denied).await.unwrap();
    assert_eq!(until(&mut s, failed).await.0, again);
    assert_eq!(server.stored(), 3);
    let late = second.decide(request_id, Verdict::Denied).await;
    assert!(matches!(late, Err(ClientError::RequestDecided)), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_has_read_the_verdict_of_another_makes_none() {
    let server = Server::start().await;
    let (alice, agent) = (person(&server, "alice").await, person(&server, "agent").await);
    let (second, _folder) = another_device(&server, "alice").await;
    let (mut a, _events) = (alice.client.connect().unwrap(), agent.client.connect().unwrap());
    let mut s = second.connect().unwrap();
    let request_id = asked(&alice, &agent, &mut a).await;
    assert_eq!(request(&mut s).await, request_id);
    alice.client.decide(request_id, Verdict::Denied).await.unwrap();
    until(&mut s, |event| match event {
        Event::MessageReceived(message) => {
            matches!(message.content, ShownContent::Verdict { .. }).then_some(())
        }
        _ => None,
    })
    .await;
    let late = second.decide(request_id, Verdict::Approved).await;
    assert!(matches!(late, Err(ClientError::RequestDecided)), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_too_late_is_void_by_the_agents_own_clock_and_refused_by_the_persons() {
    let server = Server::start().await;
    let (alice, alice_ahead) = person_with_clock(&server, "alice").await;
    let (agent, agent_ahead) = person_with_clock(&server, "agent").await;
    let (mut a, _events) = (alice.client.connect().unwrap(), agent.client.connect().unwrap());
    let conversation = ConversationId::of_pair(alice.user_id, agent.user_id);
    let request_id = asked(&alice, &agent, &mut a).await;
    alice_ahead.store(2 * MINUTE_MS, Ordering::Relaxed);
    let late = alice.client.decide(request_id, Verdict::Approved).await;
    assert!(matches!(late, Err(ClientError::RequestExpired)), "{late:?}");
    // By this clock it is time yet.
    alice_ahead.store(0, Ordering::Relaxed);
    alice.client.decide(request_id, Verdict::Approved).await.unwrap();
    let turn_id = stored(&mut a, 3).await;
    agent_ahead.store(2 * MINUTE_MS, Ordering::Relaxed);
    agent.client.take_turn(turn_id, conversation).await.unwrap();
    assert_eq!(content(&agent.client).await, TurnContent::Void(VoidVerdict::Expired));
    agent_ahead.store(0, Ordering::Relaxed);
    assert_eq!(
        content(&agent.client).await,
        TurnContent::Void(VoidVerdict::Expired),
        "it was taken on too late"
    );
    // Nor when the turn is gone, because its answer failed, and the server tells of it again.
    fail_an_answer(&server, &agent.client, turn_id).await;
    agent.client.take_turn(turn_id, conversation).await.unwrap();
    assert_eq!(content(&agent.client).await, TurnContent::Void(VoidVerdict::Expired));
}

/// The server refuses an answer: the turn is forgotten until it is told of again.
async fn fail_an_answer(server: &Server, agent: &Client, turn_id: MessageId) {
    server.faults([Fault::Refuse(ErrorCode::IdempotencyConflict)]);
    let mut events = agent.events();
    agent.answer_turn(turn_id, "an answer").await.unwrap().unwrap();
    until(&mut events, |event| matches!(event, Event::MessageFailed { .. }).then_some(())).await;
    assert!(agent.due_turns().await.unwrap().is_empty());
    assert!(agent.due_turns().await.unwrap().is_empty(), "it is forgotten");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_in_time_has_when_it_is_told_of_again_and_names_what_is_done_as_before() {
    let server = Server::start().await;
    let (alice, (agent, ahead)) = (person(&server, "alice").await, person_with_clock(&server, "agent").await);
    let (mut a, _events) = (alice.client.connect().unwrap(), agent.client.connect().unwrap());
    let conversation = ConversationId::of_pair(alice.user_id, agent.user_id);
    let request_id = asked(&alice, &agent, &mut a).await;
    alice.client.decide(request_id, Verdict::Approved).await.unwrap();
    let turn_id = stored(&mut a, 3).await;
    agent.client.take_turn(turn_id, conversation).await.unwrap();
    let told = decision(content(&agent.client).await);
    assert_ne!(told.verdict_key, IdempotencyKey::of_turn(turn_id), "the server names turns");
    fail_an_answer(&server, &agent.client, turn_id).await;
    ahead.store(2 * MINUTE_MS, Ordering::Relaxed);
    agent.client.take_turn(turn_id, conversation).await.unwrap();
    assert_eq!(decision(content(&agent.client).await), told);
}

/// Of two under one key the log would give back one, and this device could take it for the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_that_has_failed_goes_when_it_is_decided_again() {
    let server = Server::start().await;
    let (alice, agent) = (person(&server, "alice").await, person(&server, "agent").await);
    let (mut a, _events) = (alice.client.connect().unwrap(), agent.client.connect().unwrap());
    let conversation = ConversationId::of_pair(alice.user_id, agent.user_id);
    let request_id = asked(&alice, &agent, &mut a).await;
    server.faults([Fault::Refuse(ErrorCode::IdempotencyConflict)]);
    let first = alice.client.decide(request_id, Verdict::Approved).await.unwrap();
    until(&mut a, |event| matches!(event, Event::MessageFailed { .. }).then_some(())).await;
    // The ack is lost: what this device reads in the log says what it has decided.
    server.faults([Fault::DropAfterStore]);
    alice.client.decide(request_id, Verdict::Denied).await.unwrap();
    assert!(alice.client.discard(first).await.is_err(), "it is gone");
    stored(&mut a, 3).await;
    assert_eq!(verdicts(&alice.client, conversation), [Some(Verdict::Denied)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_and_a_verdict_that_are_damaged_on_their_way_are_told_again() {
    let server = Server::start().await;
    let (alice, agent) = (person(&server, "alice").await, person(&server, "agent").await);
    let (mut a, mut events) = (alice.client.connect().unwrap(), agent.client.connect().unwrap());
    let conversation = ConversationId::of_pair(alice.user_id, agent.user_id);
    alice.client.send_text(agent.user_id, "tidy up").await.unwrap();
    let turn_id = stored(&mut a, 1).await;
    agent.client.take_turn(turn_id, conversation).await.unwrap();
    due(&agent.client).await;
    server.faults([Fault::Damage]);
    agent.client.answer_turn_with(turn_id, asking(wanted())).await.unwrap().unwrap();
    let request_id = until(&mut a, |event| match event {
        Event::MessageRepaired(message) => message.message_id,
        _ => None,
    })
    .await;
    server.faults([Fault::Damage]);
    alice.client.decide(request_id, Verdict::Approved).await.unwrap();
    let verdict_id = until(&mut events, |event| match event {
        Event::MessageRepaired(message) => message.message_id,
        _ => None,
    })
    .await;
    agent.client.take_turn(verdict_id, conversation).await.unwrap();
    let told = decision(content(&agent.client).await);
    assert_eq!((told.request_id, told.request.arguments.as_str()), (request_id, ARGUMENTS));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_can_be_decided_on_is_asked_and_only_who_was_asked_decides() {
    let server = Server::start().await;
    let (alice, agent) = (person(&server, "alice").await, person(&server, "agent").await);
    let (mut a, _events) = (alice.client.connect().unwrap(), agent.client.connect().unwrap());
    let conversation = ConversationId::of_pair(alice.user_id, agent.user_id);
    alice.client.send_text(agent.user_id, "tidy up").await.unwrap();
    let turn_id = stored(&mut a, 1).await;
    agent.client.take_turn(turn_id, conversation).await.unwrap();
    due(&agent.client).await;
    let bad = [
        WantedApproval { action: String::new(), ..wanted() },
        WantedApproval { arguments: "[]".into(), ..wanted() },
        WantedApproval { arguments: r#"{"to":"a","to":"b"}"#.into(), ..wanted() },
        WantedApproval { good_for: Duration::ZERO, ..wanted() },
        WantedApproval { good_for: APPROVAL_GOOD_FOR_MAX + Duration::from_secs(1), ..wanted() },
    ];
    for wanted in bad {
        let refused = agent.client.answer_turn_with(turn_id, asking(wanted)).await;
        assert!(matches!(refused, Err(ClientError::BadApproval)), "{refused:?}");
    }
    let long = Answer { text: "x".repeat(crate::TEXT_MAX_BYTES), ..asking(wanted()) };
    assert!(matches!(agent.client.answer_turn_with(turn_id, long).await, Err(ClientError::BadText)));
    agent.client.answer_turn_with(turn_id, asking(wanted())).await.unwrap().unwrap();
    let request_id = request(&mut a).await;
    sent(&agent.client).await;
    for (client, id) in [(&agent.client, request_id), (&alice.client, turn_id)] {
        let refused = client.decide(id, Verdict::Approved).await;
        assert!(matches!(refused, Err(ClientError::UnknownRequest)), "{refused:?}");
    }
}
