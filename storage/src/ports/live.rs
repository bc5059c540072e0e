//! The live directory and the signal bus: who runs, who is connected where, and hints between pods.
//!
//! Nothing here is truth (DURABLE, NOLOSS never rest on it): whatever is lost with it is read from the store again.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use colloquy_protocol::ids::UserId;

use super::StoreResult;
pub use super::signals::SignalReceiver;
use crate::model::live::{Connection, Member, PodId, Presence};

/// Where a signal goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// To one pod.
    Pod(PodId),
    /// To every pod.
    Pods,
    /// About one user's messages, from publishers outside of Colloquy.
    User(UserId),
    /// That a user has come or gone.
    Presence(UserId),
    /// That a user without a connection has something new.
    Notification(UserId),
}

/// What arrives from the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Somebody published.
    Published(Channel, Bytes),
    /// Signals may have been lost: the bus was away and is back, with every subscription, or more came than there was
    /// room for (BOUND).
    Gap,
}

/// Who is alive and where, for now. Every method fails fast while the service is away, and works again as soon as it is
/// back; what was said before is then gone, or not, and has to be said again.
///
/// Times to live are counted by the service, so pods' clocks need not agree. Whoever says something for a time says it
/// again well before that time is up. One handle is one pod's: what it subscribes to arrives at the [`SignalReceiver`]
/// that came with it.
#[async_trait]
pub trait LiveDirectory: Send + Sync + 'static {
    /// Says that a pod runs, for `ttl` from now; replaces what was said of it before.
    async fn announce(&self, member: &Member, ttl: Duration) -> StoreResult<()>;

    /// A pod is gone; nothing happens if another incarnation of it has been announced since.
    async fn withdraw(&self, pod_id: &PodId, incarnation: u64) -> StoreResult<()>;

    /// The pods that run, in the order of their names.
    async fn members(&self) -> StoreResult<Vec<Member>>;

    /// Enters connections, or keeps them entered, for `ttl` from now. An older generation replaces no newer one, and
    /// does not keep it either. Answers for each whether it was not there before: of one that was entered and whose time
    /// is not up, that says that the service has forgotten it.
    async fn enter(&self, connections: &[Connection], ttl: Duration) -> StoreResult<Vec<bool>>;

    /// Takes connections out, each unless a newer generation of it was entered.
    async fn leave(&self, connections: &[Connection]) -> StoreResult<()>;

    /// The pods that each user has connections on, each pod once and in the order of their names; those of pods that
    /// have died without a word are among them until their time is up.
    async fn pods_of(&self, users: &[UserId]) -> StoreResult<Vec<Vec<PodId>>>;

    /// Says of users that they are here or gone, for `ttl` from now; replaces what was said of them before. Nobody
    /// hears of it: [publish](Self::publish) that to [`Channel::Presence`].
    async fn set_presence(&self, presences: &[(UserId, Presence)], ttl: Duration) -> StoreResult<()>;

    /// What was last said of each user; `None` if nothing was, or its time is up.
    async fn presence_of(&self, users: &[UserId]) -> StoreResult<Vec<Option<Presence>>>;

    /// Publishes, in order, to all who subscribe, the publisher among them. Answers how many subscribers each signal
    /// reached, as far as that can be known: on a Redis Cluster, those at one of its nodes.
    async fn publish(&self, signals: Vec<(Channel, Bytes)>) -> StoreResult<Vec<u64>>;

    /// Once it returns, these channels are heard, each once however often it is asked for. Kept over an outage; one
    /// that failed may take effect when the service is back.
    async fn subscribe(&self, channels: Vec<Channel>) -> StoreResult<()>;

    /// These no longer.
    async fn unsubscribe(&self, channels: Vec<Channel>) -> StoreResult<()>;
}
