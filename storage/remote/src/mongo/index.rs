//! An index: what it has to be, and what is wrong with one that is there.

use std::time::Duration;

use mongodb::IndexModel;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::IndexOptions;

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

/// What keeps an index that has the right name from doing what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It is an index of something else.
    #[error("has other keys than it should")]
    Keys,
    /// What it has to refuse comes in (ORDER, ONCE, FENCE).
    #[error("is not unique")]
    NotUnique,
    /// It refuses what has to come in.
    #[error("is unique and should not be")]
    Unique,
    /// Other documents are in it, and unique among themselves, than should be.
    #[error("holds other documents than it should")]
    Filter,
}

/// What is wrong with the index that is `there` where `wanted` should be. Not its age, which can be changed.
pub(in crate::mongo) fn flaw(wanted: &IndexModel, there: &IndexModel) -> Option<Flaw> {
    let options = |model: &IndexModel| model.options.clone().unwrap_or_default();
    let is_unique = |options: &IndexOptions| options.unique == Some(true);
    let (of_wanted, of_there) = (options(wanted), options(there));
    if !is_same_order(&wanted.keys, &there.keys) {
        return Some(Flaw::Keys);
    }
    match (is_unique(&of_wanted), is_unique(&of_there)) {
        (true, false) => return Some(Flaw::NotUnique),
        (false, true) => return Some(Flaw::Unique),
        _ => {}
    }
    let is_same_filter = of_wanted.partial_filter_expression == of_there.partial_filter_expression;
    (!is_same_filter).then_some(Flaw::Filter)
}

/// A shell writes 1 as a floating-point number, and some servers read it back as they like.
fn is_same_order(one: &Document, other: &Document) -> bool {
    let direction = |value: &Bson| match value {
        Bson::Int32(number) => Some(f64::from(*number)),
        Bson::Int64(number) => Some(*number as f64),
        Bson::Double(number) => Some(*number),
        _ => None,
    };
    let is_same = |(one, other): ((&String, &Bson), (&String, &Bson))| {
        one.0 == other.0 && direction(one.1).is_some() && direction(one.1) == direction(other.1)
    };
    one.len() == other.len() && one.iter().zip(other).all(is_same)
}

pub(in crate::mongo) fn name_of(model: &IndexModel) -> &str {
    model.options.as_ref().and_then(|options| options.name.as_deref()).unwrap_or_default()
}

pub(in crate::mongo) fn age_of(model: &IndexModel) -> Option<Duration> {
    model.options.as_ref().and_then(|options| options.expire_after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(builder: IndexBuilder) -> IndexModel {
        builder.build().1
    }

    #[test]
    fn an_index_that_is_not_what_it_should_be_is_told_from_one_that_is() {
        let phone = || index("users", "phone", doc! { "phone": 1 });
        let wanted = model(phone().unique().only_with("phone"));
        let there = |builder: IndexBuilder| flaw(&wanted, &model(builder));
        let by_hand = index("users", "phone", doc! { "phone": 1.0 }).unique().only_with("phone");
        assert_eq!(there(by_hand), None);
        assert_eq!(there(index("users", "phone", doc! { "phone": -1 }).unique()), Some(Flaw::Keys));
        assert_eq!(there(index("users", "phone", doc! { "phone": 1, "_id": 1 }).unique()), Some(Flaw::Keys));
        assert_eq!(there(index("users", "phone", doc! { "phone": "hashed" }).unique()), Some(Flaw::Keys));
        assert_eq!(there(phone().only_with("phone")), Some(Flaw::NotUnique));
        assert_eq!(there(phone().unique().only_with("email")), Some(Flaw::Filter));
        assert_eq!(flaw(&model(phone()), &model(phone().unique())), Some(Flaw::Unique));
        let aged = |days| model(phone().expires_after(Duration::from_secs(days)));
        assert_eq!(flaw(&aged(1), &aged(2)), None, "which is changed, not refused");
    }
}
