//! Mending broken sessions: asking for what could not be decrypted, and answering who asks.
//!
//! Where its sessions are broken, the asking device has marked them so, its question opens a new one, and the
//! answer comes under that. Both sides spend from a budget: see [`crate::crypto::repair`]. What is beyond one question
//! is asked for once that is answered; what is beyond the budget, or is not answered, later: see
//! [`crate::store::repairs`].

use colloquy_protocol::UnixMillis;
use colloquy_protocol::frame::server::DeliveredMessage;
use colloquy_protocol::ids::{ConversationId, DeviceAddress, MessageId};

use super::ingest::{Ingest, Ingested};
use super::verdicts::weigh_late;
use crate::ambient;
use crate::crypto::plaintext::REPAIR_IDS_MAX;
use crate::crypto::repair::{ANSWERS_MAX, REPAIRS_MAX};
use crate::crypto::{Body, RepairBudget, ResentItem, Told};
use crate::event::Event;
use crate::message::Message;
use crate::store::outbox::NewMessage;
use crate::store::repairs::RepairRecord;
use crate::store::{ConversationRecord, MessageContent, StoreError, Transaction};

/// What was said in one `resend`, bytes of UTF-8: it fits one ciphertext, beside an empty one for every other device that a
/// frame can be for.
const RESEND_BYTES_MAX: usize = 24 * 1024;
/// Messages one question is answered with. What does not fit is asked for again.
const RESENDS_MAX: usize = 16;

/// Asks for what is due to be asked for, and forgets what was asked for in vain.
pub(crate) fn ask_again(tx: &mut Transaction<'_>, now: UnixMillis) -> Result<Ingested, StoreError> {
    let mut ingest = Ingest::begin(tx, now)?;
    for record in ingest.tx.repairs()?.into_iter().filter(|record| record.is_due(now)) {
        ingest.ask_once_more(record)?;
    }
    ingest.finish()
}

/// Is anything due to be asked for?
pub(crate) fn has_due(tx: &Transaction<'_>, now: UnixMillis) -> Result<bool, StoreError> {
    Ok(tx.repairs()?.iter().any(|record| record.is_due(now)))
}

impl Ingest<'_, '_> {
    /// Notes that `message` is to be asked for again; `false` if that has to wait, or there is no more room.
    pub(super) fn ask_for(
        &mut self,
        sender: &DeviceAddress,
        message: &DeliveredMessage,
    ) -> Result<bool, StoreError> {
        let mut record = RepairRecord {
            message_id: message.message_id,
            conversation_id: message.conversation_id,
            sender: sender.clone(),
            asked: 0,
            asked_at: 0,
        };
        let is_asked = self.note(sender, message.conversation_id, message.message_id);
        if is_asked {
            record.ask(self.now);
        }
        self.tx.put_repair(&record)?;
        Ok(is_asked)
    }

    fn ask_once_more(&mut self, mut record: RepairRecord) -> Result<(), StoreError> {
        let message = self.tx.message(record.message_id)?;
        let is_open = message.is_some_and(|m| matches!(m.content, MessageContent::Undecryptable(_)));
        let is_there =
            self.load(&record.sender, record.conversation_id)?.is_some_and(|peer| !peer.is_removed());
        if record.is_spent() || !is_open || !is_there {
            return self.tx.remove_repair(record.message_id);
        }
        let sender = record.sender.clone();
        if self.note(&sender, record.conversation_id, record.message_id) {
            record.ask(self.now);
            self.tx.put_repair(&record)?;
        }
        Ok(())
    }

    /// Puts a message on this batch's question to `sender`, if there is one or the device's budget allows one.
    fn note(&mut self, sender: &DeviceAddress, conversation: ConversationId, id: MessageId) -> bool {
        let key = (sender.clone(), conversation);
        let noted = self.repairs.entry(key.clone()).or_default();
        if noted.is_empty() {
            let allowed = self.peers.get_mut(&key).is_some_and(|peer| peer.asked.take(REPAIRS_MAX, self.now));
            if !allowed {
                return false;
            }
        }
        let fits = noted.len() < REPAIR_IDS_MAX;
        if fits {
            noted.push(id);
        }
        fits
    }

    /// Another device could not decrypt messages of this one: what they said goes out again, to it alone, and only
    /// what was encrypted for it in the first place (E2EE). A device that a list names later, or one that has taken
    /// over the id of another, is told nothing that was said before.
    pub(super) fn answer_repair(
        &mut self,
        asker: &DeviceAddress,
        conversation: &ConversationRecord,
        ids: &[MessageId],
    ) -> Result<(), StoreError> {
        let key = (asker.clone(), conversation.conversation_id);
        if !self.peers.get_mut(&key).is_some_and(|peer| peer.answered.take(ANSWERS_MAX, self.now)) {
            return Ok(());
        }
        let (mut items, mut nested_items): (Vec<ResentItem>, Vec<ResentItem>) = Default::default();
        for id in ids {
            let Some(record) = self.tx.message(*id)? else { continue };
            let was_told = |told: &Told| self.peers.get(&key).is_some_and(|peer| told.is(peer));
            if record.sender != self.own
                || record.conversation_id != conversation.conversation_id
                || !record.told.iter().any(was_told)
            {
                continue;
            }
            match record.content {
                // What could not be decrypted was itself a resend: what it named goes out with it.
                MessageContent::Known(Body::Resend { items: nested }) => {
                    nested_items.extend(nested);
                    items.push(ResentItem { message_id: *id, body: None });
                }
                MessageContent::Known(body) => {
                    let body = Some(body).filter(Body::is_for_a_person);
                    items.push(ResentItem { message_id: *id, body });
                }
                MessageContent::Undecryptable(_) | MessageContent::Unavailable => {}
            }
        }
        items.extend(nested_items);
        for items in portions(items).into_iter().take(RESENDS_MAX) {
            self.enqueue(conversation, Body::Resend { items }, asker.clone())?;
        }
        Ok(())
    }

    /// What could not be decrypted has come again.
    pub(super) fn apply_resend(
        &mut self,
        sender: &DeviceAddress,
        conversation: &ConversationRecord,
        items: Vec<ResentItem>,
    ) -> Result<(), StoreError> {
        for item in items {
            let Some(mut record) = self.tx.message(item.message_id)? else { continue };
            let fits = matches!(record.content, MessageContent::Undecryptable(_))
                && record.sender == *sender
                && record.conversation_id == conversation.conversation_id;
            if !fits {
                continue;
            }
            record.content = MessageContent::Known(item.body.unwrap_or(Body::Blank));
            self.tx.put_message(&record);
            weigh_late(self.tx, &record)?;
            self.tx.remove_repair(record.message_id)?;
            let decided = self.tx.verdict_on(&record)?;
            let shown = Message::stored(&record, self.own.user_id, conversation, decided).map(Box::new);
            self.out.events.extend(shown.map(Event::MessageRepaired));
            if let Some(peer) = self.load(sender, record.conversation_id)? {
                peer.asked = RepairBudget::default();
            }
            self.answered_by.insert((sender.clone(), record.conversation_id));
        }
        Ok(())
    }

    /// Whoever has answered is asked for more, if there is more.
    pub(super) fn ask_on(&mut self) -> Result<(), StoreError> {
        if self.answered_by.is_empty() {
            return Ok(());
        }
        for record in self.tx.repairs()? {
            let key = (record.sender.clone(), record.conversation_id);
            let is_full = self.repairs.get(&key).is_some_and(|noted| noted.len() >= REPAIR_IDS_MAX);
            if record.asked == 0 && !is_full && self.answered_by.contains(&key) {
                self.ask_once_more(record)?;
            }
        }
        Ok(())
    }

    fn enqueue(
        &mut self,
        conversation: &ConversationRecord,
        body: Body,
        only_for: DeviceAddress,
    ) -> Result<(), StoreError> {
        let (key, id) = (ambient::idempotency_key(), conversation.conversation_id);
        let message =
            NewMessage { only_for: Some(only_for), ..NewMessage::new(key, id, conversation.peer, body) };
        match self.tx.enqueue(message, self.now) {
            Ok(record) => self.out.enqueued.push((record.local_id, record.conversation_id)),
            // A full outbox must not keep messages from coming in: it is asked for, or answered, another time.
            Err(StoreError::OutboxFull) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// One question for all that a batch could not decrypt of one device in one conversation.
    pub(super) fn ask_for_repairs(&mut self) -> Result<(), StoreError> {
        for ((sender, id), message_ids) in std::mem::take(&mut self.repairs) {
            if message_ids.is_empty() {
                continue;
            }
            if let Some(conversation) = self.tx.conversation(id)? {
                self.enqueue(&conversation, Body::SessionRepair { message_ids }, sender)?;
            }
        }
        Ok(())
    }
}

/// Cuts a list into what single messages can carry.
fn portions(items: Vec<ResentItem>) -> Vec<Vec<ResentItem>> {
    let mut portions: Vec<Vec<ResentItem>> = Vec::new();
    let mut bytes = 0;
    for item in items {
        let length = item.body.as_ref().map_or(0, Body::text_bytes);
        match portions.last_mut() {
            Some(last) if last.len() < REPAIR_IDS_MAX && bytes + length <= RESEND_BYTES_MAX => {
                bytes += length;
                last.push(item);
            }
            _ => {
                bytes = length;
                portions.push(vec![item]);
            }
        }
    }
    portions
}
