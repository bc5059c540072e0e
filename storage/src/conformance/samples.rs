//! Users, messages, devices and keys to test with. Ids are random, so that behaviours may share a database.

use colloquy_protocol::UnixMillis;
use colloquy_protocol::envelope::{Algorithm, CiphertextKind, DeviceCiphertext, Envelope};
use colloquy_protocol::frame::MessageType;
use colloquy_protocol::ids::{ConversationId, DeviceId, IdempotencyKey, LoginId, MessageId, UserId};
use uuid::Uuid;

use crate::ambient::Entropy;
use crate::model::account::User;
use crate::model::device::{Device, PublishedKey};
use crate::model::login::Login;
use crate::model::message::Message;
use crate::ports::Store;
use crate::ports::message_log::{Append, Appended, Placed};

/// When behaviours take place.
pub(super) const NOW: UnixMillis = 1_700_000_000_000;

/// Where samples come from.
#[derive(Clone)]
pub(super) struct Samples(Entropy);

impl Samples {
    pub(super) fn new() -> Self {
        Self(Entropy::from_os())
    }

    pub(super) fn user_id(&self) -> UserId {
        UserId(self.0.uuid_v7(NOW))
    }

    pub(super) fn key(&self) -> IdempotencyKey {
        let mut random = [0; 16];
        self.0.fill(&mut random);
        IdempotencyKey::new(uuid::Builder::from_random_bytes(random).into_uuid()).unwrap()
    }

    pub(super) fn message(&self, pair: Pair, body: &str) -> Message {
        let ciphertext = |user_id, device: &str| DeviceCiphertext {
            user_id,
            device_id: device_id(device),
            kind: CiphertextKind::Normal,
            body: body.to_owned(),
        };
        Message {
            message_id: MessageId(self.0.uuid_v7(NOW)),
            sequence_number: 0,
            conversation_id: pair.conversation_id,
            sender_id: pair.a,
            sender_device_id: device_id("phone"),
            receiver_id: pair.b,
            idempotency_key: self.key(),
            r#type: MessageType::Text,
            content: Envelope {
                algorithm: Algorithm::OlmV1,
                sender_key: "c2VuZGVy".to_owned(),
                ciphertexts: vec![ciphertext(pair.b, "phone"), ciphertext(pair.a, "laptop")],
            },
            media_url: None,
            reply_to_message_id: None,
            sent_at: NOW,
            created_at: NOW,
        }
    }

    pub(super) fn messages(&self, pair: Pair, count: usize) -> Vec<Message> {
        (0..count).map(|n| self.message(pair, &format!("body{n}"))).collect()
    }

    /// With a phone number and an email address that nobody else has.
    pub(super) fn user(&self) -> User {
        let user_id = self.user_id();
        let number = user_id.0.as_u128() % 10_u128.pow(14);
        User {
            user_id,
            phone: Some(format!("+1{number:014}")),
            email: Some(format!("{}@example.org", user_id.0.simple())),
            name: "Ada".to_owned(),
            avatar_url: Some("https://example.org/ada.png".to_owned()),
            password_hash: "$argon2id$v=19$m=8,t=1,p=1$c2FsdA$aGFzaA".to_owned(),
            created_at: NOW,
            last_seen: None,
        }
    }

    pub(super) fn login(&self, user_id: UserId) -> Login {
        Login {
            login_id: LoginId(self.0.uuid_v7(NOW)),
            user_id,
            device_id: None,
            generation: 0,
            rotated_at: NOW,
            created_at: NOW,
        }
    }
}

/// A 1:1 conversation; `a` is who sends.
#[derive(Clone, Copy)]
pub(super) struct Pair {
    pub(super) conversation_id: ConversationId,
    pub(super) a: UserId,
    pub(super) b: UserId,
}

impl Pair {
    pub(super) async fn open(store: &Store, samples: &Samples) -> Self {
        Self::open_for(store, samples.user_id(), samples.user_id(), NOW).await
    }

    pub(super) async fn open_for(store: &Store, a: UserId, b: UserId, now: UnixMillis) -> Self {
        let (conversation, _) = store.conversations.open_pair(a, b, now).await.unwrap();
        Self { conversation_id: conversation.conversation_id, a, b }
    }

    /// The same conversation, with the other one sending.
    pub(super) fn turned(self) -> Self {
        Self { a: self.b, b: self.a, ..self }
    }
}

/// Somebody who may append to a conversation, and what they know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) conversation_id: ConversationId,
    pub(super) epoch: u64,
    pub(super) last_sequence: u64,
}

impl Owner {
    pub(super) async fn of(store: &Store, pair: Pair) -> Self {
        let taken = store.log.take_ownership(pair.conversation_id).await.unwrap();
        Self { conversation_id: pair.conversation_id, epoch: taken.epoch, last_sequence: taken.last_sequence }
    }

    pub(super) fn append(&self, messages: Vec<Message>) -> Append {
        Append {
            conversation_id: self.conversation_id,
            epoch: self.epoch,
            after_sequence: self.last_sequence,
            messages,
        }
    }

    /// Appends alone and is not fenced; knows the new end afterwards.
    pub(super) async fn place(&mut self, store: &Store, messages: Vec<Message>) -> Vec<Placed> {
        let placed = placed(self.try_place(store, messages).await);
        let new = placed.iter().filter(|placed| matches!(placed, Placed::New(_)));
        self.last_sequence += new.count() as u64;
        placed
    }

    pub(super) async fn try_place(&self, store: &Store, messages: Vec<Message>) -> Appended {
        let mut answers = store.log.append(vec![self.append(messages)]).await.unwrap();
        assert_eq!(answers.len(), 1, "one answer for one append");
        answers.remove(0)
    }
}

pub(super) fn placed(appended: Appended) -> Vec<Placed> {
    match appended {
        Appended::Placed(placed) => placed,
        fenced @ Appended::Fenced { .. } => panic!("was to be placed: {fenced:?}"),
    }
}

/// The number of a new message.
pub(super) fn number_of(placed: &Placed) -> u64 {
    match placed {
        Placed::New(message) => message.sequence_number,
        duplicate @ Placed::Duplicate { .. } => panic!("was to be new: {duplicate:?}"),
    }
}

pub(super) fn device_id(text: &str) -> DeviceId {
    DeviceId::new(text).unwrap()
}

pub(super) fn device(id: &str) -> Device {
    Device {
        device_id: device_id(id),
        platform: "terminal".to_owned(),
        identity_key: format!("identity-{id}"),
        signing_key: format!("signing-{id}"),
        identity_signature: format!("signed-{id}"),
        registered_at: NOW,
    }
}

pub(super) fn published(key_id: &str) -> PublishedKey {
    PublishedKey {
        key_id: key_id.to_owned(),
        key: format!("key-{key_id}"),
        signature: format!("signature-{key_id}"),
    }
}

/// Keys with the ids `{prefix}{from}` to `{prefix}{to}`, without the last.
pub(super) fn keys(prefix: &str, range: std::ops::Range<usize>) -> Vec<PublishedKey> {
    range.map(|n| published(&format!("{prefix}{n:04}"))).collect()
}

/// An id that is nobody's.
pub(super) fn nobody() -> Uuid {
    Uuid::from_u128(0xdead_beef)
}
