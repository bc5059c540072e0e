//! What is said to the server, and how often.

use std::sync::{Arc, Mutex};

use colloquy_test_services::MongoProcess;
use mongodb::bson::{Document, doc};
use mongodb::event::EventHandler;
use mongodb::event::command::CommandEvent;

use super::super::engine::{Engine, OPERATION_DEADLINE, client_options};
use super::super::{MongoOptions, migrate};

/// An engine on a database that was migrated, and the commands it sends.
pub(super) struct Overheard {
    pub(super) engine: Arc<Engine>,
    commands: Arc<Mutex<Vec<Document>>>,
}

impl Overheard {
    pub(super) async fn open(mongo: &MongoProcess) -> Self {
        let options = super::options(mongo);
        migrate(&options).await.unwrap();
        Self::connect(&options).await
    }

    async fn connect(options: &MongoOptions) -> Self {
        let commands = Arc::<Mutex<Vec<Document>>>::default();
        let mut client = client_options(options).await.unwrap();
        let hear = Arc::clone(&commands);
        client.command_event_handler = Some(EventHandler::callback(move |event| {
            if let CommandEvent::Started(started) = event {
                hear.lock().unwrap().push(started.command);
            }
        }));
        let engine = Arc::new(Engine::with_client(client, options).await.unwrap());
        Self { engine, commands }
    }

    /// The commands since this was asked last.
    pub(super) fn commands(&self) -> Vec<Document> {
        std::mem::take(&mut self.commands.lock().unwrap())
    }
}

#[tokio::test]
async fn the_server_gives_up_waiting_for_a_majority_before_the_operation_is_given_up() {
    let mongo = colloquy_test_services::start_mongo();
    let overheard = Overheard::open(&mongo).await;
    overheard.commands();
    let engine = &overheard.engine;
    engine.db.collection::<Document>("things").insert_one(doc! { "_id": 1 }).await.unwrap();
    let update = doc! { "q": { "_id": 1 }, "u": { "$set": { "n": 1 } } };
    engine.update_many("things", vec![update], super::super::engine::majority()).await.unwrap();
    let commands = overheard.commands();
    assert_eq!(commands.len(), 2, "{commands:?}");
    for command in commands {
        let concern = command.get_document("writeConcern").unwrap();
        assert_eq!(concern.get_str("w").unwrap(), "majority");
        assert!(concern.get_bool("j").unwrap());
        let within = concern.get("wtimeout").unwrap();
        let within = within.as_i64().or(within.as_i32().map(i64::from)).unwrap();
        assert!(within > 0 && u128::try_from(within).unwrap() < OPERATION_DEADLINE.as_millis());
    }
}

#[tokio::test]
async fn a_migration_asks_for_every_index_again_so_that_it_waits_for_those_that_are_being_built() {
    let mongo = colloquy_test_services::start_mongo();
    let options = super::options(&mongo);
    migrate(&options).await.unwrap();
    let overheard = Overheard::connect(&options).await;
    overheard.commands();
    super::super::migrate::migrate_on(&overheard.engine, &options).await.unwrap();
    let commands = overheard.commands();
    let place = |name: &str| {
        let is_it = |command: &Document| {
            let indexes = command.get_array("indexes").into_iter().flatten();
            let mut names = indexes.filter_map(|index| index.as_document()?.get_str("name").ok());
            names.any(|of_index| of_index == name) || command.get_str("update").ok() == Some(name)
        };
        commands.iter().position(is_it)
    };
    let marked = place("schema").expect("it is marked");
    for name in ["position_unique", "key_unique", "phone_unique", "email_unique", "retention"] {
        assert!(place(name).is_some_and(|asked| asked < marked), "{name}");
    }
}
