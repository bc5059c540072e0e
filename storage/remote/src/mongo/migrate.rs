//! The collections and their indexes: what ORDER, ONCE and FENCE rest on, what look-ups need, and what deletes by age.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use colloquy_storage::ports::StoreResult;
use mongodb::IndexModel;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::IndexOptions;

use super::engine::Engine;
use super::error::{has_code, is_duplicate, unavailable};
use super::options::MongoOptions;
use super::{OpenError, accounts, conversations, cursors, key_directory, logins, message_log, planned};

/// Where it is written that a database was migrated.
const SCHEMA: &str = "schema";
/// Grows when indexes are added that the program cannot do without.
const SCHEMA_VERSION: i32 = 2;
/// The server's code for a collection that does not exist.
const NAMESPACE_NOT_FOUND: i32 = 26;
/// The server's code for a collection that exists.
const NAMESPACE_EXISTS: i32 = 48;

/// An index and the collection it belongs to.
pub(in crate::mongo) type Index = (&'static str, IndexModel);

/// An index in the making.
pub(in crate::mongo) struct IndexBuilder {
    collection: &'static str,
    keys: Document,
    options: IndexOptions,
}

/// An index called `name`.
pub(in crate::mongo) fn index(collection: &'static str, name: &str, keys: Document) -> IndexBuilder {
    IndexBuilder { collection, keys, options: IndexOptions::builder().name(name.to_owned()).build() }
}

impl IndexBuilder {
    /// Refuses a second document with the same keys.
    pub(in crate::mongo) fn unique(mut self) -> Self {
        self.options.unique = Some(true);
        self
    }

    /// Holds only documents that have this field.
    pub(in crate::mongo) fn only_with(mut self, field: &'static str) -> Self {
        self.options.partial_filter_expression = Some(doc! { field: { "$exists": true } });
        self
    }

    /// Deletes what is older.
    pub(in crate::mongo) fn expires_after(mut self, age: Duration) -> Self {
        self.options.expire_after = Some(age);
        self
    }

    pub(in crate::mongo) fn build(self) -> Index {
        (self.collection, IndexModel::builder().keys(self.keys).options(self.options).build())
    }
}

/// What a migration has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Migration {
    /// Collections that were made, and indexes, as `collection.index`.
    pub made: Vec<String>,
    /// Indexes that now delete at another age.
    pub changed: Vec<String>,
}

impl fmt::Display for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.made.is_empty() && self.changed.is_empty() {
            return f.write_str("nothing to do");
        }
        let lists = [("made", &self.made), ("changed", &self.changed)];
        let lists = lists.iter().filter(|(_, names)| !names.is_empty());
        let lines: Vec<String> = lists.map(|(what, names)| format!("{what} {}", names.join(", "))).collect();
        f.write_str(&lines.join("; "))
    }
}

fn indexes(options: &MongoOptions) -> Vec<Index> {
    let mut indexes = message_log::indexes(options.keep_messages);
    indexes.extend(conversations::indexes());
    indexes.extend(cursors::indexes());
    indexes.extend(accounts::indexes());
    indexes.extend(logins::indexes());
    indexes.extend(key_directory::indexes());
    indexes.extend(planned::indexes(options.keep_idempotency_keys));
    indexes
}

/// Collections whose documents are found by their ids alone.
fn plain_collections() -> Vec<&'static str> {
    [message_log::COLLECTIONS.as_slice(), key_directory::COLLECTIONS.as_slice()].concat()
}

/// Makes what is missing. May be run again, and by several at once.
///
/// # Errors
/// See [`OpenError`]. What was made until then stays.
pub async fn migrate(options: &MongoOptions) -> Result<Migration, OpenError> {
    let engine = Engine::connect(options).await?;
    let mut done = Migration::default();
    let mut by_collection: BTreeMap<&'static str, Vec<IndexModel>> = BTreeMap::new();
    for (collection, model) in indexes(options) {
        by_collection.entry(collection).or_default().push(model);
    }
    make_collections(&engine, &mut done).await?;
    for (collection, models) in by_collection {
        migrate_collection(&engine, collection, models, &mut done).await?;
    }
    mark(&engine).await?;
    Ok(done)
}

async fn make_collections(engine: &Engine, done: &mut Migration) -> StoreResult<()> {
    let existing = engine.ask(|| engine.db.list_collection_names()).await?;
    for collection in plain_collections() {
        if existing.iter().any(|name| name == collection) {
            continue;
        }
        match engine.run(|| engine.db.create_collection(collection)).await {
            Ok(()) => done.made.push(collection.to_owned()),
            // Somebody else migrates too.
            Err(error) if has_code(&error, NAMESPACE_EXISTS) => {}
            Err(error) => return Err(unavailable(&error)),
        }
    }
    Ok(())
}

async fn migrate_collection(
    engine: &Engine,
    collection: &str,
    models: Vec<IndexModel>,
    done: &mut Migration,
) -> StoreResult<()> {
    let existing = existing(engine, collection).await?;
    let mut missing = Vec::new();
    for model in models {
        let options = model.options.clone().unwrap_or_default();
        let name = options.name.unwrap_or_default();
        let full_name = format!("{collection}.{name}");
        match (existing.get(&name), options.expire_after) {
            (None, _) => {
                done.made.push(full_name);
                missing.push(model);
            }
            (Some(there), Some(wanted)) if *there != Some(wanted) => {
                set_age(engine, collection, &name, wanted).await?;
                done.changed.push(full_name);
            }
            _ => {}
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let target = engine.collection(collection);
    engine.ask(|| target.create_indexes(missing.clone())).await.map(drop)
}

/// The indexes of a collection by name, with the age at which they delete.
async fn existing(engine: &Engine, collection: &str) -> StoreResult<BTreeMap<String, Option<Duration>>> {
    let target = engine.collection(collection);
    let list = || async {
        let mut cursor = target.list_indexes().await?;
        let mut indexes = BTreeMap::new();
        while cursor.advance().await? {
            let options = cursor.deserialize_current()?.options.unwrap_or_default();
            indexes.insert(options.name.unwrap_or_default(), options.expire_after);
        }
        Ok(indexes)
    };
    match engine.run(list).await {
        Err(error) if has_code(&error, NAMESPACE_NOT_FOUND) => Ok(BTreeMap::new()),
        listed => listed.map_err(|error| unavailable(&error)),
    }
}

async fn set_age(engine: &Engine, collection: &str, name: &str, age: Duration) -> StoreResult<()> {
    let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
    let change = doc! { "collMod": collection, "index": { "name": name, "expireAfterSeconds": seconds } };
    engine.ask(|| engine.db.run_command(change.clone())).await.map(drop)
}

async fn mark(engine: &Engine) -> StoreResult<()> {
    let schema = engine.db.collection::<Document>(SCHEMA);
    let raise = || {
        let update = doc! { "$max": { "version": SCHEMA_VERSION } };
        schema.update_one(doc! { "_id": SCHEMA }, update).upsert(true)
    };
    match engine.run(raise).await {
        // Somebody else migrates too.
        Err(error) if is_duplicate(&error) => engine.ask(raise).await.map(drop),
        raised => raised.map(drop).map_err(|error| unavailable(&error)),
    }
}

/// Has [`migrate`] been here?
pub(in crate::mongo) async fn is_migrated(engine: &Engine) -> StoreResult<bool> {
    let schema = engine.db.collection::<Document>(SCHEMA);
    let mark = engine.ask(|| schema.find_one(doc! { "_id": SCHEMA })).await?;
    let version = mark.and_then(|mark| mark.get("version").and_then(Bson::as_i32));
    Ok(version.is_some_and(|version| version >= SCHEMA_VERSION))
}
