//! Redis under Sentinel.

use colloquy_storage::conformance::live::{eventually, member, next};
use colloquy_storage::ports::live::{Channel, Signal};
use colloquy_test_services::{RedisUnderSentinel, start_redis_under_sentinel};

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
