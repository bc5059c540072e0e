//! What is to be heard, and what of it the server has not been told yet. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// What becomes of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Subscribe,
    Unsubscribe,
}

/// Names of channels. Bounded by those who subscribe: a few for each session.
#[derive(Default)]
pub(super) struct Interest {
    wanted: BTreeSet<String>,
    /// The last change of each channel that is not known to have been said on the line in use.
    unsaid: BTreeMap<String, Change>,
}

/// Changes that are said together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) subscribe: Vec<String>,
    pub(super) unsubscribe: Vec<String>,
}

impl Interest {
    pub(super) fn note(&mut self, change: Change, names: impl IntoIterator<Item = String>) {
        for name in names {
            match change {
                Change::Subscribe => self.wanted.insert(name.clone()),
                Change::Unsubscribe => self.wanted.remove(&name),
            };
            self.unsaid.insert(name, change);
        }
    }

    /// What is to be said on the line in use. It stays unsaid until it [was said](Self::said), so that it is said
    /// again if whoever says it gives up.
    pub(super) fn unsaid(&self) -> Batch {
        let mut batch = Batch::default();
        for (name, change) in &self.unsaid {
            match change {
                Change::Subscribe => batch.subscribe.push(name.clone()),
                Change::Unsubscribe => batch.unsubscribe.push(name.clone()),
            }
        }
        batch
    }

    /// There is no line: nothing has to be said until one is made, which is told [all](Self::anew).
    pub(super) fn line_is_gone(&mut self) {
        self.unsaid.clear();
    }

    /// What is to be said on a new line: all that is wanted.
    pub(super) fn anew(&mut self) -> Batch {
        self.unsaid.clear();
        Batch { subscribe: self.wanted.iter().cloned().collect(), unsubscribe: Vec::new() }
    }

    /// It was said; what has changed again since is still to be said.
    pub(super) fn said(&mut self, batch: &Batch) {
        let subscribed = batch.subscribe.iter().map(|name| (name, Change::Subscribe));
        let unsubscribed = batch.unsubscribe.iter().map(|name| (name, Change::Unsubscribe));
        for (name, change) in subscribed.chain(unsubscribed) {
            if self.unsaid.get(name) == Some(&change) {
                self.unsaid.remove(name);
            }
        }
    }
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.subscribe.is_empty() && self.unsubscribe.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn batch(subscribe: &[&str], unsubscribe: &[&str]) -> Batch {
        Batch { subscribe: names(subscribe), unsubscribe: names(unsubscribe) }
    }

    #[test]
    fn changes_that_wait_are_said_together_and_only_the_last_of_each_channel() {
        let mut interest = Interest::default();
        interest.note(Change::Subscribe, names(&["a", "b"]));
        interest.note(Change::Subscribe, names(&["c", "a"]));
        interest.note(Change::Unsubscribe, names(&["b", "d"]));
        assert_eq!(interest.unsaid(), batch(&["a", "c"], &["b", "d"]));
        assert_eq!(interest.anew(), batch(&["a", "c"], &[]));
    }

    #[test]
    fn what_changes_while_it_is_said_is_said_again() {
        let mut interest = Interest::default();
        interest.note(Change::Subscribe, names(&["a", "b"]));
        let saying = interest.unsaid();
        interest.note(Change::Unsubscribe, names(&["a"]));
        interest.note(Change::Subscribe, names(&["c"]));
        interest.said(&saying);
        assert_eq!(interest.unsaid(), batch(&["c"], &["a"]));
        interest.said(&batch(&["c"], &["a"]));
        assert!(interest.unsaid().is_empty());
        assert_eq!(interest.anew(), batch(&["b", "c"], &[]));
    }

    #[test]
    fn a_new_line_is_told_all_that_is_wanted_and_nothing_else() {
        let mut interest = Interest::default();
        interest.note(Change::Subscribe, names(&["a", "b"]));
        interest.note(Change::Unsubscribe, names(&["b"]));
        // Whoever said it may have given up.
        assert_eq!(interest.unsaid(), interest.unsaid());
        assert_eq!(interest.anew(), batch(&["a"], &[]));
        interest.note(Change::Unsubscribe, names(&["a"]));
        assert_eq!(interest.unsaid(), batch(&[], &["a"]));
        interest.line_is_gone();
        assert!(interest.unsaid().is_empty());
        assert!(interest.anew().is_empty());
    }
}
