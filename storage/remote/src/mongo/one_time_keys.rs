//! One-time keys: a document each, so that claiming one is a change of one document, and nobody else gets it.
//!
//! A claimed key stays where it was, as claimed, and is thereby remembered: publishing it again brings nothing back.

use std::collections::HashMap;

use colloquy_protocol::limits::ONE_TIME_KEYS_MAX;
use colloquy_storage::model::device::PublishedKey;
use colloquy_storage::ports::StoreResult;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, RawDocument, doc};

use super::engine::Engine;
use super::error::{is_duplicates_alone, unavailable};
use super::index::{Index, index};
use super::row::{Fields, number};

const ONE_TIME_KEYS: &str = "one_time_keys";

/// Claimed one-time keys remembered for each device until it is removed, and besides these as many as are claimed between
/// two publications, at most [`ONE_TIME_KEYS_MAX`]. Beyond it those claimed first are forgotten. A client publishes again
/// what may have been lost within minutes; for that to bring a claimed key back, this many others of the same device
/// would have to be claimed in between.
pub(in crate::mongo) const CLAIMED_KEYS_REMEMBERED: u64 = 4_096;

pub(in crate::mongo) fn indexes() -> Vec<Index> {
    vec![
        // The next key to be claimed.
        index(ONE_TIME_KEYS, "claim", doc! { "owner": 1, "claimed": 1, "key_id": 1 }).build(),
        // The key to be forgotten next.
        index(ONE_TIME_KEYS, "claimed_first", doc! { "owner": 1, "claimed_at": 1 })
            .only_with("claimed_at")
            .build(),
    ]
}

/// Keys that are known, by their ids.
pub(in crate::mongo) type Known = HashMap<String, String>;

/// The one-time keys of one registration of one device, which `owner` names.
pub(in crate::mongo) struct OneTimeKeys<'a> {
    pub(in crate::mongo) engine: &'a Engine,
    pub(in crate::mongo) owner: Vec<u8>,
}

impl OneTimeKeys<'_> {
    /// The keys that are known under the ids of `keys`, claimed or not.
    pub(in crate::mongo) async fn known<'a>(
        &self,
        keys: impl Iterator<Item = &'a PublishedKey>,
    ) -> StoreResult<Known> {
        let ids: Vec<Bson> = keys.map(|key| self.id(key)).collect();
        if ids.is_empty() {
            return Ok(Known::new());
        }
        let keys = self.engine.collection(ONE_TIME_KEYS);
        let (filter, fields) = (doc! { "_id": { "$in": ids } }, doc! { "key_id": 1, "key": 1 });
        let rows = self.engine.all(|| keys.find(filter.clone()).projection(fields.clone())).await?;
        rows.iter().map(|row| Ok((row.text("key_id")?.to_owned(), row.text("key")?.to_owned()))).collect()
    }

    /// Adds keys; one that is there already, or was claimed, stays as it is.
    pub(in crate::mongo) async fn add(&self, keys: &[PublishedKey]) -> StoreResult<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let row = |key: &PublishedKey| {
            doc! {
                "_id": self.id(key),
                "owner": self.owner(),
                "key_id": &key.key_id,
                "key": &key.key,
                "signature": &key.signature,
                "claimed": false,
            }
        };
        let rows: Vec<Document> = keys.iter().map(row).collect();
        let keys = self.engine.db.collection::<Document>(ONE_TIME_KEYS);
        match self.engine.run(|| keys.insert_many(&rows).ordered(false)).await {
            Err(error) if !is_duplicates_alone(&error) => Err(unavailable(&error)),
            _ => Ok(()),
        }
    }

    /// Takes the next key: whoever changes it from unclaimed to claimed has it. One whose answer was lost is nobody's.
    pub(in crate::mongo) async fn claim(&self) -> StoreResult<Option<PublishedKey>> {
        let keys = self.engine.collection(ONE_TIME_KEYS);
        let unclaimed = self.claimed(false);
        // What is remembered is which key it was.
        let take = doc! {
            "$set": { "claimed": true },
            "$unset": { "signature": "" },
            "$currentDate": { "claimed_at": true },
        };
        let claim = || keys.find_one_and_update(unclaimed.clone(), take.clone()).sort(doc! { "key_id": 1 });
        self.engine.ask(claim).await?.map(|row| read(&row)).transpose()
    }

    pub(in crate::mongo) async fn unclaimed(&self) -> StoreResult<u64> {
        self.count(self.claimed(false)).await
    }

    /// Takes back those of `added` that nobody has claimed, if publications that crossed have made too many of them; how
    /// many are unclaimed if they have not.
    pub(in crate::mongo) async fn settle(&self, added: &[PublishedKey]) -> StoreResult<Option<u64>> {
        let unclaimed = self.unclaimed().await?;
        if unclaimed <= ONE_TIME_KEYS_MAX as u64 {
            return Ok(Some(unclaimed));
        }
        let ids: Vec<Bson> = added.iter().map(|key| self.id(key)).collect();
        self.delete(doc! { "_id": { "$in": ids }, "claimed": false }).await?;
        Ok(None)
    }

    /// Forgets the keys that were claimed first, beyond [`CLAIMED_KEYS_REMEMBERED`].
    pub(in crate::mongo) async fn forget_claimed_first(&self) -> StoreResult<()> {
        let excess = self.count(self.claimed(true)).await?.saturating_sub(CLAIMED_KEYS_REMEMBERED);
        if excess == 0 {
            return Ok(());
        }
        let keys = self.engine.collection(ONE_TIME_KEYS);
        let claimed = doc! { "owner": self.owner(), "claimed_at": { "$exists": true } };
        let first = || {
            let first = keys.find(claimed.clone()).sort(doc! { "owner": 1, "claimed_at": 1 });
            first.limit(number(excess)).projection(doc! { "_id": 1 })
        };
        let rows = self.engine.all(first).await?;
        let id = |row: &RawDocument| Bson::try_from(row.get("_id").ok()??).ok();
        let ids: Vec<Bson> = rows.iter().filter_map(|row| id(row)).collect();
        self.delete(doc! { "_id": { "$in": ids } }).await
    }

    /// Forgets every key, claimed or not.
    pub(in crate::mongo) async fn forget(&self) -> StoreResult<()> {
        self.delete(doc! { "owner": self.owner() }).await
    }

    async fn count(&self, filter: Document) -> StoreResult<u64> {
        let keys = self.engine.collection(ONE_TIME_KEYS);
        self.engine.ask(|| keys.count_documents(filter.clone())).await
    }

    async fn delete(&self, filter: Document) -> StoreResult<()> {
        let keys = self.engine.collection(ONE_TIME_KEYS);
        self.engine.ask(|| keys.delete_many(filter.clone())).await.map(drop)
    }

    fn claimed(&self, claimed: bool) -> Document {
        doc! { "owner": self.owner(), "claimed": claimed }
    }

    fn owner(&self) -> Bson {
        binary(self.owner.clone())
    }

    fn id(&self, key: &PublishedKey) -> Bson {
        // A device's id, which ends the owner, has no colon in it.
        binary([self.owner.as_slice(), b":", key.key_id.as_bytes()].concat())
    }
}

fn binary(bytes: Vec<u8>) -> Bson {
    Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes })
}

fn read(row: &RawDocument) -> StoreResult<PublishedKey> {
    Ok(PublishedKey {
        key_id: row.text("key_id")?.to_owned(),
        key: row.text("key")?.to_owned(),
        signature: row.text("signature")?.to_owned(),
    })
}

/// Those of `keys` that were never published, each once, in the order given; `None` if a key id names another key.
pub(in crate::mongo) fn new_keys(
    fallback_key: &PublishedKey,
    keys: Vec<PublishedKey>,
    known: &Known,
) -> Option<Vec<PublishedKey>> {
    let mut new = Vec::new();
    let mut given = Known::new();
    for key in keys {
        if reuses_id(fallback_key, &key) || is_other(known, &key) {
            return None;
        }
        match given.insert(key.key_id.clone(), key.key.clone()) {
            Some(before) if before != key.key => return None,
            Some(_) => {}
            None if known.contains_key(&key.key_id) => {}
            None => new.push(key),
        }
    }
    Some(new)
}

/// Do two keys have one id?
pub(in crate::mongo) fn reuses_id(known: &PublishedKey, key: &PublishedKey) -> bool {
    known.key_id == key.key_id && known.key != key.key
}

/// Is the key's id that of another known one?
pub(in crate::mongo) fn is_other(known: &Known, key: &PublishedKey) -> bool {
    known.get(&key.key_id).is_some_and(|known| *known != key.key)
}
