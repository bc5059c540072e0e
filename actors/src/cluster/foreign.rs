//! Sessions of other pods that have sent messages to conversations of this one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::ids::SessionId;
use colloquy_storage::model::live::PodId;
use dashmap::DashMap;

use super::bridge::Links;
use super::wire::{Frame, encode};
use crate::conversation::Answer;

/// A session of another pod, as an owner sees it.
#[derive(Debug)]
pub struct ForeignSession {
    session_id: SessionId,
    pod_id: PodId,
    links: Links,
    ended: AtomicBool,
}

impl ForeignSession {
    /// The session.
    #[must_use]
    pub fn session_id(&self) -> SessionId {
        self.session_id
    }

    /// Has it ended, or is its pod out of reach?
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Answers its messages, each by its pod's own number for it.
    pub fn answer(&self, answers: Vec<(u64, Answer)>) {
        // A pod that lost the link has told its sessions so, and its numbers start over with the next link.
        if self.has_ended() {
            return;
        }
        if let Ok(frame) = encode(&Frame::Answered(answers)) {
            // Full or gone: the asking pod answers "try again" when its patience is over.
            let _ = self.links.send(&self.pod_id, frame);
        }
    }

    /// Says that what became of a message is not known.
    pub fn lost(&self, request: u64) {
        self.answer(vec![(request, Answer::Refused(ErrorCode::Unavailable))]);
    }
}

/// Every such session; bounded by what other pods have open, and forgotten with the link to their pod.
#[derive(Clone, Debug, Default)]
pub struct ForeignSessions(Arc<DashMap<(PodId, SessionId), Arc<ForeignSession>>>);

impl ForeignSessions {
    /// The session, from its first message on.
    #[must_use]
    pub fn of(&self, pod_id: &PodId, session_id: SessionId, links: &Links) -> Arc<ForeignSession> {
        let fresh = || ForeignSession {
            session_id,
            pod_id: pod_id.clone(),
            links: links.clone(),
            ended: AtomicBool::new(false),
        };
        let entry = self.0.entry((pod_id.clone(), session_id));
        Arc::clone(&entry.or_insert_with(|| Arc::new(fresh())))
    }

    /// It has ended.
    pub fn ended(&self, pod_id: &PodId, session_id: SessionId) {
        if let Some((_, session)) = self.0.remove(&(pod_id.clone(), session_id)) {
            session.ended.store(true, Ordering::SeqCst);
        }
    }

    /// The link to their pod is gone: nothing more comes from them, and no answer reaches them.
    pub fn cut_off(&self, pod_id: &PodId) {
        self.0.retain(|(of, _), session| {
            let stays = of != pod_id;
            if !stays {
                session.ended.store(true, Ordering::SeqCst);
            }
            stays
        });
    }
}
