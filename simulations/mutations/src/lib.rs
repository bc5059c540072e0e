//! Defects that are put into production code on purpose, one at a time, to see whether the simulations find them.
//!
//! A check that has never failed proves nothing. Each mutation is one that somebody could have written, at the place where
//! they would have; that place asks [`is`] whether it is to be made. Crates ask only under their feature `mutations`, which
//! nothing but the simulations turns on: what is shipped has neither the question nor the defect.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

/// A defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mutation {
    /// A message is acknowledged when it is handed to the store, and not when the store has it.
    AckBeforeWrite = 1,
    /// The store looks for no earlier message with the same idempotency key.
    NoUniqueKey = 2,
    /// A client notes that it holds a message before it does.
    CursorBeforeDelivery = 3,
    /// The store takes what an owner that is not the newest appends, over what stands there.
    NoFencing = 4,
    /// A client that sends a message again sends it under a new key.
    RetryWithoutKey = 5,
    /// Messages of a connection are numbered in the order in which they arrive.
    NoReorderBuffer = 6,
    /// An agent answers under a key that does not follow from the turn.
    AnswerWithoutTurnKey = 7,
    /// Whoever answers a turn is believed that it is theirs.
    AnswerByAnyone = 8,
    /// A turn that is given up is not kept.
    NoDeadLetter = 9,
    /// A message counts as told when it was posted, whatever was answered.
    TellOnce = 10,
}

impl Mutation {
    /// Every one of them.
    pub const ALL: [Self; 10] = [
        Self::AckBeforeWrite,
        Self::NoUniqueKey,
        Self::CursorBeforeDelivery,
        Self::NoFencing,
        Self::RetryWithoutKey,
        Self::NoReorderBuffer,
        Self::AnswerWithoutTurnKey,
        Self::AnswerByAnyone,
        Self::NoDeadLetter,
        Self::TellOnce,
    ];

    /// Its name on a command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AckBeforeWrite => "ack-before-write",
            Self::NoUniqueKey => "no-unique-key",
            Self::CursorBeforeDelivery => "cursor-before-delivery",
            Self::NoFencing => "no-fencing",
            Self::RetryWithoutKey => "retry-without-key",
            Self::NoReorderBuffer => "no-reorder-buffer",
            Self::AnswerWithoutTurnKey => "answer-without-turn-key",
            Self::AnswerByAnyone => "answer-by-anyone",
            Self::NoDeadLetter => "no-dead-letter",
            Self::TellOnce => "tell-once",
        }
    }
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mutation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|mutation| mutation.name() == text);
        named.ok_or_else(|| format!("one of: {}", Self::ALL.map(Self::name).join(", ")))
    }
}

static MADE: AtomicU8 = AtomicU8::new(0);

/// From now on this process has this defect.
pub fn make(mutation: Mutation) {
    MADE.store(mutation as u8, Ordering::Relaxed);
}

/// Does it have this one?
#[must_use]
pub fn is(mutation: Mutation) -> bool {
    MADE.load(Ordering::Relaxed) == mutation as u8
}
