//! Encrypting and sending what is in the outbox, and what becomes of what was sent.

use std::collections::BTreeSet;

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::client::{ClientFrame, ReadReceipt, Retransmit};
use colloquy_protocol::ids::ConversationId;

use super::dispatch::{self, Sealing, Unsealed};
use super::engine::{Ended, Engine};
use super::errand::Errand;
use super::live::{Link, sent};
use super::upkeep::ERRAND_RETRY_MS;
use crate::ambient;
use crate::event::Event;
use crate::store::{LocalMessageId, SendFailure, StoreError};
use crate::sync::inbound::ASK_WINDOW_MAX;
use crate::sync::{Need, Work};

/// Errands that were answered in a row without giving a message what it needs, before it is given up.
const ROUNDS_MAX: u32 = 8;
/// The first wait after such an answer, ms; each one more is twice as long.
const ROUND_PAUSE_MS: u64 = 50;
/// The wait before a message is encrypted for the third time because of its device lists, ms; each one more is
/// twice as long. The second time is at once: that a device comes or goes is nothing special.
const STALE_PAUSE_MS: u64 = 250;

/// Times the log is looked through for the copy of a message before a conflict counts as one.
const CONFLICTS_MAX: u32 = 3;
/// How long the copy may take to come before the message is sent again, ms.
const CONFLICT_PAUSE_MS: u64 = 2_000;

/// What was fetched for a message that could not be encrypted since it last could.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// Answers that did not help, at most [`ROUNDS_MAX`].
    in_vain: u32,
    /// What was answered since it was last tried.
    answered: BTreeSet<Need>,
    /// Was one of them a key its device did not sign?
    is_untrusted: bool,
}

/// What the server said to an errand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Something, be it a refusal for good.
    Given,
    /// A key that its device did not sign.
    Untrusted,
    /// Nothing: it is to be asked again later.
    None,
}

impl Engine {
    /// What the server said about messages it did not store.
    pub(super) async fn judge(&mut self, link: &mut Link) -> Result<(), Ended> {
        for id in std::mem::take(&mut self.stale) {
            match self.shared.store.update_off_thread(move |tx| dispatch::unseal(tx, id)).await? {
                Unsealed::Again(attempts) => {
                    self.outbound.stale(id);
                    if let Some(doublings) = attempts.checked_sub(2) {
                        let until =
                            self.now() + (STALE_PAUSE_MS << doublings) + ambient::below(STALE_PAUSE_MS);
                        self.outbound.rest(id, until);
                    }
                }
                Unsealed::Failed(why) => self.failed(id, why)?,
                Unsealed::Gone => self.forget(id),
            }
        }
        for (id, why) in std::mem::take(&mut self.rejected) {
            let is_conflict = why == SendFailure::Refused(ErrorCode::IdempotencyConflict);
            if !(is_conflict && self.look_for_copy(link, id).await?) {
                self.give_up(id, why).await?;
            }
        }
        Ok(())
    }

    /// The key of a message names another body. If it was encrypted more than once, that is an earlier one of its
    /// own: it is stored, and its answer was lost. Its copy in the log, which lies ahead of what is held here,
    /// settles it. `false` if there is none to look for, or it was looked for too often.
    async fn look_for_copy(&mut self, link: &mut Link, id: LocalMessageId) -> Result<bool, Ended> {
        let Some(record) = self.shared.store.read(|tx| tx.outbox(id))? else { return Ok(true) };
        let looked = self.conflicts.entry(id).or_insert(0);
        if record.attempts == 0 || *looked == CONFLICTS_MAX {
            return Ok(false);
        }
        *looked += 1;
        self.outbound.refused(id, self.now() + CONFLICT_PAUSE_MS);
        let cursor = self.inbound.cursor(record.conversation_id);
        let ask = Retransmit {
            conversation_id: record.conversation_id,
            from_sequence: cursor + 1,
            to_sequence: cursor + ASK_WINDOW_MAX,
        };
        sent(link.socket.send(&ClientFrame::Retransmit(ask)).await)?;
        Ok(true)
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
        self.conflicts.remove(&id);
        self.outbound.remove(id);
        self.shared.note_settled(id);
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
                    let oldest = self.outbound.oldest_unsettled(id);
                    let frame = record.and_then(|record| dispatch::frame(&record, client_sequence, oldest));
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
        let now = self.shared.clock.now();
        match self.shared.store.update_off_thread(move |tx| dispatch::seal_message(tx, id, now)).await? {
            Sealing::Sealed => {
                self.rounds.remove(&id);
                self.outbound.sealed(id);
            }
            Sealing::Gone => self.forget(id),
            Sealing::Failed(why) => self.failed(id, why)?,
            Sealing::NeedDevices(users) => {
                let errands = users.into_iter().map(|user| (Need::Devices(user), Errand::FetchDevices(user)));
                self.fetch_for(id, errands.collect()).await?;
            }
            Sealing::NeedKeys(needed) => {
                let Some(conversation) = self.outbound.conversation_of(id) else { return Ok(()) };
                let errand = |(user, devices)| {
                    (Need::Keys(conversation, user), Errand::ClaimKeys(conversation, user, devices))
                };
                self.fetch_for(id, needed.into_iter().map(errand).collect()).await?;
            }
        }
        Ok(())
    }

    /// Fetches what a message needs, unless that was fetched in vain too often.
    async fn fetch_for(&mut self, id: LocalMessageId, errands: Vec<(Need, Errand)>) -> Result<(), Ended> {
        let rounds = self.rounds.entry(id).or_default();
        let answered = std::mem::take(&mut rounds.answered);
        if errands.iter().any(|(need, _)| answered.contains(need)) {
            rounds.in_vain += 1;
            if rounds.in_vain > ROUNDS_MAX {
                let is_untrusted = rounds.is_untrusted;
                let why =
                    if is_untrusted { SendFailure::UntrustedDevice } else { SendFailure::TooManyAttempts };
                return self.give_up(id, why).await;
            }
            let pause = ROUND_PAUSE_MS << (rounds.in_vain - 1);
            self.outbound.rest(id, self.now() + pause);
        }
        let mut needs = BTreeSet::new();
        for (need, errand) in errands {
            needs.insert(if self.errands.start(errand) { need } else { Need::Room });
        }
        self.outbound.waiting(id, needs);
        Ok(())
    }

    /// An errand is done: whoever waited for it tries again, at once if it was answered.
    pub(super) fn fetched(&mut self, need: Need, answer: Answer) {
        let now = self.now();
        let until = if answer == Answer::None { now + ERRAND_RETRY_MS } else { now };
        for id in self.outbound.wake(need, until) {
            if answer != Answer::None {
                let rounds = self.rounds.entry(id).or_default();
                rounds.answered.insert(need);
                rounds.is_untrusted |= answer == Answer::Untrusted;
            }
        }
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
        let receipt = ReadReceipt { message_ids, timestamp: self.shared.clock.now() };
        sent(link.socket.feed(&ClientFrame::ReadReceipt(receipt)).await)
    }
}
