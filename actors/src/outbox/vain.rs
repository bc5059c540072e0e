//! Tries of a turn that came to nothing, and when it is given up for them. Pure.

use std::time::Duration;

use colloquy_protocol::dead_letter::DeadReason;
use colloquy_protocol::ids::MessageId;
use tokio::time::Instant;

/// Refusals of one turn in a row after which it is given up, if another turn has been answered since the first of them, ...
pub(super) const REFUSALS_MAX: u32 = 5;
/// ... or if that is so long ago. It is longer than it takes to replace whoever is behind a sink, and to mend the way to it.
pub(super) const REFUSED_MAX: Duration = Duration::from_secs(10 * 60);
/// Failures of one turn in a row, each with another turn answered since the one before, after which it is given up.
pub(super) const OWN_FAILURES_MAX: u32 = 10;

/// Tries of a turn that came to nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Vain {
    /// Which turn, if it is known: the next one of a lane may be another each time.
    turn_id: Option<MessageId>,
    /// How often it was tried, for whatever reason in vain: if only because the store did not say what it is.
    tries: u32,
    /// How often it was posted.
    posts: u32,
    /// How often it was refused ...
    refusals: u32,
    /// ... and since when, and how many answers there had been then.
    refused_since: Option<(Instant, u64)>,
    /// How often it failed while others went well.
    own: u32,
    /// Answers there had been when it failed last.
    answers: u64,
    /// It is to be given up.
    death: Option<Death>,
}

/// Why a turn is to be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// Why.
    pub reason: DeadReason,
    /// What it was refused with last, if it was.
    pub status: Option<u16>,
}

/// A turn that was posted in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Which.
    pub turn_id: MessageId,
    /// How often.
    pub posts: u32,
    /// It is not to be posted any more: it is to be put among the dead letters.
    pub death: Option<Death>,
}

impl Vain {
    /// What is known of the turn, if it is known which.
    pub(super) fn tried(&self) -> Option<Tried> {
        let Self { posts, death, .. } = *self;
        self.turn_id.map(|turn_id| Tried { turn_id, posts, death })
    }

    /// Counts a try. Says how many there had been.
    pub(super) fn one_more(&mut self) -> u32 {
        let tries = self.tries;
        self.tries = tries.saturating_add(1);
        tries
    }

    /// What is known of this turn: nothing, if it was another that was tried before.
    pub(super) fn of(&mut self, turn_id: MessageId) -> &mut Self {
        if self.turn_id != Some(turn_id) {
            *self = Self { turn_id: Some(turn_id), ..Self::default() };
        }
        self
    }

    /// It was refused, and so many turns have been answered by now. Says whether it is given up for that.
    pub(super) fn refused(&mut self, status: u16, answers: u64, now: Instant) -> bool {
        self.posts += 1;
        self.refusals += 1;
        let (since, answers_then) = *self.refused_since.get_or_insert((now, answers));
        let is_its_own = answers > answers_then || now - since >= REFUSED_MAX;
        let is_hopeless = self.refusals >= REFUSALS_MAX && is_its_own;
        is_hopeless && self.dies(Death { reason: DeadReason::Refused, status: Some(status) })
    }

    /// It failed, and so many turns have been answered by now. The first failure counts: nothing says yet that it is the
    /// agent's. Says whether it is given up for that.
    pub(super) fn failed(&mut self, reason: DeadReason, answers: u64, is_busy: bool) -> bool {
        self.posts += 1;
        if !is_busy && (self.own == 0 || answers > self.answers) {
            self.own += 1;
            self.answers = answers;
        }
        self.own >= OWN_FAILURES_MAX && self.dies(Death { reason, status: None })
    }

    /// It is given up, unless it was before: then there was no room for it among the dead letters, and it is tried on.
    fn dies(&mut self, death: Death) -> bool {
        let is_news = self.death.is_none();
        self.death = Some(death);
        is_news
    }
}
