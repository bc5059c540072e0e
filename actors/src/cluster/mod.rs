//! Several pods: which owns what, and what they say to each other.
//!
//! | file | noun |
//! |---|---|
//! | `placement` | which pod ought to own a conversation (pure) |
//! | `view` | who is a member, as this pod sees it (pure) |
//! | `wire` | what pods say to each other, as bytes (pure) |
//! | `numbers` | notices what was lost between them (pure) |
//! | [`bridge`] | the links to other pods, and what waits to be sent over them |
//! | `forwarding` | messages on their way to owners elsewhere, and the answers owed for them |
//! | `contacts` | who is told that a session has ended |
//! | `foreign` | sessions elsewhere that have sent messages to owners here |
//! | `switchboard` | takes in frames from other pods |
//! | `reception` | hands what other pods ask to the conversations of this one |
//! | `herald` | tells other pods what their sessions have to hear of |
//! | `listener` | takes in what other pods tell |
//! | `registrar` | enters connected devices in the live directory |
//! | `membership` | says that this pod runs, sees who else does, places conversations |
//! | `pod` | all of these as children of the node's tree |
//! | `sweeper` | has sessions look for themselves what was not told |
//!
//! Nothing here is needed for safety: two pods that both take themselves for a conversation's owner are told apart by the
//! log (FENCE), a message passed on twice is one by its key (ONCE), and a hint that is lost is made good by reading the
//! log (NOLOSS).

pub mod bridge;
mod contacts;
mod foreign;
mod forwarding;
mod herald;
mod listener;
mod membership;
mod numbers;
mod placement;
mod pod;
mod reception;
mod registrar;
mod sweeper;
mod switchboard;
#[cfg(test)]
mod tests;
mod view;
mod wire;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use colloquy_protocol::ids::{ConversationId, SessionId, UserId};
use colloquy_storage::model::live::PodId;
use tokio::time::Instant;

pub use foreign::{ForeignSession, ForeignSessions};
pub use forwarding::Forwarding;
pub use herald::{Herald, HeraldActor, HeraldArguments, HeraldMessage};
pub use listener::{ListenerActor, ListenerArguments, ListenerMessage};
pub use membership::{Membership, MembershipActor, MembershipArguments, MembershipMessage};
pub use numbers::Numbers;
pub use placement::Placement;
pub use pod::{Pod, PodArguments, Shared};
pub use reception::{Reception, ReceptionActor, ReceptionArguments, ReceptionMessage};
pub use registrar::{Registrar, RegistrarActor, RegistrarArguments, RegistrarMessage};
pub use sweeper::{Sweeper, SweeperActor, SweeperArguments, SweeperMessage};
pub use switchboard::{Neighbourhood, Switchboard};
pub use view::{Ended, View};
pub use wire::{Bulletin, Frame, Hint, Notice, PROTOCOL, Sighting, Tidings, decode, encode};

use crate::conversation::{Ephemeral, Moved, SenderOrder, Submission};

/// The way from this pod's sessions to the conversations of others.
#[derive(Clone, Debug)]
pub struct Cluster(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    own: PodId,
    placement: ArcSwap<Placement>,
    pods: ArcSwap<BTreeSet<PodId>>,
    draining: AtomicBool,
    forwarding: Forwarding,
}

impl Cluster {
    /// Of a pod that takes itself for the only one until it [hears otherwise](Self::place).
    #[must_use]
    pub fn new(own: PodId, forwarding: Forwarding) -> Self {
        let placement = ArcSwap::from_pointee(Placement::among([own.clone()]));
        let (pods, draining) = (ArcSwap::default(), AtomicBool::new(false));
        Self(Arc::new(Inner { own, placement, pods, draining, forwarding }))
    }

    /// This pod.
    #[must_use]
    pub fn own(&self) -> &PodId {
        &self.0.own
    }

    /// These are the other pods now.
    pub fn pods_are(&self, pods: BTreeSet<PodId>) {
        self.0.pods.store(Arc::new(pods));
    }

    /// The other pods.
    #[must_use]
    pub fn pods(&self) -> Arc<BTreeSet<PodId>> {
        self.0.pods.load_full()
    }

    /// This pod takes no more conversations. Never taken back.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::SeqCst);
    }

    /// Does it take none any more?
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::SeqCst)
    }

    /// From now on conversations belong where this places them.
    pub fn place(&self, placement: Placement) {
        self.0.placement.store(Arc::new(placement));
    }

    /// Where conversations belong now.
    #[must_use]
    pub fn placement(&self) -> Arc<Placement> {
        self.0.placement.load_full()
    }

    /// The other pod that ought to own a conversation; `None` if it is this one.
    #[must_use]
    pub fn elsewhere(&self, conversation_id: ConversationId) -> Option<PodId> {
        let placement = self.0.placement.load();
        placement.owner_of(conversation_id).filter(|owner| **owner != self.0.own).cloned()
    }

    /// Does a conversation belong to another pod? Never, where there are no others.
    #[must_use]
    pub fn is_elsewhere(cluster: Option<&Self>, conversation_id: ConversationId) -> bool {
        cluster.is_some_and(|cluster| cluster.elsewhere(conversation_id).is_some())
    }

    /// Gives up waiting for what has not been answered for too long.
    pub fn expire(&self, now: Instant) {
        self.0.forwarding.expire(now);
    }

    /// Passes a message on to its owner.
    pub fn submit(&self, to: &PodId, submission: Submission) {
        self.0.forwarding.submit(to, submission);
    }

    /// Passes on that a message was refused before it came to its owner.
    pub fn skip(
        &self,
        to: &PodId,
        (session_id, user_id): (SessionId, UserId),
        conversation_id: ConversationId,
        order: SenderOrder,
    ) {
        self.0.forwarding.skip(to, (session_id, user_id), conversation_id, order);
    }

    /// Passes on that a session has ended, to whoever has had something from it.
    pub fn session_ended(&self, session_id: SessionId) {
        self.0.forwarding.session_ended(session_id);
    }

    /// Passes on how far a participant has come.
    pub fn advance(&self, to: &PodId, conversation_id: ConversationId, user_id: UserId, moved: Moved) {
        self.0.forwarding.tell(to, &Frame::Advance { conversation_id, user_id, moved });
    }

    /// Passes on what a participant says for now or never.
    pub fn say(&self, to: &PodId, conversation_id: ConversationId, user_id: UserId, said: Ephemeral) {
        self.0.forwarding.tell(to, &Frame::Said { conversation_id, user_id, said });
    }
}
