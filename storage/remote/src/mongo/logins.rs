//! Log-ins. Each change is of one document, under the condition that it is still as it was read.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{DeviceId, LoginId, UserId};
use colloquy_storage::model::login::{Login, Presented, Rotation};
use colloquy_storage::ports::{Logins, StoreError, StoreResult};
use mongodb::bson::{Bson, Document, RawDocument, doc};
use mongodb::options::ReturnDocument;
use tokio::time::sleep;

use super::engine::Engine;
use super::error::{is_duplicate, unavailable};
use super::index::{Index, index};
use super::row::{Fields, date, malformed, number, uuid};

const LOGINS: &str = "logins";

/// How often a rotation starts over because another was faster. The second time it is answered as a retry, unless a
/// majority does not have the faster one yet.
const ROTATIONS_MAX: usize = 8;
/// Before a rotation starts over.
const ROTATION_PAUSE: Duration = Duration::from_millis(20);

pub(in crate::mongo) fn indexes() -> Vec<Index> {
    vec![index(LOGINS, "of_user", doc! { "user_id": 1, "created_at": -1, "_id": -1 }).build()]
}

pub(in crate::mongo) struct MongoLogins(pub(in crate::mongo) Arc<Engine>);

/// What presenting a refresh token comes to.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Rotate,
    Repeat,
    Revoke,
    Unknown,
}

fn verdict(login: &Login, presented: Presented, now: UnixMillis, grace: Duration) -> Verdict {
    let Presented { generation, request_id } = presented;
    if generation == login.generation {
        return Verdict::Rotate;
    }
    if generation > login.generation {
        // No token of this generation was ever made.
        return Verdict::Unknown;
    }
    let is_soon = Duration::from_millis(now.abs_diff(login.rotated_at)) <= grace;
    let is_retry = request_id.is_some() && request_id == login.rotated_by;
    if generation + 1 == login.generation && (is_soon || is_retry) {
        Verdict::Repeat
    } else {
        Verdict::Revoke
    }
}

#[async_trait]
impl Logins for MongoLogins {
    async fn create(&self, login: Login) -> StoreResult<()> {
        let (logins, row) = (self.0.db.collection::<Document>(LOGINS), write(&login));
        match self.0.run(|| logins.insert_one(&row)).await {
            Ok(_) => Ok(()),
            // A retry; the log-in may have been rotated since.
            Err(error) if is_duplicate(&error) => Ok(()),
            Err(error) => Err(unavailable(&error)),
        }
    }

    async fn get(&self, login_id: LoginId) -> StoreResult<Option<Login>> {
        let logins = self.0.collection(LOGINS);
        let row = self.0.ask(|| logins.find_one(doc! { "_id": uuid(login_id.0) })).await?;
        row.map(|row| read(&row)).transpose()
    }

    async fn list(&self, user_id: UserId) -> StoreResult<Vec<Login>> {
        let logins = self.0.collection(LOGINS);
        let newest_first = doc! { "created_at": -1, "_id": -1 };
        let find = || logins.find(doc! { "user_id": uuid(user_id.0) }).sort(newest_first.clone());
        self.0.all(find).await?.iter().map(|row| read(row)).collect()
    }

    async fn rotate(
        &self,
        login_id: LoginId,
        presented: Presented,
        now: UnixMillis,
        grace: Duration,
    ) -> StoreResult<Rotation> {
        for _ in 0..ROTATIONS_MAX {
            let Some(login) = self.get(login_id).await? else { return Ok(Rotation::Unknown) };
            match verdict(&login, presented, now, grace) {
                Verdict::Unknown => return Ok(Rotation::Unknown),
                Verdict::Repeat => return Ok(Rotation::Repeated(login)),
                Verdict::Revoke => {
                    self.delete(login_id).await?;
                    return Ok(Rotation::Reused(login));
                }
                Verdict::Rotate => {
                    if let Some(rotated) = self.advance(&login, presented, now).await? {
                        return Ok(Rotation::Rotated(rotated));
                    }
                    sleep(ROTATION_PAUSE).await;
                }
            }
        }
        Err(StoreError::Busy)
    }

    async fn bind(&self, login_id: LoginId, device_id: &DeviceId) -> StoreResult<bool> {
        let logins = self.0.collection(LOGINS);
        let unbound = doc! { "_id": uuid(login_id.0), "device_id": { "$exists": false } };
        let bind = doc! { "$set": { "device_id": device_id.as_str() } };
        let bound = self.0.ask(|| logins.update_one(unbound.clone(), bind.clone())).await?;
        if bound.matched_count > 0 {
            return Ok(true);
        }
        let login = self.get(login_id).await?;
        Ok(login.is_some_and(|login| login.device_id.as_ref() == Some(device_id)))
    }

    async fn revoke(&self, user_id: UserId, login_id: LoginId) -> StoreResult<bool> {
        // Looked for first: a deletion that is repeated because its answer was lost finds nothing.
        if self.get(login_id).await?.is_none_or(|login| login.user_id != user_id) {
            return Ok(false);
        }
        self.delete(login_id).await?;
        Ok(true)
    }

    async fn revoke_device(&self, user_id: UserId, device_id: &DeviceId) -> StoreResult<Vec<LoginId>> {
        let logins = self.0.collection(LOGINS);
        let bound = doc! { "user_id": uuid(user_id.0), "device_id": device_id.as_str() };
        let find = || logins.find(bound.clone()).projection(doc! { "_id": 1 });
        let rows = self.0.all(find).await?;
        let ids = rows.iter().map(|row| row.uuid("_id").map(LoginId)).collect::<StoreResult<Vec<_>>>()?;
        if !ids.is_empty() {
            // A log-in that is bound stays bound, so these are the same.
            let found: Vec<Bson> = ids.iter().map(|id| uuid(id.0)).collect();
            self.0.ask(|| logins.delete_many(doc! { "_id": { "$in": found.clone() } })).await?;
        }
        Ok(ids)
    }
}

impl MongoLogins {
    /// Moves a log-in to its next generation, if it is still at the one that was read.
    async fn advance(
        &self,
        login: &Login,
        presented: Presented,
        now: UnixMillis,
    ) -> StoreResult<Option<Login>> {
        let logins = self.0.collection(LOGINS);
        let unchanged = doc! { "_id": uuid(login.login_id.0), "generation": number(login.generation) };
        let next = doc! {
            "$set": {
                "generation": number(login.generation + 1),
                "rotated_at": date(now),
                "rotated_by": presented.request_id.map_or(Bson::Null, uuid),
            },
        };
        let advance = || {
            let advance = logins.find_one_and_update(unchanged.clone(), next.clone());
            advance.return_document(ReturnDocument::After)
        };
        self.0.ask(advance).await?.map(|row| read(&row)).transpose()
    }

    async fn delete(&self, login_id: LoginId) -> StoreResult<()> {
        let logins = self.0.collection(LOGINS);
        self.0.ask(|| logins.delete_one(doc! { "_id": uuid(login_id.0) })).await.map(drop)
    }
}

fn write(login: &Login) -> Document {
    let mut row = doc! {
        "_id": uuid(login.login_id.0),
        "user_id": uuid(login.user_id.0),
        "generation": number(login.generation),
        "rotated_at": date(login.rotated_at),
        "created_at": date(login.created_at),
    };
    if let Some(device_id) = &login.device_id {
        row.insert("device_id", device_id.as_str());
    }
    if let Some(request_id) = login.rotated_by {
        row.insert("rotated_by", uuid(request_id));
    }
    row
}

fn read(row: &RawDocument) -> StoreResult<Login> {
    let device_id = row.optional_text("device_id")?;
    Ok(Login {
        login_id: LoginId(row.uuid("_id")?),
        user_id: UserId(row.uuid("user_id")?),
        device_id: device_id.map(DeviceId::new).transpose().map_err(|_| malformed("device_id"))?,
        generation: row.number("generation")?,
        rotated_at: row.date("rotated_at")?,
        created_at: row.date("created_at")?,
        rotated_by: row.optional_uuid("rotated_by")?,
    })
}
