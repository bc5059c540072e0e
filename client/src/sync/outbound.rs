//! What goes: first written, first sent, at most a window in flight, each until the server has answered it.
//!
//! A conversation is a lane. Within it nothing overtakes: a message that has to be encrypted again, or wait, makes
//! the later ones wait too. Across lanes nothing waits for another. Contents stay in the store; here are names.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use colloquy_protocol::ids::{ConversationId, UserId};

use crate::store::LocalMessageId;

/// Messages in flight unless told otherwise; half of what a server reads ahead of its answers.
pub const WINDOW: usize = 32;
/// A message unanswered for this long, ms, means that the connection is dead.
pub const ANSWER_TIMEOUT_MS: u64 = 30_000;

/// Something to be done for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Encrypt it; then [`Outbound::sealed`], or [`Outbound::waiting`] if something is needed first.
    Seal(LocalMessageId),
    /// Send it with this `client_sequence`. It counts as in flight from here on.
    Send(LocalMessageId, u64),
}

/// What a message can wait for before it is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A user's device list.
    Devices(UserId),
    /// Keys of a user's devices, for a conversation.
    Keys(ConversationId, UserId),
    /// Room to fetch anything at all.
    Room,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Written,
    Sealed,
    InFlight { since: u64 },
}

#[derive(Debug, Default)]
struct Lane {
    entries: BTreeMap<LocalMessageId, Stage>,
    /// Nothing is done before this time.
    resting_until: u64,
    /// What is being fetched for the first message that is not in flight.
    waiting: BTreeSet<Need>,
}

impl Lane {
    /// The first message that is not in flight.
    fn first(&mut self) -> Option<(&LocalMessageId, &mut Stage)> {
        self.entries.iter_mut().find(|(_, stage)| !matches!(stage, Stage::InFlight { .. }))
    }
}

/// Everything in the outbox that has not failed; at most [`crate::store::outbox::OUTBOX_MAX`] entries.
#[derive(Debug)]
pub struct Outbound {
    lanes: BTreeMap<ConversationId, Lane>,
    lane_of: BTreeMap<LocalMessageId, ConversationId>,
    /// Lanes take turns.
    turn: VecDeque<ConversationId>,
    /// The last `client_sequence` used in each conversation on this connection.
    sequences: BTreeMap<ConversationId, u64>,
    /// The `client_sequence` of each message sent on this connection and not done with: sent again, it keeps it, so
    /// that the server lets nothing that was sent later overtake it.
    numbered: BTreeMap<LocalMessageId, u64>,
    in_flight: usize,
    window: usize,
}

impl Outbound {
    /// An empty outbox with at most `window` messages in flight.
    #[must_use]
    pub fn new(window: usize) -> Self {
        Self {
            lanes: BTreeMap::new(),
            lane_of: BTreeMap::new(),
            turn: VecDeque::new(),
            sequences: BTreeMap::new(),
            numbered: BTreeMap::new(),
            in_flight: 0,
            window: window.max(1),
        }
    }

    /// A message is in the store, encrypted or not. Adding it again changes nothing.
    pub fn add(&mut self, id: LocalMessageId, conversation: ConversationId, is_sealed: bool) {
        if self.lane_of.contains_key(&id) {
            return;
        }
        self.lane_of.insert(id, conversation);
        let lane = self.lanes.entry(conversation).or_insert_with(|| {
            self.turn.push_back(conversation);
            Lane::default()
        });
        lane.entries.insert(id, if is_sealed { Stage::Sealed } else { Stage::Written });
    }

    /// The next thing to do, if there is one and the window has room.
    pub fn next_work(&mut self, now: u64) -> Option<Work> {
        if self.in_flight >= self.window {
            return None;
        }
        for _ in 0..self.turn.len() {
            let conversation = self.turn.pop_front().expect("as many turns as lanes");
            self.turn.push_back(conversation);
            let lane = self.lanes.get_mut(&conversation).expect("every turn is a lane's");
            if !lane.waiting.is_empty() || lane.resting_until > now {
                continue;
            }
            match lane.first() {
                None => {}
                Some((id, Stage::Written)) => return Some(Work::Seal(*id)),
                Some((id, stage)) => {
                    *stage = Stage::InFlight { since: now };
                    self.in_flight += 1;
                    let last = self.sequences.entry(conversation).or_insert(0);
                    let sequence = self.numbered.entry(*id).or_insert_with(|| {
                        *last += 1;
                        *last
                    });
                    return Some(Work::Send(*id, *sequence));
                }
            }
        }
        None
    }

    /// Where a message of the outbox belongs.
    #[must_use]
    pub fn conversation_of(&self, id: LocalMessageId) -> Option<ConversationId> {
        self.lane_of.get(&id).copied()
    }

    /// The lowest `client_sequence` that was used in the conversation of a message and is not settled: of whatever was
    /// written first and is still there.
    #[must_use]
    pub fn oldest_unsettled(&self, id: LocalMessageId) -> Option<u64> {
        let lane = self.lanes.get(self.lane_of.get(&id)?)?;
        self.numbered.get(lane.entries.first_key_value()?.0).copied()
    }

    /// The message is encrypted and stored so.
    pub fn sealed(&mut self, id: LocalMessageId) {
        self.set(id, Stage::Sealed);
    }

    /// Its lane waits for all of `needs`.
    pub fn waiting(&mut self, id: LocalMessageId, needs: BTreeSet<Need>) {
        if let Some(lane) = self.lane_mut(id) {
            lane.waiting = needs;
        }
    }

    /// What some lanes waited for has come, or has not: those that wait for nothing else try again, not before
    /// `until`. Returns the messages that waited for it.
    pub fn wake(&mut self, need: Need, until: u64) -> Vec<LocalMessageId> {
        let mut woken = Vec::new();
        for lane in self.lanes.values_mut() {
            if lane.waiting.remove(&need) {
                lane.resting_until = lane.resting_until.max(until);
                woken.extend(lane.first().map(|(id, _)| *id));
            }
        }
        woken
    }

    /// Its lane does nothing before `until`.
    pub fn rest(&mut self, id: LocalMessageId, until: u64) {
        if let Some(lane) = self.lane_mut(id) {
            lane.resting_until = lane.resting_until.max(until);
        }
    }

    /// The server did not store it: it has to be encrypted again.
    pub fn stale(&mut self, id: LocalMessageId) {
        self.set(id, Stage::Written);
    }

    /// The server may store it later: it is sent again, unchanged, not before `until`.
    pub fn refused(&mut self, id: LocalMessageId, until: u64) {
        self.set(id, Stage::Sealed);
        self.rest(id, until);
    }

    /// It is done with: acknowledged, or given up.
    pub fn remove(&mut self, id: LocalMessageId) {
        self.numbered.remove(&id);
        let Some(conversation) = self.lane_of.remove(&id) else { return };
        let Some(lane) = self.lanes.get_mut(&conversation) else { return };
        if let Some(Stage::InFlight { .. }) = lane.entries.remove(&id) {
            self.in_flight -= 1;
        }
        if lane.entries.is_empty() {
            self.lanes.remove(&conversation);
            self.turn.retain(|turn| *turn != conversation);
        }
    }

    /// The connection is gone: what was in flight is in doubt, and is sent again as it is.
    pub fn connection_lost(&mut self) {
        for lane in self.lanes.values_mut() {
            lane.waiting.clear();
            for stage in lane.entries.values_mut() {
                if matches!(stage, Stage::InFlight { .. }) {
                    *stage = Stage::Sealed;
                }
            }
        }
        self.in_flight = 0;
        self.sequences.clear();
        self.numbered.clear();
    }

    /// Is a message unanswered for longer than [`ANSWER_TIMEOUT_MS`]?
    #[must_use]
    pub fn is_overdue(&self, now: u64) -> bool {
        self.lanes.values().flat_map(|lane| lane.entries.values()).any(|stage| match stage {
            Stage::InFlight { since } => now.saturating_sub(*since) >= ANSWER_TIMEOUT_MS,
            Stage::Written | Stage::Sealed => false,
        })
    }

    /// Is this message still to be sent or answered?
    #[must_use]
    pub fn contains(&self, id: LocalMessageId) -> bool {
        self.lane_of.contains_key(&id)
    }

    /// Messages not yet answered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lane_of.len()
    }

    /// Has everything been answered?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lane_of.is_empty()
    }

    /// Messages sent and not answered, at most the window.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn lane_mut(&mut self, id: LocalMessageId) -> Option<&mut Lane> {
        self.lanes.get_mut(self.lane_of.get(&id)?)
    }

    fn set(&mut self, id: LocalMessageId, to: Stage) {
        let Some(lane) = self.lane_of.get(&id).and_then(|lane| self.lanes.get_mut(lane)) else { return };
        if let Some(stage) = lane.entries.get_mut(&id) {
            if matches!(stage, Stage::InFlight { .. }) {
                self.in_flight -= 1;
            }
            *stage = to;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn conversation(n: u128) -> ConversationId {
        ConversationId(Uuid::from_u128(n))
    }

    fn id(n: u64) -> LocalMessageId {
        LocalMessageId(n)
    }

    #[test]
    fn a_message_is_sealed_before_it_is_sent_and_nothing_overtakes_it() {
        let mut outbound = Outbound::new(8);
        outbound.add(id(1), conversation(1), false);
        outbound.add(id(2), conversation(1), true);
        assert_eq!(outbound.next_work(0), Some(Work::Seal(id(1))));
        outbound.waiting(id(1), BTreeSet::from([Need::Room]));
        assert_eq!(outbound.next_work(0), None);
        outbound.wake(Need::Room, 0);
        assert_eq!(outbound.next_work(0), Some(Work::Seal(id(1))));
        outbound.sealed(id(1));
        assert_eq!(outbound.next_work(0), Some(Work::Send(id(1), 1)));
        assert_eq!(outbound.next_work(0), Some(Work::Send(id(2), 2)));
        assert_eq!(outbound.next_work(0), None);
    }

    #[test]
    fn a_conversation_that_waits_holds_up_no_other() {
        let mut outbound = Outbound::new(8);
        outbound.add(id(1), conversation(1), false);
        outbound.add(id(2), conversation(2), true);
        assert_eq!(outbound.next_work(0), Some(Work::Seal(id(1))));
        outbound.waiting(id(1), BTreeSet::from([Need::Room]));
        assert_eq!(outbound.next_work(0), Some(Work::Send(id(2), 1)));
    }

    #[test]
    fn a_lane_is_woken_by_what_it_waits_for_and_by_nothing_else() {
        let (a, b) = (UserId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2)));
        let mut outbound = Outbound::new(8);
        outbound.add(id(1), conversation(1), false);
        outbound.add(id(2), conversation(2), false);
        outbound.waiting(id(1), BTreeSet::from([Need::Devices(a), Need::Keys(conversation(1), b)]));
        outbound.waiting(id(2), BTreeSet::from([Need::Devices(b)]));
        assert_eq!(outbound.wake(Need::Keys(conversation(1), a), 0), []);
        assert_eq!(outbound.wake(Need::Devices(a), 5), [id(1)]);
        assert_eq!(outbound.next_work(9), None, "it waits for keys too, and the other for a list");
        assert_eq!(outbound.wake(Need::Keys(conversation(1), b), 0), [id(1)]);
        assert_eq!(outbound.next_work(4), None, "the list may be tried again only then");
        assert_eq!(outbound.next_work(5), Some(Work::Seal(id(1))));
    }

    #[test]
    fn after_a_lost_connection_what_is_in_doubt_goes_again_first_and_counts_from_one() {
        let mut outbound = Outbound::new(2);
        for n in 1..=3 {
            outbound.add(id(n), conversation(1), true);
        }
        assert_eq!(outbound.next_work(0), Some(Work::Send(id(1), 1)));
        assert_eq!(outbound.next_work(0), Some(Work::Send(id(2), 2)));
        assert_eq!(outbound.next_work(0), None, "the window is full");
        outbound.remove(id(1));
        assert_eq!(outbound.next_work(0), Some(Work::Send(id(3), 3)));
        outbound.connection_lost();
        assert_eq!(outbound.next_work(0), Some(Work::Send(id(2), 1)));
        assert_eq!(outbound.next_work(0), Some(Work::Send(id(3), 2)));
    }

    #[test]
    fn what_is_sent_names_the_oldest_that_is_still_to_be_settled() {
        let mut outbound = Outbound::new(8);
        for n in 1..=3 {
            outbound.add(id(n), conversation(1), true);
            outbound.next_work(0);
        }
        assert_eq!(outbound.oldest_unsettled(id(3)), Some(1));
        outbound.refused(id(1), 50);
        assert_eq!(outbound.oldest_unsettled(id(3)), Some(1), "it is to be sent again");
        outbound.remove(id(2));
        outbound.remove(id(1));
        assert_eq!(outbound.oldest_unsettled(id(3)), Some(3));
    }

    #[test]
    fn a_refused_message_rests_and_a_silent_server_is_noticed() {
        let mut outbound = Outbound::new(2);
        outbound.add(id(1), conversation(1), true);
        outbound.next_work(0);
        outbound.refused(id(1), 50);
        assert_eq!(outbound.next_work(49), None);
        assert_eq!(outbound.next_work(50), Some(Work::Send(id(1), 1)), "it keeps its number");
        assert!(!outbound.is_overdue(50 + ANSWER_TIMEOUT_MS - 1));
        assert!(outbound.is_overdue(50 + ANSWER_TIMEOUT_MS));
    }

    proptest! {
        /// A server that stores by key, and loses frames and answers by dropping the connection. Whatever happens,
        /// every message is stored once, and in the order it was written where nothing was refused.
        #[test]
        fn whatever_is_lost_each_message_is_stored_once_and_in_order(
            lanes in proptest::collection::vec(0_u128..3, 1..60),
            fates in proptest::collection::vec(0_u8..5, 0..200),
            window in 1_usize..10,
        ) {
            let mut outbound = Outbound::new(window);
            for (index, lane) in lanes.iter().enumerate() {
                outbound.add(id(index as u64 + 1), conversation(*lane), false);
            }
            let mut stored: Vec<LocalMessageId> = Vec::new();
            let mut keys = BTreeSet::new();
            let mut fates = fates.into_iter();
            let mut now = 0;
            while !outbound.is_empty() {
                now += 1;
                match outbound.next_work(now) {
                    Some(Work::Seal(id)) => outbound.sealed(id),
                    Some(Work::Send(id, _)) => {
                        prop_assert!(outbound.in_flight() <= window);
                        match fates.next().unwrap_or(0) {
                            // The frame is lost with the connection, or the answer is.
                            1 => outbound.connection_lost(),
                            2 => {
                                if keys.insert(id) { stored.push(id); }
                                outbound.connection_lost();
                            }
                            _ => {
                                if keys.insert(id) { stored.push(id); }
                                outbound.remove(id);
                            }
                        }
                    }
                    None => prop_assert!(false, "nothing to do, and not done"),
                }
            }
            prop_assert_eq!(stored.len(), lanes.len());
            for lane in 0..3 {
                let of_lane: Vec<_> = stored.iter().filter(|id| {
                    lanes[usize::try_from(id.0).unwrap() - 1] == lane
                }).collect();
                prop_assert!(of_lane.is_sorted());
            }
        }
    }
}
