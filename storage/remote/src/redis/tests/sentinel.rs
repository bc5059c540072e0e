//! Redis under Sentinel.

use colloquy_storage::conformance::live::{eventually, member, next};
use colloquy_storage::ports::live::{Channel, Signal};
use colloquy_test_services::{RedisUnderSentinel, start_redis_under_sentinel};
use redis::{Client, cmd};

use super::{At, LONG, heard, join, to_pods, until};
use crate::redis::{RedisMode, RedisOptions};

fn options(watched: &RedisUnderSentinel) -> RedisOptions {
    let master = RedisUnderSentinel::MASTER.to_owned();
    // One that is not there is passed over.
    let urls = vec!["redis://127.0.0.1:1".to_owned(), watched.sentinel.url.clone()];
    RedisOptions::new(RedisMode::Sentinel { urls, master, username: None, password: None })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_is_passed_by_a_primary_that_a_sentinel_names() {
    let watched = start_redis_under_sentinel();
    let options = options(&watched);
    let mut meetings = 0;
    let mut meeting = || {
        meetings += 1;
        let key_prefix = format!("{meetings}:");
        At { options: RedisOptions { key_prefix, ..options.clone() }, _alive: () }
    };
    colloquy_storage::live_conformance_suite!(in_turn meeting());
    colloquy_storage::cache_conformance_suite!(in_turn meeting().cache().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_primary_is_gone_the_one_that_the_sentinel_promotes_is_used() {
    let mut watched = start_redis_under_sentinel();
    let (live, mut signals, mut health) = join(&options(&watched)).await;
    live.subscribe(vec![Channel::Pods]).await.unwrap();
    live.announce(&member("a", 1), LONG).await.unwrap();
    watched.primary.kill();
    until(&mut health, false).await;
    assert!(live.members().await.is_err());
    until(&mut health, true).await;
    assert_eq!(next(&mut signals).await, Signal::Gap);
    eventually(async || live.announce(&member("b", 1), LONG).await.is_ok()).await;
    assert!(live.members().await.unwrap().contains(&member("b", 1)));
    assert_eq!(live.publish(to_pods("again")).await.unwrap(), [1]);
    assert_eq!(next(&mut signals).await, heard("again"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_steps_down_is_left_for_its_successor() {
    let watched = start_redis_under_sentinel();
    let (live, mut signals, _) = join(&options(&watched)).await;
    live.subscribe(vec![Channel::Pods]).await.unwrap();
    let mut operator =
        Client::open(&*watched.sentinel.url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let mut order = cmd("SENTINEL");
    order.arg("FAILOVER").arg(RedisUnderSentinel::MASTER);
    // It is obeyed once the replica is known well enough.
    eventually(async || order.exec_async(&mut operator).await.is_ok()).await;
    assert_eq!(next(&mut signals).await, Signal::Gap);
    eventually(async || live.announce(&member("a", 1), LONG).await.is_ok()).await;
    let mut replica =
        Client::open(&*watched.replica.url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let role: (String, u64, redis::Value) = cmd("ROLE").query_async(&mut replica).await.unwrap();
    assert_eq!(role.0, "master");
    let members: u64 = cmd("HLEN").arg("members").query_async(&mut replica).await.unwrap();
    assert_eq!(members, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_became_a_replica_without_a_word_is_left() {
    let watched = start_redis_under_sentinel();
    let (live, mut signals, mut health) = join(&RedisOptions::standalone(&watched.primary.url)).await;
    live.announce(&member("a", 1), LONG).await.unwrap();
    live.subscribe(vec![Channel::Pods]).await.unwrap();
    let mut operator =
        Client::open(&*watched.primary.url).unwrap().get_multiplexed_async_connection().await.unwrap();
    cmd("REPLICAOF").arg("127.0.0.1").arg(1).exec_async(&mut operator).await.unwrap();
    assert!(live.announce(&member("a", 1), LONG).await.is_err());
    // It would take signals still, and nobody who has found the new primary would hear them.
    eventually(async || live.publish(to_pods("to nobody")).await.is_err()).await;
    until(&mut health, false).await;
    while signals.try_next().is_some() {}
    cmd("REPLICAOF").arg("NO").arg("ONE").exec_async(&mut operator).await.unwrap();
    assert_eq!(next(&mut signals).await, Signal::Gap);
    until(&mut health, true).await;
    live.announce(&member("a", 1), LONG).await.unwrap();
    live.publish(to_pods("again")).await.unwrap();
    assert_eq!(next(&mut signals).await, heard("again"));
}
