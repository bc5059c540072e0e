//! Where an agent's messages may be posted: only to hosts that the installation allows, so that nobody who may register an
//! agent can have the server speak to what stands behind its firewall.

use colloquy_protocol::limits::SINK_MAX_BYTES;
use url::{Host, Url};

use crate::invalid_field::InvalidField;

/// Why an address is not one of a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// Not an http or https URL of at most [`SINK_MAX_BYTES`], or one with a user, a password or a fragment.
    #[error("an http or https URL of at most 2048 bytes, without user, password and fragment")]
    Form,
    /// Its host is not among those that are allowed.
    #[error("its host is not among agents.sink_hosts")]
    Host,
}

impl From<SinkError> for InvalidField {
    fn from(error: SinkError) -> Self {
        let rule = match error {
            SinkError::Form => {
                "an http or https URL of at most 2048 bytes, without user, password and fragment"
            }
            SinkError::Host => "a URL whose host is among agents.sink_hosts",
        };
        Self::new("sink", rule)
    }
}

/// The hosts that are allowed; by default none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkHosts(Vec<Pattern>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    /// This host.
    Exactly(Host),
    /// Any host whose name ends in this, which begins with a dot.
    Beneath(String),
}

/// A text that names no hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hosts are names, addresses, or `*.` and a domain")]
pub struct NotHosts;

impl SinkHosts {
    /// Names (`agents.example.com`), addresses (`127.0.0.1`, `[::1]`), or all names beneath one (`*.svc.cluster.local`).
    ///
    /// # Errors
    /// [`NotHosts`] if one of them is something else.
    pub fn parse<T: AsRef<str>>(hosts: &[T]) -> Result<Self, NotHosts> {
        let pattern = |text: &T| match text.as_ref().strip_prefix("*.") {
            Some(domain) => match Host::parse(domain) {
                Ok(Host::Domain(domain)) => Ok(Pattern::Beneath(format!(".{domain}"))),
                _ => Err(NotHosts),
            },
            // A star elsewhere is a host to the URL standard, and nobody's.
            None if text.as_ref().contains('*') => Err(NotHosts),
            None => Host::parse(text.as_ref()).map(Pattern::Exactly).map_err(|_| NotHosts),
        };
        hosts.iter().map(pattern).collect::<Result<_, _>>().map(Self)
    }

    /// The address of a sink, if it may be one. The host is what the URL standard makes of the text, which is what is
    /// connected to: `http://2130706433/` is `127.0.0.1`.
    ///
    /// # Errors
    /// [`SinkError`].
    pub fn check(&self, sink: &str) -> Result<Url, SinkError> {
        let url = parse_sink(sink)?;
        let host = url.host().ok_or(SinkError::Form)?;
        let allows = |pattern: &Pattern| match pattern {
            Pattern::Exactly(allowed) => *allowed == host.to_owned(),
            Pattern::Beneath(domain) => {
                matches!(host, Host::Domain(name) if name.ends_with(domain) && name.len() > domain.len())
            }
        };
        if self.0.iter().any(allows) { Ok(url) } else { Err(SinkError::Host) }
    }
}

/// An address that events can be posted to, whoever allows it.
///
/// # Errors
/// [`SinkError::Form`].
pub fn parse_sink(sink: &str) -> Result<Url, SinkError> {
    if sink.len() > SINK_MAX_BYTES {
        return Err(SinkError::Form);
    }
    let url = Url::parse(sink).map_err(|_| SinkError::Form)?;
    let is_plain = matches!(url.scheme(), "http" | "https")
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none()
        && url.has_host();
    if is_plain { Ok(url) } else { Err(SinkError::Form) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_that_are_allowed_are_spoken_to_however_they_are_written() {
        let hosts = SinkHosts::parse(&["127.0.0.1", "[::1]", "agents.example.com", "*.svc.local"]).unwrap();
        for good in [
            "http://127.0.0.1:9000/events",
            "http://2130706433/",
            "http://[::1]:9000",
            "https://Agents.Example.com/x?y=z",
            "http://a.svc.local",
            "http://a.b.svc.local",
        ] {
            assert!(hosts.check(good).is_ok(), "{good}");
        }
        for bad in [
            "http://127.0.0.2",
            "http://169.254.169.254/latest/meta-data",
            "http://svc.local",
            "http://evilsvc.local",
            "http://agents.example.com.evil.example",
            "http://x.agents.example.com",
        ] {
            assert_eq!(hosts.check(bad), Err(SinkError::Host), "{bad}");
        }
        let long = format!("http://127.0.0.1/{}", "x".repeat(SINK_MAX_BYTES));
        for bad in [
            "",
            "127.0.0.1",
            "ftp://127.0.0.1",
            "file:///etc/passwd",
            "http://u:p@127.0.0.1",
            "http://u@127.0.0.1",
            "http://127.0.0.1/#x",
            "http://",
            &long,
        ] {
            assert_eq!(hosts.check(bad), Err(SinkError::Form), "{bad}");
        }
    }

    #[test]
    fn what_names_no_host_is_refused() {
        for bad in ["", "*", "*.", "a b", "http://a", "*.127.0.0.1"] {
            assert_eq!(SinkHosts::parse(&[bad]), Err(NotHosts), "{bad}");
        }
    }
}
