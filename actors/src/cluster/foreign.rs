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

    /// How many are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::bridge::FarEnd;
    use crate::cluster::tests::stage::{acked, frames, pod, refused};
    use uuid::Uuid;

    fn session_id() -> SessionId {
        SessionId(Uuid::from_u128(1))
    }

    fn answers(far_end: &FarEnd) -> Vec<(u64, Answer)> {
        let of = |frame| match frame {
            Frame::Answered(answers) => answers,
            other => panic!("not answers: {other:?}"),
        };
        frames(&far_end.take()).into_iter().flat_map(of).collect()
    }

    #[test]
    fn a_session_is_the_same_for_all_its_messages_and_is_answered_over_its_own_pod() {
        let (sessions, links) = (ForeignSessions::default(), Links::default());
        let (b, c) = (FarEnd::of(&links, &pod("b")), FarEnd::of(&links, &pod("c")));
        let session = sessions.of(&pod("b"), session_id(), &links);
        assert!(Arc::ptr_eq(&session, &sessions.of(&pod("b"), session_id(), &links)));
        assert!(!Arc::ptr_eq(&session, &sessions.of(&pod("c"), session_id(), &links)));
        session.answer(vec![(1, acked(1)), (2, acked(2))]);
        session.lost(3);
        let expected = [(1, acked(1)), (2, acked(2)), (3, refused(ErrorCode::Unavailable))];
        assert_eq!(answers(&b), expected);
        assert!(c.take().is_empty());
    }

    #[test]
    fn a_session_that_has_ended_is_forgotten_and_answered_no_more() {
        let (sessions, links) = (ForeignSessions::default(), Links::default());
        let b = FarEnd::of(&links, &pod("b"));
        let session = sessions.of(&pod("b"), session_id(), &links);
        sessions.ended(&pod("c"), session_id());
        assert!(!session.has_ended(), "another pod cannot end it");
        sessions.ended(&pod("b"), session_id());
        assert!(session.has_ended());
        session.answer(vec![(1, acked(1))]);
        assert!(b.take().is_empty() && sessions.0.is_empty());
    }

    #[test]
    fn with_the_link_to_their_pod_all_its_sessions_end_and_what_it_sends_next_begins_anew() {
        let (sessions, links) = (ForeignSessions::default(), Links::default());
        let b = FarEnd::of(&links, &pod("b"));
        let (of_b, of_c) = ["b", "c"].map(|name| sessions.of(&pod(name), session_id(), &links)).into();
        b.fall();
        sessions.cut_off(&pod("b"));
        assert!(of_b.has_ended() && !of_c.has_ended());
        // The next link's numbers are not those of this one.
        let b = FarEnd::of(&links, &pod("b"));
        of_b.answer(vec![(1, acked(1))]);
        assert!(b.take().is_empty());
        let again = sessions.of(&pod("b"), session_id(), &links);
        assert!(!again.has_ended() && !Arc::ptr_eq(&of_b, &again));
    }
}
