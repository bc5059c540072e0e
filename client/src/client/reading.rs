//! Looking at conversations, history, users and safety numbers: what a person sees.

use std::collections::HashSet;

use colloquy_protocol::ids::{ConversationId, DeviceId, UserId};
use colloquy_protocol::rest::accounts::UserCard;
use colloquy_protocol::rest::agents::AgentEntry;

use super::{Client, ClientError};
use crate::api::Api;
use crate::api::accounts::UserQuery;
use crate::crypto::safety_number::DeviceFingerprint;
use crate::crypto::{PeerDevice, SafetyNumber};
use crate::message::{ConversationSummary, Message};
use crate::store::{ConversationRecord, MessageRecord, StoreError, Transaction};

/// Messages looked through for the newest one that can be shown.
const LAST_MESSAGE_SCAN_MAX: usize = 16;

impl Client {
    /// All conversations, the liveliest first.
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub fn conversations(&self) -> Result<Vec<ConversationSummary>, ClientError> {
        let Ok(own) = self.own() else { return Ok(Vec::new()) };
        self.shared().store.read(|tx| {
            let queued = tx.outbox_all()?;
            let mut summaries = Vec::new();
            for record in tx.conversations()? {
                let id = record.conversation_id;
                let newest_queued = queued
                    .iter()
                    .rev()
                    .filter(|queued| queued.conversation_id == id)
                    .find_map(|queued| Message::queued(queued, own.user_id, &own.device_id));
                let last_message = match newest_queued {
                    Some(message) => Some(message),
                    None => shown(
                        tx,
                        own.user_id,
                        &record,
                        &tx.messages_before(id, None, LAST_MESSAGE_SCAN_MAX)?,
                    )?
                    .pop(),
                };
                summaries.push(ConversationSummary {
                    conversation_id: id,
                    peer: record.peer,
                    peer_name: tx.user_card(record.peer)?.map(|card| card.name),
                    last_message,
                    unread: record.unread,
                    last_activity_at: record.last_activity_at,
                    held_through: record.cursor,
                    is_at_server: record.cursor > 0,
                });
            }
            summaries.sort_by_key(|summary| std::cmp::Reverse(summary.last_activity_at));
            Ok(summaries)
        })
    }

    /// A page of a conversation, oldest first: at most `limit` messages (and
    /// [`crate::store::messages::HISTORY_PAGE_MAX`]) numbered below `before`. Without `before` it is the newest,
    /// followed by what waits in the outbox. Control messages are left out, so a page may be shorter; it is the
    /// last one when empty, or when its first message has number 1.
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub fn history(
        &self,
        conversation: ConversationId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Message>, ClientError> {
        let own = self.own()?;
        self.shared().store.read(|tx| {
            let Some(record) = tx.conversation(conversation)? else { return Ok(Vec::new()) };
            let mut page: Vec<Message> = Vec::new();
            let mut below = before;
            // A run of control messages must not look like the end of the history.
            while page.is_empty() {
                let messages = tx.messages_before(conversation, below, limit)?;
                let Some(first) = messages.first() else { break };
                below = Some(first.sequence_number);
                page.extend(shown(tx, own.user_id, &record, &messages)?);
            }
            if before.is_none() {
                let queued = tx.outbox_all()?;
                let queued = queued.iter().filter(|queued| queued.conversation_id == conversation);
                page.extend(queued.filter_map(|q| Message::queued(q, own.user_id, &own.device_id)));
            }
            Ok(page)
        })
    }

    /// Looks a user up at the server, and remembers the name.
    ///
    /// # Errors
    /// [`crate::ApiError::Refused`] with `unknown_user`; [`ClientError::LoggedOut`].
    pub async fn find_user(&self, query: UserQuery) -> Result<UserCard, ClientError> {
        let card = self
            .call(|api, token| {
                let query = query.clone();
                async move { api.find_user(&token, &query).await }
            })
            .await?;
        let stored = card.clone();
        self.shared()
            .store
            .update_off_thread(move |tx| {
                tx.put_user_card(&stored);
                Ok::<_, StoreError>(())
            })
            .await?;
        Ok(card)
    }

    /// The agents that can be written to, in the order of their ids.
    ///
    /// # Errors
    /// [`crate::ApiError`] if the server refuses or cannot be reached; [`ClientError::LoggedOut`].
    pub async fn agents(&self) -> Result<Vec<AgentEntry>, ClientError> {
        Ok(self.call(|api, token| async move { api.agents(&token).await }).await?.agents)
    }

    /// Removes a device of this user, this one or another: it is logged out, and nobody encrypts for it any more.
    ///
    /// # Errors
    /// [`crate::ApiError`] if the server refuses or cannot be reached; [`ClientError::LoggedOut`].
    pub async fn remove_device(&self, device: DeviceId) -> Result<(), ClientError> {
        let remove = |api: Api, token: String| {
            let device = device.clone();
            async move { api.remove_device(&token, &device).await }
        };
        Ok(self.call(remove).await?)
    }

    /// Learns which devices somebody has: those they have now, and former ones that the server still names.
    ///
    /// # Errors
    /// [`crate::ApiError`] if the device list cannot be fetched; [`ClientError::LoggedOut`].
    pub async fn learn_devices(&self, user: UserId) -> Result<Vec<DeviceId>, ClientError> {
        let list = self.call(|api, token| async move { api.devices(&token, user).await }).await?;
        let named = list.devices.iter().chain(&list.former).map(|device| device.device_id.clone()).collect();
        self.shared().learn_devices(list).await?;
        Ok(named)
    }

    /// The safety number of this user and another: of the devices both have now, and of the former ones that the
    /// server still names. Those are read too, so one that the server made up must show.
    ///
    /// # Errors
    /// [`crate::ApiError`] if the device lists cannot be fetched; [`ClientError::LoggedOut`].
    pub async fn safety_number(&self, user: UserId) -> Result<SafetyNumber, ClientError> {
        let own = self.own()?;
        let mut counted = HashSet::new();
        for id in [own.user_id, user] {
            let named = self.learn_devices(id).await?;
            counted.extend(named.into_iter().map(|device_id| (id, device_id)));
        }
        self.shared().store.read(|tx| {
            let account = tx.account()?.ok_or(ClientError::LoggedOut)?;
            let keys = account.identity_keys();
            let fingerprints = |user| -> Result<Vec<DeviceFingerprint>, StoreError> {
                let is_counted =
                    |peer: &PeerDevice| counted.contains(&(user, peer.address().device_id.clone()));
                Ok(tx
                    .peers(user)?
                    .iter()
                    .filter(|peer| is_counted(peer))
                    .map(DeviceFingerprint::of)
                    .collect())
            };
            let mut ours = fingerprints(own.user_id)?;
            ours.push(DeviceFingerprint { identity_key: keys.curve25519, signing_key: keys.ed25519 });
            let theirs = fingerprints(user)?;
            Ok(SafetyNumber::between((own.user_id, &ours), (user, &theirs)))
        })
    }
}

/// Those of a conversation's messages that are for a person, as they are shown.
fn shown(
    tx: &Transaction<'_>,
    own: UserId,
    conversation: &ConversationRecord,
    messages: &[MessageRecord],
) -> Result<Vec<Message>, StoreError> {
    let mut shown = Vec::new();
    for message in messages {
        shown.extend(Message::stored(message, own, conversation, tx.verdict_on(message)?));
    }
    Ok(shown)
}
