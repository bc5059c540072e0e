//! The membership: says in the live directory that this pod runs, sees who else does, and places conversations among
//! those that can be reached.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use colloquy_storage::model::live::{Member, PodId};
use colloquy_storage::ports::StoreResult;
use colloquy_storage::ports::live::{Channel, LiveDirectory};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};

use super::bridge::Links;
use super::switchboard::Neighbourhood;
use super::view::Ended;
use super::{Cluster, Herald, Placement, Sweeper, View};
use crate::conversation::ConversationIndex;
use crate::metrics::Metrics;
use crate::presence::{TrackerMessage, Trackers};
use crate::supervision::{ActorKind, Address, Letter, Mailbox, answered, befall};

/// How often this pod says that it runs, and looks who else does.
const BEAT: Duration = Duration::from_secs(2);
/// How long what it says holds: a pod that has said nothing for so long is taken for dead.
const MEMBER_TTL: Duration = Duration::from_secs(10);
/// How long a pod that stops may take to say so.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
/// Letters that may wait; links come and go seldom.
const MAILBOX_CAPACITY: usize = 1024;

/// Where to tell the membership.
#[derive(Clone, Debug)]
pub struct Membership {
    address: Address<MembershipMessage>,
    settled: Arc<watch::Sender<bool>>,
    has_others: Arc<AtomicBool>,
}

impl Default for Membership {
    fn default() -> Self {
        let settled = Arc::new(watch::Sender::new(false));
        Self { address: Address::default(), settled, has_others: Arc::default() }
    }
}

impl Membership {
    /// Somebody has come, or is about to go: look at once.
    pub fn look(&self) {
        let _ = self.address.try_cast(MembershipMessage::Beat);
    }

    /// This pod takes no more conversations, and lets go of those it has, if there is another that can take them.
    /// Returns when the others can know of it, or that cannot be said.
    pub async fn drain(&self) {
        let (done, told) = oneshot::channel();
        if self.address.cast_beyond_capacity(MembershipMessage::Drain(done)).is_ok() {
            // Dropped unanswered: it is restarting, and the others find out when this pod is gone.
            let _ = told.await;
        }
    }

    /// Is there another pod that can take conversations?
    #[must_use]
    pub fn has_others(&self) -> bool {
        self.has_others.load(Ordering::SeqCst)
    }

    /// Waits until the other pods are known and linked.
    pub async fn settled(&self) {
        // The sender is in `self`.
        let _ = self.settled.subscribe().wait_for(|settled| *settled).await;
    }
}

impl Neighbourhood for Membership {
    fn linked(&self, pod_id: &PodId, is_up: bool) {
        // Bounded by how often links come and go; one that is restarting asks for the links that stand.
        let _ = self.address.cast_beyond_capacity(MembershipMessage::Linked(pod_id.clone(), is_up));
    }
}

/// What the membership is told.
pub enum MembershipMessage {
    /// Say that we run, and look who else does.
    Beat,
    /// What the directory lists, once it has been told of us.
    Looked(StoreResult<Vec<Member>>),
    /// A link stands, or no longer.
    Linked(PodId, bool),
    /// Take no more conversations.
    Drain(oneshot::Sender<()>),
}

/// What the membership is started with.
#[derive(Clone)]
pub struct MembershipArguments {
    /// Where to tell it.
    pub membership: Membership,
    /// This pod ...
    pub pod_id: PodId,
    /// ... its incarnation ...
    pub incarnation: u64,
    /// ... and where the others reach its bridge; where it listens if nothing is said.
    pub advertise: Option<String>,
    /// Who runs.
    pub live: Arc<dyn LiveDirectory>,
    /// Who is to be linked to.
    pub links: Links,
    /// Where conversations belong.
    pub cluster: Cluster,
    /// Those that are awake here.
    pub conversations: ConversationIndex,
    /// Whom it tells who the others are.
    pub herald: Herald,
    /// As well.
    pub trackers: Trackers,
    /// Looks for what a pod that died has not told.
    pub sweeper: Sweeper,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// The actor.
pub struct MembershipActor;

/// Its state.
pub struct MembershipState {
    services: MembershipArguments,
    view: View,
    /// As it was told last; nothing, before the directory has said who runs.
    placement: Option<Placement>,
    pods: Option<BTreeSet<PodId>>,
    has_looked: bool,
    looking: bool,
    look_again: bool,
    draining: Vec<oneshot::Sender<()>>,
}

impl MembershipActor {
    /// Starts the membership under `parent` and points its address at it.
    ///
    /// # Errors
    /// If the parent is stopping.
    pub async fn start(arguments: MembershipArguments, parent: ActorCell) -> Result<ActorCell, SpawnErr> {
        let (membership, metrics) = (arguments.membership.clone(), Arc::clone(&arguments.metrics));
        let (actor, _) = Actor::spawn_linked(None, Self, arguments, parent).await?;
        let depth = metrics.depth_of(ActorKind::Membership);
        membership.address.install(Mailbox::new(actor.clone(), depth, MAILBOX_CAPACITY));
        metrics.actor_started(ActorKind::Membership);
        let _ = actor.cast(Letter::uncounted(MembershipMessage::Beat));
        actor.send_interval(BEAT, || Letter::uncounted(MembershipMessage::Beat));
        Ok(actor.get_cell())
    }
}

impl Actor for MembershipActor {
    type Msg = Letter<MembershipMessage>;
    type State = MembershipState;
    type Arguments = MembershipArguments;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        services: MembershipArguments,
    ) -> Result<MembershipState, ActorProcessingErr> {
        let mut view = View::of(services.pod_id.clone());
        // A drain is not taken back by a restart.
        if services.cluster.is_draining() {
            view.drain();
        }
        // What happened since a predecessor has died, nobody has acted on.
        services.sweeper.sweep_after_an_end();
        services.trackers.tell_all(|| TrackerMessage::LookElsewhere);
        Ok(MembershipState {
            services,
            view,
            placement: None,
            pods: None,
            has_looked: false,
            looking: false,
            look_again: false,
            draining: Vec::new(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        letter: Self::Msg,
        state: &mut MembershipState,
    ) -> Result<(), ActorProcessingErr> {
        befall(&state.services.metrics, ActorKind::Membership).await;
        let (message, _handling) = letter.open();
        match message {
            MembershipMessage::Beat => {
                state.services.cluster.expire(Instant::now());
                state.look(&myself);
            }
            MembershipMessage::Looked(members) => state.looked(&myself, members),
            MembershipMessage::Linked(pod_id, is_up) => {
                let ended = state.view.link(pod_id, is_up);
                if !is_up {
                    // It may have died, and with it what it had still to tell. Nothing is lost by looking too soon: if it
                    // lives, its bulletins are numbered.
                    state.services.sweeper.sweep_after_an_end();
                }
                state.changed(ended);
            }
            MembershipMessage::Drain(done) => {
                state.services.cluster.drain();
                state.view.drain();
                state.draining.push(done);
                state.look_again = state.looking;
                state.look(&myself);
            }
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<Self::Msg>,
        state: &mut MembershipState,
    ) -> Result<(), ActorProcessingErr> {
        let MembershipArguments { live, pod_id, incarnation, .. } = &state.services;
        let farewell = async {
            live.withdraw(pod_id, *incarnation).await?;
            live.publish(vec![(Channel::Pods, Bytes::new())]).await
        };
        // If it cannot be said, the entry runs out.
        let _ = timeout(FAREWELL_TIMEOUT, farewell).await;
        Ok(())
    }
}

impl MembershipState {
    fn own(&self) -> Option<Member> {
        let MembershipArguments { pod_id, incarnation, advertise, links, .. } = &self.services;
        let bound = links.local_address().map(|address| address.to_string());
        let address = advertise.clone().or(bound)?;
        let takes_ownership = !self.view.is_draining();
        Some(Member { pod_id: pod_id.clone(), incarnation: *incarnation, address, takes_ownership })
    }

    /// Says that this pod runs, and looks who else does. At most one such round trip is under way.
    fn look(&mut self, myself: &ActorRef<Letter<MembershipMessage>>) {
        let Some(own) = self.own() else { return };
        if std::mem::replace(&mut self.looking, true) {
            return;
        }
        // News for others: they look at once.
        let is_news = !self.has_looked || !self.draining.is_empty();
        let (live, myself) = (Arc::clone(&self.services.live), myself.clone());
        tokio::spawn(async move {
            let looked = async {
                live.announce(&own, MEMBER_TTL).await?;
                if is_news {
                    live.publish(vec![(Channel::Pods, Bytes::new())]).await?;
                }
                live.members().await
            };
            // One that has died is replaced by one that looks again.
            let _ = myself.cast(Letter::uncounted(MembershipMessage::Looked(answered(looked).await)));
        });
    }

    fn looked(&mut self, myself: &ActorRef<Letter<MembershipMessage>>, members: StoreResult<Vec<Member>>) {
        self.looking = false;
        let ended = match members {
            Ok(members) => {
                self.has_looked = true;
                self.view.list(members)
            }
            Err(error) => {
                tracing::debug!(%error, "the live directory does not say who runs");
                Ended::default()
            }
        };
        self.see_links();
        self.changed(ended);
        if std::mem::take(&mut self.look_again) {
            self.look(myself);
        } else {
            for done in self.draining.drain(..) {
                // Whoever no longer waits is stopping the node.
                let _ = done.send(());
            }
        }
    }

    /// Sees for itself which links stand: what was said while this actor was being restarted is lost.
    fn see_links(&mut self) {
        let standing = self.services.links.standing();
        for pod_id in self.view.pods().union(&standing).cloned().collect::<Vec<_>>() {
            let is_up = standing.contains(&pod_id);
            if is_up != self.view.is_linked_to(&pod_id) {
                let ended = self.view.link(pod_id, is_up);
                self.changed(ended);
            }
        }
    }

    /// Acts on what the view says now.
    fn changed(&mut self, ended: Ended) {
        let services = &self.services;
        if ended.without_a_word {
            services.sweeper.sweep_after_an_end();
        }
        // Until it is known who runs, everything stays as a predecessor has left it.
        if !self.has_looked {
            return;
        }
        services.links.set_members(self.view.others());
        let (before, pods) = (services.cluster.pods(), self.view.pods());
        // Also those that ended while this actor was being restarted.
        let gone: BTreeSet<PodId> = before.difference(&pods).cloned().chain(ended.pods).collect();
        // Also when nothing has changed: a herald that has restarted knows of nobody.
        services.herald.pods_are(pods.iter().cloned().collect());
        // One that was known before, and taken for dead, had its users taken for gone.
        let are_new = pods.difference(&before).next().is_some();
        if self.pods.as_ref() != Some(&pods) {
            services.metrics.pods.set(1 + i64::try_from(pods.len()).unwrap_or(i64::MAX));
            services.cluster.pods_are(pods.clone());
            self.pods = Some(pods);
        }
        if are_new {
            services.trackers.tell_all(|| TrackerMessage::LookElsewhere);
        }
        for pod_id in gone {
            tracing::info!(%pod_id, "a pod has ended");
            services.trackers.tell_all(|| TrackerMessage::PodEnded(pod_id.clone()));
        }
        let placement = self.view.placement();
        services.membership.has_others.store(self.view.has_successor(), Ordering::SeqCst);
        let is_new = self.placement.as_ref() != Some(&placement);
        if is_new {
            tracing::info!(among = %placement, "conversations are placed anew");
            services.cluster.place(placement.clone());
            self.placement = Some(placement);
        }
        if is_new || self.view.is_draining() {
            services.conversations.rebalance();
        }
        if self.has_looked && self.view.is_linked_to_all() {
            services.membership.settled.send_replace(true);
        }
    }
}
