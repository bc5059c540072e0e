//! The live directory and the bus as one pod sees them: calls go through the weather, and what is published may be lost,
//! come late, come twice, and overtake.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use colloquy_protocol::ids::UserId;
use colloquy_storage::model::live::{Connection, Member, PodId, Presence};
use colloquy_storage::ports::StoreResult;
use colloquy_storage::ports::live::{Channel, LiveDirectory};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

use super::weather::Weather;

/// How late a late signal is.
const LATE: Range<Duration> = Duration::from_millis(5)..Duration::from_secs(3);

/// How often what befalls a signal, each between 0 and 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Whims {
    pub(crate) lost: f64,
    pub(crate) late: f64,
    pub(crate) doubled: f64,
}

impl fmt::Display for Whims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lost, late, doubled } = self;
        write!(f, "signals lost {lost:.2}, late {late:.2}, doubled {doubled:.2}")
    }
}

/// What befalls signals of one pod. Clones are the same.
#[derive(Clone)]
pub(crate) struct Post(Arc<Mutex<Inner>>);

struct Inner {
    rng: StdRng,
    whims: Whims,
    count: u64,
}

impl Post {
    /// Everything arrives, once.
    pub(crate) fn reliable(seed: u64) -> Self {
        let (rng, whims) = (StdRng::seed_from_u64(seed), Whims::default());
        Self(Arc::new(Mutex::new(Inner { rng, whims, count: 0 })))
    }

    /// From now on this befalls signals.
    pub(crate) fn becomes(&self, whims: Whims) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).whims = whims;
    }

    /// How many signals something has befallen since this was asked last.
    pub(crate) fn take_count(&self) -> u64 {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).count)
    }

    /// After how long a signal is to be published, each time it is; now is no time at all.
    fn fate(&self) -> Vec<Duration> {
        let inner = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Inner { rng, whims, count } = inner;
        let mut falls = |chance: f64| chance > 0.0 && rng.random_bool(chance);
        let (lost, late, doubled) = (falls(whims.lost), falls(whims.late), falls(whims.doubled));
        *count += u64::from(lost || late || doubled);
        if lost {
            return Vec::new();
        }
        let mut times = vec![if late { rng.random_range(LATE) } else { Duration::ZERO }];
        if doubled {
            times.push(rng.random_range(LATE));
        }
        times
    }
}

/// A pod's handle.
pub(crate) struct BusBehind {
    pub(crate) weather: Weather,
    pub(crate) post: Post,
    pub(crate) live: Arc<dyn LiveDirectory>,
}

#[async_trait]
impl LiveDirectory for BusBehind {
    async fn announce(&self, member: &Member, ttl: Duration) -> StoreResult<()> {
        self.weather.befall(self.live.announce(member, ttl)).await
    }

    async fn withdraw(&self, pod_id: &PodId, incarnation: u64) -> StoreResult<()> {
        self.weather.befall(self.live.withdraw(pod_id, incarnation)).await
    }

    async fn members(&self) -> StoreResult<Vec<Member>> {
        self.weather.befall(self.live.members()).await
    }

    async fn enter(&self, connections: &[Connection], ttl: Duration) -> StoreResult<Vec<bool>> {
        self.weather.befall(self.live.enter(connections, ttl)).await
    }

    async fn leave(&self, connections: &[Connection]) -> StoreResult<()> {
        self.weather.befall(self.live.leave(connections)).await
    }

    async fn pods_of(&self, users: &[UserId]) -> StoreResult<Vec<Vec<PodId>>> {
        self.weather.befall(self.live.pods_of(users)).await
    }

    async fn set_presence(&self, presences: &[(UserId, Presence)], ttl: Duration) -> StoreResult<()> {
        self.weather.befall(self.live.set_presence(presences, ttl)).await
    }

    async fn presence_of(&self, users: &[UserId]) -> StoreResult<Vec<Option<Presence>>> {
        self.weather.befall(self.live.presence_of(users)).await
    }

    async fn publish(&self, signals: Vec<(Channel, Bytes)>) -> StoreResult<Vec<u64>> {
        let (mut at_once, mut reached) = (Vec::new(), Vec::new());
        for signal in signals {
            let fate = self.post.fate();
            // Who publishes hears that it has reached somebody, whatever becomes of it.
            reached.push(1);
            for wait in fate {
                if wait.is_zero() {
                    at_once.push(signal.clone());
                    continue;
                }
                let (live, signal) = (Arc::clone(&self.live), signal.clone());
                // As many as are late: a share of what is published within a few seconds.
                tokio::spawn(async move {
                    sleep(wait).await;
                    // A bus that has gone meanwhile has lost it.
                    let _ = live.publish(vec![signal]).await;
                });
            }
        }
        let all = at_once.len() == reached.len();
        let told = self.weather.befall(self.live.publish(at_once)).await?;
        Ok(if all { told } else { reached })
    }

    async fn subscribe(&self, channels: Vec<Channel>) -> StoreResult<()> {
        self.weather.befall(self.live.subscribe(channels)).await
    }

    async fn unsubscribe(&self, channels: Vec<Channel>) -> StoreResult<()> {
        self.weather.befall(self.live.unsubscribe(channels)).await
    }
}
