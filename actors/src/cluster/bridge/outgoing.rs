//! The sending half of a link: filled by whoever has a frame to send, emptied by the bridge.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use colloquy_storage::model::live::PodId;
use prometheus_client::metrics::counter::Counter;

use super::FRAME_MAX;
use super::links::Unsent;
use super::packet::Filling;
use super::window::{Count, Window};

/// Frames for one peer, over one link.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// The peer.
    pub(super) peer: PodId,
    sent: Counter,
    full: Counter,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    closed: bool,
    window: Window,
    parcels: VecDeque<Filling>,
    /// The bridge has been asked to empty this, and has not yet done so: one request for any number of frames.
    asked: bool,
}

/// What becomes of a frame that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// The bridge must be asked to empty this.
    Ask,
    /// It has been asked already.
    Asked,
}

impl Outgoing {
    /// Of a link that has just come up; counts in `sent` what is taken, in `full` what finds no room.
    pub(super) fn to(peer: PodId, sent: &Counter, full: &Counter) -> Self {
        Self { peer, sent: sent.clone(), full: full.clone(), waiting: Mutex::default() }
    }

    /// Takes a frame if there is room.
    pub(super) fn push(&self, frame: &[u8]) -> Result<Taken, Unsent> {
        if frame.len() > FRAME_MAX {
            return Err(Unsent::TooLarge);
        }
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(Unsent::NoLink);
        }
        if !waiting.window.take(frame.len()) {
            drop(waiting);
            self.full.inc();
            return Err(Unsent::Full);
        }
        // As many parcels as frames at most, and those the window bounds (BOUND).
        match waiting.parcels.back_mut() {
            Some(filling) if filling.has_room(frame.len()) => filling.put(frame),
            _ => {
                let mut filling = Filling::for_frame(frame.len());
                filling.put(frame);
                waiting.parcels.push_back(filling);
            }
        }
        self.sent.inc();
        let was_asked = std::mem::replace(&mut waiting.asked, true);
        Ok(if was_asked { Taken::Asked } else { Taken::Ask })
    }

    /// Everything that waits, in order.
    pub(super) fn empty(&self) -> VecDeque<Filling> {
        let mut waiting = self.lock();
        waiting.asked = false;
        std::mem::take(&mut waiting.parcels)
    }

    /// The peer has taken in so much; `false` if that is more than was sent.
    pub(super) fn acknowledge(&self, taken: Count) -> bool {
        self.lock().window.acknowledge(taken)
    }

    /// The link is gone.
    pub(super) fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.parcels.clear();
    }

    /// Sent and not acknowledged.
    #[cfg(test)]
    pub(super) fn unacknowledged(&self) -> Count {
        self.lock().window.waiting()
    }

    /// Acknowledges everything that was sent.
    #[cfg(test)]
    pub(super) fn forgive(&self) {
        self.lock().window.forgive();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
