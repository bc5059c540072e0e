//! Registering, logging in, sessions and profiles.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::UnixMillis;
use crate::agent::AgentId;
use crate::ids::{DeviceId, LoginId, UserId};

/// `POST /v1/accounts`. At least one of `phone` and `email` is needed.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// E.164: `+`, then 7 to 15 digits, the first not 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// Kept in lower case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// 1 to 100 characters after trimming.
    pub name: String,
    /// 8 to 256 bytes.
    pub password: String,
}

/// `POST /v1/logins`. Exactly one of `phone`, `email` and `agent_id`.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogIn {
    /// E.164.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// In any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// An agent's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// The account's password, or the agent's key.
    pub password: String,
}

/// `POST /v1/logins/refresh`.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    /// The newest refresh token of the log-in. An older one revokes the whole family.
    pub refresh_token: String,
    /// The client's own name for this refresh, kept by it before it asks: asked again under the same name, however late, a
    /// refresh whose answer was lost is answered again. Without it that is so for ten seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Uuid>,
}

/// What a log-in gives: an access token to act with and a refresh token to get the next one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tokens {
    /// The user.
    pub user_id: UserId,
    /// This log-in.
    pub login_id: LoginId,
    /// A JWT (EdDSA), for `Authorization: Bearer` and the `auth` frame.
    pub access_token: String,
    /// When it runs out.
    pub access_token_expires_at: UnixMillis,
    /// Good for one refresh.
    pub refresh_token: String,
}

macro_rules! redacted {
    ($($name:ident),+) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    )+};
}
redacted!(Register, LogIn, Refresh, Tokens, Profile, ChangeProfile, UserCard);

/// The user's own account.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Profile {
    /// The user.
    pub user_id: UserId,
    /// E.164.
    pub phone: Option<String>,
    /// In lower case.
    pub email: Option<String>,
    /// As shown to others.
    pub name: String,
    /// A picture.
    pub avatar_url: Option<String>,
    /// When the account was made.
    pub created_at: UnixMillis,
}

/// `PATCH /v1/me`. What is left out stays as it is.
#[derive(Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeProfile {
    /// 1 to 100 characters after trimming.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// An https URL; the empty text removes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<String>,
    /// E.164.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// An address not used by another account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

/// What one user may see of another.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserCard {
    /// The user.
    pub user_id: UserId,
    /// As shown to others.
    pub name: String,
    /// A picture.
    pub avatar_url: Option<String>,
}

/// One log-in of the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Login {
    /// The log-in.
    pub login_id: LoginId,
    /// The device it is bound to, once that device has been registered through it.
    pub device_id: Option<DeviceId>,
    /// When the user logged in.
    pub created_at: UnixMillis,
    /// When its tokens were last refreshed.
    pub last_used_at: UnixMillis,
    /// The log-in this request was made with.
    pub current: bool,
}

/// `GET /v1/logins`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Logins {
    /// Those not revoked, newest first.
    pub logins: Vec<Login>,
}
