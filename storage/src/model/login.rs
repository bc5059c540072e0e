//! A log-in: one family of refresh tokens.

use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{DeviceId, LoginId, UserId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A log-in of a user. Tokens are signed, so what is kept is only which generation is the newest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The log-in.
    pub login_id: LoginId,
    /// The user.
    pub user_id: UserId,
    /// The device it is bound to, once one has been registered through it.
    pub device_id: Option<DeviceId>,
    /// The newest refresh token's generation; starts at 0.
    pub generation: u64,
    /// When that generation was made.
    pub rotated_at: UnixMillis,
    /// When the user logged in.
    pub created_at: UnixMillis,
    /// What its client called the refresh that made the newest generation.
    #[serde(default)]
    pub rotated_by: Option<Uuid>,
}

/// A refresh token, as it is presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presented {
    /// Its generation.
    pub generation: u64,
    /// What the client calls this refresh, if it does.
    pub request_id: Option<Uuid>,
}

/// What came of presenting a refresh token of some generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// It was the newest: the log-in now stands at the next generation.
    Rotated(Login),
    /// It was the one before, within the grace period or under the same request id: a retry whose answer was lost.
    /// Nothing has changed; the newest generation is to be handed out again.
    Repeated(Login),
    /// It was used before: somebody else has it. The log-in has been revoked.
    Reused(Login),
    /// No such log-in, or revoked.
    Unknown,
}
