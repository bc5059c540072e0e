//! Where truth is kept: the embedded store, or MongoDB.

use std::fmt;
use std::time::Duration;

use colloquy_storage_remote::mongo::MongoOptions;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{ConfigError, refuse_if};

/// Longest database name, bytes: MongoDB's own limit.
const DATABASE_NAME_MAX_BYTES: usize = 63;
/// Most connections to one server.
const POOL_MAX: u32 = 1_000;
/// MongoDB deletes by an age of at most 2^31 - 1 seconds.
const MESSAGES_MAX_DAYS: u32 = 24_855;
const IDEMPOTENCY_KEYS_MAX_HOURS: u32 = 596_523;

/// Where truth is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// `embedded`: in `data_dir`, for one node. `mongodb`: for any number of them.
    pub backend: Backend,
    /// `mongodb://` or `mongodb+srv://`, of a replica set or a sharded cluster. There may be a password in it: better
    /// set in the environment, `COLLOQUY_STORE__MONGODB_URI`.
    pub mongodb_uri: Secret,
    /// The database's name.
    pub mongodb_database: String,
    /// Connections to each server.
    pub mongodb_pool_max: u32,
    /// Messages older than this are deleted, days. Applied by `colloquy admin migrate`. An event that an agent has signed counts for
    /// half as long, and for a week at most.
    pub messages_days: u32,
    /// Idempotency keys of requests that make no message are deleted after this, hours. Applied by
    /// `colloquy admin migrate`.
    pub idempotency_keys_hours: u32,
}

/// What keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// A database in `data_dir`.
    Embedded,
    /// MongoDB.
    Mongodb,
}

/// A value that is shown nowhere (PRIVATE).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn shown(&self) -> &'static str {
        if self.0.is_empty() { "" } else { "(not shown)" }
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.shown(), f)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.shown())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_string(SecretText)
    }
}

/// Takes text alone. What is usually said of anything else names the value, and a number in the environment has lost its
/// leading zeros by now.
struct SecretText;

/// Implements visits that refuse their value without a word of it.
macro_rules! refuse_unseen {
    ($($visit:ident($value:ty))*) => {
        $(fn $visit<E: de::Error>(self, _: $value) -> Result<Secret, E> {
            Err(E::custom(NO_TEXT))
        })*
    };
}

const NO_TEXT: &str = "must be text: one that looks like a number, a list or `true` has to be in quotes, in the \
                       environment as '\"...\"'";

impl<'de> de::Visitor<'de> for SecretText {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret(text.to_owned()))
    }

    refuse_unseen! {
        visit_bool(bool) visit_i64(i64) visit_i128(i128) visit_u64(u64) visit_u128(u128) visit_f64(f64)
        visit_bytes(&[u8])
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, _: A) -> Result<Secret, A::Error> {
        Err(de::Error::custom(NO_TEXT))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, _: A) -> Result<Secret, A::Error> {
        Err(de::Error::custom(NO_TEXT))
    }
}

impl Default for Store {
    fn default() -> Self {
        let usual = MongoOptions::new("", "colloquy");
        let whole = |age: Duration, unit: u64| u32::try_from(age.as_secs() / unit).unwrap_or(u32::MAX);
        Self {
            backend: Backend::Embedded,
            mongodb_uri: Secret::default(),
            mongodb_database: usual.database,
            mongodb_pool_max: usual.pool_max,
            messages_days: whole(usual.keep_messages, DAY_S),
            idempotency_keys_hours: whole(usual.keep_idempotency_keys, HOUR_S),
        }
    }
}

const HOUR_S: u64 = 60 * 60;
const DAY_S: u64 = 24 * HOUR_S;

impl Store {
    /// For [`colloquy_storage_remote::mongo`].
    #[must_use]
    pub fn mongo_options(&self) -> MongoOptions {
        MongoOptions {
            pool_max: self.mongodb_pool_max,
            keep_messages: Duration::from_secs(DAY_S * u64::from(self.messages_days)),
            keep_idempotency_keys: Duration::from_secs(HOUR_S * u64::from(self.idempotency_keys_hours)),
            ..MongoOptions::new(self.mongodb_uri.expose(), &self.mongodb_database)
        }
    }

    /// For how long a message is kept.
    #[must_use]
    pub fn keeps_messages(&self) -> Duration {
        match self.backend {
            Backend::Embedded => Duration::MAX,
            Backend::Mongodb => self.mongo_options().keep_messages,
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let uri = self.mongodb_uri.expose();
        let rest = uri.strip_prefix("mongodb://").or_else(|| uri.strip_prefix("mongodb+srv://"));
        let is_uri = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', '?', '@']));
        let why = "must be a mongodb:// or mongodb+srv:// address where store.backend is \"mongodb\"";
        refuse_if(self.backend == Backend::Mongodb && !is_uri, "store.mongodb_uri", why)?;
        let name = self.mongodb_database.as_str();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let is_name = (1..=DATABASE_NAME_MAX_BYTES).contains(&name.len()) && name.chars().all(is_plain);
        let why = "must be 1 to 63 letters, digits, '-' and '_'";
        refuse_if(!is_name, "store.mongodb_database", why)?;
        let is_range = (1..=POOL_MAX).contains(&self.mongodb_pool_max);
        refuse_if(!is_range, "store.mongodb_pool_max", "must be 1 to 1000")?;
        let is_range = (1..=MESSAGES_MAX_DAYS).contains(&self.messages_days);
        refuse_if(!is_range, "store.messages_days", "must be 1 to 24855")?;
        let is_range = (1..=IDEMPOTENCY_KEYS_MAX_HOURS).contains(&self.idempotency_keys_hours);
        refuse_if(!is_range, "store.idempotency_keys_hours", "must be 1 to 596523")
    }

    /// Is an address set that nobody will use?
    pub(super) fn is_unused(&self) -> bool {
        self.backend == Backend::Embedded && !self.mongodb_uri.expose().is_empty()
    }
}

/// A text that may quote a configuration, without what stands before the `@` of an address in it.
pub(super) fn without_passwords(text: &str) -> String {
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`');
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let address = &after[..after.find(ends).unwrap_or(after.len())];
        rest = match address.rfind('@') {
            Some(at) => {
                shown.push_str("(not shown)");
                &after[at..]
            }
            None => after,
        };
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use figment::Figment;
    use figment::providers::Serialized;

    use super::*;

    #[test]
    fn an_address_is_shown_nowhere() {
        let address = "mongodb://user:secret@127.0.0.1/".to_owned();
        let store = Store { mongodb_uri: address.into(), ..Store::default() };
        assert!(!format!("{store:?} {:?}", store.mongo_options()).contains("secret"));
        assert!(!toml::to_string(&store).unwrap().contains("secret"));
        assert!(store.mongo_options().uri.contains("secret"), "but it is used");
    }

    #[test]
    fn a_secret_that_was_taken_for_something_else_is_refused_without_a_word_of_it() {
        for value in ["12345678", "-12345678", "1234.5678", "true", "[\"12345678\"]", "{ a = 12345678 }"] {
            let store: Result<Store, _> = Figment::from(Serialized::defaults(Store::default()))
                .merge(("mongodb_uri", value.parse::<figment::value::Value>().unwrap()))
                .extract();
            let error = store.unwrap_err().to_string();
            assert!(error.contains("must be text") && error.contains("mongodb_uri"), "{error}");
            assert!(!error.contains("1234") && !error.contains("5678"), "{error}");
            let read = toml::from_str::<Store>(&format!("mongodb_uri = {value}")).unwrap_err();
            assert!(read.message().contains("must be text") && !read.message().contains("5678"), "{read}");
        }
        let store: Store = Figment::from(Serialized::defaults(Store::default()))
            .merge(("mongodb_uri", "\"0012345678\"".parse::<figment::value::Value>().unwrap()))
            .extract()
            .unwrap();
        assert_eq!(store.mongodb_uri.expose(), "0012345678");
    }

    #[test]
    fn a_quoted_address_loses_its_password() {
        let quoted = "found string \"mongodb://user:p@ss@a.example,b.example/?w=1\", see http://c.example";
        let shown = without_passwords(quoted);
        let expected =
            "found string \"mongodb://(not shown)@a.example,b.example/?w=1\", see http://c.example";
        assert_eq!(shown, expected);
        assert_eq!(without_passwords("no address"), "no address");
    }

    #[test]
    fn days_and_hours_are_what_mongodb_is_told() {
        let options =
            Store { messages_days: 2, idempotency_keys_hours: 3, ..Store::default() }.mongo_options();
        assert_eq!(options.keep_messages, Duration::from_secs(2 * 86_400));
        assert_eq!(options.keep_idempotency_keys, Duration::from_secs(3 * 3_600));
    }
}
