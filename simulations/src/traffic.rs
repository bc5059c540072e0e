//! One socket of a group: sends as its window allows or as its pace demands, acknowledges what it gets, and notes
//! latencies.
//!
//! A sender with a pace never waits for answers: each message has a time at which it is due, and its latencies count from
//! then, whenever it could really be written. Otherwise whatever slows the server down would also keep messages from being
//! sent, and with them the latencies they would have had ("coordinated omission").

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use colloquy_tests::device::Device;
use colloquy_tests::raw_client::auth;
use tokio::time::Instant;

use crate::Failure;
use crate::group::in_turn;
use crate::scan::{Seen, number, read_page, scan};
use crate::socket::{Incoming, Socket};
use crate::tally::{Course, Phase, Tally};
use crate::template::{STAMP_DIGITS, Template, place_of};

/// Bytes read at once.
const READ_SIZE: usize = 16 * 1024;

/// Messages that are encoded at once when they are due; the others are due all the same.
const ENCODED_AT_ONCE: u64 = 32;
/// How long a sender without anything due waits for something to read.
const IDLE: Duration = Duration::from_millis(100);

/// When messages are due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Messages a second, in the end.
    pub(crate) rate: f64,
    /// Seconds in which the rate rises from nothing.
    pub(crate) ramp: f64,
    /// Seconds by which the first is late, so that not all senders send at once.
    pub(crate) shift: f64,
}

impl Pace {
    /// When the `count`-th message is due, microseconds from the beginning; the first is the 0th.
    fn due_us(&self, count: u64) -> u64 {
        let count = count as f64;
        let in_ramp = self.rate * self.ramp / 2.0;
        let seconds = if count < in_ramp {
            // The number sent until then grows with the square of the time.
            (2.0 * count * self.ramp / self.rate).sqrt()
        } else {
            self.ramp + (count - in_ramp) / self.rate
        };
        ((seconds + self.shift) * 1e6) as u64
    }
}

/// Connects `device` and waits until it is authenticated.
pub(crate) async fn authenticate(
    address: SocketAddr,
    device: &Device,
    read_size: usize,
) -> Result<Socket, Failure> {
    let mut socket = Socket::connect(address, read_size).await?;
    let frame = auth(device, &device.tokens.access_token, Vec::new()).to_json();
    socket.push_text(|out| out.extend_from_slice(frame.as_bytes()));
    socket.flush().await?;
    loop {
        match socket.next()? {
            Some(Incoming::Text(range)) => {
                let text = socket.text(range);
                if text.starts_with(br#"{"type":"auth_success""#) {
                    return Ok(socket);
                }
                return Err(format!("not let in: {}", String::from_utf8_lossy(text)).into());
            }
            Some(Incoming::Close(code)) => return Err(format!("not let in: closed with {code}").into()),
            None if socket.read().await? => {}
            None => return Err("not let in: the connection ended".into()),
        }
    }
}

/// One device of a member of a group: of a pair, mostly.
pub(crate) struct Traffic {
    socket: Socket,
    /// What this side sends, conversation by conversation in turn, if it sends.
    templates: Vec<Template>,
    /// One with each of the others.
    conversations: Vec<Conversation>,
    /// Messages on the way in all conversations together.
    window: u64,
    /// Instead of a window.
    pace: Option<Pace>,
    count: u64,
    in_flight: u64,
    course: Arc<Course>,
    tally: Rc<RefCell<Tally>>,
}

/// What a socket has to do with one conversation.
struct Conversation {
    /// As it is written.
    id: String,
    /// When each message under way was due, and when there was room to write it; of a sender with a pace. Answers keep the
    /// order of a conversation only.
    written: VecDeque<(u64, u64)>,
    /// The newest message that is not acknowledged yet.
    owed: Option<Owed>,
}

struct Owed {
    message_id: Vec<u8>,
    sequence_number: u64,
}

impl Traffic {
    /// Connects `device`, which has a conversation with each of `peers` and will send the template for each, if there are any.
    pub(crate) async fn connect(
        address: SocketAddr,
        device: &Device,
        peers: &[&Device],
        templates: Vec<Template>,
        window: u64,
        pace: Option<Pace>,
        (course, tally): (Arc<Course>, Rc<RefCell<Tally>>),
    ) -> Result<Self, Failure> {
        let conversations = peers.iter().map(|peer| Conversation {
            id: device.conversation_with(peer).to_string(),
            written: VecDeque::new(),
            owed: None,
        });
        Ok(Self {
            socket: authenticate(address, device, READ_SIZE).await?,
            templates,
            conversations: conversations.collect(),
            window,
            pace,
            count: 0,
            in_flight: 0,
            course,
            tally,
        })
    }

    /// Runs until the connection ends; the caller ends it by dropping it.
    pub(crate) async fn run(mut self) {
        let ended = match self.pace {
            Some(pace) => self.keep_pace(pace).await,
            None => self.converse().await,
        };
        let why = ended.err().map_or_else(|| "the connection ended".to_owned(), |why| why.to_string());
        self.tally.borrow_mut().refuse(|| why);
    }

    async fn converse(&mut self) -> Result<(), Failure> {
        loop {
            self.fill_window();
            self.acknowledge();
            self.socket.flush().await?;
            if !self.socket.read().await? {
                return Ok(());
            }
            self.take_all()?;
        }
    }

    /// As [`Self::converse`], at its own pace.
    async fn keep_pace(&mut self, pace: Pace) -> Result<(), Failure> {
        let began_us = self.course.now_us();
        let mut is_written = true;
        loop {
            let now_us = self.course.now_us();
            if is_written {
                self.write_due(pace, began_us, now_us);
                self.acknowledge();
            }
            is_written = self.socket.flush_some()?;
            let next_us = began_us + pace.due_us(self.count);
            let wait = if is_written && self.has_more() {
                Duration::from_micros(next_us.saturating_sub(now_us)).min(IDLE)
            } else {
                IDLE
            };
            if !self.socket.turn(Instant::now() + wait).await? {
                return Ok(());
            }
            self.take_all()?;
        }
    }

    /// Takes in whatever has come.
    fn take_all(&mut self) -> Result<(), Failure> {
        let now_us = self.course.now_us();
        while let Some(incoming) = self.socket.next()? {
            match incoming {
                Incoming::Text(range) => self.take(range, now_us),
                Incoming::Close(code) => return Err(format!("closed with {code}").into()),
            }
        }
        Ok(())
    }

    fn write_due(&mut self, pace: Pace, began_us: u64, now_us: u64) {
        if !self.has_more() {
            return;
        }
        for _ in 0..ENCODED_AT_ONCE {
            let due_us = began_us + pace.due_us(self.count);
            if due_us > now_us {
                return;
            }
            let place = self.push_next(due_us);
            self.conversations[place].written.push_back((due_us, now_us));
            self.course.sent.fetch_add(1, Ordering::Release);
            if self.course.counts(due_us) {
                self.tally.borrow_mut().late_us.saturating_record(now_us - due_us);
            }
        }
    }

    fn fill_window(&mut self) {
        if !self.has_more() {
            return;
        }
        let before = self.count;
        let now_us = self.course.now_us();
        while self.in_flight < self.window {
            self.push_next(now_us);
        }
        self.course.sent.fetch_add(self.count - before, Ordering::Release);
    }

    /// Is there anything to send, now or later?
    fn has_more(&self) -> bool {
        !self.templates.is_empty() && self.course.phase() < Phase::Draining
    }

    /// Puts the next message into the write buffer. Returns the place of its conversation.
    fn push_next(&mut self, sent_at_us: u64) -> usize {
        let (place, number) = in_turn(self.count, self.templates.len());
        self.count += 1;
        self.in_flight += 1;
        self.socket.push_text(|out| self.templates[place].write(self.count, number, sent_at_us, out));
        place
    }

    /// One cumulative ack for everything of a conversation that came with the last read.
    fn acknowledge(&mut self) {
        for conversation in &mut self.conversations {
            let Some(owed) = conversation.owed.take() else { continue };
            let id = &conversation.id;
            self.socket.push_text(|out| {
                out.extend_from_slice(br#"{"type":"delivery_ack","message_id":""#);
                out.extend_from_slice(&owed.message_id);
                let number = owed.sequence_number;
                // Writing into a vector does not fail.
                let _ = write!(
                    out,
                    r#"","position":{{"conversation_id":"{id}","sequence_number":{number}}},"timestamp":0}}"#
                );
            });
        }
    }

    fn take(&mut self, range: std::ops::Range<usize>, now_us: u64) {
        let frame = self.socket.text(range);
        let mut tally = self.tally.borrow_mut();
        match scan(frame) {
            Seen::Ack { name } => {
                self.in_flight = self.in_flight.saturating_sub(1);
                self.course.acked.fetch_add(1, Ordering::Release);
                let sent_at_us = number(name);
                let conversation = self.conversations.get_mut(place_of(name));
                let written_us = conversation.and_then(|it| take_written(&mut it.written, sent_at_us));
                if self.course.counts(sent_at_us) {
                    tally.ack_us.saturating_record(now_us - sent_at_us);
                    if let Some(written_us) = written_us {
                        tally.written_us.saturating_record(now_us - written_us);
                    }
                }
            }
            Seen::Message { message_id, sequence_number, conversation_id, body } => {
                self.course.delivered.fetch_add(1, Ordering::Release);
                let sent_at_us = stamp(body);
                if self.course.counts(sent_at_us) {
                    tally.delivery_us.saturating_record(now_us - sent_at_us);
                }
                if let Some(conversation) = named(&mut self.conversations, conversation_id) {
                    conversation.owed = Some(Owed { message_id: message_id.to_vec(), sequence_number });
                }
            }
            Seen::Page => {
                tally.pages += 1;
                let Some(page) = read_page(frame) else { return };
                for body in &page.bodies {
                    self.course.delivered.fetch_add(1, Ordering::Release);
                    let sent_at_us = stamp(body.as_bytes());
                    if self.course.counts(sent_at_us) {
                        tally.delivery_us.saturating_record(now_us - sent_at_us);
                    }
                }
                let message_id = page.last_id.into_bytes();
                if let Some(conversation) = named(&mut self.conversations, page.conversation_id.as_bytes()) {
                    conversation.owed = Some(Owed { message_id, sequence_number: page.last_number });
                }
            }
            Seen::Refused => {
                // Most refusals are of messages: without this the window would shrink for good.
                self.in_flight = self.in_flight.saturating_sub(1);
                self.course.refused.fetch_add(1, Ordering::Release);
                tally.refuse(|| String::from_utf8_lossy(frame).into_owned());
            }
            Seen::Other => {}
        }
    }
}

/// When the message that was due at `due_us` was written; it and those before it leave the row: those were refused.
fn take_written(row: &mut VecDeque<(u64, u64)>, due_us: u64) -> Option<u64> {
    while row.pop_front_if(|(due, _)| *due < due_us).is_some() {}
    row.pop_front_if(|(due, _)| *due == due_us).map(|(_, written_us)| written_us)
}

/// The conversation of this name. There are few, and mostly one.
fn named<'a>(conversations: &'a mut [Conversation], id: &[u8]) -> Option<&'a mut Conversation> {
    match conversations {
        [only] => Some(only),
        several => several.iter_mut().find(|conversation| conversation.id.as_bytes() == id),
    }
}

/// When the message with this ciphertext was sent.
fn stamp(body: &[u8]) -> u64 {
    number(&body[..STAMP_DIGITS.min(body.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_of_what_was_written_skips_what_was_refused() {
        let mut row = VecDeque::from([(1, 11), (2, 12), (4, 14)]);
        assert_eq!(take_written(&mut row, 2), Some(12), "the first was refused");
        assert_eq!(take_written(&mut row, 3), None, "it was never written");
        assert_eq!(row, [(4, 14)]);
    }

    #[test]
    fn each_conversation_owes_its_own_acknowledgement() {
        let conversation =
            |id: &str| Conversation { id: id.to_owned(), written: VecDeque::new(), owed: None };
        let mut several = [conversation("first"), conversation("second")];
        let found = named(&mut several, b"second").map(|it| it.id.clone());
        assert_eq!(found.as_deref(), Some("second"));
        assert!(named(&mut several, b"third").is_none());
    }

    #[test]
    fn a_pace_rises_to_its_rate_and_keeps_it() {
        let pace = Pace { rate: 100.0, ramp: 2.0, shift: 0.0 };
        assert_eq!(pace.due_us(0), 0);
        assert_eq!(pace.due_us(25), 1_000_000, "a quarter of what the ramp sends, in half of its time");
        assert_eq!(pace.due_us(100), 2_000_000);
        assert_eq!(pace.due_us(300), 4_000_000);
    }
}
