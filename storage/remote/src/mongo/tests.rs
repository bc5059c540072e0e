//! The suite, and what only a server that can go away can show.

use std::sync::atomic::{AtomicU32, Ordering};

use colloquy_storage::embedded::{EmbeddedOptions, EmbeddedStore};
use colloquy_storage::ports::Store;
use colloquy_test_services::{MongoProcess, start_mongo};

use super::{MongoOptions, MongoStore, OpenError, migrate};

fn options(mongo: &MongoProcess) -> MongoOptions {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    MongoOptions::new(&mongo.uri, format!("colloquy_test_{}_{next}", std::process::id()))
}

/// The log, the conversations and the cursors on MongoDB, beside the other ports of an embedded store.
async fn open() -> (Store, (MongoProcess, tempfile::TempDir)) {
    let mongo = start_mongo();
    let options = options(&mongo);
    migrate(&options).await.unwrap();
    let opened = MongoStore::open(&options).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let rest = EmbeddedStore::open(directory.path(), &EmbeddedOptions::default()).unwrap().store();
    let store =
        Store { log: opened.log(), conversations: opened.conversations(), cursors: opened.cursors(), ..rest };
    (store, (mongo, directory))
}

colloquy_storage::conformance_suite!(crate::mongo::tests::open);

#[tokio::test]
async fn a_database_that_was_never_migrated_is_refused_with_what_to_do() {
    let mongo = start_mongo();
    let refused = MongoStore::open(&options(&mongo)).await.err().unwrap();
    assert!(matches!(refused, OpenError::NotMigrated { .. }));
    assert!(refused.to_string().contains("colloquy admin migrate"));
}

#[tokio::test]
async fn a_second_migration_finds_nothing_to_do_and_a_changed_age_is_applied() {
    let mongo = start_mongo();
    let mut options = options(&mongo);
    let (one, two) = tokio::join!(migrate(&options), migrate(&options));
    assert!(one.unwrap().made.len() + two.unwrap().made.len() >= 7);
    assert_eq!(migrate(&options).await.unwrap().to_string(), "nothing to do");
    options.keep_messages /= 2;
    assert_eq!(migrate(&options).await.unwrap().to_string(), "changed messages.retention");
    assert_eq!(migrate(&options).await.unwrap().to_string(), "nothing to do");
}
