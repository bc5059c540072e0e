//! Pure checkers of ORDER, ONCE and NOLOSS over a record of what was sent, acked and shown.
//!
//! They know nothing of faults, sockets or time: whatever was done to the server, the record must pass.

use std::collections::{BTreeMap, BTreeSet};

use colloquy_protocol::ids::{IdempotencyKey, MessageId, UserId};

/// One answer to a message: every retry adds one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acked {
    /// The message's key.
    pub key: IdempotencyKey,
    /// What it became.
    pub message_id: MessageId,
    /// Its number.
    pub sequence_number: u64,
}

/// A message a device was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The message.
    pub message_id: MessageId,
    /// Its number.
    pub sequence_number: u64,
    /// Who sent it.
    pub sender_id: UserId,
}

/// What one device did and saw in one conversation.
#[derive(Clone, Debug)]
pub struct DeviceRecord {
    /// The device's owner. No other device of theirs sends in the record.
    pub user_id: UserId,
    /// The keys of its messages, in the order it sent them first.
    pub sent: Vec<IdempotencyKey>,
    /// Every ack it got, in the order it got them.
    pub acked: Vec<Acked>,
    /// Every message it was shown, in that order; what is delivered again stands here again.
    pub shown: Vec<Shown>,
}

/// A message as the log holds it in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logged {
    /// The message.
    pub message_id: MessageId,
    /// Its number.
    pub sequence_number: u64,
    /// Who sent it.
    pub sender_id: UserId,
}

/// An invariant that does not hold, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// ORDER: the log has `found` where `expected` should stand.
    HoleOrRepeat {
        /// The number that comes next.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// ORDER: a device was shown a message for the first time after it had been shown a later one.
    ShownLate {
        /// The late one.
        sequence_number: u64,
        /// The later one it came after.
        after: u64,
    },
    /// ORDER: one sender's messages are numbered otherwise than they were sent.
    SenderOvertaken {
        /// The number of the message sent later, which is not the greater one.
        sequence_number: u64,
    },
    /// ONCE: one key was answered with two messages.
    TwoMessages(IdempotencyKey),
    /// ONCE: two keys were answered with one message.
    SharedMessage(MessageId),
    /// ONCE: the log holds more messages of this user than they have keys.
    MoreThanSent(UserId),
    /// NOLOSS: an acked message does not stand in the log under its number.
    AckedButLost(Acked),
    /// NOLOSS: a device was never shown a message.
    NeverShown {
        /// The device's owner.
        to: UserId,
        /// The message's number.
        sequence_number: u64,
    },
    /// A device was shown something that the log does not hold.
    ShownButNotLogged(Shown),
}

/// Every check there is, over a finished run.
///
/// # Errors
/// The first violation found.
pub fn check_all(records: &[DeviceRecord], log: &[Logged]) -> Result<(), Violation> {
    check_numbers(log)?;
    for record in records {
        check_shown_in_order(record)?;
        check_sender_order(record)?;
        check_held(record, log)?;
    }
    check_once(records, log)
}

/// ORDER: the log's numbers are 1..n with no hole and no repeat.
///
/// # Errors
/// Where they are not.
pub fn check_numbers(log: &[Logged]) -> Result<(), Violation> {
    for (expected, message) in (1..).zip(log) {
        if message.sequence_number != expected {
            return Err(Violation::HoleOrRepeat { expected, found: message.sequence_number });
        }
    }
    Ok(())
}

/// ORDER: others' messages were shown in the order of their numbers. What a device has been shown before may
/// come again (a lost cursor); what it has not been shown may not come after something later.
///
/// # Errors
/// The first message shown too late.
pub fn check_shown_in_order(record: &DeviceRecord) -> Result<(), Violation> {
    let mut seen = BTreeSet::new();
    for shown in record.shown.iter().filter(|shown| shown.sender_id != record.user_id) {
        let last = seen.last().copied().unwrap_or(0);
        if seen.insert(shown.sequence_number) && shown.sequence_number < last {
            return Err(Violation::ShownLate { sequence_number: shown.sequence_number, after: last });
        }
    }
    Ok(())
}

/// ORDER: a sender's messages are numbered in the order they were sent.
///
/// # Errors
/// The first one that is not.
pub fn check_sender_order(record: &DeviceRecord) -> Result<(), Violation> {
    let numbers: BTreeMap<IdempotencyKey, u64> =
        record.acked.iter().map(|acked| (acked.key, acked.sequence_number)).collect();
    let mut last = 0;
    for sequence_number in record.sent.iter().filter_map(|key| numbers.get(key).copied()) {
        if sequence_number <= last {
            return Err(Violation::SenderOvertaken { sequence_number });
        }
        last = sequence_number;
    }
    Ok(())
}

/// ONCE: a key makes one message, a message has one key, and the log holds nothing beyond that.
///
/// # Errors
/// The first key or message of which that is not so.
pub fn check_once(records: &[DeviceRecord], log: &[Logged]) -> Result<(), Violation> {
    let mut message_of: BTreeMap<(UserId, IdempotencyKey), (MessageId, u64)> = BTreeMap::new();
    let mut key_of: BTreeMap<MessageId, (UserId, IdempotencyKey)> = BTreeMap::new();
    for record in records {
        for acked in &record.acked {
            let (key, message) = ((record.user_id, acked.key), (acked.message_id, acked.sequence_number));
            if *message_of.entry(key).or_insert(message) != message {
                return Err(Violation::TwoMessages(acked.key));
            }
            if *key_of.entry(acked.message_id).or_insert(key) != key {
                return Err(Violation::SharedMessage(acked.message_id));
            }
        }
        let keys: BTreeSet<IdempotencyKey> = record.sent.iter().copied().collect();
        let logged = log.iter().filter(|message| message.sender_id == record.user_id).count();
        if logged > keys.len() {
            return Err(Violation::MoreThanSent(record.user_id));
        }
    }
    let ids: BTreeSet<MessageId> = log.iter().map(|message| message.message_id).collect();
    match ids.len() == log.len() {
        true => Ok(()),
        false => Err(Violation::HoleOrRepeat { expected: log.len() as u64, found: ids.len() as u64 }),
    }
}

/// NOLOSS: what was acked stands in the log, and the device holds everything the log holds.
///
/// # Errors
/// The first message of which that is not so.
pub fn check_held(record: &DeviceRecord, log: &[Logged]) -> Result<(), Violation> {
    let logged: BTreeMap<MessageId, u64> =
        log.iter().map(|message| (message.message_id, message.sequence_number)).collect();
    let mut held = BTreeSet::new();
    for acked in &record.acked {
        if logged.get(&acked.message_id) != Some(&acked.sequence_number) {
            return Err(Violation::AckedButLost(*acked));
        }
        held.insert(acked.message_id);
    }
    for shown in &record.shown {
        if logged.get(&shown.message_id) != Some(&shown.sequence_number) {
            return Err(Violation::ShownButNotLogged(*shown));
        }
        held.insert(shown.message_id);
    }
    match log.iter().find(|message| !held.contains(&message.message_id)) {
        None => Ok(()),
        Some(message) => {
            Err(Violation::NeverShown { to: record.user_id, sequence_number: message.sequence_number })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::{Builder, Uuid};

    fn user(n: u128) -> UserId {
        UserId(Uuid::from_u128(n))
    }

    fn message(n: u64) -> MessageId {
        MessageId(Uuid::from_u128(u128::from(n)))
    }

    fn key(n: u8) -> IdempotencyKey {
        IdempotencyKey::new(Builder::from_random_bytes([n; 16]).into_uuid()).unwrap()
    }

    fn acked(k: u8, n: u64) -> Acked {
        Acked { key: key(k), message_id: message(n), sequence_number: n }
    }

    fn shown(sender: u128, n: u64) -> Shown {
        Shown { message_id: message(n), sequence_number: n, sender_id: user(sender) }
    }

    fn logged(sender: u128, n: u64) -> Logged {
        Logged { message_id: message(n), sequence_number: n, sender_id: user(sender) }
    }

    /// User 1 sends messages 1 and 3, user 2 sends message 2.
    fn good() -> (Vec<DeviceRecord>, Vec<Logged>) {
        let one = DeviceRecord {
            user_id: user(1),
            sent: vec![key(1), key(3)],
            acked: vec![acked(1, 1), acked(3, 3)],
            shown: vec![shown(2, 2)],
        };
        let two = DeviceRecord {
            user_id: user(2),
            sent: vec![key(2)],
            acked: vec![acked(2, 2)],
            shown: vec![shown(1, 1), shown(1, 3)],
        };
        (vec![one, two], vec![logged(1, 1), logged(2, 2), logged(1, 3)])
    }

    #[test]
    fn a_good_run_passes_also_with_retries_and_redelivery() {
        let (mut records, log) = good();
        assert_eq!(check_all(&records, &log), Ok(()));
        records[0].acked.push(acked(1, 1));
        records[1].shown.push(shown(1, 1));
        records[1].shown.push(shown(1, 3));
        assert_eq!(check_all(&records, &log), Ok(()));
    }

    #[test]
    fn a_hole_and_a_repeat_in_the_log_are_found() {
        let (records, mut log) = good();
        log.remove(1);
        assert_eq!(check_all(&records, &log), Err(Violation::HoleOrRepeat { expected: 2, found: 3 }));
        let (records, mut log) = good();
        log.insert(1, log[0]);
        assert_eq!(check_all(&records, &log), Err(Violation::HoleOrRepeat { expected: 2, found: 1 }));
    }

    #[test]
    fn a_message_shown_after_a_later_one_is_found() {
        let (mut records, log) = good();
        records[1].shown.reverse();
        assert_eq!(check_all(&records, &log), Err(Violation::ShownLate { sequence_number: 1, after: 3 }));
    }

    #[test]
    fn a_sender_whose_messages_overtake_each_other_is_found() {
        let (mut records, log) = good();
        records[0].sent.reverse();
        assert_eq!(check_all(&records, &log), Err(Violation::SenderOvertaken { sequence_number: 1 }));
    }

    #[test]
    fn a_key_with_two_messages_and_a_message_with_two_keys_are_found() {
        let (mut records, mut log) = good();
        log.push(logged(1, 4));
        records[0].acked.push(acked(1, 4));
        assert_eq!(check_once(&records, &log), Err(Violation::TwoMessages(key(1))));
        let (mut records, log) = good();
        records[0].acked.push(acked(9, 1));
        assert_eq!(check_once(&records, &log), Err(Violation::SharedMessage(message(1))));
    }

    #[test]
    fn a_doubled_message_is_found_though_nobody_was_told_of_it() {
        let (mut records, mut log) = good();
        log.push(logged(2, 4));
        records[0].shown.push(shown(2, 4));
        records[1].shown.push(shown(2, 4));
        assert_eq!(check_all(&records, &log), Err(Violation::MoreThanSent(user(2))));
    }

    #[test]
    fn an_acked_message_that_is_gone_is_found() {
        let (mut records, log) = good();
        records[0].sent.push(key(4));
        records[0].acked.push(acked(4, 4));
        assert_eq!(check_all(&records, &log), Err(Violation::AckedButLost(acked(4, 4))));
    }

    #[test]
    fn a_message_that_a_device_was_never_shown_is_found() {
        let (mut records, log) = good();
        records[1].shown.pop();
        let never = Violation::NeverShown { to: user(2), sequence_number: 3 };
        assert_eq!(check_all(&records, &log), Err(never));
    }

    #[test]
    fn a_message_that_was_shown_and_is_not_in_the_log_is_found() {
        let (mut records, log) = good();
        records[1].shown.push(shown(1, 4));
        assert_eq!(check_all(&records, &log), Err(Violation::ShownButNotLogged(shown(1, 4))));
    }
}
