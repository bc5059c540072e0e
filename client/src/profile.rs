//! Where a profile lies, how it is unlocked, and which server it talks to.

use std::path::PathBuf;

use colloquy_protocol::agent::AgentId;
use colloquy_protocol::ids::DeviceId;

use crate::store::Unlock;

/// What [`crate::Client::open`] needs to know.
#[derive(Clone, Debug)]
pub struct ProfileOptions {
    /// The folder of the encrypted store; made if it is not there. One process at a time.
    pub folder: PathBuf,
    /// What unlocks the store.
    pub unlock: Unlock,
    /// The server, such as `https://chat.example`.
    pub server_url: String,
    /// This device's name, used when the profile first logs in; drawn at random if not given.
    pub device_id: Option<DeviceId>,
    /// `terminal`, `agent`, ...; at most 32 bytes, shown to other users.
    pub platform: String,
}

/// What a new account is made from. At least one of `phone` and `email` is needed.
#[derive(Clone, Default)]
pub struct Registration {
    /// E.164.
    pub phone: Option<String>,
    /// An address no other account uses.
    pub email: Option<String>,
    /// As shown to others.
    pub name: String,
    /// 8 to 256 bytes.
    pub password: String,
}

/// By what an account logs in.
#[derive(Clone, PartialEq, Eq)]
pub enum Identifier {
    /// E.164.
    Phone(String),
    /// In any case.
    Email(String),
    /// An agent, whose password is its key.
    Agent(AgentId),
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registration(..)")
    }
}

impl std::fmt::Debug for Identifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identifier(..)")
    }
}
