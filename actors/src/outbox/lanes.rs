//! What is under way to one sink, an agent's or the feed's: each conversation is a lane, one turn after the other; many lanes at
//! once. Pure.
//!
//! ```text
//! noted ──> waiting ──> posting ──> answering ──> (next turn) waiting, or nothing left: the lane is forgotten
//!              ^           │ failed      │ no answer in time
//!              └── resting <┴─────────────┘
//! ```
//!
//! A turn that is in vain again and again is given up: the lane is started once more, to put it among the dead letters, and goes
//! on with the next. Not because whoever is behind the sink is away or busy, though: only what is in vain while others go well,
//! and what is refused for long.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use colloquy_protocol::dead_letter::DeadReason;
use colloquy_protocol::ids::{ConversationId, MessageId};
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::breaker::Breaker;
use super::vain::{Tried, Vain};

/// Before a turn is tried again the first time; each time it is twice as long, less a random part (full jitter) ...
const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// ... and at most this.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// A turn that another pod is to see to is looked after here too, until it is settled: from then on as long as the agent has
/// for a turn, and at most this. That pod may have looked before the message was there.
const HANDED_OVER_MAX: Duration = Duration::from_secs(5 * 60);
/// The longest that a sink may ask to be left alone for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10 * 60);
/// Answers noted while a turn is being posted. More than its own come only where dead letters are replayed.
const EARLY_MAX: usize = 4;

/// What a sink is given, and how much of it at once.
#[derive(Debug)]
pub struct Lanes {
    at_once: usize,
    timeout: Duration,
    lanes: BTreeMap<ConversationId, Lane>,
    ready: VecDeque<ConversationId>,
    under_way: usize,
    breaker: Breaker,
    /// Turns answered so far.
    answers: u64,
}

#[derive(Debug)]
struct Lane {
    /// The newest number known to be in the log.
    end: u64,
    /// The newest number known to be a question's; 0 if none is known to be.
    asked: u64,
    /// Everything up to here is settled, if that is known.
    settled: Option<u64>,
    /// The same, when the lane was started last.
    from: Option<u64>,
    /// This pod owned the conversation when something was written in it, and was told: it may be the only one that knows.
    is_told: bool,
    /// It is another pod's to see to, which has had its time.
    insists: bool,
    /// How the turn has been tried in vain.
    vain: Vain,
    /// Answers that were stored before it was known which turn the agent has taken: the first [`EARLY_MAX`].
    early: Vec<MessageId>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Posting,
    Answering { turn_id: MessageId, sequence_number: u64, until: Instant },
    Resting { until: Instant },
}

/// A lane whose next turn is to be found and posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Which.
    pub conversation_id: ConversationId,
    /// The newest number known to be in the log.
    pub end: u64,
    /// Everything up to here is settled, if that is known.
    pub settled: Option<u64>,
    /// Whoever else it belongs to.
    pub insists: bool,
    /// What is known of a turn that was tried in vain. It need not be the next one: another pod may have seen to it.
    pub tried: Option<Tried>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything up to here is settled, and nothing else was found.
    Nothing {
        /// Inclusive.
        through: u64,
    },
    /// It is another pod's to do.
    NotOurs,
    /// An agent has taken it, and owes an answer.
    Taken {
        /// The turn.
        turn_id: MessageId,
        /// Its message's number.
        sequence_number: u64,
    },
    /// The store did not say what is next.
    Unread,
    /// It could not be taken.
    Failed {
        /// The turn.
        turn_id: MessageId,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
        /// It says that it has too much to do, which is not the turn's fault.
        is_busy: bool,
    },
    /// It is not wanted.
    Refused {
        /// The turn.
        turn_id: MessageId,
        /// The status it says so with.
        status: u16,
    },
    /// It was given up, and is among the dead letters.
    Buried {
        /// Its message's number.
        sequence_number: u64,
        /// It was posted once more before, in vain.
        was_posted: bool,
    },
}

impl Lanes {
    /// Of a sink that takes so many turns at once; an agent has so long for each.
    #[must_use]
    pub fn new(at_once: usize, timeout: Duration) -> Self {
        Self {
            at_once: at_once.max(1),
            timeout,
            lanes: BTreeMap::new(),
            ready: VecDeque::new(),
            under_way: 0,
            breaker: Breaker::default(),
            answers: 0,
        }
    }

    /// From now on it takes so many at once, and has so long for each new one.
    pub fn revise(&mut self, at_once: usize, timeout: Duration) {
        (self.at_once, self.timeout) = (at_once.max(1), timeout);
    }

    /// A conversation's log reaches up to here, as its owner says.
    pub fn told(&mut self, conversation_id: ConversationId, end: u64) {
        self.note(conversation_id, end, true);
    }

    /// The same, and what stands there begins a turn.
    pub fn asked(&mut self, conversation_id: ConversationId, number: u64) {
        self.told(conversation_id, number);
        if let Some(lane) = self.lanes.get_mut(&conversation_id) {
            lane.asked = lane.asked.max(number);
        }
    }

    /// A conversation's log reaches up to here, as was found by looking.
    pub fn found(&mut self, conversation_id: ConversationId, end: u64) {
        self.note(conversation_id, end, false);
    }

    fn note(&mut self, conversation_id: ConversationId, end: u64, is_told: bool) {
        if let Some(lane) = self.lanes.get_mut(&conversation_id) {
            lane.end = lane.end.max(end);
            lane.is_told |= is_told;
            return;
        }
        let lane = Lane {
            end,
            asked: 0,
            settled: None,
            from: None,
            is_told,
            insists: false,
            vain: Vain::default(),
            early: Vec::new(),
            state: State::Waiting,
        };
        self.lanes.insert(conversation_id, lane);
        self.ready.push_back(conversation_id);
    }

    /// Conversations in which something is to be done or under way.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    /// Is something to be done or under way in a conversation?
    #[must_use]
    pub fn has(&self, conversation_id: ConversationId) -> bool {
        self.lanes.contains_key(&conversation_id)
    }

    /// The next lane to start, if one may: each that is started has to [end](Self::ended).
    pub fn start(&mut self, now: Instant) -> Option<Start> {
        if self.under_way >= self.at_once || self.ready.is_empty() || !self.breaker.lets_through(now) {
            return None;
        }
        let conversation_id = self.ready.pop_front()?;
        let lane = self.lanes.get_mut(&conversation_id)?;
        lane.state = State::Posting;
        lane.from = lane.settled;
        lane.early.clear();
        self.under_way += 1;
        let (end, settled, insists, tried) = (lane.end, lane.settled, lane.insists, lane.vain.tried());
        Some(Start { conversation_id, end, settled, insists, tried })
    }

    /// A lane that was started has come so far, and has not ended: for what was taken nothing is owed.
    pub fn progressed(&mut self, conversation_id: ConversationId, through: u64) {
        let Some(lane) = self.lanes.get_mut(&conversation_id) else { return };
        self.breaker.succeeded();
        lane.settle(through);
        self.answers += 1;
    }

    /// What a lane that was started has come to. Says up to where the conversation is settled by it, if that is news.
    pub fn ended(
        &mut self,
        conversation_id: ConversationId,
        outcome: Outcome,
        now: Instant,
        rng: &mut StdRng,
    ) -> Option<u64> {
        let lane = self.lanes.get_mut(&conversation_id)?;
        match outcome {
            Outcome::Taken { turn_id, sequence_number } => {
                self.breaker.succeeded();
                lane.settled = lane.settled.max(Some(sequence_number.saturating_sub(1)));
                lane.state = State::Answering { turn_id, sequence_number, until: now + self.timeout };
                let is_answered = lane.early.contains(&turn_id);
                return if is_answered { self.answered(conversation_id, turn_id) } else { None };
            }
            Outcome::Nothing { through } => {
                self.breaker.unused(now);
                if lane.from.is_some_and(|from| from >= through) && through < lane.end {
                    // What it was told of cannot be found: it would look for it for ever.
                    lane.rest(now, None, rng);
                } else {
                    lane.settle(through);
                    self.go_on(conversation_id);
                }
            }
            Outcome::NotOurs => {
                self.breaker.unused(now);
                if lane.is_told {
                    lane.insists = true;
                    lane.state = State::Resting { until: now + self.timeout.min(HANDED_OVER_MAX) };
                } else {
                    self.lanes.remove(&conversation_id);
                }
            }
            Outcome::Unread => {
                self.breaker.unused(now);
                lane.rest(now, None, rng);
            }
            Outcome::Failed { turn_id, retry_after, is_busy } => {
                self.breaker.failed(now);
                let is_given_up = lane.vain.of(turn_id).failed(DeadReason::Failing, self.answers, is_busy);
                lane.rest(now, retry_after, rng);
                self.wake_if(is_given_up, conversation_id);
            }
            Outcome::Refused { turn_id, status } => {
                self.breaker.succeeded();
                let is_given_up = lane.vain.of(turn_id).refused(status, self.answers, now);
                lane.rest(now, None, rng);
                self.wake_if(is_given_up, conversation_id);
            }
            Outcome::Buried { sequence_number, was_posted } => {
                if was_posted {
                    self.breaker.failed(now);
                } else {
                    self.breaker.unused(now);
                }
                lane.settle(sequence_number);
                self.go_on(conversation_id);
            }
        }
        self.under_way = self.under_way.saturating_sub(1);
        None
    }

    /// The turn that is being answered although something newer was asked in its conversation, as far as was told here.
    #[must_use]
    pub fn superseded(&self, conversation_id: ConversationId) -> Option<MessageId> {
        let lane = self.lanes.get(&conversation_id)?;
        match lane.state {
            State::Answering { turn_id, sequence_number, .. } if lane.asked > sequence_number => {
                Some(turn_id)
            }
            _ => None,
        }
    }

    /// A turn has its answer. Says up to where the conversation is settled by it, if that is news.
    pub fn answered(&mut self, conversation_id: ConversationId, answered: MessageId) -> Option<u64> {
        let lane = self.lanes.get_mut(&conversation_id)?;
        if lane.state == State::Posting && lane.early.len() < EARLY_MAX {
            lane.early.push(answered);
        }
        let State::Answering { turn_id, sequence_number, .. } = lane.state else { return None };
        if turn_id != answered {
            return None;
        }
        lane.settle(sequence_number);
        self.answers += 1;
        self.under_way = self.under_way.saturating_sub(1);
        self.go_on(conversation_id);
        Some(sequence_number)
    }

    /// Time has passed: who has rested goes on, and who has had no answer in time is asked again.
    pub fn tick(&mut self, now: Instant, rng: &mut StdRng) {
        for (conversation_id, lane) in &mut self.lanes {
            match lane.state {
                State::Resting { until } if until <= now => {
                    lane.state = State::Waiting;
                    self.ready.push_back(*conversation_id);
                }
                State::Answering { turn_id, until, .. } if until <= now => {
                    self.under_way = self.under_way.saturating_sub(1);
                    // If it is to be given up, that may wait as long as a try.
                    lane.vain.of(turn_id).failed(DeadReason::Unanswered, self.answers, false);
                    lane.rest(now, None, rng);
                }
                _ => {}
            }
        }
    }

    /// When [`Self::tick`] has something to do, or a lane may start that may not now.
    #[cfg(test)]
    fn next_tick(&self) -> Option<Instant> {
        let due = self.lanes.values().filter_map(|lane| match lane.state {
            State::Resting { until } | State::Answering { until, .. } => Some(until),
            State::Waiting | State::Posting => None,
        });
        let opens = self.breaker.opens_at().filter(|_| !self.ready.is_empty());
        due.chain(opens).min()
    }

    /// Is nothing to be done or under way in any conversation?
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Is the agent left alone, because it fails?
    #[cfg(test)]
    fn is_left_alone(&self) -> bool {
        self.breaker.is_open()
    }

    /// Nobody rests to give a turn up.
    fn wake_if(&mut self, is_given_up: bool, conversation_id: ConversationId) {
        if let Some(lane) = self.lanes.get_mut(&conversation_id).filter(|_| is_given_up) {
            lane.state = State::Waiting;
            self.ready.push_back(conversation_id);
        }
    }

    fn go_on(&mut self, conversation_id: ConversationId) {
        let Some(lane) = self.lanes.get_mut(&conversation_id) else { return };
        if lane.settled.is_some_and(|settled| settled >= lane.end) {
            self.lanes.remove(&conversation_id);
        } else {
            lane.state = State::Waiting;
            self.ready.push_back(conversation_id);
        }
    }
}

impl Lane {
    /// Everything up to here is settled.
    fn settle(&mut self, through: u64) {
        self.settled = self.settled.max(Some(through));
        self.vain = Vain::default();
    }

    fn rest(&mut self, now: Instant, retry_after: Option<Duration>, rng: &mut StdRng) {
        let longest = BACKOFF_MIN.saturating_mul(1 << self.vain.one_more().min(16)).min(BACKOFF_MAX);
        let wait = longest.mul_f64(rng.random_range(0.5..=1.0));
        let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        self.state = State::Resting { until: now + wait.max(asked) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::vain::{Death, OWN_FAILURES_MAX, REFUSALS_MAX, REFUSED_MAX};
    use super::*;
    use rand::SeedableRng;
    use std::collections::BTreeSet;
    use uuid::Uuid;

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn conversation(n: u128) -> ConversationId {
        ConversationId(Uuid::from_u128(n))
    }

    fn turn(n: u128) -> MessageId {
        MessageId(Uuid::from_u128(n))
    }

    fn taken(n: u128, sequence_number: u64) -> Outcome {
        Outcome::Taken { turn_id: turn(n), sequence_number }
    }

    /// The first turn of any conversation.
    const TURN: MessageId = MessageId(Uuid::from_u128(10));
    const FAILED: Outcome = Outcome::Failed { turn_id: TURN, retry_after: None, is_busy: false };
    const BUSY: Outcome = Outcome::Failed { turn_id: TURN, retry_after: None, is_busy: true };
    const REFUSED: Outcome = Outcome::Refused { turn_id: TURN, status: 422 };

    struct Trial {
        lanes: Lanes,
        rng: StdRng,
        now: Instant,
    }

    impl Trial {
        fn of(at_once: usize) -> Self {
            Self { lanes: Lanes::new(at_once, TIMEOUT), rng: StdRng::seed_from_u64(1), now: Instant::now() }
        }

        fn started(&mut self) -> Vec<u128> {
            let mut started = Vec::new();
            while let Some(start) = self.lanes.start(self.now) {
                started.push(start.conversation_id.0.as_u128());
            }
            started
        }

        fn ended(&mut self, n: u128, outcome: Outcome) -> Option<u64> {
            self.lanes.ended(conversation(n), outcome, self.now, &mut self.rng)
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
            self.lanes.tick(self.now, &mut self.rng);
        }
    }

    #[test]
    fn conversations_go_side_by_side_up_to_the_bound_and_turns_of_one_after_each_other() {
        let mut trial = Trial::of(2);
        for n in 1..=3 {
            trial.lanes.told(conversation(n), 2);
        }
        assert_eq!(trial.started(), [1, 2]);
        trial.ended(1, taken(10, 1));
        trial.lanes.told(conversation(1), 3);
        assert_eq!(trial.started(), [] as [u128; 0], "a turn is under way until it is answered");
        assert_eq!(trial.lanes.answered(conversation(1), turn(99)), None, "another turn's answer");
        assert_eq!(trial.lanes.answered(conversation(1), turn(10)), Some(1));
        assert_eq!(trial.lanes.answered(conversation(1), turn(10)), None, "once");
        assert_eq!(trial.started(), [3], "whoever has waited longest");
        trial.ended(2, Outcome::Nothing { through: 2 });
        let start = trial.lanes.start(trial.now);
        let conversation_id = conversation(1);
        let begun = Start { conversation_id, end: 3, settled: Some(1), insists: false, tried: None };
        assert_eq!(start, Some(begun));
    }

    #[test]
    fn what_owes_no_answer_goes_on_until_it_fails() {
        let mut trial = Trial::of(1);
        trial.lanes.told(conversation(1), 9);
        assert_eq!(trial.started(), [1]);
        trial.lanes.progressed(conversation(1), 4);
        trial.ended(1, FAILED);
        assert_eq!(trial.started(), [] as [u128; 0], "it rests");
        trial.pass(BACKOFF_MIN);
        let start = trial.lanes.start(trial.now).unwrap();
        assert_eq!((start.settled, start.tried.map(|tried| tried.posts)), (Some(4), Some(1)));
        trial.lanes.progressed(conversation(1), 8);
        trial.ended(1, Outcome::Nothing { through: 8 });
        assert_eq!(trial.started(), [1]);
        trial.lanes.progressed(conversation(1), 9);
        trial.ended(1, Outcome::Nothing { through: 9 });
        assert!(trial.lanes.is_empty());
    }

    #[test]
    fn what_cannot_be_found_is_not_looked_for_again_at_once() {
        let mut trial = Trial::of(1);
        trial.lanes.told(conversation(1), 9);
        assert_eq!(trial.started(), [1]);
        trial.ended(1, Outcome::Nothing { through: 5 });
        assert_eq!(trial.started(), [1], "it may have come meanwhile");
        for _ in 0..3 {
            trial.ended(1, Outcome::Nothing { through: 5 });
            assert_eq!(trial.started(), [] as [u128; 0]);
            trial.pass(BACKOFF_MAX);
            assert_eq!(trial.started(), [1]);
        }
    }

    #[test]
    fn an_agent_may_answer_before_it_has_said_that_it_has_taken_the_turn() {
        let mut trial = Trial::of(1);
        trial.lanes.told(conversation(1), 1);
        assert_eq!(trial.started(), [1]);
        assert_eq!(trial.lanes.answered(conversation(1), turn(10)), None);
        assert_eq!(trial.ended(1, taken(10, 1)), Some(1));
        assert!(trial.lanes.is_empty());
        trial.lanes.told(conversation(1), 3);
        assert_eq!(trial.started(), [1]);
        trial.lanes.answered(conversation(1), turn(10));
        assert_eq!(trial.ended(1, taken(30, 3)), None, "that was another turn's");
    }

    #[test]
    fn a_conversation_in_which_all_is_settled_is_forgotten() {
        let mut trial = Trial::of(2);
        trial.lanes.told(conversation(1), 2);
        assert_eq!(trial.started(), [1]);
        trial.lanes.told(conversation(1), 5);
        trial.ended(1, Outcome::Nothing { through: 2 });
        assert_eq!(trial.started(), [1], "more has come meanwhile");
        trial.ended(1, Outcome::Nothing { through: 5 });
        assert!(trial.lanes.is_empty());
        assert_eq!(trial.lanes.next_tick(), None);
    }

    #[test]
    fn a_turn_without_an_answer_is_asked_again() {
        let mut trial = Trial::of(1);
        trial.lanes.told(conversation(1), 1);
        trial.lanes.told(conversation(2), 1);
        assert_eq!(trial.started(), [1]);
        trial.ended(1, taken(10, 1));
        assert_eq!(trial.lanes.next_tick(), Some(trial.now + TIMEOUT));
        trial.pass(TIMEOUT);
        assert_eq!(trial.started(), [2], "the other goes first");
        trial.ended(2, taken(20, 1));
        trial.pass(BACKOFF_MAX);
        assert_eq!(trial.started(), [1]);
        trial.ended(1, taken(10, 1));
        // An answer to the first try is one to the second.
        assert_eq!(trial.lanes.answered(conversation(1), turn(10)), Some(1));
    }

    #[test]
    fn what_fails_is_tried_again_later_and_later() {
        let mut trial = Trial::of(1);
        trial.lanes.told(conversation(1), 1);
        let mut waits = Vec::new();
        for _ in 0..10 {
            assert_eq!(trial.started(), [1]);
            trial.ended(1, FAILED);
            assert_eq!(trial.started(), [] as [u128; 0]);
            let wait = trial.lanes.next_tick().unwrap() - trial.now;
            waits.push(wait);
            trial.pass(wait);
        }
        assert!(waits.iter().all(|wait| (BACKOFF_MIN / 2..=BACKOFF_MAX).contains(wait)), "{waits:?}");
        assert!(waits[9] > 10 * waits[0], "{waits:?}");
    }

    #[test]
    fn a_sink_that_asks_to_be_left_alone_is_up_to_a_bound() {
        let mut trial = Trial::of(1);
        trial.lanes.told(conversation(1), 1);
        for (asked, given) in [(120, 120), (1_000_000, RETRY_AFTER_MAX.as_secs())] {
            assert_eq!(trial.started(), [1]);
            let retry_after = Some(Duration::from_secs(asked));
            trial.ended(1, Outcome::Failed { turn_id: TURN, retry_after, is_busy: true });
            let wait = trial.lanes.next_tick().unwrap() - trial.now;
            assert_eq!(wait.as_secs(), given);
            trial.pass(wait);
        }
    }

    impl Start {
        fn death(&self) -> Option<Death> {
            self.tried.and_then(|tried| tried.death)
        }
    }

    /// Has the agent refuse the turn that it has been given.
    fn refuse(trial: &mut Trial) {
        assert_eq!(trial.ended(1, REFUSED), None);
    }

    #[test]
    fn a_turn_that_is_refused_while_others_go_well_is_given_up_and_the_next_one_is_not() {
        let mut trial = Trial::of(2);
        trial.lanes.told(conversation(1), 2);
        trial.lanes.told(conversation(2), 1);
        assert_eq!(trial.started(), [1, 2]);
        refuse(&mut trial);
        trial.ended(2, taken(20, 1));
        trial.lanes.answered(conversation(2), turn(20));
        for posts in 1..REFUSALS_MAX {
            assert_eq!(trial.lanes.start(trial.now), None);
            trial.pass(BACKOFF_MAX);
            let start = trial.lanes.start(trial.now).unwrap();
            assert_eq!(start.tried, Some(Tried { turn_id: TURN, posts, death: None }));
            refuse(&mut trial);
        }
        // It does not rest for that.
        let start = trial.lanes.start(trial.now).unwrap();
        let death = Death { reason: DeadReason::Refused, status: Some(422) };
        assert_eq!(start.tried, Some(Tried { turn_id: TURN, posts: REFUSALS_MAX, death: Some(death) }));
        // That it cannot be put among the dead letters now changes nothing.
        trial.ended(1, Outcome::Unread);
        assert_eq!(trial.lanes.start(trial.now), None);
        trial.pass(BACKOFF_MAX);
        assert_eq!(trial.lanes.start(trial.now).unwrap().death(), Some(death));
        // Nor that there is no room: it is tried on, at the pace at which it was.
        refuse(&mut trial);
        assert_eq!(trial.lanes.start(trial.now), None);
        trial.pass(BACKOFF_MAX);
        assert_eq!(trial.lanes.start(trial.now).unwrap().death(), Some(death));
        trial.ended(1, Outcome::Buried { sequence_number: 1, was_posted: false });
        let next = trial.lanes.start(trial.now).unwrap();
        assert_eq!((next.settled, next.tried), (Some(1), None));
        assert!(!trial.lanes.is_left_alone());
    }

    #[test]
    fn what_is_known_of_a_turn_is_not_held_against_the_next() {
        let mut trial = Trial::of(1);
        trial.lanes.told(conversation(1), 2);
        for _ in 1..REFUSALS_MAX {
            trial.lanes.start(trial.now).unwrap();
            trial.ended(1, REFUSED);
            trial.pass(REFUSED_MAX);
        }
        // Its answer has come after all, so that the next turn is another one.
        trial.lanes.start(trial.now).unwrap();
        trial.ended(1, Outcome::Refused { turn_id: turn(30), status: 422 });
        trial.pass(BACKOFF_MAX);
        let tried = Tried { turn_id: turn(30), posts: 1, death: None };
        assert_eq!(trial.lanes.start(trial.now).unwrap().tried, Some(tried));
    }

    #[test]
    fn an_answer_to_a_turn_that_is_replayed_does_not_hide_that_of_the_turn_being_posted() {
        let mut trial = Trial::of(1);
        trial.lanes.told(conversation(1), 1);
        assert_eq!(trial.started(), [1]);
        trial.lanes.answered(conversation(1), TURN);
        trial.lanes.answered(conversation(1), turn(99));
        assert_eq!(trial.ended(1, taken(10, 1)), Some(1));
    }

    #[test]
    fn a_turn_is_superseded_by_a_question_that_came_before_or_after_the_agent_took_it() {
        let mut trial = Trial::of(1);
        let superseded = |trial: &Trial| trial.lanes.superseded(conversation(1));
        trial.lanes.asked(conversation(1), 1);
        assert_eq!(trial.started(), [1]);
        trial.lanes.told(conversation(1), 2);
        trial.ended(1, taken(10, 1));
        assert_eq!(superseded(&trial), None, "what came is no question");
        trial.lanes.asked(conversation(1), 3);
        assert_eq!(superseded(&trial), Some(turn(10)));
        trial.lanes.answered(conversation(1), turn(10));
        assert_eq!(superseded(&trial), None);
        assert_eq!(trial.started(), [1]);
        trial.lanes.asked(conversation(1), 4);
        assert_eq!(superseded(&trial), None, "the agent does not have it yet");
        trial.ended(1, taken(30, 3));
        assert_eq!(superseded(&trial), Some(turn(30)));
    }

    #[test]
    fn an_agent_that_refuses_everything_for_a_while_has_not_given_up_anything() {
        let mut trial = Trial::of(1);
        trial.lanes.told(conversation(1), 1);
        let began = trial.now;
        loop {
            let start = trial.lanes.start(trial.now).unwrap();
            if start.death().is_some() {
                break;
            }
            refuse(&mut trial);
            if trial.now - began < REFUSED_MAX {
                trial.pass(BACKOFF_MAX);
            }
        }
        assert_eq!(trial.now - began, REFUSED_MAX);
    }

    /// Fails a turn of the first conversation for as long as it is not given up, at most so often; each time the second one has
    /// an answer, if `others_go_well`. Says how often.
    fn fail_until_given_up(others_go_well: bool, by: impl Fn(&mut Trial)) -> (u32, Option<Death>) {
        let mut trial = Trial::of(2);
        trial.lanes.told(conversation(1), 1);
        for tries in 0..5 * OWN_FAILURES_MAX {
            let start = trial.lanes.start(trial.now).unwrap();
            assert_eq!(start.conversation_id, conversation(1));
            if start.death().is_some() {
                return (tries, start.death());
            }
            by(&mut trial);
            if others_go_well {
                trial.lanes.told(conversation(2), 1);
                trial.pass(BACKOFF_MAX);
                // Whichever of the two is first.
                let started = trial.started();
                assert!(started.contains(&2));
                trial.ended(2, taken(20, 1));
                trial.lanes.answered(conversation(2), turn(20));
                if started.contains(&1) {
                    trial.ended(1, Outcome::Unread);
                }
            }
            trial.pass(BACKOFF_MAX);
        }
        (5 * OWN_FAILURES_MAX, None)
    }

    #[test]
    fn a_turn_that_fails_while_others_go_well_is_given_up_and_one_of_an_agent_that_is_away_is_not() {
        let fails = |trial: &mut Trial| assert_eq!(trial.ended(1, FAILED), None);
        let death = Death { reason: DeadReason::Failing, status: None };
        assert_eq!(fail_until_given_up(true, fails), (OWN_FAILURES_MAX, Some(death)));
        assert_eq!(fail_until_given_up(false, fails).1, None);
        let is_busy = |trial: &mut Trial| assert_eq!(trial.ended(1, BUSY), None);
        assert_eq!(fail_until_given_up(true, is_busy).1, None, "that is not the turn's fault");
    }

    #[test]
    fn a_turn_that_is_never_answered_while_others_are_is_given_up() {
        let forgets = |trial: &mut Trial| {
            trial.ended(1, taken(10, 1));
            trial.pass(TIMEOUT);
        };
        let death = Death { reason: DeadReason::Unanswered, status: None };
        assert_eq!(fail_until_given_up(true, forgets).1, Some(death));
        assert_eq!(fail_until_given_up(false, forgets).1, None);
    }

    #[test]
    fn an_agent_that_is_down_is_asked_for_one_conversation_until_it_answers() {
        let mut trial = Trial::of(8);
        for n in 1..=8 {
            trial.lanes.told(conversation(n), 1);
        }
        for n in trial.started() {
            trial.ended(n, FAILED);
        }
        assert!(trial.lanes.is_left_alone());
        trial.pass(BACKOFF_MAX);
        let tried = trial.started();
        assert_eq!(tried.len(), 1, "one at a time");
        trial.ended(tried[0], taken(1, 1));
        assert_eq!(trial.started().len(), 7);
    }

    #[test]
    fn an_agent_that_was_gone_for_an_hour_was_left_alone_and_gets_every_turn_soon_after_it_is_back() {
        const CONVERSATIONS: u128 = 64;
        const HOUR: Duration = Duration::from_secs(60 * 60);
        const LOOK: Duration = Duration::from_millis(250);
        let mut trial = Trial::of(CONVERSATIONS as usize);
        (1..=CONVERSATIONS).for_each(|n| trial.lanes.told(conversation(n), 1));
        let (gone, mut posts) = (trial.now, 0);
        while trial.now - gone < HOUR {
            for n in trial.started() {
                trial.ended(n, FAILED);
                posts += 1;
            }
            trial.pass(LOOK);
        }
        assert!((60..300).contains(&posts), "each at first, then one at a time: {posts}");
        let (back, mut given) = (trial.now, BTreeSet::new());
        while given.len() < CONVERSATIONS as usize {
            for n in trial.started() {
                trial.ended(n, taken(n, 1));
                assert_eq!(trial.lanes.answered(conversation(n), turn(n)), Some(1));
                assert!(given.insert(n), "none is given up, and none comes twice");
            }
            trial.pass(LOOK);
        }
        // The breaker lets one through, and whoever rests has rested.
        assert!(trial.now - back <= 2 * BACKOFF_MAX, "{:?}", trial.now - back);
    }

    #[test]
    fn what_is_not_ours_and_what_cannot_be_read_leaves_no_trace_in_the_breaker() {
        let mut trial = Trial::of(1);
        trial.lanes.told(conversation(1), 1);
        for _ in 0..20 {
            assert_eq!(trial.started(), [1]);
            trial.ended(1, Outcome::Unread);
            trial.pass(BACKOFF_MAX);
        }
        assert!(!trial.lanes.is_left_alone());
        assert_eq!(trial.started(), [1]);
        trial.lanes.found(conversation(2), 1);
        trial.ended(1, Outcome::NotOurs);
        assert!(!trial.lanes.is_left_alone());
    }

    /// Found by seed 300072: the pod that got a conversation back had looked before the last message was there.
    #[test]
    fn what_another_pod_is_to_see_to_is_looked_after_here_if_only_this_one_was_told() {
        let mut trial = Trial::of(2);
        trial.lanes.told(conversation(1), 1);
        trial.lanes.found(conversation(2), 1);
        assert_eq!(trial.started(), [1, 2]);
        trial.ended(1, Outcome::NotOurs);
        trial.ended(2, Outcome::NotOurs);
        assert_eq!(trial.lanes.next_tick(), Some(trial.now + TIMEOUT), "the other has its time");
        trial.pass(TIMEOUT);
        let start = trial.lanes.start(trial.now);
        let insisting = start.map(|start| (start.conversation_id, start.settled, start.insists));
        assert_eq!(insisting, Some((conversation(1), None, true)));
        trial.ended(1, Outcome::Nothing { through: 1 });
        assert!(trial.lanes.is_empty(), "what was only found is the other's alone");
    }
}
