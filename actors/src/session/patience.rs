//! How many refused frames a connection may send before it is closed. Pure.

use colloquy_protocol::limits::{VIOLATIONS_MAX, VIOLATIONS_WINDOW};
use tokio::time::Instant;

/// Counts refused frames within a window.
#[derive(Debug)]
pub struct Patience {
    window_started: Instant,
    refused: u32,
}

impl Patience {
    /// A connection that has done nothing wrong.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { window_started: now, refused: 0 }
    }

    /// A frame was refused; says whether that was one too many.
    #[must_use]
    pub fn exhausted_by_refusal(&mut self, now: Instant) -> bool {
        if now.duration_since(self.window_started) >= VIOLATIONS_WINDOW {
            *self = Self::new(now);
        }
        self.refused += 1;
        self.refused > VIOLATIONS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_mistakes_a_minute_are_borne_and_the_next_is_one_too_many() {
        let start = Instant::now();
        let mut patience = Patience::new(start);
        for _ in 0..VIOLATIONS_MAX {
            assert!(!patience.exhausted_by_refusal(start));
        }
        assert!(patience.exhausted_by_refusal(start));
        assert!(!patience.exhausted_by_refusal(start + VIOLATIONS_WINDOW));
    }
}
