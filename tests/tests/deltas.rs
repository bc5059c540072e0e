//! Answers while they are being written, frame by frame: who may send pieces, who gets them, and how an agent is told to stop.

use colloquy_protocol::agent::{AgentProfile, WhenBusy};
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::event::{AGENT_RESPONSE_DELTA, AgentResponseDelta, CancelReason};
use colloquy_protocol::frame::client::ClientFrame;
use colloquy_protocol::frame::delta::{Delta, TurnPlace};
use colloquy_protocol::frame::server::ServerFrame;
use colloquy_protocol::ids::{ConversationId, MessageId, StreamId};
use colloquy_tests::agent::Agent;
use colloquy_tests::ambient::fresh_uuid;
use colloquy_tests::cluster::{Cluster, ClusterOptions};
use colloquy_tests::device::{Device, seal};
use colloquy_tests::options::ServerOptions;
use colloquy_tests::raw_client::RawClient;
use colloquy_tests::server::Server;
use colloquy_tests::sink::Sink;
use serde_json::{Value, json};

/// An agent with a sink and a socket, and somebody who has asked it something.
struct Turn {
    server: Server,
    sink: Sink,
    agent: Agent,
    user: Device,
    socket: RawClient,
    turn_id: MessageId,
}

impl Turn {
    async fn begun(when_busy: WhenBusy) -> Self {
        let server = Server::start(ServerOptions::default()).await;
        let mut sink = Sink::start().await;
        let profile = AgentProfile { when_busy, ..AgentProfile::new("Bruno", sink.url()) };
        let agent = Agent::register_with(&server, "agent-bruno", profile).await;
        let user = server.rest().register_user("Ann", "phone").await;
        let mut socket = RawClient::connect(server.address(), &user).await;
        let question = socket.send_message(&user, &[&agent.device], "is it?").await;
        let turn_id = socket.expect_ack(&question).await.message_id;
        assert_eq!(sink.next().await.message.turn_id, turn_id);
        Self { server, sink, agent, user, socket, turn_id }
    }

    fn conversation(&self) -> ConversationId {
        self.user.conversation_with(&self.agent.device)
    }

    fn place(&self) -> TurnPlace {
        TurnPlace { conversation_id: self.conversation(), turn_id: self.turn_id }
    }

    /// A piece of the answer. The server sees ciphertext, whatever is in it.
    fn delta(&self, sequence: u64) -> Delta {
        let TurnPlace { conversation_id, turn_id } = self.place();
        let stream_id = StreamId(fresh_uuid());
        Delta { conversation_id, turn_id, stream_id, sequence, body: seal("It is") }
    }

    /// The same as an agent posts it that has no socket.
    fn event(&self, delta: &Delta) -> Value {
        let &Delta { turn_id, stream_id, sequence, .. } = delta;
        let data = AgentResponseDelta { turn_id, stream_id, sequence, body: delta.body.clone() };
        json!({"specversion": "1.0", "id": fresh_uuid().to_string(), "source": "/agents/agent-bruno",
            "type": AGENT_RESPONSE_DELTA, "datacontenttype": "application/json", "data": data})
    }
}

#[tokio::test]
async fn pieces_of_an_answer_reach_whoever_asked_over_the_socket_and_as_events() {
    let mut turn = Turn::begun(WhenBusy::Queue).await;
    let mut other = RawClient::connect(turn.server.address(), &turn.user).await;
    let mut socket = RawClient::connect(turn.server.address(), &turn.agent.device).await;
    for sequence in 1..=3 {
        let delta = turn.delta(sequence);
        socket.send(&ClientFrame::Delta(delta.clone())).await;
        assert_eq!(turn.socket.expect_delta().await, delta);
        assert_eq!(other.expect_delta().await, delta);
    }
    let delta = turn.delta(4);
    assert_eq!(turn.agent.post(&turn.server, &turn.event(&delta)).await.status, 202);
    assert_eq!(turn.socket.expect_delta().await, delta);
    // Nothing of it is a message.
    let log = turn.server.rest().whole_history(&turn.user, turn.conversation()).await;
    assert_eq!(log.messages.len(), 1);
    turn.server.assert_log_is_private();
}

#[tokio::test]
async fn whoever_lacks_the_beginning_asks_the_agent_for_it() {
    let mut turn = Turn::begun(WhenBusy::Queue).await;
    let mut socket = RawClient::connect(turn.server.address(), &turn.agent.device).await;
    turn.socket.send(&ClientFrame::DeltaRequest(turn.place())).await;
    let asked = socket
        .expect("delta_request", |frame| match frame {
            ServerFrame::DeltaRequest { payload } => Some(*payload),
            _ => None,
        })
        .await;
    assert_eq!(asked, turn.place());
}

#[tokio::test]
async fn people_and_strangers_send_no_pieces_and_nothing_comes_after_the_answer() {
    let mut turn = Turn::begun(WhenBusy::Queue).await;
    turn.socket.send(&ClientFrame::Delta(turn.delta(1))).await;
    turn.socket.expect_refusal(ErrorCode::NotAnAgent).await;
    let stranger = Agent::register(&turn.server, "agent-other", "http://127.0.0.1:9/").await;
    let mut socket = RawClient::connect(turn.server.address(), &stranger.device).await;
    socket.send(&ClientFrame::Delta(turn.delta(1))).await;
    socket.expect_refusal(ErrorCode::UnknownConversation).await;
    assert_eq!(
        stranger.post(&turn.server, &turn.event(&turn.delta(1))).await.refusal(),
        ErrorCode::UnknownTurn
    );
    let mut event = turn.event(&turn.delta(1));
    event["data"]["body"] = json!("in the clear");
    assert_eq!(turn.agent.post(&turn.server, &event).await.refusal(), ErrorCode::InvalidField);
    let answer = turn.agent.event(&turn.agent.answer(turn.turn_id, &[&turn.user], "It is."));
    assert_eq!(turn.agent.post(&turn.server, &answer).await.status, 202);
    turn.socket.expect_message().await;
    let late = turn.agent.post(&turn.server, &turn.event(&turn.delta(2))).await;
    assert_eq!((late.status, late.refusal()), (410, ErrorCode::TurnAnswered));
    assert!(!turn.socket.has_seen(|frame| matches!(frame, ServerFrame::Delta { .. })));
}

#[tokio::test]
async fn an_agent_is_told_to_stop_by_whoever_asked_and_by_nobody_else() {
    let mut turn = Turn::begun(WhenBusy::Queue).await;
    let stranger = turn.server.rest().register_user("Bob", "phone").await;
    let mut elsewhere = RawClient::connect(turn.server.address(), &stranger).await;
    elsewhere.send(&ClientFrame::CancelTurn(turn.place())).await;
    elsewhere.expect_refusal(ErrorCode::UnknownConversation).await;
    turn.socket.send(&ClientFrame::CancelTurn(turn.place())).await;
    let cancel = turn.sink.next_cancel().await;
    assert_eq!((cancel.turn_id, cancel.conversation_id), (turn.turn_id, turn.conversation()));
    assert_eq!((cancel.agent_id, cancel.reason), (turn.agent.agent_id.clone(), CancelReason::Stopped));
}

#[tokio::test]
async fn an_agent_that_answers_the_newest_is_told_to_stop_when_something_new_is_written() {
    let mut turn = Turn::begun(WhenBusy::Interrupt).await;
    turn.socket.send_message(&turn.user, &[&turn.agent.device], "no, something else").await;
    let cancel = turn.sink.next_cancel().await;
    assert_eq!((cancel.turn_id, cancel.reason), (turn.turn_id, CancelReason::Interrupted));
    let answer = turn.agent.event(&turn.agent.answer(turn.turn_id, &[&turn.user], "It"));
    assert_eq!(turn.agent.post(&turn.server, &answer).await.status, 202);
    let next = turn.sink.next().await.message;
    assert_ne!(next.turn_id, turn.turn_id, "each turn has its answer, and then comes the next");
}

#[tokio::test]
async fn what_is_written_while_a_turn_is_being_posted_interrupts_it_as_soon_as_the_agent_has_it() {
    let mut turn = Turn::begun(WhenBusy::Interrupt).await;
    let answer = turn.agent.event(&turn.agent.answer(turn.turn_id, &[&turn.user], "It is."));
    assert_eq!(turn.agent.post(&turn.server, &answer).await.status, 202);
    turn.sink.manner.holds(true);
    turn.socket.send_message(&turn.user, &[&turn.agent.device], "and what else?").await;
    let posted = turn.sink.next().await.message.turn_id;
    let newer = turn.socket.send_message(&turn.user, &[&turn.agent.device], "never mind").await;
    turn.socket.expect_ack(&newer).await;
    turn.sink.manner.holds(false);
    let cancel = turn.sink.next_cancel().await;
    assert_eq!((cancel.turn_id, cancel.reason), (posted, CancelReason::Interrupted));
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_and_the_word_to_stop_go_from_pod_to_pod() {
    let cluster = Cluster::start(ClusterOptions::default()).await;
    let mut sink = Sink::start().await;
    let agent = Agent::register(cluster.pod(0), "agent-far", &sink.url()).await;
    let user = cluster.rest(1).register_user("Ann", "phone").await;
    let mut socket = RawClient::connect(cluster.addresses()[1], &user).await;
    let mut far = RawClient::connect(cluster.addresses()[2], &agent.device).await;
    let question = socket.send_message(&user, &[&agent.device], "is it?").await;
    let turn_id = socket.expect_ack(&question).await.message_id;
    assert_eq!(sink.next().await.message.turn_id, turn_id);
    let conversation_id = user.conversation_with(&agent.device);
    let stream_id = StreamId(fresh_uuid());
    let delta = Delta { conversation_id, turn_id, stream_id, sequence: 1, body: seal("It is") };
    far.send(&ClientFrame::Delta(delta.clone())).await;
    assert_eq!(socket.expect_delta().await, delta);
    let place = TurnPlace { conversation_id, turn_id };
    socket.send(&ClientFrame::CancelTurn(place)).await;
    assert_eq!(sink.next_cancel().await.turn_id, turn_id);
}
