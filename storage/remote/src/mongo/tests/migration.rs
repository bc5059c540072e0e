//! What a migration makes and a server insists on (ORDER, ONCE, FENCE).

use colloquy_test_services::start_mongo;
use mongodb::IndexModel;
use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;

use super::super::engine::Engine;
use super::super::{Flaw, MongoOptions, MongoStore, OpenError, migrate};
use super::options;

#[tokio::test]
async fn a_database_that_was_never_migrated_is_refused_with_what_to_do() {
    let mongo = start_mongo();
    let refused = MongoStore::open(&options(&mongo)).await.err().unwrap();
    assert!(matches!(refused, OpenError::NotMigrated { .. }));
    assert!(refused.to_string().contains("colloquy admin migrate"));
}

#[tokio::test]
async fn two_migrations_at_once_make_everything_and_another_finds_nothing_to_do() {
    let mongo = start_mongo();
    let options = options(&mongo);
    let (one, two) = tokio::join!(migrate(&options), migrate(&options));
    let made = [one.unwrap().made, two.unwrap().made].concat();
    for name in [
        "messages.position_unique",
        "messages.key_unique",
        "users.phone_unique",
        "users.email_unique",
        "sequence_numbers",
        "device_lists",
        "groups.of_participant",
        "agents.capability",
        "dead_letters.of_agent",
        "dead_letters.of_conversation",
        "untold.of_agent",
        "untold.of_conversation",
        "media.of_owner",
        "outbox",
        "idempotency_keys.retention",
    ] {
        assert!(made.iter().any(|made| made == name), "{name}: {made:?}");
    }
    assert_eq!(migrate(&options).await.unwrap().to_string(), "nothing to do");
    MongoStore::open(&options).await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn a_migration_applies_a_changed_age_to_what_deletes_by_age() {
    let mongo = start_mongo();
    let mut options = options(&mongo);
    migrate(&options).await.unwrap();
    options.keep_messages /= 2;
    assert_eq!(migrate(&options).await.unwrap().to_string(), "changed messages.retention");
    options.keep_idempotency_keys *= 3;
    let (one, two) = tokio::join!(migrate(&options), migrate(&options));
    let told = [one.unwrap().to_string(), two.unwrap().to_string()];
    assert!(told.contains(&"changed idempotency_keys.retention".to_owned()), "{told:?}");
    assert_eq!(migrate(&options).await.unwrap().to_string(), "nothing to do");
    let engine = Engine::connect(&options).await.unwrap();
    let mut indexes = engine.collection("messages").list_indexes().await.unwrap();
    let mut ages = Vec::new();
    while indexes.advance().await.unwrap() {
        let index = indexes.deserialize_current().unwrap().options.unwrap();
        ages.extend(index.expire_after);
    }
    assert_eq!(ages, [options.keep_messages]);
}

/// Puts an index of another kind in the place of `messages.position_unique`.
async fn replace_position_unique(options: &MongoOptions, keys: Document, is_unique: bool) {
    let messages = Engine::connect(options).await.unwrap().collection("messages");
    messages.drop_index("position_unique").await.unwrap();
    let kind = IndexOptions::builder().name("position_unique".to_owned()).unique(is_unique).build();
    messages.create_index(IndexModel::builder().keys(keys).options(kind).build()).await.unwrap();
}

#[tokio::test]
async fn a_server_does_not_start_without_an_index_that_refuses_what_it_must() {
    let mongo = start_mongo();
    for (collection, name) in [
        ("messages", "position_unique"),
        ("messages", "key_unique"),
        ("users", "phone_unique"),
        ("users", "email_unique"),
    ] {
        let options = options(&mongo);
        migrate(&options).await.unwrap();
        let engine = Engine::connect(&options).await.unwrap();
        engine.collection(collection).drop_index(name).await.unwrap();
        let refused = MongoStore::open(&options).await.err().unwrap();
        let told = refused.to_string();
        assert!(matches!(refused, OpenError::MissingIndex { .. }), "{told}");
        assert!(told.contains(name) && told.contains("colloquy admin migrate"), "{told}");
        assert_eq!(migrate(&options).await.unwrap().to_string(), format!("made {collection}.{name}"));
        MongoStore::open(&options).await.unwrap();
    }
}

#[tokio::test]
async fn an_index_of_the_right_name_that_is_not_unique_is_refused_with_what_to_drop() {
    let mongo = start_mongo();
    let options = options(&mongo);
    migrate(&options).await.unwrap();
    replace_position_unique(&options, doc! { "conversation_id": 1, "sequence_number": 1 }, false).await;
    for refused in [MongoStore::open(&options).await.err(), migrate(&options).await.err()] {
        let refused = refused.unwrap();
        let told = refused.to_string();
        assert!(matches!(refused, OpenError::WrongIndex { flaw: Flaw::NotUnique, .. }), "{told}");
        assert!(told.contains("db.messages.dropIndex(\"position_unique\")"), "{told}");
    }
}

#[tokio::test]
async fn an_index_of_the_right_name_with_other_keys_is_refused_with_what_to_drop() {
    let mongo = start_mongo();
    let options = options(&mongo);
    migrate(&options).await.unwrap();
    replace_position_unique(&options, doc! { "conversation_id": 1, "sequence_number": -1 }, true).await;
    for refused in [MongoStore::open(&options).await.err(), migrate(&options).await.err()] {
        assert!(matches!(refused, Some(OpenError::WrongIndex { flaw: Flaw::Keys, .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_there_is_not_called_a_wrong_address() {
    let options = |uri: &str| MongoOptions::new(uri, "colloquy_test");
    let tls = options("mongodb://127.0.0.1:1/?tls=true&tlsCAFile=/nowhere/ca.pem");
    let refused = MongoStore::open(&tls).await.err();
    assert!(matches!(refused, Some(OpenError::Unavailable(_))), "{refused:?}");
    for uri in ["redis://127.0.0.1/", "mongodb://", "mongodb://127.0.0.1/?w=sometimes&tls=perhaps"] {
        let refused = MongoStore::open(&options(uri)).await.err();
        assert!(matches!(refused, Some(OpenError::Address)), "{uri}: {refused:?}");
    }
}
