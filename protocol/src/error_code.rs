//! The stable codes of everything that can be refused, on the WebSocket and over REST alike.
//!
//! A code never changes its meaning and is never reused. Texts beside a code may change; they hold no personal
//! data (PRIVATE).

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! error_codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $wire:literal, $status:literal, $retry:ident;)+) => {
        /// What was refused, and why.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        pub enum ErrorCode {
            $($(#[doc = $doc])+ #[serde(rename = $wire)] $variant,)+
        }

        impl ErrorCode {
            /// Every code, in the order they are documented in.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$variant),+];

            /// The code as it stands on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$variant => $wire),+ }
            }

            /// The HTTP status that goes with the code.
            #[must_use]
            pub const fn http_status(self) -> u16 {
                match self { $(ErrorCode::$variant => $status),+ }
            }

            /// May the same request succeed later, unchanged?
            #[must_use]
            pub const fn is_retryable(self) -> bool {
                match self { $(ErrorCode::$variant => error_codes!(@retry $retry)),+ }
            }
        }
    };
    (@retry retry) => { true };
    (@retry final) => { false };
}

error_codes! {
    /// The text is not JSON, or lacks a field, or a field has the wrong type.
    MalformedFrame = "malformed_frame", 400, final;
    /// The frame's `type` is not one a client may send.
    UnknownFrame = "unknown_frame", 400, final;
    /// A frame other than `auth` came before authentication.
    NotAuthenticated = "not_authenticated", 401, final;
    /// A second `auth` frame on an authenticated socket.
    AlreadyAuthenticated = "already_authenticated", 400, final;
    /// The token is missing, forged, of a forbidden algorithm, or of another purpose.
    InvalidToken = "invalid_token", 401, final;
    /// The token was good once; refresh it.
    TokenExpired = "token_expired", 401, final;
    /// The log-in behind the token has been revoked; log in again.
    TokenRevoked = "token_revoked", 401, final;
    /// A refresh token was used twice; its log-in has been revoked.
    RefreshTokenReused = "refresh_token_reused", 401, final;
    /// Wrong identifier or password; which of the two is not said.
    InvalidCredentials = "invalid_credentials", 401, final;
    /// The device is not registered to this user, or has been removed.
    UnknownDevice = "unknown_device", 403, final;
    /// The log-in belongs to another device of the user.
    DeviceMismatch = "device_mismatch", 403, final;
    /// A message without an idempotency key.
    MissingIdempotencyKey = "missing_idempotency_key", 400, final;
    /// The idempotency key is not a UUID of version 4.
    InvalidIdempotencyKey = "invalid_idempotency_key", 400, final;
    /// The idempotency key was used for a message with another body.
    IdempotencyConflict = "idempotency_conflict", 409, final;
    /// The content is not an end-to-end encrypted envelope.
    E2eeRequired = "e2ee_required", 422, final;
    /// The envelope's form is wrong: keys, base64, lengths, repeated devices.
    MalformedEnvelope = "malformed_envelope", 422, final;
    /// `sender_key` is not the identity key the sending device has published.
    SenderKeyMismatch = "sender_key_mismatch", 422, final;
    /// The envelope is not for exactly the recipients' devices; encrypt for the ones named and send again.
    DeviceListStale = "device_list_stale", 409, final;
    /// The receiver has no device that could read the message; they have to log in somewhere first.
    NoRecipientDevice = "no_recipient_device", 409, final;
    /// No such conversation, or not one the user takes part in.
    UnknownConversation = "unknown_conversation", 404, final;
    /// No such user.
    UnknownUser = "unknown_user", 404, final;
    /// No such message, or not one the user can see.
    UnknownMessage = "unknown_message", 404, final;
    /// No such log-in of this user.
    UnknownLogin = "unknown_login", 404, final;
    /// No such agent.
    UnknownAgent = "unknown_agent", 404, final;
    /// The request is not a CloudEvent 1.0, or its data is not what its type calls for.
    MalformedEvent = "malformed_event", 400, final;
    /// The event's `type` is not one that is taken here.
    UnknownEvent = "unknown_event", 422, final;
    /// No such turn, or not one of this agent's.
    UnknownTurn = "unknown_turn", 422, final;
    /// The turn has its answer.
    TurnAnswered = "turn_answered", 410, final;
    /// No such dead letter: it was never one, has been answered, was taken by the feed's sink, or was dropped.
    UnknownDeadLetter = "unknown_dead_letter", 404, final;
    /// The caller is not an agent.
    NotAnAgent = "not_an_agent", 403, final;
    /// The agent's name is taken.
    AgentExists = "agent_exists", 409, final;
    /// The agent was changed since the revision that was named; read it again.
    AgentChanged = "agent_changed", 409, final;
    /// There are as many agents as there may be.
    TooManyAgents = "too_many_agents", 409, final;
    /// `receiver_id` is not the other participant of the conversation.
    ReceiverMismatch = "receiver_mismatch", 422, final;
    /// A conversation needs another participant than the user.
    InvalidParticipant = "invalid_participant", 422, final;
    /// The window of sequence numbers is reversed, starts at 0, or is too wide.
    InvalidWindow = "invalid_window", 400, final;
    /// A value is out of its documented bounds; the problem names the field.
    InvalidField = "invalid_field", 422, final;
    /// The phone number is another user's.
    PhoneTaken = "phone_taken", 409, final;
    /// The email address is another user's.
    EmailTaken = "email_taken", 409, final;
    /// A published key's signature does not verify.
    BadKeySignature = "bad_key_signature", 422, final;
    /// A key id was published before with another key.
    KeyIdReused = "key_id_reused", 409, final;
    /// The device exists with another identity key (remove it first), or one with this identity key was removed (make new
    /// keys).
    DeviceExists = "device_exists", 409, final;
    /// The user has as many devices as one may have.
    TooManyDevices = "too_many_devices", 409, final;
    /// The device has as many unclaimed one-time keys as it may have.
    TooManyKeys = "too_many_keys", 409, final;
    /// The socket watches as many users as it may.
    TooManySubscriptions = "too_many_subscriptions", 409, final;
    /// The body or frame is larger than allowed.
    TooLarge = "too_large", 413, final;
    /// Too many requests; wait as long as told.
    RateLimited = "rate_limited", 429, retry;
    /// A bounded queue is full; try again shortly.
    Busy = "busy", 503, retry;
    /// The store or the conversation's owner does not answer; what was sent may or may not have been stored, and
    /// the same idempotency key finds out.
    Unavailable = "unavailable", 503, retry;
    /// The process is shutting down; reconnect.
    Draining = "draining", 503, retry;
    /// No such path.
    NotFound = "not_found", 404, final;
    /// The path exists, the method does not.
    MethodNotAllowed = "method_not_allowed", 405, final;
    /// A defect on our side. It has been logged under the request's id.
    Internal = "internal", 500, retry;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_has_its_own_text_and_reads_back() {
        let texts: BTreeSet<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), ErrorCode::ALL.len());
        for code in ErrorCode::ALL {
            let json = serde_json::to_string(code).unwrap();
            assert_eq!(json, format!("\"{code}\""));
            assert_eq!(serde_json::from_str::<ErrorCode>(&json).unwrap(), *code);
            assert!((400..600).contains(&code.http_status()));
        }
    }
}
