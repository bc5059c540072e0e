//! How much of what is for now or never one session may say. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Frames that pass one after the other ...
const BURST_MAX: u32 = 512;
/// ... and how many more do each second: twenty answers that grow ten times a second, and some to spare. What is beyond is
/// dropped, like what nobody has room for.
const EACH_SECOND: u32 = 256;

/// A bucket of tokens.
#[derive(Debug)]
pub(super) struct MurmurThrottle {
    tokens: u32,
    /// Since when a token is on its way.
    filled_at: Instant,
}

impl MurmurThrottle {
    /// Full.
    pub(super) fn new(now: Instant) -> Self {
        Self { tokens: BURST_MAX, filled_at: now }
    }

    /// Is this to be passed on?
    pub(super) fn passes(&mut self, now: Instant) -> bool {
        let each = Duration::from_secs(1) / EACH_SECOND;
        let come = now.duration_since(self.filled_at).as_nanos() / each.as_nanos();
        let come = u32::try_from(come).unwrap_or(u32::MAX);
        self.filled_at = if come >= BURST_MAX { now } else { self.filled_at + each * come };
        self.tokens = self.tokens.saturating_add(come).min(BURST_MAX);
        let passes = self.tokens > 0;
        self.tokens -= u32::from(passes);
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_so_many_each_second() {
        let now = Instant::now();
        let mut throttle = MurmurThrottle::new(now);
        let passed = |throttle: &mut MurmurThrottle, now: Instant| {
            (0..10_000).filter(|_| throttle.passes(now)).count()
        };
        assert_eq!(passed(&mut throttle, now), BURST_MAX as usize);
        let half_a_second = now + Duration::from_millis(500);
        assert_eq!(passed(&mut throttle, half_a_second), EACH_SECOND as usize / 2);
        assert_eq!(passed(&mut throttle, now + Duration::from_secs(3600)), BURST_MAX as usize);
    }
}
