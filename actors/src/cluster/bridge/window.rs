//! How much has been sent and not been taken in (BOUND). Pure.

use super::{WINDOW_BYTES, WINDOW_FRAMES};

/// Frames taken in before the sender is told, unless a pulse or a frame tells it sooner: an eighth of the window, so that
/// a sender that is busy hears often enough never to wait.
const ACK_FRAMES: u64 = WINDOW_FRAMES / 8;
/// The same in bytes.
const ACK_BYTES: u64 = WINDOW_BYTES / 8;

/// Frames and their bytes since a link came up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) frames: u64,
    pub(super) bytes: u64,
}

impl Count {
    fn add(&mut self, bytes: usize) {
        self.frames += 1;
        self.bytes += bytes as u64;
    }
}

/// The sender's side.
#[derive(Debug, Default)]
pub(super) struct Window {
    sent: Count,
    acked: Count,
}

impl Window {
    /// Makes room for a frame; says whether there was any.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let waiting = self.waiting();
        if waiting.frames >= WINDOW_FRAMES || waiting.bytes + bytes as u64 > WINDOW_BYTES {
            return false;
        }
        self.sent.add(bytes);
        true
    }

    /// The peer has taken in so much. What is older than known changes nothing; what was never sent is a defect of the
    /// peer's, and `false`.
    pub(super) fn acknowledge(&mut self, acked: Count) -> bool {
        if acked.frames > self.sent.frames || acked.bytes > self.sent.bytes {
            return false;
        }
        if acked.frames > self.acked.frames {
            self.acked = acked;
        }
        true
    }

    /// Everything that was sent has been taken in.
    #[cfg(test)]
    pub(super) fn forgive(&mut self) {
        self.acked = self.sent;
    }

    /// Sent and not acknowledged.
    pub(super) fn waiting(&self) -> Count {
        Count {
            frames: self.sent.frames - self.acked.frames,
            bytes: self.sent.bytes.saturating_sub(self.acked.bytes),
        }
    }
}

/// The receiver's side.
#[derive(Debug, Default)]
pub(super) struct Receipt {
    taken: Count,
    told: Count,
}

impl Receipt {
    /// A frame was taken in.
    pub(super) fn take(&mut self, bytes: usize) {
        self.taken.add(bytes);
    }

    /// Is it time to tell the sender?
    pub(super) fn is_due(&self) -> bool {
        self.taken.frames - self.told.frames >= ACK_FRAMES || self.taken.bytes - self.told.bytes >= ACK_BYTES
    }

    /// What the sender is told now.
    pub(super) fn tell(&mut self) -> Count {
        self.told = self.taken;
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::bridge::FRAME_MAX;

    #[test]
    fn the_window_is_full_at_its_bound_of_frames_and_opens_by_what_is_acknowledged() {
        let mut window = Window::default();
        assert_eq!((0..2 * WINDOW_FRAMES).filter(|_| window.take(1)).count() as u64, WINDOW_FRAMES);
        assert!(window.acknowledge(Count { frames: 3, bytes: 3 }));
        assert_eq!((0..10).filter(|_| window.take(1)).count(), 3);
    }

    #[test]
    fn the_window_is_full_at_its_bound_of_bytes() {
        let mut window = Window::default();
        assert_eq!(
            (0..100).filter(|_| window.take(FRAME_MAX)).count() as u64,
            WINDOW_BYTES / FRAME_MAX as u64
        );
        assert!(!window.take(1));
    }

    #[test]
    fn an_old_acknowledgement_changes_nothing_and_one_of_what_was_never_sent_is_refused() {
        let mut window = Window::default();
        assert!((0..5).all(|_| window.take(10)));
        assert!(window.acknowledge(Count { frames: 4, bytes: 40 }));
        assert!(window.acknowledge(Count { frames: 2, bytes: 20 }));
        assert_eq!(window.waiting(), Count { frames: 1, bytes: 10 });
        assert!(!window.acknowledge(Count { frames: 6, bytes: 50 }));
        assert!(!window.acknowledge(Count { frames: 5, bytes: 51 }));
    }

    #[test]
    fn a_receipt_is_due_well_before_the_sender_has_to_wait() {
        let mut receipt = Receipt::default();
        let frames = (1..=WINDOW_FRAMES).find(|_| {
            receipt.take(1);
            receipt.is_due()
        });
        assert_eq!(frames, Some(ACK_FRAMES));
        assert_eq!(receipt.tell(), Count { frames: ACK_FRAMES, bytes: ACK_FRAMES });
        assert!(!receipt.is_due());
        (0..1).for_each(|_| receipt.take(FRAME_MAX));
        assert!(receipt.is_due());
    }
}
