//! Keys and values as bytes.
//!
//! Records are MessagePack arrays without field names: half the size of maps, and quicker both ways. A field may
//! be added at a record's end with `#[serde(default)]`; any other change is a new format (see `directory`).

use colloquy_protocol::ids::{ConversationId, DeviceId, IdempotencyKey, UserId};
use fjall::Slice;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::model::cursor::CursorKind;
use crate::model::message::Message;
use crate::ports::{StoreError, StoreResult};

/// Bytes of a UUID in a key.
pub(super) const ID: usize = 16;
/// Parts the variable-length fields of a key; no device id can hold it.
const SEPARATOR: u8 = 0;

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) conversation_id: ConversationId,
    pub(super) sequence_number: u64,
}

impl Position {
    /// The message's key.
    pub(super) fn key(self) -> [u8; ID + 8] {
        let mut key = [0; ID + 8];
        key[..ID].copy_from_slice(self.conversation_id.0.as_bytes());
        key[ID..].copy_from_slice(&self.sequence_number.to_be_bytes());
        key
    }

    /// The position as a value. Leading zeros of the number are left out: with less than 2^32 messages in the
    /// conversation it takes 20 bytes, which fjall keeps without an allocation.
    pub(super) fn encode(self) -> Slice {
        let zeros = (self.sequence_number.leading_zeros() / 8).min(7) as usize;
        let mut bytes = [0; ID + 8];
        bytes[..ID].copy_from_slice(self.conversation_id.0.as_bytes());
        bytes[ID..ID + 8 - zeros].copy_from_slice(&self.sequence_number.to_be_bytes()[zeros..]);
        Slice::from(&bytes[..ID + 8 - zeros])
    }

    pub(super) fn decode(bytes: &[u8]) -> StoreResult<Self> {
        let (id, number) = bytes.split_at_checked(ID).ok_or_else(|| malformed("position"))?;
        if !(1..=8).contains(&number.len()) {
            return Err(malformed("position"));
        }
        let mut wide = [0; 8];
        wide[8 - number.len()..].copy_from_slice(number);
        let conversation_id = ConversationId(read_uuid(id)?);
        Ok(Self { conversation_id, sequence_number: u64::from_be_bytes(wide) })
    }
}

/// Two ids, one after the other.
pub(super) fn id_pair(first: Uuid, second: Uuid) -> [u8; 2 * ID] {
    let mut key = [0; 2 * ID];
    key[..ID].copy_from_slice(first.as_bytes());
    key[ID..].copy_from_slice(second.as_bytes());
    key
}

/// A sender's idempotency key.
pub(super) fn idempotency_key(sender_id: UserId, key: IdempotencyKey) -> [u8; 2 * ID] {
    id_pair(sender_id.0, key.uuid())
}

/// A device of a user.
pub(super) fn device_key(user_id: UserId, device_id: &DeviceId) -> Vec<u8> {
    [user_id.0.as_bytes(), device_id.as_str().as_bytes()].concat()
}

/// What belongs to a device of a user: its key, a separator, and then `rest`. With an empty `rest` it is the
/// prefix of all that belongs to the device, and of nothing else.
pub(super) fn device_row(user_id: UserId, device_id: &DeviceId, rest: &[u8]) -> Vec<u8> {
    [user_id.0.as_bytes(), device_id.as_str().as_bytes(), &[SEPARATOR], rest].concat()
}

/// A cursor.
pub(super) fn cursor_key(user_id: UserId, conversation_id: ConversationId, kind: &CursorKind) -> Vec<u8> {
    let (tag, device): (u8, &str) = match kind {
        CursorKind::Delivered(device_id) => (1, device_id.as_str()),
        CursorKind::Read => (2, ""),
        CursorKind::Sent => (3, ""),
    };
    [user_id.0.as_bytes(), conversation_id.0.as_bytes(), &[tag][..], device.as_bytes()].concat()
}

/// The inverse of [`cursor_key`].
pub(super) fn read_cursor_key(key: &[u8]) -> StoreResult<(UserId, ConversationId, CursorKind)> {
    let (ids, kind) = key.split_at_checked(2 * ID).ok_or_else(|| malformed("cursor"))?;
    let kind = match kind {
        [1, device @ ..] => {
            let text = str::from_utf8(device).map_err(StoreError::corrupt)?;
            CursorKind::Delivered(DeviceId::new(text).map_err(StoreError::corrupt)?)
        }
        [2] => CursorKind::Read,
        [3] => CursorKind::Sent,
        _ => return Err(malformed("cursor")),
    };
    Ok((UserId(read_uuid(&ids[..ID])?), ConversationId(read_uuid(&ids[ID..])?), kind))
}

/// A UUID from its 16 bytes.
pub(super) fn read_uuid(bytes: &[u8]) -> StoreResult<Uuid> {
    Uuid::from_slice(bytes).map_err(StoreError::corrupt)
}

/// A number from its 8 bytes.
pub(super) fn read_u64(bytes: &[u8]) -> StoreResult<u64> {
    bytes.try_into().map(u64::from_be_bytes).map_err(StoreError::corrupt)
}

/// A record as bytes.
pub(super) fn encode<T: Serialize>(record: &T) -> StoreResult<Slice> {
    rmp_serde::to_vec(record).map(Slice::from).map_err(StoreError::corrupt)
}

/// A record from bytes.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> StoreResult<T> {
    rmp_serde::from_slice(bytes).map_err(StoreError::corrupt)
}

/// A message as bytes. Its number is in its key, so that it can be encoded before it has one.
pub(super) fn encode_message(message: &Message, buffer: &mut Vec<u8>) -> StoreResult<Slice> {
    buffer.clear();
    rmp_serde::encode::write(buffer, message).map_err(StoreError::corrupt)?;
    Ok(Slice::from(&buffer[..]))
}

/// A message from bytes, with the number its key gives.
pub(super) fn decode_message(bytes: &[u8], sequence_number: u64) -> StoreResult<Message> {
    let mut message: Message = decode(bytes)?;
    message.sequence_number = sequence_number;
    Ok(message)
}

/// A row that is not what it must be.
pub(super) fn malformed(what: &'static str) -> StoreError {
    StoreError::corrupt(format!("malformed {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back_and_is_short_while_numbers_are_small() {
        for sequence_number in [0, 1, 255, 256, u64::from(u32::MAX), u64::from(u32::MAX) + 1, u64::MAX] {
            let position = Position { conversation_id: ConversationId(Uuid::from_u128(7)), sequence_number };
            let bytes = position.encode();
            assert_eq!(Position::decode(&bytes).unwrap(), position);
            assert!(bytes.len() <= 20 || sequence_number > u64::from(u32::MAX));
        }
        assert!(Position::decode(&[0; ID]).is_err());
        assert!(Position::decode(&[0; ID + 9]).is_err());
    }

    #[test]
    fn a_cursor_key_reads_back() {
        let (user, conversation) = (UserId(Uuid::from_u128(1)), ConversationId(Uuid::from_u128(2)));
        let delivered = CursorKind::Delivered(DeviceId::new("phone-abc").unwrap());
        for kind in [delivered, CursorKind::Read, CursorKind::Sent] {
            let key = cursor_key(user, conversation, &kind);
            assert_eq!(read_cursor_key(&key).unwrap(), (user, conversation, kind));
        }
    }

    #[test]
    fn one_device_id_that_begins_with_another_shares_no_prefix_with_it() {
        let user = UserId(Uuid::from_u128(1));
        let [short, long] = ["phone", "phone-2"].map(|id| DeviceId::new(id).unwrap());
        assert!(!device_row(user, &long, b"key").starts_with(&device_row(user, &short, b"")));
    }
}
