//! Encrypting and sending what is in the outbox, and what becomes of what was sent.

use colloquy_protocol::frame::client::{ClientFrame, ReadReceipt};
use colloquy_protocol::ids::ConversationId;

use super::dispatch::{self, Sealing};
use super::engine::{Ended, Engine};
use super::errand::Errand;
use super::live::{Link, sent};
use crate::ambient;
use crate::event::Event;
use crate::store::{LocalMessageId, SendFailure, StoreError};
use crate::sync::Work;

/// Errands made for one message in a row before it is given up.
const ROUNDS_MAX: u32 = 8;

impl Engine {
    /// What the server said about messages it did not store.
    pub(super) async fn judge(&mut self) -> Result<(), Ended> {
        for id in std::mem::take(&mut self.stale) {
            match self.shared.store.update_off_thread(move |tx| dispatch::unseal(tx, id)).await? {
                None => self.outbound.stale(id),
                Some(why) => self.failed(id, why)?,
            }
        }
        for (id, why) in std::mem::take(&mut self.rejected) {
            self.give_up(id, why).await?;
        }
        Ok(())
    }

    async fn give_up(&mut self, id: LocalMessageId, why: SendFailure) -> Result<(), Ended> {
        self.shared
            .store
            .update_off_thread(move |tx| {
                if let Some(record) = tx.outbox(id)? {
                    dispatch::fail(tx, record, why)?;
                }
                Ok::<_, StoreError>(())
            })
            .await?;
        self.failed(id, why)
    }

    /// The store has it as failed, or, being a control message, no longer at all.
    fn failed(&mut self, local_id: LocalMessageId, reason: SendFailure) -> Result<(), Ended> {
        self.forget(local_id);
        if let Some(record) = self.shared.store.read(|tx| tx.outbox(local_id))? {
            let conversation_id = record.conversation_id;
            self.shared.tell(Event::MessageFailed { local_id, conversation_id, reason });
        }
        Ok(())
    }

    /// It is no longer to be sent.
    pub(super) fn forget(&mut self, id: LocalMessageId) {
        self.rounds.remove(&id);
        if self.outbound.contains(id) {
            self.outbound.remove(id);
            self.shared.unsent.send_modify(|count| *count = count.saturating_sub(1));
        }
    }

    /// Encrypts and sends as much as the window allows.
    pub(super) async fn send_out(&mut self, link: &mut Link) -> Result<(), Ended> {
        let mut any = false;
        loop {
            let now = self.now();
            match self.outbound.next_work(now) {
                None => break,
                Some(Work::Seal(id)) => self.seal(id).await?,
                Some(Work::Send(id, client_sequence)) => {
                    let record = self.shared.store.read(|tx| tx.outbox(id))?;
                    let frame = record.and_then(|record| dispatch::frame(&record, client_sequence));
                    match frame {
                        Some(frame) => sent(link.socket.feed(&frame).await)?,
                        None => self.forget(id),
                    }
                    any = true;
                }
            }
        }
        if any { sent(link.socket.flush().await) } else { Ok(()) }
    }

    async fn seal(&mut self, id: LocalMessageId) -> Result<(), Ended> {
        let rounds = self.rounds.get(&id).copied().unwrap_or(0);
        if rounds > ROUNDS_MAX {
            return self.give_up(id, SendFailure::TooManyAttempts).await;
        }
        let now = ambient::now();
        match self.shared.store.update_off_thread(move |tx| dispatch::seal_message(tx, id, now)).await? {
            Sealing::Sealed => {
                self.rounds.remove(&id);
                self.outbound.sealed(id);
            }
            Sealing::Gone => self.forget(id),
            Sealing::Failed(why) => self.failed(id, why)?,
            Sealing::NeedDevices(users) => {
                self.rounds.insert(id, rounds + 1);
                self.outbound.waiting(id);
                users.into_iter().for_each(|user| self.errands.start(Errand::FetchDevices(user)));
            }
            Sealing::NeedKeys(needed) => {
                self.rounds.insert(id, rounds + 1);
                self.outbound.waiting(id);
                for (user, devices) in needed {
                    self.errands.start(Errand::ClaimKeys(user, devices));
                }
            }
        }
        Ok(())
    }

    /// Tells the server how far this user has read a conversation, if it is not known to have taken it; once on
    /// each connection, because only its echo, or its list of conversations, says that it has.
    pub(super) async fn tell_read(&mut self, link: &mut Link, id: ConversationId) -> Result<(), Ended> {
        let told = link.read_told.get(&id).copied().unwrap_or(0);
        let (through, newest) = self.shared.store.read(|tx| {
            let Some(conversation) = tx.conversation(id)? else { return Ok((0, None)) };
            let through = conversation.own_read_through;
            let is_news = through > conversation.own_read_told.max(told);
            let newest = if is_news { tx.message_at(id, through)? } else { None };
            Ok::<_, StoreError>((through, newest))
        })?;
        let Some(newest) = newest else { return Ok(()) };
        link.read_told.insert(id, through);
        let message_ids = vec![newest.message_id];
        let receipt = ReadReceipt { message_ids, timestamp: ambient::now() };
        sent(link.socket.feed(&ClientFrame::ReadReceipt(receipt)).await)
    }
}
