//! The presence of users on other pods, as far as it is looked up and told.

use std::collections::BTreeSet;
use std::sync::Arc;

use colloquy_protocol::UnixMillis;
use colloquy_protocol::frame::PresenceStatus;
use colloquy_protocol::ids::UserId;
use colloquy_storage::model::live::PodId;
use colloquy_storage::ports::live::{Channel, LiveDirectory};
use tokio::sync::watch;

use crate::cluster::{Cluster, Registrar};

/// Where trackers look for users who are not here, and tell of those who are.
#[derive(Clone)]
pub struct Elsewhere {
    live: Arc<dyn LiveDirectory>,
    health: watch::Receiver<bool>,
    cluster: Cluster,
    registrar: Registrar,
}

impl Elsewhere {
    /// On the pods of `cluster`, by `live`, which is not asked while `health` says that it does not answer.
    #[must_use]
    pub fn new(
        live: Arc<dyn LiveDirectory>,
        health: watch::Receiver<bool>,
        cluster: Cluster,
        registrar: Registrar,
    ) -> Self {
        Self { live, health, cluster, registrar }
    }

    /// A user has come to this pod, or has no session here any more.
    pub(super) fn tell(&self, user_id: UserId, status: PresenceStatus, at: UnixMillis) {
        self.registrar.sighted(user_id, status, at);
    }

    /// From now on it is heard when these come or go.
    pub(super) async fn watch(&self, users: &[UserId]) {
        if !users.is_empty() {
            // The subscription is kept, and made good once the directory is back.
            let _ = self.live.subscribe(channels(users)).await;
        }
    }

    /// No longer.
    pub(super) async fn unwatch(&self, users: Vec<UserId>) {
        if !users.is_empty() {
            // What is heard of somebody nobody watches is dropped.
            let _ = self.live.unsubscribe(channels(&users)).await;
        }
    }

    /// The other pods that users are on; `None` if that cannot be known now.
    pub(super) async fn pods_of(&self, users: &[UserId]) -> Option<Vec<BTreeSet<PodId>>> {
        if users.is_empty() || !*self.health.borrow() {
            return None;
        }
        let (found, running) = (self.live.pods_of(users).await.ok()?, self.cluster.pods());
        // Entries of pods that have died stay for a while.
        let on = |pods: Vec<PodId>| pods.into_iter().filter(|pod_id| running.contains(pod_id)).collect();
        Some(found.into_iter().map(on).collect())
    }
}

fn channels(users: &[UserId]) -> Vec<Channel> {
    users.iter().map(|user_id| Channel::Presence(*user_id)).collect()
}
