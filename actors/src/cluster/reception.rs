//! The reception: takes in what other pods ask of this one's conversations. Sharded by conversation, so that a message
//! that has to wake its conversation holds up few others, and none of the same conversation overtakes it (ORDER).

use std::sync::Arc;

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::TypingState;
use colloquy_protocol::ids::{ConversationId, UserId};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};

use crate::conversation::{Answer, Correspondent, Doorway, Moved, SenderOrder, Submission};
use crate::metrics::Metrics;
use crate::supervision::{ActorKind, Address, Letter, Mailbox, Refused};

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
    /// A participant is composing, or no longer.
    Typing(ConversationId, UserId, TypingState),
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

impl ReceptionActor {
    /// Starts a shard under `parent` and points `address` at it. `doorway` looks only on this pod.
    ///
    /// # Errors
    /// If the parent is stopping.
    pub async fn start(
        address: Address<ReceptionMessage>,
        doorway: Doorway,
        metrics: Arc<Metrics>,
        parent: ActorCell,
    ) -> Result<ActorCell, SpawnErr> {
        let (actor, _) = Actor::spawn_linked(None, Self, doorway, parent).await?;
        let depth = metrics.depth_of(ActorKind::Reception);
        address.install(Mailbox::new(actor.clone(), depth, MAILBOX_CAPACITY));
        metrics.actor_started(ActorKind::Reception);
        Ok(actor.get_cell())
    }
}

impl Actor for ReceptionActor {
    type Msg = Letter<ReceptionMessage>;
    type State = Doorway;
    type Arguments = Doorway;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        doorway: Doorway,
    ) -> Result<Doorway, ActorProcessingErr> {
        Ok(doorway)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        letter: Self::Msg,
        doorway: &mut Doorway,
    ) -> Result<(), ActorProcessingErr> {
        let done = match letter.open() {
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
            ReceptionMessage::Typing(conversation_id, user_id, state) => {
                doorway.typing(conversation_id, user_id, false, state).await.map(drop)
            }
        };
        if let Err(error) = done {
            tracing::warn!(%error, "another pod's request could not be answered from the store");
        }
        Ok(())
    }
}
