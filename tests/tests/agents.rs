//! Agents from outside: registered with the command line, seen and logged in over REST.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::event::{AgentMessage, AgentResponse};
use colloquy_protocol::ids::MessageId;
use colloquy_protocol::rest::accounts::Tokens;
use colloquy_protocol::rest::agents::AgentEntries;
use colloquy_tests::agent::Agent;
use colloquy_tests::ambient::fresh_uuid;
use colloquy_tests::device::{Device, unseal};
use colloquy_tests::operator::{self, complained, said};
use colloquy_tests::options::ServerOptions;
use colloquy_tests::raw_client::RawClient;
use colloquy_tests::server::Server;
use colloquy_tests::sink::Sink;
use colloquy_tests::talk::Talk;
use serde_json::json;

/// Turns that wait for an agent that is slow, the people who have asked for them, and those that are answered then.
const QUEUED: u64 = 10_000;
const ASKERS: u64 = 10;
const ANSWERED: u64 = 200;

/// `colloquy admin agents` as whoever runs `server` would call it.
async fn admin(server: &Server, data_dir: &Path, arguments: &[&str]) -> Output {
    operator::admin(server, data_dir, &[&["agents"], arguments].concat()).await
}

#[tokio::test]
async fn whoever_runs_a_server_registers_an_agent_and_the_agent_logs_in() {
    let server = Server::start(ServerOptions::default()).await;
    let data = server.data_dir();
    let folder = tempfile::tempdir().expect("a temporary directory can be made");
    let key_file = folder.path().join("bruno.key");
    let key_path = key_file.to_str().expect("the path is text");
    assert!(said(&admin(&server, &data, &["list"]).await).contains("no agent yet"));
    let add =
        ["add", "agent-bruno", "--name", "Bruno", "--sink", "http://127.0.0.1:9000/", "--key-file", key_path];
    said(&admin(&server, &data, &add).await);
    let key = std::fs::read_to_string(&key_file).expect("the key was written").trim().to_owned();
    server.secrets().add("agent key", &key);
    let mode = std::os::unix::fs::MetadataExt::mode(&key_file.metadata().expect("it is there"));
    assert_eq!(mode & 0o777, 0o600, "nobody else can read the key");

    let rest = server.rest();
    let log_in = json!({"agent_id": "agent-bruno", "password": key});
    let tokens: Tokens = rest.post("/v1/logins", None, &log_in).await.read();
    let ann = rest.register_user("Ann", "phone").await;
    let seen: AgentEntries = rest.get("/v1/agents", &ann.tokens.access_token).await.read();
    assert_eq!((seen.agents.len(), seen.agents[0].user_id), (1, tokens.user_id));

    let again = complained(&admin(&server, &data, &add).await);
    assert!(again.contains("new-key"), "{again}");
    let profile = said(&admin(&server, &data, &["show", "agent-bruno"]).await);
    let profile_file = folder.path().join("bruno.json");
    std::fs::write(&profile_file, profile.replace("\"Bruno\"", "\"Bruno the Second\""))
        .expect("it can be written");
    let profile_path = profile_file.to_str().expect("the path is text");
    let change = ["change", "agent-bruno", "--profile", profile_path, "--description", "Answers everything."];
    said(&admin(&server, &data, &change).await);
    let listed = said(&admin(&server, &data, &["list"]).await);
    assert!(listed.contains("Bruno the Second") && listed.contains("revision 2"), "{listed}");

    said(&admin(&server, &data, &["new-key", "agent-bruno", "--key-file", key_path]).await);
    assert_eq!(rest.post("/v1/logins", None, &log_in).await.status, 401);
    said(&admin(&server, &data, &["remove", "agent-bruno"]).await);
    assert!(complained(&admin(&server, &data, &["show", "agent-bruno"]).await).contains("no such agent"));
    server.assert_log_is_private();
}

/// Somebody who has written to an agent.
struct Question {
    server: Server,
    agent: Agent,
    user: Device,
    socket: RawClient,
    turn_id: MessageId,
}

impl Question {
    async fn asked() -> Self {
        let server = Server::start(ServerOptions::default()).await;
        let agent = Agent::register(&server, "agent-bruno", "http://127.0.0.1:9/").await;
        let user = server.rest().register_user("Ann", "phone").await;
        let mut socket = RawClient::connect(server.address(), &user).await;
        let question = socket.send_message(&user, &[&agent.device], "how are you?").await;
        let turn_id = socket.expect_ack(&question).await.message_id;
        Self { server, agent, user, socket, turn_id }
    }

    fn answer(&self, text: &str) -> AgentResponse {
        self.agent.answer(self.turn_id, &[&self.user], text)
    }
}

#[tokio::test]
async fn an_agents_answer_is_shown_once_however_often_it_is_given() {
    let mut question = Question::asked().await;
    let event = question.agent.event(&question.answer("well"));
    for _ in 0..2 {
        assert_eq!(question.agent.post(&question.server, &event).await.status, 202);
    }
    // As an agent that was run twice would: another answer, encrypted anew.
    let other = question.agent.event(&question.answer("very well"));
    assert_eq!(question.agent.post(&question.server, &other).await.status, 202);
    let shown = question.socket.expect_message().await;
    assert_eq!((shown.sequence_number, shown.reply_to_message_id), (2, Some(question.turn_id)));
    assert_eq!(shown.sender_id, question.agent.device.user_id);
    let content = shown.content.expect("it is for this device");
    assert_eq!(unseal(&content.body), "well");
    let conversation = question.user.conversation_with(&question.agent.device);
    let log = question.server.rest().whole_history(&question.user, conversation).await;
    assert_eq!(log.messages.len(), 2, "one question, one answer");
    question.server.assert_log_is_private();
}

#[tokio::test]
async fn events_are_taken_in_binary_mode_and_in_batches() {
    let mut question = Question::asked().await;
    let second = question.socket.send_message(&question.user, &[&question.agent.device], "and you?").await;
    let second = question.socket.expect_ack(&second).await.message_id;
    let token = question.agent.device.tokens.access_token.clone();
    let data = serde_json::to_string(&question.answer("binary")).expect("it is json");
    let headers = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/agents/agent-bruno"),
        ("ce-type", "agent.response"),
    ];
    let rest = question.server.rest();
    assert_eq!(rest.post_text("/events", Some(&token), &headers, data).await.status, 202);
    let answer = question.agent.answer(second, &[&question.user], "batch");
    let batch = json!([question.agent.event(&question.answer("again")), question.agent.event(&answer)]);
    let headers = [("content-type", "application/cloudevents-batch+json")];
    assert_eq!(rest.post_text("/events", Some(&token), &headers, batch.to_string()).await.status, 202);
    let mut texts = Vec::new();
    for _ in 0..2 {
        let shown = question.socket.expect_message().await;
        texts.push(unseal(&shown.content.expect("it is for this device").body));
    }
    assert_eq!(texts, ["binary", "batch"]);
}

#[tokio::test]
async fn an_agent_answers_only_what_was_written_to_it() {
    let question = Question::asked().await;
    let (server, turn_id) = (&question.server, question.turn_id);
    let other = Agent::register(server, "agent-other", "http://127.0.0.1:9/").await;
    let foreign = other.event(&other.answer(turn_id, &[&question.user], "mine"));
    assert_eq!(other.post(server, &foreign).await.refusal(), ErrorCode::UnknownTurn);
    let nothing = MessageId(fresh_uuid());
    let unknown = question.agent.event(&question.agent.answer(nothing, &[&question.user], "what?"));
    assert_eq!(question.agent.post(server, &unknown).await.refusal(), ErrorCode::UnknownTurn);
    // A person is no agent, also in a conversation of their own.
    let event = question.agent.event(&question.answer("well")).to_string();
    let headers = [("content-type", "application/cloudevents+json")];
    let post = async |token: Option<&str>| {
        server.rest().post_text("/events", token, &headers, event.clone()).await.refusal()
    };
    assert_eq!(post(Some(&question.user.tokens.access_token)).await, ErrorCode::NotAnAgent);
    assert_eq!(post(None).await, ErrorCode::InvalidToken);
    assert_eq!(post(Some("forged")).await, ErrorCode::InvalidToken);
    let conversation = question.user.conversation_with(&question.agent.device);
    let log = server.rest().whole_history(&question.user, conversation).await;
    assert_eq!(log.messages.len(), 1, "nothing was answered");
}

#[tokio::test]
async fn a_message_that_comes_as_an_event_is_stored_once_however_often_it_comes() {
    let question = Question::asked().await;
    let (sender, receiver) = (&question.user, &question.agent.device);
    let payload = sender.compose(&[receiver], "by another way").payload;
    let event = |key: &str, payload: &colloquy_protocol::frame::client::SendPayload| {
        json!({"specversion": "1.0", "id": key, "source": "/bridges/mail", "type": "messaging.message.received",
            "data": {"idempotency_key": key, "payload": payload}})
    };
    let rest = question.server.rest();
    let post = async |token: &str, event: &serde_json::Value| {
        let headers = [("content-type", "application/cloudevents+json")];
        rest.post_text("/events", Some(token), &headers, event.to_string()).await
    };
    let token = &question.user.tokens.access_token;
    let key = "9f8b1d4e-6f0a-4c3b-8a1d-2e3f4a5b6c7d";
    for _ in 0..3 {
        assert_eq!(post(token, &event(key, &payload)).await.status, 202);
    }
    let other = sender.compose(&[receiver], "another text").payload;
    let conflict = post(token, &event(key, &other)).await;
    // A broker that sends it again does not help, so it is not told to.
    assert_eq!(conflict.status, 422);
    assert!(conflict.body.contains("idempotency_conflict"), "{}", conflict.body);
    // As somebody else: it is not their conversation.
    let stranger = rest.register_user("Bob", "phone").await;
    let foreign = event("3f1c9a52-7d7e-4b0a-8f6d-2f9f5a3c1e10", &payload);
    let refused = post(&stranger.tokens.access_token, &foreign).await;
    assert_eq!(refused.status, 422);
    assert!(refused.body.contains("unknown_conversation"), "{}", refused.body);
    let mut plain = event("3f1c9a52-7d7e-4b0a-8f6d-2f9f5a3c1e11", &payload);
    plain["data"]["payload"]["content"] = json!("in the clear");
    assert_eq!(post(token, &plain).await.refusal(), ErrorCode::MalformedEvent);
    let conversation = question.user.conversation_with(&question.agent.device);
    let log = rest.whole_history(&question.user, conversation).await;
    assert_eq!(log.messages.len(), 2, "the question, and the one that came as an event");
}

#[tokio::test]
async fn what_is_no_event_or_none_for_here_is_refused_for_good() {
    let question = Question::asked().await;
    let mut event = question.agent.event(&question.answer("well"));
    event["type"] = json!("agent.gossip");
    assert_eq!(question.agent.post(&question.server, &event).await.refusal(), ErrorCode::UnknownEvent);
    let mut event = question.agent.event(&question.answer("well"));
    event["specversion"] = json!("2.0");
    assert_eq!(question.agent.post(&question.server, &event).await.refusal(), ErrorCode::MalformedEvent);
    let mut event = question.agent.event(&question.answer("well"));
    event["data"] = json!({"turn_id": question.turn_id});
    assert_eq!(question.agent.post(&question.server, &event).await.refusal(), ErrorCode::MalformedEvent);
    let mut event = question.agent.event(&question.answer("well"));
    event["data"]["padding"] = json!("x".repeat(70_000));
    assert_eq!(question.agent.post(&question.server, &event).await.refusal(), ErrorCode::TooLarge);
    let other = question.server.rest().register_user("Bob", "phone").await;
    // For the wrong devices: a broker that sends the same again does not help, so it is not told to.
    let stale =
        question.agent.event(&question.agent.answer(question.turn_id, &[&question.user, &other], "well"));
    let refused = question.agent.post(&question.server, &stale).await;
    assert_eq!(refused.status, 422);
    assert!(refused.body.contains("device_list_stale"), "{}", refused.body);
}

#[tokio::test]
async fn whoever_cannot_read_the_servers_key_is_told_where_it_was_looked_for() {
    let server = Server::start(ServerOptions::default()).await;
    let elsewhere = tempfile::tempdir().expect("a temporary directory can be made");
    let without = complained(&admin(&server, elsewhere.path(), &["list"]).await);
    assert!(without.contains("token-signing.pem"), "{without}");
    let other = Server::start(ServerOptions::default()).await;
    let wrong = complained(&admin(&server, &other.data_dir(), &["list"]).await);
    assert!(wrong.contains("another key"), "{wrong}");
}

#[tokio::test]
async fn what_is_written_to_an_agent_is_posted_to_its_sink_turn_by_turn() {
    let mut talk = Talk::begun().await;
    let first = talk.ask("first").await;
    let second = talk.ask("second").await;
    let event = talk.sink.next().await;
    assert_eq!(
        (event.header("ce-type"), event.header("ce-specversion")),
        ("agent.message".into(), "1.0".into())
    );
    assert_eq!(
        (event.header("ce-id"), event.header("ce-agentid")),
        (first.to_string(), "agent-bruno".into())
    );
    assert!(event.header("traceparent").starts_with("00-"), "{}", event.header("traceparent"));
    let AgentMessage { turn_id, sequence_number, sender_id, content, .. } = event.message;
    assert_eq!((turn_id, sequence_number, sender_id), (first, 1, talk.user.user_id));
    // The agent's own device's, and nobody else's.
    assert_eq!(content.ciphertexts.len(), 1);
    assert_eq!(unseal(&content.ciphertexts[0].body), "first");
    // It is held, not read, until it is answered; and what comes after it waits.
    talk.socket.expect_delivered_through(1).await;
    assert!(talk.sink.is_empty());
    talk.answer(first, "one").await;
    assert_eq!(talk.socket.expect_message().await.reply_to_message_id, Some(first));
    talk.socket.expect_read_through(1).await;
    assert_eq!(talk.sink.next().await.message.turn_id, second);
    talk.answer(second, "two").await;
    assert_eq!(talk.socket.expect_message().await.reply_to_message_id, Some(second));
    assert!(talk.sink.is_empty());
    talk.server.assert_log_is_private();
}

/// Otherwise two agents would answer each other for ever.
#[tokio::test]
async fn an_agent_that_is_answered_by_another_is_not_asked_to_answer_that() {
    let server = Server::start(ServerOptions::default()).await;
    let (asking_sink, mut asked_sink) = (Sink::start().await, Sink::start().await);
    let asking = Agent::register(&server, "agent-asking", &asking_sink.url()).await;
    let asked = Agent::register(&server, "agent-asked", &asked_sink.url()).await;
    let mut socket = RawClient::connect(server.address(), &asking.device).await;
    let question = socket.send_message(&asking.device, &[&asked.device], "what do you say?").await;
    let turn_id = socket.expect_ack(&question).await.message_id;
    assert_eq!(asked_sink.next().await.message.turn_id, turn_id);
    let answer = asked.event(&asked.answer(turn_id, &[&asking.device], "this"));
    assert_eq!(asked.post(&server, &answer).await.status, 202);
    let answer = socket.expect_message().await;
    assert_eq!(answer.reply_to_message_id, Some(turn_id));
    // It has been passed over.
    socket.expect_read_through(2).await;
    assert!(asking_sink.is_empty());
    let back = asking.event(&asking.answer(answer.message_id, &[&asked.device], "and that"));
    assert_eq!(asking.post(&server, &back).await.refusal(), ErrorCode::UnknownTurn);
}

#[tokio::test]
async fn an_agent_that_cannot_take_a_message_gets_it_again_under_the_same_name() {
    let mut talk = Talk::begun().await;
    talk.sink.manner.answers(503, Vec::new());
    let turn_id = talk.ask("are you there?").await;
    let first = talk.sink.next().await;
    let again = talk.sink.next().await;
    assert_eq!(first.name(), again.name());
    talk.sink.manner.answers(202, Vec::new());
    let taken = talk.sink.next().await;
    assert_eq!((taken.name(), taken.message.turn_id), (first.name(), turn_id));
    talk.answer(turn_id, "now I am").await;
    assert_eq!(talk.socket.expect_message().await.reply_to_message_id, Some(turn_id));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let mut talk = Talk::begun().await;
    let elsewhere = Sink::start().await;
    talk.sink.manner.answers(307, vec![("location", elsewhere.url())]);
    talk.ask("go there").await;
    talk.sink.next().await;
    talk.sink.next().await;
    assert!(elsewhere.is_empty());
    // Nothing was wrong with it but the way.
    talk.sink.manner.answers(202, Vec::new());
    talk.sink.next().await;
    assert!(elsewhere.is_empty());
}

#[tokio::test]
async fn an_agent_that_was_gone_and_a_server_that_was_killed_lose_no_turn() {
    let mut talk = Talk::begun().await;
    talk.sink.stop().await;
    let turn_id = talk.ask("anybody?").await;
    talk.server.kill_9();
    talk.server.restart().await;
    talk.sink.restart().await;
    assert_eq!(talk.sink.next().await.message.turn_id, turn_id);
    // Killed again after the agent has taken it: it is told once more, under the same name, and has answered once.
    talk.server.kill_9();
    talk.server.restart().await;
    assert_eq!(talk.sink.next().await.message.turn_id, turn_id);
    talk.answer(turn_id, "here").await;
    talk.answer(turn_id, "here, I said").await;
    let conversation = talk.user.conversation_with(&talk.agent.device);
    let log = talk.server.rest().whole_history(&talk.user, conversation).await;
    assert_eq!(log.messages.len(), 2, "one question, one answer");
}

#[tokio::test]
async fn ten_thousand_turns_wait_in_the_log_and_are_given_out_one_by_one_in_order() {
    let mut talk = Talk::begun().await;
    let mut askers = BTreeMap::new();
    for _ in 0..ASKERS {
        let asker = talk.server.rest().register_user("Ann", "phone").await;
        let mut socket = RawClient::connect(talk.server.address(), &asker).await;
        socket.send_many(&asker, &[&talk.agent.device], QUEUED / ASKERS).await;
        askers.insert(asker.user_id, (asker, socket, 1));
    }
    let rest = talk.server.rest();
    for answered in 0..ANSWERED {
        let AgentMessage { turn_id, sender_id, sequence_number, .. } = talk.sink.next().await.message;
        let (asker, _, next) = askers.get_mut(&sender_id).expect("nobody else has asked");
        assert_eq!(sequence_number, *next, "the next question of this conversation");
        *next += 1;
        let event = talk.agent.event(&talk.agent.answer(turn_id, &[asker], "one of many"));
        assert_eq!(talk.agent.post_over(&rest, &event).await.status, 202, "after {answered} answers");
    }
    // Each conversation has one turn under way, however many wait.
    for _ in 0..ASKERS {
        talk.sink.next().await;
    }
    assert!(talk.sink.is_empty());
}
