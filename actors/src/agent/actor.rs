//! The actor of one agent: takes turns to it, those of each conversation in order.
//!
//! It holds nothing that the log does not hold too: what is owed is what was written to the agent and has no answer. A pod
//! sees to the conversations that belong to it; started, it looks through all of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use colloquy_protocol::agent::WhenBusy;
use colloquy_protocol::event::CancelReason;
use colloquy_protocol::ids::ConversationId;
use colloquy_storage::ambient::Entropy;
use colloquy_storage::model::agent::Agent;
use colloquy_storage::model::cursor::CursorKind;
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::{Conversations, StoreResult};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::cancels::{Cancel, Cancels};
use super::courier::Courier;
use crate::metrics::{Metrics, TurnOutcome};
use crate::outbox::{Lanes, Outcome, Rounds};
use crate::supervision::{ActorKind, Letter, answered, befall, outcome};

/// How often it is looked whether somebody has rested, or waited, for long enough.
const TICK: Duration = Duration::from_millis(250);
/// How often all of the agent's conversations are looked through for what was told nobody.
const LOOK_INTERVAL: Duration = Duration::from_secs(300);
/// Conversations that are looked through at once.
const LOOK_PAGE: usize = 256;
/// How long reading and posting one turn may take, whatever either's own bound is.
const CARRY_PATIENCE: Duration = Duration::from_secs(60);

/// What an agent's actor uses.
#[derive(Clone)]
pub struct AgentServices {
    /// Takes turns to agents.
    pub courier: Courier,
    /// Which conversations an agent has.
    pub directory: Arc<dyn Conversations>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Jitter.
    pub entropy: Entropy,
}

/// What it is started with.
pub struct AgentArguments {
    /// Which agent.
    pub agent: Arc<Agent>,
    /// What it uses.
    pub services: AgentServices,
    /// It was told something that there was no room for.
    pub missed: Arc<AtomicBool>,
}

/// What it is told.
#[derive(Debug)]
pub enum AgentMessage {
    /// Messages were stored in a conversation of the agent, in order.
    Stored(Arc<[Arc<Message>]>),
    /// The log of one of its conversations reaches up to here.
    LogReaches(ConversationId, u64),
    /// It says something else of itself now.
    Revised(Arc<Agent>),
    /// It is to stop answering a turn.
    Cancel(Cancel),
    /// It was told to, in this conversation, or could not be.
    Cancelled(ConversationId),
    /// Look through all of its conversations.
    Look,
    /// In these something is owed, or may be.
    Owed(Vec<(ConversationId, u64)>),
    /// All of them were looked through, or could not be.
    Looked(bool),
    /// A lane has come to this.
    Carried(ConversationId, Outcome),
    /// Time has passed.
    Tick,
}

/// The actor.
pub struct AgentActor;

/// Its state.
pub struct AgentState {
    agent: Arc<Agent>,
    services: AgentServices,
    missed: Arc<AtomicBool>,
    lanes: Lanes,
    cancels: Cancels,
    rng: StdRng,
    /// A look is under way.
    is_looking: bool,
    rounds: Rounds,
}

impl Actor for AgentActor {
    type Msg = Letter<AgentMessage>;
    type State = AgentState;
    type Arguments = AgentArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: AgentArguments,
    ) -> Result<AgentState, ActorProcessingErr> {
        let AgentArguments { agent, services, missed } = arguments;
        let (at_once, timeout) = limits_of(&agent);
        myself.send_interval(TICK, || Letter::uncounted(AgentMessage::Tick));
        Ok(AgentState {
            lanes: Lanes::new(at_once, timeout),
            cancels: Cancels::default(),
            rng: services.entropy.fork(),
            agent,
            services,
            missed,
            is_looking: false,
            rounds: Rounds::new(LOOK_INTERVAL, Instant::now()),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        letter: Self::Msg,
        state: &mut AgentState,
    ) -> Result<(), ActorProcessingErr> {
        befall(&state.services.metrics, ActorKind::Agent).await;
        let (message, _handling) = letter.open();
        match message {
            AgentMessage::Stored(messages) => state.stored(&myself, &messages),
            AgentMessage::LogReaches(conversation_id, end) => state.lanes.told(conversation_id, end),
            AgentMessage::Revised(agent) => {
                let (at_once, timeout) = limits_of(&agent);
                state.lanes.revise(at_once, timeout);
                state.agent = agent;
            }
            AgentMessage::Cancel(cancel) => state.cancel(&myself, cancel),
            AgentMessage::Cancelled(conversation_id) => {
                if let Some(next) = state.cancels.ended(conversation_id) {
                    state.tell_to_stop(&myself, next);
                }
            }
            AgentMessage::Look => state.rounds.placed_anew(Instant::now()),
            AgentMessage::Owed(owed) => {
                owed.into_iter().for_each(|(conversation_id, end)| state.lanes.found(conversation_id, end));
            }
            AgentMessage::Looked(is_done) => {
                state.is_looking = false;
                if !is_done {
                    state.rounds.missed(Instant::now());
                }
            }
            AgentMessage::Carried(conversation_id, outcome) => {
                state.services.metrics.turn(match outcome {
                    Outcome::Taken { .. } => TurnOutcome::Taken,
                    Outcome::Failed { .. } => TurnOutcome::Failed,
                    Outcome::Refused { .. } => TurnOutcome::Refused,
                    Outcome::Buried { .. } => TurnOutcome::Dead,
                    Outcome::Unread => TurnOutcome::Unread,
                    Outcome::Nothing { .. } | Outcome::NotOurs => TurnOutcome::Nothing,
                });
                let settled = state.lanes.ended(conversation_id, outcome, Instant::now(), &mut state.rng);
                state.settled(conversation_id, settled);
                // Something newer may have been asked while it was being posted.
                state.interrupt(&myself, conversation_id);
            }
            AgentMessage::Tick => {
                state.lanes.tick(Instant::now(), &mut state.rng);
                if state.missed.swap(false, Ordering::SeqCst) {
                    state.rounds.missed(Instant::now());
                }
                state.look_if_due(&myself);
            }
        }
        state.start(&myself);
        Ok(())
    }
}

impl AgentState {
    fn stored(&mut self, myself: &ActorRef<Letter<AgentMessage>>, messages: &[Arc<Message>]) {
        for message in messages {
            let conversation_id = message.conversation_id;
            if message.sender_id != self.agent.user_id {
                if message.begins_turn() {
                    self.lanes.asked(conversation_id, message.sequence_number);
                    self.interrupt(myself, conversation_id);
                } else {
                    self.lanes.told(conversation_id, message.sequence_number);
                }
            } else if let Some(turn_id) = message.answered_turn() {
                let settled = self.lanes.answered(conversation_id, turn_id);
                self.settled(conversation_id, settled);
            }
        }
    }

    /// An agent that answers the newest question is told to stop answering one before it.
    fn interrupt(&mut self, myself: &ActorRef<Letter<AgentMessage>>, conversation_id: ConversationId) {
        if self.agent.profile.when_busy == WhenBusy::Interrupt
            && let Some(turn_id) = self.lanes.superseded(conversation_id)
        {
            let reason = CancelReason::Interrupted;
            self.cancel(myself, Cancel { conversation_id, turn_id, reason });
        }
    }

    /// Tells the agent, now or after what it is being told.
    fn cancel(&mut self, myself: &ActorRef<Letter<AgentMessage>>, cancel: Cancel) {
        if self.cancels.begin(cancel) {
            self.tell_to_stop(myself, cancel);
        }
    }

    fn tell_to_stop(&self, myself: &ActorRef<Letter<AgentMessage>>, cancel: Cancel) {
        let conversation_id = cancel.conversation_id;
        let (courier, agent, myself) =
            (self.services.courier.clone(), Arc::clone(&self.agent), myself.clone());
        tokio::spawn(async move {
            let _ = outcome(CARRY_PATIENCE, courier.cancel(&agent, cancel)).await;
            let _ = myself.cast(Letter::uncounted(AgentMessage::Cancelled(conversation_id)));
        });
    }

    /// A turn has its answer: everybody hears that the agent has read so far.
    fn settled(&self, conversation_id: ConversationId, through: Option<u64>) {
        let Some(through) = through else { return };
        self.services.metrics.turn(TurnOutcome::Answered);
        let (courier, agent) = (self.services.courier.clone(), self.agent.user_id);
        // Lost, it is found again in the log.
        tokio::spawn(async move { courier.settled(agent, conversation_id, through).await });
    }

    fn start(&mut self, myself: &ActorRef<Letter<AgentMessage>>) {
        while let Some(start) = self.lanes.start(Instant::now()) {
            let (courier, agent, myself) =
                (self.services.courier.clone(), Arc::clone(&self.agent), myself.clone());
            tokio::spawn(async move {
                let carried = outcome(CARRY_PATIENCE, courier.carry(&agent, start)).await;
                let carried = carried.unwrap_or(Outcome::Unread);
                // One that has ended finds out anew.
                let _ = myself.cast(Letter::uncounted(AgentMessage::Carried(start.conversation_id, carried)));
            });
        }
    }

    fn look_if_due(&mut self, myself: &ActorRef<Letter<AgentMessage>>) {
        if self.is_looking || !self.rounds.begin_if_due(Instant::now()) {
            return;
        }
        self.is_looking = true;
        let (services, agent, myself) = (self.services.clone(), Arc::clone(&self.agent), myself.clone());
        tokio::spawn(async move {
            let looked = look(&services, &agent, &myself).await;
            let _ = myself.cast(Letter::uncounted(AgentMessage::Looked(looked.is_ok())));
        });
    }
}

/// Looks through all conversations of an agent for those that go on after what it has read.
async fn look(
    services: &AgentServices,
    agent: &Agent,
    myself: &ActorRef<Letter<AgentMessage>>,
) -> StoreResult<()> {
    let cursors = answered(services.courier.cursors.of_user(agent.user_id)).await?;
    let read = cursors.into_iter().filter(|cursor| cursor.kind == CursorKind::Read);
    let read: HashMap<ConversationId, u64> =
        read.map(|cursor| (cursor.conversation_id, cursor.through)).collect();
    let mut after = None;
    loop {
        let page = answered(services.directory.walk(agent.user_id, after, LOOK_PAGE)).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.conversation.conversation_id);
        let place = |at: &colloquy_storage::model::conversation::ConversationAtEnd| {
            (at.conversation.conversation_id, at.end.last_sequence)
        };
        let is_owed = |(conversation_id, end): &(ConversationId, u64)| {
            *end > read.get(conversation_id).copied().unwrap_or(0)
        };
        let owed: Vec<_> = page.iter().map(place).filter(is_owed).collect();
        if !owed.is_empty() && myself.cast(Letter::uncounted(AgentMessage::Owed(owed))).is_err() {
            return Ok(());
        }
    }
}

fn limits_of(agent: &Agent) -> (usize, Duration) {
    let limits = agent.profile.limits;
    let at_once = usize::try_from(limits.turns_at_once).unwrap_or(usize::MAX);
    (at_once, Duration::from_millis(limits.turn_timeout_ms))
}
