//! The conversation directory: finds the actor of a conversation, starts it when it is first needed, and lets it
//! go when it is idle. Parent of all conversation actors on this node.
//!
//! Sessions look in [`ConversationIndex`] first, without a message; only a miss comes here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::ids::{ConversationId, UserId};
use colloquy_storage::model::conversation::Conversation;
use dashmap::DashMap;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::sync::oneshot;

use super::{ConversationActor, ConversationArguments, ConversationMessage, ConversationServices};
use crate::cluster::Cluster;
use crate::supervision::{ActorKind, Address, Children, Letter, Mailbox, befall};

/// Letters that may wait at the directory.
const MAILBOX_CAPACITY: usize = 16_384;
/// Letters that may wait at one conversation: what its participants' send windows can fill, with room.
const CONVERSATION_MAILBOX_CAPACITY: usize = 4096;
/// Conversations awake at once on one node; opening one more is refused with `busy` until others have gone idle.
pub const CONVERSATIONS_MAX: usize = 200_000;
/// How often conversations are asked whether they are idle.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// A conversation that is awake.
#[derive(Clone, Debug)]
pub struct Awake {
    /// Its actor.
    pub mailbox: Mailbox<ConversationMessage>,
    participants: Arc<[UserId]>,
}

impl Awake {
    /// Does a user take part (AUTHZ)?
    #[must_use]
    pub fn has(&self, user_id: UserId) -> bool {
        self.participants.contains(&user_id)
    }

    fn is(&self, actor_id: ActorId) -> bool {
        self.mailbox.cell().get_id() == actor_id
    }
}

/// The conversations awake on this node.
#[derive(Clone, Debug, Default)]
pub struct ConversationIndex {
    awake: Arc<DashMap<ConversationId, Awake>>,
    directory: Address<DirectoryMessage>,
}

impl ConversationIndex {
    /// The conversation's actor if it is awake.
    #[must_use]
    pub fn awake(&self, conversation_id: ConversationId) -> Option<Awake> {
        self.awake.get(&conversation_id).map(|awake| awake.clone())
    }

    /// Tells a conversation that is awake of a change it must not miss; a sleeping one reads it when it wakes. The
    /// number of such messages is bounded by how often devices come and go.
    pub fn tell_awake(&self, conversation_id: ConversationId, message: ConversationMessage) {
        if let Some(awake) = self.awake.get(&conversation_id) {
            // One that has just ended reads it when it wakes, too.
            let _ = awake.mailbox.cast_beyond_capacity(message);
        }
    }

    /// The actor was found dead: it is looked for no more, whether or not its parent knows already.
    pub fn bury(&self, conversation_id: ConversationId, mailbox: &Mailbox<ConversationMessage>) {
        self.awake.remove_if(&conversation_id, |_, awake| awake.mailbox.same_actor(mailbox));
    }

    /// The conversation's actor, started if need be.
    ///
    /// # Errors
    /// `busy` if the directory is full or overloaded, `unavailable` while it restarts.
    pub async fn wake(&self, conversation: Conversation) -> Result<Mailbox<ConversationMessage>, ErrorCode> {
        let (answer, answered) = oneshot::channel();
        let message = DirectoryMessage::Wake(conversation, answer);
        self.directory.try_cast(message).map_err(|refused| match refused {
            crate::supervision::Refused::Busy(_) => ErrorCode::Busy,
            crate::supervision::Refused::Stopped(_) => ErrorCode::Unavailable,
        })?;
        answered.await.unwrap_or(Err(ErrorCode::Unavailable))
    }

    /// Conversations belong to other pods than before.
    pub fn rebalance(&self) {
        // A busy directory looks by itself, later.
        let _ = self.directory.try_cast(DirectoryMessage::Rebalance);
    }

    /// How many are awake.
    #[must_use]
    pub fn len(&self) -> usize {
        self.awake.len()
    }

    /// Is none awake?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.awake.is_empty()
    }

    /// One that is awake, for chaos tests to kill.
    #[must_use]
    pub fn any_awake(&self) -> Option<ActorCell> {
        self.awake.iter().next().map(|entry| entry.value().mailbox.cell())
    }
}

/// What the directory is told.
pub enum DirectoryMessage {
    /// Find or start a conversation's actor.
    Wake(Conversation, oneshot::Sender<Result<Mailbox<ConversationMessage>, ErrorCode>>),
    /// The actor is idle and may be let go.
    Passivate(ConversationId, ActorId),
    /// Ask all conversations whether they are idle.
    CheckIdle,
    /// Let go of conversations that belong to other pods.
    Rebalance,
}

/// The directory's actor.
pub struct ConversationDirectory;

/// What the directory is started with.
#[derive(Clone)]
pub struct DirectoryArguments {
    /// Shared with every session.
    pub index: ConversationIndex,
    /// Handed to every conversation.
    pub services: ConversationServices,
    /// Says which conversations belong to other pods.
    pub cluster: Option<Cluster>,
}

/// State of the directory.
pub struct DirectoryState {
    index: ConversationIndex,
    services: ConversationServices,
    cluster: Option<Cluster>,
    ids: HashMap<ActorId, ConversationId>,
    children: Children,
}

impl ConversationDirectory {
    /// Starts the directory under `parent` and points the index's address at it.
    ///
    /// # Errors
    /// If the parent is stopping.
    pub async fn start(arguments: DirectoryArguments, parent: ActorCell) -> Result<ActorCell, SpawnErr> {
        let (index, metrics) = (arguments.index.clone(), Arc::clone(&arguments.services.metrics));
        let (actor, _) = Actor::spawn_linked(None, Self, arguments, parent).await?;
        let depth = metrics.depth_of(ActorKind::ConversationDirectory);
        index.directory.install(Mailbox::new(actor.clone(), depth, MAILBOX_CAPACITY));
        metrics.actor_started(ActorKind::ConversationDirectory);
        actor.send_interval(IDLE_CHECK_INTERVAL, || Letter::uncounted(DirectoryMessage::CheckIdle));
        Ok(actor.get_cell())
    }
}

impl Actor for ConversationDirectory {
    type Msg = Letter<DirectoryMessage>;
    type State = DirectoryState;
    type Arguments = DirectoryArguments;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        arguments: DirectoryArguments,
    ) -> Result<DirectoryState, ActorProcessingErr> {
        // What an earlier incarnation had awake has died with it.
        arguments.index.awake.clear();
        let DirectoryArguments { index, services, cluster } = arguments;
        let children = Children::new(ActorKind::Conversation, Arc::clone(&services.metrics));
        Ok(DirectoryState { index, services, cluster, ids: HashMap::new(), children })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        letter: Self::Msg,
        state: &mut DirectoryState,
    ) -> Result<(), ActorProcessingErr> {
        befall(&state.services.metrics, ActorKind::ConversationDirectory).await;
        let (message, _handling) = letter.open();
        match message {
            DirectoryMessage::Wake(conversation, answer) => {
                let mailbox = state.wake(conversation, myself.get_cell()).await;
                // A session that no longer waits has ended.
                let _ = answer.send(mailbox);
            }
            DirectoryMessage::Passivate(conversation_id, actor_id) => {
                // Out of the index first: whatever was sent before now is in its mailbox before `Retire`.
                state.retire(conversation_id, |awake| awake.is(actor_id));
            }
            DirectoryMessage::Rebalance => state.rebalance(),
            DirectoryMessage::CheckIdle => {
                // Pods that saw other members than this one may have asked for conversations here.
                state.rebalance();
                for conversation in state.index.awake.iter() {
                    // A conversation with a full mailbox is not idle.
                    let _ = conversation.mailbox.try_cast(ConversationMessage::CheckIdle);
                }
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut DirectoryState,
    ) -> Result<(), ActorProcessingErr> {
        let (Some(_), Some(cell)) = (state.children.observe(&event), event.actor_cell()) else {
            return Ok(());
        };
        if let Some(conversation_id) = state.ids.remove(&cell.get_id()) {
            // Transient: the next message to the conversation starts it again, from the log, under a new epoch.
            state.index.awake.remove_if(&conversation_id, |_, awake| awake.is(cell.get_id()));
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut DirectoryState,
    ) -> Result<(), ActorProcessingErr> {
        state.children.stop(&myself.get_cell()).await;
        state.index.awake.clear();
        Ok(())
    }
}

impl DirectoryState {
    fn retire(&self, conversation_id: ConversationId, is_meant: impl Fn(&Awake) -> bool) {
        if let Some((_, awake)) = self.index.awake.remove_if(&conversation_id, |_, awake| is_meant(awake)) {
            let _ = awake.mailbox.cast_beyond_capacity(ConversationMessage::Retire);
        }
    }

    /// Lets go of conversations that belong elsewhere: they finish what they hold, their senders find the new owner.
    fn rebalance(&self) {
        let Some(cluster) = &self.cluster else { return };
        let awake = self.index.awake.iter().map(|entry| *entry.key());
        let leaving: Vec<_> = awake.filter(|id| cluster.elsewhere(*id).is_some()).collect();
        for conversation_id in leaving {
            self.retire(conversation_id, |_| true);
        }
    }

    async fn wake(
        &mut self,
        conversation: Conversation,
        myself: ActorCell,
    ) -> Result<Mailbox<ConversationMessage>, ErrorCode> {
        let conversation_id = conversation.conversation_id;
        if let Some(awake) = self.index.awake(conversation_id) {
            return Ok(awake.mailbox);
        }
        if self.index.len() >= CONVERSATIONS_MAX {
            return Err(ErrorCode::Busy);
        }
        let metrics = &self.services.metrics;
        let participants: Arc<[UserId]> = conversation.participants.as_slice().into();
        let arguments = ConversationArguments {
            conversation,
            services: self.services.clone(),
            directory: self.index.directory.clone(),
        };
        let spawned = Actor::spawn_linked(None, ConversationActor, arguments, myself).await;
        let (actor, _) = spawned.map_err(|_| ErrorCode::Unavailable)?;
        self.ids.insert(actor.get_id(), conversation_id);
        let mailbox =
            Mailbox::new(actor, metrics.depth_of(ActorKind::Conversation), CONVERSATION_MAILBOX_CAPACITY);
        let awake = Awake { mailbox: mailbox.clone(), participants };
        // Found by others only once its first letter is there.
        let mut place = self.index.awake.entry(conversation_id).insert(awake);
        let loading = place.value_mut().mailbox.cast_beyond_capacity(ConversationMessage::Load);
        loading.map_err(|_| ErrorCode::Unavailable)?;
        drop(place);
        Ok(mailbox)
    }
}
