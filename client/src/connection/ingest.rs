//! What arrived, into the store: one batch of ratchets, messages, marks and cursors (DURABLE, ONCE).
//!
//! Runs inside one store transaction and returns what to tell and to send once that is on disk.

use std::collections::{BTreeMap, BTreeSet};

use colloquy_protocol::UnixMillis;
use colloquy_protocol::envelope::{CiphertextKind, OwnedSealedContent};
use colloquy_protocol::frame::client::MessagePosition;
use colloquy_protocol::frame::delta::TurnPlace;
use colloquy_protocol::frame::server::{DeliveredMessage, MessageAck};
use colloquy_protocol::ids::{ConversationId, DeviceAddress, IdempotencyKey, MessageId, UserId};

use super::verdicts::weigh;
use crate::crypto::{Body, DecryptionFailure, DeviceAccount, Expected, PeerDevice, open};
use crate::event::Event;
use crate::message::Message;
use crate::store::{
    ConversationRecord, LocalMessageId, MessageContent, MessageRecord, OutboxRecord, StoreError, Transaction,
};

/// Something that takes a number in a conversation, in the order of the numbers.
#[derive(Clone, Debug)]
pub(crate) enum Arrival {
    /// A message from the server.
    Message(Box<DeliveredMessage>),
    /// A message of this device: its ack stands for it.
    Own(MessagePosition, MessageId),
}

/// How far the marks of a conversation have moved, by a receipt or by the server's list; 0 where there is no news.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MarkMove {
    pub(crate) conversation_id: ConversationId,
    /// The other participant holds everything up to here ...
    pub(crate) delivered_through: u64,
    /// ... and has seen everything up to here.
    pub(crate) read_through: u64,
    /// The server knows that this user has, on whichever device.
    pub(crate) own_read_through: u64,
    /// The list says of everything up to here what was given up.
    pub(crate) listed_through: u64,
}

/// Messages looked through to count again what is unread. Where more are unread, the count stays too high until
/// they are read.
const UNREAD_RECOUNT_MAX: usize = 500;

/// What a batch has led to.
#[derive(Debug, Default)]
pub(crate) struct Ingested {
    /// To be told, in order.
    pub(crate) events: Vec<Event>,
    /// How many arrivals are done with. If not all, `blocked_on` says why.
    pub(crate) processed: usize,
    /// This user's device list is needed before the next arrival can be judged.
    pub(crate) blocked_on: Option<UserId>,
    /// Messages of other devices, to be acknowledged up to here.
    pub(crate) acks: BTreeMap<ConversationId, (u64, MessageId)>,
    /// What this device says by itself, or because a turn is answered: put into the outbox.
    pub(crate) enqueued: Vec<(LocalMessageId, ConversationId)>,
    /// Messages of the outbox that turned out to be stored.
    pub(crate) settled: Vec<LocalMessageId>,
    /// Messages that opened a session with one of this device's keys.
    pub(crate) keys_used: u64,
}

/// The parts of a batch.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) acks: Vec<(LocalMessageId, MessageAck)>,
    pub(crate) marks: Vec<MarkMove>,
    /// Turns of which the server says that they were given up.
    pub(crate) given_up: Vec<TurnPlace>,
    pub(crate) arrivals: Vec<Arrival>,
    /// This user's device list has just been fetched, or cannot be: who is not on it is unknown for good.
    pub(crate) refetched: Option<UserId>,
}

pub(super) struct Ingest<'t, 'a> {
    pub(super) tx: &'t mut Transaction<'a>,
    pub(super) own: DeviceAddress,
    pub(super) now: UnixMillis,
    /// Read when a message may open a session, and then written.
    account: Option<DeviceAccount>,
    pub(super) peers: BTreeMap<(DeviceAddress, ConversationId), PeerDevice>,
    /// Messages to ask for again, per device and conversation: one repair for all of a batch.
    pub(super) repairs: BTreeMap<(DeviceAddress, ConversationId), Vec<MessageId>>,
    /// Devices that have told something again, and in which conversation.
    pub(super) answered_by: BTreeSet<(DeviceAddress, ConversationId)>,
    pub(super) out: Ingested,
}

/// Takes in one batch.
pub(crate) fn ingest(
    tx: &mut Transaction<'_>,
    batch: &Batch,
    now: UnixMillis,
) -> Result<Ingested, StoreError> {
    let mut ingest = Ingest::begin(tx, now)?;
    for (local_id, ack) in &batch.acks {
        if let Some(record) = ingest.tx.outbox(*local_id)? {
            ingest.settle(&record, ack.message_id, ack.sequence_number, ack.timestamp)?;
        }
    }
    for mark in &batch.marks {
        ingest.move_mark(mark)?;
    }
    for turn in &batch.given_up {
        ingest.give_up(*turn)?;
    }
    for arrival in &batch.arrivals {
        let done = match arrival {
            Arrival::Own(position, id) => ingest.advance_own(position, *id)?,
            Arrival::Message(message) => ingest.take(message, batch.refetched)?,
        };
        if !done {
            break;
        }
        ingest.out.processed += 1;
    }
    ingest.finish()
}

impl<'t, 'a> Ingest<'t, 'a> {
    pub(super) fn begin(tx: &'t mut Transaction<'a>, now: UnixMillis) -> Result<Self, StoreError> {
        let own = tx.identity()?.ok_or(StoreError::Damaged("the identity is missing"))?;
        Ok(Self {
            own: own.address,
            tx,
            now,
            account: None,
            peers: BTreeMap::new(),
            repairs: BTreeMap::new(),
            answered_by: BTreeSet::new(),
            out: Ingested::default(),
        })
    }

    /// A device with its ratchets of a conversation, read once for each batch.
    pub(super) fn load(
        &mut self,
        address: &DeviceAddress,
        conversation: ConversationId,
    ) -> Result<Option<&mut PeerDevice>, StoreError> {
        let key = (address.clone(), conversation);
        if !self.peers.contains_key(&key)
            && let Some(peer) = self.tx.peer_in(conversation, address)?
        {
            self.peers.insert(key.clone(), peer);
        }
        Ok(self.peers.get_mut(&key))
    }

    /// The server has stored a message of this device. One that it says to be where another is stays in the outbox, as if
    /// nothing had been said: what was signed about the other must not come to be about it.
    fn settle(
        &mut self,
        record: &OutboxRecord,
        message_id: MessageId,
        sequence_number: u64,
        timestamp: UnixMillis,
    ) -> Result<(), StoreError> {
        if self.is_taken(record.conversation_id, sequence_number, message_id)? {
            tracing::warn!("a message is said to be stored in the place of another");
            return Ok(());
        }
        let stored = MessageRecord {
            message_id,
            conversation_id: record.conversation_id,
            sequence_number,
            sender: self.own.clone(),
            local_id: Some(record.local_id),
            timestamp,
            content: MessageContent::Known(record.body.clone()),
            told: record.told.clone(),
            reply_to: record.reply_to,
        };
        self.tx.put_message(&stored);
        weigh(self.tx, &stored)?;
        self.tx.remove_outbox(record.local_id)?;
        if let Some(turn) = record.turn() {
            self.tx.use_key(self.own.user_id, record.idempotency_key)?;
            if let Some(turn) = self.tx.turn(turn)? {
                self.out.enqueued.extend(self.tx.follow_up(turn, self.now)?.enqueued);
            }
        }
        self.out.settled.push(record.local_id);
        let mut conversation = self.conversation(record.conversation_id, record.receiver_id)?;
        conversation.last_activity_at = conversation.last_activity_at.max(timestamp);
        if record.body.is_for_a_person() {
            conversation.own_last = conversation.own_last.max(sequence_number);
        }
        self.tx.put_conversation(&conversation);
        if record.body.is_for_a_person() {
            self.out.events.push(Event::MessageSent {
                local_id: record.local_id,
                message_id,
                conversation_id: record.conversation_id,
                sequence_number,
            });
        }
        self.tell_if_given_up(&conversation, &stored);
        Ok(())
    }

    /// Does another message have this number, or this id? What this device sent, and did not know again, has neither yet.
    fn is_taken(
        &self,
        conversation: ConversationId,
        number: u64,
        message_id: MessageId,
    ) -> Result<bool, StoreError> {
        let is_unknown = |there: &MessageRecord| {
            there.message_id == message_id
                && there.sender == self.own
                && there.content == MessageContent::Unavailable
        };
        match self.tx.message_at(conversation, number)? {
            Some(there) => Ok(!is_unknown(&there)),
            None => self.tx.has_seen(message_id),
        }
    }

    fn move_mark(&mut self, mark: &MarkMove) -> Result<(), StoreError> {
        let Some(before) = self.tx.conversation(mark.conversation_id)? else { return Ok(()) };
        let read_through = before.read_through.max(mark.read_through);
        let mut after = ConversationRecord {
            delivered_through: before.delivered_through.max(mark.delivered_through).max(read_through),
            read_through,
            own_read_through: before.own_read_through.max(mark.own_read_through),
            own_read_told: before.own_read_told.max(mark.own_read_through),
            listed_through: before.listed_through.max(mark.listed_through),
            ..before.clone()
        };
        if after.own_read_through > before.own_read_through {
            after.unread = self.recount_unread(&after)?;
        }
        if after == before {
            return Ok(());
        }
        self.tx.put_conversation(&after);
        let shown = |record: &ConversationRecord| {
            (record.delivered_through, record.read_through, record.own_read_through, record.unread)
        };
        if shown(&after) != shown(&before) {
            self.out.events.push(Event::MarksMoved {
                conversation_id: mark.conversation_id,
                delivered_through: after.delivered_through,
                read_through: after.read_through,
                own_read_through: after.own_read_through,
            });
        }
        Ok(())
    }

    /// Notes a question of this user as given up, also one that is still on its way here, and tells of it. One that was answered
    /// since is none: what the server said of it has crossed the answer.
    fn give_up(&mut self, turn: TurnPlace) -> Result<(), StoreError> {
        let TurnPlace { turn_id, conversation_id } = turn;
        let Some(mut conversation) = self.tx.conversation(conversation_id)? else { return Ok(()) };
        let question = self.tx.message(turn_id)?;
        let is_asked_here = |question: &MessageRecord| {
            question.conversation_id == conversation_id
                && question.sender.user_id == self.own.user_id
                && question.content.is_shown()
        };
        if question.as_ref().is_some_and(|question| !is_asked_here(question))
            || self.tx.has_used_key(conversation.peer, IdempotencyKey::of_turn(turn_id))?
            || !conversation.give_up(turn_id)
        {
            return Ok(());
        }
        self.tx.put_conversation(&conversation);
        if let Some(question) = question {
            self.tell_if_given_up(&conversation, &question);
        }
        Ok(())
    }

    /// A question that was given up is here: it is told of, unless it is from before this device.
    fn tell_if_given_up(&mut self, conversation: &ConversationRecord, question: &MessageRecord) {
        let (turn_id, conversation_id) = (question.message_id, question.conversation_id);
        let is_own = question.sender.user_id == self.own.user_id;
        if is_own && is_news(question) && conversation.given_up.contains(&turn_id) {
            self.out.events.push(Event::TurnGivenUp { turn_id, conversation_id });
        }
    }

    /// Another device of this user has read on.
    fn recount_unread(&self, conversation: &ConversationRecord) -> Result<u64, StoreError> {
        let (read, cursor) = (conversation.own_read_through, conversation.cursor);
        if read >= cursor {
            return Ok(0);
        }
        let id = conversation.conversation_id;
        let rest = self.tx.messages_between(id, read + 1, cursor, UNREAD_RECOUNT_MAX)?;
        if rest.len() == UNREAD_RECOUNT_MAX {
            return Ok(conversation.unread);
        }
        let own = self.own.user_id;
        Ok(rest.iter().filter(|record| record.sender.user_id != own && is_news(record)).count() as u64)
    }

    fn advance_own(&mut self, position: &MessagePosition, id: MessageId) -> Result<bool, StoreError> {
        if let Some(mut conversation) = self.tx.conversation(position.conversation_id)? {
            advance(&mut conversation, position.sequence_number, id);
            self.tx.put_conversation(&conversation);
        }
        Ok(true)
    }

    /// Takes one message. `false` if its sender's device list is needed first.
    fn take(&mut self, message: &DeliveredMessage, refetched: Option<UserId>) -> Result<bool, StoreError> {
        let sender =
            DeviceAddress { user_id: message.sender_id, device_id: message.sender_device_id.clone() };
        let other = if sender.user_id == self.own.user_id { message.receiver_id } else { sender.user_id };
        let mut conversation = self.conversation(message.conversation_id, other)?;
        let number = message.sequence_number;
        // A number that a message of this device was acknowledged under is not another one's.
        let is_new = number > conversation.cursor
            && !self.is_taken(message.conversation_id, number, message.message_id)?;
        if is_new && sender == self.own {
            self.take_own(message)?;
            conversation = self.conversation(message.conversation_id, other)?;
        } else if is_new {
            let opened = match &message.content {
                // A server must not carry what one user says into the conversation with another.
                _ if message.conversation_id != ConversationId::of_pair(self.own.user_id, other) => {
                    Err(DecryptionFailure::ForeignConversation)
                }
                None => Ok(None),
                Some(sealed) => match self.open(message, &sender, sealed, refetched)? {
                    Some(outcome) => outcome.map(Some),
                    None => {
                        self.out.blocked_on = Some(sender.user_id);
                        return Ok(false);
                    }
                },
            };
            self.keep(message, &sender, opened, &mut conversation)?;
        }
        advance(&mut conversation, number, message.message_id);
        conversation.last_activity_at = conversation.last_activity_at.max(message.timestamp);
        self.tx.put_conversation(&conversation);
        if sender != self.own {
            self.out.acks.insert(message.conversation_id, (number, message.message_id));
        }
        Ok(true)
    }

    /// A message of this device comes in a page: its ack was lost, or it was sent before the store was.
    fn take_own(&mut self, message: &DeliveredMessage) -> Result<(), StoreError> {
        let waiting = match message.idempotency_key {
            // Only after a lost ack: looking through the outbox is dear, and rare.
            Some(key) => self.tx.outbox_all()?.into_iter().find(|record| {
                record.idempotency_key == key && record.conversation_id == message.conversation_id
            }),
            None => None,
        };
        match waiting {
            Some(record) => {
                self.settle(&record, message.message_id, message.sequence_number, message.timestamp)
            }
            None => {
                let record = self.record(message, self.own.clone(), MessageContent::Unavailable);
                self.tx.put_message(&record);
                Ok(())
            }
        }
    }

    /// Decrypts; nothing if the sender's device list is needed to judge it.
    fn open(
        &mut self,
        message: &DeliveredMessage,
        sender: &DeviceAddress,
        sealed: &OwnedSealedContent,
        refetched: Option<UserId>,
    ) -> Result<Option<Result<Body, DecryptionFailure>>, StoreError> {
        let may_refetch = refetched != Some(sender.user_id);
        self.load(sender, message.conversation_id)?;
        let Some(peer) = self.peers.get_mut(&(sender.clone(), message.conversation_id)) else {
            return Ok((!may_refetch).then_some(Err(DecryptionFailure::UnknownSender)));
        };
        let expected =
            Expected { conversation_id: message.conversation_id, idempotency_key: message.idempotency_key };
        if sealed.kind == CiphertextKind::PreKey {
            if self.account.is_none() {
                self.account = self.tx.account()?;
            }
            self.out.keys_used += 1;
        }
        let outcome = open(&self.own, self.account.as_mut(), peer, sealed, expected);
        match outcome {
            Err(DecryptionFailure::SenderKeyChanged) if may_refetch => Ok(None),
            Err(failure) => Ok(Some(Err(failure))),
            Ok(opened) => {
                let is_first = self.tx.use_key(sender.user_id, opened.idempotency_key)?;
                Ok(Some(if is_first { Ok(opened.body) } else { Err(DecryptionFailure::Replayed) }))
            }
        }
    }

    /// Stores a message of another device and does what it says.
    fn keep(
        &mut self,
        message: &DeliveredMessage,
        sender: &DeviceAddress,
        opened: Result<Option<Body>, DecryptionFailure>,
        conversation: &mut ConversationRecord,
    ) -> Result<(), StoreError> {
        let content = match &opened {
            Ok(Some(body)) => MessageContent::Known(body.clone()),
            Ok(None) => MessageContent::Unavailable,
            Err(failure) => MessageContent::Undecryptable(*failure),
        };
        let record = self.record(message, sender.clone(), content);
        self.tx.put_message(&record);
        weigh(self.tx, &record)?;
        let (own, number) = (self.own.user_id, record.sequence_number);
        match is_news(&record) {
            true if sender.user_id == own => conversation.own_last = conversation.own_last.max(number),
            // It may have been read on another device while this one was away.
            true if number > conversation.own_read_through => conversation.unread += 1,
            _ => {}
        }
        if let Some(turn_id) = message.reply_to_message_id.filter(|_| sender.user_id != own) {
            conversation.answered(turn_id);
        }
        let decided = self.tx.verdict_on(&record)?;
        let shown = Message::stored(&record, own, conversation, decided).map(Box::new);
        match opened {
            Ok(Some(Body::SessionRepair { message_ids })) => {
                self.answer_repair(sender, conversation, &message_ids)?;
            }
            Ok(Some(Body::Resend { items })) => self.apply_resend(sender, conversation, items)?,
            Ok(Some(_)) => self.out.events.extend(shown.map(Event::MessageReceived)),
            Ok(None) => {}
            Err(failure) => {
                let repair_asked = failure.calls_for_repair() && self.ask_for(sender, message)?;
                self.out.events.extend(shown.map(|message| Event::DecryptionFailed {
                    message,
                    failure,
                    repair_asked,
                }));
            }
        }
        self.tell_if_given_up(conversation, &record);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Ingested, StoreError> {
        self.ask_on()?;
        self.ask_for_repairs()?;
        for ((_, conversation), peer) in &self.peers {
            self.tx.put_ratchets(*conversation, peer);
        }
        if let Some(account) = &self.account {
            self.tx.put_account(account);
        }
        Ok(self.out)
    }

    fn conversation(&self, id: ConversationId, peer: UserId) -> Result<ConversationRecord, StoreError> {
        Ok(self.tx.conversation(id)?.unwrap_or_else(|| ConversationRecord::new(id, peer)))
    }

    fn record(
        &self,
        message: &DeliveredMessage,
        sender: DeviceAddress,
        content: MessageContent,
    ) -> MessageRecord {
        MessageRecord {
            message_id: message.message_id,
            conversation_id: message.conversation_id,
            sequence_number: message.sequence_number,
            sender,
            local_id: None,
            timestamp: message.timestamp,
            content,
            told: Vec::new(),
            reply_to: message.reply_to_message_id,
        }
    }
}

/// Is this for a person to see, and younger than this device? What is older is history.
fn is_news(record: &MessageRecord) -> bool {
    record.content.is_shown() && record.content != MessageContent::Unavailable
}

fn advance(conversation: &mut ConversationRecord, number: u64, id: MessageId) {
    if number > conversation.cursor {
        conversation.cursor = number;
        conversation.cursor_message_id = Some(id);
    }
}
