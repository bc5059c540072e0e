//! The server on MongoDB: nothing is kept on its own machine, and what was acked outlives it.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use aws_lc_rs::signature::Ed25519KeyPair;
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::client::ClientFrame;
use colloquy_protocol::frame::server::ServerFrame;
use colloquy_test_services::{MongoProcess, start_mongo};
use colloquy_tests::ambient::fresh_uuid;
use colloquy_tests::options::ServerOptions;
use colloquy_tests::pair::Pair;
use colloquy_tests::server::{Server, binary};
use tempfile::TempDir;

/// Messages of one conversation.
const MESSAGES: u64 = 60;

/// A database of its own on a MongoDB, and what servers on it are started with.
struct Database {
    mongo: MongoProcess,
    options: ServerOptions,
    folder: TempDir,
}

impl Database {
    fn start() -> Self {
        let (mongo, folder) = (start_mongo(), tempfile::tempdir().expect("a temporary directory"));
        let key = folder.path().join("signing.der");
        make_signing_key(&key);
        let options = ServerOptions::default()
            .set("store.backend", "mongodb")
            .set("store.mongodb_database", format!("colloquy_test_{}", fresh_uuid().simple()))
            .set("accounts.signing_key_file", key.to_str().expect("a plain path"))
            .env("COLLOQUY_STORE__MONGODB_URI", &mongo.uri);
        Self { mongo, options, folder }
    }

    fn migrated() -> Self {
        let database = Self::start();
        let migrated = database.run(&["admin", "migrate"]);
        assert!(migrated.status.success(), "{migrated:?}");
        database
    }

    /// Runs the binary to its end.
    fn run(&self, arguments: &[&str]) -> Output {
        let config = self.folder.path().join("colloquy.toml");
        let text = self.options.to_toml(SocketAddr::from(([127, 0, 0, 1], 0)));
        std::fs::write(&config, text).expect("the configuration file can be written");
        let mut command = Command::new(binary("colloquy"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("COLLOQUY_")) {
            command.env_remove(name);
        }
        command.envs(self.options.environment().iter().map(|(name, value)| (name, value)));
        command.args(arguments).arg("--config").arg(config).stdin(Stdio::null());
        command.output().expect("the binary can be started")
    }
}

fn make_signing_key(path: &Path) {
    let pair = Ed25519KeyPair::generate().expect("a key can be drawn");
    let pkcs8 = pair.to_pkcs8v1().expect("a key pair has a PKCS#8 form");
    std::fs::write(path, pkcs8.as_ref()).expect("a file can be written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("it is our own file");
}

#[tokio::test]
async fn what_two_people_said_is_there_after_a_kill_and_after_a_stop_and_on_another_server() {
    let database = Database::migrated();
    let mut pair = Pair::start_with(database.options.clone()).await;
    let (mut left, mut right) = pair.connect_both().await;
    left.send_many(&pair.left, &[&pair.right], MESSAGES).await;
    let mut last = right.expect_message().await;
    while last.sequence_number < MESSAGES {
        last = right.expect_message().await;
    }

    pair.server.kill_9();
    pair.server.restart().await;
    let log = pair.log().await;
    let numbers: Vec<u64> = log.iter().map(|message| message.sequence_number).collect();
    assert_eq!(numbers, (1..=MESSAGES).collect::<Vec<_>>());
    assert_eq!(log[log.len() - 1].message_id, last.message_id);
    pair.assert_conversation_works().await;

    assert_eq!(pair.server.terminate().await, Some(0));
    pair.server.restart().await;
    assert_eq!(pair.log().await.len() as u64, MESSAGES + 1);
    assert!(!pair.server.data_dir().exists(), "nothing is kept on the server's machine");

    let other = Server::start(database.options.clone()).await;
    let history = other.rest().whole_history(&pair.left, pair.conversation()).await;
    assert_eq!(history.messages.len() as u64, MESSAGES + 1, "the tokens of one are good at the other");
}

#[tokio::test]
async fn while_the_database_is_away_a_message_is_refused_for_now_and_afterwards_taken_once() {
    let mut database = Database::migrated();
    if !database.mongo.is_own() {
        return;
    }
    let pair = Pair::start_with(database.options.clone()).await;
    let (mut left, mut right) = pair.connect_both().await;
    left.send_many(&pair.left, &[&pair.right], 3).await;
    database.mongo.kill();
    let message = left.send_message(&pair.left, &[&pair.right], "into an outage").await;
    assert_eq!(left.expect_refusal(ErrorCode::Unavailable).await.as_ref(), Some(&message.client_message_id));
    database.mongo.restart();
    let ack = loop {
        left.send(&ClientFrame::Message(Box::new(message.clone()))).await;
        let answer = left.expect("an answer", |frame| match frame {
            ServerFrame::MessageAck { payload, .. } => Some(Ok(*payload)),
            ServerFrame::Error { payload, .. } => Some(Err(payload.clone())),
            _ => None,
        });
        match answer.await {
            Ok(ack) => break ack,
            Err(error) => assert!(error.retryable, "{}", error.message),
        }
    };
    assert_eq!(ack.sequence_number, 4);
    right.expect_shown(ack.message_id).await;
    assert_eq!(pair.log().await.len(), 4);
}

#[tokio::test]
async fn a_server_on_a_database_that_was_never_migrated_says_what_to_do_and_then_starts() {
    let database = Database::start();
    let refused = database.run(&["serve"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("has not been migrated: run `colloquy admin migrate`"), "{told}");

    let migrated = database.run(&["admin", "migrate"]);
    assert!(migrated.status.success(), "{migrated:?}");
    let told = String::from_utf8_lossy(&migrated.stdout).into_owned();
    assert!(told.contains("messages.position_unique") && told.contains("users.phone_unique"), "{told}");
    let again = database.run(&["admin", "migrate"]);
    assert_eq!(String::from_utf8_lossy(&again.stdout), "nothing to do\n");

    let mut server = Server::start(database.options.clone()).await;
    assert_eq!(server.terminate().await, Some(0));
}
