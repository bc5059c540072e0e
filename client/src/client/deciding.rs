//! Approving and denying what agents ask to be allowed: what a person does.

use colloquy_protocol::ids::MessageId;

use super::{Client, ClientError};
use crate::connection::engine::Command;
use crate::crypto::stream::StreamSecret;
use crate::crypto::{Asked, Body, SignedVerdict, Statement, Verdict};
use crate::store::outbox::NewMessage;
use crate::store::{LocalMessageId, MessageContent, OutboxRecord, OutboxState, StoreError, Transaction};

impl Client {
    /// Decides on a request for approval: signs the verdict, and puts it into the outbox. It is on disk when this returns, and is
    /// sent as [`Self::send_text`] sends. If another device of the user was first and this one has not heard of it yet, it
    /// fails with [`crate::Event::MessageFailed`]. One that has failed before is deleted.
    ///
    /// # Errors
    /// [`ClientError::UnknownRequest`] unless `request_id` is a request of somebody else that this device can read,
    /// [`ClientError::RequestExpired`], by this device's clock, [`ClientError::RequestDecided`], [`StoreError::OutboxFull`],
    /// [`ClientError::LoggedOut`] before the first log-in.
    pub async fn decide(
        &self,
        request_id: MessageId,
        verdict: Verdict,
    ) -> Result<LocalMessageId, ClientError> {
        let (now, shared) = (self.shared().clock.now(), self.inner.shared.clone());
        let record = self
            .shared()
            .store
            .update_off_thread(move |tx| {
                let account = tx.account()?.ok_or(ClientError::LoggedOut)?;
                let asking = tx.message(request_id)?.ok_or(ClientError::UnknownRequest)?;
                let MessageContent::Known(Body::ApprovalRequest(asked)) = asking.content else {
                    return Err(ClientError::UnknownRequest);
                };
                let Asked { request, verdict_key, .. } = *asked;
                let agent = asking.sender.user_id;
                if agent == account.user_id() {
                    return Err(ClientError::UnknownRequest);
                }
                let earlier = verdicts_in_outbox(tx, request_id)?;
                let has_failed = |record: &OutboxRecord| matches!(record.state, OutboxState::Failed(_));
                if tx.decision(request_id)?.is_some() || !earlier.iter().all(has_failed) {
                    return Err(ClientError::RequestDecided);
                }
                if request.is_expired(now) {
                    return Err(ClientError::RequestExpired);
                }
                // Of two under one key, what comes back from the log could be taken for the other.
                for failed in earlier {
                    tx.remove_outbox(failed.local_id)?;
                }
                let statement = Statement {
                    verdict,
                    conversation_id: asking.conversation_id,
                    request_id,
                    agent,
                    decided_by: account.address(),
                    request: &request,
                };
                let signature = statement.sign(&account);
                let stream_secret = Some(StreamSecret::draw());
                let body = Body::Verdict(SignedVerdict { request_id, verdict, signature, stream_secret });
                let message = NewMessage::new(verdict_key, asking.conversation_id, agent, body);
                let record = tx.enqueue(message, now)?;
                shared.note_unsent(record.local_id);
                Ok(record)
            })
            .await?;
        self.tell(Command::Enqueued(record.local_id, record.conversation_id, false)).await;
        Ok(record.local_id)
    }
}

/// The verdicts on this request that are in the outbox. Looking through it is dear, and rare.
fn verdicts_in_outbox(tx: &Transaction<'_>, request: MessageId) -> Result<Vec<OutboxRecord>, StoreError> {
    let is_on_it =
        |record: &OutboxRecord| matches!(&record.body, Body::Verdict(said) if said.request_id == request);
    Ok(tx.outbox_all()?.into_iter().filter(is_on_it).collect())
}
