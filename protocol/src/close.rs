//! WebSocket close codes. The range alone tells a client whether to come back.
//!
//! | range | the client |
//! |---|---|
//! | 4000-4499 | reconnects with jittered backoff and resumes |
//! | 4500-4999 | stays away until a person or a new log-in changes something |
//! | 1000-1015 | RFC 6455, section 7.4.1: 1000, 1002, 1003, 1007, 1008, 1009 and 1010 are final, the others reconnect |

use serde::{Deserialize, Serialize};

/// Why the server closed a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u16)]
pub enum CloseCode {
    /// The process is going away; a `migration` frame said where to go.
    Draining = 4000,
    /// The reader was too slow; what it has not been shown is in the log.
    SlowConsumer = 4001,
    /// Nothing came from the client for [`crate::limits::IDLE_TIMEOUT`].
    IdleTimeout = 4002,
    /// The session's actor ended by a fault of ours.
    Internal = 4003,
    /// The node has as many connections as it may have.
    Overloaded = 4004,
    /// The access token expired on the open socket; refresh it, then reconnect.
    TokenExpired = 4005,
    /// No `auth` frame within [`crate::limits::AUTH_TIMEOUT`].
    AuthTimeout = 4006,
    /// The token is not valid; log in again.
    InvalidToken = 4500,
    /// The log-in was revoked; log in again.
    TokenRevoked = 4501,
    /// The device was removed or never registered.
    UnknownDevice = 4502,
    /// The same device connected more often than [`crate::limits::SOCKETS_PER_DEVICE_MAX`]; this is its oldest.
    Replaced = 4503,
    /// More refused frames than [`crate::limits::VIOLATIONS_MAX`] allow.
    PolicyViolation = 4504,
}

/// What a client does after a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterClose {
    /// Reconnect with jittered backoff and resume from its cursors.
    Reconnect,
    /// Refresh the access token first, then reconnect.
    RefreshThenReconnect,
    /// Stay away: something has to be changed first.
    Stop,
}

impl CloseCode {
    /// Every code.
    pub const ALL: &[CloseCode] = &[
        Self::Draining,
        Self::SlowConsumer,
        Self::IdleTimeout,
        Self::Internal,
        Self::Overloaded,
        Self::TokenExpired,
        Self::AuthTimeout,
        Self::InvalidToken,
        Self::TokenRevoked,
        Self::UnknownDevice,
        Self::Replaced,
        Self::PolicyViolation,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// A short reason for the close frame; at most 123 bytes (RFC 6455, section 5.5).
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Draining => "draining: reconnect and resume",
            Self::SlowConsumer => "slow consumer: reconnect and resume",
            Self::IdleTimeout => "no heartbeat: reconnect and resume",
            Self::Internal => "internal fault: reconnect and resume",
            Self::Overloaded => "too many connections: reconnect later",
            Self::TokenExpired => "token expired: refresh it and reconnect",
            Self::AuthTimeout => "no auth frame in time",
            Self::InvalidToken => "invalid token: log in again",
            Self::TokenRevoked => "log-in revoked: log in again",
            Self::UnknownDevice => "unknown device: register it",
            Self::Replaced => "this device has too many newer connections",
            Self::PolicyViolation => "too many refused frames",
        }
    }
}

/// What a client does about any close number, ours or another's; `None` is a connection lost without one.
#[must_use]
pub const fn after_close(number: Option<u16>) -> AfterClose {
    match number {
        Some(4005) => AfterClose::RefreshThenReconnect,
        Some(4500..=4999 | 1000 | 1002 | 1003 | 1007 | 1008 | 1009 | 1010) => AfterClose::Stop,
        _ => AfterClose::Reconnect,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_a_code_tells_whether_to_come_back() {
        assert_eq!(after_close(Some(CloseCode::SlowConsumer.number())), AfterClose::Reconnect);
        assert_eq!(after_close(Some(CloseCode::Replaced.number())), AfterClose::Stop);
        assert_eq!(after_close(Some(CloseCode::TokenExpired.number())), AfterClose::RefreshThenReconnect);
        assert_eq!(after_close(None), AfterClose::Reconnect);
        assert_eq!(after_close(Some(1001)), AfterClose::Reconnect);
        assert_eq!(after_close(Some(1009)), AfterClose::Stop);
        assert_eq!(after_close(Some(4999)), AfterClose::Stop);
    }
}
