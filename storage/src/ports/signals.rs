//! The way from a bus to the one who listens: short, and honest about what it dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use super::live::Signal;

/// Signals that may wait for whoever listens. Beyond it they are dropped, and a [`Signal::Gap`] says so (BOUND).
pub const SIGNALS_MAX_WAITING: usize = 4096;

/// A way for at most `capacity` signals.
#[must_use]
pub fn signals(capacity: usize) -> (SignalSender, SignalReceiver) {
    let (sender, receiver) = mpsc::channel(capacity);
    let dropped = Arc::new(AtomicBool::new(false));
    (SignalSender { sender, dropped: Arc::clone(&dropped) }, SignalReceiver { receiver, dropped })
}

/// The bus's end.
#[derive(Clone, Debug)]
pub struct SignalSender {
    sender: mpsc::Sender<Signal>,
    /// Something was dropped since the last gap was told.
    dropped: Arc<AtomicBool>,
}

/// The listener's end.
#[derive(Debug)]
pub struct SignalReceiver {
    receiver: mpsc::Receiver<Signal>,
    dropped: Arc<AtomicBool>,
}

impl SignalSender {
    /// Sends a signal, or drops it if too many wait. Never waits.
    pub fn offer(&self, signal: Signal) {
        // The gap stands in the queue where the signals are missing, if there is room before the listener gets there.
        if self.dropped.load(Ordering::Acquire) {
            if self.sender.try_send(Signal::Gap).is_err() {
                return;
            }
            self.dropped.store(false, Ordering::Release);
        }
        // With nobody left to listen, it does not matter.
        if self.sender.try_send(signal).is_err() {
            self.dropped.store(true, Ordering::Release);
        }
    }
}

impl SignalReceiver {
    /// The next signal; `None` once the bus is closed.
    ///
    /// Safe to cancel: nothing is lost.
    pub async fn next(&mut self) -> Option<Signal> {
        if let Ok(signal) = self.receiver.try_recv() {
            return Some(signal);
        }
        // All that waited has been heard, so what was dropped would have come now.
        if self.dropped.swap(false, Ordering::AcqRel) {
            return Some(Signal::Gap);
        }
        self.receiver.recv().await
    }

    /// The next signal if it waits already.
    pub fn try_next(&mut self) -> Option<Signal> {
        match self.receiver.try_recv() {
            Ok(signal) => Some(signal),
            Err(_) => self.dropped.swap(false, Ordering::AcqRel).then_some(Signal::Gap),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::live::Channel;
    use super::*;

    fn numbered(n: u8) -> Signal {
        Signal::Published(Channel::Pods, vec![n].into())
    }

    #[tokio::test]
    async fn what_comes_beyond_the_bound_is_dropped_and_a_gap_stands_in_its_place() {
        let (sender, mut receiver) = signals(2);
        (0..5).for_each(|n| sender.offer(numbered(n)));
        assert_eq!(receiver.next().await, Some(numbered(0)));
        assert_eq!(receiver.next().await, Some(numbered(1)));
        assert_eq!(receiver.next().await, Some(Signal::Gap));
        sender.offer(numbered(5));
        assert_eq!(receiver.next().await, Some(numbered(5)));
        assert_eq!(receiver.try_next(), None);
    }

    #[tokio::test]
    async fn a_gap_comes_before_what_is_sent_once_there_is_room() {
        let (sender, mut receiver) = signals(2);
        (0..3).for_each(|n| sender.offer(numbered(n)));
        assert_eq!(receiver.next().await, Some(numbered(0)));
        // There is room for the gap alone, so this one is behind another.
        sender.offer(numbered(3));
        let rest: Vec<_> = std::iter::from_fn(|| receiver.try_next()).collect();
        assert_eq!(rest, [numbered(1), Signal::Gap, Signal::Gap]);
        drop(sender);
        assert_eq!(receiver.next().await, None);
    }
}
