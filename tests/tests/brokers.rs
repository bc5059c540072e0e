//! Agents behind a broker: questions go to it, answers come from it, and it brings no token of theirs along.

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::event::{AGENT_MESSAGE, AGENT_RESPONSE, MESSAGE_RECEIVED};
use colloquy_tests::agent::Agent;
use colloquy_tests::ambient::{fresh_uuid, now};
use colloquy_tests::broker::Broker;
use colloquy_tests::device::{Device, unseal};
use colloquy_tests::options::ServerOptions;
use colloquy_tests::raw_client::RawClient;
use colloquy_tests::rest::{Answer, Rest};
use colloquy_tests::server::Server;
use colloquy_tests::sink::Sink;
use colloquy_tests::talk::Talk;
use serde_json::{Value, json};

#[tokio::test]
async fn an_agent_answers_through_the_broker_that_its_questions_come_from() {
    let mut broker = Broker::start().await;
    let mut sink = Sink::start().await;
    let server = Server::start(ServerOptions::default().env("K_SINK", &broker.url())).await;
    broker.trigger(AGENT_MESSAGE, sink.url());
    broker.trigger(AGENT_RESPONSE, format!("http://{}/events", server.address()));
    let to_broker = Rest::new(broker.address(), server.secrets().clone());
    let agent = Agent::register(&server, "agent-bruno", "http://127.0.0.1:9/").await;
    let user = server.rest().register_user("Ann", "phone").await;
    let mut socket = RawClient::connect(server.address(), &user).await;
    for text in ["one", "two", "three"] {
        let question = socket.send_message(&user, &[&agent.device], text).await;
        let turn_id = socket.expect_ack(&question).await.message_id;
        // It passes on everything more often than once.
        while sink.next().await.message.turn_id != turn_id {}
        let answer = agent.signed_event(&agent.answer(turn_id, &[&user], text));
        assert_eq!(agent.post_over(&to_broker, &answer).await.status, 202);
        for _ in 0..2 {
            assert_eq!(broker.passed_on(AGENT_RESPONSE).await, 202);
        }
        let shown = socket.expect_message().await;
        assert_eq!(shown.reply_to_message_id, Some(turn_id));
        assert_eq!(unseal(&shown.content.expect("it is for this device").body), text);
    }
    // What is not signed is nobody's, once the token is gone; and it is not tried again.
    let question = socket.send_message(&user, &[&agent.device], "four").await;
    let turn_id = socket.expect_ack(&question).await.message_id;
    let unsigned = agent.event(&agent.answer(turn_id, &[&user], "four"));
    assert_eq!(agent.post_over(&to_broker, &unsigned).await.status, 202);
    assert_eq!(broker.passed_on(AGENT_RESPONSE).await, 401);
    let conversation = user.conversation_with(&agent.device);
    let log = server.rest().whole_history(&user, conversation).await;
    assert_eq!(log.messages.len(), 7, "four questions, three answers");
    server.assert_log_is_private();
}

/// Posts an event of this type as a broker would: without a token, or with one of its own.
async fn post(server: &Server, event_type: &str, token: Option<&str>, signed: &str) -> Answer {
    let event = json!({
        "specversion": "1.0", "id": fresh_uuid().to_string(), "source": "/agents/agent-bruno",
        "type": event_type, "datacontenttype": "application/jwt", "data": signed,
    });
    let headers = [("content-type", "application/cloudevents+json")];
    server.rest().post_text("/events", token, &headers, event.to_string()).await
}

/// What a device signs, with claims of the test's choice.
fn signed_with(device: &Device, claims: &Value) -> String {
    let kid = format!("{}/{}", device.user_id, device.device_id);
    device.keys.jwt(&json!({"alg": "EdDSA", "typ": "colloquy-event+jwt", "kid": kid}), claims)
}

#[tokio::test]
async fn nobody_speaks_for_an_agent_but_its_own_devices_for_as_long_as_they_are_logged_in() {
    let mut talk = Talk::begun().await;
    let turn_id = talk.ask("are you there?").await;
    let other = Agent::register(&talk.server, "agent-other", "http://127.0.0.1:9/").await;
    let data = serde_json::to_value(talk.agent.answer(turn_id, &[&talk.user], "yes")).expect("it is json");
    let refused = async |signed: &str| post(&talk.server, AGENT_RESPONSE, None, signed).await.refusal();

    // By who is no agent, by an agent that was not asked, by a key that is not the device's.
    assert_eq!(refused(&talk.user.signed_data(AGENT_RESPONSE, &data)).await, ErrorCode::NotAnAgent);
    assert_eq!(refused(&other.device.signed_data(AGENT_RESPONSE, &data)).await, ErrorCode::UnknownTurn);
    let kid = format!("{}/{}", talk.agent.device.user_id, talk.agent.device.device_id);
    let header = json!({"alg": "EdDSA", "typ": "colloquy-event+jwt", "kid": kid});
    let claims = json!({"exp": now() / 1000 + 60, "type": AGENT_RESPONSE, "data": data});
    assert_eq!(refused(&other.device.keys.jwt(&header, &claims)).await, ErrorCode::InvalidToken);
    // Of another type, too old, of another form, by a token that is for something else.
    let device = &talk.agent.device;
    assert_eq!(refused(&device.signed_data(MESSAGE_RECEIVED, &data)).await, ErrorCode::InvalidToken);
    let old = json!({"exp": now() / 1000 - 120, "type": AGENT_RESPONSE, "data": data});
    assert_eq!(refused(&signed_with(device, &old)).await, ErrorCode::TokenExpired);
    let odd = json!({"turn_id": turn_id});
    assert_eq!(refused(&device.signed_data(AGENT_RESPONSE, &odd)).await, ErrorCode::MalformedEvent);
    assert_eq!(refused(&device.tokens.access_token).await, ErrorCode::InvalidToken);
    assert_eq!(refused("not a token").await, ErrorCode::InvalidToken);

    // The broker's own token is passed over, whatever it is.
    let signed = device.signed_data(AGENT_RESPONSE, &data);
    for token in [None, Some("the broker's"), Some(talk.user.tokens.access_token.as_str())] {
        assert_eq!(post(&talk.server, AGENT_RESPONSE, token, &signed).await.status, 202);
    }
    let shown = talk.socket.expect_message().await;
    assert_eq!(shown.sender_id, device.user_id);
    assert_eq!(unseal(&shown.content.expect("it is for this device").body), "yes");

    let out = talk.server.rest().delete("/v1/logins/current", &device.tokens.access_token).await;
    assert_eq!(out.status, 204, "{}", out.body);
    assert_eq!(refused(&signed).await, ErrorCode::TokenRevoked);
    talk.server.assert_log_is_private();
}

#[tokio::test]
async fn a_person_writes_through_a_broker_as_well() {
    let mut talk = Talk::begun().await;
    let first = talk.ask("by socket").await;
    assert_eq!(talk.sink.next().await.message.turn_id, first);
    let payload = talk.user.compose_payload(&[&talk.agent.device], "by event");
    let data = json!({"idempotency_key": fresh_uuid(), "payload": payload});
    let signed = talk.user.signed_data(MESSAGE_RECEIVED, &data);
    for _ in 0..2 {
        assert_eq!(post(&talk.server, MESSAGE_RECEIVED, None, &signed).await.status, 202);
    }
    talk.answer(first, "yes").await;
    let second = talk.sink.next().await.message;
    assert_eq!((second.sequence_number, second.sender_id), (2, talk.user.user_id));
}
