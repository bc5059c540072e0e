//! Messages on their way to the device: as they are stored, and from the log.

use std::sync::Arc;

use colloquy_protocol::frame::MessageStatus;
use colloquy_protocol::frame::server::{DeliveryOut, MessageAckOut, MessageOut, MessagesOut, ServerFrame};
use colloquy_protocol::ids::{DeviceId, UserId};
use colloquy_protocol::limits::PAGE_MAX_MESSAGES;
use colloquy_protocol::window::SequenceWindow;
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::StoreResult;
use ractor::ActorRef;

use super::{
    Live, LogRun, OpenSession, Outlet, Phase, RECENT_IDS_MAX, SessionMessage, SessionState, error_frame,
};
use crate::conversation::Answer;
use crate::metrics::Invariant;
use crate::supervision::Letter;

/// Weight of one page: keeps a `messages` frame under the largest frame a client accepts.
const PAGE_MAX_BYTES: usize = 32 * 1024;

impl SessionState {
    /// Messages have just been stored: shows those that are next, leaves the others to the log.
    pub(super) fn delivered(&mut self, myself: &ActorRef<Letter<SessionMessage>>, messages: &[Arc<Message>]) {
        let Phase::Open(open) = &mut self.phase else { return };
        for message in messages {
            let (conversation_id, number) = (message.conversation_id, message.sequence_number);
            if open.delivery.live(conversation_id, number) != Live::Show {
                continue;
            }
            if open.show(&self.outlet, message) {
                self.services.metrics.frames_sent.inc();
                open.delivery.shown(conversation_id, number);
            } else {
                open.delivery.fall_behind(conversation_id);
            }
        }
        self.keep_reading(myself);
    }

    /// Answers to messages of this session.
    pub(super) fn answered(&mut self, answers: Vec<(u64, Answer)>) {
        let Phase::Open(open) = &mut self.phase else { return };
        for (token, answer) in answers {
            // An answer given twice (an ack, then `Lost`) finds nothing pending the second time.
            let Some(pending) = open.pending.remove(&token) else { continue };
            if let (Some(number), true) = (pending.client_sequence, answer.is_final()) {
                open.counting.done(pending.conversation_id, number);
            }
            let name = pending.client_message_id;
            let text = match answer {
                Answer::Acked(ack) => serde_json::to_string(&MessageAckOut::new(&name, ack))
                    .expect("frames have string keys and no failing serializers"),
                Answer::Stale(payload) => {
                    ServerFrame::DeviceListStale { client_message_id: name, payload }.to_json()
                }
                Answer::Refused(code) => error_frame(code, code.to_string(), Some(name)).to_json(),
            };
            self.services.metrics.frames_sent.inc();
            self.outlet.control(text);
        }
    }

    /// Sends ourselves a `Continue` if there is something to read and the socket has room. One at a time, so that
    /// other letters get their turn between two pages.
    pub(super) fn keep_reading(&mut self, myself: &ActorRef<Letter<SessionMessage>>) {
        let Phase::Open(open) = &mut self.phase else { return };
        let wanted = open.delivery.is_behind() || !open.retransmits.is_empty() || !open.notices.is_empty();
        if wanted && !open.continuing && self.outlet.has_room() {
            open.continuing = myself.cast(Letter::uncounted(SessionMessage::Continue)).is_ok();
        }
    }

    /// Reads one page from the log and sends it.
    pub(super) async fn read_on(&mut self, myself: &ActorRef<Letter<SessionMessage>>) {
        self.tell_notices();
        if self.outlet.has_room()
            && let Err(error) = self.read_page().await
        {
            tracing::warn!(%error, "the log cannot be read");
            // The client reconnects and resumes, by then perhaps on a node that can.
            return self.outlet.line().closing().request(colloquy_protocol::close::CloseCode::Internal);
        }
        self.keep_reading(myself);
    }

    async fn read_page(&mut self) -> StoreResult<()> {
        let Phase::Open(open) = &mut self.phase else { return Ok(()) };
        if let Some(run) = open.retransmits.pop_front() {
            let page = read(&self.services, run).await?;
            let last = page.last().map_or(run.to, |message| message.sequence_number);
            let more = !page.is_empty() && last < run.to;
            open.send_page(&self.outlet, run, &page, more);
            self.services.metrics.frames_sent.inc();
            if more {
                open.retransmits.push_front(LogRun { from: last + 1, ..run });
            }
        } else if let Some(run) = open.delivery.next_run() {
            let page = read(&self.services, run).await?;
            let last = match page.last() {
                Some(message) => message.sequence_number,
                None => passed_over(&self.services, run).await?,
            };
            let is_hole = last < run.from;
            if is_hole {
                // Sessions are told only of what is stored.
                self.services.metrics.violated(Invariant::NoLoss);
            }
            let more = open.delivery.caught_up_to(run.conversation_id, last, is_hole);
            if !page.is_empty() {
                open.send_page(&self.outlet, run, &page, more);
                self.services.metrics.frames_sent.inc();
            }
        }
        Ok(())
    }
}

/// Up to which number there is nothing to be read any more, because retention has taken it; one before the run if
/// something should have been there.
async fn passed_over(services: &super::SessionServices, run: LogRun) -> StoreResult<u64> {
    let oldest = services.log.oldest(run.conversation_id).await?;
    Ok(oldest.map_or(run.to, |oldest| run.to.min(oldest.saturating_sub(1)).max(run.from - 1)))
}

async fn read(services: &super::SessionServices, run: LogRun) -> StoreResult<Vec<Arc<Message>>> {
    let to = run.to.min(run.from.saturating_add(PAGE_MAX_MESSAGES as u64 - 1));
    let Ok(window) = SequenceWindow::new(run.from, to) else { return Ok(Vec::new()) };
    services.log.read(run.conversation_id, window, PAGE_MAX_MESSAGES, PAGE_MAX_BYTES).await
}

impl OpenSession {
    /// Sends one message, unless it is this device's own, for which the ack stands. Says whether it is done with.
    fn show(&mut self, outlet: &Outlet, message: &Message) -> bool {
        let handle = &self.attendance.handle;
        let (user_id, device_id) = (handle.user_id, &handle.device_id);
        if message.sender_id == user_id && message.sender_device_id == *device_id {
            return true;
        }
        let sent = outlet.message(|| {
            let payload = view(message, user_id, device_id);
            serde_json::to_string(&DeliveryOut::Message { payload })
                .expect("frames have string keys and no failing serializers")
        });
        if sent {
            self.remember(message);
        }
        sent
    }

    fn send_page(&mut self, outlet: &Outlet, run: LogRun, page: &[Arc<Message>], more: bool) {
        let handle = &self.attendance.handle;
        let views: Vec<MessageOut<'_>> =
            page.iter().map(|message| view(message, handle.user_id, &handle.device_id)).collect();
        let LogRun { conversation_id, from, .. } = run;
        let payload = MessagesOut { conversation_id, from_sequence: from, messages: &views, more };
        let text = serde_json::to_string(&DeliveryOut::Messages { payload })
            .expect("frames have string keys and no failing serializers");
        outlet.control(text);
        for message in page {
            self.remember(message);
        }
    }

    /// Remembers where a message stands, for an ack that names only its id.
    fn remember(&mut self, message: &Message) {
        if self.recent.len() >= RECENT_IDS_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((message.message_id, message.conversation_id, message.sequence_number));
    }
}

/// A message as the device sees it. To its recipient it is delivered by being shown.
fn view<'a>(message: &'a Message, user_id: UserId, device_id: &DeviceId) -> MessageOut<'a> {
    let own = message.sender_id == user_id;
    let status = if own { MessageStatus::Sent } else { MessageStatus::Delivered };
    message.for_device(user_id, device_id, status)
}
