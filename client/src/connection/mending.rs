//! Mending broken sessions: asking for what could not be decrypted, and answering who asks.
//!
//! The asking device has marked its sessions as broken, so its question opens a new one, and the answer comes
//! under that. Both sides spend from a budget: see [`crate::crypto::repair`].

use colloquy_protocol::frame::server::DeliveredMessage;
use colloquy_protocol::ids::{DeviceAddress, MessageId};

use super::ingest::Ingest;
use crate::ambient;
use crate::crypto::plaintext::REPAIR_IDS_MAX;
use crate::crypto::{Body, ResentItem, Told};
use crate::event::Event;
use crate::message::Message;
use crate::store::outbox::NewMessage;
use crate::store::{ConversationRecord, MessageContent, StoreError};

impl Ingest<'_, '_> {
    /// Notes that `message` is to be asked for again; `false` if the device's repairs are spent.
    pub(super) fn ask_for(&mut self, sender: &DeviceAddress, message: &DeliveredMessage) -> bool {
        let noted = self.repairs.entry((sender.clone(), message.conversation_id)).or_default();
        if noted.is_empty() {
            let allowed = self.peers.get_mut(sender).is_some_and(|peer| peer.asked.take(self.now));
            if !allowed {
                return false;
            }
        }
        let fits = noted.len() < REPAIR_IDS_MAX;
        if fits {
            noted.push(message.message_id);
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
        if !self.peers.get_mut(asker).is_some_and(|peer| peer.answered.take(self.now)) {
            return Ok(());
        }
        let mut items: Vec<ResentItem> = Vec::new();
        for id in ids {
            let Some(record) = self.tx.message(*id)? else { continue };
            let was_told = |told: &Told| self.peers.get(asker).is_some_and(|peer| told.is(peer));
            if record.sender != self.own
                || record.conversation_id != conversation.conversation_id
                || !record.told.iter().any(was_told)
            {
                continue;
            }
            match record.content {
                // What could not be decrypted was itself a resend: what it named goes out with it.
                MessageContent::Known(Body::Resend { items: nested }) => {
                    items.extend(nested);
                    items.push(ResentItem { message_id: *id, text: None });
                }
                MessageContent::Known(body) => {
                    items.push(ResentItem { message_id: *id, text: body.text().map(str::to_owned) });
                }
                MessageContent::Undecryptable(_) | MessageContent::Unavailable => {}
            }
        }
        items.truncate(REPAIR_IDS_MAX);
        if !items.is_empty() {
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
            record.content = MessageContent::Known(item.text.map_or(Body::Blank, Body::Text));
            self.tx.put_message(&record);
            let shown = Message::stored(&record, self.own.user_id, conversation).map(Box::new);
            self.out.events.extend(shown.map(Event::MessageRepaired));
        }
        Ok(())
    }

    fn enqueue(
        &mut self,
        conversation: &ConversationRecord,
        body: Body,
        only_for: DeviceAddress,
    ) -> Result<(), StoreError> {
        let message = NewMessage {
            idempotency_key: ambient::idempotency_key(),
            conversation_id: conversation.conversation_id,
            receiver_id: conversation.peer,
            body,
            only_for: Some(only_for),
        };
        match self.tx.enqueue(message, self.now) {
            Ok(record) => self.out.enqueued.push((record.local_id, record.conversation_id)),
            // A full outbox must not keep messages from coming in: the repair is left undone.
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
