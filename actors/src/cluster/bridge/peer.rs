//! Another pod, as its member entry names it: who dials, and when again. Pure.

use colloquy_storage::model::live::{Member, PodId};
use rand::RngExt;
use rand::rngs::StdRng;
use std::time::Duration;
use tokio::time::Instant;

use super::{BACKOFF_MAX, BACKOFF_MIN};

/// When this pod dials a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialling {
    /// Never: the peer dials. Of two pods the one whose name is the lesser does, so that two connections seldom compete.
    Theirs,
    /// At this time.
    At(Instant),
    /// It has; what becomes of it is not yet known.
    UnderWay,
}

/// A peer.
#[derive(Debug)]
pub(super) struct Peer {
    /// Its entry.
    pub(super) member: Member,
    dialling: Dialling,
    /// Attempts since a link stood.
    attempts: u32,
    /// A link has stood: the next one is a reconnection.
    pub(super) was_linked: bool,
    /// The log has been told why it does not let us in; it is told once until a link stands.
    pub(super) refusal_told: bool,
}

impl Peer {
    /// A peer of `own`, to be dialled at once if it is for us to dial.
    pub(super) fn of(own: &PodId, member: Member, now: Instant) -> Self {
        let dialling = if *own < member.pod_id { Dialling::At(now) } else { Dialling::Theirs };
        Self { member, dialling, attempts: 0, was_linked: false, refusal_told: false }
    }

    /// Is it this pod, in this incarnation?
    pub(super) fn is(&self, pod_id: &PodId, incarnation: u64) -> bool {
        self.member.pod_id == *pod_id && self.member.incarnation == incarnation
    }

    /// Begins to dial, if it is time.
    pub(super) fn dial(&mut self, now: Instant) -> bool {
        let is_time = matches!(self.dialling, Dialling::At(at) if at <= now);
        if is_time {
            self.dialling = Dialling::UnderWay;
            self.attempts = self.attempts.saturating_add(1);
        }
        is_time
    }

    /// A link stands. Says whether it had stood before.
    pub(super) fn linked(&mut self) -> bool {
        self.attempts = 0;
        self.refusal_told = false;
        std::mem::replace(&mut self.was_linked, true)
    }

    /// A dial, or the connection it made, has come to nothing.
    pub(super) fn lost(&mut self, now: Instant, rng: &mut StdRng) {
        if self.dialling == Dialling::UnderWay {
            self.dialling = Dialling::At(now + backoff(self.attempts, rng));
        }
    }
}

/// Between a half of the full wait and all of it, so that many pods do not come back at the same moment.
fn backoff(attempts: u32, rng: &mut StdRng) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    let full = (BACKOFF_MIN * 2_u32.pow(doublings)).min(BACKOFF_MAX);
    full.mul_f64(rng.random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn peer(own: &str, name: &str, now: Instant) -> Peer {
        let (address, takes_ownership) = (String::new(), true);
        let member = Member { pod_id: PodId::new(name).unwrap(), incarnation: 1, address, takes_ownership };
        Peer::of(&PodId::new(own).unwrap(), member, now)
    }

    #[test]
    fn exactly_one_of_two_pods_dials() {
        let now = Instant::now();
        assert!(peer("a", "b", now).dial(now));
        assert!(!peer("b", "a", now).dial(now + Duration::from_secs(3600)));
    }

    #[test]
    fn a_dial_is_not_repeated_while_it_is_under_way() {
        let (now, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
        let mut peer = peer("a", "b", now);
        assert!(peer.dial(now) && !peer.dial(now));
        peer.lost(now, &mut rng);
        assert!(!peer.dial(now) && peer.dial(now + BACKOFF_MIN));
    }

    #[test]
    fn the_wait_grows_up_to_its_bound_with_chance_in_it_and_starts_anew_after_a_link() {
        let (now, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
        let waits = |attempts, rng: &mut StdRng| {
            let waits: Vec<_> = (0..100).map(|_| backoff(attempts, rng)).collect();
            (*waits.iter().min().unwrap(), *waits.iter().max().unwrap())
        };
        for (attempts, full) in [(1, 100), (2, 200), (5, 1600), (6, 2000), (u32::MAX, 2000)] {
            let full = Duration::from_millis(full);
            let (least, most) = waits(attempts, &mut rng);
            assert!(least >= full / 2 && most <= full && least < most, "{attempts}: {least:?} to {most:?}");
        }
        let mut peer = peer("a", "b", now);
        peer.attempts = 9;
        assert!(!peer.linked() && peer.linked());
        assert_eq!(peer.attempts, 0);
    }
}
