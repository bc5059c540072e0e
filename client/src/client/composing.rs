//! Writing, marking as read, typing, watching: what a person does.

use std::sync::atomic::Ordering;

use colloquy_protocol::frame::TypingState;
use colloquy_protocol::ids::{ConversationId, IdempotencyKey, UserId};
use colloquy_protocol::limits::{CIPHERTEXTS_MAX, DEVICES_PER_USER_MAX};

use super::{Client, ClientError, Recipient};
use crate::ambient;
use crate::connection::dispatch;
use crate::connection::engine::Command;
use crate::crypto::plaintext::TEXT_MAX_BYTES;
use crate::crypto::sealing::text_room;
use crate::crypto::stream::StreamSecret;
use crate::crypto::{Body, Text};
use crate::store::outbox::NewMessage;
use crate::store::{ConversationRecord, LocalMessageId, OutboxRecord, OutboxState, Transaction};
use crate::sync::outbound;

impl Client {
    /// Puts a text into the outbox. It is on disk when this returns, and is sent as soon as it can be; the events
    /// [`crate::Event::MessageSent`] or [`crate::Event::MessageFailed`] name the id returned here.
    ///
    /// # Errors
    /// [`ClientError::BadText`], [`crate::StoreError::OutboxFull`], [`ClientError::UnknownConversation`],
    /// [`ClientError::NoRecipient`], [`ClientError::LoggedOut`] before the first log-in.
    pub async fn send_text(
        &self,
        to: impl Into<Recipient>,
        text: impl Into<String>,
    ) -> Result<LocalMessageId, ClientError> {
        let (to, text) = (to.into(), text.into());
        if text.is_empty() || text.len() > TEXT_MAX_BYTES {
            return Err(ClientError::BadText);
        }
        let own = self.own()?.user_id;
        let now = self.shared().clock.now();
        let shared = self.inner.shared.clone();
        let (id, conversation, is_sealed) = self
            .shared()
            .store
            .update_off_thread(move |tx| {
                let text = Text { text, stream_secret: Some(StreamSecret::draw()) };
                let record = write(tx, own, to, ambient::idempotency_key(), text, now)?;
                // Before it is on disk: once it is, the engine may send it and take the name out again.
                shared.note_unsent(record.local_id);
                // Encrypted in the same batch, where it can be, it costs one fsync and not two. Not if it has to wait behind
                // others: whatever changes about the recipients' devices meanwhile, it would have to be encrypted again,
                // and a ratchet keeps only so many keys of what was never sent.
                let goes_at_once = shared.is_connected.load(Ordering::Relaxed)
                    && shared.unsent.borrow().len() <= outbound::WINDOW;
                let is_sealed = goes_at_once && dispatch::seal_if_ready(tx, &record, now)?;
                Ok::<_, ClientError>((record.local_id, record.conversation_id, is_sealed))
            })
            .await?;
        self.tell(Command::Enqueued(id, conversation, is_sealed)).await;
        Ok(id)
    }

    /// Sends a failed message again, under a new idempotency key: the old one may name another body by now. Only a verdict
    /// keeps its own: if another device was first, it fails again.
    ///
    /// # Errors
    /// [`ClientError::UnknownMessage`] unless it is a failed message of the outbox.
    pub async fn retry(&self, id: LocalMessageId) -> Result<LocalMessageId, ClientError> {
        let now = self.shared().clock.now();
        let shared = self.inner.shared.clone();
        let record = self
            .shared()
            .store
            .update_off_thread(move |tx| {
                let failed = failed_message(tx, id)?;
                tx.remove_outbox(id)?;
                let idempotency_key = match failed.body {
                    // Under its own and no other: of all verdicts on a request the log takes one.
                    Body::Verdict(_) => failed.idempotency_key,
                    _ => ambient::idempotency_key(),
                };
                let message = NewMessage {
                    idempotency_key,
                    conversation_id: failed.conversation_id,
                    receiver_id: failed.receiver_id,
                    body: failed.body,
                    only_for: failed.only_for,
                    reply_to: failed.reply_to,
                };
                let record = tx.enqueue(message, now)?;
                shared.note_unsent(record.local_id);
                Ok::<_, ClientError>(record)
            })
            .await?;
        self.tell(Command::Enqueued(record.local_id, record.conversation_id, false)).await;
        Ok(record.local_id)
    }

    /// What was not sent and will not be, unless by [`Self::retry`]; oldest first.
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub fn failed(&self) -> Result<Vec<LocalMessageId>, ClientError> {
        let outbox = self.shared().store.read(|tx| tx.outbox_all())?;
        let failed = outbox.into_iter().filter(|record| matches!(record.state, OutboxState::Failed(_)));
        Ok(failed.map(|record| record.local_id).collect())
    }

    /// Deletes a failed message.
    ///
    /// # Errors
    /// [`ClientError::UnknownMessage`] unless it is a failed message of the outbox.
    pub async fn discard(&self, id: LocalMessageId) -> Result<(), ClientError> {
        self.shared()
            .store
            .update_off_thread(move |tx| {
                failed_message(tx, id)?;
                Ok(tx.remove_outbox(id)?)
            })
            .await
    }

    /// The longest text that one message to this user can hold, bytes of UTF-8, for the devices that are known now and one more,
    /// that may be added before it is sent: at most [`TEXT_MAX_BYTES`], and less where theirs and those of this user are many.
    /// Whose devices are not known, such as somebody's who was never written to, may have as many as anybody:
    /// [`Self::learn_devices`] changes that.
    ///
    /// # Errors
    /// [`ClientError::Store`]; [`ClientError::LoggedOut`] before the first log-in.
    pub fn text_room(&self, to: UserId) -> Result<usize, ClientError> {
        let own = self.own()?.user_id;
        self.shared().store.read(|tx| {
            let count = |user| match tx.device_list(user)? {
                Some(_) => Ok(tx.peers(user)?.iter().filter(|peer| !peer.is_removed()).count()),
                None => Ok::<_, ClientError>(DEVICES_PER_USER_MAX),
            };
            Ok(text_room((count(to)? + count(own)? + 1).min(CIPHERTEXTS_MAX)))
        })
    }

    /// The user has seen everything in a conversation that this device holds.
    ///
    /// # Errors
    /// [`ClientError::UnknownConversation`].
    pub async fn mark_read(&self, conversation: ConversationId) -> Result<(), ClientError> {
        self.shared()
            .store
            .update_off_thread(move |tx| {
                let mut record = tx.conversation(conversation)?.ok_or(ClientError::UnknownConversation)?;
                // Another device may have read on, beyond what this one holds yet.
                record.own_read_through = record.own_read_through.max(record.cursor);
                record.unread = 0;
                tx.put_conversation(&record);
                Ok::<_, ClientError>(())
            })
            .await?;
        self.tell(Command::MarkRead(conversation)).await;
        Ok(())
    }

    /// The user is composing, or no longer. Forgotten if there is no connection; call it at most every
    /// [`colloquy_protocol::limits::TYPING_THROTTLE`].
    pub async fn set_typing(&self, conversation: ConversationId, is_typing: bool) {
        let state = if is_typing { TypingState::Started } else { TypingState::Stopped };
        self.tell(Command::Typing(conversation, state)).await;
    }

    /// Tells when these users come and go, for as long as the engine runs; at most
    /// [`colloquy_protocol::limits::PRESENCE_SUBSCRIPTIONS_MAX`] in all, those beyond are not watched.
    pub async fn watch_presence(&self, users: Vec<UserId>) {
        self.tell(Command::Watch(users)).await;
    }

    /// No longer.
    pub async fn unwatch_presence(&self, users: Vec<UserId>) {
        self.tell(Command::Unwatch(users)).await;
    }
}

/// Puts a text into the outbox.
pub(super) fn write(
    tx: &mut Transaction<'_>,
    own: UserId,
    to: Recipient,
    idempotency_key: IdempotencyKey,
    text: Text,
    now: u64,
) -> Result<OutboxRecord, ClientError> {
    let conversation = resolve(tx, own, to)?;
    let (id, peer) = (conversation.conversation_id, conversation.peer);
    let message = NewMessage::new(idempotency_key, id, peer, Body::Text(text));
    Ok(tx.write(conversation, message, now)?)
}

fn resolve(tx: &Transaction<'_>, own: UserId, to: Recipient) -> Result<ConversationRecord, ClientError> {
    match to {
        Recipient::User(user) if user == own => Err(ClientError::NoRecipient),
        Recipient::User(user) => {
            let id = ConversationId::of_pair(own, user);
            Ok(tx.conversation(id)?.unwrap_or_else(|| ConversationRecord::new(id, user)))
        }
        Recipient::Conversation(id) => tx.conversation(id)?.ok_or(ClientError::UnknownConversation),
    }
}

fn failed_message(tx: &Transaction<'_>, id: LocalMessageId) -> Result<OutboxRecord, ClientError> {
    tx.outbox(id)?
        .filter(|record| matches!(record.state, OutboxState::Failed(_)))
        .ok_or(ClientError::UnknownMessage)
}
