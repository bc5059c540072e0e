//! One pod of several: Redis, the bridge, and what this pod is called.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use colloquy_actors::cluster::PROTOCOL;
use colloquy_actors::cluster::bridge::{BridgeOptions, BridgeTls, Cookie, Tcp};
use colloquy_storage::model::live::{InvalidPodId, PodId};
use serde::{Deserialize, Serialize};

use super::store::Secret;
use super::{ConfigError, refuse_if};

/// Shortest secret of a cluster, bytes.
const COOKIE_MIN_BYTES: usize = 32;
/// Longest, bytes: a file that is larger is another file.
const COOKIE_MAX_BYTES: usize = 4096;
/// Where Linux keeps the machine's name.
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

/// One pod of several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// Redis, `redis://host:port/`; of Sentinel or Cluster several. Empty: this node is the only one. There may be
    /// passwords in them: better set in the environment, `COLLOQUY_CLUSTER__REDIS='["redis://..."]'`.
    pub redis: Vec<Secret>,
    /// What these are.
    pub redis_mode: RedisMode,
    /// What Sentinel calls the master.
    pub redis_master: String,
    /// The user at the servers that Sentinel names; empty: none.
    pub redis_username: String,
    /// Their password; empty: none.
    pub redis_password: Secret,
    /// Stands before every key and channel: several installations may share a Redis.
    pub redis_prefix: String,
    /// This pod's name among the others; empty: the machine's.
    pub pod_id: String,
    /// Where the other pods connect. Not for the public.
    pub bridge_listen: SocketAddr,
    /// How they reach it, `host:port`; empty: where it listens.
    pub bridge_advertise: String,
    /// The file with the secret that all pods share, 32 bytes or more.
    pub cookie_file: PathBuf,
    /// This pod's certificate for `colloquy-bridge`, in PEM; empty: pods speak in clear.
    pub tls_certificate: PathBuf,
    /// Its private key, in PEM.
    pub tls_key: PathBuf,
    /// The authority that all pods' certificates descend from, in PEM.
    pub tls_ca: PathBuf,
}

/// What kind of Redis it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RedisMode {
    /// One server.
    #[default]
    Standalone,
    /// Sentinels, which say who the master is.
    Sentinel,
    /// Some nodes of a Redis Cluster, which know the others.
    Cluster,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            redis: Vec::new(),
            redis_mode: RedisMode::default(),
            redis_master: "mymaster".into(),
            redis_username: String::new(),
            redis_password: Secret::default(),
            redis_prefix: String::new(),
            pod_id: String::new(),
            bridge_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            bridge_advertise: String::new(),
            cookie_file: PathBuf::new(),
            tls_certificate: PathBuf::new(),
            tls_key: PathBuf::new(),
            tls_ca: PathBuf::new(),
        }
    }
}

/// Why this node cannot be a pod.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// The name.
    #[error("cluster.pod_id {name:?}: {why}")]
    Name {
        /// As it was set, or as the machine is called.
        name: String,
        /// What it must be.
        why: InvalidPodId,
    },
    /// The machine's name cannot be read.
    #[error("cluster.pod_id must be set here: the machine does not say its name: {0}")]
    NoName(io::Error),
    /// The secret cannot be read.
    #[error("cluster.cookie_file {path} cannot be read: {source}")]
    Cookie {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The secret is none.
    #[error(
        "cluster.cookie_file {path} must hold {COOKIE_MIN_BYTES} to {COOKIE_MAX_BYTES} bytes of text: write one with `openssl rand -hex 32`"
    )]
    WeakCookie {
        /// The file.
        path: PathBuf,
    },
}

impl Cluster {
    /// Is this node one of several?
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.redis.is_empty()
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if !self.is_on() {
            return Ok(());
        }
        let is_url =
            |url: &Secret| url.expose().starts_with("redis://") || url.expose().starts_with("rediss://");
        let why = "must be urls such as \"redis://127.0.0.1:6379/\"";
        refuse_if(!self.redis.iter().all(is_url), "cluster.redis", why)?;
        let is_crowd = self.redis_mode == RedisMode::Standalone && self.redis.len() > 1;
        refuse_if(
            is_crowd,
            "cluster.redis_mode",
            "must be sentinel or cluster where cluster.redis has several",
        )?;
        let no_master = self.redis_mode == RedisMode::Sentinel && self.redis_master.is_empty();
        refuse_if(no_master, "cluster.redis_master", "must be set for sentinel")?;
        let why = "must name the file with the secret that all pods share";
        refuse_if(self.cookie_file.as_os_str().is_empty(), "cluster.cookie_file", why)?;
        let why =
            "must be set where cluster.bridge_listen is an unspecified address: how the other pods reach it";
        let is_nowhere = self.bridge_listen.ip().is_unspecified() && self.bridge_advertise.is_empty();
        refuse_if(is_nowhere, "cluster.bridge_advertise", why)?;
        let files = [&self.tls_certificate, &self.tls_key, &self.tls_ca];
        let set = files.iter().filter(|file| !file.as_os_str().is_empty()).count();
        let why = "must be set together with cluster.tls_key and cluster.tls_ca, or none of them";
        refuse_if(set != 0 && set != files.len(), "cluster.tls_certificate", why)
    }

    /// For [`colloquy_actors::cluster`]. Reads the secret.
    ///
    /// # Errors
    /// [`PodError`].
    pub fn bridge_options(&self, incarnation: u64) -> Result<BridgeOptions, PodError> {
        let tls = (!self.tls_certificate.as_os_str().is_empty()).then(|| BridgeTls {
            certificate: self.tls_certificate.clone(),
            key: self.tls_key.clone(),
            ca: self.tls_ca.clone(),
        });
        Ok(BridgeOptions {
            pod_id: self.pod_id()?,
            incarnation,
            listen: self.bridge_listen,
            cookie: cookie(&self.cookie_file)?,
            tls,
            protocol_version: PROTOCOL,
            wires: Arc::new(Tcp),
        })
    }

    /// How others reach the bridge, if it was said.
    #[must_use]
    pub fn advertise(&self) -> Option<String> {
        (!self.bridge_advertise.is_empty()).then(|| self.bridge_advertise.clone())
    }

    fn pod_id(&self) -> Result<PodId, PodError> {
        let name = match self.pod_id.as_str() {
            "" => std::fs::read_to_string(HOST_NAME_FILE).map_err(PodError::NoName)?.trim().to_owned(),
            name => name.to_owned(),
        };
        PodId::new(&name).map_err(|why| PodError::Name { name, why })
    }
}

fn cookie(path: &Path) -> Result<Cookie, PodError> {
    let read = std::fs::read_to_string(path);
    let text = read.map_err(|source| PodError::Cookie { path: path.to_owned(), source })?;
    let secret = text.trim();
    if !(COOKIE_MIN_BYTES..=COOKIE_MAX_BYTES).contains(&secret.len()) {
        return Err(PodError::WeakCookie { path: path.to_owned() });
    }
    Ok(Cookie::new(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(url: &str) -> Secret {
        url.to_owned().into()
    }

    fn on() -> Cluster {
        let (redis, cookie_file) = (vec![url("redis://127.0.0.1:6379/")], "cookie".into());
        Cluster { redis, cookie_file, ..Cluster::default() }
    }

    #[track_caller]
    fn assert_refused(field: &str, change: impl FnOnce(&mut Cluster)) {
        let mut cluster = on();
        change(&mut cluster);
        let error = cluster.check().expect_err(field).to_string();
        assert!(error.starts_with(&format!("{field}: must ")), "{error}");
    }

    #[test]
    fn what_a_pod_needs_is_asked_for_by_name() {
        assert!(on().check().is_ok());
        assert!(Cluster::default().check().is_ok(), "a node alone needs none of it");
        assert_refused("cluster.redis", |cluster| cluster.redis = vec![url("127.0.0.1:6379")]);
        assert_refused("cluster.redis_mode", |cluster| {
            cluster.redis.push(url("redis://127.0.0.1:6380/"));
        });
        assert_refused("cluster.cookie_file", |cluster| cluster.cookie_file = PathBuf::new());
        assert_refused("cluster.bridge_advertise", |cluster| {
            cluster.bridge_listen = SocketAddr::from(([0, 0, 0, 0], 7946));
        });
        assert_refused("cluster.tls_certificate", |cluster| cluster.tls_ca = "ca.pem".into());
    }

    #[test]
    fn a_secret_that_can_be_guessed_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let options = |secret: &str| {
            std::fs::write(file.path(), secret).unwrap();
            let (pod_id, cookie_file) = ("a".into(), file.path().to_owned());
            Cluster { pod_id, cookie_file, ..on() }.bridge_options(1)
        };
        assert!(matches!(options("too short"), Err(PodError::WeakCookie { .. })));
        let secret = "0123456789abcdef0123456789abcdef\n";
        let options = options(secret).unwrap();
        assert!(!format!("{options:?}").contains(secret.trim()));
    }
}
