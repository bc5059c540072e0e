//! Who may administer the installation: whoever can read the key that its tokens are signed with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use colloquy_accounts::admin_token::issue_admin_token;
use colloquy_accounts::signing_key::{SigningKey, SigningKeyError};
use colloquy_storage::ambient::Clock;

use crate::config::Config;

/// The file in the data directory that holds the key tokens are signed with.
const SIGNING_KEY_FILE: &str = "token-signing.pem";

/// Where the key lies that tokens are signed with.
pub(crate) fn signing_key_path(config: &Config) -> PathBuf {
    let shared = &config.accounts.signing_key_file;
    if shared.as_os_str().is_empty() { config.data_dir.join(SIGNING_KEY_FILE) } else { shared.clone() }
}

/// A token for `/admin`, good for a minute.
///
/// # Errors
/// The key cannot be read: there is none before the server's first start, and only its owner may.
pub fn admin_token(config: &Config) -> Result<String, SigningKeyError> {
    let key = SigningKey::read(&signing_key_path(config))?;
    let token = issue_admin_token(&key, &config.accounts.token_issuer, Clock::System.now());
    token.map_err(|_| SigningKeyError::Generation)
}

/// Where a server with this configuration serves `/admin`, as it is reached from its own machine.
#[must_use]
pub fn admin_url(config: &Config) -> String {
    let mut address = config.operations.listen;
    if address.ip().is_unspecified() {
        let loopback: IpAddr =
            if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    format!("http://{address}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    #[test]
    fn an_address_that_means_any_is_reached_on_this_machine() {
        let mut config = Config::default();
        assert_eq!(admin_url(&config), "http://127.0.0.1:9464");
        config.operations.listen = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 9000));
        assert_eq!(admin_url(&config), "http://[::1]:9000");
    }

    #[test]
    fn without_the_key_there_is_no_token_and_it_is_said_where_the_key_was_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { data_dir: folder.path().to_owned(), ..Config::default() };
        let error = admin_token(&config).unwrap_err().to_string();
        assert!(error.contains("token-signing.pem"), "{error}");
    }
}
