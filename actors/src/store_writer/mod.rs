//! The store writer: group commit over all conversations, and the lazy, bulk write of cursors.
//!
//! While one commit is under way the next one collects, so the busier the node, the larger the groups and the
//! fewer the commits per message. Nothing waits for a timer.

#[cfg(feature = "mutations")]
mod mutated;
mod waiting;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use colloquy_protocol::ids::{ConversationId, UserId};
use colloquy_storage::model::cursor::{Cursor, CursorKind};
use colloquy_storage::ports::message_log::{Append, Appended, Placed};
use colloquy_storage::ports::{Cursors, MessageLog, StoreError, StoreResult};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use tokio::time::Instant;

use crate::conversation::{ConversationMessage, Unshown};
use crate::metrics::Metrics;
use crate::supervision::{ActorKind, Address, Letter, Mailbox, Refused, answered, befall};

use waiting::Waiting;

/// Letters that may wait at one writer. A refused append is answered `unavailable`, and the client sends it again.
const MAILBOX_CAPACITY: usize = 65_536;
/// Cursors that may wait to be written. When there are this many they are written at once, and a cursor that finds
/// no room is dropped: what it counted is delivered again after a restart, which does no harm.
const DIRTY_CURSORS_MAX: usize = 100_000;
/// How long a cursor may wait to be written.
const CURSOR_FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// What a writer is told.
pub enum StoreWriterMessage {
    /// Append messages to a conversation, and tell its owner.
    Append {
        /// The batch.
        append: Append,
        /// Who is told.
        owner: OwedToOwner,
    },
    /// Move cursors, some time soon.
    Advance(Vec<Cursor>),
    /// The commit under way is done.
    Committed(Vec<OwedToOwner>, StoreResult<Vec<Appended>>, Instant),
    /// Write the cursors that have waited.
    FlushCursors,
    /// The cursors under way are written, or come back.
    CursorsWritten(Result<(), (StoreError, Vec<Cursor>)>),
}

/// The writers of this node; a conversation always uses the same one.
#[derive(Clone, Debug)]
pub struct StoreWriters(Arc<[StoreWriterAddress]>);

impl StoreWriters {
    /// Addresses for `count` writers (at least one), still to be started.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self((0..count.max(1)).map(|_| StoreWriterAddress::default()).collect())
    }

    /// Every writer's address, in start order.
    #[must_use]
    pub fn all(&self) -> &[StoreWriterAddress] {
        &self.0
    }

    /// The writer of a conversation.
    #[must_use]
    pub fn of(&self, conversation_id: ConversationId) -> &StoreWriterAddress {
        // The low bits of a derived id are evenly spread; any fixed choice will do.
        let index = (conversation_id.0.as_u128() % self.0.len() as u128) as usize;
        &self.0[index]
    }
}

/// One writer's address.
#[derive(Clone, Debug, Default)]
pub struct StoreWriterAddress(Address<StoreWriterMessage>);

impl StoreWriterAddress {
    /// Sends if there is room.
    ///
    /// # Errors
    /// [`Refused`] hands the message back.
    pub fn try_cast(&self, message: StoreWriterMessage) -> Result<(), Refused<StoreWriterMessage>> {
        self.0.try_cast(message)
    }

    /// Moves cursors some time soon; drops them if the writer is overloaded or restarting (see
    /// [`DIRTY_CURSORS_MAX`]).
    pub fn advance(&self, cursors: Vec<Cursor>) {
        if !cursors.is_empty() {
            let _ = self.0.try_cast(StoreWriterMessage::Advance(cursors));
        }
    }
}

/// The actor.
pub struct StoreWriter;

/// What a writer is started with.
#[derive(Clone)]
pub struct StoreWriterArguments {
    /// Where messages go.
    pub log: Arc<dyn MessageLog>,
    /// Where cursors go.
    pub cursors: Arc<dyn Cursors>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// State of a writer.
pub struct StoreWriterState {
    services: StoreWriterArguments,
    waiting: Waiting,
    committing: bool,
    dirty: HashMap<(ConversationId, UserId, CursorKind), u64>,
    flushing: bool,
}

impl StoreWriter {
    /// Starts a writer under `parent` and points `address` at it.
    ///
    /// # Errors
    /// If the parent is stopping.
    pub async fn start(
        address: StoreWriterAddress,
        arguments: StoreWriterArguments,
        parent: ActorCell,
    ) -> Result<ActorCell, SpawnErr> {
        let metrics = Arc::clone(&arguments.metrics);
        let (actor, _) = Actor::spawn_linked(None, Self, arguments, parent).await?;
        let depth = metrics.depth_of(ActorKind::StoreWriter);
        address.0.install(Mailbox::new(actor.clone(), depth, MAILBOX_CAPACITY));
        metrics.actor_started(ActorKind::StoreWriter);
        actor.send_interval(CURSOR_FLUSH_INTERVAL, || Letter::uncounted(StoreWriterMessage::FlushCursors));
        Ok(actor.get_cell())
    }
}

impl Actor for StoreWriter {
    type Msg = Letter<StoreWriterMessage>;
    type State = StoreWriterState;
    type Arguments = StoreWriterArguments;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        services: StoreWriterArguments,
    ) -> Result<StoreWriterState, ActorProcessingErr> {
        Ok(StoreWriterState {
            services,
            waiting: Waiting::default(),
            committing: false,
            dirty: HashMap::new(),
            flushing: false,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        letter: Self::Msg,
        state: &mut StoreWriterState,
    ) -> Result<(), ActorProcessingErr> {
        befall(&state.services.metrics, ActorKind::StoreWriter).await;
        let (message, _handling) = letter.open();
        match message {
            StoreWriterMessage::Append { append, owner } => {
                // One that finds no room is dropped, which tells its owner so.
                state.waiting.push(append, owner);
                state.commit(&myself);
            }
            StoreWriterMessage::Committed(owners, answer, started) => {
                state.committing = false;
                state.services.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
                tell(owners, answer);
                state.commit(&myself);
            }
            StoreWriterMessage::Advance(cursors) => state.advance(&myself, cursors),
            StoreWriterMessage::FlushCursors => state.flush(&myself),
            StoreWriterMessage::CursorsWritten(written) => {
                state.flushing = false;
                if let Err((error, cursors)) = written {
                    tracing::warn!(%error, "cursors not written; they are tried again");
                    state.remember(cursors);
                }
            }
        }
        Ok(())
    }

    /// Writes what has waited, so that an orderly stop loses no cursor (DRAIN).
    async fn post_stop(
        &self,
        _: ActorRef<Self::Msg>,
        state: &mut StoreWriterState,
    ) -> Result<(), ActorProcessingErr> {
        while let Some((owners, appends)) = state.waiting.next_group() {
            tell(owners, answered(state.services.log.append(appends)).await);
        }
        let cursors = state.take_dirty();
        if let Err(error) = state.services.cursors.advance(cursors).await {
            tracing::warn!(%error, "cursors not written");
        }
        Ok(())
    }
}

impl StoreWriterState {
    /// Starts the next commit unless one is under way.
    fn commit(&mut self, myself: &ActorRef<Letter<StoreWriterMessage>>) {
        if self.committing {
            return;
        }
        let Some((owners, appends)) = self.waiting.next_group() else { return };
        self.committing = true;
        let messages: usize = appends.iter().map(|append| append.messages.len()).sum();
        self.services.metrics.commit_messages.observe(messages as f64);
        let (log, myself, started) = (Arc::clone(&self.services.log), myself.clone(), Instant::now());
        // At most one such task per writer (`committing`).
        tokio::spawn(async move {
            #[cfg(feature = "mutations")]
            let answer = mutated::append(&log, appends).await;
            #[cfg(not(feature = "mutations"))]
            // Not answered in time, it is answered as unknown: senders try again, under the same keys.
            let answer = answered(log.append(appends)).await;
            let committed = StoreWriterMessage::Committed(owners, answer, started);
            if let Err(ractor::MessagingErr::SendErr(letter)) = myself.cast(Letter::uncounted(committed))
                && let StoreWriterMessage::Committed(owners, answer, _) = letter.into_message()
            {
                // The writer died meanwhile, but the answer is there.
                tell(owners, answer);
            }
        });
    }

    fn advance(&mut self, myself: &ActorRef<Letter<StoreWriterMessage>>, cursors: Vec<Cursor>) {
        for cursor in cursors {
            if self.dirty.len() >= DIRTY_CURSORS_MAX {
                self.flush(myself);
            }
            self.remember(vec![cursor]);
        }
    }

    fn remember(&mut self, cursors: Vec<Cursor>) {
        for Cursor { conversation_id, user_id, kind, through } in cursors {
            if self.dirty.len() < DIRTY_CURSORS_MAX {
                let known = self.dirty.entry((conversation_id, user_id, kind)).or_default();
                *known = through.max(*known);
            }
        }
    }

    fn flush(&mut self, myself: &ActorRef<Letter<StoreWriterMessage>>) {
        if self.flushing || self.dirty.is_empty() {
            return;
        }
        self.flushing = true;
        let (cursors, store, myself) =
            (self.take_dirty(), Arc::clone(&self.services.cursors), myself.clone());
        // At most one such task per writer (`flushing`).
        tokio::spawn(async move {
            let written = answered(store.advance(cursors.clone())).await.map_err(|error| (error, cursors));
            let written = StoreWriterMessage::CursorsWritten(written);
            // A writer that has died is replaced by one that is not flushing.
            let _ = myself.cast(Letter::uncounted(written));
        });
    }

    fn take_dirty(&mut self) -> Vec<Cursor> {
        let cursor =
            |((conversation_id, user_id, kind), through)| Cursor { conversation_id, user_id, kind, through };
        self.dirty.drain().map(cursor).collect()
    }
}

/// Hands each owner its part of the store's answer; an error is everybody's.
fn tell(owners: Vec<OwedToOwner>, answer: StoreResult<Vec<Appended>>) {
    let each: Vec<StoreResult<Appended>> = match answer {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        Err(error) => owners.iter().map(|_| Err(error.clone())).collect(),
    };
    for (owner, answer) in owners.into_iter().zip(each) {
        owner.give(answer);
    }
}

/// The answer owed to the owner of a batch. Dropped unanswered, because the writer was full or has died, it says
/// that the store's part is unknown: no owner waits for ever (ISOLATE).
pub struct OwedToOwner(Option<(ActorRef<Letter<ConversationMessage>>, Unshown)>);

impl OwedToOwner {
    /// An answer owed to `owner`, who is to show what `unshown` stands for.
    #[must_use]
    pub fn new(owner: ActorRef<Letter<ConversationMessage>>, unshown: Unshown) -> Self {
        Self(Some((owner, unshown)))
    }

    fn give(mut self, answer: StoreResult<Appended>) {
        if let Some((owner, mut unshown)) = self.0.take() {
            if let Ok(Appended::Placed(placed)) = &answer
                && let Some(newest) = placed.iter().rev().find_map(number_of_new)
            {
                unshown.stored_up_to(newest);
            }
            // An owner that has died has answered its senders by dying (see `conversation::Reply`), and the recipients
            // are told by `Unshown`.
            let _ = owner.cast(Letter::uncounted(ConversationMessage::Stored(answer, unshown)));
        }
    }
}

fn number_of_new(placed: &Placed) -> Option<u64> {
    match placed {
        Placed::New(message) => Some(message.sequence_number),
        Placed::Duplicate { .. } => None,
    }
}

impl Drop for OwedToOwner {
    fn drop(&mut self) {
        if let Some((owner, unshown)) = self.0.take() {
            let unknown = ConversationMessage::Stored(Err(StoreError::Busy), unshown);
            let _ = owner.cast(Letter::uncounted(unknown));
        }
    }
}
