//! The roster: which sessions a user has open, and who watches. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use colloquy_protocol::UnixMillis;
use colloquy_protocol::frame::PresenceStatus;
use colloquy_protocol::ids::{SessionId, UserId};

use crate::session::SessionHandle;

/// Something a watcher is to be told. Generic over what names a watcher, so that tests need no session.
#[derive(Debug)]
pub struct Notice<W = Arc<SessionHandle>> {
    /// Who is told.
    pub watcher: W,
    /// About whom.
    pub user_id: UserId,
    /// Here or gone.
    pub status: PresenceStatus,
    /// When last here.
    pub last_seen: Option<UnixMillis>,
}

/// What a roster needs to know of a watcher.
pub trait Watcher: Clone {
    /// The watching session.
    fn session_id(&self) -> SessionId;
}

impl Watcher for Arc<SessionHandle> {
    fn session_id(&self) -> SessionId {
        self.session_id
    }
}

/// A share of the users. Bounded by the open sessions and what each may watch.
#[derive(Debug)]
pub struct Roster<W = Arc<SessionHandle>> {
    users: HashMap<UserId, Entry<W>>,
}

#[derive(Debug)]
struct Entry<W> {
    sessions: BTreeSet<SessionId>,
    watchers: BTreeMap<SessionId, W>,
    last_seen: Option<UnixMillis>,
}

impl<W> Default for Roster<W> {
    fn default() -> Self {
        Self { users: HashMap::new() }
    }
}

impl<W> Default for Entry<W> {
    fn default() -> Self {
        Self { sessions: BTreeSet::new(), watchers: BTreeMap::new(), last_seen: None }
    }
}

impl<W: Watcher> Roster<W> {
    /// A session is open; says whom to tell if it is the user's first.
    pub fn join(&mut self, user_id: UserId, session_id: SessionId, now: UnixMillis) -> Vec<Notice<W>> {
        let entry = self.users.entry(user_id).or_default();
        let first = entry.sessions.is_empty();
        entry.sessions.insert(session_id);
        if first { entry.notices(user_id, now) } else { Vec::new() }
    }

    /// A session has ended; says whom to tell if it was the user's last.
    pub fn leave(&mut self, user_id: UserId, session_id: SessionId, now: UnixMillis) -> Vec<Notice<W>> {
        let Some(entry) = self.users.get_mut(&user_id) else { return Vec::new() };
        let left = entry.sessions.remove(&session_id) && entry.sessions.is_empty();
        if !left {
            return Vec::new();
        }
        entry.last_seen = Some(now);
        let notices = entry.notices(user_id, now);
        self.forget_if_unused(user_id);
        notices
    }

    /// A session watches a user; the notice tells it how things stand.
    pub fn watch(&mut self, watcher: W, user_id: UserId, now: UnixMillis) -> Notice<W> {
        let entry = self.users.entry(user_id).or_default();
        entry.watchers.insert(watcher.session_id(), watcher.clone());
        entry.notice(user_id, watcher, now)
    }

    /// A session no longer watches users.
    pub fn unwatch(&mut self, session_id: SessionId, users: &[UserId]) {
        for user_id in users {
            if let Some(entry) = self.users.get_mut(user_id) {
                entry.watchers.remove(&session_id);
            }
            self.forget_if_unused(*user_id);
        }
    }

    /// Must "last seen" be looked up before a watcher can be told?
    #[must_use]
    pub fn last_seen_unknown(&self, user_id: UserId) -> bool {
        self.users.get(&user_id).is_none_or(|entry| entry.sessions.is_empty() && entry.last_seen.is_none())
    }

    /// "Last seen" was looked up.
    pub fn know_last_seen(&mut self, user_id: UserId, last_seen: Option<UnixMillis>) {
        let entry = self.users.entry(user_id).or_default();
        entry.last_seen = entry.last_seen.max(last_seen);
    }

    /// Everybody who is here.
    pub fn online(&self) -> impl Iterator<Item = UserId> {
        self.users.iter().filter(|(_, entry)| !entry.sessions.is_empty()).map(|(user_id, _)| *user_id)
    }

    /// Has the user no session here?
    #[must_use]
    pub fn is_offline(&self, user_id: UserId) -> bool {
        self.users.get(&user_id).is_none_or(|entry| entry.sessions.is_empty())
    }

    fn forget_if_unused(&mut self, user_id: UserId) {
        let unused = |entry: &Entry<W>| entry.sessions.is_empty() && entry.watchers.is_empty();
        if self.users.get(&user_id).is_some_and(unused) {
            self.users.remove(&user_id);
        }
    }
}

impl<W: Watcher> Entry<W> {
    fn notices(&self, user_id: UserId, now: UnixMillis) -> Vec<Notice<W>> {
        self.watchers.values().map(|watcher| self.notice(user_id, watcher.clone(), now)).collect()
    }

    fn notice(&self, user_id: UserId, watcher: W, now: UnixMillis) -> Notice<W> {
        let (status, last_seen) = if self.sessions.is_empty() {
            (PresenceStatus::Offline, self.last_seen)
        } else {
            (PresenceStatus::Online, Some(now))
        };
        Notice { watcher, user_id, status, last_seen }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    impl Watcher for SessionId {
        fn session_id(&self) -> SessionId {
            *self
        }
    }

    fn session(number: u128) -> SessionId {
        SessionId(Uuid::from_u128(number))
    }

    fn user(number: u128) -> UserId {
        UserId(Uuid::from_u128(number))
    }

    #[test]
    fn a_watcher_hears_of_the_first_device_that_comes_and_the_last_that_goes() {
        let mut roster = Roster::<SessionId>::default();
        let (watcher, watched) = (session(9), user(1));
        assert_eq!(roster.watch(watcher, watched, 1).status, PresenceStatus::Offline);
        assert_eq!(roster.join(watched, session(1), 2).len(), 1);
        assert!(roster.join(watched, session(2), 3).is_empty());
        assert!(roster.leave(watched, session(1), 10).is_empty());
        let notices = roster.leave(watched, session(2), 20);
        assert_eq!((notices[0].status, notices[0].last_seen), (PresenceStatus::Offline, Some(20)));
        roster.unwatch(watcher, &[watched]);
        assert!(roster.users.is_empty(), "nothing is kept for a user nobody is here for");
    }

    proptest! {
        #[test]
        fn notices_alternate_between_online_and_offline_whatever_sessions_do(
            steps in proptest::collection::vec((0_u128..3, any::<bool>()), 0..60),
        ) {
            let mut roster = Roster::<SessionId>::default();
            let mut last = roster.watch(session(99), user(1), 1).status;
            let mut open = BTreeSet::new();
            for (number, joins) in steps {
                let notices = if joins {
                    open.insert(number);
                    roster.join(user(1), session(number), 1)
                } else {
                    open.remove(&number);
                    roster.leave(user(1), session(number), 1)
                };
                for notice in notices {
                    prop_assert_ne!(notice.status, last);
                    last = notice.status;
                }
                prop_assert_eq!(last == PresenceStatus::Online, !open.is_empty());
            }
        }
    }
}
