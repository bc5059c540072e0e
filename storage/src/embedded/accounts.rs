//! Users.

use std::sync::Arc;

use async_trait::async_trait;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::UserId;

use super::Engine;
use super::encoding::{decode, encode, malformed, read_uuid};
use super::group::Group;
use super::keyspaces::Space;
use super::snapshot::{Rows, Snapshot};
use crate::model::account::{Taken, User, UserChange};
use crate::ports::{Accounts, StoreResult};

pub(super) struct EmbeddedAccounts(pub(super) Arc<Engine>);

#[async_trait]
impl Accounts for EmbeddedAccounts {
    async fn create(&self, user: User) -> StoreResult<Result<(), Taken>> {
        self.0.write(move |group| create(group, &user)).await
    }

    async fn get(&self, user_id: UserId) -> StoreResult<Option<User>> {
        get(&self.0.snapshot(), user_id)
    }

    async fn find_by_phone(&self, phone: &str) -> StoreResult<Option<User>> {
        find(&self.0.snapshot(), Space::Phones, phone)
    }

    async fn find_by_email(&self, email: &str) -> StoreResult<Option<User>> {
        find(&self.0.snapshot(), Space::Emails, email)
    }

    async fn change(&self, user_id: UserId, change: UserChange) -> StoreResult<Result<Option<User>, Taken>> {
        self.0.write(move |group| apply(group, user_id, change)).await
    }

    async fn seen(&self, seen: Vec<(UserId, UnixMillis)>) -> StoreResult<()> {
        self.0.write(move |group| note_seen(group, &seen)).await
    }
}

fn get(rows: &impl Rows, user_id: UserId) -> StoreResult<Option<User>> {
    rows.get(Space::Users, user_id.0.as_bytes())?.map(|bytes| decode(&bytes)).transpose()
}

fn find(rows: &Snapshot, index: Space, contact: &str) -> StoreResult<Option<User>> {
    let Some(user_id) = holder(rows, index, contact)? else { return Ok(None) };
    get(rows, user_id)?.ok_or_else(|| malformed("contact: no such user")).map(Some)
}

/// Whose phone number or email address it is.
fn holder(rows: &impl Rows, index: Space, contact: &str) -> StoreResult<Option<UserId>> {
    // fjall knows no empty key, and nobody is to be reached at an empty contact.
    if contact.is_empty() {
        return Ok(None);
    }
    rows.get(index, contact.as_bytes())?.map(|bytes| read_uuid(&bytes).map(UserId)).transpose()
}

/// What of `phone` and `email` is another's.
fn taken(
    group: &Group,
    user_id: UserId,
    phone: Option<&str>,
    email: Option<&str>,
) -> StoreResult<Option<Taken>> {
    for (index, contact, taken) in
        [(Space::Phones, phone, Taken::Phone), (Space::Emails, email, Taken::Email)]
    {
        let Some(contact) = contact else { continue };
        if holder(group, index, contact)?.is_some_and(|holder| holder != user_id) {
            return Ok(Some(taken));
        }
    }
    Ok(None)
}

fn create(group: &mut Group, user: &User) -> StoreResult<Result<(), Taken>> {
    if get(group, user.user_id)?.is_some() {
        // A retry of a creation whose answer was lost; the account may have changed since.
        return Ok(Ok(()));
    }
    if let Some(taken) = taken(group, user.user_id, user.phone.as_deref(), user.email.as_deref())? {
        return Ok(Err(taken));
    }
    move_contact(group, Space::Phones, user.user_id, None, user.phone.as_deref());
    move_contact(group, Space::Emails, user.user_id, None, user.email.as_deref());
    put(group, user)?;
    Ok(Ok(()))
}

fn apply(group: &mut Group, user_id: UserId, change: UserChange) -> StoreResult<Result<Option<User>, Taken>> {
    let Some(before) = get(group, user_id)? else { return Ok(Ok(None)) };
    if let Some(taken) = taken(group, user_id, change.phone.as_deref(), change.email.as_deref())? {
        return Ok(Err(taken));
    }
    let mut user = before.clone();
    user.name = change.name.unwrap_or(user.name);
    user.avatar_url = change.avatar_url.unwrap_or(user.avatar_url);
    user.phone = change.phone.or(user.phone);
    user.email = change.email.or(user.email);
    user.password_hash = change.password_hash.unwrap_or(user.password_hash);
    move_contact(group, Space::Phones, user_id, before.phone.as_deref(), user.phone.as_deref());
    move_contact(group, Space::Emails, user_id, before.email.as_deref(), user.email.as_deref());
    put(group, &user)?;
    Ok(Ok(Some(user)))
}

fn move_contact(group: &mut Group, index: Space, user_id: UserId, before: Option<&str>, after: Option<&str>) {
    if before == after {
        return;
    }
    if let Some(before) = before.filter(|contact| !contact.is_empty()) {
        group.remove(index, before);
    }
    if let Some(after) = after.filter(|contact| !contact.is_empty()) {
        group.put(index, after, *user_id.0.as_bytes());
    }
}

fn note_seen(group: &mut Group, seen: &[(UserId, UnixMillis)]) -> StoreResult<()> {
    for (user_id, at) in seen {
        let Some(mut user) = get(group, *user_id)? else { continue };
        if user.last_seen.is_none_or(|last| *at > last) {
            user.last_seen = Some(*at);
            put(group, &user)?;
        }
    }
    Ok(())
}

fn put(group: &mut Group, user: &User) -> StoreResult<()> {
    group.put(Space::Users, *user.user_id.0.as_bytes(), encode(user)?);
    Ok(())
}
