//! Redis Cluster.

use colloquy_storage::conformance::live::{connection, eventually, next, pod, user};
use colloquy_storage::model::live::Connection;
use colloquy_storage::ports::live::{Channel, Signal};
use colloquy_test_services::{RedisProcess, start_redis_cluster};

use super::{At, LONG, heard, join, to_pods, until};
use crate::redis::{RedisMode, RedisOptions};

fn options(nodes: &[RedisProcess]) -> RedisOptions {
    RedisOptions::new(RedisMode::Cluster { urls: nodes.iter().map(|node| node.url.clone()).collect() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_is_passed_by_a_cluster() {
    let nodes = start_redis_cluster();
    let options = options(&nodes);
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
async fn a_node_that_comes_back_is_used_again_and_signals_go_over_another_one_meanwhile() {
    let mut nodes = start_redis_cluster();
    let (live, mut signals, mut health) = join(&options(&nodes)).await;
    live.subscribe(vec![Channel::Pods]).await.unwrap();
    // On all nodes.
    let all: Vec<Connection> = (0..100).map(|n| connection(n, "phone", "a", 1)).collect();
    let users: Vec<_> = (0..100).map(user).collect();
    live.enter(&all, LONG).await.unwrap();
    // The one that signals go over.
    nodes[0].kill();
    until(&mut health, false).await;
    assert!(live.pods_of(&users).await.is_err());
    assert_eq!(next(&mut signals).await, Signal::Gap);
    live.publish(to_pods("meanwhile")).await.unwrap();
    assert_eq!(next(&mut signals).await, heard("meanwhile"));
    nodes[0].restart();
    until(&mut health, true).await;
    eventually(async || live.enter(&all, LONG).await.is_ok()).await;
    assert!(live.pods_of(&users).await.unwrap().iter().all(|pods| *pods == [pod("a")]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_hear_each_other_over_different_nodes() {
    let nodes = start_redis_cluster();
    let mut urls: Vec<String> = nodes.iter().map(|node| node.url.clone()).collect();
    let (one, mut heard_by_one, _) =
        join(&RedisOptions::new(RedisMode::Cluster { urls: urls.clone() })).await;
    urls.reverse();
    let (two, mut heard_by_two, _) = join(&RedisOptions::new(RedisMode::Cluster { urls })).await;
    one.subscribe(vec![Channel::Pods]).await.unwrap();
    two.subscribe(vec![Channel::Pods]).await.unwrap();
    for (live, body) in [(&one, "from one"), (&two, "from two")] {
        live.publish(to_pods(body)).await.unwrap();
        assert_eq!(next(&mut heard_by_one).await, heard(body));
        assert_eq!(next(&mut heard_by_two).await, heard(body));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_from_most_others_carries_no_signals() {
    let mut nodes = start_redis_cluster();
    let (live, mut signals, mut health) = join(&options(&nodes)).await;
    live.subscribe(vec![Channel::Pods]).await.unwrap();
    // The one that signals go over is left.
    nodes[1].kill();
    nodes[2].kill();
    until(&mut health, false).await;
    eventually(async || live.publish(to_pods("to nobody")).await.is_err()).await;
    while signals.try_next().is_some() {}
    nodes[1].restart();
    nodes[2].restart();
    assert_eq!(next(&mut signals).await, Signal::Gap);
    live.publish(to_pods("again")).await.unwrap();
    assert_eq!(next(&mut signals).await, heard("again"));
}
