//! Which verdict on a request for approval counts: the first whose signature is that of a device of the user who was asked.
//!
//! It is noted in the batch that stores its message, on the devices of both sides, so that all of them know the same one. That
//! there is a second is rare: all devices of a user send theirs under the same key, and the log takes one (ONCE).

use colloquy_protocol::ids::DeviceAddress;
use vodozemac::Ed25519PublicKey;

use crate::crypto::{Asked, Body, SignedVerdict, Statement, VoidVerdict};
use crate::store::{DecisionRecord, MessageContent, MessageRecord, StoreError, Transaction};

/// Messages after a request that is readable late which are looked through for its verdict. One beyond is weighed when its turn
/// comes.
const VERDICTS_SOUGHT_MAX: usize = 500;

/// A verdict that counts, and what it is about.
pub(crate) type Weighed = Result<(DecisionRecord, Asked), VoidVerdict>;

/// Does a verdict count? If it does, and is the first, that is noted. Nothing if the message says no verdict.
pub(crate) fn weigh(
    tx: &mut Transaction<'_>,
    message: &MessageRecord,
) -> Result<Option<Weighed>, StoreError> {
    let MessageContent::Known(Body::Verdict(said)) = &message.content else { return Ok(None) };
    let asking = tx.message(said.request_id)?.filter(|asking| {
        asking.conversation_id == message.conversation_id && asking.sender.user_id != message.sender.user_id
    });
    let (agent, asked) = match asking.map(|asking| (asking.sender.user_id, asking.content)) {
        Some((agent, MessageContent::Known(Body::ApprovalRequest(asked)))) => (agent, *asked),
        Some((_, MessageContent::Undecryptable(_) | MessageContent::Unavailable)) => {
            return Ok(Some(Err(VoidVerdict::UnreadableRequest)));
        }
        Some((_, MessageContent::Known(_))) | None => return Ok(Some(Err(VoidVerdict::UnknownRequest))),
    };
    let noted = tx.decision(said.request_id)?;
    let is_noted = noted.is_some();
    let first = match noted {
        Some(first) if first.message_id != message.message_id => {
            return Ok(Some(Err(VoidVerdict::AlreadyDecided)));
        }
        Some(first) => Some(first),
        None => signing_key(tx, &message.sender)?.map(|key| first_verdict(message, said, &key)),
    };
    // Also of one that is noted: what it was about is read anew, and must still be what was signed.
    let first = first.filter(|first| {
        let statement = Statement {
            verdict: first.verdict,
            conversation_id: message.conversation_id,
            request_id: first.request_id,
            agent,
            decided_by: &first.decided_by,
            request: &asked.request,
        };
        let key = Ed25519PublicKey::from_base64(&first.signing_key);
        key.is_ok_and(|key| statement.is_signed(&key, &first.signature))
    });
    let Some(first) = first else { return Ok(Some(Err(VoidVerdict::BadSignature))) };
    if !is_noted {
        tx.put_decision(&first);
    }
    Ok(Some(Ok((first, asked))))
}

fn first_verdict(message: &MessageRecord, said: &SignedVerdict, key: &Ed25519PublicKey) -> DecisionRecord {
    DecisionRecord {
        request_id: said.request_id,
        message_id: message.message_id,
        verdict: said.verdict,
        decided_by: message.sender.clone(),
        signature: said.signature.clone(),
        signing_key: key.to_base64(),
        was_in_time: None,
    }
}

/// A message has become readable after others that came later: it may be a verdict, or what one was about.
pub(super) fn weigh_late(tx: &mut Transaction<'_>, message: &MessageRecord) -> Result<(), StoreError> {
    weigh(tx, message)?;
    if !matches!(message.content, MessageContent::Known(Body::ApprovalRequest(_))) {
        return Ok(());
    }
    let (conversation, after) = (message.conversation_id, message.sequence_number + 1);
    for later in tx.messages_between(conversation, after, u64::MAX, VERDICTS_SOUGHT_MAX)? {
        weigh(tx, &later)?;
    }
    Ok(())
}

fn signing_key(tx: &Transaction<'_>, device: &DeviceAddress) -> Result<Option<Ed25519PublicKey>, StoreError> {
    if tx.identity()?.is_some_and(|own| own.address == *device) {
        return Ok(tx.account()?.map(|account| account.identity_keys().ed25519));
    }
    Ok(tx.peer(device)?.map(|peer| peer.signing_key()))
}
