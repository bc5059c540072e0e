//! The feed: whoever is told of every message that is stored.

use chrono::DateTime;
use colloquy_accounts::sink::parse_sink;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::agent::SinkMode;
use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, refuse_if};

/// Whoever is told of every message that is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Feed {
    /// Every message that is stored is told, encrypted as it is, as a CloudEvent `messaging.message.received`.
    pub enabled: bool,
    /// Where it is posted: a broker, or any other sink. Empty: to `agents.broker_url`.
    pub url: String,
    /// How: `binary` or `structured`.
    pub mode: SinkMode,
    /// A date (RFC 3339, `2026-01-31T12:00:00Z`): what was written before is not told. Empty: all that is kept is.
    pub since: String,
}

impl Feed {
    /// What was numbered before is not told; `None` if nobody is told of anything. What is no date was refused by
    /// [`Config::check`], and is the beginning.
    #[must_use]
    pub fn starts_at(&self) -> Option<UnixMillis> {
        self.enabled.then(|| self.since().unwrap_or_default())
    }

    /// The date, if it is one; nothing is the beginning.
    fn since(&self) -> Option<UnixMillis> {
        if self.since.is_empty() {
            return Some(0);
        }
        let date = DateTime::parse_from_rfc3339(&self.since).ok()?;
        UnixMillis::try_from(date.timestamp_millis()).ok()
    }
}

impl Config {
    /// Where messages are told, and how; `None` if nobody is told of anything.
    #[must_use]
    pub(super) fn feed_sink(&self) -> Option<(reqwest::Url, SinkMode)> {
        let Feed { enabled, url, mode, .. } = &self.feed;
        let url = if url.is_empty() { &self.agents.broker_url } else { url };
        parse_sink(url).ok().filter(|_| *enabled).map(|url| (url, *mode))
    }

    pub(super) fn check_feed(&self) -> Result<(), ConfigError> {
        let why =
            "must be set where feed.enabled is and agents.broker_url is not: it is where messages are told";
        refuse_if(self.feed.enabled && self.feed_sink().is_none(), "feed.url", why)?;
        let why = "must be a date such as 2026-01-31T12:00:00Z, not before 1970, or empty";
        refuse_if(self.feed.since().is_none(), "feed.since", why)
    }
}

#[cfg(test)]
mod tests {
    use super::super::with;
    use super::*;

    #[test]
    fn nobody_is_told_unless_it_is_said() {
        let config = with(|config| config.agents.broker_url = "http://broker.example/".to_owned());
        assert_eq!((config.feed_sink(), config.feed.starts_at()), (None, None));
    }

    #[test]
    fn messages_are_told_where_it_is_said_or_to_the_broker() {
        let sink = |url: &str| {
            let config = with(|config| {
                (config.feed.enabled, config.feed.mode) = (true, SinkMode::Structured);
                config.feed.url = url.to_owned();
                config.agents.broker_url = "http://broker.example/".to_owned();
            });
            config.check().unwrap();
            config.feed_sink().map(|(url, mode)| (url.to_string(), mode))
        };
        let structured = |url: &str| Some((url.to_owned(), SinkMode::Structured));
        assert_eq!(sink(""), structured("http://broker.example/"));
        assert_eq!(sink("http://archive.example/in"), structured("http://archive.example/in"));
    }

    #[test]
    fn a_date_says_from_when_on() {
        let since = |since: &str| {
            with(|config| (config.feed.enabled, config.feed.since) = (true, since.to_owned()))
                .feed
                .starts_at()
        };
        assert_eq!(since(""), Some(0));
        assert_eq!(since("1970-01-01T00:00:01Z"), Some(1_000));
        assert_eq!(since("1970-01-01T02:00:00.5+02:00"), Some(500));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let refused = |change: fn(&mut Feed)| {
            let config = with(|config| change(&mut config.feed));
            config.check().unwrap_err().to_string()
        };
        assert!(refused(|feed| feed.enabled = true).starts_with("feed.url: must be set"));
        assert!(refused(|feed| feed.url = "ftp://x/".to_owned()).starts_with("feed.url: must be an http"));
        let unknown = Config::read_text("[feed]\nmode = \"batch\"").unwrap_err().to_string();
        assert!(unknown.contains("mode"), "{unknown}");
        for bad in ["yesterday", "2026-01-31", "1969-12-31T23:59:59Z"] {
            let config = with(|config| bad.clone_into(&mut config.feed.since));
            let refused = config.check().unwrap_err().to_string();
            assert!(refused.starts_with("feed.since: must be a date"), "{refused}");
        }
    }
}
