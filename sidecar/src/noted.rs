//! Turns that the server has told something of, each once; the newest are kept. Pure.

use std::collections::VecDeque;

use colloquy_protocol::frame::delta::TurnPlace;

/// Turns that are remembered.
pub(crate) const NOTED_MAX: usize = 1024;

/// The turns, those noted first in front.
#[derive(Debug, Default)]
pub(crate) struct Noted(VecDeque<TurnPlace>);

impl Noted {
    /// Remembers a turn.
    pub(crate) fn note(&mut self, turn: TurnPlace) {
        if self.0.contains(&turn) {
            return;
        }
        if self.0.len() >= NOTED_MAX {
            self.0.pop_front();
        }
        self.0.push_back(turn);
    }

    /// Is it remembered?
    pub(crate) fn contains(&self, turn: TurnPlace) -> bool {
        self.0.contains(&turn)
    }

    /// Is nothing remembered?
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets those of which this is true, and says which they were.
    pub(crate) fn take_if(&mut self, is_taken: impl Fn(&TurnPlace) -> bool) -> Vec<TurnPlace> {
        let (taken, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.0).into_iter().partition(is_taken);
        self.0 = left.into();
        taken
    }
}
