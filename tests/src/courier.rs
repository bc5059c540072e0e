//! A client that sends many messages through a server that keeps dying: it reconnects, resumes from where it
//! stands, and sends again, under the same idempotency keys, whatever was not acked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use colloquy_protocol::frame::client::{
    ClientFrame, DeliveryAck, MessagePosition, ResumeCursor, SendMessage,
};
use colloquy_protocol::frame::server::{DeliveredMessage, MessageAck, ServerFrame};
use colloquy_protocol::ids::ConversationId;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::http::HeaderMap;

use crate::ambient::now;
use crate::checker::{Acked, DeviceRecord, Shown};
use crate::device::Device;
use crate::raw_client::{Incoming, RawClient, auth};

/// Messages a courier has on the way at once; below the server's own bound.
const WINDOW: usize = 48;

/// A courier acknowledges what it holds after this many messages.
const ACKNOWLEDGE_EVERY: u64 = 32;

/// Where a courier gets its news from, and where it says how far it has come.
#[derive(Clone)]
pub struct Surroundings {
    /// Grows by one whenever a new server process is ready.
    pub generation: watch::Receiver<u64>,
    /// Counts every message acked for the first time, over all couriers.
    pub acked: watch::Sender<u64>,
}

/// One sender's way through a run.
pub struct Courier {
    device: Arc<Device>,
    peer: Arc<Device>,
    count: u64,
    peer_count: u64,
    conversation: ConversationId,
    record: DeviceRecord,
    unacked: BTreeMap<u64, SendMessage>,
    holdings: Holdings,
    unacknowledged: u64,
    reconnects: u64,
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
}

/// How a connection ended.
enum Ended {
    /// Everything is sent, acked and held.
    Done(Box<RawClient>),
    /// The socket is gone, or the server asked for a retry.
    Lost,
}

impl Courier {
    /// A courier that sends `count` messages from `device` to `peer`, who sends `peer_count` back.
    #[must_use]
    pub fn new(device: Arc<Device>, peer: Arc<Device>, count: u64, peer_count: u64) -> Self {
        let record =
            DeviceRecord { user_id: device.user_id, sent: Vec::new(), acked: Vec::new(), shown: Vec::new() };
        Self {
            conversation: device.conversation_with(&peer),
            device,
            peer,
            count,
            peer_count,
            record,
            unacked: BTreeMap::new(),
            holdings: Holdings::default(),
            unacknowledged: 0,
            reconnects: 0,
        }
    }

    /// Runs until everything is sent, acked and held; returns what happened and how often it reconnected.
    pub async fn run(mut self, address: SocketAddr, mut around: Surroundings) -> (DeviceRecord, u64) {
        loop {
            let generation = *around.generation.borrow_and_update();
            match self.connection(address, &around.acked).await {
                Ended::Done(client) => {
                    client.close().await;
                    return (self.record, self.reconnects);
                }
                Ended::Lost => self.reconnects += 1,
            }
            // A server that died is waited for; one that only asked for a retry is still there.
            if RawClient::open_with_headers(address, HeaderMap::new()).await.is_err() {
                let next = around.generation.wait_for(|now| *now > generation).await;
                next.expect("the test outlives its couriers");
            }
        }
    }

    async fn connection(&mut self, address: SocketAddr, acked: &watch::Sender<u64>) -> Ended {
        let Some(mut client) = self.connect(address).await else { return Ended::Lost };
        // The server counts a sender's messages per connection, so resending starts at 1 again.
        let mut client_sequence = 0;
        let resend: Vec<SendMessage> = self.unacked.values().cloned().collect();
        for message in resend {
            client_sequence += 1;
            if feed(&mut client, message, client_sequence).await.is_err() {
                return Ended::Lost;
            }
        }
        loop {
            while self.unacked.len() < WINDOW && (self.record.sent.len() as u64) < self.count {
                client_sequence += 1;
                let message = self.compose_next();
                if feed(&mut client, message, client_sequence).await.is_err() {
                    return Ended::Lost;
                }
            }
            if let Some(ack) = self.acknowledgement()
                && client.feed(&ClientFrame::DeliveryAck(ack)).await.is_err()
            {
                return Ended::Lost;
            }
            if client.flush().await.is_err() {
                return Ended::Lost;
            }
            if self.is_done() {
                return Ended::Done(Box::new(client));
            }
            match client.next().await {
                Incoming::Closed(_) => return Ended::Lost,
                Incoming::Frame(frame) => {
                    if !self.take(*frame, acked) {
                        return Ended::Lost;
                    }
                }
            }
        }
    }

    async fn connect(&self, address: SocketAddr) -> Option<RawClient> {
        let mut client = RawClient::open_with_headers(address, HeaderMap::new()).await.ok()?;
        let cursor =
            ResumeCursor { conversation_id: self.conversation, after_sequence: self.holdings.through };
        // Until the first message is stored there is no conversation to resume.
        let resume = if self.holdings.through == 0 { Vec::new() } else { vec![cursor] };
        client.feed(&auth(&self.device, &self.device.tokens.access_token, resume)).await.ok()?;
        client.flush().await.ok()?;
        match client.next().await {
            Incoming::Frame(frame) if matches!(*frame, ServerFrame::AuthSuccess { .. }) => Some(client),
            Incoming::Frame(frame) => panic!("instead of auth_success came {frame:?}"),
            Incoming::Closed(_) => None,
        }
    }

    fn compose_next(&mut self) -> SendMessage {
        let index = self.record.sent.len() as u64;
        let mut message = self.device.compose(&[&self.peer], &format!("{}-{index}", self.device.device_id));
        message.client_message_id = index.to_string();
        self.record.sent.push(message.idempotency_key);
        self.unacked.insert(index, message.clone());
        message
    }

    /// Takes up one frame; false if the connection has to be made anew.
    fn take(&mut self, frame: ServerFrame, acked: &watch::Sender<u64>) -> bool {
        match frame {
            ServerFrame::MessageAck { client_message_id, payload } => {
                self.take_ack(&client_message_id, payload, acked);
            }
            ServerFrame::Message { payload } => self.take_message(&payload),
            ServerFrame::Messages { payload } => payload.messages.iter().for_each(|m| self.take_message(m)),
            ServerFrame::Error { payload, .. } if payload.retryable => return false,
            ServerFrame::Error { payload, .. } => {
                panic!("refused with {}: {}", payload.code, payload.message)
            }
            ServerFrame::DeviceListStale { payload, .. } => {
                panic!("the device lists never change: {payload:?}")
            }
            _ => {}
        }
        true
    }

    fn take_ack(&mut self, client_message_id: &str, ack: MessageAck, acked: &watch::Sender<u64>) {
        let index: usize = client_message_id.parse().expect("the server gives back our own name");
        self.record.acked.push(Acked {
            key: self.record.sent[index],
            message_id: ack.message_id,
            sequence_number: ack.sequence_number,
        });
        self.holdings.add(ack.sequence_number);
        if self.unacked.remove(&(index as u64)).is_some() {
            acked.send_modify(|count| *count += 1);
        }
    }

    fn take_message(&mut self, message: &DeliveredMessage) {
        assert_eq!(message.conversation_id, self.conversation, "nobody else writes to this device");
        self.record.shown.push(Shown {
            message_id: message.message_id,
            sequence_number: message.sequence_number,
            sender_id: message.sender_id,
        });
        self.holdings.add(message.sequence_number);
        self.unacknowledged += 1;
    }

    /// A cumulative `delivery_ack`, once enough has come or nothing more will.
    fn acknowledgement(&mut self) -> Option<DeliveryAck> {
        if self.unacknowledged < ACKNOWLEDGE_EVERY && !(self.is_done() && self.unacknowledged > 0) {
            return None;
        }
        self.unacknowledged = 0;
        let last = self.record.shown.last()?;
        let position =
            MessagePosition { conversation_id: self.conversation, sequence_number: last.sequence_number };
        Some(DeliveryAck { message_id: last.message_id, position: Some(position), timestamp: now() })
    }

    fn is_done(&self) -> bool {
        self.unacked.is_empty()
            && self.record.sent.len() as u64 == self.count
            && self.holdings.len() == self.count + self.peer_count
    }
}

async fn feed(client: &mut RawClient, mut message: SendMessage, client_sequence: u64) -> Result<(), ()> {
    message.client_sequence = Some(client_sequence);
    client.feed(&ClientFrame::Message(Box::new(message))).await.map_err(|_| ())
}
