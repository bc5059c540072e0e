//! What pods say to each other: frames over the bridge, bulletins over the signal bus. Pure.
//!
//! Both are MessagePack with field names, so that two adjacent releases understand each other during a rollout: a field
//! may be added with a default, an unknown field is skipped, and a frame of an unknown kind is refused alone. What goes
//! beyond that raises [`PROTOCOL`], and a pod keeps to what its peer speaks.

use std::sync::Arc;

use colloquy_protocol::UnixMillis;
use colloquy_protocol::frame::PresenceStatus;
use colloquy_protocol::ids::{ConversationId, DeviceId, LoginId, SessionId, UserId};
use colloquy_storage::model::live::PodId;
use colloquy_storage::model::message::Message;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::conversation::{Answer, Ephemeral, Moved, SenderOrder};

/// The versions this release speaks over the bridge: oldest and newest.
pub const PROTOCOL: (u16, u16) = (1, 1);

/// One thing said over the bridge.
#[derive(Debug, Serialize, Deserialize)]
pub enum Frame {
    /// Put a message into the log.
    Submit {
        /// The asking pod's own number for it.
        request: u64,
        /// The connection it came from.
        session_id: SessionId,
        /// The message.
        message: Message,
        /// Where it stands in its sender's own order.
        order: Option<SenderOrder>,
    },
    /// Answers to requests.
    Answered(Vec<(u64, Answer)>),
    /// A message of this connection was refused before it came here.
    Skip {
        /// The connection.
        session_id: SessionId,
        /// Whose it is.
        user_id: UserId,
        /// Where it was to go.
        conversation_id: ConversationId,
        /// Its place.
        order: SenderOrder,
    },
    /// A connection that had sent messages has ended.
    SessionEnded(SessionId),
    /// A participant has come this far.
    Advance {
        /// Where.
        conversation_id: ConversationId,
        /// Who.
        user_id: UserId,
        /// How far.
        moved: Moved,
    },
    /// A participant says something that is for now or never.
    Said {
        /// Where.
        conversation_id: ConversationId,
        /// Who.
        user_id: UserId,
        /// What.
        said: Ephemeral,
    },
}

/// Something that has happened in a conversation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Tidings {
    /// Messages were stored, in order.
    Stored(Arc<[Arc<Message>]>),
    /// The log reaches up to here.
    LogReaches(ConversationId, u64),
    /// A text for the audience's sessions.
    Push(Arc<str>),
    /// One that may be lost.
    Whisper(Arc<str>),
}

/// A hint: what has happened, and who is to hear of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hint {
    /// Their sessions.
    pub audience: Arc<[UserId]>,
    /// What has happened.
    pub tidings: Tidings,
}

/// A change of somebody's account, for every pod to act on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// A log-in no longer stands.
    LoginRevoked(UserId, LoginId),
    /// A user's devices are others now; this one was removed.
    DevicesChanged(UserId, Option<DeviceId>),
}

/// What one pod tells another over the bus. Numbered, so that a loss is noticed (see [`super::Numbers`]).
#[derive(Debug, Serialize, Deserialize)]
pub struct Bulletin {
    /// Who tells.
    pub from: PodId,
    /// Which series the number belongs to: another one for each time the teller has begun to tell the reader.
    pub series: u64,
    /// Counts the bulletins of a series: 1, 2, ...
    pub number: u64,
    /// Something could not be told: look for yourselves.
    pub incomplete: bool,
    /// What it tells; empty if it only lets the number be known.
    pub hints: Vec<Hint>,
    /// What it tells everybody.
    #[serde(default)]
    pub notices: Vec<Notice>,
}

/// That a user has come to a pod, or has none of their devices there any more: over the user's own channel, to whoever
/// watches them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// Who.
    pub user_id: UserId,
    /// Where.
    pub pod_id: PodId,
    /// Come or gone.
    pub status: PresenceStatus,
    /// When.
    pub at: UnixMillis,
}

/// As bytes.
///
/// # Errors
/// Never for what is defined here.
pub fn encode<T: Serialize>(said: &T) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    rmp_serde::to_vec_named(said)
}

/// From bytes.
///
/// # Errors
/// What is malformed, or of a kind that this release does not know.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, rmp_serde::decode::Error> {
    rmp_serde::from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use colloquy_protocol::frame::TypingState;
    use uuid::Uuid;

    #[derive(Serialize)]
    enum NewerFrame {
        Said { conversation_id: ConversationId, user_id: UserId, said: Ephemeral, since: u64 },
        Reaction(u64),
    }

    #[test]
    fn a_field_of_a_newer_release_is_skipped_and_a_frame_of_an_unknown_kind_is_refused() {
        let newer = NewerFrame::Said {
            conversation_id: ConversationId(Uuid::from_u128(1)),
            user_id: UserId(Uuid::from_u128(2)),
            said: Ephemeral::Typing(TypingState::Started),
            since: 7,
        };
        let read: Frame = decode(&encode(&newer).unwrap()).unwrap();
        assert!(matches!(read, Frame::Said { user_id, .. } if user_id.0.as_u128() == 2));
        assert!(decode::<Frame>(&encode(&NewerFrame::Reaction(1)).unwrap()).is_err());
        assert!(decode::<Frame>(b"garbage").is_err());
    }
}
