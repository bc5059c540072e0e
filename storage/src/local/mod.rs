//! What is only true now, in this process: the live directory and the bus of pods that run side by side in it, and a
//! cache.
//!
//! | module | holds |
//! |---|---|
//! | `tables` | who is alive and where, with the ends of their times (pure) |
//! | `channels` | who hears which channel |
//! | `live` | the port, as one pod sees it |
//! | `cache` | values that end by themselves |

mod cache;
mod channels;
mod live;
mod tables;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::ports::LiveDirectory;
use crate::ports::live::{Signal, SignalReceiver};
use crate::ports::signals::{SIGNALS_MAX_WAITING, signals};

pub use cache::{CACHE_MAX_ENTRIES, LocalCache};

use channels::Channels;
use live::LocalLive;
use tables::Tables;

/// The hub that pods of one process meet at. Clones are the same hub.
#[derive(Clone, Default)]
pub struct LocalBus(Arc<Mutex<Hub>>);

/// What time it is at the hub.
type HubClock = Box<dyn Fn() -> Instant + Send>;

struct Hub {
    clock: HubClock,
    is_away: bool,
    /// The next call panics.
    is_tripped: bool,
    tables: Tables,
    channels: Channels,
}

impl Default for Hub {
    fn default() -> Self {
        let (tables, channels) = (Tables::default(), Channels::default());
        Self { clock: Box::new(Instant::now), is_away: false, is_tripped: false, tables, channels }
    }
}

impl LocalBus {
    /// A hub that nobody has joined. Times end by tokio's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`new`](Self::new), with a clock of its own: for pods that live in runtimes of their own, whose clocks differ.
    #[must_use]
    pub fn with_clock(clock: impl Fn() -> Instant + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Hub { clock: Box::new(clock), ..Hub::default() })))
    }

    /// A pod's handle, and where it hears what it subscribes to. Its subscriptions end with the handle.
    #[must_use]
    pub fn join(&self) -> (Arc<dyn LiveDirectory>, SignalReceiver) {
        self.join_with_room_for(SIGNALS_MAX_WAITING)
    }

    /// As [`join`](Self::join), for a pod at which at most `capacity` signals may wait.
    #[must_use]
    pub fn join_with_room_for(&self, capacity: usize) -> (Arc<dyn LiveDirectory>, SignalReceiver) {
        let (sender, receiver) = signals(capacity);
        let seat = self.lock().channels.join(sender);
        (Arc::new(LocalLive { bus: self.clone(), seat }), receiver)
    }

    /// From now on every method fails, and what was said is forgotten: as when Redis is killed.
    pub fn cut(&self) {
        let mut hub = self.lock();
        hub.is_away = true;
        hub.tables = Tables::default();
    }

    /// Whoever calls next panics, as from a defect in an adapter.
    pub fn trip(&self) {
        self.lock().is_tripped = true;
    }

    /// What was said is forgotten, and nobody is told: as by FLUSHALL.
    pub fn forget(&self) {
        self.lock().tables = Tables::default();
    }

    /// Back again. Everybody is told of a gap.
    pub fn mend(&self) {
        let mut hub = self.lock();
        if std::mem::take(&mut hub.is_away) {
            hub.channels.tell_everybody(&Signal::Gap);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Hub> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
