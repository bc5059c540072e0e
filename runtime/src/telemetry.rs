//! Logs, on standard error. No line holds personal data (PRIVATE): that is up to whoever writes it, and tests search
//! for it.

use tracing_subscriber::EnvFilter;

use crate::config::{ConfigError, Log, LogFormat};

/// Starts logging. The process does this once.
///
/// # Errors
/// If the filter cannot be parsed.
pub fn start(log: &Log) -> Result<(), ConfigError> {
    let filter = filter(log)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start, in a test that runs two nodes in one process, keeps the first.
    let _ = match log.format {
        LogFormat::Json => builder.json().try_init(),
        LogFormat::Text => builder.with_ansi(false).try_init(),
    };
    Ok(())
}

/// The filter of the configuration.
///
/// # Errors
/// If it cannot be parsed.
pub(crate) fn filter(log: &Log) -> Result<EnvFilter, ConfigError> {
    let why = "is not a filter such as `info` or `colloquy_actors=debug,info`";
    EnvFilter::try_new(&log.filter).map_err(|_| ConfigError::Invalid { field: "log.filter", why })
}
