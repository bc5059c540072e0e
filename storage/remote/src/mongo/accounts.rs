//! Users. That phone numbers and addresses are unique is two partial indexes' doing; an account without one has no field.

use std::sync::Arc;

use async_trait::async_trait;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::UserId;
use colloquy_storage::model::account::{Taken, User, UserChange};
use colloquy_storage::ports::{Accounts, StoreResult};
use mongodb::bson::{Document, RawDocument, doc};
use mongodb::error::Error;
use mongodb::options::ReturnDocument;

use super::engine::{Engine, majority};
use super::error::{duplicate_index, is_duplicate, unavailable};
use super::index::{Index, index};
use super::row::{Fields, date, uuid};

const USERS: &str = "users";
const PHONE_UNIQUE: &str = "phone_unique";
const EMAIL_UNIQUE: &str = "email_unique";

pub(in crate::mongo) fn indexes() -> Vec<Index> {
    vec![
        index(USERS, PHONE_UNIQUE, doc! { "phone": 1 }).unique().only_with("phone").build(),
        index(USERS, EMAIL_UNIQUE, doc! { "email": 1 }).unique().only_with("email").build(),
    ]
}

pub(in crate::mongo) struct MongoAccounts(pub(in crate::mongo) Arc<Engine>);

#[async_trait]
impl Accounts for MongoAccounts {
    async fn create(&self, user: User) -> StoreResult<Result<(), Taken>> {
        let (users, row) = (self.0.db.collection::<Document>(USERS), write(&user));
        match self.0.run(|| users.insert_one(&row)).await {
            Ok(_) => Ok(Ok(())),
            // A retry of a creation whose answer was lost; the account may have changed since.
            Err(error) if is_duplicate(&error) && self.get(user.user_id).await?.is_some() => Ok(Ok(())),
            Err(error) => taken(&error).map(Err).ok_or_else(|| unavailable(&error)),
        }
    }

    async fn get(&self, user_id: UserId) -> StoreResult<Option<User>> {
        self.find(doc! { "_id": uuid(user_id.0) }).await
    }

    async fn find_by_phone(&self, phone: &str) -> StoreResult<Option<User>> {
        self.find(doc! { "phone": phone }).await
    }

    async fn find_by_email(&self, email: &str) -> StoreResult<Option<User>> {
        self.find(doc! { "email": email }).await
    }

    async fn change(&self, user_id: UserId, change: UserChange) -> StoreResult<Result<Option<User>, Taken>> {
        let update = update_of(change);
        if update.is_empty() {
            return self.get(user_id).await.map(Ok);
        }
        let users = self.0.collection(USERS);
        let apply = || {
            let apply = users.find_one_and_update(doc! { "_id": uuid(user_id.0) }, update.clone());
            apply.return_document(ReturnDocument::After)
        };
        match self.0.run(apply).await {
            Ok(row) => row.map(|row| read(&row)).transpose().map(Ok),
            Err(error) => taken(&error).map(Err).ok_or_else(|| unavailable(&error)),
        }
    }

    async fn seen(&self, seen: Vec<(UserId, UnixMillis)>) -> StoreResult<()> {
        let later = |(user_id, at): (UserId, UnixMillis)| {
            doc! { "q": { "_id": uuid(user_id.0) }, "u": { "$max": { "last_seen": date(at) } } }
        };
        self.0.update_many(USERS, seen.into_iter().map(later).collect(), majority()).await
    }
}

impl MongoAccounts {
    async fn find(&self, filter: Document) -> StoreResult<Option<User>> {
        let users = self.0.collection(USERS);
        let row = self.0.ask(|| users.find_one(filter.clone())).await?;
        row.map(|row| read(&row)).transpose()
    }
}

/// What is another's already, if that is what a write was refused for.
fn taken(error: &Error) -> Option<Taken> {
    match duplicate_index(error)? {
        PHONE_UNIQUE => Some(Taken::Phone),
        EMAIL_UNIQUE => Some(Taken::Email),
        _ => None,
    }
}

fn update_of(change: UserChange) -> Document {
    let (mut set, mut unset) = (Document::new(), Document::new());
    if let Some(name) = change.name {
        set.insert("name", name);
    }
    if let Some(hash) = change.password_hash {
        set.insert("password_hash", hash);
    }
    for (field, contact) in [("phone", change.phone), ("email", change.email)] {
        match contact {
            // Nobody is to be reached at an empty contact.
            Some(contact) if contact.is_empty() => drop(unset.insert(field, "")),
            Some(contact) => drop(set.insert(field, contact)),
            None => {}
        }
    }
    match change.avatar_url {
        Some(Some(url)) => drop(set.insert("avatar_url", url)),
        Some(None) => drop(unset.insert("avatar_url", "")),
        None => {}
    }
    let operators = [("$set", set), ("$unset", unset)].into_iter();
    let operators = operators.filter(|(_, fields)| !fields.is_empty());
    operators.map(|(operator, fields)| (operator.to_owned(), fields.into())).collect()
}

fn write(user: &User) -> Document {
    let mut row = doc! {
        "_id": uuid(user.user_id.0),
        "name": &user.name,
        "password_hash": &user.password_hash,
        "created_at": date(user.created_at),
    };
    for (field, contact) in [("phone", &user.phone), ("email", &user.email)] {
        if let Some(contact) = contact.as_ref().filter(|contact| !contact.is_empty()) {
            row.insert(field, contact);
        }
    }
    if let Some(url) = &user.avatar_url {
        row.insert("avatar_url", url);
    }
    if let Some(at) = user.last_seen {
        row.insert("last_seen", date(at));
    }
    row
}

fn read(row: &RawDocument) -> StoreResult<User> {
    Ok(User {
        user_id: UserId(row.uuid("_id")?),
        phone: row.optional_text("phone")?.map(str::to_owned),
        email: row.optional_text("email")?.map(str::to_owned),
        name: row.text("name")?.to_owned(),
        avatar_url: row.optional_text("avatar_url")?.map(str::to_owned),
        password_hash: row.text("password_hash")?.to_owned(),
        created_at: row.date("created_at")?,
        last_seen: row.optional_date("last_seen")?,
    })
}
