//! Who takes part in a conversation, on which devices: what an envelope must be for (E2EE, AUTHZ). Pure.

use std::collections::HashMap;
use std::sync::Arc;

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::server::DeviceListStale;
use colloquy_protocol::ids::{DeviceAddress, DeviceId, UserId};
use colloquy_storage::model::conversation::Conversation;
use colloquy_storage::model::device::{Device, DeviceList};
use colloquy_storage::model::message::Message;

impl Objection {
    /// Might it be wrong, because the devices have changed since they were read?
    #[must_use]
    pub fn is_about_devices(&self) -> bool {
        use ErrorCode::{NoRecipientDevice, SenderKeyMismatch, UnknownDevice};
        matches!(self, Self::Stale(_) | Self::Refused(NoRecipientDevice | SenderKeyMismatch | UnknownDevice))
    }
}

/// The participants and their devices, as last read from the key directory.
#[derive(Debug)]
pub struct Members {
    conversation: Conversation,
    audience: Arc<[UserId]>,
    lists: HashMap<UserId, DeviceList>,
    /// What an envelope from each device must be for; made when first needed, dropped when a list changes.
    /// Bounded by the participants' devices.
    expected: HashMap<DeviceAddress, Vec<DeviceAddress>>,
}

/// Why a message may not enter the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Objection {
    /// For a reason that another try does not mend.
    Refused(ErrorCode),
    /// The envelope is for the wrong devices.
    Stale(DeviceListStale),
}

impl Members {
    /// The members of `conversation`, whose device lists are still to be [loaded](Self::load).
    #[must_use]
    pub fn of(conversation: Conversation) -> Self {
        let audience = conversation.participants.as_slice().into();
        Self { conversation, audience, lists: HashMap::new(), expected: HashMap::new() }
    }

    /// Takes in a participant's device list. An older version than the one known changes nothing.
    pub fn load(&mut self, mut list: DeviceList) {
        // Nothing is written to them; a list is held for each conversation of its user.
        list.former = Vec::new();
        let known = self.lists.get(&list.user_id).map(|known| known.version);
        if known.is_none_or(|version| version < list.version) {
            self.expected.clear();
            self.lists.insert(list.user_id, list);
        }
    }

    /// The participants.
    #[must_use]
    pub fn participants(&self) -> &[UserId] {
        &self.conversation.participants
    }

    /// The participants, to be shared.
    #[must_use]
    pub fn audience(&self) -> Arc<[UserId]> {
        Arc::clone(&self.audience)
    }

    /// Does this user take part?
    #[must_use]
    pub fn has(&self, user_id: UserId) -> bool {
        self.conversation.has(user_id)
    }

    /// Checks everything about a message that depends on who takes part and on which devices.
    ///
    /// # Errors
    /// The first [`Objection`].
    pub fn check(&mut self, message: &Message) -> Result<(), Objection> {
        if !self.has(message.sender_id) {
            return Err(Objection::Refused(ErrorCode::UnknownConversation));
        }
        if self.conversation.peer_of(message.sender_id) != Some(message.receiver_id) {
            return Err(Objection::Refused(ErrorCode::ReceiverMismatch));
        }
        if self.devices_of(message.receiver_id).is_empty() {
            return Err(Objection::Refused(ErrorCode::NoRecipientDevice));
        }
        let devices = self.devices_of(message.sender_id);
        let Some(device) = devices.iter().find(|device| device.device_id == message.sender_device_id) else {
            return Err(Objection::Refused(ErrorCode::UnknownDevice));
        };
        if device.identity_key != message.content.sender_key {
            return Err(Objection::Refused(ErrorCode::SenderKeyMismatch));
        }
        let expected = self.expected_from(message.sender_id, &message.sender_device_id);
        message.content.check_devices(expected).map_err(|wrong| {
            Objection::Stale(DeviceListStale {
                conversation_id: message.conversation_id,
                missing: wrong.missing,
                extra: wrong.extra,
            })
        })
    }

    fn devices_of(&self, user_id: UserId) -> &[Device] {
        self.lists.get(&user_id).map_or(&[], |list| &list.devices)
    }

    /// Every device of every participant but the sending one.
    fn expected_from(&mut self, user_id: UserId, device_id: &DeviceId) -> &[DeviceAddress] {
        let sender = DeviceAddress { user_id, device_id: device_id.clone() };
        let (lists, participants) = (&self.lists, &self.conversation.participants);
        self.expected.entry(sender).or_insert_with_key(|sender| {
            let lists = participants.iter().filter_map(|participant| lists.get(participant));
            lists
                .flat_map(|list| {
                    list.devices.iter().map(|device| DeviceAddress {
                        user_id: list.user_id,
                        device_id: device.device_id.clone(),
                    })
                })
                .filter(|address| address != sender)
                .collect()
        })
    }
}
