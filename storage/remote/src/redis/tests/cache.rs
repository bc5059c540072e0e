//! The cache on a Redis: what is seen of it from outside, between pods, and when it goes away.

use std::sync::Arc;

use colloquy_storage::conformance::cache::{agent, intent, session};
use colloquy_storage::conformance::live::eventually;
use colloquy_storage::ports::Cache;
use colloquy_test_services::{RedisProcess, start_redis};
use redis::{Client, cmd};
use tokio::time::timeout;

use super::outage::fails_fast;
use super::{PATIENCE, until};
use crate::redis::{RedisLive, RedisOptions};

/// Milliseconds that a test may have taken since a value was put.
const TAKEN_MAX_MS: u64 = 30_000;

async fn open() -> (Arc<dyn Cache>, RedisProcess) {
    let redis = start_redis();
    let opened = RedisLive::open(&RedisOptions::standalone(&redis.url)).await.unwrap();
    (opened.cache, redis)
}

colloquy_storage::cache_conformance_suite!(crate::redis::tests::cache::open);

#[tokio::test]
async fn values_stand_under_the_names_and_for_the_times_that_were_agreed_on() {
    let redis = start_redis();
    let options = RedisOptions { key_prefix: "one:".to_owned(), ..RedisOptions::standalone(&redis.url) };
    let cache = RedisLive::open(&options).await.unwrap().cache;
    let mut operator = Client::open(&*redis.url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let user_id = "00000000-0000-0000-0000-000000001001";
    let hash = format!("{}01ff", "0".repeat(60));
    for (key, name, ttl_ms) in [
        (agent(1), format!("one:agent:{user_id}"), 300_000),
        (intent(0x01ff), format!("one:intent:{hash}"), 3_600_000),
        (session(1), format!("one:session:{user_id}"), 3_600_000),
    ] {
        cache.put(&key, "value".into()).await.unwrap();
        let value: String = cmd("GET").arg(&name).query_async(&mut operator).await.unwrap();
        assert_eq!(value, "value", "{name}");
        let left: u64 = cmd("PTTL").arg(&name).query_async(&mut operator).await.unwrap();
        assert!((ttl_ms - TAKEN_MAX_MS..=ttl_ms).contains(&left), "{name}: {left} ms");
    }
    let keys: u64 = cmd("DBSIZE").query_async(&mut operator).await.unwrap();
    assert_eq!(keys, 3);
}

#[tokio::test]
async fn what_one_pod_puts_the_others_of_its_installation_find() {
    let redis = start_redis();
    let options =
        |prefix: &str| RedisOptions { key_prefix: prefix.to_owned(), ..RedisOptions::standalone(&redis.url) };
    let one = RedisLive::open(&options("one:")).await.unwrap().cache;
    let other = RedisLive::open(&options("one:")).await.unwrap().cache;
    let elsewhere = RedisLive::open(&options("two:")).await.unwrap().cache;
    one.put(&agent(1), "one's".into()).await.unwrap();
    elsewhere.put(&agent(1), "elsewhere's".into()).await.unwrap();
    assert_eq!(other.get(&agent(1)).await.unwrap(), Some("one's".into()));
    other.forget(&agent(1)).await.unwrap();
    assert_eq!(one.get(&agent(1)).await.unwrap(), None);
    assert_eq!(elsewhere.get(&agent(1)).await.unwrap(), Some("elsewhere's".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_is_away_keeps_nobody_waiting_and_comes_back_empty() {
    let mut redis = start_redis();
    let RedisLive { live: _live, mut health, cache, .. } =
        RedisLive::open(&RedisOptions::standalone(&redis.url)).await.unwrap();
    cache.put(&agent(1), "value".into()).await.unwrap();
    redis.freeze();
    fails_fast(cache.get(&agent(1))).await;
    redis.kill();
    until(&mut health, false).await;
    fails_fast(cache.get(&agent(1))).await;
    fails_fast(cache.put(&agent(1), "lost".into())).await;
    fails_fast(cache.forget(&agent(1))).await;
    redis.restart();
    until(&mut health, true).await;
    eventually(async || cache.get(&agent(1)).await.is_ok_and(|value| value.is_none())).await;
    cache.put(&agent(1), "again".into()).await.unwrap();
    assert_eq!(cache.get(&agent(1)).await.unwrap(), Some("again".into()));
}

#[tokio::test]
async fn a_cache_works_for_as_long_as_it_is_held_and_holds_no_subscription() {
    let redis = start_redis();
    let RedisLive { live, mut signals, mut health, cache } =
        RedisLive::open(&RedisOptions::standalone(&redis.url)).await.unwrap();
    drop(live);
    assert_eq!(timeout(PATIENCE, signals.next()).await.unwrap(), None);
    until(&mut health, false).await;
    cache.put(&agent(1), "value".into()).await.unwrap();
    assert_eq!(cache.get(&agent(1)).await.unwrap(), Some("value".into()));
    drop(cache);
    let mut operator = Client::open(&*redis.url).unwrap().get_multiplexed_async_connection().await.unwrap();
    eventually(async || {
        let clients: String = cmd("CLIENT").arg("LIST").query_async(&mut operator).await.unwrap();
        clients.lines().count() == 1
    })
    .await;
}
