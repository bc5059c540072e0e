//! What an authenticated client may ask, frame by frame.

use std::collections::BTreeMap;
use std::sync::Arc;

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::client::{
    Auth, ClientFrame, DeliveryAck, PresenceSubscribe, ReadReceipt, RefusedFrame, Retransmit, SendMessage,
    Typing,
};
use colloquy_protocol::frame::delta::Delta;
use colloquy_protocol::frame::server::ServerFrame;
use colloquy_protocol::ids::{ConversationId, UserId};
use colloquy_protocol::limits::{PRESENCE_SUBSCRIPTIONS_MAX, RETRANSMITS_MAX};
use colloquy_protocol::window::SequenceWindow;
use colloquy_storage::model::cursor::CursorKind;
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::StoreResult;
use ractor::ActorRef;
use tokio::time::Instant;

use super::opening::distinct;
use super::{Credit, LogRun, OpenSession, PendingSend, Phase, SessionMessage, SessionState, refusal};
use crate::conversation::{Correspondent, Ephemeral, Moved, Reply, SenderOrder, Submission, Unheard};
use crate::presence::TrackerMessage;
use crate::supervision::{Letter, Refused};

/// What a frame asks for that has to be waited for.
pub(super) enum Later {
    /// Let the device in.
    Open(Auth),
    /// Find the message's conversation.
    PassOn(Box<Submission>),
    /// Look something up.
    Ask(ClientFrame, Credit),
}

impl SessionState {
    /// Does what can be done without waiting, which is nearly everything that comes often: a message, and an ack of one,
    /// in a conversation that is awake. The rest is handed back; its future is boxed, so that an idle session keeps no room
    /// for it.
    pub(super) fn at_once(
        &mut self,
        frame: Result<ClientFrame, RefusedFrame>,
        credit: Credit,
    ) -> Option<Later> {
        self.services.metrics.frames_received.inc();
        let frame = match frame {
            Ok(frame) => frame,
            Err(refused) => {
                self.refuse_message(refused);
                return None;
            }
        };
        match (frame, &mut self.phase) {
            (ClientFrame::Auth(auth), Phase::Opening) => return Some(Later::Open(auth)),
            (ClientFrame::Auth(_), Phase::Open(_)) => {
                self.refuse(refusal(ErrorCode::AlreadyAuthenticated, "this socket is authenticated"));
            }
            (_, Phase::Opening) => {
                self.refuse(refusal(ErrorCode::NotAuthenticated, "the first frame must be auth"));
            }
            (ClientFrame::Message(message), Phase::Open(open)) => {
                let submission = open.submission(*message, credit);
                return self.services.doorway.hand_over(submission).err().map(Later::PassOn);
            }
            (ClientFrame::DeliveryAck(ack), Phase::Open(open)) => {
                let Some((conversation_id, through)) = open.known_place(&ack) else {
                    return Some(Later::Ask(ClientFrame::DeliveryAck(ack), credit));
                };
                let (user_id, is_known) = open.part_in(conversation_id);
                let kind = CursorKind::Delivered(open.attendance.handle.device_id.clone());
                let moved = Moved { kind, through, message_ids: vec![ack.message_id] };
                let doorway = &self.services.doorway;
                if doorway.advance_at_once(conversation_id, user_id, is_known, moved).is_err() {
                    return Some(Later::Ask(ClientFrame::DeliveryAck(ack), credit));
                }
            }
            (ClientFrame::Heartbeat(_), Phase::Open(_)) => {
                let server_time = self.services.clock.now();
                self.send(&ServerFrame::HeartbeatAck { server_time });
            }
            (frame, Phase::Open(_)) => return Some(Later::Ask(frame, credit)),
        }
        None
    }

    /// Does what has to be waited for.
    pub(super) async fn later(&mut self, myself: &ActorRef<Letter<SessionMessage>>, later: Later) {
        let done = match later {
            Later::Open(auth) => {
                self.open(myself, auth).await;
                Ok(())
            }
            Later::PassOn(submission) => self.services.doorway.pass_on(submission).await,
            Later::Ask(frame, _credit) => self.ask(myself, frame).await,
        };
        if let Err(error) = done {
            tracing::warn!(%error, "a frame could not be answered from the store");
            self.refuse(refusal(ErrorCode::Unavailable, "the store does not answer"));
        }
    }

    async fn ask(
        &mut self,
        myself: &ActorRef<Letter<SessionMessage>>,
        frame: ClientFrame,
    ) -> StoreResult<()> {
        match frame {
            ClientFrame::DeliveryAck(ack) => self.delivery_acked(ack).await,
            ClientFrame::ReadReceipt(receipt) => self.read(receipt).await,
            ClientFrame::Retransmit(request) => self.retransmit(myself, request).await,
            ClientFrame::Typing(typing) => self.typing(typing).await,
            ClientFrame::Delta(delta) => self.delta(delta).await,
            ClientFrame::DeltaRequest(turn) => {
                self.say(turn.conversation_id, Ephemeral::DeltaRequest(turn.turn_id)).await
            }
            ClientFrame::CancelTurn(turn) => {
                self.say(turn.conversation_id, Ephemeral::CancelTurn(turn.turn_id)).await
            }
            ClientFrame::PresenceSubscribe(subscribe) => self.watch(subscribe).await,
            ClientFrame::PresenceUnsubscribe(subscribe) => {
                self.unwatch(subscribe);
                Ok(())
            }
            ClientFrame::TokenRefresh(refresh) => {
                self.token_refreshed(refresh).await;
                Ok(())
            }
            ClientFrame::Auth(_) | ClientFrame::Message(_) | ClientFrame::Heartbeat(_) => Ok(()),
        }
    }

    /// Refuses what could not be parsed. If it was to be a message, its number is used up, and nobody waits for it.
    fn refuse_message(&mut self, refused: RefusedFrame) {
        if let (Some((conversation_id, client_sequence)), Phase::Open(open)) =
            (refused.place, &mut self.phase)
        {
            open.counting.done(conversation_id, client_sequence);
            let expected = open.counting.expected(conversation_id);
            let order = SenderOrder { client_sequence, expected, follows_unanswered: false };
            let handle = &open.attendance.handle;
            let from = Correspondent::Here(Arc::clone(handle));
            self.services.doorway.skip(&from, handle.user_id, conversation_id, order);
        }
        self.refuse(refused);
    }

    async fn delivery_acked(&mut self, ack: DeliveryAck) -> StoreResult<()> {
        let Phase::Open(open) = &self.phase else { return Ok(()) };
        let kind = CursorKind::Delivered(open.attendance.handle.device_id.clone());
        let place = match open.known_place(&ack) {
            Some(place) => Some(place),
            None => {
                let located = self.services.log.locate(&[ack.message_id]).await?;
                located.first().map(|located| (located.conversation_id, located.sequence_number))
            }
        };
        let known = match place {
            Some((conversation_id, through)) => {
                let moved = Moved { kind, through, message_ids: vec![ack.message_id] };
                self.advance(conversation_id, moved).await?
            }
            None => false,
        };
        if !known {
            self.refuse(refusal(ErrorCode::UnknownMessage, "no such message"));
        }
        Ok(())
    }

    async fn read(&mut self, receipt: ReadReceipt) -> StoreResult<()> {
        let mut newest: BTreeMap<ConversationId, Moved> = BTreeMap::new();
        for located in self.services.log.locate(&receipt.message_ids).await? {
            let moved = newest.entry(located.conversation_id).or_insert_with(|| Moved {
                kind: CursorKind::Read,
                through: 0,
                message_ids: Vec::new(),
            });
            moved.through = located.sequence_number.max(moved.through);
            moved.message_ids.push(located.message_id);
        }
        let mut known = false;
        for (conversation_id, moved) in newest {
            known |= self.advance(conversation_id, moved).await?;
        }
        if !known {
            self.refuse(refusal(ErrorCode::UnknownMessage, "no such message"));
        }
        Ok(())
    }

    /// Tells a conversation how far this user has come in it. `false` if it is not the user's, which is answered like a
    /// message that is not there (AUTHZ).
    pub(super) async fn advance(
        &mut self,
        conversation_id: ConversationId,
        moved: Moved,
    ) -> StoreResult<bool> {
        let Phase::Open(open) = &self.phase else { return Ok(true) };
        let (user_id, is_known) = open.part_in(conversation_id);
        match self.services.doorway.advance(conversation_id, user_id, is_known, moved).await? {
            Ok(()) => return Ok(true),
            Err(Unheard::Unknown) => return Ok(false),
            Err(Unheard::Later(code)) => self.refuse(refusal(code, "try again")),
        }
        Ok(true)
    }

    async fn retransmit(
        &mut self,
        myself: &ActorRef<Letter<SessionMessage>>,
        request: Retransmit,
    ) -> StoreResult<()> {
        let Phase::Open(open) = &self.phase else { return Ok(()) };
        let window = match SequenceWindow::new(request.from_sequence, request.to_sequence) {
            Ok(window) => window,
            Err(why) => {
                self.refuse(refusal(ErrorCode::InvalidWindow, &why.to_string()));
                return Ok(());
            }
        };
        let user_id = open.attendance.handle.user_id;
        let conversation_id = request.conversation_id;
        let conversation = self.services.directory.get(conversation_id).await?;
        if !conversation.is_some_and(|conversation| conversation.has(user_id)) {
            self.refuse(refusal(ErrorCode::UnknownConversation, "no such conversation"));
            return Ok(());
        }
        let Phase::Open(open) = &mut self.phase else { return Ok(()) };
        if open.retransmits.len() >= RETRANSMITS_MAX {
            self.refuse(refusal(ErrorCode::Busy, "too many retransmissions wait"));
            return Ok(());
        }
        open.retransmits.push_back(LogRun { conversation_id, from: window.from(), to: window.to() });
        self.keep_reading(myself);
        Ok(())
    }

    async fn typing(&mut self, typing: Typing) -> StoreResult<()> {
        let Phase::Open(open) = &mut self.phase else { return Ok(()) };
        if !open.typing.passes(typing.conversation_id, typing.state, Instant::now()) {
            return Ok(());
        }
        self.say(typing.conversation_id, Ephemeral::Typing(typing.state)).await
    }

    /// Passes a piece of an answer on. AUTHZ: agents answer, people write.
    async fn delta(&mut self, delta: Delta) -> StoreResult<()> {
        let Phase::Open(open) = &mut self.phase else { return Ok(()) };
        let is_agent = match open.is_agent {
            Some(is_agent) => is_agent,
            None => {
                let found = self.services.agents.of_user(open.attendance.handle.user_id).await?;
                *open.is_agent.insert(found.is_some())
            }
        };
        if !is_agent {
            self.refuse(refusal(ErrorCode::NotAnAgent, "only agents send deltas"));
            return Ok(());
        }
        self.say(delta.conversation_id, Ephemeral::Delta(Box::new(delta))).await
    }

    /// Tells a conversation something that is for now or never.
    async fn say(&mut self, conversation_id: ConversationId, said: Ephemeral) -> StoreResult<()> {
        let Phase::Open(open) = &mut self.phase else { return Ok(()) };
        if !open.murmurs.passes(Instant::now()) {
            return Ok(());
        }
        let (user_id, is_known) = open.part_in(conversation_id);
        match self.services.doorway.say(conversation_id, user_id, is_known, said).await {
            Ok(Ok(())) => {}
            Ok(Err(Unheard::Unknown)) => {
                self.refuse(refusal(ErrorCode::UnknownConversation, "no such conversation"));
            }
            // It is for now or never: that it is not now is nobody's fault, and no reason to turn a client away.
            Ok(Err(Unheard::Later(_))) => {}
            Err(error) => tracing::debug!(%error, "what was said for now or never is not heard"),
        }
        Ok(())
    }

    async fn watch(&mut self, subscribe: PresenceSubscribe) -> StoreResult<()> {
        let Phase::Open(open) = &self.phase else { return Ok(()) };
        let (own, mut wanted) = (open.attendance.handle.user_id, distinct(subscribe.user_ids));
        wanted.retain(|user_id| !open.attendance.watched.contains(user_id));
        if open.attendance.watched.len() + wanted.len() > PRESENCE_SUBSCRIPTIONS_MAX {
            self.refuse(refusal(ErrorCode::TooManySubscriptions, "unsubscribe from others first"));
            return Ok(());
        }
        let mut strangers = false;
        let mut known = Vec::new();
        for user_id in wanted {
            // AUTHZ: only those one shares a conversation with; a stranger is answered like nobody at all.
            if user_id != own && self.services.directory.share_one(own, user_id).await? {
                known.push(user_id);
            } else {
                strangers = true;
            }
        }
        if strangers {
            self.refuse(refusal(ErrorCode::UnknownUser, "no conversation is shared with one of these users"));
        }
        let Phase::Open(open) = &mut self.phase else { return Ok(()) };
        let attendance = &mut open.attendance;
        attendance.watched.extend(known.iter().copied());
        let mut busy = false;
        for (share, users) in self.services.trackers.by_share(known).into_iter().enumerate() {
            if !users.is_empty() {
                let watch = TrackerMessage::Watch(Arc::clone(&attendance.handle), users.clone());
                // A tracker that is restarting asks for this again (`Announce`).
                if matches!(self.services.trackers.tell_share(share, watch), Err(Refused::Busy(_))) {
                    attendance.watched.retain(|user_id| !users.contains(user_id));
                    busy = true;
                }
            }
        }
        if busy {
            self.refuse(refusal(ErrorCode::Busy, "not everybody asked for is watched; try again"));
        }
        Ok(())
    }

    fn unwatch(&mut self, subscribe: PresenceSubscribe) {
        let Phase::Open(open) = &mut self.phase else { return };
        let attendance = &mut open.attendance;
        let users = distinct(subscribe.user_ids);
        attendance.watched.retain(|user_id| !users.contains(user_id));
        for (share, users) in self.services.trackers.by_share(users).into_iter().enumerate() {
            let unwatch = TrackerMessage::Unwatch(attendance.handle.session_id, users);
            self.services.trackers.announce_to_share(share, unwatch);
        }
    }
}

impl OpenSession {
    /// Puts a message on its way. Its credit comes back with its answer.
    fn submission(&mut self, frame: SendMessage, credit: Credit) -> Box<Submission> {
        let handle = &self.attendance.handle;
        let conversation_id = frame.payload.conversation_id;
        if let Some(oldest) = frame.oldest_unsettled {
            self.counting.settled_before(conversation_id, oldest);
        }
        let is_counted = frame.oldest_unsettled.is_some();
        let order = frame.client_sequence.map(|number| self.order(conversation_id, number, is_counted));
        let token = self.next_token;
        self.next_token += 1;
        let message = Message::submitted(
            handle.user_id,
            handle.device_id.clone(),
            frame.idempotency_key,
            frame.payload,
        );
        let reply = Reply::owed_to(Correspondent::Here(Arc::clone(handle)), token);
        self.pending.insert(
            token,
            PendingSend {
                client_message_id: frame.client_message_id,
                conversation_id,
                client_sequence: frame.client_sequence,
                _credit: credit,
            },
        );
        Box::new(Submission { message, order, reply, arrived: Instant::now() })
    }

    /// A message's place among those of this connection. A client that says what it `has_settled` will send everything
    /// else again: none of it may be overtaken, answered or not.
    fn order(&self, conversation_id: ConversationId, client_sequence: u64, has_settled: bool) -> SenderOrder {
        let expected = self.counting.expected(conversation_id);
        let precedes = |pending: &PendingSend| {
            pending.conversation_id == conversation_id
                && pending.client_sequence.is_some_and(|number| number < client_sequence)
        };
        // Most have nothing before them; the others are few (BOUND: a socket's window).
        let follows_unanswered =
            expected < client_sequence && (has_settled || self.pending.values().any(precedes));
        SenderOrder { client_sequence, expected, follows_unanswered }
    }

    /// The user, and whether the session knows by itself that they take part in a conversation.
    fn part_in(&self, conversation_id: ConversationId) -> (UserId, bool) {
        (self.attendance.handle.user_id, self.delivery.knows(conversation_id))
    }

    /// Where an acked message stands, if the client says so or the session remembers.
    fn known_place(&self, ack: &DeliveryAck) -> Option<(ConversationId, u64)> {
        if let Some(position) = ack.position {
            return Some((position.conversation_id, position.sequence_number));
        }
        let recent = self.recent.iter().rev().find(|(id, ..)| *id == ack.message_id);
        recent.map(|(_, conversation_id, number)| (*conversation_id, *number))
    }
}
