//! What an authenticated client may ask, frame by frame.

use std::sync::Arc;

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::client::{
    ClientFrame, DeliveryAck, PresenceSubscribe, ReadReceipt, Retransmit, SendMessage, Typing,
};
use colloquy_protocol::frame::server::ServerFrame;
use colloquy_protocol::ids::{ConversationId, MessageId, UserId};
use colloquy_protocol::limits::{PRESENCE_SUBSCRIPTIONS_MAX, RETRANSMITS_MAX, TYPING_THROTTLE};
use colloquy_protocol::window::SequenceWindow;
use colloquy_storage::model::conversation::Conversation;
use colloquy_storage::model::cursor::CursorKind;
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::StoreResult;
use ractor::ActorRef;
use tokio::time::Instant;

use super::opening::distinct;
use super::{Credit, LogRun, PendingSend, Phase, SessionMessage, SessionState, refusal};
use crate::conversation::{Answer, ConversationMessage, Reply, SenderOrder, Submission};
use crate::presence::TrackerMessage;
use crate::supervision::{Letter, Mailbox, Refused};

/// Conversations whose typing is throttled at once; beyond it, the oldest are forgotten.
const TYPING_MAX: usize = 64;

impl SessionState {
    pub(super) async fn asked(
        &mut self,
        myself: &ActorRef<Letter<SessionMessage>>,
        frame: ClientFrame,
        credit: Credit,
    ) {
        let done = match frame {
            ClientFrame::Message(message) => self.submit(*message, credit).await,
            ClientFrame::DeliveryAck(ack) => self.delivery_acked(ack).await,
            ClientFrame::ReadReceipt(receipt) => Box::pin(self.read(receipt)).await,
            ClientFrame::Heartbeat(_) => {
                let server_time = self.services.clock.now();
                self.send(&ServerFrame::HeartbeatAck { server_time });
                Ok(())
            }
            ClientFrame::Retransmit(request) => Box::pin(self.retransmit(myself, request)).await,
            ClientFrame::Typing(typing) => Box::pin(self.typing(typing)).await,
            ClientFrame::PresenceSubscribe(subscribe) => Box::pin(self.watch(subscribe)).await,
            ClientFrame::PresenceUnsubscribe(subscribe) => {
                self.unwatch(subscribe);
                Ok(())
            }
            ClientFrame::TokenRefresh(refresh) => {
                Box::pin(self.token_refreshed(refresh)).await;
                Ok(())
            }
            ClientFrame::Auth(_) => Ok(()),
        };
        if let Err(error) = done {
            tracing::warn!(%error, "a frame could not be answered from the store");
            self.refuse(refusal(ErrorCode::Unavailable, "the store does not answer"));
        }
    }

    /// Puts a message on its way. Its credit comes back with its answer.
    async fn submit(&mut self, frame: SendMessage, credit: Credit) -> StoreResult<()> {
        let Phase::Open(open) = &mut self.phase else { return Ok(()) };
        let handle = Arc::clone(&open.attendance.handle);
        let (conversation_id, receiver_id) = (frame.payload.conversation_id, frame.payload.receiver_id);
        let order = frame.client_sequence.map(|client_sequence| SenderOrder {
            session_id: handle.session_id,
            client_sequence,
            expected: open.counting.expected(conversation_id),
        });
        let token = open.next_token;
        open.next_token += 1;
        open.pending.insert(
            token,
            PendingSend {
                client_message_id: frame.client_message_id,
                conversation_id,
                client_sequence: frame.client_sequence,
                _credit: credit,
            },
        );
        let message = Message {
            message_id: MessageId(uuid::Uuid::nil()),
            sequence_number: 0,
            conversation_id,
            sender_id: handle.user_id,
            sender_device_id: handle.device_id.clone(),
            receiver_id,
            idempotency_key: frame.idempotency_key,
            r#type: frame.payload.r#type,
            content: frame.payload.content,
            media_url: frame.payload.media_url,
            reply_to_message_id: frame.payload.reply_to_message_id,
            sent_at: frame.payload.timestamp,
            created_at: 0,
        };
        let reply = Reply::owed_to(Arc::clone(&handle), token);
        let submission = Box::new(Submission { message, order, reply, arrived: Instant::now() });
        self.pass_on(conversation_id, Some(receiver_id), submission).await
    }

    /// Finds the owner and hands it the message; a dead owner is woken once more.
    async fn pass_on(
        &mut self,
        conversation_id: ConversationId,
        receiver_id: Option<UserId>,
        mut submission: Box<Submission>,
    ) -> StoreResult<()> {
        for _ in 0..2 {
            let mailbox = match self.services.conversations.awake(conversation_id) {
                // The owner checks who takes part in what it is sent.
                Some(awake) => Ok(awake.mailbox),
                None => Box::pin(self.wake(conversation_id, receiver_id)).await?,
            };
            let mailbox = match mailbox {
                Ok(mailbox) => mailbox,
                Err(code) => {
                    submission.reply.give(Answer::Refused(code));
                    return Ok(());
                }
            };
            let refused = match mailbox.try_cast(ConversationMessage::Submit(submission)) {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            };
            let busy = matches!(refused, Refused::Busy(_));
            let ConversationMessage::Submit(back) = refused.into_message() else { return Ok(()) };
            submission = back;
            if busy {
                submission.reply.give(Answer::Refused(ErrorCode::Busy));
                return Ok(());
            }
            self.services.conversations.bury(conversation_id, &mailbox);
        }
        submission.reply.give(Answer::Refused(ErrorCode::Unavailable));
        Ok(())
    }

    /// The actor of a conversation the user takes part in. The first message between two users opens theirs.
    async fn wake(
        &mut self,
        conversation_id: ConversationId,
        receiver_id: Option<UserId>,
    ) -> StoreResult<Result<Mailbox<ConversationMessage>, ErrorCode>> {
        let Phase::Open(open) = &self.phase else { return Ok(Err(ErrorCode::NotAuthenticated)) };
        let user_id = open.attendance.handle.user_id;
        let conversation = match self.services.directory.get(conversation_id).await? {
            Some(conversation) if conversation.has(user_id) => conversation,
            Some(_) => return Ok(Err(ErrorCode::UnknownConversation)),
            None => match self.open_pair(conversation_id, user_id, receiver_id).await? {
                Some(conversation) => conversation,
                None => return Ok(Err(ErrorCode::UnknownConversation)),
            },
        };
        Ok(self.services.conversations.wake(conversation).await)
    }

    async fn open_pair(
        &self,
        conversation_id: ConversationId,
        user_id: UserId,
        receiver_id: Option<UserId>,
    ) -> StoreResult<Option<Conversation>> {
        let Some(receiver_id) = receiver_id else { return Ok(None) };
        let is_theirs =
            receiver_id != user_id && ConversationId::of_pair(user_id, receiver_id) == conversation_id;
        if !is_theirs || self.services.accounts.get(receiver_id).await?.is_none() {
            return Ok(None);
        }
        let (conversation, _) =
            self.services.directory.open_pair(user_id, receiver_id, self.services.clock.now()).await?;
        Ok(Some(conversation))
    }

    async fn delivery_acked(&mut self, ack: DeliveryAck) -> StoreResult<()> {
        let Phase::Open(open) = &self.phase else { return Ok(()) };
        let kind = CursorKind::Delivered(open.attendance.handle.device_id.clone());
        let place = match ack.position {
            Some(position) => Some((position.conversation_id, position.sequence_number)),
            None => Box::pin(self.place_of(ack.message_id)).await?,
        };
        match place {
            Some((conversation_id, through)) => {
                self.advance(conversation_id, kind, through, vec![ack.message_id]).await
            }
            None => {
                self.refuse(refusal(ErrorCode::UnknownMessage, "no such message"));
                Ok(())
            }
        }
    }

    async fn read(&mut self, receipt: ReadReceipt) -> StoreResult<()> {
        let mut newest: Vec<(ConversationId, u64, Vec<MessageId>)> = Vec::new();
        for located in self.services.log.locate(&receipt.message_ids).await? {
            match newest.iter_mut().find(|(conversation_id, ..)| *conversation_id == located.conversation_id)
            {
                Some((_, through, ids)) => {
                    *through = located.sequence_number.max(*through);
                    ids.push(located.message_id);
                }
                None => {
                    let (id, number) = (located.conversation_id, located.sequence_number);
                    newest.push((id, number, vec![located.message_id]));
                }
            }
        }
        if newest.is_empty() {
            self.refuse(refusal(ErrorCode::UnknownMessage, "no such message"));
        }
        for (conversation_id, through, ids) in newest {
            self.advance(conversation_id, CursorKind::Read, through, ids).await?;
        }
        Ok(())
    }

    /// Tells a conversation how far this user has come in it. A full mailbox may lose that: cursors are cumulative,
    /// the next one makes up for it.
    async fn advance(
        &mut self,
        conversation_id: ConversationId,
        kind: CursorKind,
        through: u64,
        message_ids: Vec<MessageId>,
    ) -> StoreResult<()> {
        match self.participated(conversation_id).await? {
            Ok((user_id, mailbox)) => {
                let _ =
                    mailbox.try_cast(ConversationMessage::Advance { user_id, kind, through, message_ids });
            }
            // Said of a conversation that is not the user's, it is answered like one of a message that is not there.
            Err(ErrorCode::UnknownConversation) => {
                self.refuse(refusal(ErrorCode::UnknownMessage, "no such message"));
            }
            Err(code) => self.refuse(refusal(code, "try again")),
        }
        Ok(())
    }

    async fn participated(
        &mut self,
        conversation_id: ConversationId,
    ) -> StoreResult<Result<(UserId, Mailbox<ConversationMessage>), ErrorCode>> {
        let Phase::Open(open) = &self.phase else { return Ok(Err(ErrorCode::NotAuthenticated)) };
        let user_id = open.attendance.handle.user_id;
        if let Some(awake) = self.services.conversations.awake(conversation_id) {
            let has = awake.has(user_id);
            return Ok(if has { Ok((user_id, awake.mailbox)) } else { Err(ErrorCode::UnknownConversation) });
        }
        Ok(Box::pin(self.wake(conversation_id, None)).await?.map(|mailbox| (user_id, mailbox)))
    }

    async fn place_of(&self, message_id: MessageId) -> StoreResult<Option<(ConversationId, u64)>> {
        let Phase::Open(open) = &self.phase else { return Ok(None) };
        let recent = open.recent.iter().rev().find(|(id, ..)| *id == message_id);
        if let Some((_, conversation_id, number)) = recent {
            return Ok(Some((*conversation_id, *number)));
        }
        let located = self.services.log.locate(&[message_id]).await?;
        Ok(located.first().map(|located| (located.conversation_id, located.sequence_number)))
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
        let now = Instant::now();
        let started = typing.state == colloquy_protocol::frame::TypingState::Started;
        let throttled =
            open.typing.get(&typing.conversation_id).is_some_and(|at| now - *at < TYPING_THROTTLE);
        if started && throttled {
            return Ok(());
        }
        if open.typing.len() >= TYPING_MAX {
            open.typing.retain(|_, at| now - *at < TYPING_THROTTLE);
        }
        if started && open.typing.len() < TYPING_MAX {
            open.typing.insert(typing.conversation_id, now);
        } else {
            open.typing.remove(&typing.conversation_id);
        }
        match self.participated(typing.conversation_id).await? {
            // Ephemeral: a conversation too busy to take it has better things to show.
            Ok((user_id, mailbox)) => {
                let _ = mailbox.try_cast(ConversationMessage::Typing(user_id, typing.state));
            }
            Err(code) => self.refuse(refusal(code, "no such conversation")),
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
        for (share, users) in attendance.trackers.by_share(known).into_iter().enumerate() {
            if !users.is_empty() {
                // A tracker that is restarting asks for this again (`Announce`).
                let watch = TrackerMessage::Watch(Arc::clone(&attendance.handle), users);
                attendance.trackers.tell_share(share, watch);
            }
        }
        Ok(())
    }

    fn unwatch(&mut self, subscribe: PresenceSubscribe) {
        let Phase::Open(open) = &mut self.phase else { return };
        let attendance = &mut open.attendance;
        let users = distinct(subscribe.user_ids);
        attendance.watched.retain(|user_id| !users.contains(user_id));
        for (share, users) in attendance.trackers.by_share(users).into_iter().enumerate() {
            let unwatch = TrackerMessage::Unwatch(attendance.handle.session_id, users);
            attendance.trackers.tell_share(share, unwatch);
        }
    }
}
