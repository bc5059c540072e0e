//! One append on its way into the log, without any I/O: which messages are still to be stored, under which numbers, and
//! what has become of the others.

use std::collections::HashMap;
use std::sync::Arc;

use colloquy_protocol::ids::{IdempotencyKey, UserId};
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::message_log::{Append, Appended, Placed};

/// First messages by what makes them first (ONCE); `None` for one that cannot be read back.
pub(in crate::mongo) type Firsts = HashMap<(UserId, IdempotencyKey), Option<Arc<Message>>>;

/// One append.
pub(in crate::mongo) struct Placing {
    pub(in crate::mongo) append: Append,
    /// The number of the first message that is to be stored.
    next: u64,
    /// Each message's fate, where it is known.
    fates: Vec<Option<Placed>>,
    /// The append ends like this, whatever is left of it.
    ended: Option<Appended>,
}

impl Placing {
    pub(in crate::mongo) fn new(append: Append) -> Self {
        let fates = append.messages.iter().map(|_| None).collect();
        Self { next: append.after_sequence + 1, append, fates, ended: None }
    }

    /// The messages to be stored, in order, with their places in the append and their numbers.
    pub(in crate::mongo) fn pending(&self) -> impl Iterator<Item = (usize, u64, &Message)> {
        let pending = self.fates.iter().zip(&self.append.messages).enumerate();
        let pending = pending.filter(|(_, (fate, _))| self.ended.is_none() && fate.is_none());
        pending.zip(self.next..).map(|((place, (_, message)), number)| (place, number, message))
    }

    /// The first `count` of the pending messages are stored.
    pub(in crate::mongo) fn stored(&mut self, count: usize) {
        let places: Vec<usize> = self.pending().take(count).map(|(place, _, _)| place).collect();
        places.into_iter().for_each(|place| self.place(place));
    }

    fn place(&mut self, place: usize) {
        let mut message = self.append.messages[place].clone();
        message.sequence_number = self.next;
        self.next += 1;
        self.fates[place] = Some(Placed::New(Arc::new(message)));
    }

    /// Takes note of messages that are in the log already; how many of the pending ones are. One that cannot be read back
    /// ends this append, and no other (ISOLATE).
    pub(in crate::mongo) fn meet(&mut self, firsts: &Firsts) -> usize {
        let mut met = 0;
        for place in 0..self.fates.len() {
            let message = &self.append.messages[place];
            let first = firsts.get(&(message.sender_id, message.idempotency_key));
            let (None, None, Some(first)) = (&self.ended, &self.fates[place], first) else { continue };
            met += 1;
            let Some(first) = first else {
                self.refuse(Appended::Unreadable);
                continue;
            };
            let is_first_pending = self.fates[..place].iter().all(Option::is_some);
            let is_itself = first.message_id == message.message_id
                && first.conversation_id == message.conversation_id
                && first.sequence_number == self.next;
            // Stored by an earlier try of this very append, whose answer was lost.
            if is_first_pending && is_itself {
                self.place(place);
            } else {
                let same_body = first.same_body(message);
                self.fates[place] = Some(Placed::Duplicate { first: Arc::clone(first), same_body });
            }
        }
        met
    }

    /// Nothing more is stored, for this reason; which is not all that is to be told if part of it was.
    pub(in crate::mongo) fn refuse(&mut self, why: Appended) {
        let has_stored = self.fates.iter().any(|fate| matches!(fate, Some(Placed::New(_))));
        self.ended = Some(if has_stored { Appended::Unknown } else { why });
    }

    /// What came of it: to be asked when nothing is pending.
    pub(in crate::mongo) fn finish(self) -> Appended {
        let Self { ended, fates, .. } = self;
        ended.unwrap_or_else(|| match fates.into_iter().collect() {
            Some(placed) => Appended::Placed(placed),
            None => Appended::Unknown,
        })
    }

    /// The newest message it has stored.
    pub(in crate::mongo) fn newest(&self) -> Option<&Arc<Message>> {
        let stored = |fate: &'_ Option<Placed>| matches!(fate, Some(Placed::New(_)));
        match self.fates.iter().rfind(|fate| stored(fate)) {
            Some(Some(Placed::New(message))) => Some(message),
            _ => None,
        }
    }
}
