//! A user's account.

use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::UserId;
use serde::{Deserialize, Serialize};

/// A user. `Debug` shows the id only (PRIVATE).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user.
    pub user_id: UserId,
    /// E.164; unique.
    pub phone: Option<String>,
    /// In lower case; unique.
    pub email: Option<String>,
    /// As shown to others.
    pub name: String,
    /// A picture.
    pub avatar_url: Option<String>,
    /// An argon2id hash in PHC form.
    pub password_hash: String,
    /// When the account was made.
    pub created_at: UnixMillis,
    /// When a device of the user was last connected.
    pub last_seen: Option<UnixMillis>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("user_id", &self.user_id).finish_non_exhaustive()
    }
}

/// A change to an account; what is `None` stays.
#[derive(Clone, Default)]
pub struct UserChange {
    /// A new name.
    pub name: Option<String>,
    /// A new picture, or none.
    pub avatar_url: Option<Option<String>>,
    /// A new phone number.
    pub phone: Option<String>,
    /// A new email address.
    pub email: Option<String>,
    /// A new argon2id hash in PHC form.
    pub password_hash: Option<String>,
}

/// What is unique among users and was another's already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The phone number.
    Phone,
    /// The email address.
    Email,
}
