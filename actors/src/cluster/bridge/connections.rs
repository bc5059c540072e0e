//! The connections that stand, by number.

use std::collections::BTreeMap;

use colloquy_storage::model::live::PodId;
use ractor::ActorRef;
use ractor_cluster::{ClusterBidiStream, NodeSessionMessage};
use tokio::time::Instant;

use super::actor::BridgeMessage;
use super::gate::Stranger;
use super::transport::{Cutter, Transport};

/// A connection. Removed, it is cut and its session stopped.
pub(super) struct Connection {
    /// Whom this pod has dialled; `None` if it was dialled itself.
    pub(super) dialled: Option<(PodId, u64)>,
    /// Its place among those that do not carry a link yet, if it came in by the gate.
    pub(super) stranger: Option<Stranger>,
    /// What `ractor_cluster` has made of it.
    pub(super) session: Option<ActorRef<NodeSessionMessage>>,
    /// The other end knows the cookie.
    pub(super) authenticated: bool,
    /// Which pod it says it is, and which incarnation, once the session is ready.
    pub(super) pod: Option<(PodId, u64)>,
    since: Instant,
    cutter: Option<Cutter>,
}

impl Connection {
    /// Opened now; dialled to this pod, or by a stranger.
    pub(super) fn new(dialled: Option<(PodId, u64)>, stranger: Option<Stranger>, now: Instant) -> Self {
        let (session, authenticated, pod, cutter) = (None, false, None, None);
        Self { dialled, stranger, session, authenticated, pod, since: now, cutter }
    }

    /// The mirror of the other end's bridge.
    pub(super) fn mirror(&self, name: &str) -> Option<ActorRef<BridgeMessage>> {
        let children = self.session.as_ref()?.get_cell().get_children();
        let is_it = |child: &ractor::ActorCell| {
            !child.get_id().is_local() && child.get_name().is_some_and(|known| known == name)
        };
        children.into_iter().find(is_it).map(ActorRef::from)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // First the socket: nothing that is still on its way through the session's actors gets out.
        drop(self.cutter.take());
        if let Some(session) = &self.session {
            session.stop(None);
            // A session that is killed with the bridge does not do this itself, and would be told for ever of every actor.
            ractor::registry::pid_registry::demonitor(session.get_id());
        }
    }
}

/// All of them. Those that came in by the gate are bounded by it until they carry a link; the rest by the members.
#[derive(Default)]
pub(super) struct Connections {
    next: u64,
    standing: BTreeMap<u64, Connection>,
}

impl Connections {
    /// Takes one in and gives it a number.
    pub(super) fn add(
        &mut self,
        transport: Transport,
        mut connection: Connection,
    ) -> Box<dyn ClusterBidiStream> {
        self.next += 1;
        let (cutter, stream) = transport.numbered(self.next);
        connection.cutter = Some(cutter);
        self.standing.insert(self.next, connection);
        stream
    }

    /// One.
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Connection> {
        self.standing.get_mut(&number)
    }

    /// Takes one out, which ends it when it is dropped.
    pub(super) fn remove(&mut self, number: u64) -> Option<Connection> {
        self.standing.remove(&number)
    }

    /// Those of which it is known who is at the other end.
    pub(super) fn ready(&self) -> Vec<u64> {
        let ready = self.standing.iter().filter(|(_, connection)| connection.pod.is_some());
        ready.map(|(number, _)| *number).collect()
    }

    /// Those that were opened before.
    pub(super) fn opened_before(&self, then: Instant) -> Vec<u64> {
        let old = self.standing.iter().filter(|(_, connection)| connection.since <= then);
        old.map(|(number, _)| *number).collect()
    }

    /// Ends all.
    pub(super) fn clear(&mut self) {
        self.standing.clear();
    }
}
