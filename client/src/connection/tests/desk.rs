//! Two users' devices on one desk: real stores and real encryption, and a log that is handed over by hand.

use colloquy_protocol::envelope::OwnedSealedContent;
use colloquy_protocol::frame::MessageStatus;
use colloquy_protocol::frame::MessageType;
use colloquy_protocol::frame::client::SendPayload;
use colloquy_protocol::frame::delta::TurnPlace;
use colloquy_protocol::frame::server::{DeliveredMessage, MessageAck};
use colloquy_protocol::ids::{ConversationId, DeviceAddress, DeviceId, IdempotencyKey, MessageId, UserId};
use colloquy_protocol::rest::devices::{ClaimedKey, ClaimedKeys, Device, DeviceList, SignedKey};
use uuid::Uuid;

use crate::ambient::{self, Workers};
use crate::connection::dispatch::{self, Sealing};
use crate::connection::ingest::{Arrival, Batch, Ingested, ingest};
use crate::crypto::{Body, DeviceAccount};
use crate::event::Event;
use crate::store::outbox::NewMessage;
use crate::store::{
    ConversationRecord, LocalMessageId, OutboxState, ProfileRecord, Store, StoreError, Transaction, Unlock,
};

pub(super) fn user(n: u128) -> UserId {
    UserId(Uuid::from_u128(n))
}

/// The conversation of the first two users.
pub(super) fn conversation() -> ConversationId {
    ConversationId::of_pair(user(1), user(2))
}

pub(super) struct Seat {
    pub(super) store: Store,
    pub(super) address: DeviceAddress,
    published: Device,
    keys: Vec<SignedKey>,
    _folder: tempfile::TempDir,
}

struct Logged {
    sender: DeviceAddress,
    payload: SendPayload,
    key: IdempotencyKey,
}

/// The devices by the order they came in, and all that was sent.
pub(super) struct Desk {
    pub(super) seats: Vec<Seat>,
    log: Vec<Logged>,
    lists_version: u64,
    /// By this device clock everything happens.
    pub(super) now: u64,
    /// Devices whose owner has removed them.
    removed: Vec<usize>,
}

/// A device with fresh keys, as it is published.
pub(super) fn published(account: &mut DeviceAccount) -> (Device, Vec<SignedKey>) {
    let body = account.registration("test");
    let device = Device {
        device_id: account.device_id().clone(),
        platform: body.platform,
        identity_key: body.identity_key,
        signing_key: body.signing_key,
        identity_signature: body.identity_signature,
        registered_at: 0,
    };
    (device, body.one_time_keys)
}

pub(super) fn address(owner: u128, device: &str) -> DeviceAddress {
    DeviceAddress { user_id: user(owner), device_id: DeviceId::new(device).unwrap() }
}

impl Seat {
    fn new(owner: u128, device: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let unlock = Unlock::KeyFile(folder.path().join("key"));
        let store = Store::open(&folder.path().join("db"), &unlock, Workers::Threads).unwrap();
        let address = address(owner, device);
        let mut account = DeviceAccount::generate(address.clone());
        let (published, keys) = published(&mut account);
        let profile = ProfileRecord {
            server_url: String::new(),
            user_id: address.user_id,
            device_id: address.device_id.clone(),
            fallback_rotated_at: 0,
            is_registered: true,
        };
        store
            .update(|tx| {
                tx.put_account(&account);
                tx.put_profile(&profile);
                if owner < 3 {
                    tx.put_conversation(&ConversationRecord::new(conversation(), user(3 - owner)));
                }
                Ok::<_, StoreError>(())
            })
            .unwrap();
        Self { store, address, published, keys, _folder: folder }
    }
}

impl Desk {
    /// One device of each of two users, who know each other.
    pub(super) fn of_two() -> Self {
        let mut desk = Self {
            seats: Vec::new(),
            log: Vec::new(),
            lists_version: 0,
            now: 10_000_000_000,
            removed: Vec::new(),
        };
        desk.sit(1, "phone");
        desk.sit(2, "laptop");
        desk
    }

    /// One more device. Everybody learns of it.
    pub(super) fn sit(&mut self, owner: u128, device: &str) -> usize {
        self.sit_unseen(owner, device, None)
    }

    /// One more device. All but one learn of it.
    pub(super) fn sit_unseen(&mut self, owner: u128, device: &str, unseen_by: Option<usize>) -> usize {
        self.seats.push(Seat::new(owner, device));
        self.lists_version += 1;
        for owner in [1, 2, 3] {
            let list = self.list(owner);
            let told = (0..self.seats.len()).filter(|seat| Some(*seat) != unseen_by);
            told.for_each(|seat| self.learn(seat, &list));
        }
        self.seats.len() - 1
    }

    /// The device list of a user as it is now.
    pub(super) fn list(&self, owner: u128) -> DeviceList {
        let (mut devices, mut former) = (Vec::new(), Vec::new());
        for (index, seat) in self.seats.iter().enumerate() {
            let list = if self.removed.contains(&index) { &mut former } else { &mut devices };
            if seat.address.user_id == user(owner) {
                list.push(seat.published.clone());
            }
        }
        DeviceList { user_id: user(owner), version: self.lists_version, devices, former }
    }

    /// The owner of a device removes it. Nobody learns of it yet.
    pub(super) fn remove(&mut self, seat: usize) {
        self.removed.push(seat);
        self.lists_version += 1;
    }

    pub(super) fn learn(&self, seat: usize, list: &DeviceList) {
        self.seats[seat].store.update(|tx| dispatch::learn_devices(tx, list, self.now)).unwrap();
    }

    /// Writes a message to the other of the first two users and sends it; returns its number.
    pub(super) fn post(&mut self, from: usize, body: Body, only_for: Option<usize>) -> u64 {
        let receiver = user(if self.seats[from].address.user_id == user(1) { 2 } else { 1 });
        self.post_to(from, receiver, body, only_for)
    }

    fn post_to(&mut self, from: usize, receiver_id: UserId, body: Body, only_for: Option<usize>) -> u64 {
        let id = self.write_to(from, receiver_id, body, only_for);
        self.send(from, id).expect("it can be sent")
    }

    fn write_to(
        &self,
        from: usize,
        receiver_id: UserId,
        body: Body,
        only_for: Option<usize>,
    ) -> LocalMessageId {
        let conversation_id = ConversationId::of_pair(self.seats[from].address.user_id, receiver_id);
        let message = NewMessage {
            only_for: only_for.map(|seat| self.seats[seat].address.clone()),
            ..NewMessage::new(ambient::idempotency_key(), conversation_id, receiver_id, body)
        };
        self.seats[from].store.update(|tx| tx.enqueue(message, self.now)).unwrap().local_id
    }

    /// Writes a message of the second user to the first, and does not send it.
    pub(super) fn write(&self, from: usize, body: Body) -> LocalMessageId {
        self.write_to(from, user(1), body, None)
    }

    /// Tells a device that a message of it is stored under the id of this number, with another number, whatever is there.
    pub(super) fn acknowledge(
        &self,
        from: usize,
        local_id: LocalMessageId,
        id: u64,
        sequence_number: u64,
    ) -> Ingested {
        let (status, timestamp) = (MessageStatus::Sent, self.now);
        let ack = MessageAck { message_id: message_id(id), sequence_number, status, timestamp };
        self.take(from, &Batch { acks: vec![(local_id, ack)], ..Batch::default() })
    }

    pub(super) fn text(&mut self, from: usize, text: &str) -> u64 {
        self.post(from, Body::Text(text.into()), None)
    }

    pub(super) fn text_to(&mut self, from: usize, receiver: u128, text: &str) -> u64 {
        self.post_to(from, user(receiver), Body::Text(text.into()), None)
    }

    /// The second user answers the turn of this number; returns the answer's.
    pub(super) fn answer(&mut self, from: usize, turn: u64, text: &str) -> u64 {
        let (turn_id, body) = (message_id(turn), Body::Text(text.into()));
        let message = NewMessage {
            reply_to: Some(turn_id),
            ..NewMessage::new(IdempotencyKey::of_turn(turn_id), conversation(), user(1), body)
        };
        let written = self.seats[from].store.update(|tx| tx.enqueue(message, self.now)).unwrap();
        self.send(from, written.local_id).expect("it can be sent")
    }

    /// Tells a device that the turn of this number was given up; returns what it tells of that.
    pub(super) fn give_up(&self, at: usize, turn: u64) -> Vec<Event> {
        let turn = TurnPlace { conversation_id: conversation(), turn_id: message_id(turn) };
        self.take(at, &Batch { given_up: vec![turn], ..Batch::default() }).events
    }

    /// Sends everything in the outbox; returns the numbers.
    pub(super) fn send_all(&mut self, from: usize) -> Vec<u64> {
        let waiting = self.seats[from].store.read(|tx| tx.outbox_all()).unwrap();
        waiting.into_iter().filter_map(|record| self.send(from, record.local_id)).collect()
    }

    fn send(&mut self, from: usize, id: LocalMessageId) -> Option<u64> {
        loop {
            match self.seats[from].store.update(|tx| dispatch::seal_message(tx, id, self.now)).unwrap() {
                Sealing::Sealed => break,
                Sealing::NeedKeys(needed) => {
                    let record = self.seats[from].store.read(|tx| tx.outbox(id)).unwrap().unwrap();
                    let conversation = record.conversation_id;
                    for (owner, devices) in needed {
                        let keys = devices.iter().map(|device| self.claim(owner, device)).collect();
                        let claimed = ClaimedKeys { keys };
                        let store = &self.seats[from].store;
                        let learn = |tx: &mut Transaction<'_>| {
                            dispatch::learn_keys(tx, conversation, owner, &claimed)
                        };
                        assert!(store.update(learn).unwrap());
                    }
                }
                Sealing::Failed(_) => return None,
                other => panic!("{other:?}"),
            }
        }
        let record = self.seats[from].store.read(|tx| tx.outbox(id)).unwrap().unwrap();
        let OutboxState::Sealed(payload) = record.state else { panic!("it was just sealed") };
        let sender = self.seats[from].address.clone();
        self.log.push(Logged { sender, payload: *payload, key: record.idempotency_key });
        let sequence_number = self.log.len() as u64;
        self.acknowledge(from, id, sequence_number, sequence_number);
        Some(sequence_number)
    }

    fn claim(&mut self, owner: UserId, device: &DeviceId) -> ClaimedKey {
        let of = |seat: &&mut Seat| seat.address.user_id == owner && seat.address.device_id == *device;
        let seat = self.seats.iter_mut().find(of).expect("a device on the desk");
        ClaimedKey { device_id: device.clone(), key: seat.keys.pop().unwrap(), fallback: false }
    }

    /// A logged message as a device is shown it.
    pub(super) fn shown(&self, number: u64, to: usize) -> DeliveredMessage {
        let logged = &self.log[usize::try_from(number).unwrap() - 1];
        let to = &self.seats[to].address;
        let sealed = logged.payload.content.sealed_for(to.user_id, &to.device_id);
        DeliveredMessage {
            message_id: message_id(number),
            sequence_number: number,
            sender_id: logged.sender.user_id,
            sender_device_id: logged.sender.device_id.clone(),
            receiver_id: logged.payload.receiver_id,
            conversation_id: logged.payload.conversation_id,
            content: sealed.map(|sealed| OwnedSealedContent {
                algorithm: sealed.algorithm,
                sender_key: sealed.sender_key.to_owned(),
                kind: sealed.kind,
                body: sealed.body.to_owned(),
            }),
            r#type: MessageType::Text,
            media_url: None,
            reply_to_message_id: logged.payload.reply_to_message_id,
            timestamp: self.now,
            status: MessageStatus::Sent,
            idempotency_key: (logged.sender.user_id == to.user_id).then_some(logged.key),
        }
    }

    /// Hands messages to a device, in one batch.
    pub(super) fn hand(&self, to: usize, messages: impl IntoIterator<Item = DeliveredMessage>) -> Ingested {
        let arrivals = messages.into_iter().map(|message| Arrival::Message(Box::new(message))).collect();
        self.take(to, &Batch { arrivals, ..Batch::default() })
    }

    /// Hands numbers to a device as they are in the log.
    pub(super) fn deliver(&self, to: usize, numbers: impl IntoIterator<Item = u64>) -> Ingested {
        self.hand(to, numbers.into_iter().map(|number| self.shown(number, to)))
    }

    fn take(&self, to: usize, batch: &Batch) -> Ingested {
        self.seats[to].store.update(|tx| ingest(tx, batch, self.now)).unwrap()
    }
}

pub(super) fn message_id(number: u64) -> MessageId {
    MessageId(Uuid::from_u128(u128::from(number)))
}

/// A copy that does not decrypt: the last bytes hold the authentication code.
pub(super) fn damaged(mut message: DeliveredMessage) -> DeliveredMessage {
    let content = message.content.as_mut().unwrap();
    let mut bytes = vodozemac::base64_decode(&content.body).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    content.body = vodozemac::base64_encode(bytes);
    message
}
