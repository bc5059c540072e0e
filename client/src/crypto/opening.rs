//! One ciphertext, and the ways it can fail.
//!
//! Callers drop redelivered messages by their id before they come here: a ratchet has forgotten the key of what
//! it has decrypted, so decrypting twice fails.

use colloquy_protocol::envelope::{CiphertextKind, OwnedSealedContent};
use colloquy_protocol::ids::{ConversationId, DeviceAddress, IdempotencyKey};
use serde::{Deserialize, Serialize};
use vodozemac::olm::{Message, OlmMessage, PreKeyMessage};
use zeroize::Zeroizing;

use super::account::DeviceAccount;
use super::peer::PeerDevice;
use super::plaintext::{Body, Plaintext};

/// Why a message could not be decrypted, or was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum DecryptionFailure {
    /// No session with that device has this ratchet.
    #[error("no session with the sending device can decrypt this")]
    UnknownSession,
    /// It would open a session with a one-time key this device does not have (any more).
    #[error("the one-time key it was encrypted with is gone")]
    MissingOneTimeKey,
    /// The ratchet no longer has its key: it came too long after later messages of its session, or a second time.
    #[error("the key of this message is gone")]
    KeyGone,
    /// Its idempotency key was used already by another message of this sender.
    #[error("this was received before")]
    Replayed,
    /// The ratchet is known, but the ciphertext is not what was sent.
    #[error("the ciphertext was changed or damaged")]
    Corrupt,
    /// More messages lie between this one and the last than a ratchet skips.
    #[error("too many messages of this session are missing")]
    TooFarAhead,
    /// The sending device's identity key is not the pinned one.
    #[error("the sending device's identity key is not the known one")]
    SenderKeyChanged,
    /// The sender's device list does not name the sending device, and it was never seen before.
    #[error("the sending device is not known")]
    UnknownSender,
    /// It was encrypted for another device than this one.
    #[error("this was meant for another device")]
    NotForThisDevice,
    /// It was moved: the conversation, sender or idempotency key inside are not those of the frame.
    #[error("this was moved from where its sender put it")]
    Moved,
    /// The conversation is not the one of its sender and its receiver.
    #[error("this is not the conversation of those two")]
    ForeignConversation,
    /// Decrypted, but not a plaintext of a known version.
    #[error("the decrypted content has an unknown form")]
    MalformedPlaintext,
}

impl DecryptionFailure {
    /// Can its sender make the content readable by telling it again? Not what is a repetition, a forgery or a newer
    /// form.
    #[must_use]
    pub const fn calls_for_repair(self) -> bool {
        matches!(self, Self::KeyGone) || self.breaks_sessions()
    }

    /// Does it show that both sides no longer agree on a session?
    #[must_use]
    pub const fn breaks_sessions(self) -> bool {
        match self {
            Self::UnknownSession | Self::MissingOneTimeKey | Self::Corrupt | Self::TooFarAhead => true,
            Self::KeyGone
            | Self::Replayed
            | Self::SenderKeyChanged
            | Self::UnknownSender
            | Self::NotForThisDevice
            | Self::Moved
            | Self::ForeignConversation
            | Self::MalformedPlaintext => false,
        }
    }
}

/// What the frame said about the message, to be compared with what is inside.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// The conversation of the frame. The sender is the [`PeerDevice`] itself.
    pub conversation_id: ConversationId,
    /// Only on messages of the user's own devices.
    pub idempotency_key: Option<IdempotencyKey>,
}

/// A decrypted message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The key it was sent with; the caller refuses one it has seen from this sender.
    pub idempotency_key: IdempotencyKey,
    /// What it says.
    pub body: Body,
}

/// Decrypts what `peer` sent to this device, `own`, and checks that it is where its sender put it.
///
/// A message that may open a session ([`CiphertextKind::PreKey`]) needs the `account`; no other does.
///
/// On success a ratchet, and perhaps the account, have moved: write both in the batch that stores the message.
/// On a failure that [breaks sessions](DecryptionFailure::breaks_sessions) the peer is left wedged, unless the message
/// is of a session that is retired already: it came late, and the session that has taken over is whole.
///
/// # Errors
/// The [`DecryptionFailure`].
pub fn open(
    own: &DeviceAddress,
    account: Option<&mut DeviceAccount>,
    peer: &mut PeerDevice,
    sealed: &OwnedSealedContent,
    expected: Expected,
) -> Result<Opened, DecryptionFailure> {
    let message = parse(peer, sealed)?;
    let decrypted = peer.decrypt(account, &message).map(Zeroizing::new);
    let result = decrypted.and_then(|bytes| check(own, peer, &bytes, expected));
    if let Err(failure) = &result
        && failure.breaks_sessions()
        && peer.may_be_of_usable_session(&message)
    {
        peer.wedge();
    }
    result
}

fn parse(peer: &PeerDevice, sealed: &OwnedSealedContent) -> Result<OlmMessage, DecryptionFailure> {
    if sealed.sender_key != peer.identity_key().to_base64() {
        return Err(DecryptionFailure::SenderKeyChanged);
    }
    let message = match sealed.kind {
        CiphertextKind::PreKey => PreKeyMessage::from_base64(&sealed.body).map(OlmMessage::PreKey),
        CiphertextKind::Normal => Message::from_base64(&sealed.body).map(OlmMessage::Normal),
    };
    // What has not even the form of a message says nothing about a session.
    message.map_err(|_| DecryptionFailure::Corrupt)
}

fn check(
    own: &DeviceAddress,
    peer: &PeerDevice,
    bytes: &[u8],
    expected: Expected,
) -> Result<Opened, DecryptionFailure> {
    let plaintext = Plaintext::from_bytes(bytes).map_err(|_| DecryptionFailure::MalformedPlaintext)?;
    if plaintext.recipient != *own {
        return Err(DecryptionFailure::NotForThisDevice);
    }
    let same_key = expected.idempotency_key.is_none_or(|key| key == plaintext.idempotency_key);
    if plaintext.conversation_id != expected.conversation_id
        || plaintext.sender != *peer.address()
        || !same_key
    {
        return Err(DecryptionFailure::Moved);
    }
    Ok(Opened { idempotency_key: plaintext.idempotency_key, body: plaintext.body })
}
