//! The sequencer: one conversation's messages on their way to the log. Pure.
//!
//! ```text
//! accept ──> reorder buffer (per connection) ──> ready ──> one batch in flight ──> placed: answers, fan-out
//! ```
//! One batch is in flight at a time, so what the log answers about one batch decides the numbers of the next, and
//! no later message of a sender overtakes an earlier one (ORDER).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

#[cfg(feature = "mutations")]
use colloquy_mutations::{self as mutations, Mutation};
use colloquy_protocol::UnixMillis;
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::MessageStatus;
use colloquy_protocol::frame::server::MessageAck;
use colloquy_protocol::ids::{ConversationId, MessageId, SessionId};
use colloquy_storage::ambient::uuid_v7;
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::message_log::{Append, Ownership, Placed};
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::correspondent::Correspondent;
use super::reorder::{Pushed, ReorderBuffer};
use super::submission::{Answer, Reply, SenderOrder, Submission};

/// Messages that may wait for the log; more are refused with `busy`.
const READY_MAX: usize = 4096;
/// Messages in one batch.
const BATCH_MAX_MESSAGES: usize = 256;
/// Connections whose order is kept at once; beyond it, those that have ended and those that hold nothing are forgotten.
const REORDER_BUFFERS_MAX: usize = 256;

/// Orders messages, numbers batches, and remembers who waits for which answer.
#[derive(Debug)]
pub struct Sequencer {
    conversation_id: ConversationId,
    ownership: Option<Ownership>,
    lanes: HashMap<SessionId, Lane>,
    ready: VecDeque<Box<Submission>>,
    in_flight: Vec<(Reply, Instant)>,
}

/// The messages of one connection.
#[derive(Debug)]
struct Lane {
    from: Correspondent,
    buffer: ReorderBuffer<Box<Submission>>,
}

/// What a batch became.
#[derive(Debug, Default)]
pub struct Settled {
    /// Every answer owed, in order.
    pub answers: Vec<(Reply, Answer)>,
    /// What is new in the log, in order.
    pub fresh: Vec<Arc<Message>>,
    /// Retries answered with their first message.
    pub duplicates: u64,
    /// Longest time a message of the batch spent here.
    pub oldest: Option<Instant>,
    /// The greatest number of a retry's first message that lies beyond what this owner knew of: an earlier owner stored it,
    /// or one beside this one, and may have told nobody.
    pub unheard_of: Option<u64>,
    /// The log's answer broke ORDER: numbers were not contiguous.
    pub order_broken: bool,
}

impl Sequencer {
    /// A sequencer that does not own its conversation yet.
    #[must_use]
    pub fn new(conversation_id: ConversationId) -> Self {
        Self {
            conversation_id,
            ownership: None,
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            in_flight: Vec::new(),
        }
    }

    /// Takes in a message. What cannot be taken is handed back with the reason.
    ///
    /// # Errors
    /// `busy` when a bound is reached.
    pub fn accept(
        &mut self,
        submission: Box<Submission>,
        now: Instant,
    ) -> Result<(), (Box<Submission>, ErrorCode)> {
        if self.ready.len() >= READY_MAX {
            return Err((submission, ErrorCode::Busy));
        }
        #[cfg(feature = "mutations")]
        let order = submission.order.filter(|_| !mutations::is(Mutation::NoReorderBuffer));
        #[cfg(not(feature = "mutations"))]
        let order = submission.order;
        let Some(order) = order else {
            self.ready.push_back(submission);
            return Ok(());
        };
        let Some(lane) = lane(&mut self.lanes, submission.reply.to(), order) else {
            return Err((submission, ErrorCode::Busy));
        };
        // The session knows of answers that this owner, or an earlier one, has given.
        self.ready.extend(lane.buffer.expect(order.expected, now));
        match lane.buffer.push(order.client_sequence, submission, now) {
            Pushed::Ready(ready) => self.ready.extend(ready),
            Pushed::Held => {}
            Pushed::Twice(submission) | Pushed::Full(submission) => {
                return Err((submission, ErrorCode::Busy));
            }
        }
        Ok(())
    }

    /// Counts a message of a connection as done without a place in the log: it was refused for good.
    pub fn skip(&mut self, from: &Correspondent, order: SenderOrder, now: Instant) {
        if let Some(lane) = lane(&mut self.lanes, from, order) {
            self.ready.extend(lane.buffer.skip(order.client_sequence, now));
        }
    }

    /// Lets go of what has waited too long for the message before it. What an ended connection left waiting is dropped:
    /// its client sends it again on the next one, behind the message that is missing here (ORDER). What waits for a message
    /// that is not missing, but on its way to another owner, is answered "try again": its turn comes when that one has its
    /// answer. Behind a message that follows nothing, others may follow it: it goes on, and they after it.
    #[must_use]
    pub fn give_up_gaps(&mut self, now: Instant) -> Vec<(Reply, Answer)> {
        self.forget_ended();
        let mut answers = Vec::new();
        for lane in self.lanes.values_mut() {
            let follows = |held: &Submission| held.order.is_some_and(|order| order.follows_unanswered);
            if !lane.buffer.held().any(|held| follows(held)) {
                self.ready.extend(lane.buffer.give_up(now));
            } else if !lane.buffer.held().next().is_some_and(|first| follows(first)) {
                self.ready.extend(lane.buffer.give_up_first(now));
            } else {
                let back = lane.buffer.hand_back(now).into_iter();
                answers.extend(back.map(|held| (held.reply, Answer::Refused(ErrorCode::Unavailable))));
            }
        }
        answers
    }

    /// When [`Self::give_up_gaps`] next has something to do.
    #[must_use]
    pub fn next_give_up(&self) -> Option<Instant> {
        self.lanes.values().filter_map(|lane| lane.buffer.give_up_at()).min()
    }

    /// Forgets connections that have ended.
    pub fn forget_ended(&mut self) {
        self.lanes.retain(|_, lane| !lane.from.has_ended());
    }

    /// Does a message wait for the log, and no batch is in flight?
    #[must_use]
    pub fn wants_batch(&self) -> bool {
        self.in_flight.is_empty() && !self.ready.is_empty()
    }

    /// Must ownership be taken before the next batch?
    #[must_use]
    pub fn wants_ownership(&self) -> bool {
        self.ownership.is_none()
    }

    /// Ownership was taken.
    pub fn own(&mut self, ownership: Ownership) {
        self.ownership = Some(ownership);
    }

    /// Is nothing under way?
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.ready.is_empty() && self.next_give_up().is_none()
    }

    /// The next batch, if one may start: gives ids and times, and moves the answers owed into flight.
    pub fn next_batch(&mut self, now: UnixMillis, rng: &mut StdRng) -> Option<Append> {
        if !self.wants_batch() {
            return None;
        }
        let ownership = self.ownership?;
        // An earlier owner's clock may be ahead of ours, and ours may be set back: dates rise with the numbers all the
        // same, as retention takes the oldest (NOLOSS).
        let now = ownership.last_message_at.map_or(now, |last| now.max(last));
        let take = self.ready.len().min(BATCH_MAX_MESSAGES);
        let mut messages = Vec::with_capacity(take);
        for submission in self.ready.drain(..take) {
            let mut message = submission.message;
            message.message_id = MessageId(uuid_v7(rng, now));
            message.created_at = now;
            messages.push(message);
            self.in_flight.push((submission.reply, submission.arrived));
        }
        Some(Append {
            conversation_id: self.conversation_id,
            epoch: ownership.epoch,
            after_sequence: ownership.last_sequence,
            messages,
        })
    }

    /// The log has placed the batch in flight.
    pub fn settle(&mut self, placed: Vec<Placed>) -> Settled {
        let mut settled =
            Settled { order_broken: placed.len() != self.in_flight.len(), ..Settled::default() };
        settled.oldest = self.in_flight.iter().map(|(_, arrived)| *arrived).min();
        for ((reply, _), placed) in self.in_flight.drain(..).zip(placed) {
            let answer = match placed {
                Placed::New(message) => {
                    if let Some(ownership) = &mut self.ownership {
                        settled.order_broken |= message.sequence_number != ownership.last_sequence + 1;
                        ownership.last_sequence = message.sequence_number;
                        ownership.last_message_at = Some(message.created_at);
                    }
                    let answer = Answer::Acked(ack_of(&message));
                    settled.fresh.push(message);
                    answer
                }
                Placed::Duplicate { first, same_body: true } => {
                    settled.duplicates += 1;
                    let is_here = first.conversation_id == self.conversation_id;
                    let known = self.ownership.map_or(u64::MAX, |ownership| ownership.last_sequence);
                    if is_here && first.sequence_number > known {
                        settled.unheard_of = settled.unheard_of.max(Some(first.sequence_number));
                    }
                    Answer::Acked(ack_of(&first))
                }
                Placed::Duplicate { same_body: false, .. } => Answer::Refused(ErrorCode::IdempotencyConflict),
            };
            settled.answers.push((reply, answer));
        }
        if settled.unheard_of.is_some() {
            // The log does not end where it seemed to.
            self.ownership = None;
        }
        settled
    }

    /// Gives up everything under way: the owner steps down, or does not know what the store has done. The answer
    /// says "try again", and the idempotency key makes that safe. Orders start over at what each connection says it
    /// expects, which is the first message answered so: nothing sent later overtakes it.
    pub fn abandon(&mut self) -> Vec<(Reply, Answer)> {
        let answer = || Answer::Refused(ErrorCode::Unavailable);
        let in_flight = self.in_flight.drain(..).map(|(reply, _)| reply);
        let mut answers: Vec<(Reply, Answer)> = in_flight.map(|reply| (reply, answer())).collect();
        let held = self.lanes.drain().flat_map(|(_, lane)| lane.buffer.into_held());
        let waiting = self.ready.drain(..).chain(held);
        answers.extend(waiting.map(|submission| (submission.reply, answer())));
        self.ownership = None;
        answers
    }
}

/// The lane of a connection; `None` if there is no room for another. One that is forgotten while it holds nothing starts
/// again at what its session says it expects.
fn lane<'a>(
    lanes: &'a mut HashMap<SessionId, Lane>,
    from: &Correspondent,
    order: SenderOrder,
) -> Option<&'a mut Lane> {
    if lanes.len() >= REORDER_BUFFERS_MAX && !lanes.contains_key(&from.session_id()) {
        lanes.retain(|_, lane| !lane.from.has_ended());
        if lanes.len() >= REORDER_BUFFERS_MAX {
            lanes.retain(|_, lane| lane.buffer.give_up_at().is_some());
        }
        if lanes.len() >= REORDER_BUFFERS_MAX {
            return None;
        }
    }
    Some(
        lanes
            .entry(from.session_id())
            .or_insert_with(|| Lane { from: from.clone(), buffer: ReorderBuffer::expecting(order.expected) }),
    )
}

/// The ack for a stored message.
#[must_use]
pub fn ack_of(message: &Message) -> MessageAck {
    MessageAck {
        message_id: message.message_id,
        sequence_number: message.sequence_number,
        status: MessageStatus::Sent,
        timestamp: message.created_at,
    }
}

#[cfg(test)]
mod tests {
    use colloquy_protocol::envelope::{Algorithm, Envelope};
    use colloquy_protocol::frame::MessageType;
    use colloquy_protocol::ids::{DeviceId, IdempotencyKey, UserId};
    use colloquy_protocol::limits::REORDER_TIMEOUT;
    use ractor::{Actor, ActorProcessingErr, ActorRef};
    use rand::SeedableRng;
    use uuid::Uuid;

    use super::*;
    use crate::session::{SessionHandle, SessionMessage};
    use crate::supervision::{Depth, Letter, Mailbox};

    /// A session that reads nothing.
    struct Deaf;

    impl Actor for Deaf {
        type Msg = Letter<SessionMessage>;
        type State = ();
        type Arguments = ();

        async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }
    }

    fn phone() -> DeviceId {
        DeviceId::new("phone").unwrap()
    }

    async fn correspondent() -> Correspondent {
        let (actor, _) = Actor::spawn(None, Deaf, ()).await.unwrap();
        let mailbox = Mailbox::new(actor, Depth::default(), 1);
        let owner = (UserId(Uuid::from_u128(1)), phone());
        let session_id = SessionId(Uuid::from_u128(1));
        Correspondent::Here(Arc::new(SessionHandle::read_by(mailbox, session_id, owner)))
    }

    fn submission(from: &Correspondent) -> Box<Submission> {
        let content =
            Envelope { algorithm: Algorithm::OlmV1, sender_key: "A".repeat(43), ciphertexts: Vec::new() };
        let message = Message {
            message_id: MessageId(Uuid::nil()),
            sequence_number: 0,
            conversation_id: ConversationId(Uuid::nil()),
            sender_id: UserId(Uuid::from_u128(1)),
            sender_device_id: phone(),
            receiver_id: UserId(Uuid::from_u128(2)),
            idempotency_key: IdempotencyKey::new(uuid::Builder::from_random_bytes([1; 16]).into_uuid())
                .unwrap(),
            r#type: MessageType::Text,
            content,
            media_url: None,
            reply_to_message_id: None,
            sent_at: 1,
            created_at: 0,
        };
        let reply = Reply::owed_to(from.clone(), 1);
        Box::new(Submission { message, order: None, reply, arrived: Instant::now() })
    }

    fn in_order(from: &Correspondent, client_sequence: u64, follows_unanswered: bool) -> Box<Submission> {
        let order = Some(SenderOrder { client_sequence, expected: 1, follows_unanswered });
        Box::new(Submission { order, ..*submission(from) })
    }

    #[tokio::test]
    async fn behind_a_gap_nobody_will_fill_messages_that_follow_each_other_go_on() {
        let (from, now) = (correspondent().await, Instant::now());
        let mut sequencer = Sequencer::new(ConversationId(Uuid::nil()));
        // Its sender has seen the first one in the log and does not send it again; the session has not.
        for (number, follows) in [(2, false), (3, true), (4, true)] {
            sequencer.accept(in_order(&from, number, follows), now).map_err(|(_, code)| code).unwrap();
        }
        assert!(!sequencer.wants_batch());
        let answers = sequencer.give_up_gaps(now + REORDER_TIMEOUT);
        assert!(answers.is_empty(), "nobody is told to try again: it would be the same again");
        assert_eq!((sequencer.ready.len(), sequencer.next_give_up()), (3, None));
    }

    #[tokio::test]
    async fn behind_a_message_that_is_on_its_way_elsewhere_nothing_goes_on() {
        let (from, now) = (correspondent().await, Instant::now());
        let mut sequencer = Sequencer::new(ConversationId(Uuid::nil()));
        for number in [2, 3] {
            sequencer.accept(in_order(&from, number, true), now).map_err(|(_, code)| code).unwrap();
        }
        let answers = sequencer.give_up_gaps(now + REORDER_TIMEOUT);
        let again = |(_, answer): &(Reply, Answer)| *answer == Answer::Refused(ErrorCode::Unavailable);
        assert!(answers.len() == 2 && answers.iter().all(again));
        assert!(sequencer.ready.is_empty());
    }

    #[tokio::test]
    async fn dates_rise_with_the_numbers_whatever_the_clocks_of_owners_say() {
        let (from, mut rng) = (correspondent().await, StdRng::seed_from_u64(1));
        let mut sequencer = Sequencer::new(ConversationId(Uuid::nil()));
        let mut stored_at = |sequencer: &mut Sequencer, now: UnixMillis| {
            sequencer.accept(submission(&from), Instant::now()).map_err(|(_, code)| code).unwrap();
            let append = sequencer.next_batch(now, &mut rng).unwrap();
            let mut message = append.messages[0].clone();
            message.sequence_number = append.after_sequence + 1;
            let at = message.created_at;
            assert!(!sequencer.settle(vec![Placed::New(Arc::new(message))]).order_broken);
            at
        };
        // The one before us was ahead.
        sequencer.own(Ownership { epoch: 2, last_sequence: 7, last_message_at: Some(5_000) });
        assert_eq!(stored_at(&mut sequencer, 4_000), 5_000);
        assert_eq!(stored_at(&mut sequencer, 6_000), 6_000);
        // Our own clock is set back.
        assert_eq!(stored_at(&mut sequencer, 3_000), 6_000);
        // Nobody was before us.
        sequencer.own(Ownership { epoch: 1, last_sequence: 0, last_message_at: None });
        assert_eq!(stored_at(&mut sequencer, 4_000), 4_000);
    }
}
