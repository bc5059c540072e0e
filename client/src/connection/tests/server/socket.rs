//! What the server does with frames.

use colloquy_protocol::envelope::OwnedSealedContent;
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::MessageStatus;
use colloquy_protocol::frame::client::{Auth, ClientFrame, SendMessage};
use colloquy_protocol::frame::server::{
    AuthSuccess, DeliveredMessage, DeviceListStale, ErrorPayload, MessageAck, MessagesPage, ReadReceipt,
    ServerFrame,
};
use colloquy_protocol::ids::{ConversationId, DeviceAddress, MessageId, SessionId};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{Fault, Push, State, Stored, TOKENS_LAST_MS, is_participant};

const PAGE: usize = 7;

impl State {
    pub(super) fn greeting(&mut self, auth: &Auth, own: &DeviceAddress) -> Vec<ServerFrame> {
        let devices = &self.devices[&own.user_id];
        let mut frames = vec![ServerFrame::AuthSuccess {
            payload: AuthSuccess {
                session_id: SessionId(Uuid::nil()),
                server_time: crate::ambient::Clock::System.now(),
                unread_count: 0,
                heartbeat_interval_ms: 25_000,
                token_expires_at: crate::ambient::Clock::System.now() + TOKENS_LAST_MS,
                device_list_version: devices.len() as u64,
                one_time_key_count: devices[&own.device_id].one_time_keys.len() as u64,
            },
        }];
        for (id, log) in &self.log {
            let is_in = log.iter().any(|stored| is_participant(stored, own.user_id));
            let after = auth.resume.iter().find(|cursor| cursor.conversation_id == *id);
            let after = after.map_or(0, |cursor| cursor.after_sequence);
            if is_in {
                frames.extend(pages(*id, log, after + 1, log.len() as u64, own));
            }
        }
        frames
    }

    pub(super) fn frame(
        &mut self,
        own: &DeviceAddress,
        frame: ClientFrame,
        reply: &mpsc::Sender<Push>,
    ) -> bool {
        match frame {
            ClientFrame::Message(message) => return self.message(own, *message, reply),
            ClientFrame::DeliveryAck(ack) => {
                let position = ack.position.unwrap();
                let mark = self.acks.entry((own.user_id, position.conversation_id)).or_insert(0);
                *mark = (*mark).max(position.sequence_number);
            }
            ClientFrame::Retransmit(ask) => {
                let log = &self.log[&ask.conversation_id];
                for page in pages(ask.conversation_id, log, ask.from_sequence, ask.to_sequence, own) {
                    let _ = reply.try_send(Push::Frame(Box::new(page)));
                }
            }
            ClientFrame::ReadReceipt(receipt) => {
                self.reads_heard += 1;
                if self.loses_reads {
                    return true;
                }
                let newest = *receipt.message_ids.last().unwrap();
                let (id, index) = self
                    .log
                    .iter()
                    .find_map(|(id, log)| Some((*id, log.iter().position(|stored| stored.id == newest)?)))
                    .unwrap();
                let payload = ReadReceipt {
                    message_ids: receipt.message_ids,
                    read_by: own.user_id,
                    conversation_id: id,
                    through_sequence: index as u64 + 1,
                    timestamp: 1,
                };
                let mark = self.reads.entry((own.user_id, id)).or_insert(0);
                *mark = (*mark).max(payload.through_sequence);
                // The reader's own sockets are told too: that is how it knows that it was heard.
                for (_, socket) in &self.sockets {
                    let frame = ServerFrame::ReadReceipt { payload: payload.clone() };
                    let _ = socket.try_send(Push::Frame(Box::new(frame)));
                }
            }
            _ => {}
        }
        true
    }

    fn message(&mut self, own: &DeviceAddress, sent: SendMessage, reply: &mpsc::Sender<Push>) -> bool {
        let client_message_id = sent.client_message_id.clone();
        let refuse = |code: ErrorCode| {
            let payload = ErrorPayload {
                code,
                message: String::new(),
                retryable: code.is_retryable(),
                retry_after_ms: Some(1),
            };
            let client_message_id = Some(client_message_id.clone());
            let _ = reply.try_send(Push::Frame(Box::new(ServerFrame::Error { client_message_id, payload })));
        };
        let id = sent.payload.conversation_id;
        let same_key = |stored: &Stored| {
            stored.sender.user_id == own.user_id && stored.sent.idempotency_key == sent.idempotency_key
        };
        let known = self.log.get(&id).and_then(|log| log.iter().position(same_key));
        let fault =
            if known.is_some() { Fault::None } else { self.faults.pop_front().unwrap_or(Fault::None) };
        match fault {
            Fault::DropBeforeStore => return false,
            Fault::Refuse(code) => {
                refuse(code);
                return true;
            }
            _ => {}
        }
        if let Some(index) = known
            && self.log[&id][index].sent.payload != sent.payload
        {
            self.conflicts += 1;
            refuse(ErrorCode::IdempotencyConflict);
            return true;
        }
        let index = match known {
            Some(index) => index,
            None => {
                if let Some(stale) = self.stale(own, &sent) {
                    self.faults.push_front(fault);
                    let frame = ServerFrame::DeviceListStale { client_message_id, payload: stale };
                    let _ = reply.try_send(Push::Frame(Box::new(frame)));
                    return true;
                }
                self.store(own, sent, fault)
            }
        };
        if fault == Fault::StoreAndCallStale {
            let payload = DeviceListStale { conversation_id: id, missing: vec![], extra: vec![] };
            let frame = ServerFrame::DeviceListStale { client_message_id, payload };
            let _ = reply.try_send(Push::Frame(Box::new(frame)));
            return true;
        }
        if fault == Fault::DropAfterStore {
            return false;
        }
        let payload = MessageAck {
            message_id: self.log[&id][index].id,
            sequence_number: index as u64 + 1,
            status: MessageStatus::Sent,
            timestamp: 1,
        };
        let _ = reply.try_send(Push::Frame(Box::new(ServerFrame::MessageAck { client_message_id, payload })));
        true
    }

    fn stale(&self, own: &DeviceAddress, sent: &SendMessage) -> Option<DeviceListStale> {
        let expected: Vec<DeviceAddress> = [own.user_id, sent.payload.receiver_id]
            .iter()
            .flat_map(|user| {
                let devices = self.devices[user].keys();
                devices.map(|device| DeviceAddress { user_id: *user, device_id: device.clone() })
            })
            .filter(|address| address != own)
            .collect();
        let wrong = sent.payload.content.check_devices(&expected).err()?;
        Some(DeviceListStale {
            conversation_id: sent.payload.conversation_id,
            missing: wrong.missing,
            extra: wrong.extra,
        })
    }

    fn store(&mut self, own: &DeviceAddress, sent: SendMessage, fault: Fault) -> usize {
        let id = sent.payload.conversation_id;
        let stored = Stored {
            id: MessageId(self.next_id()),
            sender: own.clone(),
            sent,
            is_damaged: fault == Fault::Damage,
        };
        let log = self.log.entry(id).or_default();
        log.push(stored);
        let (index, stored) = (log.len() - 1, log.last().unwrap());
        for (address, socket) in &self.sockets {
            if address == own || !is_participant(stored, address.user_id) {
                continue;
            }
            let times = match fault {
                Fault::Repeat => 3,
                Fault::Withhold => 0,
                _ => 1,
            };
            for _ in 0..times {
                let payload = delivered(stored, index as u64 + 1, address);
                let _ = socket.try_send(Push::Frame(Box::new(ServerFrame::Message { payload })));
            }
            if fault == Fault::DropReceiver {
                let _ = socket.try_send(Push::Drop);
            }
        }
        index
    }
}

fn delivered(stored: &Stored, number: u64, to: &DeviceAddress) -> DeliveredMessage {
    let sealed = stored.sent.payload.content.sealed_for(to.user_id, &to.device_id);
    let content = sealed.map(|sealed| {
        let mut bytes = vodozemac::base64_decode(sealed.body).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= u8::from(stored.is_damaged);
        OwnedSealedContent {
            algorithm: sealed.algorithm,
            sender_key: sealed.sender_key.to_owned(),
            kind: sealed.kind,
            body: vodozemac::base64_encode(bytes),
        }
    });
    DeliveredMessage {
        message_id: stored.id,
        sequence_number: number,
        sender_id: stored.sender.user_id,
        sender_device_id: stored.sender.device_id.clone(),
        receiver_id: stored.sent.payload.receiver_id,
        conversation_id: stored.sent.payload.conversation_id,
        content,
        r#type: stored.sent.payload.r#type,
        media_url: None,
        reply_to_message_id: stored.sent.payload.reply_to_message_id,
        timestamp: number,
        status: MessageStatus::Sent,
        idempotency_key: (stored.sender.user_id == to.user_id).then_some(stored.sent.idempotency_key),
    }
}

fn pages(id: ConversationId, log: &[Stored], from: u64, to: u64, own: &DeviceAddress) -> Vec<ServerFrame> {
    let messages: Vec<DeliveredMessage> = (1..)
        .zip(log)
        .filter(|(number, _)| (from..=to).contains(number))
        .map(|(number, stored)| delivered(stored, number, own))
        .collect();
    let count = messages.len().div_ceil(PAGE);
    let page = |(index, messages): (usize, &[DeliveredMessage])| ServerFrame::Messages {
        payload: MessagesPage {
            conversation_id: id,
            from_sequence: if index == 0 { from } else { messages[0].sequence_number },
            messages: messages.to_vec(),
            more: index + 1 < count,
        },
    };
    messages.chunks(PAGE).enumerate().map(page).collect()
}
