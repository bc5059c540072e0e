//! Redis goes away and comes back.

use std::time::Duration;

use colloquy_storage::conformance::live::{connection, eventually, member, next, pod, user};
use colloquy_storage::model::live::PodId;
use colloquy_storage::ports::live::{Channel, LiveDirectory, Signal};
use colloquy_storage::ports::{StoreError, StoreResult};
use colloquy_test_services::start_redis;
use redis::{Client, cmd};
use tokio::time::{Instant, interval};

use super::{LONG, heard, join, to_pods, until};
use crate::redis::{RedisLive, RedisOptions};

/// How long Redis is away. The library's own reconnecting gives up within this time.
const OUTAGE: Duration = Duration::from_millis(2500);
/// How often it is called meanwhile.
const ATTEMPTS: Duration = Duration::from_millis(50);
/// In which a command has failed; the deadline of a command is 1 s.
const FAST: Duration = Duration::from_secs(2);
/// In which a Redis that is back is in use again.
const AT_ONCE: Duration = Duration::from_secs(5);
/// Channels that are to be heard again.
const CHANNELS: usize = 5000;

pub(super) async fn fails_fast<T: std::fmt::Debug>(asked: impl Future<Output = StoreResult<T>>) {
    let start = Instant::now();
    let answer = asked.await;
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    assert!(start.elapsed() < FAST, "it took {:?}", start.elapsed());
}

async fn everything_fails_fast(live: &dyn LiveDirectory) {
    fails_fast(live.announce(&member("a", 1), LONG)).await;
    fails_fast(live.withdraw(&pod("a"), 1)).await;
    fails_fast(live.members()).await;
    fails_fast(live.enter(&[connection(1, "phone", "a", 1)], LONG)).await;
    fails_fast(live.leave(&[connection(1, "phone", "a", 1)])).await;
    fails_fast(live.pods_of(&[user(1)])).await;
    fails_fast(live.presence_of(&[user(1)])).await;
    fails_fast(live.publish(to_pods("lost"))).await;
    fails_fast(live.subscribe(vec![Channel::Pod(pod("meanwhile"))])).await;
    fails_fast(live.unsubscribe(vec![Channel::Pod(pod("nobody"))])).await;
}

async fn pods_of_the_first_user(live: &dyn LiveDirectory) -> Vec<PodId> {
    live.pods_of(&[user(1)]).await.unwrap().remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_all_that_was_heard_is_heard_again_and_a_gap_comes_before_it() {
    let mut redis = start_redis();
    let options = RedisOptions { signals_max_waiting: 2 * CHANNELS, ..RedisOptions::standalone(&redis.url) };
    let (live, mut signals, mut health) = join(&options).await;
    let users: Vec<Channel> = (0..CHANNELS).map(|n| Channel::User(user(n as u128))).collect();
    live.subscribe(users.clone()).await.unwrap();
    live.subscribe(vec![Channel::Pods]).await.unwrap();
    live.announce(&member("a", 1), LONG).await.unwrap();
    live.enter(&[connection(1, "phone", "a", 1)], LONG).await.unwrap();

    redis.kill();
    until(&mut health, false).await;
    let start = Instant::now();
    let mut attempts = interval(ATTEMPTS);
    while start.elapsed() < OUTAGE {
        everything_fails_fast(&*live).await;
        attempts.tick().await;
    }
    assert_eq!(signals.try_next(), None);

    redis.restart();
    let start = Instant::now();
    assert_eq!(next(&mut signals).await, Signal::Gap);
    until(&mut health, true).await;
    assert!(start.elapsed() < AT_ONCE, "it took {:?}", start.elapsed());

    // What was said is gone with it, and can be said again.
    assert!(live.members().await.unwrap().is_empty());
    assert!(pods_of_the_first_user(&*live).await.is_empty());
    live.announce(&member("a", 1), LONG).await.unwrap();
    live.enter(&[connection(1, "phone", "a", 1)], LONG).await.unwrap();
    assert_eq!(live.members().await.unwrap(), [member("a", 1)]);
    assert_eq!(pods_of_the_first_user(&*live).await, [pod("a")]);

    // What was asked for meanwhile counts too.
    let all = [users, vec![Channel::Pods, Channel::Pod(pod("meanwhile"))]].concat();
    let counts = live.publish(all.iter().map(|channel| (channel.clone(), "again".into())).collect()).await;
    assert_eq!(counts.unwrap(), vec![1; all.len()]);
    for channel in all {
        assert_eq!(next(&mut signals).await, Signal::Published(channel, "again".into()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stands_still_keeps_nobody_waiting() {
    let redis = start_redis();
    let (live, mut signals, mut health) = join(&RedisOptions::standalone(&redis.url)).await;
    live.subscribe(vec![Channel::Pods]).await.unwrap();
    live.announce(&member("a", 1), LONG).await.unwrap();
    redis.freeze();
    everything_fails_fast(&*live).await;
    until(&mut health, false).await;
    // By now it is known, and nobody asks.
    let start = Instant::now();
    everything_fails_fast(&*live).await;
    assert!(start.elapsed() < FAST, "it took {:?}", start.elapsed());
    redis.thaw();
    until(&mut health, true).await;
    assert_eq!(live.members().await.unwrap(), [member("a", 1)]);
    live.publish(to_pods("again")).await.unwrap();
    let mut all = Vec::new();
    while all.last() != Some(&heard("again")) {
        all.push(next(&mut signals).await);
    }
    // Those that were asked for while it stood still may have been read by it later.
    all.retain(|signal| *signal != heard("lost"));
    assert!(all.contains(&Signal::Gap), "{all:?}");
    assert_eq!(all.iter().filter(|signal| **signal == heard("again")).count(), 1);
}

#[tokio::test]
async fn a_subscriber_that_redis_drops_hears_of_a_gap_and_is_back() {
    let redis = start_redis();
    let (live, mut signals, _) = join(&RedisOptions::standalone(&redis.url)).await;
    live.subscribe(vec![Channel::Pods]).await.unwrap();
    let mut operator = Client::open(&*redis.url).unwrap().get_multiplexed_async_connection().await.unwrap();
    // As it does with one who does not read.
    let killed: u64 =
        cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").query_async(&mut operator).await.unwrap();
    assert_eq!(killed, 1);
    assert_eq!(next(&mut signals).await, Signal::Gap);
    live.publish(to_pods("again")).await.unwrap();
    assert_eq!(next(&mut signals).await, heard("again"));
}

#[tokio::test]
async fn scripts_that_redis_has_forgotten_are_told_to_it_again() {
    let redis = start_redis();
    let (live, _signals, _) = join(&RedisOptions::standalone(&redis.url)).await;
    let mut operator = Client::open(&*redis.url).unwrap().get_multiplexed_async_connection().await.unwrap();
    for generation in 1..3 {
        live.enter(&[connection(1, "phone", "a", generation)], LONG).await.unwrap();
        cmd("SCRIPT").arg("FLUSH").exec_async(&mut operator).await.unwrap();
    }
    live.leave(&[connection(1, "phone", "a", 2)]).await.unwrap();
    assert!(pods_of_the_first_user(&*live).await.is_empty());
}

#[tokio::test]
async fn a_pod_that_starts_before_redis_works_once_it_is_there() {
    let mut redis = start_redis();
    redis.kill();
    let opened = RedisLive::open(&RedisOptions::standalone(&redis.url)).await.unwrap();
    let RedisLive { live, mut signals, mut health, .. } = opened;
    assert!(!*health.borrow());
    everything_fails_fast(&*live).await;
    redis.restart();
    until(&mut health, true).await;
    eventually(async || live.announce(&member("a", 1), LONG).await.is_ok()).await;
    assert_eq!(live.members().await.unwrap(), [member("a", 1)]);
    // It had asked for a channel in vain.
    assert_eq!(next(&mut signals).await, Signal::Gap);
    assert_eq!(live.publish(vec![(Channel::Pod(pod("meanwhile")), "".into())]).await.unwrap(), [1]);
}
