//! The switchboard: takes in frames from other pods.

use colloquy_storage::model::live::PodId;
use tokio::time::Instant;

use super::bridge::Links;
use super::foreign::ForeignSessions;
use super::forwarding::Forwarding;
use super::reception::{Reception, ReceptionMessage};
use super::wire::{Frame, decode};
use crate::conversation::{Correspondent, Reply, Submission};

/// Where frames from other pods come in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Switchboard {
    links: Links,
    forwarding: Forwarding,
    reception: Reception,
    foreign: ForeignSessions,
}

impl Switchboard {
    /// Answers go to `forwarding`, everything else to `reception`.
    #[must_use]
    pub fn new(links: Links, forwarding: Forwarding, reception: Reception) -> Self {
        Self { links, forwarding, reception, foreign: ForeignSessions::default() }
    }

    /// A frame has come from a pod, in the order they were sent on its link. Takes no waiting.
    pub fn received(&self, from: &PodId, frame: &[u8]) {
        match decode(frame) {
            Ok(frame) => self.take(from, frame),
            // What a newer release says and this one does not understand is that one's to do without.
            Err(error) => tracing::warn!(%error, "a frame from another pod is not understood"),
        }
    }

    /// The link to a pod is gone: what it would have answered is not waited for, and nothing more comes from its sessions.
    pub fn cut_off(&self, pod_id: &PodId) {
        self.foreign.cut_off(pod_id);
        self.forwarding.cut_off(pod_id);
    }

    fn take(&self, from: &PodId, frame: Frame) {
        match frame {
            Frame::Submit { request, session_id, message, order } => {
                let session = self.foreign.of(from, session_id, &self.links);
                let reply = Reply::owed_to(Correspondent::Elsewhere(session), request);
                let arrived = Instant::now();
                self.reception.submit(Box::new(Submission { message, order, reply, arrived }));
            }
            Frame::Answered(answers) => self.forwarding.answered(answers),
            Frame::Skip { session_id, user_id, conversation_id, order } => {
                let session = self.foreign.of(from, session_id, &self.links);
                let skip = ReceptionMessage::Skip(
                    Correspondent::Elsewhere(session),
                    user_id,
                    conversation_id,
                    order,
                );
                self.reception.tell(conversation_id, skip);
            }
            Frame::SessionEnded(session_id) => self.foreign.ended(from, session_id),
            Frame::Advance { conversation_id, user_id, moved } => {
                let advance = ReceptionMessage::Advance(conversation_id, user_id, moved);
                self.reception.tell(conversation_id, advance);
            }
            Frame::Typing { conversation_id, user_id, state } => {
                let typing = ReceptionMessage::Typing(conversation_id, user_id, state);
                self.reception.tell(conversation_id, typing);
            }
        }
    }
}
