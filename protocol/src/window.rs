//! Bounded runs of sequence numbers. Numbers start at 1; 0 means "before the first" (ORDER).

use serde::{Deserialize, Serialize};

use crate::limits::WINDOW_MAX;

/// An inclusive, non-empty run of at most [`WINDOW_MAX`] sequence numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceWindow {
    from: u64,
    to: u64,
}

/// Why two numbers are not a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWindow {
    /// `from` is 0.
    #[error("sequence numbers start at 1")]
    Zero,
    /// `from` lies after `to`.
    #[error("the window is reversed")]
    Reversed,
    /// More than [`WINDOW_MAX`] numbers.
    #[error("the window is too wide")]
    TooWide,
}

impl SequenceWindow {
    /// # Errors
    /// [`InvalidWindow`] says which of the three conditions does not hold.
    pub fn new(from: u64, to: u64) -> Result<Self, InvalidWindow> {
        if from == 0 {
            return Err(InvalidWindow::Zero);
        }
        if from > to {
            return Err(InvalidWindow::Reversed);
        }
        if to - from >= WINDOW_MAX {
            return Err(InvalidWindow::TooWide);
        }
        Ok(Self { from, to })
    }

    /// The first number.
    #[must_use]
    pub fn from(self) -> u64 {
        self.from
    }

    /// The last number, inclusive.
    #[must_use]
    pub fn to(self) -> u64 {
        self.to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_forward_bounded_and_starts_at_one() {
        assert_eq!(SequenceWindow::new(0, 5), Err(InvalidWindow::Zero));
        assert_eq!(SequenceWindow::new(5, 4), Err(InvalidWindow::Reversed));
        assert_eq!(SequenceWindow::new(1, u64::MAX), Err(InvalidWindow::TooWide));
        assert_eq!(SequenceWindow::new(1, WINDOW_MAX + 1), Err(InvalidWindow::TooWide));
        assert!(SequenceWindow::new(1, WINDOW_MAX).is_ok());
        assert!(SequenceWindow::new(u64::MAX, u64::MAX).is_ok());
    }
}
