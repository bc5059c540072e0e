//! Where one device stands in each conversation, and what it is shown next (ORDER). Pure.
//!
//! What is new is shown as it comes while it is the next in order and the socket has room. Anything else makes the
//! conversation *behind*: nothing of it is buffered, it is read from the log, page by page, until the device has
//! caught up (BOUND, NOLOSS).

use std::collections::{HashMap, VecDeque};

use colloquy_protocol::ids::ConversationId;

/// Where a device stands in each of its user's conversations; bounded by their number.
///
/// All of them, because what comes first after connecting need not be what is next: the owner that stored the message
/// before may have died before it told anybody.
#[derive(Debug, Default)]
pub struct Delivery {
    positions: HashMap<ConversationId, Position>,
    behind: VecDeque<ConversationId>,
}

#[derive(Clone, Copy, Debug)]
struct Position {
    /// The number to show next.
    next: u64,
    /// The newest number known to be in the log.
    end: u64,
    /// In `behind`.
    behind: bool,
}

/// What to do about one message that has just been stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Live {
    /// It is the next: show it.
    Show,
    /// It has been shown.
    Shown,
    /// It will be read from the log.
    Later,
}

/// A run to read from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// The first number wanted.
    pub from: u64,
    /// The last.
    pub to: u64,
}

impl Delivery {
    /// The device resumes: it holds everything up to `after`, the log goes up to `end`.
    pub fn resume(&mut self, conversation_id: ConversationId, after: u64, end: u64) {
        let behind = after < end;
        self.positions.insert(conversation_id, Position { next: after.min(end) + 1, end, behind });
        if behind {
            self.behind.push_back(conversation_id);
        }
    }

    /// Is it one of the user's conversations, as far as can be told here?
    #[must_use]
    pub fn knows(&self, conversation_id: ConversationId) -> bool {
        self.positions.contains_key(&conversation_id)
    }

    /// Message `number` has just been stored. If the answer is [`Live::Show`] and the socket took it, call
    /// [`Self::shown`]; if the socket had no room, call [`Self::fall_behind`].
    pub fn live(&mut self, conversation_id: ConversationId, number: u64) -> Live {
        let position = self.grown(conversation_id, number);
        if number < position.next {
            return Live::Shown;
        }
        if number == position.next && !position.behind {
            return Live::Show;
        }
        self.fall_behind(conversation_id);
        Live::Later
    }

    /// The log reaches `end` at least; what has not been shown is read from the log.
    pub fn catch_up(&mut self, conversation_id: ConversationId, end: u64) {
        let position = self.grown(conversation_id, end);
        if position.next <= end {
            self.fall_behind(conversation_id);
        }
    }

    /// A conversation that was opened since the device connected starts at its first message.
    fn grown(&mut self, conversation_id: ConversationId, end: u64) -> Position {
        let fresh = Position { next: 1, end, behind: false };
        let position = self.positions.entry(conversation_id).or_insert(fresh);
        position.end = position.end.max(end);
        *position
    }

    /// Everything of the conversation up to `number` has been shown.
    pub fn shown(&mut self, conversation_id: ConversationId, number: u64) {
        if let Some(position) = self.positions.get_mut(&conversation_id) {
            position.next = position.next.max(number + 1);
        }
    }

    /// The socket has no room for the next message of the conversation.
    pub fn fall_behind(&mut self, conversation_id: ConversationId) {
        if let Some(position) = self.positions.get_mut(&conversation_id)
            && !position.behind
        {
            position.behind = true;
            self.behind.push_back(conversation_id);
        }
    }

    /// The next run to read from the log. Conversations take turns; call [`Self::caught_up_to`] with what was read.
    pub fn next_run(&mut self) -> Option<Run> {
        while let Some(conversation_id) = self.behind.pop_front() {
            let Some(position) = self.positions.get_mut(&conversation_id) else { continue };
            position.behind = position.next <= position.end;
            if position.behind {
                return Some(Run { conversation_id, from: position.next, to: position.end });
            }
        }
        None
    }

    /// The log was read and shown up to `number` (one before the run's start if it held nothing). Says whether more
    /// of the conversation is to come.
    pub fn caught_up_to(&mut self, conversation_id: ConversationId, number: u64, log_ended: bool) -> bool {
        let Some(position) = self.positions.get_mut(&conversation_id) else { return false };
        position.next = position.next.max(number + 1);
        if log_ended {
            position.end = number;
        }
        position.behind = position.next <= position.end;
        if position.behind {
            self.behind.push_back(conversation_id);
        }
        position.behind
    }

    /// Is there anything to read from the log?
    #[must_use]
    pub fn is_behind(&self) -> bool {
        !self.behind.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    /// What a device may go through, step by step.
    #[derive(Clone, Debug)]
    enum Step {
        /// A message is stored and announced, and the socket has room for it or not.
        Store { announced: bool, room: bool },
        /// An old announcement comes again.
        Repeat(u64),
        /// A page is read from the log.
        Page(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (any::<bool>(), any::<bool>()).prop_map(|(announced, room)| Step::Store { announced, room }),
            (1_u64..50).prop_map(Step::Repeat),
            (1_usize..8).prop_map(Step::Page),
        ]
    }

    fn read_page(delivery: &mut Delivery, log: u64, size: usize, shown: &mut Vec<u64>) {
        if let Some(run) = delivery.next_run() {
            let last = run.to.min(log).min(run.from + size as u64 - 1);
            shown.extend(run.from..=last);
            delivery.caught_up_to(run.conversation_id, last, last == log && last < run.to);
        }
    }

    proptest! {
        #[test]
        fn a_device_is_shown_every_message_once_and_in_order_whatever_is_lost_late_or_doubled(
            before in 0_u64..10, held in 0_u64..10, steps in proptest::collection::vec(step(), 0..80),
        ) {
            let conversation = ConversationId(Uuid::from_u128(1));
            let held = held.min(before);
            let (mut delivery, mut log, mut shown) = (Delivery::default(), before, Vec::new());
            delivery.resume(conversation, held, before);
            let announce = |delivery: &mut Delivery, number: u64, room: bool, shown: &mut Vec<u64>| {
                if delivery.live(conversation, number) == Live::Show {
                    if room {
                        shown.push(number);
                        delivery.shown(conversation, number);
                    } else {
                        delivery.fall_behind(conversation);
                    }
                }
            };
            for step in steps {
                match step {
                    Step::Store { announced, room } => {
                        log += 1;
                        if announced { announce(&mut delivery, log, room, &mut shown); }
                    }
                    Step::Repeat(number) => {
                        if number > held && number <= log { announce(&mut delivery, number, true, &mut shown); }
                    }
                    Step::Page(size) => read_page(&mut delivery, log, size, &mut shown),
                }
            }
            // Whatever was not announced, a new owner makes good.
            delivery.catch_up(conversation, log);
            while delivery.is_behind() { read_page(&mut delivery, log, 3, &mut shown); }
            prop_assert_eq!(shown, (held + 1..=log).collect::<Vec<_>>());
        }
    }
}
