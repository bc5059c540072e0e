//! The live directory and the signal bus: who runs, who is connected where, and hints between pods.
//!
//! Nothing here is truth (DURABLE, NOLOSS never rest on it): whatever is lost with it is read from the store again.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use colloquy_protocol::ids::UserId;

use super::StoreResult;
use crate::model::live::{Connection, Member, PodId};

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

/// Who is alive and where, for now. Every method fails fast while the service is away.
#[async_trait]
pub trait LiveDirectory: Send + Sync + 'static {
    /// Says that a pod runs, for `ttl` from now; replaces what was said of it before.
    async fn announce(&self, member: &Member, ttl: Duration) -> StoreResult<()>;

    /// A pod is gone; nothing happens if a later incarnation has been announced.
    async fn withdraw(&self, pod_id: &PodId, incarnation: u64) -> StoreResult<()>;

    /// The pods that run, in the order of their names.
    async fn members(&self) -> StoreResult<Vec<Member>>;

    /// Enters connections, or keeps them entered, for `ttl` from now. An older generation replaces no newer one.
    async fn enter(&self, connections: &[Connection], ttl: Duration) -> StoreResult<()>;

    /// Takes connections out, each unless a newer generation of it was entered.
    async fn leave(&self, connections: &[Connection]) -> StoreResult<()>;

    /// The pods that each user has connections on, each pod once; those of pods that have died without a word are among
    /// them until their time is up.
    async fn pods_of(&self, users: &[UserId]) -> StoreResult<Vec<Vec<PodId>>>;

    /// Publishes, in order. Answers how many subscribers each signal reached, as far as that can be known.
    async fn publish(&self, signals: Vec<(Channel, Bytes)>) -> StoreResult<Vec<u64>>;

    /// From now on these channels are heard. Kept over an outage.
    async fn subscribe(&self, channels: Vec<Channel>) -> StoreResult<()>;

    /// These no longer.
    async fn unsubscribe(&self, channels: Vec<Channel>) -> StoreResult<()>;
}
