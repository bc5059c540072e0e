//! Who is a member, as this pod sees it: what the live directory lists, and which links stand. Pure.

use std::collections::{BTreeMap, BTreeSet};

use colloquy_storage::model::live::{Member, PodId};

use super::placement::Placement;

/// The other pods, and whether this one takes conversations.
#[derive(Debug)]
pub struct View {
    own: PodId,
    others: BTreeMap<PodId, Member>,
    linked: BTreeSet<PodId>,
    draining: bool,
}

impl View {
    /// Of a pod that knows of no other yet.
    #[must_use]
    pub fn of(own: PodId) -> Self {
        Self { own, others: BTreeMap::new(), linked: BTreeSet::new(), draining: false }
    }

    /// Takes in what the live directory lists; says whether a pod has ended that did not say so before: what it had
    /// still to tell, nobody will (NOLOSS: whoever might have been told looks for themselves).
    pub fn list(&mut self, members: Vec<Member>) -> bool {
        let others = members.into_iter().filter(|member| member.pod_id != self.own);
        let others: BTreeMap<PodId, Member> = others.map(|member| (member.pod_id.clone(), member)).collect();
        let lives_on = |member: &Member| {
            others.get(&member.pod_id).is_some_and(|now| now.incarnation == member.incarnation)
        };
        let died = self.others.values().any(|member| member.takes_ownership && !lives_on(member));
        self.others = others;
        died
    }

    /// A link stands, or no longer.
    pub fn link(&mut self, pod_id: PodId, is_up: bool) {
        if is_up {
            self.linked.insert(pod_id);
        } else {
            self.linked.remove(&pod_id);
        }
    }

    /// This pod takes no more conversations.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Does it take any?
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// The others, to be linked to.
    #[must_use]
    pub fn others(&self) -> Vec<Member> {
        self.others.values().cloned().collect()
    }

    /// Do links to all others stand?
    #[must_use]
    pub fn is_linked_to_all(&self) -> bool {
        self.others.keys().all(|pod_id| self.linked.contains(pod_id))
    }

    /// Who may own conversations: those that take them and can be reached. A pod that drains keeps them only if there
    /// is nobody else.
    #[must_use]
    pub fn placement(&self) -> Placement {
        let reachable = |member: &&Member| member.takes_ownership && self.linked.contains(&member.pod_id);
        let others: Vec<PodId> =
            self.others.values().filter(reachable).map(|member| member.pod_id.clone()).collect();
        let own = (!self.draining || others.is_empty()).then(|| self.own.clone());
        Placement::among(own.into_iter().chain(others))
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

    fn owners(view: &View) -> Placement {
        view.placement()
    }

    #[test]
    fn only_pods_that_can_be_reached_are_given_conversations() {
        let mut view = View::of(pod("a"));
        assert!(!view.list(vec![member("a", 1, true), member("b", 1, true), member("c", 1, false)]));
        assert_eq!(owners(&view), Placement::among([pod("a")]));
        view.link(pod("b"), true);
        view.link(pod("c"), true);
        assert_eq!(owners(&view), Placement::among([pod("a"), pod("b")]), "c drains");
        view.link(pod("b"), false);
        assert_eq!(owners(&view), Placement::among([pod("a")]));
    }

    #[test]
    fn a_pod_that_drains_keeps_conversations_only_if_there_is_nobody_else() {
        let mut view = View::of(pod("a"));
        view.drain();
        assert_eq!(owners(&view), Placement::among([pod("a")]));
        view.list(vec![member("b", 1, true)]);
        view.link(pod("b"), true);
        assert_eq!(owners(&view), Placement::among([pod("b")]));
    }

    #[test]
    fn a_pod_that_ends_without_a_word_is_told_from_one_that_drained() {
        let mut view = View::of(pod("a"));
        assert!(!view.list(vec![member("b", 1, true)]));
        assert!(view.list(vec![member("b", 2, true)]), "it died and is back");
        assert!(!view.list(vec![member("b", 2, false)]));
        assert!(!view.list(vec![]), "it had said so");
        view.list(vec![member("c", 1, true)]);
        assert!(view.list(vec![]));
    }
}
