//! A document's fields: written as BSON, and read back.

use colloquy_protocol::UnixMillis;
use colloquy_storage::ports::{StoreError, StoreResult};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, RawBsonRef, RawDocument, RawDocumentBuf};
use uuid::Uuid;

/// A field that is missing or is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("the field {0} is missing or malformed")]
struct Malformed(&'static str);

pub(in crate::mongo) fn malformed(field: &'static str) -> StoreError {
    StoreError::corrupt(Malformed(field))
}

/// A UUID, as binary data of subtype 4.
pub(in crate::mongo) fn uuid(id: Uuid) -> Bson {
    Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: id.as_bytes().to_vec() })
}

/// A count or number. None reaches 2^63.
pub(in crate::mongo) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A date. Years beyond 292 million are that year.
pub(in crate::mongo) fn date(at: UnixMillis) -> DateTime {
    DateTime::from_millis(number(at))
}

/// Fields by name, with the type they should have.
pub(in crate::mongo) trait Fields {
    /// The value, unless it is missing or null.
    fn value(&self, field: &'static str) -> StoreResult<Option<RawBsonRef<'_>>>;

    fn optional_uuid(&self, field: &'static str) -> StoreResult<Option<Uuid>> {
        let Some(value) = self.value(field)? else { return Ok(None) };
        let binary = value.as_binary().ok_or_else(|| malformed(field))?;
        Uuid::from_slice(binary.bytes).map(Some).map_err(|_| malformed(field))
    }

    fn uuid(&self, field: &'static str) -> StoreResult<Uuid> {
        self.optional_uuid(field)?.ok_or_else(|| malformed(field))
    }

    fn optional_number(&self, field: &'static str) -> StoreResult<Option<u64>> {
        let Some(value) = self.value(field)? else { return Ok(None) };
        // A shell writes small numbers as 32 bits.
        let number = match value {
            RawBsonRef::Int64(number) => u64::try_from(number).ok(),
            RawBsonRef::Int32(number) => u64::try_from(number).ok(),
            _ => None,
        };
        number.map(Some).ok_or_else(|| malformed(field))
    }

    fn number(&self, field: &'static str) -> StoreResult<u64> {
        self.optional_number(field)?.ok_or_else(|| malformed(field))
    }

    fn optional_date(&self, field: &'static str) -> StoreResult<Option<UnixMillis>> {
        let Some(value) = self.value(field)? else { return Ok(None) };
        let date = value.as_datetime().and_then(|date| UnixMillis::try_from(date.timestamp_millis()).ok());
        date.map(Some).ok_or_else(|| malformed(field))
    }

    fn date(&self, field: &'static str) -> StoreResult<UnixMillis> {
        self.optional_date(field)?.ok_or_else(|| malformed(field))
    }

    fn optional_text(&self, field: &'static str) -> StoreResult<Option<&str>> {
        let Some(value) = self.value(field)? else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| malformed(field))
    }

    fn text(&self, field: &'static str) -> StoreResult<&str> {
        self.optional_text(field)?.ok_or_else(|| malformed(field))
    }
}

impl Fields for RawDocument {
    fn value(&self, field: &'static str) -> StoreResult<Option<RawBsonRef<'_>>> {
        let value = self.get(field).map_err(|_| malformed(field))?;
        Ok(value.filter(|value| value.as_null().is_none()))
    }
}

impl Fields for RawDocumentBuf {
    fn value(&self, field: &'static str) -> StoreResult<Option<RawBsonRef<'_>>> {
        Fields::value(&**self, field)
    }
}
