//! Registering, logging in and out: who this profile is.

use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{DeviceAddress, DeviceId, UserId};
use colloquy_protocol::rest::accounts::{LogIn, Register, Tokens};

use super::{Client, ClientError};
use crate::ambient;
use crate::connection::registration::register_device;
use crate::crypto::DeviceAccount;
use crate::profile::{Identifier, Registration};
use crate::store::{LogInRecord, ProfileRecord, Transaction};

impl Client {
    /// Makes an account, logs in and registers this device.
    ///
    /// # Errors
    /// [`crate::ApiError::Refused`] with `phone_taken`, `email_taken` or `invalid_field`; [`ClientError::OtherUser`] if
    /// the profile is in use already.
    pub async fn register(&self, registration: Registration) -> Result<UserId, ClientError> {
        if self.user_id()?.is_some() {
            return Err(ClientError::OtherUser);
        }
        let Registration { phone, email, name, password } = registration;
        let tokens = self.api().register(&Register { phone, email, name, password }).await?;
        self.adopt(tokens).await
    }

    /// Logs in and registers this device. A profile that was used before keeps its device, keys and history.
    ///
    /// # Errors
    /// [`crate::ApiError::Refused`] with `invalid_credentials`; [`ClientError::OtherUser`].
    pub async fn log_in(&self, identifier: Identifier, password: String) -> Result<UserId, ClientError> {
        let mut log_in = LogIn { phone: None, email: None, agent_id: None, password };
        match identifier {
            Identifier::Phone(phone) => log_in.phone = Some(phone),
            Identifier::Email(email) => log_in.email = Some(email),
            Identifier::Agent(agent_id) => log_in.agent_id = Some(agent_id),
        }
        let tokens = self.api().log_in(&log_in).await?;
        self.adopt(tokens).await
    }

    async fn adopt(&self, tokens: Tokens) -> Result<UserId, ClientError> {
        let user_id = tokens.user_id;
        let (server_url, wanted) = (self.inner.server_url.clone(), self.inner.wanted_device_id.clone());
        let (platform, now) = (self.shared().platform.clone(), self.shared().clock.now());
        let was_used = self
            .shared()
            .store
            .update_off_thread(move |tx| prepare_device(tx, tokens, server_url, wanted, &platform, now))
            .await?;
        // If it ends here, the connection finishes it after the next start.
        register_device(self.shared(), was_used).await?;
        Ok(user_id)
    }

    /// Ends the log-in, here and at the server. Keys and history stay, for the next log-in of the same user.
    ///
    /// # Errors
    /// [`ClientError::Store`]. A server that cannot be reached is no error: the tokens run out by themselves.
    pub async fn log_out(&self) -> Result<(), ClientError> {
        self.stop().await;
        let told = self.call(|api, token| async move { api.log_out(&token).await }).await;
        if let Err(error) = told {
            tracing::debug!(%error, "the server was not told of the log-out");
        }
        Ok(self.shared().credentials.forget().await?)
    }
}

/// Stores a log-in, and the profile and keys if it is the first one; `true` if it is not.
fn prepare_device(
    tx: &mut Transaction<'_>,
    tokens: Tokens,
    server_url: String,
    wanted: Option<DeviceId>,
    platform: &str,
    now: UnixMillis,
) -> Result<bool, ClientError> {
    let user_id = tokens.user_id;
    let before = tx.profile()?;
    let was_used = before.is_some();
    let profile = match before {
        Some(profile) if profile.user_id != user_id => return Err(ClientError::OtherUser),
        Some(profile) => ProfileRecord { is_registered: false, ..profile },
        None => ProfileRecord {
            server_url,
            user_id,
            device_id: wanted.unwrap_or_else(|| random_device_id(platform)),
            fallback_rotated_at: now,
            is_registered: false,
        },
    };
    let address = DeviceAddress { user_id, device_id: profile.device_id.clone() };
    let account = tx.account()?.unwrap_or_else(|| DeviceAccount::generate(address));
    tx.put_account(&account);
    tx.put_profile(&profile);
    tx.put_log_in(&LogInRecord::new(tokens, ambient::request_id()));
    Ok(was_used)
}

fn random_device_id(platform: &str) -> DeviceId {
    let mut bytes = [0; 6];
    ambient::fill(&mut bytes);
    let suffix: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    DeviceId::new(&format!("{platform}-{suffix}"))
        .or_else(|_| DeviceId::new(&format!("device-{suffix}")))
        .expect("hexadecimal digits and hyphens make a device id")
}
