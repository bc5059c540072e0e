//! The switchboard: takes in frames from other pods.

use std::sync::Arc;

use colloquy_storage::model::live::PodId;
use tokio::time::Instant;

use super::bridge::{LinkEvents, Links};
use super::foreign::ForeignSessions;
use super::forwarding::Forwarding;
use super::reception::{Reception, ReceptionMessage};
use super::wire::{Frame, decode};
use crate::conversation::{Correspondent, Reply, Submission};

/// Who hears which pods are within reach: whoever places conversations. Told by the bridge itself, which must not be made to
/// wait.
pub trait Neighbourhood: Send + Sync {
    /// A link to this pod stands, or no longer.
    fn linked(&self, pod_id: &PodId, is_up: bool);
}

/// Where frames from other pods come in. Cheap to clone.
#[derive(Clone)]
pub struct Switchboard {
    links: Links,
    forwarding: Forwarding,
    reception: Reception,
    neighbourhood: Arc<dyn Neighbourhood>,
    foreign: ForeignSessions,
}

impl LinkEvents for Switchboard {
    fn up(&self, peer: &PodId, _incarnation: u64, _version: u16) {
        self.neighbourhood.linked(peer, true);
    }

    /// What the pod would have answered is not waited for, and nothing more comes from its sessions.
    fn down(&self, peer: &PodId) {
        // First: who is told to try again is not to be sent there once more.
        self.neighbourhood.linked(peer, false);
        self.foreign.cut_off(peer);
        self.forwarding.cut_off(peer);
    }

    fn received(&self, peer: &PodId, frame: Vec<u8>) {
        match decode(&frame) {
            Ok(frame) => self.take(peer, frame),
            // What a newer release says and this one does not understand is that one's to do without.
            Err(error) => tracing::warn!(%error, "a frame from another pod is not understood"),
        }
    }
}

impl Switchboard {
    /// Answers go to `forwarding`, everything else to `reception`.
    #[must_use]
    pub fn new(
        links: Links,
        forwarding: Forwarding,
        reception: Reception,
        neighbourhood: Arc<dyn Neighbourhood>,
    ) -> Self {
        Self { links, forwarding, reception, neighbourhood, foreign: ForeignSessions::default() }
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
