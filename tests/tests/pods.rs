//! Three pods under steady traffic, and everything that can happen to them in turn: nothing that was acked is lost,
//! doubled, numbered twice, shown out of order or left undelivered (ORDER, ONCE, NOLOSS, FENCE, DRAIN).

#![allow(clippy::print_stdout, reason = "a test says what it has counted")]

use std::time::Duration;

use colloquy_tests::ambient::count_from_env;
use colloquy_tests::cluster::{Cluster, ClusterOptions, pod_name};
use colloquy_tests::fleet::{Fleet, FleetOptions};
use tokio::time::Instant;

/// `COLLOQUY_PODS_CLIENTS`: clients that talk steadily, in pairs.
const CLIENTS: u64 = 40;
/// `COLLOQUY_PODS_RATE`: messages a second, of all of them together.
const RATE: u64 = 100;
/// `COLLOQUY_PODS_KILL_S`: how long a killed pod is away.
const KILL_S: u64 = 3;
/// `COLLOQUY_PODS_FREEZE_S`: how long a pod is frozen; longer than a link may be silent.
const FREEZE_S: u64 = 8;
/// `COLLOQUY_PODS_REDIS_S`: how long Redis is away.
const REDIS_S: u64 = 5;
/// `COLLOQUY_PODS_MONGO_S`: how long MongoDB is.
const MONGO_S: u64 = 5;
/// `COLLOQUY_PODS_CUT_S`: how long two pods are cut off from each other.
const CUT_S: u64 = 10;
/// Pairs that say one thing just before a fault, and as many that say one while it lasts; nothing else is said there.
const QUIET_PAIRS: usize = 3;

/// What happens to the pods.
#[derive(Clone, Copy, Debug)]
enum Fault {
    PodKilled(usize),
    PodFrozen(usize),
    RedisKilled,
    MongoKilled,
    TwoPodsCutOff,
    EveryPodRestarted,
}

impl Fault {
    /// Brings it about, and puts everything right again.
    async fn happen(self, cluster: &mut Cluster, fleet: &mut Fleet, clients: u64) {
        let later = QUIET_PAIRS..2 * QUIET_PAIRS;
        match self {
            Self::PodKilled(pod) => {
                cluster.kill_9(pod);
                fleet.whisper(later);
                fleet.goes_on_for(seconds("COLLOQUY_PODS_KILL_S", KILL_S)).await;
                cluster.restart(pod).await;
            }
            Self::PodFrozen(pod) => {
                cluster.freeze(pod);
                fleet.whisper(later);
                fleet.goes_on_for(seconds("COLLOQUY_PODS_FREEZE_S", FREEZE_S)).await;
                cluster.thaw(pod);
            }
            Self::RedisKilled => {
                cluster.kill_redis();
                fleet.whisper(later);
                fleet.goes_on_for(seconds("COLLOQUY_PODS_REDIS_S", REDIS_S)).await;
                cluster.restart_redis().await;
            }
            Self::MongoKilled => {
                cluster.kill_mongo();
                fleet.whisper(later);
                fleet.goes_on_for(seconds("COLLOQUY_PODS_MONGO_S", MONGO_S)).await;
                cluster.restart_mongo().await;
            }
            Self::TwoPodsCutOff => {
                cluster.cut();
                fleet.whisper(later);
                fleet.goes_on_for(seconds("COLLOQUY_PODS_CUT_S", CUT_S)).await;
                cluster.heal();
            }
            Self::EveryPodRestarted => {
                fleet.whisper(later);
                for pod in 0..cluster.pods().len() {
                    assert_eq!(
                        cluster.terminate(pod).await,
                        Some(0),
                        "{} stops in good order",
                        pod_name(pod)
                    );
                    cluster.restart(pod).await;
                    fleet.acks(clients).await;
                }
            }
        }
    }
}

fn seconds(name: &str, default: u64) -> Duration {
    Duration::from_secs(count_from_env(name, default))
}

/// One fault under traffic, and what must hold once it is over.
async fn endure(fault: Fault, cluster: &mut Cluster, fleet: &mut Fleet, clients: u64) {
    let begun = Instant::now();
    cluster.links().await;
    fleet.assemble().await;
    fleet.flow();
    fleet.acks(clients).await;
    fleet.whisper(0..QUIET_PAIRS);
    fleet.first_whisper().await;
    fault.happen(cluster, fleet, clients).await;
    let over = Instant::now();
    fleet.acks(clients).await;
    fleet.settle().await;
    let (took, settled) = (begun.elapsed().as_secs_f64(), over.elapsed().as_secs_f64());
    let logged = fleet.check(&cluster.rest(0)).await;
    cluster.assert_no_invariant_is_broken().await;
    let duplicates = cluster.sum("colloquy_duplicates_total", &[]).await;
    println!("{fault:?}, {took:.1} s, the last {settled:.1} s of it after the fault: {}", fleet.account());
    println!(
        "    logged so far {logged}; retries answered with their first message, by each pod of now: {duplicates}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acked_is_lost_or_doubled_whatever_happens_to_pods_redis_and_mongodb() {
    let clients = count_from_env("COLLOQUY_PODS_CLIENTS", CLIENTS);
    let rate = count_from_env("COLLOQUY_PODS_RATE", RATE);
    let mut cluster = Cluster::start(ClusterOptions::default()).await;
    let options = FleetOptions {
        steady_pairs: usize::try_from(clients / 2).unwrap(),
        quiet_pairs: 2 * QUIET_PAIRS,
        interval: Duration::from_secs(1).mul_f64(clients as f64 / rate as f64),
    };
    let mut fleet = Fleet::start(&cluster.rest(0), &cluster.addresses(), options).await;
    println!("{clients} clients and {QUIET_PAIRS} + {QUIET_PAIRS} quiet pairs, {rate} messages/s in all");
    let faults = [
        Fault::PodKilled(1),
        Fault::PodFrozen(2),
        Fault::RedisKilled,
        Fault::MongoKilled,
        Fault::TwoPodsCutOff,
        Fault::EveryPodRestarted,
    ];
    // Empty: all of them.
    let only = std::env::var("COLLOQUY_PODS_ONLY").unwrap_or_default();
    for fault in faults.into_iter().filter(|fault| format!("{fault:?}").starts_with(&only)) {
        if matches!(fault, Fault::MongoKilled) && !cluster.owns_mongo() {
            println!("MONGODB_URI names a MongoDB that is not ours: it is not killed");
            continue;
        }
        endure(fault, &mut cluster, &mut fleet, clients).await;
    }
}
