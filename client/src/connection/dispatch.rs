//! What is to be sent, encrypted: ratchets and envelope in one batch, before the envelope leaves (ONCE).

use std::collections::BTreeMap;

use colloquy_protocol::UnixMillis;
use colloquy_protocol::frame::MessageType;
use colloquy_protocol::frame::client::{ClientFrame, SendMessage, SendPayload};
use colloquy_protocol::ids::{ConversationId, DeviceAddress, DeviceId, UserId};
use colloquy_protocol::limits::FRAME_MAX_BYTES;
use colloquy_protocol::rest::devices::{ClaimedKeys, DeviceList};

use crate::crypto::sealing::Draft;
use crate::crypto::{IdentityChange, PeerDevice, Reconciled, SealError, Told, reconcile, seal};
use crate::store::peers::REMOVED_PER_USER_MAX;
use crate::store::{
    DeviceListRecord, LocalMessageId, OutboxRecord, OutboxState, SendFailure, StoreError, Transaction,
};

/// Times a message is encrypted for a device list that turns out stale before it is given up.
pub(crate) const SEAL_ATTEMPTS_MAX: u32 = 8;

/// What came of trying to encrypt a message.
#[derive(Debug)]
pub(crate) enum Sealing {
    /// It is encrypted and stored so.
    Sealed,
    /// These device lists are needed first.
    NeedDevices(Vec<UserId>),
    /// Keys of these devices are needed first.
    NeedKeys(BTreeMap<UserId, Vec<DeviceId>>),
    /// It will not be sent.
    Failed(SendFailure),
    /// It is no longer in the outbox.
    Gone,
}

/// Encrypts a message of the outbox for all devices it concerns, as they are known now.
pub(crate) fn seal_message(
    tx: &mut Transaction<'_>,
    id: LocalMessageId,
    now: UnixMillis,
) -> Result<Sealing, StoreError> {
    let Some(mut record) = tx.outbox(id)? else { return Ok(Sealing::Gone) };
    if matches!(record.state, OutboxState::Sealed(_)) {
        // One key, one body (ONCE): it is never encrypted a second time unless the server has refused the first.
        return Ok(Sealing::Sealed);
    }
    let own = tx.identity()?.ok_or(StoreError::Damaged("the identity is missing"))?;
    let users = [own.address.user_id, record.receiver_id];
    let (mut unknown, mut untrusted) = (Vec::new(), Vec::new());
    for user in users {
        match tx.device_list(user)? {
            Some(list) if !list.stale && list.has_untrusted => untrusted.push(user),
            Some(list) if !list.stale => {}
            _ => unknown.push(user),
        }
    }
    if !unknown.is_empty() {
        return Ok(Sealing::NeedDevices(unknown));
    }
    if !untrusted.is_empty() {
        // Whoever tries again asks for the list again: its owner may have removed the device by then.
        untrusted.into_iter().try_for_each(|user| tx.mark_device_list_stale(user))?;
        return fail(tx, record, SendFailure::UntrustedDevice);
    }
    let mut peers: Vec<PeerDevice> = Vec::new();
    for user in users {
        peers.extend(tx.peers_in(record.conversation_id, user)?);
    }
    if !peers.iter().any(|peer| peer.address().user_id == record.receiver_id) {
        return fail(tx, record, SendFailure::RecipientHasNoDevice);
    }
    let draft = Draft {
        conversation_id: record.conversation_id,
        idempotency_key: record.idempotency_key,
        body: &record.body,
        only_for: record.only_for.as_ref(),
    };
    let content = match seal(&own, &mut peers, draft) {
        Ok(envelope) => envelope,
        Err(SealError::NeedKeys(devices)) => {
            let mut needed: BTreeMap<UserId, Vec<DeviceId>> = BTreeMap::new();
            for DeviceAddress { user_id, device_id } in devices {
                needed.entry(user_id).or_default().push(device_id);
            }
            return Ok(Sealing::NeedKeys(needed));
        }
        Err(SealError::TooManyDevices) => return fail(tx, record, SendFailure::TooLong),
    };
    let payload = SendPayload {
        conversation_id: record.conversation_id,
        receiver_id: record.receiver_id,
        content,
        r#type: MessageType::Text,
        media_url: None,
        reply_to_message_id: record.reply_to,
        timestamp: now,
    };
    record.told = Told::of(&peers, record.only_for.as_ref());
    record.state = OutboxState::Sealed(Box::new(payload));
    let frame = frame(&record, u64::MAX, Some(u64::MAX)).expect("the message was just sealed");
    if frame.to_json().len() > FRAME_MAX_BYTES {
        return fail(tx, record, SendFailure::TooLong);
    }
    for peer in &peers {
        tx.put_ratchets(record.conversation_id, peer);
    }
    tx.put_outbox(&record);
    Ok(Sealing::Sealed)
}

/// Encrypts a message that was just written, if everything it needs is known; `true` if it has. Otherwise it stays as
/// it is: whoever sends it fetches what is missing, and tells of a failure.
pub(crate) fn seal_if_ready(
    tx: &mut Transaction<'_>,
    written: &OutboxRecord,
    now: UnixMillis,
) -> Result<bool, StoreError> {
    let is_sealed = matches!(seal_message(tx, written.local_id, now)?, Sealing::Sealed);
    if !is_sealed {
        tx.put_outbox(written);
    }
    Ok(is_sealed)
}

/// The frame of an encrypted message; nothing if it is not encrypted.
pub(crate) fn frame(
    record: &OutboxRecord,
    client_sequence: u64,
    oldest_unsettled: Option<u64>,
) -> Option<ClientFrame> {
    let OutboxState::Sealed(payload) = &record.state else { return None };
    Some(ClientFrame::Message(Box::new(SendMessage {
        client_message_id: record.local_id.to_string(),
        idempotency_key: record.idempotency_key,
        client_sequence: Some(client_sequence),
        oldest_unsettled,
        payload: (**payload).clone(),
    })))
}

/// What becomes of a message that was for another set of devices than its recipients have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsealed {
    /// It is to be encrypted again, for this many-th time.
    Again(u32),
    /// It will not be sent.
    Failed(SendFailure),
    /// It is no longer in the outbox.
    Gone,
}

/// The server says that a message was not for exactly the recipients' devices.
pub(crate) fn unseal(tx: &mut Transaction<'_>, id: LocalMessageId) -> Result<Unsealed, StoreError> {
    let Some(mut record) = tx.outbox(id)? else { return Ok(Unsealed::Gone) };
    let own = tx.profile()?.ok_or(StoreError::Damaged("the profile is missing"))?.user_id;
    tx.mark_device_list_stale(own)?;
    tx.mark_device_list_stale(record.receiver_id)?;
    record.attempts += 1;
    if record.attempts >= SEAL_ATTEMPTS_MAX {
        fail(tx, record, SendFailure::TooManyAttempts)?;
        return Ok(Unsealed::Failed(SendFailure::TooManyAttempts));
    }
    record.state = OutboxState::Written;
    tx.put_outbox(&record);
    Ok(Unsealed::Again(record.attempts))
}

/// Gives a message up. A control message is dropped, unless it is the answer to a turn: there is nobody to tell.
pub(crate) fn fail(
    tx: &mut Transaction<'_>,
    mut record: OutboxRecord,
    why: SendFailure,
) -> Result<Sealing, StoreError> {
    if record.body.is_for_a_person() || record.turn().is_some() {
        record.state = OutboxState::Failed(why);
        tx.put_outbox(&record);
    } else {
        tx.remove_outbox(record.local_id)?;
    }
    Ok(Sealing::Failed(why))
}

/// A device list has come: pins what is new, and says what changed. An older list than the known one is nothing.
pub(crate) fn learn_devices(
    tx: &mut Transaction<'_>,
    list: &DeviceList,
    now: UnixMillis,
) -> Result<Vec<IdentityChange>, StoreError> {
    let own = tx.identity()?.ok_or(StoreError::Damaged("the identity is missing"))?;
    let before = tx.device_list(list.user_id)?;
    if before.is_some_and(|before| before.version > list.version) {
        // Two answers have crossed; or somebody shows an old list to bring a removed device back.
        return Ok(Vec::new());
    }
    let known = tx.peers(list.user_id)?;
    let reconciled = reconcile(known, list, &own.address, before.is_none());
    put_peers(tx, &reconciled)?;
    let has_untrusted = !reconciled.untrusted.is_empty();
    let record = DeviceListRecord { version: list.version, fetched_at: now, stale: false, has_untrusted };
    tx.put_device_list(list.user_id, &record);
    Ok(reconciled.changes)
}

/// Stores what a list has led to. Where more devices have come and gone than are remembered, those that went before
/// are forgotten: they must not take the place of one that is there.
fn put_peers(tx: &mut Transaction<'_>, reconciled: &Reconciled) -> Result<(), StoreError> {
    let is_news =
        |peer: &PeerDevice| reconciled.changes.iter().any(|change| change.address == *peer.address());
    let (mut removed, there): (Vec<_>, Vec<_>) = reconciled.peers.iter().partition(|peer| peer.is_removed());
    there.into_iter().for_each(|peer| tx.put_peer(peer));
    removed.sort_by_key(|peer| !is_news(peer));
    for (index, peer) in removed.into_iter().enumerate() {
        if index < REMOVED_PER_USER_MAX {
            tx.put_peer(peer);
        } else {
            tx.remove_peer(peer.address())?;
        }
    }
    Ok(())
}

/// Keys have come: opens a session with each device in `conversation`. `false` if a key is not what its device signed.
pub(crate) fn learn_keys(
    tx: &mut Transaction<'_>,
    conversation: ConversationId,
    user: UserId,
    claimed: &ClaimedKeys,
) -> Result<bool, StoreError> {
    let account = tx.account()?.ok_or(StoreError::Damaged("the account is missing"))?;
    let mut all_trusted = true;
    for key in &claimed.keys {
        let address = DeviceAddress { user_id: user, device_id: key.device_id.clone() };
        let Some(mut peer) = tx.peer_in(conversation, &address)? else { continue };
        // It may have opened a session itself while the key was on its way.
        if !peer.needs_key() {
            continue;
        }
        match peer.open_session(&account, key) {
            Ok(()) => tx.put_ratchets(conversation, &peer),
            Err(_) => all_trusted = false,
        }
    }
    // A device that was left out exists no longer: the list is to be read again.
    let named = |peer: &PeerDevice| claimed.keys.iter().any(|key| key.device_id == peer.address().device_id);
    if tx.peers_in(conversation, user)?.iter().any(|peer| peer.needs_key() && !named(peer)) {
        tx.mark_device_list_stale(user)?;
    }
    Ok(all_trusted)
}
