//! Identifiers. Each is its own type, so that a user can never be passed where a conversation is meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::limits::{CONTINUATIONS_MAX, DEVICE_ID_MAX_BYTES};

/// Why a text is not the identifier it was meant to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Not a UUID in its hyphenated or simple form.
    #[error("not a uuid")]
    NotUuid,
    /// A UUID, but not of version 4 (RFC 9562, section 5.4).
    #[error("not a uuid of version 4")]
    NotV4,
    /// A device id is 1 to [`DEVICE_ID_MAX_BYTES`] bytes of `A-Z a-z 0-9 . _ -`.
    #[error("not a device id")]
    NotDeviceId,
    /// A label is 1 to [`crate::limits::LABEL_MAX_BYTES`] bytes of `a-z 0-9 -`, the first a letter, the last no hyphen.
    #[error("not a label")]
    NotLabel,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::try_parse(text).map(Self).map_err(|_| InvalidId::NotUuid)
            }
        }
    };
}

uuid_id!(
    /// A person or an agent. UUID v7, given by the server.
    UserId
);
uuid_id!(
    /// A conversation. For a pair of users it is derived from the pair: see [`ConversationId::of_pair`].
    ConversationId
);
uuid_id!(
    /// A message. UUID v7, given by the conversation's owner together with its sequence number.
    MessageId
);
uuid_id!(
    /// A log-in: one family of refresh tokens. UUID v7, given by the server.
    LoginId
);
uuid_id!(
    /// One try at an answer that is shown while it is written. UUID v7, given by whoever writes: of two, the later stands.
    StreamId
);
uuid_id!(
    /// One WebSocket connection, from upgrade to close. UUID v7, given by the server.
    SessionId
);

impl ConversationId {
    /// The 1:1 conversation of two users: the same for both orders of the pair, on every pod, at every time.
    ///
    /// Deriving it (SHA-256 of both ids, smaller first, as a UUID v8, RFC 9562 section 5.8) leaves no race in
    /// which one pair gets two conversations, and lets a client name a conversation before it exists.
    #[must_use]
    pub fn of_pair(a: UserId, b: UserId) -> Self {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        let digest = Sha256::new()
            .chain_update(b"colloquy/conversation/pair/1\0")
            .chain_update(low.0.as_bytes())
            .chain_update(high.0.as_bytes())
            .finalize();
        let mut bytes = [0_u8; 16];
        bytes.copy_from_slice(&digest[..16]);
        Self(Uuid::new_v8(bytes))
    }
}

/// The client's key for one message: with the sender's id it names at most one message, for ever (ONCE).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
#[serde(transparent)]
pub struct IdempotencyKey(Uuid);

impl IdempotencyKey {
    /// # Errors
    /// [`InvalidId::NotV4`] unless `uuid` is a random (version 4) UUID of the RFC variant.
    pub fn new(uuid: Uuid) -> Result<Self, InvalidId> {
        let is_v4 = uuid.get_version_num() == 4 && uuid.get_variant() == uuid::Variant::RFC4122;
        if is_v4 { Ok(Self(uuid)) } else { Err(InvalidId::NotV4) }
    }

    /// The key of the one answer to a turn, which the message `turn_id` began: however often an agent answers, and whoever
    /// passes it on, there is one such message of the agent (ONCE).
    ///
    /// The first 16 bytes of a SHA-256, with the bits of a version 4 UUID: random to whoever cannot guess the id.
    #[must_use]
    pub fn of_turn(turn_id: MessageId) -> Self {
        Self::drawn_from(&[b"colloquy/turn/answer/1\0", turn_id.0.as_bytes()])
    }

    /// The key of what an answer goes on with: 1, 2, up to [`CONTINUATIONS_MAX`].
    #[must_use]
    pub fn of_continuation(turn_id: MessageId, number: u8) -> Self {
        Self::drawn_from(&[b"colloquy/turn/continuation/1\0", turn_id.0.as_bytes(), &[number]])
    }

    /// Does a message under this key answer the turn, or go on with an answer to it?
    #[must_use]
    pub fn answers(self, turn_id: MessageId) -> bool {
        let mut continuations = (1..=CONTINUATIONS_MAX).map(|number| Self::of_continuation(turn_id, number));
        self == Self::of_turn(turn_id) || continuations.any(|key| key == self)
    }

    /// The key of what an agent writes to somebody else because of a turn: the first such message, the second, ...
    #[must_use]
    pub fn of_note(turn_id: MessageId, number: u8) -> Self {
        Self::drawn_from(&[b"colloquy/turn/note/1\0", turn_id.0.as_bytes(), &[number]])
    }

    fn drawn_from(parts: &[&[u8]]) -> Self {
        let digest = parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize();
        let mut bytes = [0_u8; 16];
        bytes.copy_from_slice(&digest[..16]);
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// The UUID itself.
    #[must_use]
    pub fn uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for IdempotencyKey {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::new(Uuid::try_parse(text).map_err(|_| InvalidId::NotUuid)?)
    }
}

impl<'de> Deserialize<'de> for IdempotencyKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Uuid::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A device of a user, named by its owner (`phone-abc`); unique among that user's devices only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
#[serde(transparent)]
pub struct DeviceId(Box<str>);

impl DeviceId {
    /// # Errors
    /// [`InvalidId::NotDeviceId`] unless `text` is 1 to [`DEVICE_ID_MAX_BYTES`] bytes of `A-Z a-z 0-9 . _ -`.
    pub fn new(text: &str) -> Result<Self, InvalidId> {
        let fits = (1..=DEVICE_ID_MAX_BYTES).contains(&text.len());
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if fits && plain { Ok(Self(text.into())) } else { Err(InvalidId::NotDeviceId) }
    }

    /// The name as the owner gave it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DeviceId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::new(text)
    }
}

impl<'de> Deserialize<'de> for DeviceId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// One device of one user: where a ciphertext is addressed to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub struct DeviceAddress {
    /// The device's owner.
    pub user_id: UserId,
    /// The device among its owner's.
    pub device_id: DeviceId,
}

impl fmt::Display for DeviceAddress {
    /// `user/device`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.user_id, self.device_id)
    }
}

impl FromStr for DeviceAddress {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (user_id, device_id) = text.split_once('/').ok_or(InvalidId::NotDeviceId)?;
        Ok(Self { user_id: user_id.parse()?, device_id: device_id.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_has_one_conversation_whichever_side_opens_it() {
        let (a, b) = (UserId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2)));
        assert_eq!(ConversationId::of_pair(a, b), ConversationId::of_pair(b, a));
        assert_ne!(ConversationId::of_pair(a, b), ConversationId::of_pair(a, a));
    }

    #[test]
    fn an_idempotency_key_is_a_random_uuid_and_nothing_else() {
        assert_eq!("not-a-uuid".parse::<IdempotencyKey>(), Err(InvalidId::NotUuid));
        assert_eq!("00000000-0000-0000-0000-000000000000".parse::<IdempotencyKey>(), Err(InvalidId::NotV4));
        assert_eq!("01890a5d-ac96-774b-bcce-b302099a8057".parse::<IdempotencyKey>(), Err(InvalidId::NotV4));
        assert!("9f8b1d4e-6f0a-4c3b-8a1d-2e3f4a5b6c7d".parse::<IdempotencyKey>().is_ok());
    }

    #[test]
    fn a_turn_has_one_key_and_every_turn_its_own() {
        let (one, other) = (MessageId(Uuid::from_u128(1)), MessageId(Uuid::from_u128(2)));
        let key = IdempotencyKey::of_turn(one);
        assert_eq!(key, IdempotencyKey::of_turn(one));
        assert_ne!(key, IdempotencyKey::of_turn(other));
        let notes = [IdempotencyKey::of_note(one, 0), IdempotencyKey::of_note(one, 1)];
        assert!(notes[0] != notes[1] && !notes.contains(&key));
        let last = IdempotencyKey::of_continuation(one, CONTINUATIONS_MAX);
        assert!(key.answers(one) && last.answers(one));
        assert!(!key.answers(other) && !last.answers(other) && !notes.iter().any(|note| note.answers(one)));
        assert_eq!(IdempotencyKey::new(key.uuid()), Ok(key));
    }

    #[test]
    fn a_device_address_is_read_as_it_is_written() {
        let address = DeviceAddress {
            user_id: UserId(Uuid::from_u128(1)),
            device_id: DeviceId::new("phone-abc").unwrap(),
        };
        assert_eq!(address.to_string().parse(), Ok(address));
        for bad in ["", "/", "phone", "00000000-0000-0000-0000-000000000001/", "x/phone", "1/2/3"] {
            assert!(bad.parse::<DeviceAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_device_id_is_short_and_plain() {
        assert!(DeviceId::new("phone-abc").is_ok());
        for bad in ["", "a b", "ä", "a/b", &"x".repeat(DEVICE_ID_MAX_BYTES + 1)] {
            assert_eq!(DeviceId::new(bad), Err(InvalidId::NotDeviceId), "{bad}");
        }
    }
}
