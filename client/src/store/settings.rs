//! The profile, the log-in and this device's own account: one record each.

use std::fmt;

use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{DeviceId, LoginId, UserId};
use colloquy_protocol::rest::accounts::Tokens;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::database::{StoreError, Transaction};
use super::table::{RecordKey, Table};
use crate::crypto::{AccountPickle, DeviceAccount, OwnIdentity};

/// Whose store this is. Written at the first log-in, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileRecord {
    /// The server's base URL.
    pub server_url: String,
    /// The user.
    pub user_id: UserId,
    /// This device.
    pub device_id: DeviceId,
    /// When the fallback key was last renewed.
    pub fallback_rotated_at: UnixMillis,
    /// The server has confirmed this device since the last log-in.
    pub is_registered: bool,
}

/// The tokens of the current log-in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogInRecord {
    /// The user.
    pub user_id: UserId,
    /// The log-in.
    pub login_id: LoginId,
    /// For `Authorization: Bearer` and the `auth` frame.
    pub access_token: String,
    /// When it runs out, by the server's clock.
    pub access_token_expires_at: UnixMillis,
    /// Good for one refresh.
    pub refresh_token: String,
    /// What that refresh will be called, however often and late it has to be asked for: a process that ends between the
    /// server's answer and the storing of it is not logged out by asking again.
    #[serde(default)]
    pub refresh_request_id: Option<Uuid>,
}

impl LogInRecord {
    /// What `tokens` give; `refresh_request_id` is a fresh one.
    #[must_use]
    pub fn new(tokens: Tokens, refresh_request_id: Uuid) -> Self {
        Self {
            user_id: tokens.user_id,
            login_id: tokens.login_id,
            access_token: tokens.access_token,
            access_token_expires_at: tokens.access_token_expires_at,
            refresh_token: tokens.refresh_token,
            refresh_request_id: Some(refresh_request_id),
        }
    }
}

impl fmt::Debug for LogInRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogInRecord(..)")
    }
}

#[derive(Clone, Copy)]
enum Setting {
    Profile = 1,
    LogIn = 2,
    Account = 3,
    Counter = 4,
    Identity = 5,
}

fn key(setting: Setting) -> RecordKey {
    RecordKey::table(Table::Settings).number(setting as u64)
}

impl Transaction<'_> {
    /// Whose store this is; nothing before the first log-in.
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn profile(&self) -> Result<Option<ProfileRecord>, StoreError> {
        self.get(&key(Setting::Profile))
    }

    /// Stages the profile.
    pub fn put_profile(&mut self, profile: &ProfileRecord) {
        self.put(key(Setting::Profile), profile);
    }

    /// The current log-in, if there is one.
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn log_in(&self) -> Result<Option<LogInRecord>, StoreError> {
        self.get(&key(Setting::LogIn))
    }

    /// Stages the current log-in.
    pub fn put_log_in(&mut self, record: &LogInRecord) {
        self.put(key(Setting::LogIn), record);
    }

    /// Stages that nobody is logged in.
    pub fn remove_log_in(&mut self) {
        self.remove(key(Setting::LogIn));
    }

    /// This device's keys.
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn account(&self) -> Result<Option<DeviceAccount>, StoreError> {
        let pickle: Option<AccountPickle> = self.get(&key(Setting::Account))?;
        Ok(pickle.map(DeviceAccount::from_pickle))
    }

    /// What other devices know this one by.
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn identity(&self) -> Result<Option<OwnIdentity>, StoreError> {
        self.get(&key(Setting::Identity))
    }

    /// Stages this device's keys.
    pub fn put_account(&mut self, account: &DeviceAccount) {
        self.put(key(Setting::Identity), &account.identity());
        self.put(key(Setting::Account), &account.pickle());
    }

    /// The next number of the device's own count of messages, from 1; never given twice.
    pub(super) fn next_local_number(&mut self) -> Result<u64, StoreError> {
        let next = self.get::<u64>(&key(Setting::Counter))?.unwrap_or(0) + 1;
        self.put(key(Setting::Counter), &next);
        Ok(next)
    }
}
