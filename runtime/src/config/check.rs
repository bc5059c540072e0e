//! What the types of a configuration cannot say: which values a server would not start with, and which it would start
//! with to its clients' harm.

use std::net::{IpAddr, SocketAddr};

use colloquy_accounts::sink::{SinkHosts, parse_sink};

use super::store::Backend;
use super::{Config, ConfigError, refuse_if};
use crate::telemetry;

/// Longest of all waits, ms: one day. A clock cannot add much more to itself.
const WAIT_MAX_MS: u64 = 24 * 60 * 60 * 1000;
/// Most of one kind of actor. There is no use for more, and they are all started at once.
const ACTORS_MAX: u64 = 1024;
/// Most memory of one password hash, KiB: 4 GiB.
const PASSWORD_MEMORY_MAX_KIB: u32 = 4 * 1024 * 1024;
/// Most passes over it: a start computes one hash.
const PASSWORD_ITERATIONS_MAX: u32 = 100;
/// argon2 works on four slices of two blocks of 1 KiB for each lane.
const PASSWORD_MEMORY_MIN_KIB_PER_LANE: u32 = 8;
/// Clients refresh an access token this long before it runs out, seconds.
const REFRESH_MARGIN_S: u64 = 60;
/// So many heartbeats must come before a socket counts as idle: one may be lost.
const HEARTBEATS_BEFORE_IDLE: u64 = 2;

impl Config {
    /// Checks what types cannot. A server refuses what is refused here.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`].
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_numbers()?;
        self.check_addresses()?;
        self.check_accounts()?;
        let hosts = SinkHosts::parse(&self.agents.sink_hosts);
        let why = "must be names, addresses, or `*.` and a domain";
        refuse_if(hosts.is_err(), "agents.sink_hosts", why)?;
        let is_wrong = |url: &str| !url.is_empty() && parse_sink(url).is_err();
        let why = "must be an http or https address without user, password and fragment";
        refuse_if(is_wrong(&self.agents.broker_url), "agents.broker_url (or K_SINK)", why)?;
        refuse_if(is_wrong(&self.agents.dead_letter_url), "agents.dead_letter_url", why)?;
        refuse_if(is_wrong(&self.feed.url), "feed.url", why)?;
        self.check_feed()?;
        self.cluster.check()?;
        let is_shared = self.store.backend == Backend::Mongodb;
        let why = "must be mongodb where cluster.redis is set: pods share what is true";
        refuse_if(self.cluster.is_on() && !is_shared, "store.backend", why)?;
        let why = "must be set where cluster.redis is set: pods accept each other's tokens";
        let has_key = !self.accounts.signing_key_file.as_os_str().is_empty();
        refuse_if(self.cluster.is_on() && !has_key, "accounts.signing_key_file", why)?;
        self.store.check()?;
        refuse_if(
            self.uses_data_dir() && self.data_dir.as_os_str().is_empty(),
            "data_dir",
            "must name a folder",
        )?;
        telemetry::filter(&self.log).map(drop)
    }

    /// What a server starts with, but no client would be glad of. `serve` warns of it.
    #[must_use]
    pub fn doubts(&self) -> Vec<ConfigError> {
        let (accounts, limits) = (&self.accounts, &self.limits);
        let is_hasty =
            limits.heartbeat_interval_ms.saturating_mul(HEARTBEATS_BEFORE_IDLE) >= limits.idle_timeout_ms;
        let is_brief = accounts.access_token_lifetime_s <= REFRESH_MARGIN_S;
        let heartbeat = "must be less than half of limits.idle_timeout_ms: clients that do as they are told would be \
                         closed as idle";
        let lifetime = "must be more than 60: clients refresh a token that long before it runs out, so every token \
                        would be refreshed at once";
        let unused = "must be empty unless store.backend is \"mongodb\": it is not used";
        let found = [
            self.store.is_unused().then_some(("store.mongodb_uri", unused)),
            is_hasty.then_some(("limits.heartbeat_interval_ms", heartbeat)),
            is_brief.then_some(("accounts.access_token_lifetime_s", lifetime)),
        ];
        found.into_iter().flatten().map(|(field, why)| ConfigError::Invalid { field, why }).collect()
    }

    /// Is anything kept in the data directory?
    #[must_use]
    pub fn uses_data_dir(&self) -> bool {
        self.store.backend == Backend::Embedded || self.accounts.signing_key_file.as_os_str().is_empty()
    }

    fn check_numbers(&self) -> Result<(), ConfigError> {
        let (limits, actors, accounts) = (&self.limits, &self.actors, &self.accounts);
        let waits = [
            ("limits.idle_timeout_ms", limits.idle_timeout_ms),
            ("limits.auth_timeout_ms", limits.auth_timeout_ms),
            ("limits.header_timeout_ms", limits.header_timeout_ms),
            ("limits.heartbeat_interval_ms", limits.heartbeat_interval_ms),
        ];
        let counts = [
            ("actors.store_writers", actors.store_writers as u64),
            ("actors.presence_trackers", actors.presence_trackers as u64),
        ];
        let others = [
            ("limits.connections_max", limits.connections_max as u64),
            ("limits.sockets_max", limits.sockets_max as u64),
            ("accounts.access_token_lifetime_s", accounts.access_token_lifetime_s),
            ("accounts.refresh_token_lifetime_s", accounts.refresh_token_lifetime_s),
        ];
        for (field, value) in waits.into_iter().chain(counts).chain(others) {
            refuse_if(value == 0, field, "must be greater than 0")?;
        }
        // A server may be told to drain in no time.
        for (field, value) in waits.into_iter().chain([("drain.window_ms", self.drain.window_ms)]) {
            refuse_if(value > WAIT_MAX_MS, field, "must be at most 86400000, which is one day")?;
        }
        for (field, value) in counts {
            refuse_if(value > ACTORS_MAX, field, "must be at most 1024")?;
        }
        Ok(())
    }

    fn check_addresses(&self) -> Result<(), ConfigError> {
        let endpoint = self.public_endpoint.as_str();
        if endpoint.is_empty() {
            let why = "must be set where listen is an unspecified address such as 0.0.0.0, which no client can be sent \
                       to: write the url that clients reach, such as \"wss://chat.example.com/ws\"";
            refuse_if(self.listen.ip().is_unspecified(), "public_endpoint", why)?;
        } else {
            let host = endpoint.strip_prefix("ws://").or_else(|| endpoint.strip_prefix("wss://"));
            let is_url = host.is_some_and(|host| !host.is_empty() && !host.starts_with(['/', ':', '?', '#']));
            let is_spaced = endpoint.contains(char::is_whitespace);
            refuse_if(!is_url || is_spaced, "public_endpoint", "must be a ws:// or wss:// url, or empty")?;
        }
        let collide = collide(self.listen, self.operations.listen);
        refuse_if(collide, "operations.listen", "must be another address than listen, or have another port")
    }

    fn check_accounts(&self) -> Result<(), ConfigError> {
        let accounts = &self.accounts;
        let least = PASSWORD_MEMORY_MIN_KIB_PER_LANE.saturating_mul(self.password_options().parallelism);
        let is_range = (least..=PASSWORD_MEMORY_MAX_KIB).contains(&accounts.password_memory_kib);
        refuse_if(!is_range, "accounts.password_memory_kib", "must be 8 to 4194304")?;
        let is_range = (1..=PASSWORD_ITERATIONS_MAX).contains(&accounts.password_iterations);
        refuse_if(!is_range, "accounts.password_iterations", "must be 1 to 100")?;
        let is_outlived = accounts.refresh_token_lifetime_s < accounts.access_token_lifetime_s;
        let why = "must not be less than accounts.access_token_lifetime_s";
        refuse_if(is_outlived, "accounts.refresh_token_lifetime_s", why)?;
        refuse_if(accounts.token_issuer.is_empty(), "accounts.token_issuer", "must not be empty")
    }
}

/// Would the second be refused by the system once the first is taken? A port of 0 is never the same one.
fn collide(first: SocketAddr, second: SocketAddr) -> bool {
    let covers = |one: IpAddr, other: IpAddr| one.is_unspecified() && one.is_ipv4() == other.is_ipv4();
    let (one, other) = (first.ip(), second.ip());
    let is_same_place = one == other || covers(one, other) || covers(other, one);
    first.port() != 0 && first.port() == second.port() && is_same_place
}

#[cfg(test)]
mod tests {
    use colloquy_accounts::password::Passwords;
    use colloquy_storage::ambient::{Entropy, Workers};

    use super::super::with;
    use super::*;

    #[track_caller]
    fn assert_refused(field: &str, change: impl FnOnce(&mut Config)) {
        let error = with(change).check().expect_err(field).to_string();
        assert!(error.starts_with(&format!("{field}: must ")), "{error}");
    }

    #[test]
    fn the_defaults_are_good_beyond_doubt() {
        assert!(Config::default().check().is_ok());
        assert!(Config::default().doubts().is_empty());
    }

    #[test]
    fn a_filter_that_logging_would_refuse_is_refused() {
        let error = with(|config| config.log.filter = "info,colloquy=shout".to_owned()).check().unwrap_err();
        assert!(error.to_string().starts_with("log.filter: "), "{error}");
    }

    #[test]
    fn an_unspecified_address_needs_an_endpoint_to_send_clients_to() {
        for unspecified in ["0.0.0.0:8080", "[::]:8080"] {
            let listen = unspecified.parse().unwrap();
            assert_refused("public_endpoint", |config| config.listen = listen);
            let told = with(|config| {
                config.listen = listen;
                config.public_endpoint = "wss://chat.example.com/ws".to_owned();
            });
            assert!(told.check().is_ok());
        }
    }

    #[test]
    fn an_endpoint_is_a_websocket_url_with_a_host() {
        for bad in ["http://chat.example.com", "ws://", "wss:///ws", "ws://a b/ws", "chat.example.com"] {
            assert_refused("public_endpoint", |config| config.public_endpoint = bad.to_owned());
        }
    }

    #[test]
    fn two_listeners_cannot_have_one_address() {
        for operations in ["127.0.0.1:8080", "0.0.0.0:8080"] {
            let listen = operations.parse().unwrap();
            assert_refused("operations.listen", |config| config.operations.listen = listen);
        }
        let free = "127.0.0.1:0".parse().unwrap();
        assert!(with(|config| (config.listen, config.operations.listen) = (free, free)).check().is_ok());
    }

    #[test]
    fn the_cost_of_a_password_is_what_argon2_accepts_and_a_machine_can_bear() {
        for bad in [0, 7, u32::MAX] {
            assert_refused("accounts.password_memory_kib", |config| {
                config.accounts.password_memory_kib = bad;
            });
        }
        for bad in [0, u32::MAX] {
            assert_refused("accounts.password_iterations", |config| {
                config.accounts.password_iterations = bad;
            });
        }
        // The least that is good here is the least that is good there.
        let cost = |memory_kib| with(|config| config.accounts.password_memory_kib = memory_kib);
        assert!(cost(8).check().is_ok());
        assert!(Passwords::new(cost(8).password_options(), Entropy::from_seed(1), Workers::Threads).is_ok());
        assert!(Passwords::new(cost(7).password_options(), Entropy::from_seed(1), Workers::Threads).is_err());
    }

    #[test]
    fn waits_and_numbers_of_actors_have_bounds() {
        assert_refused("limits.idle_timeout_ms", |config| config.limits.idle_timeout_ms = u64::MAX);
        assert_refused("limits.header_timeout_ms", |config| config.limits.header_timeout_ms = 0);
        assert_refused("drain.window_ms", |config| config.drain.window_ms = u64::MAX);
        assert_refused("actors.store_writers", |config| config.actors.store_writers = 1_000_000);
        assert_refused("actors.presence_trackers", |config| config.actors.presence_trackers = 0);
        assert!(with(|config| config.drain.window_ms = 0).check().is_ok());
    }

    #[test]
    fn a_login_outlives_its_access_token_and_both_have_an_issuer() {
        assert_refused("accounts.refresh_token_lifetime_s", |config| {
            config.accounts.refresh_token_lifetime_s = 899;
        });
        assert_refused("accounts.token_issuer", |config| config.accounts.token_issuer.clear());
        assert_refused("data_dir", |config| config.data_dir = "".into());
    }

    fn on_mongodb(change: impl FnOnce(&mut Config)) -> Config {
        with(|config| {
            config.store.backend = Backend::Mongodb;
            config.store.mongodb_uri = "mongodb://127.0.0.1/".to_owned().into();
            change(config);
        })
    }

    #[test]
    fn mongodb_needs_an_address_and_a_database() {
        assert!(on_mongodb(|_| ()).check().is_ok());
        for bad in ["", "http://127.0.0.1", "mongodb://", "mongodb+srv:///x", "mongodb:///x"] {
            let error = on_mongodb(|config| config.store.mongodb_uri = bad.to_owned().into()).check();
            assert!(error.unwrap_err().to_string().starts_with("store.mongodb_uri: must "), "{bad}");
        }
        let long = "x".repeat(64);
        for bad in ["", "a b", "a/b", "a.b", "$x", long.as_str()] {
            assert_refused("store.mongodb_database", |config| config.store.mongodb_database = bad.to_owned());
        }
        for bad in [0, 1_001] {
            assert_refused("store.mongodb_pool_max", |config| config.store.mongodb_pool_max = bad);
        }
        for bad in [0, u32::MAX] {
            assert_refused("store.messages_days", |config| config.store.messages_days = bad);
            assert_refused("store.idempotency_keys_hours", |config| {
                config.store.idempotency_keys_hours = bad;
            });
        }
    }

    #[test]
    fn an_address_that_nobody_uses_is_doubted() {
        let unused = on_mongodb(|config| config.store.backend = Backend::Embedded);
        assert!(unused.check().is_ok());
        assert!(unused.doubts()[0].to_string().starts_with("store.mongodb_uri: "));
        assert!(on_mongodb(|_| ()).doubts().is_empty());
    }

    #[test]
    fn on_mongodb_with_a_key_of_all_nodes_no_data_directory_is_needed() {
        let without_folder = on_mongodb(|config| {
            config.data_dir = "".into();
            config.accounts.signing_key_file = "/run/secrets/signing.pem".into();
        });
        assert!(without_folder.check().is_ok());
        let its_own_key = on_mongodb(|config| config.data_dir = "".into());
        assert!(its_own_key.check().unwrap_err().to_string().starts_with("data_dir: must "));
    }

    #[test]
    fn what_harms_clients_is_doubted_by_name() {
        let named = |config: &Config| -> Vec<String> {
            config
                .doubts()
                .iter()
                .map(|doubt| doubt.to_string().split(':').next().unwrap().to_owned())
                .collect()
        };
        let hasty = with(|config| config.limits.heartbeat_interval_ms = 30_000);
        assert_eq!(named(&hasty), ["limits.heartbeat_interval_ms"]);
        let brief = with(|config| config.accounts.access_token_lifetime_s = 60);
        assert_eq!(named(&brief), ["accounts.access_token_lifetime_s"]);
        assert!(hasty.check().is_ok() && brief.check().is_ok());
    }
}
