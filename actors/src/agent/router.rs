//! The parent of all agents' actors: one for each agent that is registered, as long as it is.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use colloquy_protocol::ids::{ConversationId, UserId};
use colloquy_protocol::limits::AGENTS_MAX;
use colloquy_storage::model::agent::Agent;
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::{Agents, StoreResult};
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};

use super::actor::{AgentActor, AgentArguments, AgentMessage, AgentServices};
use super::cancels::Cancel;
use super::routes::Routes;
use crate::cluster::Placement;
use crate::supervision::{ActorKind, Children, ExitReason, Letter, Mailbox, answered, befall};

/// How often it is looked which agents there are: an agent that is registered through one pod is known to all after this.
const REFRESH_INTERVAL: Duration = Duration::from_secs(2);
/// Letters that may wait at one agent. One more is dropped, and the agent looks through its conversations instead.
const AGENT_MAILBOX_CAPACITY: usize = 4096;

/// The agents that have an actor here. Cheap to clone, and to look into.
#[derive(Clone, Default)]
pub struct AgentIndex(Arc<ArcSwap<HashMap<UserId, Entry>>>);

#[derive(Clone)]
struct Entry {
    mailbox: Mailbox<AgentMessage>,
    missed: Arc<AtomicBool>,
}

impl std::fmt::Debug for AgentIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentIndex").field("agents", &self.0.load().len()).finish()
    }
}

impl AgentIndex {
    /// Messages were stored in a conversation of these users, in order.
    pub fn stored(&self, audience: &[UserId], messages: &Arc<[Arc<Message>]>) {
        self.tell(audience, || AgentMessage::Stored(Arc::clone(messages)));
    }

    /// The log of a conversation of these users reaches up to here.
    pub fn log_reaches(&self, audience: &[UserId], conversation_id: ConversationId, end: u64) {
        self.tell(audience, || AgentMessage::LogReaches(conversation_id, end));
    }

    /// An agent of a conversation of these users is to stop answering a turn.
    pub fn cancel(&self, audience: &[UserId], cancel: Cancel) {
        self.tell(audience, || AgentMessage::Cancel(cancel));
    }

    /// One of them, for chaos tests to kill.
    #[must_use]
    pub fn any(&self) -> Option<ActorCell> {
        self.0.load().values().next().map(|entry| entry.mailbox.cell())
    }

    fn tell(&self, audience: &[UserId], message: impl Fn() -> AgentMessage) {
        let agents = self.0.load();
        if agents.is_empty() {
            return;
        }
        for entry in audience.iter().filter_map(|user_id| agents.get(user_id)) {
            if entry.mailbox.try_cast(message()).is_err() {
                // An actor that has ended is started again, and looks for itself.
                entry.missed.store(true, Ordering::SeqCst);
            }
        }
    }
}

/// What the router is told.
#[derive(Debug)]
pub enum AgentRouterMessage {
    /// Look which agents there are.
    Refresh,
    /// These, if that could be read.
    Listed(StoreResult<Vec<Agent>>),
}

/// What it is started with.
#[derive(Clone)]
pub struct AgentRouterArguments {
    /// Which agents there are.
    pub agents: Arc<dyn Agents>,
    /// Where conversations find their actors.
    pub index: AgentIndex,
    /// Where people find agents.
    pub routes: Routes,
    /// Handed to every agent.
    pub services: AgentServices,
}

/// The actor.
pub struct AgentRouter;

/// Its state.
pub struct AgentRouterState {
    services: AgentRouterArguments,
    running: HashMap<UserId, Running>,
    children: Children,
    /// How conversations were placed when it was looked last: with another placement, others belong to this pod.
    placement: Option<Arc<Placement>>,
    is_refreshing: bool,
}

struct Running {
    agent: Arc<Agent>,
    entry: Entry,
}

impl AgentRouter {
    /// Starts the router under `parent`.
    ///
    /// # Errors
    /// If the parent is stopping.
    pub async fn start(arguments: AgentRouterArguments, parent: ActorCell) -> Result<ActorCell, SpawnErr> {
        let metrics = Arc::clone(&arguments.services.metrics);
        let (actor, _) = Actor::spawn_linked(None, Self, arguments, parent).await?;
        metrics.actor_started(ActorKind::AgentRouter);
        let _ = actor.cast(Letter::uncounted(AgentRouterMessage::Refresh));
        actor.send_interval(REFRESH_INTERVAL, || Letter::uncounted(AgentRouterMessage::Refresh));
        Ok(actor.get_cell())
    }
}

impl Actor for AgentRouter {
    type Msg = Letter<AgentRouterMessage>;
    type State = AgentRouterState;
    type Arguments = AgentRouterArguments;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        services: AgentRouterArguments,
    ) -> Result<AgentRouterState, ActorProcessingErr> {
        // Those of an earlier incarnation died with it.
        services.index.0.store(Arc::default());
        let children = Children::new(ActorKind::Agent, Arc::clone(&services.services.metrics));
        let running = HashMap::new();
        Ok(AgentRouterState { services, running, children, placement: None, is_refreshing: false })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        letter: Self::Msg,
        state: &mut AgentRouterState,
    ) -> Result<(), ActorProcessingErr> {
        befall(&state.services.services.metrics, ActorKind::AgentRouter).await;
        let (message, _handling) = letter.open();
        match message {
            AgentRouterMessage::Refresh => state.refresh(&myself),
            AgentRouterMessage::Listed(listed) => {
                state.is_refreshing = false;
                match listed {
                    Ok(agents) => state.are(&myself, agents).await?,
                    Err(error) => tracing::warn!(%error, "which agents there are cannot be read"),
                }
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut AgentRouterState,
    ) -> Result<(), ActorProcessingErr> {
        if state.children.observe(&event).is_some()
            && let Some(cell) = event.actor_cell()
        {
            // The next refresh starts another one: that is the backoff.
            state.forget(cell.get_id());
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut AgentRouterState,
    ) -> Result<(), ActorProcessingErr> {
        state.children.stop(&myself.get_cell()).await;
        Ok(())
    }
}

impl AgentRouterState {
    fn refresh(&mut self, myself: &ActorRef<Letter<AgentRouterMessage>>) {
        if self.is_refreshing {
            return;
        }
        self.is_refreshing = true;
        let (agents, myself) = (Arc::clone(&self.services.agents), myself.clone());
        tokio::spawn(async move {
            let listed = answered(agents.list(None, AGENTS_MAX)).await;
            let _ = myself.cast(Letter::uncounted(AgentRouterMessage::Listed(listed)));
        });
    }

    /// These are registered: starts, tells and stops actors accordingly.
    async fn are(
        &mut self,
        myself: &ActorRef<Letter<AgentRouterMessage>>,
        agents: Vec<Agent>,
    ) -> Result<(), ActorProcessingErr> {
        self.services.routes.know(&agents);
        let registered: BTreeSet<UserId> = agents.iter().map(|agent| agent.user_id).collect();
        let gone = self.running.iter().filter(|(user_id, _)| !registered.contains(user_id));
        for running in gone.map(|(_, running)| running) {
            running.entry.mailbox.cell().stop(ExitReason::Stopped.as_stop_reason());
        }
        self.running.retain(|user_id, _| registered.contains(user_id));
        for agent in agents {
            match self.running.get_mut(&agent.user_id) {
                None => self.begin(myself, Arc::new(agent)).await?,
                Some(running) if running.agent.revision != agent.revision => {
                    running.agent = Arc::new(agent);
                    let revised = AgentMessage::Revised(Arc::clone(&running.agent));
                    // At most one for each change of the registry.
                    let _ = running.entry.mailbox.cast_beyond_capacity(revised);
                }
                Some(_) => {}
            }
        }
        self.publish();
        self.look_if_placed_anew();
        Ok(())
    }

    async fn begin(
        &mut self,
        myself: &ActorRef<Letter<AgentRouterMessage>>,
        agent: Arc<Agent>,
    ) -> Result<(), ActorProcessingErr> {
        let (services, missed) = (self.services.services.clone(), Arc::new(AtomicBool::new(false)));
        let depth = services.metrics.depth_of(ActorKind::Agent);
        let arguments = AgentArguments { agent: Arc::clone(&agent), services, missed: Arc::clone(&missed) };
        let (actor, _) = Actor::spawn_linked(None, AgentActor, arguments, myself.get_cell()).await?;
        let mailbox = Mailbox::new(actor, depth, AGENT_MAILBOX_CAPACITY);
        self.running.insert(agent.user_id, Running { agent, entry: Entry { mailbox, missed } });
        Ok(())
    }

    fn forget(&mut self, actor_id: ActorId) {
        let before = self.running.len();
        self.running.retain(|_, running| running.entry.mailbox.cell().get_id() != actor_id);
        if self.running.len() != before {
            self.publish();
        }
    }

    fn publish(&self) {
        let entries = self.running.iter().map(|(user_id, running)| (*user_id, running.entry.clone()));
        self.services.index.0.store(Arc::new(entries.collect()));
    }

    fn look_if_placed_anew(&mut self) {
        let Some(cluster) = &self.services.services.courier.cluster else { return };
        let placement = cluster.placement();
        if self.placement.as_ref() != Some(&placement) {
            self.placement = Some(placement);
            for running in self.running.values() {
                let _ = running.entry.mailbox.try_cast(AgentMessage::Look);
            }
        }
    }
}
