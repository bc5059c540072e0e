//! How often a broken session may be mended.
//!
//! Every repair costs a one-time key and two messages. Without a bound, two devices that cannot understand each
//! other (a restored backup, a fault on one side) would repair for ever; with it they stop and say so. What bounds the
//! asking is repairs in vain: one that has worked gives the budget back, so that however much was lost is told again,
//! one answer after the other.

use serde::{Deserialize, Serialize};

use colloquy_protocol::UnixMillis;

/// Repairs in vain that one device may start with one other device within [`REPAIR_WINDOW_MS`].
pub const REPAIRS_MAX: u32 = 4;
/// Repairs of one other device that are answered within [`REPAIR_WINDOW_MS`]: enough for a thousand messages.
pub const ANSWERS_MAX: u32 = 64;
/// The window of [`REPAIRS_MAX`] and [`ANSWERS_MAX`]: one hour.
pub const REPAIR_WINDOW_MS: u64 = 60 * 60 * 1000;

/// What is left of the repairs allowed in the current window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairBudget {
    window_began_at: UnixMillis,
    spent: u32,
}

impl RepairBudget {
    /// Takes one repair of at most `max`. `false` means that the limit is reached: nothing more is sent until the window
    /// ends.
    pub fn take(&mut self, max: u32, now: UnixMillis) -> bool {
        // A window that begins in the future was begun by a clock that has since been set back.
        let began = self.window_began_at;
        if now < began || now - began >= REPAIR_WINDOW_MS {
            *self = Self { window_began_at: now, spent: 0 };
        }
        let allowed = self.spent < max;
        self.spent += u32::from(allowed);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_spent_and_comes_back_with_the_next_window() {
        let mut budget = RepairBudget::default();
        let now = 10 * REPAIR_WINDOW_MS;
        for _ in 0..REPAIRS_MAX {
            assert!(budget.take(REPAIRS_MAX, now));
        }
        assert!(!budget.take(REPAIRS_MAX, now + REPAIR_WINDOW_MS - 1));
        assert!(budget.take(REPAIRS_MAX, now + REPAIR_WINDOW_MS));
    }

    #[test]
    fn a_clock_that_is_set_back_begins_a_new_window() {
        let mut budget = RepairBudget::default();
        let now = 100 * REPAIR_WINDOW_MS;
        for _ in 0..REPAIRS_MAX {
            assert!(budget.take(REPAIRS_MAX, now));
        }
        assert!(budget.take(REPAIRS_MAX, now - 24 * REPAIR_WINDOW_MS));
    }
}
