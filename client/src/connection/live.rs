//! One connection, frame by frame: authenticates, then takes in, acknowledges and sends until it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::client::{
    Auth, ClientFrame, DeliveryAck, MessagePosition, PresenceSubscribe, Retransmit, Typing,
};
use colloquy_protocol::frame::delta::{Delta, TurnPlace};
use colloquy_protocol::frame::server::{
    AuthSuccess, DeliveredMessage, ErrorPayload, MessagesPage, Migration, ServerFrame,
};
use colloquy_protocol::ids::{ConversationId, UserId};
use colloquy_protocol::limits::AUTH_TIMEOUT;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::engine::{Command, Ended, Engine, watch_more};
use super::errand::Errand;
use super::ingest::{Arrival, Batch, Ingested, MarkMove, ingest};
use super::resync::Resync;
use super::socket::{Received, Socket};
use crate::ambient;
use crate::crypto::stream::StreamSecret;
use crate::event::Event;
use crate::store::{LocalMessageId, MessageContent, MessageRecord, SendFailure, StoreError, Transaction};

/// Arrivals stored in one batch: one fsync for all of them.
const INGEST_BATCH_MAX: usize = 64;
/// Arrivals that may wait to be stored. Beyond it the socket is not read: the server holds back, or closes the
/// connection as too slow, and the rest comes again on the next.
const READY_MAX: usize = 1024;
/// Frames taken from the socket before what they hold is stored.
const FRAMES_AT_ONCE_MAX: usize = 64;
/// How often timeouts are looked at.
const TICK: Duration = Duration::from_millis(250);
/// How often what has been added to an answer that is being written is told.
const DRAFT_INTERVAL: Duration = Duration::from_millis(100);
/// The least the server can make the client wait between heartbeats, ms.
const HEARTBEAT_MIN_MS: u64 = 1_000;
/// A message the server could not take now waits at least this long, ms, and up to as much again.
const RETRY_MS: u64 = 500;

/// What is known about the open connection.
pub(super) struct Link {
    pub(super) socket: Socket,
    pub(super) token: String,
    pub(super) token_expires_at: u64,
    /// A refresh that failed is not tried again before this.
    pub(super) refresh_not_before: u64,
    pub(super) heartbeat_interval_ms: u64,
    pub(super) heartbeat_at: u64,
    pub(super) heard_at: u64,
    /// How far the server was told on this connection that this user has read; it may not have taken it.
    pub(super) read_told: BTreeMap<ConversationId, u64>,
    /// Conversations in which another device of this user has written what this one had missed.
    missed_own: BTreeSet<ConversationId>,
    /// When to look next for messages to be asked for.
    pub(super) repairs_looked_at_next: u64,
    leave: Option<(Instant, Migration)>,
}

impl Engine {
    /// Lives through one connection.
    pub(super) async fn live(&mut self, socket: Socket, token: String) -> Ended {
        let mut link = match self.authenticate(socket, token).await {
            Ok(link) => link,
            Err(ended) => return ended,
        };
        let ended = self.serve(&mut link).await;
        link.socket.close().await;
        ended
    }

    async fn authenticate(&mut self, mut socket: Socket, token: String) -> Result<Link, Ended> {
        let resume = self.restore()?;
        let auth = ClientFrame::Auth(Auth {
            user_id: self.own.user_id,
            auth_token: token.clone(),
            device_id: self.own.device_id.clone(),
            platform: self.shared.platform.clone(),
            app_version: env!("CARGO_PKG_VERSION").to_owned(),
            resume,
        });
        sent(socket.send(&auth).await)?;
        let accepted =
            timeout(AUTH_TIMEOUT, accepted(&mut socket)).await.map_err(|_| Ended::Unresponsive)??;
        self.shared.credentials.learn_time(accepted.server_time);
        let now = self.now();
        let link = Link {
            socket,
            token,
            token_expires_at: accepted.token_expires_at,
            heartbeat_interval_ms: accepted.heartbeat_interval_ms.max(HEARTBEAT_MIN_MS),
            refresh_not_before: 0,
            heartbeat_at: now,
            heard_at: now,
            read_told: BTreeMap::new(),
            missed_own: BTreeSet::new(),
            repairs_looked_at_next: now,
            leave: None,
        };
        self.connected();
        self.shared.is_connected.store(true, Ordering::Relaxed);
        self.one_time_keys_left = accepted.one_time_key_count;
        self.check_own_devices(accepted.device_list_version).await?;
        self.shared.tell(Event::Connected { unread_count: accepted.unread_count });
        Ok(link)
    }

    async fn serve(&mut self, link: &mut Link) -> Ended {
        match self.serve_until(link).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn serve_until(&mut self, link: &mut Link) -> Result<std::convert::Infallible, Ended> {
        self.greet(link).await?;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pulse = interval(DRAFT_INTERVAL);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.take_in(link).await?;
            self.ask(link).await?;
            self.judge(link).await?;
            self.send_out(link).await?;
            let leave_at = link.leave.as_ref().map(|(at, _)| *at);
            tokio::select! {
                received = link.socket.receive(), if self.ready.len() < READY_MAX => {
                    self.received(link, received)?;
                    for _ in 1..FRAMES_AT_ONCE_MAX {
                        let Some(received) = link.socket.try_receive() else { break };
                        self.received(link, received)?;
                    }
                }
                command = self.commands.recv() => self.command(link, command).await?,
                Some(done) = self.errands.next(), if !self.errands.is_idle() => self.done(link, done).await?,
                () = sleep_until(leave_at), if leave_at.is_some() => {
                    let (_, mut migration) = link.leave.take().expect("there was a time to leave");
                    migration.reconnect_after_ms = 0;
                    return Err(Ended::Migrating(migration));
                }
                _ = pulse.tick(), if self.streams.is_writing() => self.tell_drafts(link).await?,
                _ = tick.tick() => self.tick(link).await?,
            }
        }
    }

    /// Stores what is ready, in batches; then acknowledges and tells.
    async fn take_in(&mut self, link: &mut Link) -> Result<(), Ended> {
        loop {
            let is_blocked = self.blocked_on.is_some() || self.now() < self.blocked_until;
            let has_arrivals = !self.ready.is_empty() && !is_blocked;
            if !has_arrivals && self.acks.is_empty() && self.marks.is_empty() && self.given_up.is_empty() {
                return Ok(());
            }
            let count = if has_arrivals { self.ready.len().min(INGEST_BATCH_MAX) } else { 0 };
            let batch = Batch {
                acks: std::mem::take(&mut self.acks),
                marks: std::mem::take(&mut self.marks),
                given_up: std::mem::take(&mut self.given_up),
                arrivals: self.ready.iter().take(count).cloned().collect(),
                refetched: if has_arrivals { self.refetched.take() } else { None },
            };
            let now = self.shared.clock.now();
            let store = &self.shared.store;
            let has_messages = batch.arrivals.iter().any(|arrival| matches!(arrival, Arrival::Message(_)));
            #[cfg(feature = "mutations")]
            let before = super::mutated::run_ahead(store, &batch).await?;
            let outcome: Result<Ingested, StoreError> = if has_messages {
                let take = move |tx: &mut Transaction<'_>| {
                    #[cfg(feature = "mutations")]
                    super::mutated::fall_back(tx, &before);
                    ingest(tx, &batch, now)
                };
                store.update_off_thread(take).await
            } else {
                // No ratchet moves, and nothing is acknowledged: after a power cut a message is sent again under
                // its key, and marks and what was given up are read again from the list of conversations.
                store.update_without_sync(move |tx| ingest(tx, &batch, now)).await
            };
            self.ingested(link, outcome?).await?;
        }
    }

    pub(super) async fn ingested(&mut self, link: &mut Link, outcome: Ingested) -> Result<(), Ended> {
        self.ready.drain(..outcome.processed);
        if let Some(user) = outcome.blocked_on {
            self.blocked_on = Some(user);
            self.errands.start(Errand::FetchDevices(user));
        }
        for (id, conversation) in outcome.enqueued {
            self.outbound.add(id, conversation, false);
            self.shared.note_unsent(id);
        }
        for event in outcome.events {
            self.shared.tell(event);
        }
        for event in self.streams.take_ended() {
            self.shared.tell(event);
        }
        for id in outcome.settled {
            self.forget(id);
        }
        for (conversation_id, (sequence_number, message_id)) in outcome.acks {
            let ack = DeliveryAck {
                message_id,
                position: Some(MessagePosition { conversation_id, sequence_number }),
                timestamp: self.shared.clock.now(),
            };
            sent(link.socket.feed(&ClientFrame::DeliveryAck(ack)).await)?;
        }
        self.one_time_keys_left = self.one_time_keys_left.saturating_sub(outcome.keys_used);
        self.refill_keys()?;
        sent(link.socket.flush().await)
    }

    async fn ask(&mut self, link: &mut Link) -> Result<(), Ended> {
        let now = self.now();
        for (conversation_id, window) in self.inbound.asks(now) {
            let frame = ClientFrame::Retransmit(Retransmit {
                conversation_id,
                from_sequence: window.from(),
                to_sequence: window.to(),
            });
            sent(link.socket.send(&frame).await)?;
        }
        for turn in self.streams.take_missing() {
            sent(link.socket.send(&ClientFrame::DeltaRequest(turn)).await)?;
        }
        Ok(())
    }

    fn received(&mut self, link: &mut Link, received: Received) -> Result<(), Ended> {
        link.heard_at = self.now();
        match received {
            Received::Other => Ok(()),
            Received::Closed(code) => Err(match link.leave.take() {
                Some((at, mut migration)) => {
                    let left = at.saturating_duration_since(Instant::now());
                    migration.reconnect_after_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
                    Ended::Migrating(migration)
                }
                None => Ended::Closed(code),
            }),
            Received::Frame(frame) => self.frame(link, *frame),
        }
    }

    fn frame(&mut self, link: &mut Link, frame: ServerFrame) -> Result<(), Ended> {
        match frame {
            ServerFrame::Message { payload } => self.arrived(Arrival::Message(Box::new(payload))),
            ServerFrame::Messages { payload } => self.page(link, payload),
            ServerFrame::MessageAck { client_message_id, payload } => {
                let Some(id) = self.in_outbox(&client_message_id) else { return Ok(()) };
                self.acks.push((id, payload));
                if let Ok(Some(record)) = self.shared.store.read(|tx| tx.outbox(id)) {
                    let position = MessagePosition {
                        conversation_id: record.conversation_id,
                        sequence_number: payload.sequence_number,
                    };
                    self.arrived(Arrival::Own(position, payload.message_id));
                }
            }
            ServerFrame::DeviceListStale { client_message_id, .. } => {
                if let Some(id) = self.in_outbox(&client_message_id) {
                    self.stale.push(id);
                }
            }
            ServerFrame::DeliveryReceipt { payload } => self.marks.push(MarkMove {
                conversation_id: payload.conversation_id,
                delivered_through: payload.through_sequence,
                read_through: 0,
                own_read_through: 0,
                listed_through: 0,
            }),
            ServerFrame::ReadReceipt { payload } => {
                let is_own = payload.read_by == self.own.user_id;
                self.marks.push(MarkMove {
                    conversation_id: payload.conversation_id,
                    delivered_through: 0,
                    read_through: if is_own { 0 } else { payload.through_sequence },
                    own_read_through: if is_own { payload.through_sequence } else { 0 },
                    listed_through: 0,
                });
            }
            ServerFrame::Migration { payload } => {
                let at = Instant::now() + Duration::from_millis(payload.reconnect_after_ms);
                link.leave = Some((at, payload));
            }
            ServerFrame::Presence { payload } => self.shared.tell(Event::PresenceChanged {
                user_id: payload.user_id,
                status: payload.status,
                last_seen: payload.last_seen,
            }),
            ServerFrame::Typing { payload } => self.shared.tell(Event::TypingChanged {
                conversation_id: payload.conversation_id,
                user_id: payload.user_id,
                state: payload.state,
            }),
            ServerFrame::Delta { payload } => self.heard(&payload)?,
            ServerFrame::DeltaRequest { payload } => self.streams.again(payload),
            ServerFrame::TurnGivenUp { payload } => self.gave_up(payload),
            ServerFrame::TokenRefreshed { payload } => link.token_expires_at = payload.token_expires_at,
            ServerFrame::Error { client_message_id, payload } => {
                self.refused(link, client_message_id.as_deref(), &payload);
            }
            ServerFrame::AuthSuccess { .. } | ServerFrame::HeartbeatAck { .. } => {}
        }
        Ok(())
    }

    /// A piece of an answer has come.
    fn heard(&mut self, delta: &Delta) -> Result<(), Ended> {
        let (now, store) = (self.now(), &self.shared.store);
        let own = self.own.user_id;
        let event = self.streams.hear(delta, now, |turn| store.read(|tx| secret_of(tx, turn, own)))?;
        event.into_iter().for_each(|event| self.shared.tell(event));
        Ok(())
    }

    /// A turn was given up, as the server says.
    fn gave_up(&mut self, turn: TurnPlace) {
        self.streams.abandoned(turn);
        self.given_up.push(turn);
    }

    /// Tells what is being written here.
    async fn tell_drafts(&mut self, link: &mut Link) -> Result<(), Ended> {
        let now = self.now();
        for frame in self.streams.tell(now) {
            sent(link.socket.feed(&frame).await)?;
        }
        sent(link.socket.flush().await)
    }

    fn arrived(&mut self, arrival: Arrival) {
        let (conversation, number) = match &arrival {
            Arrival::Message(message) => {
                let turn = message.reply_to_message_id.filter(|_| message.sender_id != self.own.user_id);
                turn.into_iter().for_each(|turn| self.streams.answered(turn));
                (message.conversation_id, message.sequence_number)
            }
            Arrival::Own(position, _) => (position.conversation_id, position.sequence_number),
        };
        self.ready.extend(self.inbound.accept(conversation, number, arrival));
    }

    fn page(&mut self, link: &mut Link, page: MessagesPage) {
        let conversation_id = page.conversation_id;
        // What has become of it meanwhile was told to others of this user's devices only.
        let is_from_another = |message: &DeliveredMessage| {
            message.sender_id == self.own.user_id && message.sender_device_id != self.own.device_id
        };
        if page.messages.iter().any(is_from_another) && link.missed_own.insert(conversation_id) {
            self.resync = Some(Resync::anew(self.resync.take(), conversation_id));
        }
        if let Some(first) = page.messages.first() {
            let gone = page.from_sequence..first.sequence_number;
            let (lost, ready) = self.inbound.are_gone(conversation_id, gone);
            for (from, to) in lost {
                self.shared.tell(Event::MessagesLost { conversation_id, from, to });
            }
            self.ready.extend(ready);
        }
        for message in page.messages {
            // A page speaks for its own conversation only.
            if message.conversation_id == conversation_id {
                self.arrived(Arrival::Message(Box::new(message)));
            }
        }
    }

    fn refused(&mut self, link: &mut Link, message: Option<&str>, error: &ErrorPayload) {
        tracing::debug!(code = %error.code, "the server refused a frame");
        let Some(id) = message.and_then(|name| self.in_outbox(name)) else {
            if error.code == ErrorCode::TokenExpired {
                self.errands.start(Errand::RefreshTokens(link.token.clone()));
            }
            return;
        };
        if error.retryable {
            let least = error.retry_after_ms.unwrap_or(RETRY_MS);
            let until = self.now() + least + ambient::below(RETRY_MS);
            self.outbound.refused(id, until);
        } else if error.code == ErrorCode::DeviceListStale {
            self.stale.push(id);
        } else {
            self.rejected.push((id, SendFailure::Refused(error.code)));
        }
    }

    async fn command(&mut self, link: &mut Link, command: Option<Command>) -> Result<(), Ended> {
        let frame = match command {
            None | Some(Command::Shutdown) => return Err(Ended::Shutdown),
            Some(Command::Enqueued(id, conversation, is_sealed)) => {
                self.outbound.add(id, conversation, is_sealed);
                return Ok(());
            }
            Some(Command::MarkRead(conversation)) => {
                self.tell_read(link, conversation).await?;
                return sent(link.socket.flush().await);
            }
            Some(Command::Typing(conversation_id, state)) => {
                ClientFrame::Typing(Typing { conversation_id, state })
            }
            Some(Command::ShowAnswer(writing)) => {
                self.streams.begin(*writing);
                return Ok(());
            }
            Some(Command::CancelTurn(turn)) => ClientFrame::CancelTurn(turn),
            Some(Command::Watch(users)) => {
                watch_more(&mut self.watched, users.clone());
                let user_ids = users.into_iter().filter(|user| self.watched.contains(user)).collect();
                ClientFrame::PresenceSubscribe(PresenceSubscribe { user_ids })
            }
            Some(Command::Unwatch(user_ids)) => {
                self.watched.retain(|user| !user_ids.contains(user));
                ClientFrame::PresenceUnsubscribe(PresenceSubscribe { user_ids })
            }
        };
        sent(link.socket.send(&frame).await)
    }

    fn in_outbox(&self, name: &str) -> Option<LocalMessageId> {
        name.parse().ok().filter(|id| self.outbound.contains(*id))
    }
}

async fn accepted(socket: &mut Socket) -> Result<AuthSuccess, Ended> {
    loop {
        match socket.receive().await {
            Received::Closed(code) => return Err(Ended::Closed(code)),
            Received::Other => {}
            Received::Frame(frame) => match *frame {
                ServerFrame::AuthSuccess { payload } => return Ok(payload),
                ServerFrame::Error { payload, .. } => {
                    tracing::debug!(code = %payload.code, "the server refused to authenticate");
                }
                _ => {}
            },
        }
    }
}

pub(super) fn sent(is_sent: bool) -> Result<(), Ended> {
    if is_sent { Ok(()) } else { Err(Ended::Closed(None)) }
}

/// What this user's question that began a turn carries for its answers, if it is here.
fn secret_of(tx: &Transaction<'_>, turn: TurnPlace, own: UserId) -> Result<Option<StreamSecret>, StoreError> {
    let is_asked = |record: &MessageRecord| {
        record.conversation_id == turn.conversation_id && record.sender.user_id == own
    };
    let question = tx.message(turn.turn_id)?.filter(is_asked);
    Ok(match question.map(|record| record.content) {
        Some(MessageContent::Known(body)) => body.stream_secret().cloned(),
        _ => None,
    })
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
