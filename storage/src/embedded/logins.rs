//! Log-ins.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{DeviceId, LoginId, UserId};

use super::Engine;
use super::encoding::{ID, decode, encode, id_pair, malformed, read_uuid};
use super::group::Group;
use super::keyspaces::Space;
use super::snapshot::{Rows, Snapshot};
use crate::model::login::{Login, Presented, Rotation};
use crate::ports::{Logins, StoreResult};

pub(super) struct EmbeddedLogins(pub(super) Arc<Engine>);

#[async_trait]
impl Logins for EmbeddedLogins {
    async fn create(&self, login: Login) -> StoreResult<()> {
        self.0.write(move |group| create(group, &login)).await
    }

    async fn get(&self, login_id: LoginId) -> StoreResult<Option<Login>> {
        get(&self.0.snapshot(), login_id)
    }

    async fn list(&self, user_id: UserId) -> StoreResult<Vec<Login>> {
        self.0.scan(move |rows| list(rows, user_id)).await
    }

    async fn rotate(
        &self,
        login_id: LoginId,
        presented: Presented,
        now: UnixMillis,
        grace: Duration,
    ) -> StoreResult<Rotation> {
        self.0.write(move |group| rotate(group, login_id, presented, now, grace)).await
    }

    async fn bind(&self, login_id: LoginId, device_id: &DeviceId) -> StoreResult<bool> {
        let device_id = device_id.clone();
        self.0.write(move |group| bind(group, login_id, device_id)).await
    }

    async fn revoke(&self, user_id: UserId, login_id: LoginId) -> StoreResult<bool> {
        let revoke = move |group: &mut Group| {
            let found = get(group, login_id)?.filter(|login| login.user_id == user_id);
            Ok(found.map(|login| remove(group, &login)).is_some())
        };
        self.0.write(revoke).await
    }

    async fn revoke_device(&self, user_id: UserId, device_id: &DeviceId) -> StoreResult<Vec<LoginId>> {
        let device_id = device_id.clone();
        self.0.write(move |group| revoke_device(group, user_id, &device_id)).await
    }
}

fn get(rows: &impl Rows, login_id: LoginId) -> StoreResult<Option<Login>> {
    rows.get(Space::Logins, login_id.0.as_bytes())?.map(|bytes| decode(&bytes)).transpose()
}

fn indexed(rows: &impl Rows, key: &[u8]) -> StoreResult<Login> {
    get(rows, LoginId(read_uuid(&key[ID..])?))?.ok_or_else(|| malformed("index: no such log-in"))
}

fn list(rows: &Snapshot, user_id: UserId) -> StoreResult<Vec<Login>> {
    let mut logins: Vec<Login> = rows
        .prefix(Space::UserLogins, user_id.0.as_bytes())
        .map(|row| indexed(rows, &row?.0))
        .collect::<StoreResult<_>>()?;
    logins.sort_by_key(|login| std::cmp::Reverse((login.created_at, login.login_id)));
    Ok(logins)
}

fn create(group: &mut Group, login: &Login) -> StoreResult<()> {
    if get(group, login.login_id)?.is_some() {
        // A retry; the log-in may have been rotated since.
        return Ok(());
    }
    group.put(Space::UserLogins, id_pair(login.user_id.0, login.login_id.0), *b"");
    put(group, login)
}

fn rotate(
    group: &mut Group,
    login_id: LoginId,
    presented: Presented,
    now: UnixMillis,
    grace: Duration,
) -> StoreResult<Rotation> {
    let Some(mut login) = get(group, login_id)? else { return Ok(Rotation::Unknown) };
    let Presented { generation, request_id } = presented;
    if generation == login.generation {
        login.generation += 1;
        login.rotated_at = now;
        login.rotated_by = request_id;
        put(group, &login)?;
        return Ok(Rotation::Rotated(login));
    }
    if generation > login.generation {
        // No token of this generation was ever made.
        return Ok(Rotation::Unknown);
    }
    let is_soon = Duration::from_millis(now.abs_diff(login.rotated_at)) <= grace;
    let is_retry = request_id.is_some() && request_id == login.rotated_by;
    if generation + 1 == login.generation && (is_soon || is_retry) {
        return Ok(Rotation::Repeated(login));
    }
    remove(group, &login);
    Ok(Rotation::Reused(login))
}

fn bind(group: &mut Group, login_id: LoginId, device_id: DeviceId) -> StoreResult<bool> {
    let Some(mut login) = get(group, login_id)? else { return Ok(false) };
    if let Some(bound) = &login.device_id {
        return Ok(*bound == device_id);
    }
    login.device_id = Some(device_id);
    put(group, &login)?;
    Ok(true)
}

fn revoke_device(group: &mut Group, user_id: UserId, device_id: &DeviceId) -> StoreResult<Vec<LoginId>> {
    let mut revoked = Vec::new();
    for (key, _) in group.prefix(Space::UserLogins, user_id.0.as_bytes())? {
        let login = indexed(group, &key)?;
        if login.device_id.as_ref() == Some(device_id) {
            remove(group, &login);
            revoked.push(login.login_id);
        }
    }
    Ok(revoked)
}

fn put(group: &mut Group, login: &Login) -> StoreResult<()> {
    group.put(Space::Logins, *login.login_id.0.as_bytes(), encode(login)?);
    Ok(())
}

fn remove(group: &mut Group, login: &Login) {
    group.remove(Space::Logins, *login.login_id.0.as_bytes());
    group.remove(Space::UserLogins, id_pair(login.user_id.0, login.login_id.0));
}
