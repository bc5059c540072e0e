//! What every store of log-ins does.

use std::time::Duration;

use colloquy_protocol::ids::LoginId;
use uuid::Uuid;

use super::{device, user};
use crate::model::login::{Login, Presented, Rotation};
use crate::ports::Store;

const GRACE: Duration = Duration::from_secs(10);

fn unnamed(generation: u64) -> Presented {
    Presented { generation, request_id: None }
}

async fn log_in(store: &Store, n: u128) -> LoginId {
    let login_id = LoginId(Uuid::from_u128(n));
    let (device_id, created_at) = (None, u64::try_from(n).unwrap());
    let login = Login {
        login_id,
        user_id: user(1),
        device_id,
        generation: 0,
        rotated_at: 0,
        created_at,
        rotated_by: None,
    };
    store.logins.create(login).await.unwrap();
    login_id
}

pub async fn of_fifty_concurrent_refreshes_one_rotates_and_the_others_are_retries(store: &Store) {
    let id = log_in(store, 1).await;
    let mut rotating = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let logins = store.logins.clone();
        rotating.spawn(async move { logins.rotate(id, unnamed(0), 100, GRACE).await.unwrap() });
    }
    let rotations = rotating.join_all().await;
    assert_eq!(rotations.iter().filter(|rotation| matches!(rotation, Rotation::Rotated(_))).count(), 1);
    assert_eq!(rotations.iter().filter(|rotation| matches!(rotation, Rotation::Repeated(_))).count(), 49);
    assert_eq!(store.logins.get(id).await.unwrap().unwrap().generation, 1);
}

pub async fn a_generation_used_long_ago_revokes_its_log_in(store: &Store) {
    let id = log_in(store, 1).await;
    assert!(matches!(store.logins.rotate(id, unnamed(0), 100, GRACE).await.unwrap(), Rotation::Rotated(_)));
    let late = store.logins.rotate(id, unnamed(0), 100 + 10_001, GRACE).await.unwrap();
    assert!(matches!(late, Rotation::Reused(_)));
    assert_eq!(store.logins.get(id).await.unwrap(), None);
    assert_eq!(store.logins.rotate(id, unnamed(1), 200, GRACE).await.unwrap(), Rotation::Unknown);
    // Two generations back is a reuse however soon.
    let id = log_in(store, 2).await;
    for generation in 0..2 {
        store.logins.rotate(id, unnamed(generation), 100, GRACE).await.unwrap();
    }
    assert!(matches!(store.logins.rotate(id, unnamed(0), 101, GRACE).await.unwrap(), Rotation::Reused(_)));
}

pub async fn a_refresh_under_its_own_name_is_answered_again_however_late_and_after_a_clock_was_set_back(
    store: &Store,
) {
    let id = log_in(store, 1).await;
    let named = |generation, n| Presented { generation, request_id: Some(Uuid::from_u128(n)) };
    let rotate = |presented, now| store.logins.rotate(id, presented, now, GRACE);
    assert!(matches!(rotate(named(0, 7), 100_000).await.unwrap(), Rotation::Rotated(_)));
    assert!(matches!(rotate(named(0, 7), 9_000_000).await.unwrap(), Rotation::Repeated(_)));
    assert!(matches!(rotate(named(1, 8), 9_000_000).await.unwrap(), Rotation::Rotated(_)));
    // Somebody else, who does not know the name, on a clock that was set back.
    assert!(matches!(rotate(named(1, 7), 0).await.unwrap(), Rotation::Reused(_)));
}

pub async fn a_log_in_is_bound_to_one_device_and_goes_with_it(store: &Store) {
    let (first, second) = (log_in(store, 1).await, log_in(store, 2).await);
    assert!(store.logins.bind(first, &device("phone")).await.unwrap());
    assert!(store.logins.bind(first, &device("phone")).await.unwrap(), "again changes nothing");
    assert!(!store.logins.bind(first, &device("laptop")).await.unwrap());
    assert_eq!(store.logins.revoke_device(user(1), &device("phone")).await.unwrap(), [first]);
    assert_eq!(store.logins.get(first).await.unwrap(), None);
    assert!(store.logins.get(second).await.unwrap().is_some());
}

pub async fn only_its_owner_revokes_a_log_in(store: &Store) {
    let (first, second) = (log_in(store, 1).await, log_in(store, 2).await);
    let listed: Vec<LoginId> =
        store.logins.list(user(1)).await.unwrap().iter().map(|login| login.login_id).collect();
    assert_eq!(listed, [second, first], "newest first");
    assert!(!store.logins.revoke(user(2), first).await.unwrap());
    assert!(store.logins.revoke(user(1), first).await.unwrap());
    assert!(!store.logins.revoke(user(1), first).await.unwrap());
    assert_eq!(store.logins.list(user(1)).await.unwrap().len(), 1);
}
