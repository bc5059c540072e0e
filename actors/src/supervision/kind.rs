//! The kinds of actor there are: the label under which exits, restarts and mailboxes are counted.

use prometheus_client::encoding::EncodeLabelValue;

/// A kind of actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelValue)]
pub enum ActorKind {
    /// The root of the tree.
    Node,
    /// Links to other pods.
    Bridge,
    /// Group commit.
    StoreWriter,
    /// Who is online, for a share of the users.
    PresenceTracker,
    /// Has sessions look for themselves what they have missed.
    Sweeper,
    /// Enters connected devices in the live directory.
    Registrar,
    /// Tells other pods what their sessions have to hear of.
    Herald,
    /// Takes in what other pods ask.
    Reception,
    /// Takes in what other pods tell.
    Listener,
    /// Says that this pod runs, and sees who else does.
    Membership,
    /// Parent of all agents.
    AgentRouter,
    /// Takes turns to one agent.
    Agent,
    /// Has all messages told to whoever is to be.
    Feed,
    /// Finds, starts and passivates conversations.
    ConversationDirectory,
    /// Owner and sequencer of one conversation.
    Conversation,
    /// Parent of all sessions.
    SessionSupervisor,
    /// One WebSocket connection.
    Session,
}

impl ActorKind {
    /// Every kind, from the root down.
    pub const ALL: &[ActorKind] = &[
        Self::Node,
        Self::Bridge,
        Self::StoreWriter,
        Self::PresenceTracker,
        Self::Sweeper,
        Self::Registrar,
        Self::Herald,
        Self::Reception,
        Self::AgentRouter,
        Self::Agent,
        Self::Feed,
        Self::ConversationDirectory,
        Self::Conversation,
        Self::Listener,
        Self::Membership,
        Self::SessionSupervisor,
        Self::Session,
    ];
}
