//! One socket of a pair: sends as its window allows, acknowledges what it gets, and notes latencies.

use std::cell::RefCell;
use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use colloquy_tests::device::Device;
use colloquy_tests::raw_client::auth;

use crate::Failure;
use crate::scan::{Seen, number, read_page, scan};
use crate::socket::{Incoming, Socket};
use crate::tally::{Course, Phase, Tally};
use crate::template::{STAMP_DIGITS, Template};

/// Bytes read at once.
const READ_SIZE: usize = 16 * 1024;

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

/// One side of a pair.
pub(crate) struct Traffic {
    socket: Socket,
    /// What this side sends, if it sends.
    template: Option<Template>,
    conversation_id: String,
    window: u64,
    count: u64,
    in_flight: u64,
    /// The newest message that is not acknowledged yet.
    owed: Option<Owed>,
    course: Arc<Course>,
    tally: Rc<RefCell<Tally>>,
}

struct Owed {
    message_id: Vec<u8>,
    sequence_number: u64,
}

impl Traffic {
    /// Connects `device`, which will send `template` if there is one.
    pub(crate) async fn connect(
        address: SocketAddr,
        device: &Device,
        peer: &Device,
        template: Option<Template>,
        window: u64,
        (course, tally): (Arc<Course>, Rc<RefCell<Tally>>),
    ) -> Result<Self, Failure> {
        Ok(Self {
            socket: authenticate(address, device, READ_SIZE).await?,
            template,
            conversation_id: device.conversation_with(peer).to_string(),
            window,
            count: 0,
            in_flight: 0,
            owed: None,
            course,
            tally,
        })
    }

    /// Runs until the connection ends; the caller ends it by dropping it.
    pub(crate) async fn run(mut self) {
        let ended = self.converse().await;
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
            let now_us = self.course.now_us();
            while let Some(incoming) = self.socket.next()? {
                match incoming {
                    Incoming::Text(range) => self.take(range, now_us),
                    Incoming::Close(code) => return Err(format!("closed with {code}").into()),
                }
            }
        }
    }

    fn fill_window(&mut self) {
        let Some(template) = &self.template else { return };
        if self.course.phase() >= Phase::Draining {
            return;
        }
        let before = self.count;
        let now_us = self.course.now_us();
        while self.in_flight < self.window {
            self.count += 1;
            self.in_flight += 1;
            self.socket.push_text(|out| template.write(self.count, now_us, out));
        }
        self.course.sent.fetch_add(self.count - before, Ordering::Release);
    }

    /// One cumulative ack for everything that came with the last read.
    fn acknowledge(&mut self) {
        let Some(owed) = self.owed.take() else { return };
        let conversation_id = &self.conversation_id;
        self.socket.push_text(|out| {
            out.extend_from_slice(br#"{"type":"delivery_ack","message_id":""#);
            out.extend_from_slice(&owed.message_id);
            let sequence_number = owed.sequence_number;
            // Writing into a vector does not fail.
            let _ = write!(
                out,
                r#"","position":{{"conversation_id":"{conversation_id}","sequence_number":{sequence_number}}},"timestamp":0}}"#
            );
        });
    }

    fn take(&mut self, range: std::ops::Range<usize>, now_us: u64) {
        let frame = self.socket.text(range);
        let mut tally = self.tally.borrow_mut();
        match scan(frame) {
            Seen::Ack { name } => {
                self.in_flight -= 1;
                self.course.acked.fetch_add(1, Ordering::Release);
                let sent_at_us = number(name);
                if self.course.counts(sent_at_us) {
                    tally.ack_us.saturating_record(now_us - sent_at_us);
                }
            }
            Seen::Message { message_id, sequence_number, body } => {
                self.course.delivered.fetch_add(1, Ordering::Release);
                let sent_at_us = stamp(body);
                if self.course.counts(sent_at_us) {
                    tally.delivery_us.saturating_record(now_us - sent_at_us);
                }
                self.owed = Some(Owed { message_id: message_id.to_vec(), sequence_number });
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
                self.owed = Some(Owed { message_id, sequence_number: page.last_number });
            }
            Seen::Refused => {
                // Most refusals are of messages: without this the window would shrink for good.
                self.in_flight = self.in_flight.saturating_sub(1);
                tally.refuse(|| String::from_utf8_lossy(frame).into_owned());
            }
            Seen::Other => {}
        }
    }
}

/// When the message with this ciphertext was sent.
fn stamp(body: &[u8]) -> u64 {
    number(&body[..STAMP_DIGITS.min(body.len())])
}
