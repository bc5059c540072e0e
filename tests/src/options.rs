//! The configuration a test's server runs with.

use std::net::SocketAddr;

use toml::{Table, Value};

/// A configuration file in the making, and the environment that goes with it.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    config: Table,
    environment: Vec<(String, String)>,
}

impl Default for ServerOptions {
    /// Cheap password hashes and no limits on log-ins: tests make many accounts from one address.
    fn default() -> Self {
        Self { config: Table::new(), environment: Vec::new() }
            .set("accounts.password_memory_kib", 8)
            .set("accounts.password_iterations", 1)
            .set("limits.logins_per_minute", 0)
    }
}

impl ServerOptions {
    /// Sets one value; `path` is dotted (`limits.idle_timeout_ms`).
    #[must_use]
    pub fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        let (sections, key) = match path.rsplit_once('.') {
            Some((sections, key)) => (sections.split('.').collect(), key),
            None => (Vec::new(), path),
        };
        let mut table = &mut self.config;
        for section in sections {
            let entry = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            table = entry.as_table_mut().expect("a path does not lead through a value");
        }
        table.insert(key.to_owned(), value.into());
        self
    }

    /// Sets an environment variable of the server process.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The configuration file's text, with the operations listener at `operations`.
    #[must_use]
    pub fn to_toml(&self, operations: SocketAddr) -> String {
        let with_operations = self.clone().set("operations.listen", operations.to_string());
        toml::to_string(&with_operations.config).expect("a table of plain values is toml")
    }

    /// The environment variables set.
    #[must_use]
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dotted_path_is_a_value_in_a_section() {
        let text = ServerOptions::default()
            .set("limits.idle_timeout_ms", 500)
            .to_toml(SocketAddr::from(([127, 0, 0, 1], 0)));
        let read: Table = text.parse().unwrap();
        assert_eq!(read["limits"]["idle_timeout_ms"].as_integer(), Some(500));
        assert_eq!(read["limits"]["logins_per_minute"].as_integer(), Some(0));
    }
}
