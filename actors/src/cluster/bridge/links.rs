//! The handle of a bridge: outlives its restarts, and may be used before it runs.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use colloquy_storage::model::live::{Member, PodId};
use ractor::ActorRef;

use super::actor::{BridgeMessage, Told};
use super::outgoing::{Outgoing, Taken};

/// Why a frame was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsent {
    /// No link stands to this pod.
    #[error("there is no link to this pod")]
    NoLink,
    /// As much is on its way as may be (see [`super::WINDOW_FRAMES`]).
    #[error("too much is on its way to this pod")]
    Full,
    /// The frame is larger than [`super::FRAME_MAX`].
    #[error("the frame is too large")]
    TooLarge,
}

/// Sends to the other pods, and says who they are.
#[derive(Clone, Debug, Default)]
pub struct Links(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// The links that stand. Read for every frame, written by the bridge alone.
    standing: ArcSwap<HashMap<PodId, Arc<Outgoing>>>,
    bridge: ArcSwapOption<ActorRef<BridgeMessage>>,
    members: Mutex<Vec<Member>>,
    /// The bridge has been told that the members have changed, and has not yet looked.
    members_told: AtomicBool,
    local_address: ArcSwapOption<SocketAddr>,
}

impl Links {
    /// Hands a frame to the link to `peer`; never waits. That it was taken does not mean that it arrives.
    ///
    /// # Errors
    /// [`Unsent`] says why it was not taken.
    #[expect(clippy::needless_pass_by_value, reason = "whoever sends a frame is done with it")]
    pub fn send(&self, peer: &PodId, frame: Vec<u8>) -> Result<(), Unsent> {
        let standing = self.0.standing.load();
        let outgoing = standing.get(peer).ok_or(Unsent::NoLink)?;
        if outgoing.push(&frame)? == Taken::Ask {
            // If the bridge has died meanwhile, so has the link.
            self.tell(Told::Empty(Arc::clone(outgoing)));
        }
        Ok(())
    }

    /// Does a link to this pod stand?
    #[must_use]
    pub fn is_up(&self, peer: &PodId) -> bool {
        self.0.standing.load().contains_key(peer)
    }

    /// The pods to which links stand.
    #[must_use]
    pub fn standing(&self) -> BTreeSet<PodId> {
        self.0.standing.load().keys().cloned().collect()
    }

    /// Says who is to be linked to; this pod itself is skipped. Connects to who is new, lets go of who is gone or has
    /// another incarnation now.
    pub fn set_members(&self, members: Vec<Member>) {
        *self.0.members.lock().unwrap_or_else(PoisonError::into_inner) = members;
        if !self.0.members_told.swap(true, Ordering::SeqCst) {
            self.tell(Told::MembersChanged);
        }
    }

    /// Where the bridge listens, once it does.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.0.local_address.load().as_deref().copied()
    }

    /// The members, as they were set last. Asked by the bridge when it starts, and when it was told of a change.
    pub(super) fn members(&self) -> Vec<Member> {
        // Before the look: what is set after it tells the bridge again.
        self.0.members_told.store(false, Ordering::SeqCst);
        self.0.members.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Points the handle at a new incarnation of the bridge, which listens there.
    pub(super) fn install(&self, bridge: ActorRef<BridgeMessage>, local_address: SocketAddr) {
        self.0.local_address.store(Some(Arc::new(local_address)));
        self.0.bridge.store(Some(Arc::new(bridge)));
    }

    /// A link stands.
    pub(super) fn stand(&self, outgoing: &Arc<Outgoing>) {
        let mut standing = HashMap::clone(&self.0.standing.load());
        standing.insert(outgoing.peer.clone(), Arc::clone(outgoing));
        self.0.standing.store(Arc::new(standing));
    }

    /// It no longer does.
    pub(super) fn fall(&self, outgoing: &Outgoing) {
        outgoing.close();
        let mut standing = HashMap::clone(&self.0.standing.load());
        standing.remove(&outgoing.peer);
        self.0.standing.store(Arc::new(standing));
    }

    #[cfg(test)]
    pub(super) fn outgoing(&self, peer: &PodId) -> Option<Arc<Outgoing>> {
        self.0.standing.load().get(peer).cloned()
    }

    fn tell(&self, told: Told) {
        if let Some(bridge) = &*self.0.bridge.load() {
            // One that has ended is replaced by one that looks for itself.
            let _ = bridge.cast(BridgeMessage(told));
        }
    }
}
