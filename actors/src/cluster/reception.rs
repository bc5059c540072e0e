//! The reception: takes in what other pods ask of this one's conversations. Sharded by conversation, so that a message
//! that has to wake its conversation holds up few others, and none of the same conversation overtakes it (ORDER).

use std::sync::Arc;

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::ids::{ConversationId, UserId};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};

use crate::conversation::{Answer, Correspondent, Doorway, Ephemeral, Moved, SenderOrder, Submission};
use crate::metrics::Metrics;
use crate::supervision::{ActorKind, Address, Letter, Mailbox, Refused, befall};

/// Letters that may wait at one shard.
const MAILBOX_CAPACITY: usize = 8192;
/// Shards: so many conversations are woken at a time.
const SHARDS: usize = 16;

/// What a shard is told.
#[derive(Debug)]
pub enum ReceptionMessage {
    /// Put a message into the log.
    Submit(Box<Submission>),
    /// A message of this connection was refused before it came here.
    Skip(Correspondent, UserId, ConversationId, SenderOrder),
    /// A participant has come this far.
    Advance(ConversationId, UserId, Moved),
    /// A participant says something that is for now or never.
    Said(ConversationId, UserId, Ephemeral),
}

/// Every shard's address.
#[derive(Clone, Debug)]
pub struct Reception(Arc<[Address<ReceptionMessage>]>);

impl Default for Reception {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Address::default()).collect())
    }
}

impl Reception {
    /// Every shard's address, in start order.
    #[must_use]
    pub fn shards(&self) -> &[Address<ReceptionMessage>] {
        &self.0
    }

    /// Hands a message to the shard of its conversation, or answers that it cannot be taken now.
    pub fn submit(&self, submission: Box<Submission>) {
        let shard = self.shard(submission.message.conversation_id);
        let taken = shard.try_cast(ReceptionMessage::Submit(submission));
        // Dropped unanswered by a shard that is restarting, it tells its sender to try again.
        if let Err(Refused::Busy(ReceptionMessage::Submit(submission))) = taken {
            submission.reply.give(Answer::Refused(ErrorCode::Busy));
        }
    }

    /// Hands on something that may be lost.
    pub fn tell(&self, conversation_id: ConversationId, message: ReceptionMessage) {
        let _ = self.shard(conversation_id).try_cast(message);
    }

    pub(super) fn shard(&self, conversation_id: ConversationId) -> &Address<ReceptionMessage> {
        &self.0[(conversation_id.0.as_u128() % self.0.len() as u128) as usize]
    }
}

/// The actor: one shard.
pub struct ReceptionActor;

/// What it is started with.
#[derive(Clone)]
pub struct ReceptionArguments {
    /// What it asks for conversations: one that looks only on this pod.
    pub doorway: Doorway,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl ReceptionActor {
    /// Starts a shard under `parent` and points `address` at it.
    ///
    /// # Errors
    /// If the parent is stopping.
    pub async fn start(
        address: Address<ReceptionMessage>,
        arguments: ReceptionArguments,
        parent: ActorCell,
    ) -> Result<ActorCell, SpawnErr> {
        let metrics = Arc::clone(&arguments.metrics);
        let (actor, _) = Actor::spawn_linked(None, Self, arguments, parent).await?;
        let depth = metrics.depth_of(ActorKind::Reception);
        address.install(Mailbox::new(actor.clone(), depth, MAILBOX_CAPACITY));
        metrics.actor_started(ActorKind::Reception);
        Ok(actor.get_cell())
    }
}

impl Actor for ReceptionActor {
    type Msg = Letter<ReceptionMessage>;
    type State = ReceptionArguments;
    type Arguments = ReceptionArguments;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        services: ReceptionArguments,
    ) -> Result<ReceptionArguments, ActorProcessingErr> {
        Ok(services)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        letter: Self::Msg,
        ReceptionArguments { doorway, metrics }: &mut ReceptionArguments,
    ) -> Result<(), ActorProcessingErr> {
        befall(metrics, ActorKind::Reception).await;
        let (message, _handling) = letter.open();
        let done = match message {
            ReceptionMessage::Submit(submission) => match doorway.hand_over(submission) {
                Ok(()) => Ok(()),
                Err(submission) => doorway.pass_on(submission).await,
            },
            ReceptionMessage::Skip(from, user_id, conversation_id, order) => {
                doorway.skip(&from, user_id, conversation_id, order);
                Ok(())
            }
            // AUTHZ: the asking pod knows its user; whether they take part is looked at here again.
            ReceptionMessage::Advance(conversation_id, user_id, moved) => {
                doorway.advance(conversation_id, user_id, false, moved).await.map(drop)
            }
            ReceptionMessage::Said(conversation_id, user_id, said) => {
                doorway.say(conversation_id, user_id, false, said).await.map(drop)
            }
        };
        if let Err(error) = done {
            tracing::warn!(%error, "another pod's request could not be answered from the store");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use colloquy_protocol::frame::TypingState;
    use colloquy_storage::model::cursor::CursorKind;
    use uuid::Uuid;

    use super::*;
    use crate::cluster::tests::pods::{Pod, World};
    use crate::cluster::tests::stage::{Session, conversation, message, number_of, refused, user};
    use crate::session::SessionMessage;

    /// A pod, and sessions of users 1 and 2 on it.
    async fn pod(world: &World) -> (Pod, Session, Session) {
        let pod = world.pod("a").await;
        let (one, two) = (Session::of(user(1), 1).await, Session::of(user(2), 2).await);
        pod.sessions.enter(Arc::clone(&one.handle));
        pod.sessions.enter(Arc::clone(&two.handle));
        (pod, one, two)
    }

    /// What the session hears until its message is answered.
    async fn answered(session: &mut Session) -> Answer {
        loop {
            match session.next().await {
                SessionMessage::Answered(mut answers) => return answers.remove(0).1,
                SessionMessage::Delivered(_) => {}
                other => panic!("neither answer nor message: {other:?}"),
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_message_overtakes_another_while_their_conversation_is_woken() {
        let world = World::new("woken").await;
        let pod = world.pod("a").await;
        let mut session = Session::of(user(1), 1).await;
        for n in 1..=50 {
            pod.reception.submit(Box::new(session.submission(n)));
        }
        let mut answers = Vec::new();
        while answers.len() < 50 {
            answers.extend(session.answers().await);
        }
        assert!(answers.iter().all(|(token, answer)| number_of(answer) == *token), "{answers:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn strangers_are_heard_in_no_conversation_and_cannot_tell_it_from_none() {
        let world = World::new("strangers").await;
        let (pod, mut one, _two) = pod(&world).await;
        let mut stranger = Session::of(user(3), 3).await;
        // Before it is awake, and while it is.
        for _ in 0..2 {
            let mut submission = stranger.submission(9);
            submission.message.sender_id = user(3);
            pod.reception.submit(Box::new(submission));
            let mut submission = stranger.submission(9);
            submission.message.conversation_id = ConversationId(Uuid::from_u128(9));
            pod.reception.submit(Box::new(submission));
            for _ in 0..2 {
                assert_eq!(stranger.answer().await, (9, refused(ErrorCode::UnknownConversation)));
            }
            pod.reception.submit(Box::new(one.submission(1)));
            assert_eq!(number_of(&answered(&mut one).await), 1);
        }
        let moved = Moved { kind: CursorKind::Read, through: 1, message_ids: Vec::new() };
        let tell = |letter| pod.reception.tell(conversation(), letter);
        tell(ReceptionMessage::Advance(conversation(), user(3), moved));
        let starts = || Ephemeral::Typing(TypingState::Started);
        tell(ReceptionMessage::Said(conversation(), user(3), starts()));
        tell(ReceptionMessage::Said(conversation(), user(2), starts()));
        let SessionMessage::Whisper(text) = one.next().await else { panic!("it hears of typing only") };
        assert!(text.contains(&user(2).0.to_string()), "{text}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn participants_elsewhere_are_heard_and_wake_their_conversation() {
        let world = World::new("heard").await;
        let (pod, mut one, _two) = pod(&world).await;
        pod.reception.submit(Box::new(one.submission(1)));
        answered(&mut one).await;
        let asleep = world.pod("b").await;
        asleep.sessions.enter(Arc::clone(&one.handle));
        let moved = Moved { kind: CursorKind::Read, through: 1, message_ids: Vec::new() };
        asleep.reception.tell(conversation(), ReceptionMessage::Advance(conversation(), user(2), moved));
        loop {
            match one.next().await {
                SessionMessage::Delivered(_) => {}
                SessionMessage::Push(text) => break assert!(text.contains("read_receipt"), "{text}"),
                other => panic!("neither message nor receipt: {other:?}"),
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_message_that_was_refused_elsewhere_is_not_waited_for() {
        let world = World::new("skipped").await;
        let (pod, mut one, _two) = pod(&world).await;
        pod.reception.submit(Box::new(one.submission_in_order(1, 1)));
        answered(&mut one).await;
        pod.reception.submit(Box::new(one.submission_in_order(3, 3)));
        let order = SenderOrder { client_sequence: 2, expected: 2, follows_unanswered: false };
        let skip = ReceptionMessage::Skip(one.correspondent(), user(1), conversation(), order);
        pod.reception.tell(conversation(), skip);
        let asked = tokio::time::Instant::now();
        assert_eq!(number_of(&answered(&mut one).await), 2);
        assert!(asked.elapsed() < colloquy_protocol::limits::REORDER_TIMEOUT);
        assert_eq!(world.log().await[1].idempotency_key, message(3).idempotency_key);
    }
}
