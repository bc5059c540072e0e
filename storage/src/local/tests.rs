//! The suite, and what only a hub in the test's own process can show.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::LocalBus;
use crate::conformance::live::{Joined, Meeting, connection, member, pod, user};
use crate::ports::StoreError;
use crate::ports::live::{Channel, Signal};

#[async_trait]
impl Meeting for LocalBus {
    async fn join(&self) -> Joined {
        LocalBus::join(self)
    }
}

async fn open() -> LocalBus {
    LocalBus::new()
}

crate::live_conformance_suite!(crate::local::tests::open);

#[tokio::test(start_paused = true)]
async fn times_pass_as_tokio_counts_them() {
    let (live, _signals) = LocalBus::new().join();
    let ttl = Duration::from_secs(60);
    live.announce(&member("a", 1), ttl).await.unwrap();
    live.enter(&[connection(1, "phone", "a", 1)], ttl).await.unwrap();
    tokio::time::advance(ttl - Duration::from_millis(1)).await;
    assert_eq!(live.members().await.unwrap().len(), 1);
    assert_eq!(live.pods_of(&[user(1)]).await.unwrap(), [[pod("a")]]);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(live.members().await.unwrap().is_empty());
    assert_eq!(live.pods_of(&[user(1)]).await.unwrap(), [vec![]]);
}

#[tokio::test]
async fn a_hub_that_was_away_has_forgotten_all_but_who_listens() {
    let bus = LocalBus::new();
    let (live, mut signals) = bus.join();
    live.announce(&member("a", 1), Duration::from_secs(60)).await.unwrap();
    live.subscribe(vec![Channel::Pods]).await.unwrap();
    bus.cut();
    assert!(matches!(live.members().await, Err(StoreError::Unavailable(_))));
    assert!(matches!(live.publish(vec![]).await, Err(StoreError::Unavailable(_))));
    bus.mend();
    assert_eq!(signals.next().await, Some(Signal::Gap));
    assert!(live.members().await.unwrap().is_empty());
    assert_eq!(live.publish(vec![(Channel::Pods, "again".into())]).await.unwrap(), [1]);
    assert_eq!(signals.next().await, Some(Signal::Published(Channel::Pods, "again".into())));
}

#[tokio::test]
async fn a_listener_that_is_too_slow_hears_of_a_gap() {
    let bus = LocalBus::new();
    let (live, mut signals) = bus.join_with_room_for(3);
    live.subscribe(vec![Channel::Pods]).await.unwrap();
    live.publish(vec![(Channel::Pods, "again".into()); 5]).await.unwrap();
    let heard: Vec<Signal> = std::iter::from_fn(|| signals.try_next()).collect();
    assert_eq!(heard.len(), 4);
    assert_eq!(heard.last(), Some(&Signal::Gap));
}

#[tokio::test]
async fn who_has_left_the_hub_is_not_counted() {
    let bus = LocalBus::new();
    let (live, _signals) = bus.join();
    let (leaving, mut last) = bus.join();
    leaving.subscribe(vec![Channel::Pods]).await.unwrap();
    drop(Arc::clone(&leaving));
    assert_eq!(live.publish(vec![(Channel::Pods, "here".into())]).await.unwrap(), [1]);
    drop(leaving);
    assert_eq!(live.publish(vec![(Channel::Pods, "gone".into())]).await.unwrap(), [0]);
    assert!(matches!(last.next().await, Some(Signal::Published(..))));
    assert_eq!(last.next().await, None);
}
