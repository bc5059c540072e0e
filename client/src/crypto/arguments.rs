//! The arguments of an action: JSON that reads as one thing only, to a person as to any program.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Is it a JSON object in one line, without control characters, in which no key stands twice, at whatever depth? Of two
/// values under one key some programs take the first, and others the last; a line break can make one row look like another.
/// Nesting is as deep as the parser allows (128).
#[must_use]
pub(super) fn is_unambiguous_object(json: &str) -> bool {
    json.starts_with('{')
        && !json.contains(char::is_control)
        && serde_json::from_str::<Unambiguous>(json).is_ok()
}

/// Any JSON value in which no key stands twice.
struct Unambiguous;

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Unambiguous {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON in which no key stands twice")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E: Error>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if !keys.insert(key) {
                return Err(A::Error::custom("a key stands twice"));
            }
            entries.next_value::<Self>()?;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_in_one_line_is_taken_as_it_is_written() {
        for good in [
            "{}",
            r#"{ "a": [1, 2.50, -3, null, true, "\n\u0000"] }"#,
            r#"{"a":{"a":1},"b":[{"a":1},{"a":2}]}"#,
            r#"{"A":1,"a":2,"":3}"#,
        ] {
            assert!(is_unambiguous_object(good), "{good}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_not() {
        for bad in [
            "",
            "[]",
            "3",
            "null",
            "{",
            "{}{}",
            r#"{"a"}"#,
            "\"{}\"",
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"a":[{"b":{"c":1,"c":1}}]}"#,
            "{\"a\":\n1}",
            "{\"a\":\t1}",
            "{\"a\": 1}\r",
            "{\"a\":\"\u{7f}\"}",
            "{\"a\":\"\u{85}\"}",
            "{\"a\":\"\u{1b}[2J\"}",
        ] {
            assert!(!is_unambiguous_object(bad), "{bad:?}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
        assert!(!is_unambiguous_object(&deep));
    }
}
