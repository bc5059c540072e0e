//! Registering, logging in and out: who this profile is.

use colloquy_protocol::ids::{DeviceAddress, DeviceId, UserId};
use colloquy_protocol::rest::accounts::{LogIn, Register, Tokens};
use colloquy_protocol::rest::devices::{PublishKeys, RegisterDevice};

use super::{Client, ClientError};
use crate::ambient;
use crate::crypto::DeviceAccount;
use crate::profile::{Identifier, Registration};
use crate::store::{LogInRecord, ProfileRecord, StoreError, Transaction};

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
        let (phone, email) = match identifier {
            Identifier::Phone(phone) => (Some(phone), None),
            Identifier::Email(email) => (None, Some(email)),
        };
        let tokens = self.api().log_in(&LogIn { phone, email, password }).await?;
        self.adopt(tokens).await
    }

    async fn adopt(&self, tokens: Tokens) -> Result<UserId, ClientError> {
        let user_id = tokens.user_id;
        let (server_url, wanted) = (self.inner.server_url.clone(), self.inner.wanted_device_id.clone());
        let platform = self.shared().platform.clone();
        let (device, body, again) = self
            .shared()
            .store
            .update_off_thread(move |tx| prepare_device(tx, tokens, server_url, wanted, &platform))
            .await?;
        self.call(|api, token| {
            let (device, body) = (device.clone(), body.clone());
            async move { api.register_device(&token, &device, &body).await }
        })
        .await?;
        if let Some(keys) = again {
            // A server that knows the device has changed nothing: it must hear of the keys made since.
            self.call(|api, token| {
                let (device, keys) = (device.clone(), keys.clone());
                async move { api.publish_keys(&token, &device, &keys).await }
            })
            .await?;
        }
        self.shared()
            .store
            .update_off_thread(|tx| {
                if let Some(mut account) = tx.account()? {
                    account.mark_published();
                    tx.put_account(&account);
                }
                Ok::<_, StoreError>(())
            })
            .await?;
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

/// Stores a log-in, and the profile and keys if it is the first one; returns what registers the device.
fn prepare_device(
    tx: &mut Transaction<'_>,
    tokens: Tokens,
    server_url: String,
    wanted: Option<DeviceId>,
    platform: &str,
) -> Result<(DeviceId, RegisterDevice, Option<PublishKeys>), ClientError> {
    let user_id = tokens.user_id;
    let before = tx.profile()?;
    let was_used = before.is_some();
    let profile = match before {
        Some(profile) if profile.user_id != user_id => return Err(ClientError::OtherUser),
        Some(profile) => profile,
        None => ProfileRecord {
            server_url,
            user_id,
            device_id: wanted.unwrap_or_else(|| random_device_id(platform)),
            fallback_rotated_at: ambient::now(),
        },
    };
    let address = DeviceAddress { user_id, device_id: profile.device_id.clone() };
    let mut account = tx.account()?.unwrap_or_else(|| DeviceAccount::generate(address));
    let body = account.registration(platform);
    let again = was_used.then(|| account.unpublished());
    tx.put_account(&account);
    tx.put_profile(&profile);
    tx.put_log_in(&LogInRecord::from(tokens));
    Ok((profile.device_id, body, again))
}

fn random_device_id(platform: &str) -> DeviceId {
    let mut bytes = [0; 6];
    ambient::fill(&mut bytes);
    let suffix: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    DeviceId::new(&format!("{platform}-{suffix}"))
        .or_else(|_| DeviceId::new(&format!("device-{suffix}")))
        .expect("hexadecimal digits and hyphens make a device id")
}
