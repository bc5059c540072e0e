//! Who hears which channel.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

use crate::ports::live::{Channel, Signal};
use crate::ports::signals::SignalSender;

/// A pod's place at the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seat(u64);

#[derive(Default)]
pub(super) struct Channels {
    next: u64,
    seats: BTreeMap<Seat, SignalSender>,
    /// In the order of the seats, so that a simulation repeats.
    heard: HashMap<Channel, BTreeSet<Seat>>,
}

impl Channels {
    pub(super) fn join(&mut self, sender: SignalSender) -> Seat {
        let seat = Seat(self.next);
        self.next += 1;
        self.seats.insert(seat, sender);
        seat
    }

    pub(super) fn leave(&mut self, seat: Seat) {
        self.seats.remove(&seat);
        self.heard.retain(|_, seats| {
            seats.remove(&seat);
            !seats.is_empty()
        });
    }

    pub(super) fn subscribe(&mut self, seat: Seat, channel: Channel) {
        self.heard.entry(channel).or_default().insert(seat);
    }

    pub(super) fn unsubscribe(&mut self, seat: Seat, channel: &Channel) {
        let Some(seats) = self.heard.get_mut(channel) else { return };
        seats.remove(&seat);
        if seats.is_empty() {
            self.heard.remove(channel);
        }
    }

    /// Answers how many hear it.
    pub(super) fn publish(&self, channel: &Channel, body: &Bytes) -> u64 {
        let seats = self.heard.get(channel).into_iter().flatten();
        let hearing = seats.filter_map(|seat| self.seats.get(seat));
        hearing.map(|sender| sender.offer(Signal::Published(channel.clone(), body.clone()))).count() as u64
    }

    pub(super) fn tell_everybody(&self, signal: &Signal) {
        self.seats.values().for_each(|sender| sender.offer(signal.clone()));
    }
}
