//! The conversation actor: owner and sequencer of one conversation.
//!
//! | file | noun |
//! |---|---|
//! | `doorway` | the way to a conversation, on this pod or another |
//! | `submission` | a message on its way in, and the answer owed for it |
//! | `correspondent` | the connection it came from, on this pod or another |
//! | `ephemeral` | what is said for now or never |
//! | `members` | who takes part on which devices: the envelope check (pure) |
//! | `reorder` | one connection's messages back in order (pure) |
//! | `sequencer` | batches, numbers, answers (pure) |
//! | `progress` | delivery and read cursors (pure) |
//! | `unshown` | what is stored and nobody has been shown yet |
//! | `directory` | finds, starts and passivates conversations |
//!
//! The actor holds nothing that the store does not hold too. When it dies, the messages it had not answered are
//! answered `unavailable` (see [`Reply`]), the next message starts it again from the log, and the epoch it takes
//! then fences whatever the dead one may still have in flight (FENCE).

mod correspondent;
mod directory;
mod doorway;
mod ephemeral;
mod members;
mod progress;
mod reorder;
mod sequencer;
mod submission;
mod unshown;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::event::CancelReason;
use colloquy_protocol::frame::delta::TurnPlace;
use colloquy_protocol::frame::server::{DeliveryReceipt, ReadReceipt, ServerFrame, Typing};
use colloquy_protocol::ids::{ConversationId, UserId};
use colloquy_protocol::window::SequenceWindow;
use colloquy_storage::ambient::{Clock, Entropy};
use colloquy_storage::model::conversation::Conversation;
use colloquy_storage::model::cursor::{Cursor, CursorKind};
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::message_log::Appended;
use colloquy_storage::ports::{Cursors, KeyDirectory, MessageLog, StoreResult};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use rand::rngs::StdRng;
use tokio::time::Instant;

use crate::agent::{AgentIndex, Cancel};
use crate::feed::Feed;
use crate::metrics::{Invariant, Metrics};
use crate::session::Reach;
use crate::store_writer::{OwedToOwner, StoreWriterMessage, StoreWriters};
use crate::supervision::{ActorKind, Address, ExitReason, Fault, Letter, befall};

pub use correspondent::{Asker, Correspondent};
pub use directory::{
    Awake, CONVERSATIONS_MAX, ConversationDirectory, ConversationIndex, DirectoryArguments, DirectoryMessage,
};
pub use doorway::{Doorway, Moved, Unheard};
pub use ephemeral::Ephemeral;
pub use members::{Members, Objection};
pub use progress::Progress;
pub use reorder::{Pushed, ReorderBuffer};
pub use sequencer::{Sequencer, Settled, ack_of};
pub use submission::{Answer, Reply, SenderOrder, Submission};
pub use unshown::Unshown;

/// A conversation in which nothing has happened for this long is passivated.
const PASSIVATE_AFTER: Duration = Duration::from_secs(300);

/// How far from the log's end it is looked for what each participant sent last, messages ...
const RECALL_MAX_MESSAGES: usize = 256;
/// ... and bytes of weight.
const RECALL_MAX_BYTES: usize = 1024 * 1024;

/// What a conversation uses.
#[derive(Clone)]
pub struct ConversationServices {
    /// Where messages go, many conversations in one commit.
    pub writers: StoreWriters,
    /// To take ownership and to find a retry's first message.
    pub log: Arc<dyn MessageLog>,
    /// Where everybody stood when the actor starts.
    pub cursors: Arc<dyn Cursors>,
    /// The participants' devices.
    pub keys: Arc<dyn KeyDirectory>,
    /// Who is to hear of what happens.
    pub reach: Reach,
    /// Which of them are programs.
    pub agents: AgentIndex,
    /// Whoever is told of all messages.
    pub feed: Feed,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Numbers messages in time.
    pub clock: Clock,
    /// Message ids.
    pub entropy: Entropy,
}

/// What a conversation is started with.
pub struct ConversationArguments {
    /// Who takes part.
    pub conversation: Conversation,
    /// What it uses.
    pub services: ConversationServices,
    /// Its parent, to ask for passivation.
    pub directory: Address<DirectoryMessage>,
}

/// What a conversation is told.
#[derive(Debug)]
pub enum ConversationMessage {
    /// Put a message into the log.
    Submit(Box<Submission>),
    /// Read what the conversation needs to know before its first message. The first letter of all: sent once others can
    /// find the actor, so that no change of devices falls between the reading and the finding.
    Load,
    /// The store has answered the batch in flight.
    Stored(StoreResult<Appended>, Unshown),
    /// A message of this connection was refused before it came here, for good: nobody is to wait for it.
    Skip(Correspondent, SenderOrder),
    /// A participant has come this far.
    Advance(UserId, Moved),
    /// A participant says something that is for now or never.
    Said(UserId, Ephemeral),
    /// A participant's devices have changed.
    DevicesChanged(UserId),
    /// A gap may have been waited for long enough.
    GiveUpGaps,
    /// Is anything going on?
    CheckIdle,
    /// Nobody finds this actor any more: end when done.
    Retire,
}

/// The actor.
pub struct ConversationActor;

/// Its state.
pub struct ConversationState {
    conversation_id: ConversationId,
    members: Members,
    /// When every participant's devices were last begun to be read.
    devices_read: Option<Instant>,
    sequencer: Sequencer,
    progress: Progress,
    /// The newest number known to be in the log; bounds what cursors may claim.
    last_sequence: u64,
    services: ConversationServices,
    directory: Address<DirectoryMessage>,
    rng: StdRng,
    last_active: Instant,
    gap_timer: Option<Instant>,
    retiring: bool,
}

impl Actor for ConversationActor {
    type Msg = Letter<ConversationMessage>;
    type State = ConversationState;
    type Arguments = ConversationArguments;

    /// Reads nothing: the directory waits for this, and it starts many. See [`ConversationMessage::Load`].
    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        arguments: ConversationArguments,
    ) -> Result<ConversationState, ActorProcessingErr> {
        let ConversationArguments { conversation, services, directory } = arguments;
        let conversation_id = conversation.conversation_id;
        Ok(ConversationState {
            conversation_id,
            members: Members::of(conversation),
            devices_read: None,
            sequencer: Sequencer::new(conversation_id),
            progress: Progress::default(),
            last_sequence: 0,
            rng: services.entropy.fork(),
            services,
            directory,
            last_active: Instant::now(),
            gap_timer: None,
            retiring: false,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        letter: Self::Msg,
        state: &mut ConversationState,
    ) -> Result<(), ActorProcessingErr> {
        befall(&state.services.metrics, ActorKind::Conversation).await;
        let (message, _handling) = letter.open();
        match message {
            ConversationMessage::Submit(submission) => {
                state.last_active = Instant::now();
                state.submit(submission).await;
                state.pump(&myself).await?;
            }
            ConversationMessage::Load => {
                let unread = |error| Fault::because("the conversation cannot be read", error);
                state.load().await.map_err(unread)?;
            }
            ConversationMessage::Stored(answer, unshown) => {
                state.stored(&myself, answer);
                unshown.are_shown();
                state.pump(&myself).await?;
            }
            ConversationMessage::Skip(from, order) => {
                state.sequencer.skip(&from, order, Instant::now());
                state.pump(&myself).await?;
            }
            ConversationMessage::Advance(user_id, moved) => {
                state.last_active = Instant::now();
                if moved.through > state.last_sequence {
                    state.look_where_the_log_ends().await;
                }
                state.advance(user_id, moved);
            }
            ConversationMessage::Said(user_id, said) => state.said(user_id, said),
            ConversationMessage::DevicesChanged(user_id) => {
                let changed = state.load_devices(user_id).await;
                changed.map_err(|error| Fault::because("a device list cannot be read", error))?;
            }
            ConversationMessage::GiveUpGaps => {
                state.gap_timer = None;
                Reply::give_all(state.sequencer.give_up_gaps(Instant::now()));
                state.pump(&myself).await?;
            }
            ConversationMessage::CheckIdle => state.check_idle(&myself),
            ConversationMessage::Retire => state.retiring = true,
        }
        if state.retiring && state.sequencer.is_idle() {
            // What was sent here meanwhile is not handled any more: senders are told to try again, and find a new actor.
            myself.stop(ExitReason::Passivated.as_stop_reason());
        }
        Ok(())
    }
}

impl ConversationState {
    async fn load(&mut self) -> StoreResult<()> {
        let services = &self.services;
        self.last_sequence = services.log.end(self.conversation_id).await?.last_sequence;
        self.progress.load(services.cursors.of_conversation(self.conversation_id).await?);
        self.recall_what_was_sent().await?;
        self.load_all_devices().await
    }

    /// The cursor that says what a user has sent themselves is written lazily; a crash loses the newest moves, and they
    /// would count their own messages as unread. The end of the log knows better.
    async fn recall_what_was_sent(&mut self) -> StoreResult<()> {
        let known = self.progress.furthest_sent();
        let from = (known + 1).max(self.last_sequence.saturating_sub(RECALL_MAX_MESSAGES as u64) + 1);
        let Ok(window) = SequenceWindow::new(from, self.last_sequence) else { return Ok(()) };
        let tail = self
            .services
            .log
            .read(self.conversation_id, window, RECALL_MAX_MESSAGES, RECALL_MAX_BYTES)
            .await?;
        let moved = self.move_sent(&tail);
        self.services.writers.of(self.conversation_id).advance(moved);
        Ok(())
    }

    /// Moves the senders' cursors; the moves are still to be written.
    fn move_sent(&mut self, messages: &[Arc<Message>]) -> Vec<Cursor> {
        let mut moved = Vec::new();
        for sender in messages.iter().map(|message| message.sender_id).collect::<BTreeSet<_>>() {
            let newest = messages.iter().rfind(|message| message.sender_id == sender);
            let through = newest.map_or(0, |message| message.sequence_number);
            if self.progress.advance(sender, CursorKind::Sent, through) {
                moved.push(self.cursor(sender, CursorKind::Sent, through));
            }
        }
        moved
    }

    async fn load_all_devices(&mut self) -> StoreResult<()> {
        let begun = Instant::now();
        for user_id in self.members.participants().to_vec() {
            self.load_devices(user_id).await?;
        }
        self.devices_read = Some(begun);
        Ok(())
    }

    async fn load_devices(&mut self, user_id: UserId) -> StoreResult<()> {
        self.members.load(self.services.keys.devices(user_id).await?);
        Ok(())
    }

    /// Checks a message against the devices, which are read again before anybody is told that they are not right: the
    /// notice of a change may have been lost. One reading does for all that had arrived when it began, so that many
    /// messages with old lists do not slow the owner down, and their being sent again not even more (BOUND).
    async fn check(&mut self, submission: &Submission) -> Result<(), Objection> {
        let objection = match self.members.check(&submission.message) {
            Err(objection) if objection.is_about_devices() => objection,
            checked => return checked,
        };
        if self.devices_read.is_some_and(|begun| submission.arrived < begun) {
            return Err(objection);
        }
        // Unread, they may be right: it is not for this owner to say now.
        let unread = |_| Objection::Refused(ErrorCode::Unavailable);
        self.load_all_devices().await.map_err(unread)?;
        self.members.check(&submission.message)
    }

    /// Checks a message and lets it into the sequencer, or answers why not.
    async fn submit(&mut self, submission: Box<Submission>) {
        let (submission, refusal) = match self.check(&submission).await {
            Ok(()) => match self.sequencer.accept(submission, Instant::now()) {
                Ok(()) => return,
                Err((submission, code)) => (submission, Answer::Refused(code)),
            },
            Err(Objection::Stale(stale)) => (submission, Answer::Stale(stale)),
            Err(Objection::Refused(code)) => (submission, Answer::Refused(code)),
        };
        let answer = match refusal {
            // It is sent again as it is, and its key is found then.
            Answer::Refused(code) if code.is_retryable() => refusal,
            _ => self.unless_stored_before(&submission.message, refusal).await,
        };
        if let (Some(order), true) = (submission.order, answer.is_final()) {
            self.sequencer.skip(submission.reply.to(), order, Instant::now());
        }
        submission.reply.give(answer);
    }

    /// A retry of a stored message gets that message's ack, whatever has changed about the devices since (ONCE).
    async fn unless_stored_before(&self, message: &Message, refusal: Answer) -> Answer {
        if !self.members.has(message.sender_id) {
            return refusal;
        }
        match self.services.log.find_by_key(message.sender_id, message.idempotency_key).await {
            Ok(Some(first)) if first.same_body(message) => {
                // Whoever stored it may not have known that it did, and have told nobody (NOLOSS).
                self.tell_where_the_log_ends(first.sequence_number);
                Answer::Acked(ack_of(&first))
            }
            Ok(Some(_)) => Answer::Refused(ErrorCode::IdempotencyConflict),
            Ok(None) => refusal,
            Err(_) => Answer::Refused(ErrorCode::Unavailable),
        }
    }

    /// Starts what can be started: ownership, the next batch, the timer for a gap.
    async fn pump(
        &mut self,
        myself: &ActorRef<Letter<ConversationMessage>>,
    ) -> Result<(), ActorProcessingErr> {
        if self.sequencer.wants_batch() && self.sequencer.wants_ownership() {
            match self.services.log.take_ownership(self.conversation_id).await {
                Ok(ownership) => {
                    self.last_sequence = self.last_sequence.max(ownership.last_sequence);
                    self.sequencer.own(ownership);
                    self.tell_where_the_log_ends(ownership.last_sequence);
                }
                Err(error) => {
                    Reply::give_all(self.sequencer.abandon());
                    return Err(Fault::because("ownership cannot be taken", error));
                }
            }
        }
        if let Some(append) = self.sequencer.next_batch(self.services.clock.now(), &mut self.rng) {
            let (reach, feed) = (self.services.reach.clone(), self.services.feed.clone());
            let unshown = Unshown::new(self.conversation_id, self.members.audience(), reach, feed);
            let owner = OwedToOwner::new(myself.clone(), unshown);
            let message = StoreWriterMessage::Append { append, owner };
            // Refused, the message is dropped, and with it the answer owed to us: it arrives as an error.
            let _ = self.services.writers.of(self.conversation_id).try_cast(message);
        }
        if let Some(at) = self.sequencer.next_give_up()
            && self.gap_timer.is_none_or(|set| at < set)
        {
            self.gap_timer = Some(at);
            myself.send_after(at.saturating_duration_since(Instant::now()), || {
                Letter::uncounted(ConversationMessage::GiveUpGaps)
            });
        }
        Ok(())
    }

    /// Answers the senders, then shows everybody what is new (DURABLE: only now).
    fn stored(&mut self, myself: &ActorRef<Letter<ConversationMessage>>, answer: StoreResult<Appended>) {
        let placed = match answer {
            Ok(Appended::Placed(placed)) => placed,
            Ok(Appended::Fenced { epoch, .. }) => {
                tracing::info!(epoch, "another owner has taken over; stepping down");
                Reply::give_all(self.sequencer.abandon());
                return myself.stop(ExitReason::Fenced.as_stop_reason());
            }
            Ok(Appended::Unreadable | Appended::Unknown) => return Reply::give_all(self.sequencer.abandon()),
            Err(error) => {
                // What the store has done is not known: forget the numbers and take ownership again.
                tracing::warn!(%error, "append failed");
                return Reply::give_all(self.sequencer.abandon());
            }
        };
        let settled = self.sequencer.settle(placed);
        let metrics = &self.services.metrics;
        if settled.order_broken {
            metrics.violated(Invariant::Order);
        }
        if let Some(oldest) = settled.oldest {
            metrics.owner_seconds.observe(oldest.elapsed().as_secs_f64());
        }
        metrics.duplicates.inc_by(settled.duplicates);
        if let Some(first) = settled.unheard_of {
            // An owner before or beside this one stored it, and may not have lived to know (NOLOSS).
            self.last_sequence = self.last_sequence.max(first);
            self.tell_where_the_log_ends(first);
        }
        metrics.messages_appended.inc_by(settled.fresh.len() as u64);
        Reply::give_all(settled.answers);
        self.fan_out(settled.fresh);
    }

    /// Makes good what an earlier owner stored and did not live to show (NOLOSS, also for the last message of a
    /// conversation that then falls quiet).
    fn tell_where_the_log_ends(&self, last_sequence: u64) {
        if last_sequence == 0 {
            return;
        }
        self.services.reach.log_reaches(&self.members.audience(), self.conversation_id, last_sequence);
        self.services.agents.log_reaches(self.members.participants(), self.conversation_id, last_sequence);
        self.services.feed.log_reaches(self.conversation_id, last_sequence);
    }

    fn fan_out(&mut self, fresh: Vec<Arc<Message>>) {
        let Some(last) = fresh.last() else { return };
        self.last_sequence = last.sequence_number;
        let moved = self.move_sent(&fresh);
        self.services.writers.of(self.conversation_id).advance(moved);
        let fresh: Arc<[Arc<Message>]> = fresh.into();
        self.services.reach.show(&self.members.audience(), &fresh);
        self.services.agents.stored(self.members.participants(), &fresh);
        self.services.feed.log_reaches(self.conversation_id, self.last_sequence);
    }

    /// Another owner may have stored what somebody holds already. What cannot be looked up is made up for by the next
    /// advance.
    async fn look_where_the_log_ends(&mut self) {
        if let Ok(end) = self.services.log.end(self.conversation_id).await {
            self.last_sequence = self.last_sequence.max(end.last_sequence);
        }
    }

    fn advance(&mut self, user_id: UserId, moved: Moved) {
        let Moved { kind, through, message_ids } = moved;
        // Nobody can hold or have seen what is not there (AUTHZ, and a cursor ahead would lose messages).
        let through = through.min(self.last_sequence);
        if !self.members.has(user_id) {
            return;
        }
        let delivered_before = self.progress.delivered(user_id);
        if !self.progress.advance(user_id, kind.clone(), through) {
            return;
        }
        let cursor = self.cursor(user_id, kind.clone(), through);
        self.services.writers.of(self.conversation_id).advance(vec![cursor]);
        let (conversation_id, timestamp) = (self.conversation_id, self.services.clock.now());
        let receipt = match &kind {
            CursorKind::Read => ServerFrame::ReadReceipt {
                payload: ReadReceipt {
                    message_ids,
                    read_by: user_id,
                    conversation_id,
                    through_sequence: through,
                    timestamp,
                },
            },
            CursorKind::Delivered(_) if through > delivered_before => ServerFrame::DeliveryReceipt {
                payload: DeliveryReceipt {
                    message_ids,
                    delivered_to: user_id,
                    conversation_id,
                    through_sequence: through,
                    timestamp,
                },
            },
            CursorKind::Delivered(_) | CursorKind::Sent => return,
        };
        // Readers hear of their own reading: it tells the device that read that this is known, and their other devices
        // that there is less to read.
        let readers_too = matches!(kind, CursorKind::Read);
        let audience = if readers_too { self.members.audience() } else { self.others_than(user_id) };
        self.services.reach.push(&audience, &receipt.to_json().into());
    }

    fn said(&self, user_id: UserId, said: Ephemeral) {
        if !self.members.has(user_id) {
            return;
        }
        let (conversation_id, others) = (self.conversation_id, self.others_than(user_id));
        let frame = match said {
            Ephemeral::Typing(state) => {
                ServerFrame::Typing { payload: Typing { conversation_id, user_id, state } }
            }
            Ephemeral::Delta(delta) => ServerFrame::Delta { payload: *delta },
            Ephemeral::DeltaRequest(turn_id) => {
                ServerFrame::DeltaRequest { payload: TurnPlace { conversation_id, turn_id } }
            }
            Ephemeral::CancelTurn(turn_id) => {
                let cancel = Cancel { conversation_id, turn_id, reason: CancelReason::Stopped };
                return self.services.agents.cancel(&others, cancel);
            }
            Ephemeral::TurnGivenUp(turn_id) => {
                let frame = ServerFrame::TurnGivenUp { payload: TurnPlace { conversation_id, turn_id } };
                // Not whispered: the receipt that follows would leave a client nothing to ask for.
                return self.services.reach.push(&others, &frame.to_json().into());
            }
        };
        self.services.reach.whisper(&others, &frame.to_json().into());
    }

    fn others_than(&self, user_id: UserId) -> Arc<[UserId]> {
        self.members.participants().iter().copied().filter(|participant| *participant != user_id).collect()
    }

    fn cursor(&self, user_id: UserId, kind: CursorKind, through: u64) -> Cursor {
        Cursor { conversation_id: self.conversation_id, user_id, kind, through }
    }

    fn check_idle(&mut self, myself: &ActorRef<Letter<ConversationMessage>>) {
        self.sequencer.forget_ended();
        if self.sequencer.is_idle() && self.last_active.elapsed() >= PASSIVATE_AFTER && !self.retiring {
            let passivate = DirectoryMessage::Passivate(self.conversation_id, myself.get_id());
            // A busy directory is asked again at the next check.
            let _ = self.directory.try_cast(passivate);
        }
    }
}
