//! What is broken now, and until when. Two faults of one kind on one thing last until the later of their ends.

use std::collections::BTreeMap;
use std::time::Duration;

use colloquy_actors::supervision::ActorKind;

use super::network::Place;

/// Something that is broken for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ill {
    /// This pod has no process.
    PodDown(u16),
    /// This pod stands still.
    PodFrozen(u16),
    /// An actor of this kind, in this pod, stands still.
    ActorHangs(u16, ActorKind),
    /// What the first sends to the second is held.
    Severed(Place, Place),
    /// This pod's store misbehaves.
    StoreWeather(u16),
    /// The store is away.
    StoreOut,
    /// This pod's bus misbehaves.
    BusWeather(u16),
    /// The bus is away.
    BusOut,
    /// This device has no process.
    DeviceDown(usize),
    /// This device has no network.
    DeviceCut(usize),
    /// This person, an agent, does what it should not.
    AgentMoods(usize),
    /// This pod was told to go, and has to have gone by the end.
    PodGoing(u16),
}

/// Everything that is broken.
#[derive(Debug, Default)]
pub(crate) struct Ills(BTreeMap<Ill, Duration>);

impl Ills {
    /// It is broken until then, or longer if it is already. Says whether it was whole.
    pub(crate) fn add(&mut self, ill: Ill, until: Duration) -> bool {
        let was_whole = !self.0.contains_key(&ill);
        let end = self.0.entry(ill).or_default();
        *end = until.max(*end);
        was_whole
    }

    /// It is whole again, whatever was planned.
    pub(crate) fn remove(&mut self, ill: Ill) -> bool {
        self.0.remove(&ill).is_some()
    }

    /// What is to be made whole by now, in a fixed order; it is no longer broken.
    pub(crate) fn take_due(&mut self, now: Duration) -> Vec<Ill> {
        self.0.extract_if(.., |_, end| *end <= now).map(|(ill, _)| ill).collect()
    }

    /// Everything; nothing is broken any more.
    pub(crate) fn take_all(&mut self) -> Vec<Ill> {
        std::mem::take(&mut self.0).into_keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_broken_twice_is_broken_until_the_later_end() {
        let mut ills = Ills::default();
        assert!(ills.add(Ill::StoreOut, 3 * SECOND));
        assert!(!ills.add(Ill::StoreOut, 2 * SECOND));
        assert!(ills.add(Ill::PodDown(1), SECOND));
        assert_eq!(ills.take_due(2 * SECOND), [Ill::PodDown(1)]);
        assert_eq!(ills.take_due(3 * SECOND), [Ill::StoreOut]);
        assert!(ills.take_all().is_empty());
    }
}
