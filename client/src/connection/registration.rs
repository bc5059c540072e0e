//! Registering this device at the server, with its first keys: after a log-in, and again after every start until the
//! server has confirmed it.

use colloquy_protocol::ids::DeviceId;
use colloquy_protocol::rest::devices::{PublishKeys, RegisterDevice};

use super::credentials::CredentialError;
use super::engine::Shared;
use super::errand::with_token;
use crate::store::{StoreError, Transaction};

/// Registers the device of the profile. A device that `may_be_known` is also told of the keys made since.
pub(crate) async fn register_device(shared: &Shared, may_be_known: bool) -> Result<(), CredentialError> {
    let platform = shared.platform.clone();
    let (device, body) = shared.store.update_off_thread(move |tx| prepare(tx, &platform)).await?;
    let keys = PublishKeys {
        one_time_keys: body.one_time_keys.clone(),
        fallback_key: Some(body.fallback_key.clone()),
    };
    let (api, credentials) = (&shared.api, &shared.credentials);
    let call = |token: String| {
        let (device, body) = (&device, &body);
        async move { api.register_device(&token, device, body).await }
    };
    with_token(credentials, call).await?;
    if may_be_known {
        // A server that knows the device has changed nothing: it must hear of the keys made since.
        let call = |token: String| {
            let (device, keys) = (&device, &keys);
            async move { api.publish_keys(&token, device, keys).await }
        };
        with_token(credentials, call).await?;
    }
    Ok(shared.store.update_off_thread(move |tx| confirm(tx, &keys)).await?)
}

fn prepare(tx: &mut Transaction<'_>, platform: &str) -> Result<(DeviceId, RegisterDevice), StoreError> {
    let mut account = tx.account()?.ok_or(StoreError::Damaged("the account is missing"))?;
    let body = account.registration(platform);
    tx.put_account(&account);
    Ok((account.device_id().clone(), body))
}

fn confirm(tx: &mut Transaction<'_>, keys: &PublishKeys) -> Result<(), StoreError> {
    if let Some(mut account) = tx.account()? {
        account.mark_published(keys);
        tx.put_account(&account);
    }
    if let Some(mut profile) = tx.profile()? {
        profile.is_registered = true;
        tx.put_profile(&profile);
    }
    Ok(())
}
