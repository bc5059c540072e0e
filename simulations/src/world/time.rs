//! The world's time: one for all hosts, moved by the schedule alone.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How far the hosts run before they hear of each other, while something is on its way between them.
const TICK: Duration = Duration::from_millis(1);
/// The same while nothing is: only what a host does by itself can happen, and it is heard of a little later.
const IDLE_TICK: Duration = Duration::from_millis(5);

/// How long the world has existed. Clones show the same time.
#[derive(Clone, Debug)]
pub(crate) struct WorldTime {
    micros: Arc<AtomicU64>,
    agenda: Arc<Mutex<Agenda>>,
    /// For parts that reckon in instants. Which one it is does not matter: only differences are looked at.
    beginning: Instant,
}

/// When something is to happen between hosts: a parcel arrives, the store is called, or answers.
#[derive(Debug, Default)]
struct Agenda {
    due: BinaryHeap<Reverse<Duration>>,
    /// What is due happens by the time of its host, which may be as much later as the longest tick.
    busy_until: Duration,
}

impl WorldTime {
    /// The beginning.
    pub(crate) fn new() -> Self {
        Self { micros: Arc::default(), agenda: Arc::default(), beginning: Instant::now() }
    }

    /// Since the beginning.
    pub(crate) fn now(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }

    /// The same as an instant.
    pub(crate) fn instant(&self) -> Instant {
        self.beginning + self.now()
    }

    /// Something is to happen then.
    pub(crate) fn expect(&self, due: Duration) {
        self.agenda().due.push(Reverse(due));
    }

    /// How far the hosts may run now: no further than to what is to happen next.
    pub(super) fn next(&self) -> Duration {
        let (now, agenda) = (self.now(), &mut *self.agenda());
        while agenda.due.peek().is_some_and(|Reverse(due)| *due <= now) {
            agenda.due.pop();
            agenda.busy_until = now + IDLE_TICK;
        }
        if now < agenda.busy_until {
            return now + TICK;
        }
        let next = agenda.due.peek().map_or(now + IDLE_TICK, |Reverse(due)| *due);
        next.clamp(now + TICK, now + IDLE_TICK)
    }

    /// Moves on to `now`.
    pub(super) fn set(&self, now: Duration) {
        self.micros.store(u64::try_from(now.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn agenda(&self) -> MutexGuard<'_, Agenda> {
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
