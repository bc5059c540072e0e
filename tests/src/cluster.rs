//! Three pods over one MongoDB and one Redis, and everything that can be done to them.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use colloquy_runtime::store::OpenStore;
use colloquy_test_services::{MongoProcess, RedisProcess, start_mongo, start_redis};
use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::task::spawn_blocking;
use tokio::time::{interval, timeout};

use crate::DEADLINE;
use crate::ambient::fresh_uuid;
use crate::metrics::{Sample, sum};
use crate::options::ServerOptions;
use crate::proxy::Proxy;
use crate::rest::Rest;
use crate::secrets::Secrets;
use crate::server::{Server, migrate};

/// The pods whose link goes through a proxy: of two, the one with the lesser name dials.
const CUT_BETWEEN: (usize, usize) = (0, 1);

/// How often pods are asked whether they have found each other.
const LINKS_TICK: Duration = Duration::from_millis(100);

/// Counts invariants that were seen broken.
const VIOLATIONS: &str = "colloquy_invariant_violations_total";

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Pods: `p1`, `p2` and so on.
    pub pods: usize,
    /// What each of them is configured with, beside what makes it one of several.
    pub server: ServerOptions,
}

impl Default for ClusterOptions {
    /// Three; access tokens outlive every test.
    fn default() -> Self {
        let server = ServerOptions::default()
            .set("accounts.access_token_lifetime_s", 3600)
            .set("drain.window_ms", 10_000);
        Self { pods: 3, server }
    }
}

/// Pods that run, and what they run on. Dropping it ends them all.
pub struct Cluster {
    // Dropped first: what they run on outlives them.
    pods: Vec<Server>,
    proxy: Proxy,
    mongo: Option<MongoProcess>,
    redis: Option<RedisProcess>,
    secrets: Secrets,
    /// What all pods are configured with.
    shared: ServerOptions,
    _folder: TempDir,
}

impl Cluster {
    /// Starts MongoDB, Redis and the pods, and waits until every pod has found every other.
    pub async fn start(options: ClusterOptions) -> Self {
        let started = spawn_blocking(|| (start_mongo(), start_redis())).await;
        let (mongo, redis) = started.expect("MongoDB and Redis start");
        let folder = tempfile::tempdir().expect("a temporary directory can be made");
        let shared = shared_options(&options.server, &mongo, &redis, folder.path());
        let migrated = migrate(&shared, folder.path());
        assert!(migrated.status.success(), "the database is migrated: {migrated:?}");
        let bridges = free_addresses(options.pods);
        // A pod alone has no link to cut.
        let proxy = Proxy::to(bridges[CUT_BETWEEN.1.min(bridges.len() - 1)]).await;
        let secrets = Secrets::default();
        let starting = bridges.iter().enumerate().map(|(index, bridge)| {
            let mut options = shared
                .clone()
                .set("cluster.pod_id", pod_name(index))
                .set("cluster.bridge_listen", bridge.to_string());
            if index == CUT_BETWEEN.1 {
                options = options.set("cluster.bridge_advertise", proxy.address().to_string());
            }
            Server::start_sharing(options, secrets.clone())
        });
        let pods = join_all(starting).await;
        let (mongo, redis) = (Some(mongo), Some(redis));
        let cluster = Self { pods, proxy, mongo, redis, secrets, shared, _folder: folder };
        cluster.links().await;
        cluster
    }

    /// One pod; the first is number 0.
    #[must_use]
    pub fn pod(&self, index: usize) -> &Server {
        &self.pods[index]
    }

    /// Every pod.
    #[must_use]
    pub fn pods(&self) -> &[Server] {
        &self.pods
    }

    /// Where clients connect, pod by pod. Stays the same over restarts.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.pods.iter().map(Server::address).collect()
    }

    /// What all pods keep, as one more of them would see and change it.
    pub async fn store(&self) -> OpenStore {
        let config = self.shared.to_toml(SocketAddr::from(([127, 0, 0, 1], 0)));
        let config = toml::from_str(&config).expect("pods are configured with it");
        OpenStore::mongo(&config).await.expect("the database is there")
    }

    /// The REST interface of one pod.
    #[must_use]
    pub fn rest(&self, index: usize) -> Rest {
        Rest::new(self.pods[index].address(), self.secrets.clone())
    }

    /// Ends a pod at once (SIGKILL).
    pub fn kill_9(&mut self, index: usize) {
        self.pods[index].kill_9();
    }

    /// Starts a pod that was killed or terminated again, and waits until it is ready.
    pub async fn restart(&mut self, index: usize) {
        self.pods[index].restart().await;
    }

    /// The exit code of a pod that was [asked to stop](Server::ask_to_stop), once it has.
    pub async fn exit_code(&mut self, index: usize) -> Option<i32> {
        self.pods[index].exit_code().await
    }

    /// SIGTERM, and the exit code.
    pub async fn terminate(&mut self, index: usize) -> Option<i32> {
        self.pods[index].terminate().await
    }

    /// Stops a pod where it stands (SIGSTOP).
    pub fn freeze(&self, index: usize) {
        self.pods[index].freeze();
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&self, index: usize) {
        self.pods[index].thaw();
    }

    /// Cuts the link between the first pod and the second, and nothing else.
    pub fn cut(&self) {
        self.proxy.cut();
    }

    /// Heals it.
    pub fn heal(&self) {
        self.proxy.heal();
    }

    /// Ends Redis at once (SIGKILL).
    pub fn kill_redis(&mut self) {
        self.redis.as_mut().expect("it is here").kill();
    }

    /// Starts Redis again, empty.
    pub async fn restart_redis(&mut self) {
        let mut redis = self.redis.take().expect("it is here");
        let restarted = spawn_blocking(move || {
            redis.restart();
            redis
        });
        self.redis = Some(restarted.await.expect("Redis starts again"));
    }

    /// Is MongoDB our own? The one that `$MONGODB_URI` names is not killed.
    #[must_use]
    pub fn owns_mongo(&self) -> bool {
        self.mongo.as_ref().is_some_and(MongoProcess::is_own)
    }

    /// Ends MongoDB at once (SIGKILL).
    pub fn kill_mongo(&mut self) {
        self.mongo.as_mut().expect("it is here").kill();
    }

    /// Starts MongoDB again on the same data.
    pub async fn restart_mongo(&mut self) {
        let mut mongo = self.mongo.take().expect("it is here");
        let restarted = spawn_blocking(move || {
            mongo.restart();
            mongo
        });
        self.mongo = Some(restarted.await.expect("MongoDB starts again"));
    }

    /// Waits until every pod sees all of them and has a link to every other.
    pub async fn links(&self) {
        let others = (self.pods.len() - 1) as f64;
        self.each_sees(|seen| {
            is(sum(seen, "colloquy_pods", &[]), others + 1.0)
                && is(sum(seen, "colloquy_bridge_links", &[]), others)
        })
        .await;
    }

    /// Waits until the two pods that were [cut off](Self::cut) from each other have noticed.
    pub async fn cut_is_noticed(&self) {
        let others = (self.pods.len() - 1) as f64;
        for index in [CUT_BETWEEN.0, CUT_BETWEEN.1] {
            self.sees(index, |seen| is(sum(seen, "colloquy_bridge_links", &[]), others - 1.0)).await;
        }
    }

    async fn each_sees(&self, what: impl Fn(&[Sample]) -> bool) {
        for index in 0..self.pods.len() {
            self.sees(index, &what).await;
        }
    }

    async fn sees(&self, index: usize, what: impl Fn(&[Sample]) -> bool) {
        let seen = timeout(DEADLINE, async {
            let mut tick = interval(LINKS_TICK);
            while !what(&self.pods[index].scrape().await) {
                tick.tick().await;
            }
        });
        assert!(seen.await.is_ok(), "{} does not see what it should of the others", pod_name(index));
    }

    /// The sum of a metric over every pod, since its process began.
    pub async fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        sum(&self.scrape().await, name, labels)
    }

    /// What every pod says of itself, one after the other.
    pub async fn scrape(&self) -> Vec<Sample> {
        join_all(self.pods.iter().map(Server::scrape)).await.concat()
    }

    /// Fails if a pod has seen an invariant broken, in any of its lives.
    pub async fn assert_no_invariant_is_broken(&self) {
        for (index, pod) in self.pods.iter().enumerate() {
            let seen = pod.scrape().await;
            assert!(seen.iter().any(|sample| sample.name == VIOLATIONS), "the metric is there");
            let broken = sum(&seen, VIOLATIONS, &[]);
            assert!(broken < 0.5, "{} has seen {broken} invariants broken", pod_name(index));
            assert!(!pod.log().contains("invariant violated"), "{} has, in a life before", pod_name(index));
        }
    }
}

/// What pod number `index` is called.
#[must_use]
pub fn pod_name(index: usize) -> String {
    format!("p{}", index + 1)
}

/// Counts come as floating point numbers.
fn is(value: f64, count: f64) -> bool {
    (value - count).abs() < 0.5
}

/// What all pods have in common; their secrets are files in `folder`.
fn shared_options(
    server: &ServerOptions,
    mongo: &MongoProcess,
    redis: &RedisProcess,
    folder: &Path,
) -> ServerOptions {
    let (cookie, key) = (folder.join("cookie"), folder.join("token-signing.pem"));
    write_secret(&cookie, &fresh_uuid().simple().to_string());
    write_secret(&key, &signing_key());
    let path = |path: &Path| path.to_str().expect("a temporary path is text").to_owned();
    server
        .clone()
        .set("store.backend", "mongodb")
        .set("store.mongodb_uri", mongo.uri.as_str())
        .set("store.mongodb_database", format!("colloquy_test_{}", fresh_uuid().simple()))
        .set("accounts.signing_key_file", path(&key))
        .set("cluster.redis", vec![redis.url.clone()])
        .set("cluster.cookie_file", path(&cookie))
}

/// A new Ed25519 key in PKCS#8, as PEM.
fn signing_key() -> String {
    let pair = Ed25519KeyPair::generate().expect("the system can draw an ed25519 key");
    let pkcs8 = pair.to_pkcs8v1().expect("a new key can be written");
    let body = STANDARD.encode(pkcs8.as_ref());
    format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
}

fn write_secret(path: &Path, text: &str) {
    let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).expect("a file can be made");
}

/// Addresses that were free a moment ago. Held together while they are drawn, so that they differ.
fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let bind = |_| TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let listeners: Vec<TcpListener> = (0..count).map(bind).collect();
    listeners.iter().map(|it| it.local_addr().expect("a listener has an address")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn addresses_drawn_together_differ() {
        assert_eq!(free_addresses(8).into_iter().collect::<BTreeSet<_>>().len(), 8);
    }

    #[test]
    fn secrets_are_for_their_owner_only_and_a_cookie_is_long_enough() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cookie");
        write_secret(&file, &fresh_uuid().simple().to_string());
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(std::fs::read_to_string(&file).unwrap().len() >= 32);
        assert!(signing_key().lines().count() >= 3);
    }
}
