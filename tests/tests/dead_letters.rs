//! What agents do not take: given up, kept with the reason, listed, and taken to them once more.

use colloquy_protocol::agent::{AgentLimits, AgentProfile};
use colloquy_protocol::dead_letter::DeadReason;
use colloquy_protocol::frame::delta::TurnPlace;
use colloquy_protocol::frame::server::ServerFrame;
use colloquy_protocol::ids::MessageId;
use colloquy_tests::agent::Agent;
use colloquy_tests::cluster::{Cluster, ClusterOptions};
use colloquy_tests::operator::{complained, dead_letters, said};
use colloquy_tests::options::ServerOptions;
use colloquy_tests::raw_client::RawClient;
use colloquy_tests::server::Server;
use colloquy_tests::sink::Sink;
use colloquy_tests::talk::Talk;
use serde_json::json;

/// A talk in which the agent does not want something, while it answers somebody else.
async fn given_up() -> (Talk, MessageId) {
    let mut office = Sink::start().await;
    let options = ServerOptions::default().set("agents.dead_letter_url", office.url());
    let mut talk = Talk::begun_on(Server::start(options).await).await;
    assert_eq!(said(&dead_letters(&talk.server, &["list"]).await), "there are no dead letters");
    talk.sink.manner.answers(422, Vec::new());
    let poison = talk.ask("poison").await;
    talk.sink.manner.refuses(poison, true);
    talk.sink.manner.answers(202, Vec::new());
    assert_eq!(talk.sink.next().await.message.turn_id, poison);
    let other = talk.server.rest().register_user("Bob", "phone").await;
    let mut socket = RawClient::connect(talk.server.address(), &other).await;
    let question = socket.send_message(&other, &[&talk.agent.device], "and I?").await;
    let turn_id = socket.expect_ack(&question).await.message_id;
    let event = talk.agent.event(&talk.agent.answer(turn_id, &[&other], "you I answer"));
    while talk.sink.next().await.message.turn_id != turn_id {}
    assert_eq!(talk.agent.post(&talk.server, &event).await.status, 202);
    let death = office.next_death().await;
    assert_eq!((death.turn_id, death.reason, death.status), (poison, DeadReason::Refused, Some(422)));
    let conversation_id = talk.user.conversation_with(&talk.agent.device);
    let told = talk.socket.expect_turn_given_up().await;
    assert_eq!(told, TurnPlace { conversation_id, turn_id: poison });
    socket.heartbeat().await;
    assert!(!socket.has_seen(|frame| matches!(frame, ServerFrame::TurnGivenUp { .. })), "it is not theirs");
    assert_eq!(talk.server.rest().given_up(&talk.user).await, [poison]);
    for other in [&other, &talk.agent.device] {
        assert!(talk.server.rest().given_up(other).await.is_empty());
    }
    (talk, poison)
}

#[tokio::test]
async fn a_message_that_its_agent_refuses_is_given_up_listed_and_replayed_and_answered_once() {
    let (mut talk, poison) = given_up().await;
    let next = talk.ask("and this?").await;
    // Its conversation goes on without it.
    while talk.sink.next().await.message.turn_id != next {}
    talk.answer(next, "this I take").await;
    assert_eq!(talk.socket.expect_message().await.reply_to_message_id, Some(next));

    // Also after a crash it is kept.
    talk.server.kill_9();
    talk.server.restart().await;
    talk.socket = RawClient::connect(talk.server.address(), &talk.user).await;
    assert_eq!(talk.server.rest().given_up(&talk.user).await, [poison]);
    let kept = said(&dead_letters(&talk.server, &["list", "--agent", "agent-bruno"]).await);
    assert!(kept.starts_with(&poison.to_string()) && kept.lines().count() == 1, "{kept}");
    assert!(kept.contains("refused with 422 after"), "{kept}");
    let again = complained(&dead_letters(&talk.server, &["replay", "--all"]).await);
    assert!(again.contains("1 of 1 were not taken"), "{again}");
    assert_eq!(talk.sink.next().await.message.turn_id, poison);
    talk.sink.manner.refuses(poison, false);
    let turn = poison.to_string();
    let taken = said(&dead_letters(&talk.server, &["replay", &turn]).await);
    assert!(taken.contains("is taken"), "{taken}");
    assert_eq!(talk.sink.next().await.message.turn_id, poison);
    // Until it is answered it may be lost again, so it stays.
    assert!(said(&dead_letters(&talk.server, &["list"]).await).contains("taken again"));
    assert_eq!(talk.server.rest().given_up(&talk.user).await, [poison]);
    talk.answer(poison, "after all").await;
    talk.answer(poison, "after all, I said").await;
    assert_eq!(talk.socket.expect_message().await.reply_to_message_id, Some(poison));
    assert!(talk.server.rest().given_up(&talk.user).await.is_empty());
    assert_eq!(said(&dead_letters(&talk.server, &["list"]).await), "there are no dead letters");
    let late = complained(&dead_letters(&talk.server, &["replay", &turn]).await);
    assert!(late.contains("no dead letter"), "{late}");
    let conversation = talk.user.conversation_with(&talk.agent.device);
    let log = talk.server.rest().whole_history(&talk.user, conversation).await;
    assert_eq!(log.messages.len(), 4, "two questions, two answers");
    talk.server.assert_log_is_private();
}

/// NOLOSS: that an agent has read on may look as if it had read this as well.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_asked_is_told_on_another_pod_also_if_the_pod_that_gave_up_died_before_it_could_say_so() {
    let cluster = Cluster::start(ClusterOptions::default()).await;
    let mut sink = Sink::start().await;
    sink.manner.answers(503, Vec::new());
    let agent = Agent::register(cluster.pod(0), "agent-far", &sink.url()).await;
    let user = cluster.rest(1).register_user("Ann", "phone").await;
    let mut sockets = Vec::new();
    for address in cluster.addresses() {
        sockets.push(RawClient::connect(address, &user).await);
    }
    let question = sockets[0].send_message(&user, &[&agent.device], "is it?").await;
    let turn_id = sockets[0].expect_ack(&question).await.message_id;
    let asked = sink.next().await.message;
    assert_eq!(asked.turn_id, turn_id);
    // All that such a pod leaves behind.
    let letter = json!({
        "turn_id": turn_id, "agent_id": agent.agent_id, "conversation_id": asked.conversation_id,
        "sequence_number": asked.sequence_number, "reason": DeadReason::Failing, "status": null, "tries": 9,
        "died_at": asked.timestamp, "replayed_at": null,
    });
    let letter = serde_json::from_value(letter).expect("it is a dead letter");
    let letters = cluster.store().await.ports().dead_letters;
    assert!(letters.put(letter).await.expect("the database answers"));
    let place = TurnPlace { conversation_id: asked.conversation_id, turn_id };
    for socket in &mut sockets {
        assert_eq!(socket.expect_turn_given_up().await, place);
        socket.expect_read_through(asked.sequence_number).await;
    }
}

#[tokio::test]
async fn a_dead_letter_that_nobody_wants_any_more_is_dropped() {
    let (talk, poison) = given_up().await;
    let of_nobody = said(&dead_letters(&talk.server, &["list", "--agent", "agent-other"]).await);
    assert_eq!(of_nobody, "there are no dead letters");
    let neither = complained(&dead_letters(&talk.server, &["drop"]).await);
    assert!(neither.contains("<TURNS>"), "{neither}");
    let dropped = said(&dead_letters(&talk.server, &["drop", "--all", "--agent", "agent-bruno"]).await);
    assert_eq!(dropped, format!("{poison} is dropped"));
    assert_eq!(said(&dead_letters(&talk.server, &["list"]).await), "there are no dead letters");
}

#[tokio::test]
async fn where_a_broker_is_named_all_events_go_to_it_and_come_back_if_it_forgets_them() {
    let mut broker = Sink::start().await;
    let server = Server::start(ServerOptions::default().env("K_SINK", &broker.url())).await;
    let limits = AgentLimits { turn_timeout_ms: 1_000, ..AgentLimits::default() };
    let profile = AgentProfile { limits, ..AgentProfile::new("Bruno", "http://127.0.0.1:9/") };
    let agent = Agent::register_with(&server, "agent-bruno", profile).await;
    let user = server.rest().register_user("Ann", "phone").await;
    let mut socket = RawClient::connect(server.address(), &user).await;
    let question = socket.send_message(&user, &[&agent.device], "through a broker").await;
    let turn_id = socket.expect_ack(&question).await.message_id;
    let event = broker.next().await;
    assert_eq!((event.header("ce-agentid"), event.message.turn_id), ("agent-bruno".into(), turn_id));
    assert_eq!(event.header("ce-partitionkey"), event.message.conversation_id.to_string());
    // It has taken the event, dies, and forgets it.
    let name = event.name();
    broker.stop().await;
    broker.restart().await;
    assert_eq!(broker.next().await.name(), name, "the same event, for whoever has had it");
    let event = agent.event(&agent.answer(turn_id, &[&user], "through a broker, too"));
    for _ in 0..2 {
        assert_eq!(agent.post(&server, &event).await.status, 202);
    }
    assert_eq!(socket.expect_message().await.reply_to_message_id, Some(turn_id));
    let conversation = user.conversation_with(&agent.device);
    assert_eq!(server.rest().whole_history(&user, conversation).await.messages.len(), 2);
}
