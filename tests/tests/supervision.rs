//! Each kind of actor is killed under traffic: sockets outlive conversations, no invariant breaks, every exit is
//! counted (ISOLATE, ORDER, ONCE, NOLOSS).

#![allow(clippy::print_stdout, reason = "a test says what it has counted")]

use std::net::SocketAddr;
use std::sync::Arc;

use colloquy_actors::supervision::{ActorKind, ExitReason};
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::client::{ClientFrame, SendMessage};
use colloquy_protocol::frame::server::ServerFrame;
use colloquy_runtime::config::Config;
use colloquy_runtime::service::Service;
use colloquy_tests::checker::{DeviceRecord, Logged, check_all};
use colloquy_tests::courier::Pace;
use colloquy_tests::device::Device;
use colloquy_tests::dialogue::Dialogue;
use colloquy_tests::raw_client::{Incoming, RawClient};
use colloquy_tests::rest::Rest;
use colloquy_tests::secrets::Secrets;
use tempfile::TempDir;

/// Messages each side sends while actors die.
const MESSAGES: u64 = 600;
/// The actors are killed when so many messages have been acked.
const KILL_AT: [u64; 3] = [100, 400, 800];

/// A node in this process, and two devices of two people.
struct Stage {
    service: Service,
    rest: Rest,
    left: Arc<Device>,
    right: Arc<Device>,
    _data: TempDir,
}

impl Stage {
    async fn set() -> Self {
        let data = tempfile::tempdir().expect("a temporary directory can be made");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = Config { listen: any, data_dir: data.path().to_owned(), ..Config::default() };
        config.operations.listen = any;
        config.accounts.password_memory_kib = 8;
        config.accounts.password_iterations = 1;
        config.limits.logins_per_minute = 0;
        let service = Service::start(&config).await.expect("a node starts on an empty directory");
        let rest = Rest::new(service.public_address(), Secrets::default());
        let left = Arc::new(rest.register_user("left", "left-phone").await);
        let right = Arc::new(rest.register_user("right", "right-phone").await);
        Self { service, rest, left, right, _data: data }
    }

    async fn log(&self) -> Vec<Logged> {
        let history = self.rest.whole_history(&self.left, self.left.conversation_with(&self.right)).await;
        let logged = history.messages.iter().map(|message| Logged {
            message_id: message.message_id,
            sequence_number: message.sequence_number,
            sender_id: message.sender_id,
        });
        logged.collect()
    }

    fn exits(&self, kind: ActorKind) -> u64 {
        self.service.node().metrics().exits_of(kind, ExitReason::Killed)
    }
}

async fn survives_the_death_of(kind: ActorKind) {
    let stage = Stage::set().await;
    let address = stage.service.public_address();
    let addresses = [vec![address], vec![address]];
    let mut dialogue = Dialogue::begin([&stage.left, &stage.right], addresses, Pace::Window, MESSAGES);
    let mut killed = 0;
    for moment in KILL_AT {
        dialogue.acks(moment).await;
        killed += u64::from(stage.service.node().kill_one(kind).await);
    }
    let records: Vec<DeviceRecord> = dialogue.end().await.into_iter().map(|side| side.record).collect();
    let log = stage.log().await;
    assert_eq!(log.len() as u64, 2 * MESSAGES);
    assert_eq!(check_all(&records, &log), Ok(()));
    assert!(killed >= 1, "an actor was there to be killed");
    println!("{kind:?}: {killed} kills, {} counted", stage.exits(kind));
    // The same one may be hit twice before it is gone.
    assert!((1..=killed).contains(&stage.exits(kind)), "{} of {killed} kills counted", stage.exits(kind));
    stage.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_death_of_a_store_writer_loses_nothing() {
    survives_the_death_of(ActorKind::StoreWriter).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_death_of_a_presence_tracker_loses_nothing() {
    survives_the_death_of(ActorKind::PresenceTracker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_death_of_the_conversation_directory_loses_nothing() {
    survives_the_death_of(ActorKind::ConversationDirectory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_death_of_a_conversation_loses_nothing() {
    survives_the_death_of(ActorKind::Conversation).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_death_of_the_session_supervisor_loses_nothing() {
    survives_the_death_of(ActorKind::SessionSupervisor).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_death_of_a_session_loses_nothing() {
    survives_the_death_of(ActorKind::Session).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_stays_open_when_its_conversation_dies() {
    let stage = Stage::set().await;
    let mut client = RawClient::connect(stage.service.public_address(), &stage.left).await;
    for number in 1..=5 {
        let message = client.send_message(&stage.left, &[&stage.right], "still on the same socket").await;
        let mut frame = ServerFrame::HeartbeatAck { server_time: 0 };
        // A message that met the dying actor is answered `unavailable`; its retry finds the next one.
        while !matches!(&frame, ServerFrame::MessageAck { payload, .. } if payload.sequence_number == number)
        {
            frame = match client.next().await {
                Incoming::Frame(frame) => *frame,
                Incoming::Closed(code) => panic!("the socket was closed with {code:?}"),
            };
            if matches!(&frame, ServerFrame::Error { payload, .. } if payload.retryable) {
                let again = ClientFrame::Message(Box::new(message.clone()));
                client.send(&again).await;
            }
        }
        assert!(stage.service.node().kill_one(ActorKind::Conversation).await);
    }
    client.close().await;
    stage.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_conversation_held_is_sent_again_on_the_same_socket_and_keeps_its_place() {
    let stage = Stage::set().await;
    let mut client = RawClient::connect(stage.service.public_address(), &stage.left).await;
    let messages: Vec<SendMessage> = (1..=4)
        .map(|number| SendMessage {
            oldest_unsettled: None,
            client_sequence: Some(number),
            ..stage.left.compose(&[&stage.right], "in its place")
        })
        .collect();
    let frame = |index: usize| ClientFrame::Message(Box::new(messages[index].clone()));
    client.send(&frame(0)).await;
    assert_eq!(client.expect_ack(&messages[0]).await.sequence_number, 1);
    // Held: the second one is missing.
    client.send(&frame(2)).await;
    client.send(&frame(3)).await;
    client.heartbeat().await;
    assert!(stage.service.node().kill_one(ActorKind::Conversation).await);
    for _ in 0..2 {
        let refused = client.expect_refusal(ErrorCode::Unavailable).await;
        assert!([2, 3].map(|index| Some(messages[index].client_message_id.clone())).contains(&refused));
    }
    // The next owner has never heard of this connection, and still waits for the second one.
    for index in [3, 2, 1] {
        client.send(&frame(index)).await;
    }
    for (number, message) in (1..).zip(&messages).skip(1) {
        assert_eq!(client.expect_ack(message).await.sequence_number, number);
    }
    client.close().await;
    stage.service.stop().await;
}
