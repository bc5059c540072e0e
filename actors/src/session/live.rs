//! The sessions that are open on this node, by user.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use colloquy_protocol::close::CloseCode;
use colloquy_protocol::ids::{DeviceId, LoginId, UserId};
use colloquy_protocol::limits::SOCKETS_PER_DEVICE_MAX;
use dashmap::DashMap;
use smallvec::SmallVec;

use super::handle::SessionHandle;

/// Open sessions, at most [`SOCKETS_PER_DEVICE_MAX`] per device.
#[derive(Clone, Debug, Default)]
pub struct LiveSessions(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    by_user: DashMap<UserId, SmallVec<[Arc<SessionHandle>; 2]>>,
    count: AtomicUsize,
}

impl Inner {
    /// Sessions that leave after [`LiveSessions::clear`] were counted out by it.
    fn count_out(&self, left: usize) {
        let count_out = |count: usize| Some(count.saturating_sub(left));
        // The closure always answers.
        let _ = self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count_out);
    }
}

impl LiveSessions {
    /// Enters a session. If its device has too many then, the oldest is closed as replaced, and is no longer found
    /// here. Sessions of one device do not know of each other: its client drops what it is shown twice, by position.
    pub fn enter(&self, handle: Arc<SessionHandle>) {
        let mut sessions = self.0.by_user.entry(handle.user_id).or_default();
        let of_device = |session: &&Arc<SessionHandle>| session.device_id == handle.device_id;
        let open = sessions.iter().filter(of_device).count();
        let oldest = sessions.iter().position(|session| session.device_id == handle.device_id);
        match oldest {
            Some(index) if open >= SOCKETS_PER_DEVICE_MAX => {
                sessions.remove(index).close(CloseCode::Replaced);
            }
            _ => {
                self.0.count.fetch_add(1, Ordering::Relaxed);
            }
        }
        sessions.push(handle);
    }

    /// Takes a session out, unless a newer one of its device has pushed it out already.
    pub fn leave(&self, handle: &SessionHandle) {
        let Some(mut sessions) = self.0.by_user.get_mut(&handle.user_id) else { return };
        let before = sessions.len();
        sessions.retain(|session| session.session_id != handle.session_id);
        self.0.count_out(before - sessions.len());
        let empty = sessions.is_empty();
        drop(sessions);
        if empty {
            self.0.by_user.remove_if(&handle.user_id, |_, sessions| sessions.is_empty());
        }
    }

    /// Calls `visit` with every open session of a user.
    pub fn of_user(&self, user_id: UserId, mut visit: impl FnMut(&Arc<SessionHandle>)) {
        if let Some(sessions) = self.0.by_user.get(&user_id) {
            sessions.iter().for_each(&mut visit);
        }
    }

    /// Calls `visit` with every open session.
    pub fn for_each(&self, mut visit: impl FnMut(&Arc<SessionHandle>)) {
        for sessions in &self.0.by_user {
            sessions.iter().for_each(&mut visit);
        }
    }

    /// Closes what is open under a revoked log-in.
    pub fn close_login(&self, user_id: UserId, login_id: LoginId) {
        self.of_user(user_id, |session| {
            if session.login_id == login_id {
                session.close(CloseCode::TokenRevoked);
            }
        });
    }

    /// Closes what is open on a removed device.
    pub fn close_device(&self, user_id: UserId, device_id: &DeviceId) {
        self.of_user(user_id, |session| {
            if session.device_id == *device_id {
                session.close(CloseCode::UnknownDevice);
            }
        });
    }

    /// Forgets all of them: they have died with their parent.
    pub fn clear(&self) {
        self.0.by_user.clear();
        self.0.count.store(0, Ordering::Relaxed);
    }

    /// How many are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.count.load(Ordering::Relaxed)
    }

    /// Is none open?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
