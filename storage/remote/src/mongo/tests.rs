//! The suite, and what only a server that can go away can show.

mod commands;
mod migration;
mod outage;
mod refusal;
mod retention;

use std::sync::atomic::{AtomicU32, Ordering};

use colloquy_storage::model::device::PublishedKey;
use colloquy_storage::ports::Store;
use colloquy_test_services::{MongoProcess, start_mongo};
use mongodb::bson::{DateTime, Document, doc};

use super::engine::Engine;
use super::error::unavailable;
use super::one_time_keys::{CLAIMED_KEYS_REMEMBERED, OneTimeKeys};
use super::{MongoOptions, MongoStore, migrate};

fn options(mongo: &MongoProcess) -> MongoOptions {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    MongoOptions::new(&mongo.uri, format!("colloquy_test_{}_{next}", std::process::id()))
}

async fn open() -> (Store, (MongoStore, MongoProcess)) {
    let mongo = start_mongo();
    let options = options(&mongo);
    migrate(&options).await.unwrap();
    let opened = MongoStore::open(&options).await.unwrap();
    (opened.store(), (opened, mongo))
}

colloquy_storage::conformance_suite!(crate::mongo::tests::open);

#[tokio::test]
async fn an_address_that_is_given_up_is_free_for_new_accounts() {
    let (store, (_, mongo)) = open().await;
    // The stand-in keeps what a document was inserted with from others until the document is deleted.
    if !mongo.is_stand_in() {
        colloquy_storage::conformance::accounts::an_address_that_is_given_up_is_free_for_new_accounts(&store)
            .await;
    }
}

#[tokio::test]
async fn what_an_index_refuses_is_not_repeated_in_the_error() {
    let mongo = start_mongo();
    let options = options(&mongo);
    migrate(&options).await.unwrap();
    let engine = Engine::connect(&options).await.unwrap();
    let users = engine.db.collection::<Document>("users");
    users.insert_one(doc! { "_id": 1, "phone": "+15550199" }).await.unwrap();
    let error = users.insert_one(doc! { "_id": 2, "phone": "+15550199" }).await.unwrap_err();
    assert!(format!("{error:?}").contains("+15550199"));
    let told = unavailable(&error);
    assert!(!format!("{told} {told:?}").contains("+15550199"), "{told:?}");
}

#[tokio::test]
async fn of_claimed_keys_the_newest_are_remembered_and_no_more() {
    let (_, (opened, _mongo)) = open().await;
    let keys = OneTimeKeys { engine: &opened.0, owner: b"a device".to_vec() };
    let key = |n: u64| {
        let (key_id, key) = (format!("k{n:05}"), format!("key {n}"));
        PublishedKey { key_id, key, signature: "signature".to_owned() }
    };
    let all: Vec<PublishedKey> = (0..CLAIMED_KEYS_REMEMBERED + 3).map(key).collect();
    keys.add(&all).await.unwrap();
    let claimed = doc! { "$set": { "claimed": true, "claimed_at": DateTime::from_millis(2_000) } };
    let rows = opened.0.collection("one_time_keys");
    rows.update_many(doc! {}, claimed).await.unwrap();
    let first = doc! { "$set": { "claimed_at": DateTime::from_millis(1_000) } };
    rows.update_many(doc! { "key_id": { "$in": ["k00007", "k00017", "k00027"] } }, first).await.unwrap();
    keys.forget_claimed_first().await.unwrap();
    let known = keys.known(all.iter()).await.unwrap();
    assert_eq!(known.len() as u64, CLAIMED_KEYS_REMEMBERED);
    assert!(["k00007", "k00017", "k00027"].iter().all(|forgotten| !known.contains_key(*forgotten)));
}
