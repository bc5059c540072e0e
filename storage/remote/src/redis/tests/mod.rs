//! The suite, and what only a server that can go away can show.

mod cache;
mod cluster;
mod outage;
mod sentinel;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use colloquy_storage::conformance::live::{Joined, Meeting, connection, member, next, pod, user};
use colloquy_storage::ports::live::{Channel, Signal, SignalReceiver};
use colloquy_storage::ports::{Cache, LiveDirectory};
use colloquy_test_services::{RedisProcess, start_redis};
use tokio::time::timeout;

use super::{Health, OpenError, RedisLive, RedisMode, RedisOptions};

/// For longer than any test takes.
const LONG: Duration = Duration::from_secs(60);
/// How long something may take to become so.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where pods meet, and what has to run for it.
struct At<T> {
    options: RedisOptions,
    _alive: T,
}

#[async_trait]
impl<T: Send + Sync> Meeting for At<T> {
    async fn join(&self) -> Joined {
        let (live, signals, _) = join(&self.options).await;
        (live, signals)
    }
}

impl<T> At<T> {
    async fn cache(&self) -> Arc<dyn Cache> {
        RedisLive::open(&self.options).await.unwrap().cache
    }
}

async fn open() -> At<RedisProcess> {
    let redis = start_redis();
    At { options: RedisOptions::standalone(&redis.url), _alive: redis }
}

colloquy_storage::live_conformance_suite!(crate::redis::tests::open);

/// Opens a Redis that answers.
async fn join(options: &RedisOptions) -> (Arc<dyn LiveDirectory>, SignalReceiver, Health) {
    let RedisLive { live, signals, health, .. } = RedisLive::open(options).await.unwrap();
    assert!(*health.borrow(), "it answers");
    (live, signals, health)
}

/// Waits until Redis answers, or does not.
async fn until(health: &mut Health, wanted: bool) {
    timeout(PATIENCE, health.wait_for(|is_up| *is_up == wanted)).await.unwrap().unwrap();
}

/// A signal to every pod.
fn to_pods(body: &'static str) -> Vec<(Channel, bytes::Bytes)> {
    vec![(Channel::Pods, body.into())]
}

fn heard(body: &'static str) -> Signal {
    Signal::Published(Channel::Pods, body.into())
}

#[tokio::test]
async fn two_installations_on_one_redis_do_not_meet() {
    let redis = start_redis();
    let options =
        |prefix: &str| RedisOptions { key_prefix: prefix.to_owned(), ..RedisOptions::standalone(&redis.url) };
    let (one, mut heard_by_one, _) = join(&options("one:")).await;
    let (two, mut heard_by_two, _) = join(&options("two:")).await;
    for live in [&one, &two] {
        live.subscribe(vec![Channel::Pods]).await.unwrap();
    }
    one.announce(&member("a", 1), LONG).await.unwrap();
    one.enter(&[connection(1, "phone", "a", 1)], LONG).await.unwrap();
    assert!(two.members().await.unwrap().is_empty());
    assert_eq!(two.pods_of(&[user(1)]).await.unwrap(), [vec![]]);
    assert_eq!(one.pods_of(&[user(1)]).await.unwrap(), [[pod("a")]]);
    one.publish(to_pods("one")).await.unwrap();
    two.publish(to_pods("two")).await.unwrap();
    assert_eq!(next(&mut heard_by_one).await, heard("one"));
    assert_eq!(next(&mut heard_by_two).await, heard("two"));
}

#[tokio::test]
async fn more_signals_than_there_is_room_for_leave_a_gap() {
    let redis = start_redis();
    let options = RedisOptions { signals_max_waiting: 8, ..RedisOptions::standalone(&redis.url) };
    let (live, mut signals, _) = join(&options).await;
    live.subscribe(vec![Channel::Pods]).await.unwrap();
    // Whoever publishes has heard it before the answer comes.
    assert_eq!(live.publish(vec![(Channel::Pods, "many".into()); 100]).await.unwrap(), [1; 100]);
    for _ in 0..8 {
        assert_eq!(next(&mut signals).await, heard("many"));
    }
    assert_eq!(next(&mut signals).await, Signal::Gap);
    live.publish(to_pods("after")).await.unwrap();
    assert_eq!(next(&mut signals).await, heard("after"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_who_subscribe_at_once_keep_nobody_waiting() {
    let redis = start_redis();
    let (live, mut signals, _) = join(&RedisOptions::standalone(&redis.url)).await;
    let channels: Vec<Channel> = (0..4000).map(|n| Channel::User(user(n))).collect();
    let subscribing = channels.iter().map(|channel| live.subscribe(vec![channel.clone()]));
    futures_util::future::try_join_all(subscribing).await.unwrap();
    live.publish(channels.iter().map(|channel| (channel.clone(), "".into())).collect()).await.unwrap();
    for channel in &channels {
        assert_eq!(next(&mut signals).await, Signal::Published(channel.clone(), "".into()));
    }
    let unsubscribing = channels.iter().map(|channel| live.unsubscribe(vec![channel.clone()]));
    futures_util::future::try_join_all(unsubscribing).await.unwrap();
    let counts = live.publish(channels.into_iter().map(|channel| (channel, "".into())).collect()).await;
    assert_eq!(counts.unwrap(), [0; 4000]);
}

#[tokio::test]
async fn what_is_left_of_a_handle_that_was_dropped_is_nothing() {
    let redis = start_redis();
    let options = RedisOptions::standalone(&redis.url);
    let (live, mut signals, mut health) = join(&options).await;
    drop(live);
    assert_eq!(timeout(PATIENCE, signals.next()).await.unwrap(), None);
    until(&mut health, false).await;
}

#[tokio::test]
async fn addresses_that_cannot_be_are_refused_and_no_address_is_shown() {
    let standalone = RedisOptions::standalone("http://:secret@example.org");
    assert_eq!(RedisLive::open(&standalone).await.err(), Some(OpenError::Address));
    let cluster = RedisOptions::new(RedisMode::Cluster { urls: Vec::new() });
    assert_eq!(RedisLive::open(&cluster).await.err(), Some(OpenError::NoAddress));
    let sentinel = RedisOptions::new(RedisMode::Sentinel {
        urls: vec!["redis://:secret@example.org".to_owned()],
        master: "primary".to_owned(),
        username: Some("user".to_owned()),
        password: Some("secret".to_owned()),
    });
    for options in [standalone, cluster, sentinel] {
        let shown = format!("{options:?}");
        assert!(!shown.contains("secret") && !shown.contains("example.org"), "{shown}");
    }
}
