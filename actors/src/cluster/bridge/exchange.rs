//! Who is linked over which connection: the bridge's state, and what it does at each event.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use colloquy_storage::model::live::{Member, PodId};
use ractor::ActorRef;
use ractor_cluster::{NodeServerMessage, NodeSessionMessage};
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::actor::{BridgeMessage, Told};
use super::connections::{Connection, Connections};
use super::link::{Due, Greeter, Link};
use super::links::Links;
use super::outgoing::Outgoing;
use super::packet::{Filling, Hello, Packet, Parcel};
use super::peer::Peer;
use super::{GREETING_MAX, LinkEvents};
use crate::metrics::Metrics;

/// The bridge's state.
pub(super) struct Exchange {
    pub(super) greeter: Greeter,
    pub(super) links: Links,
    pub(super) events: Arc<dyn LinkEvents>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) rng: StdRng,
    pub(super) node: ActorRef<NodeServerMessage>,
    /// Who is to be linked to.
    pub(super) peers: BTreeMap<PodId, Peer>,
    pub(super) connections: Connections,
    /// Attempts and links, at most one for each peer.
    pub(super) carried: BTreeMap<PodId, Carried>,
    /// The peers, by the number that this end gave to the attempt.
    pub(super) numbers: HashMap<u64, PodId>,
}

/// An attempt at a link, or a link, and what it goes over.
pub(super) struct Carried {
    link: Link,
    connection: u64,
    /// The peer's bridge, as this connection's session mirrors it.
    mirror: ActorRef<BridgeMessage>,
    /// Filled by senders once the link is up.
    outgoing: Option<Arc<Outgoing>>,
}

impl Exchange {
    /// The members have been set anew.
    pub(super) fn members_changed(&mut self, now: Instant) {
        let members = self.links.members().into_iter();
        let members: BTreeMap<PodId, Member> = members
            .filter(|member| member.pod_id != self.greeter.pod_id)
            .map(|member| (member.pod_id.clone(), member))
            .collect();
        let stays = |peer: &Peer| {
            members.get(&peer.member.pod_id).is_some_and(|now| now.incarnation == peer.member.incarnation)
        };
        let gone: Vec<PodId> =
            self.peers.iter().filter(|(_, peer)| !stays(peer)).map(|(pod_id, _)| pod_id.clone()).collect();
        let mut linked_before = Vec::new();
        for pod_id in gone {
            self.lose(&pod_id, now, "the pod is no member any more");
            if self.peers.remove(&pod_id).is_some_and(|peer| peer.was_linked) {
                linked_before.push(pod_id);
            }
        }
        for (pod_id, member) in members {
            let was_linked = linked_before.contains(&pod_id);
            match self.peers.get_mut(&pod_id) {
                Some(peer) => peer.member = member,
                None => {
                    let mut peer = Peer::of(&self.greeter.pod_id, member, now);
                    peer.was_linked = was_linked;
                    self.peers.insert(pod_id, peer);
                }
            }
        }
        // Pods that were here before they were members.
        for number in self.connections.ready() {
            self.attempt(number, now);
        }
    }

    /// Whom to dial now.
    pub(super) fn dials(&mut self, now: Instant) -> Vec<Member> {
        let carried = &self.carried;
        let due = self.peers.values_mut().filter(|peer| !carried.contains_key(&peer.member.pod_id));
        due.filter_map(|peer| peer.dial(now).then(|| peer.member.clone())).collect()
    }

    /// A dial came to nothing.
    pub(super) fn dial_failed(&mut self, member: &Member, error: &std::io::Error, now: Instant) {
        let Some(peer) = self.peers.get_mut(&member.pod_id) else { return };
        if peer.is(&member.pod_id, member.incarnation) {
            peer.lost(now, &mut self.rng);
            if !std::mem::replace(&mut peer.refusal_told, true) {
                tracing::warn!(pod = %member.pod_id, %error, "a pod cannot be reached; it is tried again");
            }
        }
    }

    /// A connection stands: `ractor_cluster` makes a session of it.
    pub(super) fn connected(&mut self, transport: super::transport::Transport, connection: Connection) {
        let is_server = connection.dialled.is_none();
        let remote = transport.remote;
        let stream = self.connections.add(transport, connection);
        tracing::debug!(%remote, is_server, "a connection of the bridge stands");
        // If it has ended, so will the bridge.
        let _ = self.node.cast(NodeServerMessage::ConnectionOpenedExternal { stream, is_server });
    }

    /// A session was made.
    pub(super) fn session_opened(&mut self, number: Option<u64>, session: ActorRef<NodeSessionMessage>) {
        match number.and_then(|number| self.connections.get_mut(number)) {
            Some(connection) => connection.session = Some(session),
            // Closed meanwhile; or it came in by `ractor_cluster`'s own listener, which is nobody's way in.
            None => session.stop(None),
        }
    }

    /// A session has shown that it knows the cookie.
    pub(super) fn session_authenticated(&mut self, number: u64) {
        if let Some(connection) = self.connections.get_mut(number) {
            connection.authenticated = true;
        }
    }

    /// A session knows the actors of both sides.
    pub(super) fn session_ready(&mut self, number: u64, pod: Option<(PodId, u64)>, now: Instant) {
        if let Some(connection) = self.connections.get_mut(number) {
            connection.pod = pod;
            self.attempt(number, now);
        }
    }

    /// A session has ended.
    pub(super) fn session_ended(&mut self, number: u64, now: Instant) {
        let carried = self.carried.iter().find(|(_, carried)| carried.connection == number);
        match carried.map(|(pod_id, _)| pod_id.clone()) {
            Some(pod_id) => self.lose(&pod_id, now, "the connection has ended"),
            None => self.close(number, now),
        }
    }

    /// Greets the pod at the other end, if it is one that is to be linked to.
    fn attempt(&mut self, number: u64, now: Instant) {
        let Some(connection) = self.connections.get_mut(number) else { return };
        let Some((pod_id, incarnation)) = connection.pod.clone() else { return };
        if !self.peers.get(&pod_id).is_some_and(|peer| peer.is(&pod_id, incarnation)) {
            // It may be a member soon. If not, the connection's time runs out.
            return;
        }
        if self.carried.get(&pod_id).is_some_and(|carried| carried.connection == number) {
            return;
        }
        let Some(mirror) = connection.mirror(&actor_name(&pod_id, incarnation)) else {
            tracing::warn!(pod = %pod_id, "a pod does not show its bridge");
            return self.close(number, now);
        };
        // `ractor_cluster` says of one connection for each pod at a time that it is ready: the other is about to end.
        self.lose(&pod_id, now, "another connection takes its place");
        let own = self.rng.random_range(1..u64::MAX);
        let (link, hello) = Link::begin(own, &self.greeter, now);
        self.numbers.insert(own, pod_id.clone());
        say(&mirror, hello.encode());
        self.carried.insert(pod_id, Carried { link, connection: number, mirror, outgoing: None });
    }

    /// Something was said.
    pub(super) fn packet(&mut self, bytes: Vec<u8>, now: Instant) {
        match Packet::decode(bytes) {
            Ok(Packet::Hello(hello)) => self.greeted(&hello, now),
            Ok(Packet::Parcel(parcel)) => self.parcel(&parcel, now),
            // Nobody knows from whom; its link will fall by silence if that is how it goes on.
            Err(error) => tracing::warn!(%error, "the bridge was told something that it does not understand"),
        }
    }

    fn greeted(&mut self, hello: &Hello, now: Instant) {
        let pod_id = &hello.pod_id;
        let Some(peer) = self.peers.get_mut(pod_id) else { return };
        // Without an attempt of our own there is nothing to answer: when there is one, it greets, and that suffices.
        let Some(carried) = self.carried.get_mut(pod_id) else { return };
        if !peer.is(pod_id, hello.incarnation) {
            return;
        }
        let Ok(greeted) = carried.link.greeted(hello, &self.greeter, now) else {
            let (own, theirs) = (self.greeter.versions, hello.versions);
            if !std::mem::replace(&mut peer.refusal_told, true) {
                tracing::warn!(pod = %pod_id, ?own, ?theirs, "pods without a common version");
            }
            return self.lose(pod_id, now, "no common version");
        };
        if let Some(answer) = greeted.answer {
            say(&carried.mirror, answer.encode());
        }
        let Some(version) = greeted.up else { return };
        let metrics = &self.metrics;
        let outgoing = Outgoing::to(pod_id.clone(), &metrics.bridge_frames_sent, &metrics.bridge_refused);
        let outgoing = Arc::new(outgoing);
        carried.outgoing = Some(Arc::clone(&outgoing));
        if let Some(connection) = self.connections.get_mut(carried.connection) {
            connection.stranger = None;
        }
        // Before it is announced: whoever hears of it may send.
        self.links.stand(&outgoing);
        metrics.bridge_links.inc();
        if peer.linked() {
            metrics.bridge_reconnects.inc();
        }
        tracing::info!(pod = %pod_id, version, "a link stands");
        self.events.up(pod_id, hello.incarnation, version);
    }

    fn parcel(&mut self, parcel: &Parcel, now: Instant) {
        // Of an earlier link, otherwise.
        let Some(pod_id) = self.numbers.get(&parcel.to).cloned() else { return };
        if let Err(why) = self.take_in(&pod_id, parcel, now) {
            self.lose(&pod_id, now, why);
        }
    }

    fn take_in(&mut self, pod_id: &PodId, parcel: &Parcel, now: Instant) -> Result<(), &'static str> {
        let carried = self.carried.get_mut(pod_id).ok_or("its number is known, it is not")?;
        let outgoing = carried.outgoing.as_ref().ok_or("frames came before the greeting")?;
        if !carried.link.heard(now) {
            return Err("nothing was heard for too long");
        }
        if !outgoing.acknowledge(parcel.taken) {
            return Err("more was acknowledged than was sent");
        }
        for frame in parcel.frames() {
            let frame = frame.map_err(|_| "a malformed frame")?;
            carried.link.took(frame.len());
            self.metrics.bridge_frames_received.inc();
            self.events.received(pod_id, frame.to_vec());
        }
        if carried.link.owes_receipt() {
            carried.pulse(now);
        }
        Ok(())
    }

    /// Sends what waits.
    pub(super) fn empty(&mut self, outgoing: &Arc<Outgoing>, now: Instant) {
        let Some(carried) = self.carried.get_mut(&outgoing.peer) else { return };
        if carried.outgoing.as_ref().is_some_and(|current| Arc::ptr_eq(current, outgoing)) {
            for filling in outgoing.empty() {
                carried.send(filling, now);
            }
        }
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Instant) {
        let mut silent = Vec::new();
        for (pod_id, carried) in &mut self.carried {
            match carried.link.due(now) {
                Due::Nothing => {}
                Due::Pulse => carried.pulse(now),
                Due::Down => silent.push(pod_id.clone()),
            }
        }
        for pod_id in silent {
            self.lose(&pod_id, now, "nothing was heard for too long");
        }
        for number in self.connections.opened_before(now - GREETING_MAX) {
            let carried = self.carried.iter().find(|(_, carried)| carried.connection == number);
            match carried.map(|(pod_id, carried)| (pod_id.clone(), carried.link.is_up())) {
                Some((_, true)) => {}
                Some((pod_id, false)) => self.lose(&pod_id, now, "the greeting was not answered"),
                None => self.close(number, now),
            }
        }
    }

    /// Ends an attempt or a link, with its connection.
    fn lose(&mut self, pod_id: &PodId, now: Instant, why: &'static str) {
        let Some(carried) = self.carried.remove(pod_id) else { return };
        self.numbers.remove(&carried.link.number());
        // First, so that nothing more comes or goes.
        self.close(carried.connection, now);
        if let Some(outgoing) = carried.outgoing {
            tracing::warn!(pod = %pod_id, why, "a link is down");
            self.links.fall(&outgoing);
            self.metrics.bridge_links.dec();
            self.events.down(pod_id);
        }
    }

    fn close(&mut self, number: u64, now: Instant) {
        let Some(connection) = self.connections.remove(number) else { return };
        if !connection.authenticated {
            self.refused(&connection);
        }
        if let Some((pod_id, incarnation)) = &connection.dialled
            && let Some(peer) = self.peers.get_mut(pod_id)
            && peer.is(pod_id, *incarnation)
        {
            peer.lost(now, &mut self.rng);
        }
    }

    /// Says that a connection has ended before its other end had shown that it knows the cookie.
    fn refused(&mut self, connection: &Connection) {
        let Some((pod_id, _)) = &connection.dialled else {
            // Anybody can cause this, at any rate.
            return tracing::debug!("a stranger has left the bridge's port");
        };
        let Some(peer) = self.peers.get_mut(pod_id) else { return };
        if !std::mem::replace(&mut peer.refusal_told, true) {
            tracing::warn!(pod = %pod_id, "a pod does not let this one in; has it another cookie?");
        }
    }

    /// Ends everything; also done when the bridge is killed.
    pub(super) fn end(&mut self, now: Instant) {
        while let Some(pod_id) = self.carried.keys().next().cloned() {
            self.lose(&pod_id, now, "the bridge ends");
        }
        self.connections.clear();
    }
}

impl Carried {
    fn send(&mut self, filling: Filling, now: Instant) {
        if let Some((to, taken)) = self.link.speak(now) {
            say(&self.mirror, filling.seal(to, taken));
        }
    }

    fn pulse(&mut self, now: Instant) {
        self.send(Filling::for_frame(0), now);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.end(Instant::now());
    }
}

/// The name under which a bridge is found among a session's mirrors.
pub(super) fn actor_name(pod_id: &PodId, incarnation: u64) -> String {
    format!("colloquy-bridge/{pod_id}/{incarnation:016x}")
}

fn say(mirror: &ActorRef<BridgeMessage>, packet: Vec<u8>) {
    // A mirror ends with its session, which is announced.
    let _ = mirror.cast(BridgeMessage(Told::Packet(packet)));
}
