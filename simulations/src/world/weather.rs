//! What befalls one pod's calls to a service beside it: delays, errors, panics, hangs, and outages.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use colloquy_storage::ports::{StoreError, StoreResult};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

use super::time::WorldTime;

/// How often what goes wrong with a call, each between 0 and 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Climate {
    /// It fails, and nothing was done.
    pub(crate) refused: f64,
    /// It is done, and the answer is lost.
    pub(crate) unanswered: f64,
    /// It takes [`SLOW`] as long.
    pub(crate) slow: f64,
    /// Whoever calls panics.
    pub(crate) panics: f64,
    /// It is answered only after [`HANG`].
    pub(crate) hangs: f64,
    /// Somebody else wrote to the same conversation meanwhile: it is done or not, and nobody can say.
    pub(crate) conflicts: f64,
}

impl fmt::Display for Climate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { refused, unanswered, slow, panics, hangs, conflicts } = self;
        write!(
            f,
            "refused {refused:.2}, unanswered {unanswered:.2}, slow {slow:.2}, panics {panics:.3}, hangs {hangs:.3}, \
             conflicts {conflicts:.2}"
        )
    }
}

/// A slow call.
const SLOW: u32 = 50;
/// A call that hangs.
const HANG: Range<Duration> = Duration::from_secs(3)..Duration::from_secs(20);
/// What an outage looks like: the driver gives up looking for a server after so long.
const OUTAGE_PATIENCE: Duration = Duration::from_secs(2);

/// One pod's weather over one service. Clones are the same.
#[derive(Clone)]
pub(crate) struct Weather(Arc<Mutex<Inner>>);

struct Inner {
    time: WorldTime,
    rng: StdRng,
    delay: Range<Duration>,
    climate: Climate,
    is_out: bool,
    struck: Struck,
}

/// How often what has gone wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Struck {
    pub(crate) refused: u64,
    pub(crate) unanswered: u64,
    pub(crate) slow: u64,
    pub(crate) panics: u64,
    pub(crate) hangs: u64,
    pub(crate) conflicts: u64,
}

impl Struck {
    /// All of it.
    pub(crate) fn total(&self) -> u64 {
        self.refused + self.unanswered + self.slow + self.panics + self.hangs + self.conflicts
    }

    /// Both together.
    pub(crate) fn add(&mut self, other: Self) {
        self.refused += other.refused;
        self.unanswered += other.unanswered;
        self.slow += other.slow;
        self.panics += other.panics;
        self.hangs += other.hangs;
        self.conflicts += other.conflicts;
    }
}

/// The service was made to fail.
#[derive(Debug, thiserror::Error)]
#[error("made to fail: {0}")]
struct Made(&'static str);

fn away(why: &'static str) -> StoreError {
    StoreError::unavailable(Made(why))
}

/// A write that has met another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contested {
    /// It is in the store.
    Done,
    /// Nothing of it is.
    NotDone,
}

/// What is to become of one call.
enum Fate {
    Fair,
    Refused,
    Unanswered,
    Panics,
}

impl Weather {
    /// Calls take a time drawn from `delay`, there and back each; nothing goes wrong yet.
    pub(crate) fn fair(time: WorldTime, seed: u64, delay: Range<Duration>) -> Self {
        let (rng, climate, struck) = (StdRng::seed_from_u64(seed), Climate::default(), Struck::default());
        Self(Arc::new(Mutex::new(Inner { time, rng, delay, climate, is_out: false, struck })))
    }

    /// From now on this goes wrong, so often.
    pub(crate) fn becomes(&self, climate: Climate) {
        self.lock().climate = climate;
    }

    /// The service cannot be reached, or can again.
    pub(crate) fn set_out(&self, is_out: bool) {
        self.lock().is_out = is_out;
    }

    /// How often what has gone wrong since this was asked last.
    pub(crate) fn take_struck(&self) -> Struck {
        std::mem::take(&mut self.lock().struck)
    }

    /// Lets a call through, or not.
    ///
    /// # Panics
    /// If that is what befalls it.
    pub(crate) async fn befall<T>(&self, call: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
        let (there, fate, back) = self.draw();
        sleep(there).await;
        if self.lock().is_out {
            sleep(OUTAGE_PATIENCE).await;
            return Err(away("the service cannot be reached"));
        }
        match fate {
            Fate::Fair => {}
            Fate::Refused => return Err(away("nothing was done")),
            Fate::Unanswered => {
                let _ = call.await;
                sleep(back).await;
                return Err(away("the answer was lost"));
            }
            Fate::Panics => panic!("made to panic in the middle of a call"),
        }
        let answer = call.await;
        sleep(back).await;
        answer
    }

    /// Does a write meet another one, and is it done all the same?
    pub(crate) fn contest(&self) -> Option<Contested> {
        let Inner { rng, climate, struck, .. } = &mut *self.lock();
        let meets = falls(rng, climate.conflicts, &mut struck.conflicts);
        meets.then(|| if rng.random_bool(0.5) { Contested::Done } else { Contested::NotDone })
    }

    fn draw(&self) -> (Duration, Fate, Duration) {
        let inner = &mut *self.lock();
        let (mut there, mut back) =
            (inner.rng.random_range(inner.delay.clone()), inner.rng.random_range(inner.delay.clone()));
        let Inner { rng, climate, struck, .. } = inner;
        if falls(rng, climate.slow, &mut struck.slow) {
            (there, back) = (there * SLOW, back * SLOW);
        }
        let fate = if falls(rng, climate.refused, &mut struck.refused) {
            Fate::Refused
        } else if falls(rng, climate.unanswered, &mut struck.unanswered) {
            Fate::Unanswered
        } else if falls(rng, climate.panics, &mut struck.panics) {
            Fate::Panics
        } else {
            if falls(rng, climate.hangs, &mut struck.hangs) {
                back += rng.random_range(HANG);
            }
            Fate::Fair
        };
        let now = inner.time.now();
        inner.time.expect(now + there);
        inner.time.expect(now + there + back);
        (there, fate, back)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn falls(rng: &mut StdRng, chance: f64, count: &mut u64) -> bool {
    let falls = chance > 0.0 && rng.random_bool(chance);
    *count += u64::from(falls);
    falls
}
