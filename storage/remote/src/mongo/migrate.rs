//! The collections and their indexes: what ORDER, ONCE and FENCE rest on, what look-ups need, and what deletes by age.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use colloquy_storage::ports::{StoreError, StoreResult};
use mongodb::IndexModel;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::Error;
use mongodb::options::WriteConcern;
use tokio::time::{MissedTickBehavior, interval};

use super::engine::Engine;
use super::error::{has_code, is_duplicate, unavailable};
use super::index::{Index, age_of, flaw, name_of};
use super::options::MongoOptions;
use super::{
    OpenError, accounts, agents, conversations, cursors, dead_letters, key_directory, logins, message_log,
    outbox, planned,
};

/// Where it is written that a database was migrated.
const SCHEMA: &str = "schema";
/// Grows when indexes are added that the program cannot do without.
const SCHEMA_VERSION: i32 = 3;
/// The server's code for a collection that does not exist.
const NAMESPACE_NOT_FOUND: i32 = 26;
/// The server's code for a collection that exists.
const NAMESPACE_EXISTS: i32 = 48;
/// The server's code for an index that exists with another age.
const INDEX_OPTIONS_CONFLICT: i32 = 85;
/// Others may migrate at the same time, to another age: how often it is looked what is there.
const PLANS_MAX: usize = 5;
/// How long the indexes of one collection may take to be built: a large one takes hours.
const BUILD_DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);
/// How often it is said that they are still being built.
const BUILD_TOLD_EVERY: Duration = Duration::from_secs(10);

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
    indexes.extend(agents::indexes());
    indexes.extend(dead_letters::indexes());
    indexes.extend(planned::indexes(options.keep_idempotency_keys));
    indexes
}

/// Collections whose documents are found by their ids alone.
fn plain_collections() -> Vec<&'static str> {
    [
        message_log::COLLECTIONS.as_slice(),
        key_directory::COLLECTIONS.as_slice(),
        outbox::COLLECTIONS.as_slice(),
    ]
    .concat()
}

/// Makes what is missing, and returns when it is there. May be run again, and by several at once. Says in the log that
/// indexes are being built, for as long as they are.
///
/// # Errors
/// See [`OpenError`]. What was made until then stays.
pub async fn migrate(options: &MongoOptions) -> Result<Migration, OpenError> {
    migrate_on(&Engine::connect(options).await?, options).await
}

pub(in crate::mongo) async fn migrate_on(
    engine: &Engine,
    options: &MongoOptions,
) -> Result<Migration, OpenError> {
    let mut done = Migration::default();
    let mut plans = Vec::new();
    // All of it before anything is built: what is built may take long, and be in vain.
    for (collection, models) in by_collection(indexes(options)) {
        plans.push(plan(engine, collection, models, &mut done).await?);
    }
    make_collections(engine, &mut done).await?;
    for mut wanted in plans {
        let mut attempts = 1;
        while !wanted.carry_out(engine).await? {
            // Somebody else has changed an age since it was looked at: what is there has it now.
            if attempts >= PLANS_MAX {
                return Err(StoreError::Busy.into());
            }
            attempts += 1;
            let models = indexes_of(options, wanted.collection);
            wanted = plan(engine, wanted.collection, models, &mut Migration::default()).await?;
        }
    }
    // Only now: an index that is still being built is shown among the others.
    mark(engine).await?;
    Ok(done)
}

fn indexes_of(options: &MongoOptions, collection: &str) -> Vec<IndexModel> {
    indexes(options).into_iter().filter(|(of, _)| *of == collection).map(|(_, model)| model).collect()
}

fn by_collection(indexes: Vec<Index>) -> BTreeMap<&'static str, Vec<IndexModel>> {
    let mut by_collection: BTreeMap<&'static str, Vec<IndexModel>> = BTreeMap::new();
    for (collection, model) in indexes {
        by_collection.entry(collection).or_default().push(model);
    }
    by_collection
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

/// What is to be done to the indexes of one collection.
struct Plan {
    collection: &'static str,
    /// Every index, those that are there with the age that they have.
    models: Vec<IndexModel>,
    /// Names and ages of those that are to delete at another age.
    ages: Vec<(String, Duration)>,
}

async fn plan(
    engine: &Engine,
    collection: &'static str,
    mut models: Vec<IndexModel>,
    done: &mut Migration,
) -> Result<Plan, OpenError> {
    let existing = existing(engine, collection).await?;
    let mut ages = Vec::new();
    for model in &mut models {
        let name = name_of(model).to_owned();
        let full_name = format!("{collection}.{name}");
        let Some(there) = existing.get(&name) else {
            done.made.push(full_name);
            continue;
        };
        refuse_flawed(collection, model, there)?;
        let Some(wanted) = age_of(model).filter(|wanted| age_of(there) != Some(*wanted)) else { continue };
        if let Some(options) = &mut model.options {
            options.expire_after = age_of(there);
        }
        done.changed.push(full_name);
        ages.push((name, wanted));
    }
    Ok(Plan { collection, models, ages })
}

impl Plan {
    /// Says whether it could be done: not if what is there is no longer what was planned for.
    async fn carry_out(&self, engine: &Engine) -> StoreResult<bool> {
        let Self { collection, models, ages } = self;
        // Those that are there, too: whoever asks for an index that is being built waits for it.
        tokio::select! {
            built = build(engine, collection, models) => match built {
                Err(error) if has_code(&error, INDEX_OPTIONS_CONFLICT) => return Ok(false),
                built => built.map_err(|error| unavailable(&error))?,
            },
            never = tell_of_building(collection) => match never {},
        }
        for (name, age) in ages {
            set_age(engine, collection, name, *age).await?;
        }
        Ok(true)
    }
}

async fn build(engine: &Engine, collection: &str, models: &[IndexModel]) -> Result<(), Error> {
    let target = engine.collection(collection);
    let build = || target.create_indexes(models.to_vec()).write_concern(WriteConcern::majority());
    engine.run_within(BUILD_DEADLINE, build).await.map(drop)
}

/// Says every while that it takes a while.
async fn tell_of_building(collection: &str) -> Infallible {
    let mut ticks = interval(BUILD_TOLD_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first comes at once.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        tracing::info!(collection, "indexes are being built");
    }
}

/// The indexes of a collection by name, also those that are still being built.
async fn existing(engine: &Engine, collection: &str) -> StoreResult<BTreeMap<String, IndexModel>> {
    let target = engine.collection(collection);
    let list = || async {
        let mut cursor = target.list_indexes().await?;
        let mut indexes = BTreeMap::new();
        while cursor.advance().await? {
            let model = cursor.deserialize_current()?;
            indexes.insert(name_of(&model).to_owned(), model);
        }
        Ok(indexes)
    };
    match engine.run(list).await {
        Err(error) if has_code(&error, NAMESPACE_NOT_FOUND) => Ok(BTreeMap::new()),
        listed => listed.map_err(|error| unavailable(&error)),
    }
}

fn refuse_flawed(collection: &'static str, wanted: &IndexModel, there: &IndexModel) -> Result<(), OpenError> {
    let name = || name_of(wanted).to_owned();
    flaw(wanted, there).map_or(Ok(()), |flaw| Err(OpenError::WrongIndex { collection, name: name(), flaw }))
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

/// Is everything there that this program cannot do without (ORDER, ONCE, FENCE)? The mark says that indexes were made; that
/// the unique ones are there is looked up, as anybody may have dropped them since.
pub(in crate::mongo) async fn require_migrated(
    engine: &Engine,
    options: &MongoOptions,
) -> Result<(), OpenError> {
    if !is_marked(engine).await? {
        return Err(OpenError::NotMigrated { database: options.database.clone() });
    }
    let mut required = indexes(options);
    required.retain(|(_, model)| model.options.as_ref().is_some_and(|options| options.unique == Some(true)));
    for (collection, models) in by_collection(required) {
        let existing = existing(engine, collection).await?;
        for wanted in models {
            let name = name_of(&wanted);
            let there = existing.get(name);
            let missing = || OpenError::MissingIndex { collection, name: name.to_owned() };
            refuse_flawed(collection, &wanted, there.ok_or_else(missing)?)?;
        }
    }
    Ok(())
}

async fn is_marked(engine: &Engine) -> StoreResult<bool> {
    let schema = engine.db.collection::<Document>(SCHEMA);
    let mark = engine.ask(|| schema.find_one(doc! { "_id": SCHEMA })).await?;
    let version = mark.and_then(|mark| mark.get("version").and_then(Bson::as_i32));
    Ok(version.is_some_and(|version| version >= SCHEMA_VERSION))
}
