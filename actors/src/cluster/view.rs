//! Who is a member, as this pod sees it: what the live directory lists, and which links stand. Pure.
//!
//! A member counts as running while it is listed or linked. A directory that has come back empty therefore ends nobody;
//! and a pod that is frozen or cut off is ended once its link is down and its entry has run out.

use std::collections::{BTreeMap, BTreeSet};

use colloquy_storage::model::live::{Member, PodId};

use super::placement::Placement;

/// The other pods, and whether this one takes conversations.
#[derive(Debug)]
pub struct View {
    own: PodId,
    others: BTreeMap<PodId, Member>,
    listed: BTreeSet<PodId>,
    linked: BTreeSet<PodId>,
    draining: bool,
}

/// What a change of the view means to others.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// These pods run no more, or as others than before.
    pub pods: BTreeSet<PodId>,
    /// What one of them had still to tell, nobody will: whoever might have been told has to look for themselves
    /// (NOLOSS).
    pub without_a_word: bool,
}

impl Ended {
    fn add(&mut self, member: &Member) {
        self.pods.insert(member.pod_id.clone());
        // One that drains has told all before it goes.
        self.without_a_word |= member.takes_ownership;
    }
}

impl View {
    /// Of a pod that knows of no other yet.
    #[must_use]
    pub fn of(own: PodId) -> Self {
        let (others, listed, linked) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        Self { own, others, listed, linked, draining: false }
    }

    /// Takes in what the live directory lists; says which pods have ended.
    pub fn list(&mut self, members: Vec<Member>) -> Ended {
        let mut ended = Ended::default();
        self.listed.clear();
        for member in members.into_iter().filter(|member| member.pod_id != self.own) {
            self.listed.insert(member.pod_id.clone());
            let incarnation = member.incarnation;
            let before = self.others.insert(member.pod_id.clone(), member);
            if let Some(before) = before.filter(|before| before.incarnation != incarnation) {
                ended.add(&before);
            }
        }
        self.forget_ended(&mut ended);
        ended
    }

    /// A link stands, or no longer; says whether a pod has ended with it.
    pub fn link(&mut self, pod_id: PodId, is_up: bool) -> Ended {
        let mut ended = Ended::default();
        if is_up {
            self.linked.insert(pod_id);
        } else {
            self.linked.remove(&pod_id);
            self.forget_ended(&mut ended);
        }
        ended
    }

    fn forget_ended(&mut self, ended: &mut Ended) {
        let (listed, linked) = (&self.listed, &self.linked);
        self.others.retain(|pod_id, member| {
            let runs = listed.contains(pod_id) || linked.contains(pod_id);
            if !runs {
                ended.add(member);
            }
            runs
        });
    }

    /// This pod takes no more conversations.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Does it take none any more?
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// The others, to be linked to.
    #[must_use]
    pub fn others(&self) -> Vec<Member> {
        self.others.values().cloned().collect()
    }

    /// Their names.
    #[must_use]
    pub fn pods(&self) -> BTreeSet<PodId> {
        self.others.keys().cloned().collect()
    }

    /// Does a link to this pod stand?
    #[must_use]
    pub fn is_linked_to(&self, pod_id: &PodId) -> bool {
        self.linked.contains(pod_id)
    }

    /// Do links to all others stand?
    #[must_use]
    pub fn is_linked_to_all(&self) -> bool {
        self.others.keys().all(|pod_id| self.linked.contains(pod_id))
    }

    /// Is there another pod that can take conversations?
    #[must_use]
    pub fn has_successor(&self) -> bool {
        self.reachable().next().is_some()
    }

    fn reachable(&self) -> impl Iterator<Item = &PodId> {
        let reachable = |member: &&Member| member.takes_ownership && self.linked.contains(&member.pod_id);
        self.others.values().filter(reachable).map(|member| &member.pod_id)
    }

    /// Who may own conversations: those that take them and can be reached. A pod that drains keeps them only if there
    /// is nobody else.
    #[must_use]
    pub fn placement(&self) -> Placement {
        let own = (!self.draining || !self.has_successor()).then_some(&self.own);
        Placement::among(own.into_iter().chain(self.reachable()).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> PodId {
        PodId::new(name).unwrap()
    }

    fn member(name: &str, incarnation: u64, takes_ownership: bool) -> Member {
        Member { pod_id: pod(name), incarnation, address: "127.0.0.1:1".into(), takes_ownership }
    }

    fn ended(name: &str, without_a_word: bool) -> Ended {
        Ended { pods: BTreeSet::from([pod(name)]), without_a_word }
    }

    #[test]
    fn only_pods_that_can_be_reached_are_given_conversations() {
        let mut view = View::of(pod("a"));
        view.list(vec![member("a", 1, true), member("b", 1, true), member("c", 1, false)]);
        assert_eq!(view.placement(), Placement::among([pod("a")]));
        view.link(pod("b"), true);
        view.link(pod("c"), true);
        assert_eq!(view.placement(), Placement::among([pod("a"), pod("b")]), "c drains");
        view.link(pod("b"), false);
        assert_eq!(view.placement(), Placement::among([pod("a")]));
    }

    #[test]
    fn a_pod_that_drains_keeps_conversations_only_if_there_is_nobody_else() {
        let mut view = View::of(pod("a"));
        view.drain();
        assert_eq!(view.placement(), Placement::among([pod("a")]));
        view.list(vec![member("b", 1, true)]);
        view.link(pod("b"), true);
        assert_eq!(view.placement(), Placement::among([pod("b")]));
    }

    #[test]
    fn a_pod_that_ends_without_a_word_is_told_from_one_that_drained() {
        let mut view = View::of(pod("a"));
        assert_eq!(view.list(vec![member("b", 1, true)]), Ended::default());
        assert_eq!(view.list(vec![member("b", 2, true)]), ended("b", true), "it died and is back");
        assert_eq!(view.list(vec![member("b", 2, false)]), Ended::default());
        assert_eq!(view.list(vec![]), ended("b", false), "it had said so");
        view.list(vec![member("c", 1, true)]);
        assert_eq!(view.list(vec![]), ended("c", true));
    }

    #[test]
    fn a_directory_that_has_forgotten_everybody_ends_nobody_who_can_be_reached() {
        let mut view = View::of(pod("a"));
        view.list(vec![member("b", 1, true), member("c", 1, true)]);
        view.link(pod("b"), true);
        view.link(pod("c"), true);
        assert_eq!(view.list(vec![]), Ended::default());
        assert_eq!(view.pods(), BTreeSet::from([pod("b"), pod("c")]));
        view.list(vec![member("b", 1, true)]);
        assert_eq!(view.link(pod("b"), false), Ended::default(), "it is listed: only the way to it is cut");
        assert_eq!(view.link(pod("c"), false), ended("c", true));
    }
}
