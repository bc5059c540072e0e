//! Faults that simulations bring about inside actors: one of a kind panics, or stands still, over what it takes up next.
//! What is shipped has none of this: the call is empty there.

#[cfg(feature = "mutations")]
use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(feature = "mutations")]
use std::time::Duration;

use super::kind::ActorKind;
use crate::metrics::Metrics;

/// What is to befall an actor.
#[cfg(feature = "mutations")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doom {
    /// It panics.
    Panic,
    /// It stands still for so long, be it in the middle of everything: at most [`HANG_MAX`].
    Hang(Duration),
}

/// The longest that an actor is made to stand still.
#[cfg(feature = "mutations")]
pub const HANG_MAX: Duration = Duration::from_secs(60);

/// What is to befall the next actor of each kind: nothing (0), a panic, or so many milliseconds of standing still.
#[cfg(feature = "mutations")]
#[derive(Debug, Default)]
pub(crate) struct Dooms([AtomicU64; ActorKind::ALL.len()]);

#[cfg(feature = "mutations")]
impl Dooms {
    const PANIC: u64 = u64::MAX;

    /// This befalls the next actor of a kind that takes something up, or nothing more does.
    pub(crate) fn set(&self, kind: ActorKind, doom: Option<Doom>) {
        let number = match doom {
            None => 0,
            Some(Doom::Panic) => Self::PANIC,
            Some(Doom::Hang(length)) => u64::try_from(length.min(HANG_MAX).as_millis()).unwrap_or(0),
        };
        self.0[kind as usize].store(number, Ordering::Relaxed);
    }

    async fn befall(&self, kind: ActorKind) {
        let doom = &self.0[kind as usize];
        // Looked at first: writing to it for every letter would have all threads wait for each other.
        if doom.load(Ordering::Relaxed) == 0 {
            return;
        }
        match doom.swap(0, Ordering::Relaxed) {
            0 => {}
            Self::PANIC => panic!("made to panic over what it took up"),
            millis => tokio::time::sleep(Duration::from_millis(millis)).await,
        }
    }
}

/// An actor of this kind takes something up.
#[inline]
pub(crate) async fn befall(metrics: &Metrics, kind: ActorKind) {
    #[cfg(feature = "mutations")]
    metrics.dooms.befall(kind).await;
    #[cfg(not(feature = "mutations"))]
    let _ = (metrics, kind);
}
