//! Other devices, device lists, and what is known of users.

use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{ConversationId, DeviceAddress, UserId};
use colloquy_protocol::limits::DEVICES_PER_USER_MAX;
use colloquy_protocol::rest::accounts::UserCard;
use serde::{Deserialize, Serialize};

use super::database::{StoreError, Transaction};
use super::table::{RecordKey, Table};
use crate::crypto::{PeerDevice, PeerPickle, RatchetsPickle};

/// Removed devices of one user that are remembered: what they sent before may still come.
pub const REMOVED_PER_USER_MAX: usize = 7 * DEVICES_PER_USER_MAX;
/// Devices of one user that are remembered, those removed included.
pub const PEERS_PER_USER_MAX: usize = DEVICES_PER_USER_MAX + REMOVED_PER_USER_MAX;

/// What is known of a user's device list; the devices themselves are [`PeerDevice`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceListRecord {
    /// The server's version of the list.
    pub version: u64,
    /// When it was fetched.
    pub fetched_at: UnixMillis,
    /// It must be fetched again before anything more is encrypted for this user.
    pub stale: bool,
    /// It names a device whose keys that device did not sign. Nothing can be sent to such a list: the server takes
    /// only what is for every device on it.
    #[serde(default)]
    pub has_untrusted: bool,
}

impl Transaction<'_> {
    fn peer_prefix(&self, user: UserId) -> RecordKey {
        RecordKey::table(Table::Peers).id(self.sealer(), user.0.as_bytes())
    }

    fn peer_key(&self, address: &DeviceAddress) -> RecordKey {
        self.peer_prefix(address.user_id).id(self.sealer(), address.device_id.as_str().as_bytes())
    }

    /// One other device, without its ratchets.
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn peer(&self, address: &DeviceAddress) -> Result<Option<PeerDevice>, StoreError> {
        let pickle: Option<PeerPickle> = self.get(&self.peer_key(address))?;
        Ok(pickle.map(|pickle| PeerDevice::from_pickle(pickle, None)))
    }

    /// One other device, with its ratchets of `conversation`.
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn peer_in(
        &self,
        conversation: ConversationId,
        address: &DeviceAddress,
    ) -> Result<Option<PeerDevice>, StoreError> {
        let Some(pickle) = self.get::<PeerPickle>(&self.peer_key(address))? else { return Ok(None) };
        let ratchets: Option<RatchetsPickle> = self.get(&self.ratchets_key(conversation, address))?;
        Ok(Some(PeerDevice::from_pickle(pickle, ratchets)))
    }

    /// The devices of a user that were not removed, with their ratchets of `conversation`.
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn peers_in(
        &self,
        conversation: ConversationId,
        user: UserId,
    ) -> Result<Vec<PeerDevice>, StoreError> {
        let present = self.peers(user)?.into_iter().filter(|peer| !peer.is_removed());
        let with_ratchets = present.map(|peer| {
            let ratchets = self.get(&self.ratchets_key(conversation, peer.address()))?;
            Ok(PeerDevice::from_pickle(peer.pickle(), ratchets))
        });
        with_ratchets.collect()
    }

    /// All known devices of a user, removed ones too, without their ratchets; at most [`PEERS_PER_USER_MAX`].
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn peers(&self, user: UserId) -> Result<Vec<PeerDevice>, StoreError> {
        let pickles: Vec<PeerPickle> = self.scan_all(&self.peer_prefix(user), PEERS_PER_USER_MAX)?;
        Ok(pickles.into_iter().map(|pickle| PeerDevice::from_pickle(pickle, None)).collect())
    }

    /// Stages the ratchets a device has in `conversation`.
    pub fn put_ratchets(&mut self, conversation: ConversationId, peer: &PeerDevice) {
        let key = self.ratchets_key(conversation, peer.address());
        self.put(key, &peer.ratchets());
    }

    /// Stages a device, without its ratchets.
    pub fn put_peer(&mut self, peer: &PeerDevice) {
        let key = self.peer_key(peer.address());
        self.put(key, &peer.pickle());
    }

    /// Stages that a device is forgotten, its keys and ratchets with it.
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn remove_peer(&mut self, address: &DeviceAddress) -> Result<(), StoreError> {
        for key in self.keys(&self.ratchets_prefix(address))? {
            self.remove(key);
        }
        let key = self.peer_key(address);
        self.remove(key);
        Ok(())
    }

    fn ratchets_prefix(&self, address: &DeviceAddress) -> RecordKey {
        let of_user = RecordKey::table(Table::Ratchets).id(self.sealer(), address.user_id.0.as_bytes());
        of_user.id(self.sealer(), address.device_id.as_str().as_bytes())
    }

    fn ratchets_key(&self, conversation: ConversationId, address: &DeviceAddress) -> RecordKey {
        self.ratchets_prefix(address).id(self.sealer(), conversation.0.as_bytes())
    }

    fn device_list_key(&self, user: UserId) -> RecordKey {
        RecordKey::table(Table::DeviceLists).id(self.sealer(), user.0.as_bytes())
    }

    /// What is known of a user's device list.
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn device_list(&self, user: UserId) -> Result<Option<DeviceListRecord>, StoreError> {
        self.get(&self.device_list_key(user))
    }

    /// Stages what is known of a user's device list.
    pub fn put_device_list(&mut self, user: UserId, record: &DeviceListRecord) {
        let key = self.device_list_key(user);
        self.put(key, record);
    }

    /// Stages that a user's list must be fetched again.
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn mark_device_list_stale(&mut self, user: UserId) -> Result<(), StoreError> {
        if let Some(list) = self.device_list(user)? {
            self.put_device_list(user, &DeviceListRecord { stale: true, ..list });
        }
        Ok(())
    }

    fn user_key(&self, user: UserId) -> RecordKey {
        RecordKey::table(Table::Users).id(self.sealer(), user.0.as_bytes())
    }

    /// What a user showed of themselves when last looked up.
    ///
    /// # Errors
    /// [`StoreError`] as of every read.
    pub fn user_card(&self, user: UserId) -> Result<Option<UserCard>, StoreError> {
        self.get(&self.user_key(user))
    }

    /// Stages what a user shows of themselves.
    pub fn put_user_card(&mut self, card: &UserCard) {
        let key = self.user_key(card.user_id);
        self.put(key, card);
    }
}
