//! The roster: which sessions a user has open here, on which other pods they are, and who watches. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use colloquy_protocol::UnixMillis;
use colloquy_protocol::frame::PresenceStatus;
use colloquy_protocol::ids::{SessionId, UserId};
use colloquy_storage::model::live::PodId;

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
    /// Other pods the user is on; known only of those who are watched.
    elsewhere: BTreeSet<PodId>,
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
        let (sessions, elsewhere) = (BTreeSet::new(), BTreeSet::new());
        Self { sessions, elsewhere, watchers: BTreeMap::new(), last_seen: None }
    }
}

impl<W: Watcher> Roster<W> {
    /// A session is open; says whom to tell if the user was away.
    pub fn join(&mut self, user_id: UserId, session_id: SessionId, now: UnixMillis) -> Vec<Notice<W>> {
        self.change(user_id, now, |entry| {
            entry.sessions.insert(session_id);
        })
    }

    /// A session has ended; says whom to tell if the user is away now.
    pub fn leave(&mut self, user_id: UserId, session_id: SessionId, now: UnixMillis) -> Vec<Notice<W>> {
        self.change(user_id, now, |entry| {
            entry.sessions.remove(&session_id);
        })
    }

    /// A user who is watched has come to another pod, or gone from it; says whom to tell.
    pub fn sighted(
        &mut self,
        user_id: UserId,
        pod_id: PodId,
        status: PresenceStatus,
        at: UnixMillis,
    ) -> Vec<Notice<W>> {
        if !self.is_watched(user_id) {
            return Vec::new();
        }
        self.change(user_id, at, |entry| {
            match status {
                PresenceStatus::Online => entry.elsewhere.insert(pod_id),
                PresenceStatus::Offline => entry.elsewhere.remove(&pod_id),
            };
        })
    }

    /// A user is on these other pods; says whom to tell if that is news.
    pub fn is_on(&mut self, user_id: UserId, pods: BTreeSet<PodId>, now: UnixMillis) -> Vec<Notice<W>> {
        self.change(user_id, now, |entry| entry.elsewhere = pods)
    }

    /// A pod has ended, and with it every session there; says whom to tell.
    pub fn pod_ended(&mut self, pod_id: &PodId, now: UnixMillis) -> Vec<Notice<W>> {
        let there = self.users.iter().filter(|(_, entry)| entry.elsewhere.contains(pod_id));
        let there: Vec<UserId> = there.map(|(user_id, _)| *user_id).collect();
        let ended = |user_id| {
            self.change(user_id, now, |entry| {
                entry.elsewhere.remove(pod_id);
            })
        };
        there.into_iter().flat_map(ended).collect()
    }

    /// Applies a change to a user's entry; says whom to tell if the user has come or gone by it.
    fn change(
        &mut self,
        user_id: UserId,
        now: UnixMillis,
        apply: impl FnOnce(&mut Entry<W>),
    ) -> Vec<Notice<W>> {
        let entry = self.users.entry(user_id).or_default();
        let was_online = entry.is_online();
        apply(entry);
        let is_online = entry.is_online();
        if was_online && !is_online {
            entry.last_seen = entry.last_seen.max(Some(now));
        }
        let notices = if was_online == is_online { Vec::new() } else { entry.notices(user_id, now) };
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
                if entry.watchers.is_empty() {
                    // Nothing is heard of them any more.
                    entry.elsewhere.clear();
                }
            }
            self.forget_if_unused(*user_id);
        }
    }

    /// Must "last seen" be looked up before a watcher can be told?
    #[must_use]
    pub fn last_seen_unknown(&self, user_id: UserId) -> bool {
        self.users.get(&user_id).is_none_or(|entry| !entry.is_online() && entry.last_seen.is_none())
    }

    /// "Last seen" was looked up.
    pub fn know_last_seen(&mut self, user_id: UserId, last_seen: Option<UnixMillis>) {
        let entry = self.users.entry(user_id).or_default();
        entry.last_seen = entry.last_seen.max(last_seen);
    }

    /// Everybody who has a session on this pod.
    pub fn online(&self) -> impl Iterator<Item = UserId> {
        self.users.iter().filter(|(_, entry)| !entry.sessions.is_empty()).map(|(user_id, _)| *user_id)
    }

    /// Has the user a session on this pod?
    #[must_use]
    pub fn is_here(&self, user_id: UserId) -> bool {
        self.users.get(&user_id).is_some_and(|entry| !entry.sessions.is_empty())
    }

    /// Does anybody watch the user?
    #[must_use]
    pub fn is_watched(&self, user_id: UserId) -> bool {
        self.users.get(&user_id).is_some_and(|entry| !entry.watchers.is_empty())
    }

    /// Everybody who is watched.
    pub fn watched(&self) -> impl Iterator<Item = UserId> {
        self.users.iter().filter(|(_, entry)| !entry.watchers.is_empty()).map(|(user_id, _)| *user_id)
    }

    fn forget_if_unused(&mut self, user_id: UserId) {
        let unused = |entry: &Entry<W>| !entry.is_online() && entry.watchers.is_empty();
        if self.users.get(&user_id).is_some_and(unused) {
            self.users.remove(&user_id);
        }
    }
}

impl<W: Watcher> Entry<W> {
    fn is_online(&self) -> bool {
        !self.sessions.is_empty() || !self.elsewhere.is_empty()
    }

    fn notices(&self, user_id: UserId, now: UnixMillis) -> Vec<Notice<W>> {
        self.watchers.values().map(|watcher| self.notice(user_id, watcher.clone(), now)).collect()
    }

    fn notice(&self, user_id: UserId, watcher: W, now: UnixMillis) -> Notice<W> {
        let (status, last_seen) = if self.is_online() {
            (PresenceStatus::Online, Some(now))
        } else {
            (PresenceStatus::Offline, self.last_seen)
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

    #[test]
    fn a_user_who_moves_from_pod_to_pod_is_online_all_the_while() {
        let mut roster = Roster::<SessionId>::default();
        let (watched, [a, b]) = (user(1), ["a", "b"].map(|name| PodId::new(name).unwrap()));
        roster.watch(session(9), watched, 1);
        assert_eq!(roster.sighted(watched, a.clone(), PresenceStatus::Online, 2).len(), 1);
        assert!(roster.join(watched, session(1), 3).is_empty());
        assert!(roster.pod_ended(&a, 4).is_empty());
        assert!(roster.sighted(watched, b.clone(), PresenceStatus::Online, 5).is_empty());
        assert!(roster.leave(watched, session(1), 6).is_empty());
        let gone = roster.pod_ended(&b, 7);
        assert_eq!((gone[0].status, gone[0].last_seen), (PresenceStatus::Offline, Some(7)));
        assert_eq!(roster.is_on(watched, BTreeSet::from([a]), 8)[0].status, PresenceStatus::Online);
        roster.unwatch(session(9), &[watched]);
        assert!(roster.users.is_empty());
    }

    #[test]
    fn of_a_user_nobody_watches_it_is_not_kept_where_else_they_are() {
        let mut roster = Roster::<SessionId>::default();
        let pod_id = PodId::new("a").unwrap();
        assert!(roster.sighted(user(1), pod_id.clone(), PresenceStatus::Offline, 1).is_empty());
        assert!(roster.users.is_empty());
        roster.join(user(2), session(1), 1);
        roster.watch(session(9), user(2), 1);
        roster.sighted(user(2), pod_id, PresenceStatus::Online, 2);
        roster.unwatch(session(9), &[user(2)]);
        roster.leave(user(2), session(1), 3);
        assert!(roster.users.is_empty());
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
