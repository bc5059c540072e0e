//! Which other pods have had something from which sessions of this one: those are told when the session ends, so that
//! what it left waiting there is dropped at once and nothing remembers it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use colloquy_protocol::ids::SessionId;
use colloquy_storage::model::live::PodId;
use dashmap::DashMap;
use smallvec::SmallVec;

/// Ends of sessions that could not be told for want of room and are told later. Beyond it they are not told: the pod then
/// forgets the session with its link to this one.
const PUT_OFF_MAX: usize = 65_536;

/// Pods that a session has contacts with: the owners of its conversations, seldom many.
type Pods = SmallVec<[PodId; 2]>;

/// The contacts of every session that has any.
#[derive(Debug, Default)]
pub(super) struct Contacts {
    pods: DashMap<SessionId, Pods>,
    put_off: Mutex<Vec<(PodId, SessionId)>>,
}

impl Contacts {
    /// A pod is about to get something from a session.
    pub(super) fn make(&self, session_id: SessionId, pod_id: &PodId) {
        let mut pods = self.pods.entry(session_id).or_default();
        if !pods.contains(pod_id) {
            pods.push(pod_id.clone());
        }
    }

    /// A session has ended: who is to be told.
    pub(super) fn end(&self, session_id: SessionId) -> Pods {
        self.pods.remove(&session_id).map(|(_, pods)| pods).unwrap_or_default()
    }

    /// A pod is out of reach, and has forgotten everybody by itself. This bounds a session's contacts to pods that are linked.
    pub(super) fn cut_off(&self, pod_id: &PodId) {
        self.pods.retain(|_, pods| {
            pods.retain(|known| known != pod_id);
            !pods.is_empty()
        });
        self.lock().retain(|(known, _)| known != pod_id);
    }

    /// A pod could not be told now that a session has ended.
    pub(super) fn put_off(&self, pod_id: PodId, session_id: SessionId) {
        let mut put_off = self.lock();
        if put_off.len() < PUT_OFF_MAX {
            put_off.push((pod_id, session_id));
        }
    }

    /// Everything that was put off, to be tried again.
    pub(super) fn take_put_off(&self) -> Vec<(PodId, SessionId)> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(PodId, SessionId)>> {
        self.put_off.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
