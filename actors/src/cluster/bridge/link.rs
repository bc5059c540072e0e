//! One attempt at a link over one connection: greeting, then pulses, until the peer falls silent. Pure.
//!
//! Each end draws a number for the attempt and greets. A greeting is answered by one that carries its number; an end is up
//! once it has seen its own number come back, so that a greeting left over from an earlier attempt raises nothing. Frames
//! follow the answer on the same connection, so they never come before it.

use colloquy_storage::model::live::PodId;
use tokio::time::Instant;

use super::packet::Hello;
use super::window::{Count, Receipt};
use super::{HEARTBEAT, SILENCE_MAX};

/// Who greets: this pod.
#[derive(Clone, Debug)]
pub(super) struct Greeter {
    /// Its name.
    pub(super) pod_id: PodId,
    /// Its incarnation.
    pub(super) incarnation: u64,
    /// The versions it speaks: oldest, newest.
    pub(super) versions: (u16, u16),
}

impl Greeter {
    fn hello(&self, to: u64, from: u64) -> Hello {
        let (pod_id, incarnation, versions) = (self.pod_id.clone(), self.incarnation, self.versions);
        Hello { to, from, pod_id, incarnation, versions }
    }

    /// The newest version that both speak.
    fn version(&self, theirs: (u16, u16)) -> Option<u16> {
        let newest = self.versions.1.min(theirs.1);
        (newest >= self.versions.0.max(theirs.0)).then_some(newest)
    }
}

/// An attempt.
#[derive(Debug)]
pub(super) struct Link {
    own: u64,
    /// The peer's number that was answered last.
    answered: u64,
    /// The peer's number, once up.
    peer: Option<u64>,
    heard: Instant,
    spoke: Instant,
    receipt: Receipt,
}

/// What a greeting leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Greeted {
    /// To be sent.
    pub(super) answer: Option<Hello>,
    /// The link is up, with this version.
    pub(super) up: Option<u16>,
}

/// The pods have no version in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoCommonVersion;

/// What the passing of time leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing yet.
    Nothing,
    /// Let the peer hear something.
    Pulse,
    /// The peer has been silent for too long.
    Down,
}

impl Link {
    /// Begins an attempt under a number of its own, which is not 0; the greeting is to be sent.
    pub(super) fn begin(own: u64, greeter: &Greeter, now: Instant) -> (Self, Hello) {
        let link = Self { own, answered: 0, peer: None, heard: now, spoke: now, receipt: Receipt::default() };
        (link, greeter.hello(0, own))
    }

    /// This end's number.
    pub(super) fn number(&self) -> u64 {
        self.own
    }

    /// Is it up?
    pub(super) fn is_up(&self) -> bool {
        self.peer.is_some()
    }

    /// The peer has greeted.
    pub(super) fn greeted(
        &mut self,
        hello: &Hello,
        greeter: &Greeter,
        now: Instant,
    ) -> Result<Greeted, NoCommonVersion> {
        if self.is_up() {
            // The peer knows our number: it needs no answer. What begins anew comes over a connection of its own.
            return Ok(Greeted { answer: None, up: None });
        }
        let version = greeter.version(hello.versions).ok_or(NoCommonVersion)?;
        let is_answer = hello.to == self.own;
        let answer = (self.answered != hello.from).then(|| greeter.hello(hello.from, self.own));
        self.answered = hello.from;
        if is_answer {
            self.peer = Some(hello.from);
            (self.heard, self.spoke) = (now, now);
        }
        Ok(Greeted { answer, up: is_answer.then_some(version) })
    }

    /// A parcel has come. `false` if the peer was silent for too long before it: a pod that was frozen must find that it
    /// was given up before it takes in what had been sent to it meanwhile.
    #[must_use]
    pub(super) fn heard(&mut self, now: Instant) -> bool {
        let in_time = !self.is_silent(now);
        if in_time {
            self.heard = now;
        }
        in_time
    }

    /// A frame was taken in.
    pub(super) fn took(&mut self, bytes: usize) {
        self.receipt.take(bytes);
    }

    /// Should the peer be told now what was taken in?
    pub(super) fn owes_receipt(&self) -> bool {
        self.receipt.is_due()
    }

    /// What the head of the next parcel says: the peer's number, and what was taken in. `None` until it is up.
    pub(super) fn speak(&mut self, now: Instant) -> Option<(u64, Count)> {
        let peer = self.peer?;
        self.spoke = now;
        Some((peer, self.receipt.tell()))
    }

    /// What is due.
    pub(super) fn due(&self, now: Instant) -> Due {
        if !self.is_up() {
            // The connection's own deadline ends an attempt.
            return Due::Nothing;
        }
        if self.is_silent(now) {
            return Due::Down;
        }
        if now.duration_since(self.spoke) >= HEARTBEAT { Due::Pulse } else { Due::Nothing }
    }

    fn is_silent(&self, now: Instant) -> bool {
        now.duration_since(self.heard) >= SILENCE_MAX
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn greeter(name: &str, versions: (u16, u16)) -> Greeter {
        Greeter { pod_id: PodId::new(name).unwrap(), incarnation: 1, versions }
    }

    fn pair() -> (Greeter, Greeter) {
        (greeter("a", (1, 3)), greeter("b", (2, 5)))
    }

    #[test]
    fn both_ends_come_up_with_the_newest_common_version_whoever_greets_first() {
        let ((a, b), now) = (pair(), Instant::now());
        let ((mut at_a, from_a), (mut at_b, from_b)) = (Link::begin(1, &a, now), Link::begin(2, &b, now));
        let answer_of_b = at_b.greeted(&from_a, &b, now).unwrap();
        assert_eq!(answer_of_b.up, None);
        let up_at_a = at_a.greeted(&answer_of_b.answer.unwrap(), &a, now).unwrap();
        assert_eq!(up_at_a.up, Some(3));
        // The first greeting of b comes late and changes nothing.
        assert_eq!(at_a.greeted(&from_b, &a, now), Ok(Greeted { answer: None, up: None }));
        assert_eq!(
            at_b.greeted(&up_at_a.answer.unwrap(), &b, now),
            Ok(Greeted { answer: None, up: Some(3) })
        );
        assert_eq!((at_a.speak(now).unwrap().0, at_b.speak(now).unwrap().0), (2, 1));
    }

    #[test]
    fn one_greeting_that_arrives_suffices() {
        let ((a, b), now) = (pair(), Instant::now());
        let ((mut at_a, _lost), (mut at_b, from_b)) = (Link::begin(1, &a, now), Link::begin(2, &b, now));
        let answer_of_a = at_a.greeted(&from_b, &a, now).unwrap().answer.unwrap();
        let at_last = at_b.greeted(&answer_of_a, &b, now).unwrap();
        assert_eq!(at_last.up, Some(3));
        assert_eq!(at_a.greeted(&at_last.answer.unwrap(), &a, now).unwrap().up, Some(3));
    }

    #[test]
    fn a_greeting_of_an_earlier_attempt_raises_nothing() {
        let ((a, b), now) = (pair(), Instant::now());
        let (_, stale) = Link::begin(7, &b, now);
        let ((mut at_a, from_a), (mut at_b, from_b)) = (Link::begin(1, &a, now), Link::begin(2, &b, now));
        let to_the_earlier = at_a.greeted(&stale, &a, now).unwrap();
        assert_eq!(to_the_earlier.up, None);
        assert_eq!(at_b.greeted(&to_the_earlier.answer.unwrap(), &b, now).unwrap().up, None);
        let answer_of_a = at_a.greeted(&from_b, &a, now).unwrap().answer.unwrap();
        assert_eq!(at_b.greeted(&answer_of_a, &b, now).unwrap().up, Some(3));
        let answer_of_b = at_b.greeted(&from_a, &b, now).unwrap();
        assert_eq!(answer_of_b.answer, None, "it has been answered when its number was first seen");
    }

    #[test]
    fn pods_without_a_common_version_stay_apart() {
        let (a, b, now) = (greeter("a", (1, 2)), greeter("b", (3, 4)), Instant::now());
        let (mut at_a, _) = Link::begin(1, &a, now);
        let (_, from_b) = Link::begin(2, &b, now);
        assert_eq!(at_a.greeted(&from_b, &a, now), Err(NoCommonVersion));
    }

    fn up(now: Instant) -> Link {
        let (a, b) = pair();
        let (mut link, _) = Link::begin(1, &a, now);
        let mut answer = Link::begin(2, &b, now).1;
        answer.to = 1;
        link.greeted(&answer, &a, now).unwrap();
        link
    }

    #[test]
    fn a_link_speaks_at_every_heartbeat_and_ends_by_silence() {
        let start = Instant::now();
        let mut link = up(start);
        let tick = Duration::from_millis(100);
        assert_eq!(link.due(start + HEARTBEAT - tick), Due::Nothing);
        assert_eq!(link.due(start + HEARTBEAT), Due::Pulse);
        assert!(link.speak(start + HEARTBEAT).is_some());
        assert_eq!(link.due(start + HEARTBEAT + tick), Due::Nothing);
        assert!(link.heard(start + SILENCE_MAX - tick));
        assert_ne!(link.due(start + SILENCE_MAX), Due::Down);
        assert_eq!(link.due(start + 2 * SILENCE_MAX - tick), Due::Down);
    }

    #[test]
    fn what_comes_after_too_long_a_silence_is_not_taken_in() {
        let start = Instant::now();
        let mut link = up(start);
        assert!(!link.heard(start + SILENCE_MAX));
        assert!(!link.heard(start + SILENCE_MAX));
    }
}
