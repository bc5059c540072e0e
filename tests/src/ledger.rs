//! What one courier has sent, been answered, been shown and holds, and how long things took. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::client::{DeliveryAck, MessagePosition, ResumeCursor, SendMessage};
use colloquy_protocol::frame::server::{DeliveredMessage, MessageAck};
use colloquy_protocol::ids::ConversationId;
use tokio::time::Instant;

use crate::ambient::now;
use crate::checker::{Acked, DeviceRecord, Shown};
use crate::device::Device;

/// Why a courier had to connect anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The socket was gone or closed.
    Closed,
    /// Nothing came for too long, though something was owed.
    Silent,
    /// A message was not answered for too long.
    Unanswered,
    /// The server asked it to go.
    Migrated,
    /// It was told to go back where it belongs.
    Home,
}

/// One connection that was lost or left, and made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// Why.
    pub why: Why,
    /// From the last that was heard of the old connection until the new one was authenticated.
    pub took: Duration,
}

/// How long a message took to its first ack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// When it was to be sent, connected or not.
    pub due: Instant,
    /// From then to its ack.
    pub took: Duration,
}

/// Something that happened to a courier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Authenticated at the address with this index.
    Connected(usize),
    /// The connection is over.
    Left(Why),
    /// A message went out.
    Sent {
        /// Its place among the sender's.
        index: u64,
        /// Its number on this connection.
        client_sequence: u64,
    },
    /// It was not taken, and may be later.
    Refused {
        /// Its place.
        index: u64,
        /// Why.
        code: ErrorCode,
    },
    /// It was acked.
    Acked {
        /// Its place.
        index: u64,
        /// Its number in the conversation.
        sequence_number: u64,
    },
}

impl Event {
    /// Is it about one of these messages, or about the connection?
    fn concerns(self, indexes: &RangeInclusive<u64>) -> bool {
        match self {
            Self::Connected(_) | Self::Left(_) => true,
            Self::Sent { index, .. } | Self::Refused { index, .. } | Self::Acked { index, .. } => {
                indexes.contains(&index)
            }
        }
    }
}

/// Messages on either side of one whose events are shown with its own.
const NEIGHBOURS: u64 = 4;
/// The last events that are kept, of each courier.
const EVENTS_KEPT: usize = 8192;

/// A message that has no ack yet.
#[derive(Clone)]
struct Unacked {
    message: SendMessage,
    due: Instant,
}

/// One courier's book.
pub struct Ledger {
    device: Arc<Device>,
    peer: Arc<Device>,
    conversation: ConversationId,
    record: DeviceRecord,
    unacked: BTreeMap<u64, Unacked>,
    holdings: Holdings,
    unacknowledged: u64,
    sendings: u64,
    delays: Vec<Delay>,
    reconnects: Vec<Reconnect>,
    began: Instant,
    events: VecDeque<(Duration, Event)>,
}

impl Ledger {
    /// An empty one, of what `device` says to `peer` and hears.
    #[must_use]
    pub fn new(device: Arc<Device>, peer: Arc<Device>) -> Self {
        let record =
            DeviceRecord { user_id: device.user_id, sent: Vec::new(), acked: Vec::new(), shown: Vec::new() };
        Self {
            conversation: device.conversation_with(&peer),
            device,
            peer,
            record,
            unacked: BTreeMap::new(),
            holdings: Holdings::default(),
            unacknowledged: 0,
            sendings: 0,
            delays: Vec::new(),
            reconnects: Vec::new(),
            began: Instant::now(),
            events: VecDeque::new(),
        }
    }

    /// Notes what happened.
    pub fn note(&mut self, now: Instant, event: Event) {
        if self.events.len() == EVENTS_KEPT {
            self.events.pop_front();
        }
        self.events.push_back((now.duration_since(self.began), event));
    }

    /// What happened to the messages around the one with this number, as far as it is kept: for a failure's text.
    #[must_use]
    pub fn around(&self, sequence_number: u64) -> String {
        let acked = self.record.acked.iter().find(|acked| acked.sequence_number == sequence_number);
        let index = acked.and_then(|acked| self.record.sent.iter().position(|key| *key == acked.key));
        let Some(index) = index.and_then(|index| u64::try_from(index).ok()) else {
            return format!("{} of {}: not its sender", self.device.device_id, self.device.user_id);
        };
        let indexes = index.saturating_sub(NEIGHBOURS)..=index + NEIGHBOURS;
        let lines = self.events.iter().filter(|(_, event)| event.concerns(&indexes));
        let lines: Vec<String> =
            lines.map(|(at, event)| format!("{:9.3} s {event:?}", at.as_secs_f64())).collect();
        format!("message {index} of {}:\n{}", self.device.user_id, lines.join("\n"))
    }

    /// Whose it is.
    #[must_use]
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Everything so far, as a checker wants it.
    #[must_use]
    pub fn record(&self) -> &DeviceRecord {
        &self.record
    }

    /// Messages composed so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.record.sent.len() as u64
    }

    /// Messages acked so far, each once.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.sent() - self.unacked.len() as u64
    }

    /// How often messages were sent so far, the same ones again among them.
    #[must_use]
    pub fn sendings(&self) -> u64 {
        self.sendings
    }

    /// Numbers of the conversation held so far.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.holdings.len()
    }

    /// From when each message was due until its first ack; forgets them.
    pub fn take_delays(&mut self) -> Vec<Delay> {
        std::mem::take(&mut self.delays)
    }

    /// Every connection made anew; forgets them.
    pub fn take_reconnects(&mut self) -> Vec<Reconnect> {
        std::mem::take(&mut self.reconnects)
    }

    /// A connection was made anew.
    pub fn reconnected(&mut self, reconnect: Reconnect) {
        self.reconnects.push(reconnect);
    }

    /// Where the device stands; nothing until the first message is stored, for then there is no conversation to resume.
    #[must_use]
    pub fn resume(&self) -> Vec<ResumeCursor> {
        match self.holdings.through {
            0 => Vec::new(),
            after_sequence => vec![ResumeCursor { conversation_id: self.conversation, after_sequence }],
        }
    }

    /// Writes the next message, which was `due` then.
    pub fn compose(&mut self, due: Instant) {
        let index = self.sent();
        let mut message = self.device.compose(&[&self.peer], &format!("{}-{index}", self.device.device_id));
        message.client_message_id = index.to_string();
        self.record.sent.push(message.idempotency_key);
        self.unacked.insert(index, Unacked { message, due });
    }

    /// What has no ack yet, first composed first.
    pub fn unacked(&self) -> impl Iterator<Item = u64> {
        self.unacked.keys().copied()
    }

    /// How many that are.
    #[must_use]
    pub fn unacked_count(&self) -> usize {
        self.unacked.len()
    }

    /// One of them, to be sent as `client_sequence`.
    pub fn message(&mut self, index: u64, client_sequence: u64, now: Instant) -> Option<SendMessage> {
        let mut message = self.unacked.get(&index)?.message.clone();
        self.sendings += 1;
        self.note(now, Event::Sent { index, client_sequence });
        message.client_sequence = Some(client_sequence);
        Some(message)
    }

    /// Takes in an answer; returns the message's index, and whether this was its first answer.
    pub fn take_ack(&mut self, client_message_id: &str, ack: MessageAck, now: Instant) -> (u64, bool) {
        let index = index_of(client_message_id);
        let position = usize::try_from(index).expect("an index of ours is a position");
        self.record.acked.push(Acked {
            key: self.record.sent[position],
            message_id: ack.message_id,
            sequence_number: ack.sequence_number,
        });
        self.holdings.add(ack.sequence_number);
        self.note(now, Event::Acked { index, sequence_number: ack.sequence_number });
        let first = self.unacked.remove(&index);
        if let Some(first) = &first {
            self.delays.push(Delay { due: first.due, took: now.duration_since(first.due) });
        }
        (index, first.is_some())
    }

    /// Takes in a message that was shown.
    pub fn take_message(&mut self, message: &DeliveredMessage) {
        assert_eq!(message.conversation_id, self.conversation, "nobody else writes to this device");
        self.record.shown.push(Shown {
            message_id: message.message_id,
            sequence_number: message.sequence_number,
            sender_id: message.sender_id,
        });
        self.holdings.add(message.sequence_number);
        self.unacknowledged += 1;
    }

    /// A cumulative `delivery_ack`, once `enough` messages have been shown that none has covered.
    pub fn acknowledgement(&mut self, enough: u64) -> Option<DeliveryAck> {
        if self.unacknowledged < enough.max(1) {
            return None;
        }
        self.unacknowledged = 0;
        let last = self.record.shown.last()?;
        let position =
            MessagePosition { conversation_id: self.conversation, sequence_number: last.sequence_number };
        Some(DeliveryAck { message_id: last.message_id, position: Some(position), timestamp: now() })
    }

    /// What it lacks of a conversation of `total` messages, in words; `None` if nothing.
    #[must_use]
    pub fn lacks(&self, total: u64) -> Option<String> {
        let missing = self.holdings.missing(total);
        if self.unacked.is_empty() && missing.is_empty() {
            return None;
        }
        let device = &self.device.device_id;
        let unacked: Vec<u64> = self.unacked().collect();
        Some(format!(
            "{device} in {}: {} of {} unacked (their indexes: {}), {} of {total} not held (their numbers: {})",
            self.conversation,
            unacked.len(),
            self.sent(),
            shortened(&unacked),
            missing.len(),
            shortened(&missing),
        ))
    }
}

/// The index that a message of ours is named after.
///
/// # Panics
/// If it is no name of ours.
#[must_use]
pub fn index_of(client_message_id: &str) -> u64 {
    client_message_id.parse().expect("the server gives back our own name")
}

/// Numbers that are shown of many.
const SHOWN_NUMBERS: usize = 10;

fn shortened(numbers: &[u64]) -> String {
    let first = &numbers[..numbers.len().min(SHOWN_NUMBERS)];
    let more = if numbers.len() > SHOWN_NUMBERS { " ..." } else { "" };
    format!("{first:?}{more}")
}

/// Which numbers of the conversation a device holds.
#[derive(Default)]
struct Holdings {
    /// Everything up to here.
    through: u64,
    /// What is held beyond.
    ahead: BTreeSet<u64>,
}

impl Holdings {
    fn add(&mut self, sequence_number: u64) {
        if sequence_number > self.through {
            self.ahead.insert(sequence_number);
        }
        while self.ahead.remove(&(self.through + 1)) {
            self.through += 1;
        }
    }

    fn len(&self) -> u64 {
        self.through + self.ahead.len() as u64
    }

    fn missing(&self, total: u64) -> Vec<u64> {
        (self.through + 1..=total).filter(|number| !self.ahead.contains(number)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holdings_know_what_is_missing() {
        let mut holdings = Holdings::default();
        for number in [1, 2, 5, 2] {
            holdings.add(number);
        }
        assert_eq!((holdings.through, holdings.len()), (2, 3));
        assert_eq!(holdings.missing(6), [3, 4, 6]);
        holdings.add(4);
        holdings.add(3);
        assert_eq!((holdings.through, holdings.len()), (5, 5));
        assert!(holdings.missing(5).is_empty());
    }

    #[test]
    fn many_numbers_are_told_shortly() {
        assert_eq!(shortened(&[1, 2]), "[1, 2]");
        assert!(shortened(&(0..50).collect::<Vec<_>>()).ends_with("9] ..."));
    }
}
