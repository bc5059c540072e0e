//! What every key directory does.

use std::collections::BTreeSet;

use colloquy_protocol::limits::{DEVICES_PER_USER_MAX, FORMER_DEVICES_PER_USER_MAX, ONE_TIME_KEYS_MAX};

use super::{device, user};
use crate::model::device::{Device, Publication, PublishedKey, Registration};
use crate::ports::Store;

fn described(name: &str, identity: &str) -> Device {
    Device {
        device_id: device(name),
        platform: "terminal".into(),
        identity_key: identity.into(),
        signing_key: "signing".into(),
        identity_signature: "signature".into(),
        registered_at: 1,
    }
}

fn published(id: &str, key: &str) -> PublishedKey {
    PublishedKey { key_id: id.into(), key: key.into(), signature: "signature".into() }
}

fn numbered(range: std::ops::Range<usize>) -> Vec<PublishedKey> {
    range.map(|n| published(&format!("k{n}"), &format!("key {n}"))).collect()
}

async fn register(store: &Store, name: &str, keys: Vec<PublishedKey>) -> Registration {
    let fallback = published("f", "fallback");
    store.keys.register(user(1), described(name, "identity"), keys, fallback).await.unwrap()
}

pub async fn versions_grow_as_devices_come_and_go(store: &Store) {
    assert_eq!(store.keys.devices(user(1)).await.unwrap().version, 0);
    assert_eq!(register(store, "phone", Vec::new()).await, Registration::Registered { version: 1 });
    assert_eq!(register(store, "laptop", Vec::new()).await, Registration::Registered { version: 2 });
    let list = store.keys.devices(user(1)).await.unwrap();
    let names: Vec<&str> = list.devices.iter().map(|device| device.device_id.as_str()).collect();
    assert_eq!((list.version, names), (2, vec!["laptop", "phone"]));
    assert_eq!(store.keys.remove(user(1), &device("phone")).await.unwrap(), Some(3));
    assert_eq!(store.keys.remove(user(1), &device("phone")).await.unwrap(), None);
    assert!(store.keys.claim(user(1), &[device("phone")]).await.unwrap().is_empty());
    let again = described("phone", "new identity");
    let again = store.keys.register(user(1), again, Vec::new(), published("f", "fallback")).await.unwrap();
    assert_eq!(again, Registration::Registered { version: 4 });
}

pub async fn a_removed_device_is_named_as_a_former_one_until_its_id_is_used_again(store: &Store) {
    let replace = async |round: usize| {
        let phone = described("phone", &format!("identity {round}"));
        store.keys.register(user(1), phone, Vec::new(), published("f", "fallback")).await.unwrap();
        store.keys.remove(user(1), &device("phone")).await.unwrap();
    };
    replace(0).await;
    replace(1).await;
    register(store, "laptop", Vec::new()).await;
    let list = store.keys.devices(user(1)).await.unwrap();
    assert_eq!(list.former, vec![described("phone", "identity 1")], "an id names one device");
    let again = described("phone", "identity 2");
    store.keys.register(user(1), again, Vec::new(), published("f", "fallback")).await.unwrap();
    let list = store.keys.devices(user(1)).await.unwrap();
    assert_eq!((list.devices.len(), list.former.len()), (2, 0), "and that is the one that is there");
}

pub async fn the_newest_former_devices_are_named_and_no_more(store: &Store) {
    for n in 0..=FORMER_DEVICES_PER_USER_MAX {
        let passing = described(&format!("d{n}"), &format!("identity {n}"));
        store.keys.register(user(1), passing, Vec::new(), published("f", "fallback")).await.unwrap();
        store.keys.remove(user(1), &device(&format!("d{n}"))).await.unwrap();
    }
    let former = store.keys.devices(user(1)).await.unwrap().former;
    let names: Vec<&str> = former.iter().map(|device| device.device_id.as_str()).collect();
    let newest: Vec<String> = (1..=FORMER_DEVICES_PER_USER_MAX).map(|n| format!("d{n}")).collect();
    assert_eq!(names, newest);
}

pub async fn a_removed_identity_never_comes_back_and_with_it_no_key_that_was_claimed(store: &Store) {
    register(store, "phone", numbered(0..1)).await;
    assert!(!store.keys.claim(user(1), &[device("phone")]).await.unwrap()[0].fallback);
    store.keys.remove(user(1), &device("phone")).await.unwrap();
    assert_eq!(register(store, "phone", numbered(0..1)).await, Registration::Conflict);
}

pub async fn a_device_with_other_keys_is_a_conflict_and_with_the_same_a_retry(store: &Store) {
    register(store, "phone", numbered(0..2)).await;
    assert_eq!(register(store, "phone", numbered(0..2)).await, Registration::Unchanged);
    assert_eq!(store.keys.one_time_keys(user(1), &device("phone")).await.unwrap(), 2);
    let other = described("phone", "another identity");
    let conflict = store.keys.register(user(1), other, Vec::new(), published("f", "fallback")).await.unwrap();
    assert_eq!(conflict, Registration::Conflict);
}

pub async fn no_one_time_key_is_ever_given_out_twice(store: &Store) {
    register(store, "phone", numbered(0..30)).await;
    let mut claiming = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let keys = store.keys.clone();
        claiming.spawn(async move { keys.claim(user(1), &[device("phone")]).await.unwrap().remove(0) });
    }
    let claimed = claiming.join_all().await;
    let one_time: Vec<&str> = claimed
        .iter()
        .filter(|claimed| !claimed.fallback)
        .map(|claimed| claimed.key.key_id.as_str())
        .collect();
    assert_eq!(one_time.len(), 30);
    assert_eq!(one_time.iter().collect::<BTreeSet<_>>().len(), 30);
    assert!(claimed.iter().filter(|claimed| claimed.fallback).all(|claimed| claimed.key.key == "fallback"));
    assert_eq!(store.keys.one_time_keys(user(1), &device("phone")).await.unwrap(), 0);
}

pub async fn a_claimed_key_does_not_come_back_by_publishing_it_again(store: &Store) {
    register(store, "phone", numbered(0..1)).await;
    store.keys.claim(user(1), &[device("phone")]).await.unwrap();
    let again = store.keys.publish(user(1), &device("phone"), numbered(0..2), None).await.unwrap();
    assert_eq!(again, Publication::Published { one_time_keys: 1 });
    let reused = vec![published("k1", "another key")];
    let reused = store.keys.publish(user(1), &device("phone"), reused, None).await.unwrap();
    assert_eq!(reused, Publication::KeyIdReused);
    let nowhere = store.keys.publish(user(1), &device("tablet"), numbered(5..6), None).await.unwrap();
    assert_eq!(nowhere, Publication::UnknownDevice);
}

pub async fn bounds_on_devices_and_keys_hold(store: &Store) {
    register(store, "d0", numbered(0..ONE_TIME_KEYS_MAX)).await;
    let more = numbered(ONE_TIME_KEYS_MAX..ONE_TIME_KEYS_MAX + 1);
    let refused = store.keys.publish(user(1), &device("d0"), more, None).await.unwrap();
    assert_eq!(refused, Publication::TooManyKeys);
    for n in 1..DEVICES_PER_USER_MAX {
        assert!(matches!(
            register(store, &format!("d{n}"), Vec::new()).await,
            Registration::Registered { .. }
        ));
    }
    assert_eq!(register(store, "one-more", Vec::new()).await, Registration::TooManyDevices);
}

pub async fn publications_that_cross_leave_no_more_keys_than_allowed(store: &Store) {
    register(store, "phone", Vec::new()).await;
    let publish = async |from: usize| {
        let keys = numbered(from..from + ONE_TIME_KEYS_MAX);
        store.keys.publish(user(1), &device("phone"), keys, None).await.unwrap()
    };
    let published = tokio::join!(publish(0), publish(1_000), publish(2_000));
    let published = [published.0, published.1, published.2];
    assert!(published.iter().filter(|it| matches!(it, Publication::Published { .. })).count() <= 1);
    let left = store.keys.one_time_keys(user(1), &device("phone")).await.unwrap();
    assert!(left <= ONE_TIME_KEYS_MAX as u64, "{left}");
}
