//! The port, as one pod sees it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use colloquy_protocol::ids::UserId;

use super::channels::Seat;
use super::{Hub, LocalBus};
use crate::model::live::{Connection, Member, PodId, Presence};
use crate::ports::live::{Channel, LiveDirectory};
use crate::ports::{StoreError, StoreResult};

/// One pod's handle.
pub(super) struct LocalLive {
    pub(super) bus: LocalBus,
    pub(super) seat: Seat,
}

/// The hub was [cut](LocalBus::cut).
#[derive(Debug, thiserror::Error)]
#[error("the hub is away")]
struct Away;

impl LocalLive {
    fn with<T>(&self, work: impl FnOnce(&mut Hub) -> T) -> StoreResult<T> {
        let mut hub = self.bus.lock();
        assert!(!std::mem::take(&mut hub.is_tripped), "the hub was tripped");
        if hub.is_away {
            return Err(StoreError::unavailable(Away));
        }
        Ok(work(&mut hub))
    }
}

impl Drop for LocalLive {
    fn drop(&mut self) {
        self.bus.lock().channels.leave(self.seat);
    }
}

#[async_trait]
impl LiveDirectory for LocalLive {
    async fn announce(&self, member: &Member, ttl: Duration) -> StoreResult<()> {
        self.with(|hub| {
            let now = (hub.clock)();
            hub.tables.announce(member, now, now + ttl);
        })
    }

    async fn withdraw(&self, pod_id: &PodId, incarnation: u64) -> StoreResult<()> {
        self.with(|hub| hub.tables.withdraw(pod_id, incarnation))
    }

    async fn members(&self) -> StoreResult<Vec<Member>> {
        self.with(|hub| hub.tables.members((hub.clock)()))
    }

    async fn enter(&self, connections: &[Connection], ttl: Duration) -> StoreResult<Vec<bool>> {
        self.with(|hub| {
            let now = (hub.clock)();
            connections.iter().map(|it| hub.tables.enter(it, now, now + ttl)).collect()
        })
    }

    async fn leave(&self, connections: &[Connection]) -> StoreResult<()> {
        self.with(|hub| connections.iter().for_each(|connection| hub.tables.leave(connection)))
    }

    async fn pods_of(&self, users: &[UserId]) -> StoreResult<Vec<Vec<PodId>>> {
        self.with(|hub| {
            let now = (hub.clock)();
            users.iter().map(|user_id| hub.tables.pods_of(*user_id, now)).collect()
        })
    }

    async fn set_presence(&self, presences: &[(UserId, Presence)], ttl: Duration) -> StoreResult<()> {
        self.with(|hub| {
            let end = (hub.clock)() + ttl;
            for (user_id, presence) in presences {
                hub.tables.set_presence(*user_id, *presence, end);
            }
        })
    }

    async fn presence_of(&self, users: &[UserId]) -> StoreResult<Vec<Option<Presence>>> {
        self.with(|hub| {
            let now = (hub.clock)();
            users.iter().map(|user_id| hub.tables.presence_of(*user_id, now)).collect()
        })
    }

    async fn publish(&self, signals: Vec<(Channel, Bytes)>) -> StoreResult<Vec<u64>> {
        self.with(|hub| signals.iter().map(|(channel, body)| hub.channels.publish(channel, body)).collect())
    }

    async fn subscribe(&self, channels: Vec<Channel>) -> StoreResult<()> {
        self.with(|hub| channels.into_iter().for_each(|it| hub.channels.subscribe(self.seat, it)))
    }

    async fn unsubscribe(&self, channels: Vec<Channel>) -> StoreResult<()> {
        self.with(|hub| channels.iter().for_each(|channel| hub.channels.unsubscribe(self.seat, channel)))
    }
}
