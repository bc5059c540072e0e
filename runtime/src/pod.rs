//! From configuration to what makes a node one pod of several.

use std::sync::Arc;

use colloquy_actors::cluster::PodArguments;
use colloquy_storage::ambient::Entropy;
use colloquy_storage::ports::cache::Cache;
use colloquy_storage_remote::redis::{OpenError, RedisLive, RedisMode, RedisOptions};
use rand::RngExt;

use crate::config::{Cluster, PodError, RedisMode as Mode};

/// Why a node cannot be made a pod.
#[derive(Debug, thiserror::Error)]
pub enum OpenPodError {
    /// Its name or its secret.
    #[error(transparent)]
    Pod(#[from] PodError),
    /// Where Redis is.
    #[error("cluster.redis: {0}")]
    Redis(#[from] OpenError),
}

/// What Redis is to a pod.
pub struct OpenPod {
    /// Finds the others.
    pub arguments: PodArguments,
    /// What all of them keep for a while.
    pub cache: Arc<dyn Cache>,
}

/// Connects to Redis; one that is away is waited for a moment, and found later. `None` for a node alone.
///
/// # Errors
/// [`OpenPodError`].
pub async fn open(cluster: &Cluster, entropy: &Entropy) -> Result<Option<OpenPod>, OpenPodError> {
    if !cluster.is_on() {
        return Ok(None);
    }
    let bridge = cluster.bridge_options(entropy.fork().random())?;
    let RedisLive { live, signals, health, cache } = RedisLive::open(&redis_options(cluster)).await?;
    if !*health.borrow() {
        tracing::warn!(
            "Redis does not answer: going on without, messages between pods are slow until it does"
        );
    }
    let arguments = PodArguments { bridge, advertise: cluster.advertise(), live, signals, health };
    Ok(Some(OpenPod { arguments, cache }))
}

fn redis_options(cluster: &Cluster) -> RedisOptions {
    let urls: Vec<String> = cluster.redis.iter().map(|url| url.expose().to_owned()).collect();
    let unless_empty = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let mode = match cluster.redis_mode {
        Mode::Standalone => RedisMode::Standalone { url: urls.into_iter().next().unwrap_or_default() },
        Mode::Sentinel => RedisMode::Sentinel {
            urls,
            master: cluster.redis_master.clone(),
            username: unless_empty(&cluster.redis_username),
            password: unless_empty(cluster.redis_password.expose()),
        },
        Mode::Cluster => RedisMode::Cluster { urls },
    };
    RedisOptions { key_prefix: cluster.redis_prefix.clone(), ..RedisOptions::new(mode) }
}
