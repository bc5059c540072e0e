//! Where Redis is.

use colloquy_storage::ports::signals::SIGNALS_MAX_WAITING;

/// How Redis runs. Addresses are `redis://` or, with TLS, `rediss://`, with user and password if there are any. The
/// user has to be allowed `ROLE`, in a Cluster `CLUSTER INFO` and what the library asks: a server that does not say what it
/// is, is not used.
#[derive(Clone)]
pub enum RedisMode {
    /// One server.
    Standalone {
        /// Its address.
        url: String,
    },
    /// The primary that Sentinels agree on.
    Sentinel {
        /// The Sentinels' addresses, with their own user and password.
        urls: Vec<String>,
        /// The name they know the primary by.
        master: String,
        /// The user at the servers themselves.
        username: Option<String>,
        /// The password at the servers themselves.
        password: Option<String>,
    },
    /// A Redis Cluster.
    Cluster {
        /// Nodes to begin with, with the same user and password; the others are learnt. At least one of these has to
        /// be reachable whenever a connection is made.
        urls: Vec<String>,
    },
}

/// How Redis is to be used.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// How it runs, and where.
    pub mode: RedisMode,
    /// In front of every key and channel, so that two installations may share a Redis.
    pub key_prefix: String,
    /// Signals that may wait for whoever listens; what comes beyond it is dropped, and a gap says so (BOUND).
    pub signals_max_waiting: usize,
}

impl RedisOptions {
    /// What is usual.
    #[must_use]
    pub fn new(mode: RedisMode) -> Self {
        Self { mode, key_prefix: String::new(), signals_max_waiting: SIGNALS_MAX_WAITING }
    }

    /// One server.
    #[must_use]
    pub fn standalone(url: impl Into<String>) -> Self {
        Self::new(RedisMode::Standalone { url: url.into() })
    }
}

/// Shows no address and no password (PRIVATE).
impl std::fmt::Debug for RedisMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Standalone { .. } => f.write_str("Standalone"),
            Self::Sentinel { urls, master, .. } => write!(f, "Sentinel({} of {master:?})", urls.len()),
            Self::Cluster { urls } => write!(f, "Cluster({})", urls.len()),
        }
    }
}
