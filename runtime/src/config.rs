//! What an operator can set. Every value has a default; unknown names are refused.
//!
//! Later sources win: defaults, the file, `COLLOQUY_*` environment variables (a double underscore separates
//! sections: `COLLOQUY_LIMITS__SOCKETS_MAX`), command line flags.

mod check;
mod cluster;
mod feed;
pub mod store;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use colloquy_accounts::access_token::TokenOptions;
use colloquy_accounts::password::PasswordOptions;
use colloquy_accounts::sink::{SinkHosts, parse_sink};
use colloquy_actors::node::NodeOptions;
use colloquy_gateway_http::RestOptions;
use colloquy_gateway_http::rate_limit::{Allowance, RateLimitOptions};
use colloquy_gateway_http::server::ServerOptions;
use colloquy_gateway_http::websocket::WebSocketOptions;
use colloquy_protocol::limits;
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};

use crate::sinks::SinkOptions;
pub use cluster::{Cluster, PodError, RedisMode};
pub use feed::Feed;
use store::{Store, without_passwords};

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where clients connect. TLS is ended in front of it.
    pub listen: SocketAddr,
    /// Where clients are sent when this node goes away; empty: back to where they are.
    pub public_endpoint: String,
    /// Where the embedded store is kept, and the token signing key unless `accounts.signing_key_file` names another
    /// place for it.
    pub data_dir: PathBuf,
    /// One pod of several.
    pub cluster: Cluster,
    /// Where truth is kept.
    pub store: Store,
    /// Health and metrics.
    pub operations: Operations,
    /// Passwords and tokens.
    pub accounts: Accounts,
    /// Agents.
    pub agents: Agents,
    /// Whoever is told of every message.
    pub feed: Feed,
    /// Bounds.
    pub limits: Limits,
    /// Shape of the actor tree.
    pub actors: Actors,
    /// Graceful stop.
    pub drain: Drain,
    /// Logs.
    pub log: Log,
}

/// Health and metrics, and `/admin`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Operations {
    /// `/livez`, `/readyz`, `/startupz`, `/metrics`, `/admin`. Not for the public.
    pub listen: SocketAddr,
}

/// Passwords and tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Accounts {
    /// Memory of one argon2id hash, KiB.
    pub password_memory_kib: u32,
    /// Passes over that memory.
    pub password_iterations: u32,
    /// How long an access token is good for, seconds.
    pub access_token_lifetime_s: u64,
    /// A log-in that is not used for this long is over, seconds.
    pub refresh_token_lifetime_s: u64,
    /// The `iss` of tokens.
    pub token_issuer: String,
    /// The key that tokens are signed with, as PEM, the same for every node: it must exist. Empty: one that the node
    /// makes in `data_dir`.
    pub signing_key_file: PathBuf,
}

/// Agents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Agents {
    /// Hosts that agents' messages may be posted to: names, addresses, or `*.` and a domain for all names beneath it.
    pub sink_hosts: Vec<String>,
    /// Takes all agents' events instead of their sinks: a Knative broker, or another that speaks CloudEvents over HTTP. The
    /// variable `K_SINK` sets it too. It is told of all messages as well where `feed.enabled` is set and `feed.url` is not.
    pub broker_url: String,
    /// Told of every message that its agent does not take and that is given up, `agent.message.dead`; the broker is, if nothing
    /// is set.
    pub dead_letter_url: String,
    /// An OpenAI-compatible API that says what a text wants which a client sends in the clear for that; the built-in
    /// classifier does if nothing is set.
    pub classifier_url: String,
    /// Its model.
    pub classifier_model: String,
    /// Holds the key it is asked with; without one, it is asked without.
    pub classifier_key_file: PathBuf,
}

/// Bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections that speak HTTP at the same time.
    pub connections_max: usize,
    /// Open WebSockets.
    pub sockets_max: usize,
    /// A socket from which nothing has come for this long is closed, ms.
    pub idle_timeout_ms: u64,
    /// A socket that has not authenticated by now is closed, ms.
    pub auth_timeout_ms: u64,
    /// A connection that has not sent a request's head by now is closed, ms.
    pub header_timeout_ms: u64,
    /// How often clients are told to send `heartbeat`, ms.
    pub heartbeat_interval_ms: u64,
    /// Registrations and log-ins from one address, and half as many for one phone number or email address, a
    /// minute; look-ups of users and claims of keys by one user, four times as many. 0 is no limit.
    pub logins_per_minute: u32,
    /// Believe the last entry of `X-Forwarded-For`: only behind exactly one proxy that appends to it.
    pub trust_forwarded_for: bool,
}

/// Shape of the actor tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Actors {
    /// Store writers.
    pub store_writers: usize,
    /// Presence trackers.
    pub presence_trackers: usize,
}

/// Graceful stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drain {
    /// How long clients have to go elsewhere, ms.
    pub window_ms: u64,
}

/// Logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A `tracing` filter: `info`, `colloquy_actors=debug,info`.
    pub filter: String,
    /// One JSON object a line, or text for people.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            public_endpoint: String::new(),
            data_dir: PathBuf::from(".colloquy"),
            cluster: Cluster::default(),
            store: Store::default(),
            operations: Operations::default(),
            accounts: Accounts::default(),
            agents: Agents::default(),
            feed: Feed::default(),
            limits: Limits::default(),
            actors: Actors::default(),
            drain: Drain::default(),
            log: Log::default(),
        }
    }
}

impl Default for Operations {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9464)) }
    }
}

impl Default for Accounts {
    fn default() -> Self {
        let (passwords, tokens) = (PasswordOptions::default(), TokenOptions::default());
        Self {
            password_memory_kib: passwords.memory_kib,
            password_iterations: passwords.iterations,
            access_token_lifetime_s: tokens.access_lifetime_secs,
            refresh_token_lifetime_s: tokens.refresh_lifetime_secs,
            token_issuer: tokens.issuer,
            signing_key_file: PathBuf::new(),
        }
    }
}

impl Default for Agents {
    fn default() -> Self {
        Self {
            sink_hosts: ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).to_vec(),
            broker_url: String::new(),
            dead_letter_url: String::new(),
            classifier_url: String::new(),
            classifier_model: String::new(),
            classifier_key_file: PathBuf::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let server = ServerOptions::default();
        Self {
            connections_max: server.connections_max,
            sockets_max: 18_000,
            idle_timeout_ms: millis(limits::IDLE_TIMEOUT),
            auth_timeout_ms: millis(limits::AUTH_TIMEOUT),
            header_timeout_ms: server.header_read_timeout_ms,
            heartbeat_interval_ms: millis(limits::HEARTBEAT_INTERVAL),
            logins_per_minute: 20,
            trust_forwarded_for: false,
        }
    }
}

impl Default for Actors {
    fn default() -> Self {
        let node = NodeOptions::default();
        Self { store_writers: node.store_writers, presence_trackers: node.presence_trackers }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self { window_ms: 30_000 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info,fjall=warn,lsm_tree=warn".into(), format: LogFormat::Text }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Unreadable, unknown names, wrong types.
    #[error("{}", without_passwords(&.0.to_string()))]
    Unreadable(Box<figment::Error>),
    /// The file that was named is not there.
    #[error("there is no configuration file at {0}")]
    Missing(PathBuf),
    /// A value makes no sense.
    #[error("{field}: {why}")]
    Invalid {
        /// The value's name.
        field: &'static str,
        /// What it must be.
        why: &'static str,
    },
}

impl Config {
    /// Reads the file, if one is named, and the environment over the defaults, and checks what was read.
    ///
    /// # Errors
    /// [`ConfigError`] says which value of which source.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let config = Self::read(file)?;
        config.check()?;
        Ok(config)
    }

    /// As [`Self::load`], unchecked: for whoever sets more before [`Self::check`].
    ///
    /// # Errors
    /// [`ConfigError::Missing`], [`ConfigError::Unreadable`].
    pub fn read(file: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(file) = file else { return Self::merged(Figment::new()) };
        if !file.is_file() {
            return Err(ConfigError::Missing(file.to_owned()));
        }
        Self::merged(Figment::from(Toml::file_exact(file)))
    }

    /// As [`Self::read`], from the text of a file.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`].
    pub fn read_text(text: &str) -> Result<Self, ConfigError> {
        Self::merged(Figment::from(Toml::string(text)))
    }

    fn merged(file: Figment) -> Result<Self, ConfigError> {
        // These are command line flags in the environment, most of them the client's.
        let environment =
            Env::prefixed("COLLOQUY_").split("__").ignore(&["config", "passphrase", "server", "profile"]);
        // What Knative's SinkBinding puts into a pod.
        let broker = Env::raw().only(&["k_sink"]).map(|_| "agents.broker_url".into());
        let defaults = Figment::from(Serialized::defaults(Self::default()));
        let merged = defaults.merge(file).merge(broker).merge(environment);
        merged.extract().map_err(|error| ConfigError::Unreadable(Box::new(error)))
    }

    /// The defaults as a file to start from.
    ///
    /// # Panics
    /// Never: plain values are TOML.
    #[must_use]
    pub fn default_file() -> String {
        toml::to_string_pretty(&Self::default()).expect("a struct of plain values is toml")
    }

    /// For [`colloquy_accounts::password`].
    #[must_use]
    pub fn password_options(&self) -> PasswordOptions {
        PasswordOptions {
            memory_kib: self.accounts.password_memory_kib,
            iterations: self.accounts.password_iterations,
            ..PasswordOptions::default()
        }
    }

    /// For [`colloquy_accounts::access_token`].
    #[must_use]
    pub fn token_options(&self) -> TokenOptions {
        TokenOptions {
            issuer: self.accounts.token_issuer.clone(),
            access_lifetime_secs: self.accounts.access_token_lifetime_s,
            refresh_lifetime_secs: self.accounts.refresh_token_lifetime_s,
        }
    }

    /// For [`colloquy_accounts::agents`]. What names no hosts was refused by [`Self::check`], and allows none.
    #[must_use]
    pub fn sink_hosts(&self) -> SinkHosts {
        SinkHosts::parse(&self.agents.sink_hosts).unwrap_or_default()
    }

    /// For [`crate::sinks`]. What is no address was refused by [`Self::check`], and is none.
    #[must_use]
    pub fn sinks(&self) -> SinkOptions {
        SinkOptions {
            hosts: self.sink_hosts(),
            broker: parse_sink(&self.agents.broker_url).ok(),
            dead_letters: parse_sink(&self.agents.dead_letter_url).ok(),
            feed: self.feed_sink(),
        }
    }

    /// For [`colloquy_gateway_http::server`].
    #[must_use]
    pub fn server_options(&self) -> ServerOptions {
        ServerOptions {
            connections_max: self.limits.connections_max,
            header_read_timeout_ms: self.limits.header_timeout_ms,
            ..ServerOptions::default()
        }
    }

    /// For [`colloquy_gateway_http::websocket`].
    #[must_use]
    pub fn websocket_options(&self) -> WebSocketOptions {
        WebSocketOptions {
            sockets_max: self.limits.sockets_max,
            idle_timeout: Duration::from_millis(self.limits.idle_timeout_ms),
            auth_timeout: Duration::from_millis(self.limits.auth_timeout_ms),
        }
    }

    /// For [`colloquy_gateway_http::routes`].
    #[must_use]
    pub fn rest_options(&self) -> RestOptions {
        let allow = |times: u32| {
            let per_minute = NonZeroU32::new(times).unwrap_or(NonZeroU32::MAX);
            Allowance { burst: per_minute, per_minute }
        };
        let logins = self.limits.logins_per_minute;
        RestOptions {
            trust_forwarded_for: self.limits.trust_forwarded_for,
            rate_limits: RateLimitOptions {
                per_address: allow(logins),
                per_identifier: allow(logins.div_ceil(2)),
                look_ups_per_user: allow(logins.saturating_mul(4)),
            },
            ..RestOptions::default()
        }
    }

    /// For [`colloquy_actors::node`].
    #[must_use]
    pub fn node_options(&self) -> NodeOptions {
        NodeOptions {
            store_writers: self.actors.store_writers,
            presence_trackers: self.actors.presence_trackers,
            heartbeat_interval: Duration::from_millis(self.limits.heartbeat_interval_ms),
            ..NodeOptions::default()
        }
    }
}

fn refuse_if(is_wrong: bool, field: &'static str, why: &'static str) -> Result<(), ConfigError> {
    if is_wrong { Err(ConfigError::Invalid { field, why }) } else { Ok(()) }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The defaults, but for a change.
#[cfg(test)]
fn with(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn the_default_file_reads_back_as_the_defaults() {
        let file = file(&Config::default_file());
        assert_eq!(Config::load(Some(file.path())).unwrap(), Config::default());
    }

    #[test]
    fn the_example_for_one_node_is_good() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/colloquy.toml");
        assert_eq!(Config::load(Some(&example)).unwrap().log.format, LogFormat::Json);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_quoted_without_a_password() {
        for text in [
            "store = \"mongodb://user:secret@a.example\"",
            "[store]\nmongodb_pool_max = \"mongodb://user:secret@a.example\"",
            "[store]\nmongodb_uri = \"mongodb://user:secret@a.example",
        ] {
            let error = Config::read_text(text).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn an_unknown_name_and_a_senseless_value_are_refused_by_name() {
        let unknown = file("lisen = \"127.0.0.1:1\"");
        assert!(Config::load(Some(unknown.path())).unwrap_err().to_string().contains("lisen"));
        let senseless = file("[limits]\nidle_timeout_ms = 0");
        let error = Config::load(Some(senseless.path())).unwrap_err().to_string();
        assert!(error.contains("limits.idle_timeout_ms"), "{error}");
        assert!(matches!(Config::load(Some(Path::new("/nowhere.toml"))), Err(ConfigError::Missing(_))));
    }
}
