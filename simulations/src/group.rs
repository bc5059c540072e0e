//! A group: users who all write to each other. Conversations have two users, so a group of n is a conversation of each with each
//! of the n - 1 others, and a text for the group is n - 1 messages, one in each. A pair is a group of two. Pure.

use std::ops::Range;

/// The smallest group.
pub(crate) const PAIR: usize = 2;
/// The largest, users: each has a conversation with each of the others (BOUND).
pub(crate) const GROUP_SIZE_MAX: usize = 32;

/// What a group is made of. Its devices have places, member by member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    /// Users, [`PAIR`] to [`GROUP_SIZE_MAX`].
    pub(crate) members: usize,
    /// Devices of each, one at least.
    pub(crate) devices: usize,
    /// Does every member send, from its first device? Otherwise the first member does.
    pub(crate) all_send: bool,
}

impl Group {
    /// Devices of all members.
    pub(crate) fn sockets(self) -> usize {
        self.members * self.devices
    }

    /// Members that send.
    pub(crate) fn senders(self) -> usize {
        if self.all_send { self.members } else { 1 }
    }

    /// Members that a text for the group goes to.
    pub(crate) fn others(self) -> usize {
        self.members - 1
    }

    /// The member whose device is at `place`.
    pub(crate) fn member_at(self, place: usize) -> usize {
        place / self.devices
    }

    /// The places of a member's devices.
    pub(crate) fn places_of(self, member: usize) -> Range<usize> {
        member * self.devices..(member + 1) * self.devices
    }

    /// Does the device at `place` send?
    pub(crate) fn sends(self, place: usize) -> bool {
        place.is_multiple_of(self.devices) && self.member_at(place) < self.senders()
    }

    /// All members but this one, from the next on, so that not everybody writes to the same one first.
    pub(crate) fn others_of(self, member: usize) -> impl Iterator<Item = usize> {
        (1..self.members).map(move |step| (member + step) % self.members)
    }
}

/// The place of the conversation that a sender's next message goes to, and the message's number there from 1, if `sent` went to
/// all of its `conversations` in turn.
pub(crate) fn in_turn(sent: u64, conversations: usize) -> (usize, u64) {
    let conversations = conversations as u64;
    ((sent % conversations) as usize, sent / conversations + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_each_conversation_messages_are_numbered_from_one_without_a_hole() {
        for conversations in [1, 4, 31] {
            let mut last = vec![0; conversations];
            for sent in 0..100 {
                let (place, number) = in_turn(sent, conversations);
                assert_eq!(number, last[place] + 1);
                last[place] = number;
            }
            let (least, most) = (last.iter().min().unwrap(), last.iter().max().unwrap());
            assert!(most - least <= 1, "no conversation is ahead of the others: {last:?}");
        }
    }

    #[test]
    fn a_pair_is_a_group_in_which_each_has_one_other() {
        let pair = Group { members: PAIR, devices: 3, all_send: false };
        assert_eq!((pair.sockets(), pair.senders(), pair.others()), (6, 1, 1));
        assert_eq!((0..6).filter(|place| pair.sends(*place)).collect::<Vec<_>>(), [0]);
        let both = Group { all_send: true, ..pair };
        assert_eq!((0..6).filter(|place| both.sends(*place)).collect::<Vec<_>>(), [0, 3]);
        assert_eq!((both.others_of(0).collect(), both.others_of(1).collect()), (vec![1], vec![0]));
    }

    #[test]
    fn every_member_writes_to_every_other_and_each_to_another_one_first() {
        let group = Group { members: 5, devices: 2, all_send: true };
        let mut first = Vec::new();
        for member in 0..5 {
            let others: Vec<usize> = group.others_of(member).collect();
            first.push(others[0]);
            let mut all = [others, vec![member]].concat();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3, 4]);
            assert!(group.places_of(member).all(|place| group.member_at(place) == member));
        }
        first.sort_unstable();
        assert_eq!(first, [0, 1, 2, 3, 4]);
    }
}
