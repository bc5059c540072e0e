//! Another device: its pinned keys and the sessions with it.
//!
//! Both sides may open a session at the same time, so there can be several. The one that last decrypted
//! something stands first and is the one encrypted with: the other side certainly has it. After a failure every
//! session is retired: it may still decrypt what is on its way, and is never encrypted with again.

use std::collections::VecDeque;
use std::fmt;

use colloquy_protocol::envelope::{CiphertextKind, DeviceCiphertext};
use colloquy_protocol::ids::{DeviceAddress, UserId};
use colloquy_protocol::rest::devices::{ClaimedKey, Device};
use colloquy_protocol::signing::{KeyPurpose, key_message};
use serde::{Deserialize, Serialize};
use vodozemac::olm::{
    DecryptionError, OlmMessage, PreKeyMessage, Session, SessionConfig, SessionCreationError,
};
use vodozemac::{Curve25519PublicKey, Ed25519PublicKey, Ed25519Signature};

use super::account::DeviceAccount;
use super::opening::DecryptionFailure;
use super::repair::RepairBudget;

/// Sessions kept with one device in one conversation. One more pushes out the one that decrypted longest ago.
pub const SESSIONS_PER_DEVICE_MAX: usize = 6;
/// Ratchet keys remembered per session, to tell a corrupt message from one of an unknown session; Olm keeps as
/// many receiving chains.
const CHAINS_REMEMBERED_MAX: usize = 5;

/// A key that is not what its device signed, or not a key at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UntrustedKey {
    /// Not base64 of the right length, or a point no key can be.
    #[error("not a public key")]
    NotAKey,
    /// The device's signing key did not sign this key for this purpose.
    #[error("the signature does not verify")]
    BadSignature,
    /// A session with this key would have no secret in it.
    #[error("the key contributes nothing to a shared secret")]
    NonContributory,
}

/// Another device, as this device knows it, with the ratchets of one conversation.
///
/// Each conversation has ratchets of its own, because only within one do messages arrive in the order in which they were
/// encrypted. A ratchet that a user's own devices shared over all of them would meet its messages far out of order, when
/// one conversation is slow or a device catches up with one after the other, and Olm keeps 40 keys and 5 chains for that.
pub struct PeerDevice {
    address: DeviceAddress,
    identity_key: Curve25519PublicKey,
    signing_key: Ed25519PublicKey,
    /// The owner's device list no longer names it.
    removed: bool,
    sessions: VecDeque<PeerSession>,
    /// The next encryption must open a new session, because the other side cannot be assumed to have any.
    wedged: bool,
    /// Repairs started from here.
    pub asked: RepairBudget,
    /// Repairs answered from here.
    pub answered: RepairBudget,
}

struct PeerSession {
    olm: Session,
    retired: bool,
    chains: VecDeque<Curve25519PublicKey>,
}

/// A [`PeerDevice`] as it is stored, without its ratchets.
#[derive(Serialize, Deserialize)]
pub struct PeerPickle {
    address: DeviceAddress,
    identity_key: Curve25519PublicKey,
    signing_key: Ed25519PublicKey,
    removed: bool,
}

/// The ratchets of one conversation as they are stored. Holds ratchet keys: seal it before it touches a disk.
#[derive(Serialize, Deserialize)]
pub struct RatchetsPickle {
    /// Of the device they are with. One that was set up anew under the same id has others.
    identity_key: Curve25519PublicKey,
    sessions: Vec<SessionRecord>,
    wedged: bool,
    asked: RepairBudget,
    answered: RepairBudget,
}

#[derive(Serialize, Deserialize)]
struct SessionRecord {
    olm: vodozemac::olm::SessionPickle,
    retired: bool,
    chains: Vec<Curve25519PublicKey>,
}

impl PeerDevice {
    /// A device as its owner published it, once its self-signature is checked.
    ///
    /// # Errors
    /// [`UntrustedKey`] if a key is malformed or the signature does not verify.
    pub fn published(user_id: UserId, device: &Device) -> Result<Self, UntrustedKey> {
        let identity_key =
            Curve25519PublicKey::from_base64(&device.identity_key).map_err(|_| UntrustedKey::NotAKey)?;
        let signing_key =
            Ed25519PublicKey::from_base64(&device.signing_key).map_err(|_| UntrustedKey::NotAKey)?;
        let message = key_message(KeyPurpose::Identity, user_id, &device.device_id, "", &device.identity_key);
        check_signature(&signing_key, &message, &device.identity_signature)?;
        let address = DeviceAddress { user_id, device_id: device.device_id.clone() };
        Ok(Self::new(address, identity_key, signing_key, false))
    }

    /// Whose it is, and which.
    #[must_use]
    pub fn address(&self) -> &DeviceAddress {
        &self.address
    }

    /// The pinned Curve25519 identity key.
    #[must_use]
    pub fn identity_key(&self) -> Curve25519PublicKey {
        self.identity_key
    }

    /// The pinned Ed25519 signing key.
    #[must_use]
    pub fn signing_key(&self) -> Ed25519PublicKey {
        self.signing_key
    }

    /// Must a key be claimed before something can be encrypted for it?
    #[must_use]
    pub fn needs_key(&self) -> bool {
        self.wedged || self.sendable().is_none()
    }

    /// The next encryption opens a new session; the sessions there are only decrypt what is still on its way.
    pub fn wedge(&mut self) {
        self.wedged = true;
        for session in &mut self.sessions {
            session.retired = true;
        }
    }

    /// Is the next encryption to open a new session?
    #[must_use]
    pub fn is_wedged(&self) -> bool {
        self.wedged
    }

    /// Does its owner's device list no longer name it?
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.removed
    }

    /// Its owner's device list names it, or no longer.
    pub fn set_removed(&mut self, removed: bool) {
        self.removed = removed;
    }

    /// Sessions held, at most [`SESSIONS_PER_DEVICE_MAX`].
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Opens a session with a key claimed from the server, once its signature is checked.
    ///
    /// # Errors
    /// [`UntrustedKey`] if the key is malformed, not signed by this device, or contributes nothing.
    pub fn open_session(
        &mut self,
        account: &DeviceAccount,
        claimed: &ClaimedKey,
    ) -> Result<(), UntrustedKey> {
        let purpose = if claimed.fallback { KeyPurpose::Fallback } else { KeyPurpose::OneTime };
        let DeviceAddress { user_id, device_id } = &self.address;
        let message = key_message(purpose, *user_id, device_id, &claimed.key.key_id, &claimed.key.key);
        check_signature(&self.signing_key, &message, &claimed.key.signature)?;
        let one_time_key =
            Curve25519PublicKey::from_base64(&claimed.key.key).map_err(|_| UntrustedKey::NotAKey)?;
        let olm = account
            .olm
            .create_outbound_session(SessionConfig::version_1(), self.identity_key, one_time_key)
            .map_err(|_| UntrustedKey::NonContributory)?;
        self.insert(PeerSession { olm, retired: false, chains: VecDeque::new() });
        self.wedged = false;
        Ok(())
    }

    /// Encrypts with the best session, or nothing if a key must be claimed first.
    pub(super) fn encrypt(&mut self, plaintext: &[u8]) -> Option<DeviceCiphertext> {
        if self.wedged {
            return None;
        }
        let session = self.sessions.iter_mut().find(|session| !session.retired)?;
        let (kind, body) = match session.olm.encrypt(plaintext).ok()? {
            OlmMessage::Normal(message) => (CiphertextKind::Normal, message.to_base64()),
            OlmMessage::PreKey(message) => (CiphertextKind::PreKey, message.to_base64()),
        };
        let DeviceAddress { user_id, device_id } = self.address.clone();
        Some(DeviceCiphertext { user_id, device_id, kind, body })
    }

    /// Decrypts with whichever session can; a failure leaves every session as it was.
    pub(super) fn decrypt(
        &mut self,
        account: Option<&mut DeviceAccount>,
        message: &OlmMessage,
    ) -> Result<Vec<u8>, DecryptionFailure> {
        match message {
            OlmMessage::PreKey(pre_key) => self.decrypt_pre_key(account, pre_key, message),
            OlmMessage::Normal(_) => self.decrypt_normal(message),
        }
    }

    fn decrypt_pre_key(
        &mut self,
        account: Option<&mut DeviceAccount>,
        pre_key: &PreKeyMessage,
        message: &OlmMessage,
    ) -> Result<Vec<u8>, DecryptionFailure> {
        if pre_key.identity_key() != self.identity_key {
            return Err(DecryptionFailure::SenderKeyChanged);
        }
        let id = pre_key.session_id();
        if let Some(index) = self.sessions.iter().position(|session| session.olm.session_id() == id) {
            return self.decrypt_with(index, message).map_err(|error| failure_in_known_chain(&error));
        }
        let created = account
            .ok_or(DecryptionFailure::MissingOneTimeKey)?
            .olm
            .create_inbound_session(SessionConfig::version_1(), self.identity_key, pre_key)
            .map_err(|error| match error {
                SessionCreationError::MissingOneTimeKey(_) => DecryptionFailure::MissingOneTimeKey,
                SessionCreationError::MismatchedIdentityKey(..) => DecryptionFailure::SenderKeyChanged,
                SessionCreationError::Decryption(error) => failure_in_known_chain(&error),
                SessionCreationError::MismatchedSessionConfig { .. }
                | SessionCreationError::NonContributoryKey => DecryptionFailure::Corrupt,
            })?;
        let chains = VecDeque::from([pre_key.message().ratchet_key()]);
        self.insert(PeerSession { olm: created.session, retired: false, chains });
        // The other side has just opened this session: it can be encrypted with.
        self.wedged = false;
        Ok(created.plaintext)
    }

    fn decrypt_normal(&mut self, message: &OlmMessage) -> Result<Vec<u8>, DecryptionFailure> {
        let OlmMessage::Normal(inner) = message else { return Err(DecryptionFailure::Corrupt) };
        let mut failure = DecryptionFailure::UnknownSession;
        for index in 0..self.sessions.len() {
            let is_known_chain = self.sessions[index].chains.contains(&inner.ratchet_key());
            match self.decrypt_with(index, message) {
                Ok(plaintext) => return Ok(plaintext),
                Err(error) if is_known_chain => failure = failure_in_known_chain(&error),
                // Every session but the right one fails its MAC; that says nothing.
                Err(_) => {}
            }
        }
        Err(failure)
    }

    fn decrypt_with(&mut self, index: usize, message: &OlmMessage) -> Result<Vec<u8>, DecryptionError> {
        let session = &mut self.sessions[index];
        let plaintext = session.olm.decrypt(message)?;
        let ratchet_key = match message {
            OlmMessage::Normal(message) => message.ratchet_key(),
            OlmMessage::PreKey(message) => message.message().ratchet_key(),
        };
        if !session.chains.contains(&ratchet_key) {
            if session.chains.len() == CHAINS_REMEMBERED_MAX {
                session.chains.pop_front();
            }
            session.chains.push_back(ratchet_key);
        }
        let session = self.sessions.remove(index).expect("the session was just used");
        self.sessions.push_front(session);
        Ok(plaintext)
    }

    fn insert(&mut self, session: PeerSession) {
        self.sessions.push_front(session);
        self.sessions.truncate(SESSIONS_PER_DEVICE_MAX);
    }

    /// Can `message`, which did not decrypt, be of a session that is still encrypted with?
    pub(super) fn may_be_of_usable_session(&self, message: &OlmMessage) -> bool {
        if self.sendable().is_none() {
            return true;
        }
        let is_retired = |is_of: &dyn Fn(&PeerSession) -> bool| {
            self.sessions.iter().any(|session| session.retired && is_of(session))
        };
        match message {
            OlmMessage::PreKey(message) => {
                !is_retired(&|session| session.olm.session_id() == message.session_id())
            }
            OlmMessage::Normal(message) => {
                let key = message.ratchet_key();
                // Where nothing has come under any usable session yet, this is of an older one; and if it is not,
                // the other side still finds what it needs in every message from here.
                let is_answered = self.sessions.iter().any(|s| !s.retired && !s.chains.is_empty());
                is_answered && !is_retired(&|session| session.chains.contains(&key))
            }
        }
    }

    fn sendable(&self) -> Option<&PeerSession> {
        self.sessions.iter().find(|session| !session.retired)
    }

    /// For the store, without its ratchets.
    #[must_use]
    pub fn pickle(&self) -> PeerPickle {
        PeerPickle {
            address: self.address.clone(),
            identity_key: self.identity_key,
            signing_key: self.signing_key,
            removed: self.removed,
        }
    }

    /// Its ratchets, for the store.
    #[must_use]
    pub fn ratchets(&self) -> RatchetsPickle {
        let record = |session: &PeerSession| SessionRecord {
            olm: session.olm.pickle(),
            retired: session.retired,
            chains: session.chains.iter().copied().collect(),
        };
        RatchetsPickle {
            identity_key: self.identity_key,
            sessions: self.sessions.iter().map(record).collect(),
            wedged: self.wedged,
            asked: self.asked,
            answered: self.answered,
        }
    }

    /// From the store, with the ratchets of one conversation if there are any yet.
    #[must_use]
    pub fn from_pickle(pickle: PeerPickle, ratchets: Option<RatchetsPickle>) -> Self {
        let PeerPickle { address, identity_key, signing_key, removed } = pickle;
        let mut peer = Self::new(address, identity_key, signing_key, removed);
        if let Some(ratchets) = ratchets.filter(|ratchets| ratchets.identity_key == identity_key) {
            let session = |record: SessionRecord| PeerSession {
                olm: Session::from_pickle(record.olm),
                retired: record.retired,
                chains: record.chains.into(),
            };
            peer.sessions = ratchets.sessions.into_iter().map(session).collect();
            (peer.wedged, peer.asked, peer.answered) = (ratchets.wedged, ratchets.asked, ratchets.answered);
        }
        peer
    }

    fn new(
        address: DeviceAddress,
        identity_key: Curve25519PublicKey,
        signing_key: Ed25519PublicKey,
        removed: bool,
    ) -> Self {
        Self {
            address,
            identity_key,
            signing_key,
            removed,
            sessions: VecDeque::new(),
            wedged: false,
            asked: RepairBudget::default(),
            answered: RepairBudget::default(),
        }
    }
}

fn failure_in_known_chain(error: &DecryptionError) -> DecryptionFailure {
    match error {
        DecryptionError::MissingMessageKey(_) => DecryptionFailure::KeyGone,
        DecryptionError::TooBigMessageGap(..) => DecryptionFailure::TooFarAhead,
        DecryptionError::InvalidMAC(_)
        | DecryptionError::InvalidMACLength(..)
        | DecryptionError::InvalidPadding(_)
        | DecryptionError::NonContributoryKey => DecryptionFailure::Corrupt,
    }
}

pub(super) fn check_signature(
    key: &Ed25519PublicKey,
    message: &[u8],
    signature: &str,
) -> Result<(), UntrustedKey> {
    let signature = Ed25519Signature::from_base64(signature).map_err(|_| UntrustedKey::BadSignature)?;
    key.verify(message, &signature).map_err(|_| UntrustedKey::BadSignature)
}

impl fmt::Debug for PeerDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerDevice")
            .field("device_id", &self.address.device_id)
            .field("sessions", &self.sessions.len())
            .field("wedged", &self.wedged)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RatchetsPickle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RatchetsPickle(..)")
    }
}

impl fmt::Debug for PeerPickle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerPickle(..)")
    }
}
