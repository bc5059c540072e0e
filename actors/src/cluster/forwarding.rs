//! Messages on their way to owners on other pods, and the answers owed for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::ids::{ConversationId, SessionId, UserId};
use colloquy_storage::model::live::PodId;
use dashmap::DashMap;
use tokio::time::Instant;

use super::bridge::{Links, Unsent};
use super::contacts::Contacts;
use super::wire::{Frame, encode};
use crate::conversation::{Answer, Reply, SenderOrder, Submission};

/// Messages that may be on their way to other pods at once; more are refused with `busy`.
const UNDER_WAY_MAX: usize = 65_536;
/// How long an answer is waited for. Longer than an owner waits for a message that is missing in its sender's order;
/// after it the sender is told to try again, which its idempotency key makes safe (ONCE).
const PATIENCE: Duration = Duration::from_secs(10);

/// What has been passed on and not been answered.
#[derive(Clone, Debug)]
pub struct Forwarding(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    links: Links,
    next: AtomicU64,
    count: AtomicUsize,
    under_way: DashMap<u64, UnderWay>,
    contacts: Contacts,
}

/// Dropped, it tells the sender that what became of the message is not known.
#[derive(Debug)]
struct UnderWay {
    to: PodId,
    reply: Reply,
    until: Instant,
}

impl Forwarding {
    /// Nothing yet. Requests are numbered from the pod's `incarnation` on, which is drawn at its start: an answer that was
    /// owed to an earlier process of the same name fits none of them (DURABLE).
    #[must_use]
    pub fn over(links: Links, incarnation: u64) -> Self {
        let (next, count) = (AtomicU64::new(incarnation), AtomicUsize::new(0));
        Self(Arc::new(Inner { links, next, count, under_way: DashMap::new(), contacts: Contacts::default() }))
    }

    /// Passes a message on. Its sender hears `unavailable` if the pod cannot be reached, now or before it has answered:
    /// by then another pod ought to be the owner, this one perhaps.
    pub fn submit(&self, to: &PodId, submission: Submission) {
        let Submission { message, order, reply, .. } = submission;
        if self.0.count.load(Ordering::Relaxed) >= UNDER_WAY_MAX {
            return reply.give(Answer::Refused(ErrorCode::Busy));
        }
        let request = self.0.next.fetch_add(1, Ordering::Relaxed);
        let session_id = reply.to().session_id();
        let Ok(frame) = encode(&Frame::Submit { request, session_id, message, order }) else {
            return reply.give(Answer::Refused(ErrorCode::Internal));
        };
        self.0.contacts.make(session_id, to);
        // Entered first: an answer, or the end of the link, finds it.
        let under_way = UnderWay { to: to.clone(), reply, until: Instant::now() + PATIENCE };
        self.0.under_way.insert(request, under_way);
        self.0.count.fetch_add(1, Ordering::Relaxed);
        if let Err(why) = self.0.links.send(to, frame)
            && let Some(reply) = self.take(request)
        {
            let code = match why {
                Unsent::Full => ErrorCode::Busy,
                Unsent::NoLink => ErrorCode::Unavailable,
                Unsent::TooLarge => ErrorCode::Internal,
            };
            reply.give(Answer::Refused(code));
        }
    }

    /// Passes on that a message was refused before it came to its owner; it may be lost.
    pub fn skip(
        &self,
        to: &PodId,
        (session_id, user_id): (SessionId, UserId),
        conversation_id: ConversationId,
        order: SenderOrder,
    ) {
        self.0.contacts.make(session_id, to);
        self.tell(to, &Frame::Skip { session_id, user_id, conversation_id, order });
    }

    /// A session of this pod has ended: whoever has had something from it is told.
    pub fn session_ended(&self, session_id: SessionId) {
        for pod_id in self.0.contacts.end(session_id) {
            self.tell_end(pod_id, session_id);
        }
    }

    /// Tells a pod something that may be lost.
    pub fn tell(&self, to: &PodId, frame: &Frame) {
        if let Ok(frame) = encode(frame) {
            // Cursors are cumulative, typing is ephemeral.
            let _ = self.0.links.send(to, frame);
        }
    }

    /// Answers have come.
    pub fn answered(&self, answers: Vec<(u64, Answer)>) {
        let owed = answers.into_iter();
        Reply::give_all(owed.filter_map(|(request, answer)| Some((self.take(request)?, answer))).collect());
    }

    /// The link to a pod is gone, and with it what it would have answered.
    pub fn cut_off(&self, from: &PodId) {
        self.0.contacts.cut_off(from);
        self.give_up(|under_way| under_way.to == *from);
    }

    /// Gives up what has waited too long, and tells what there was no room for. To be called about once a second.
    pub fn expire(&self, now: Instant) {
        self.give_up(|under_way| under_way.until <= now);
        for (pod_id, session_id) in self.0.contacts.take_put_off() {
            self.tell_end(pod_id, session_id);
        }
    }

    fn tell_end(&self, pod_id: PodId, session_id: SessionId) {
        let Ok(frame) = encode(&Frame::SessionEnded(session_id)) else { return };
        // A pod without a link has forgotten the session by itself.
        if self.0.links.send(&pod_id, frame) == Err(Unsent::Full) {
            self.0.contacts.put_off(pod_id, session_id);
        }
    }

    fn take(&self, request: u64) -> Option<Reply> {
        let (_, under_way) = self.0.under_way.remove(&request)?;
        self.0.count.fetch_sub(1, Ordering::Relaxed);
        Some(under_way.reply)
    }

    fn give_up(&self, is_hopeless: impl Fn(&UnderWay) -> bool) {
        let hopeless: Vec<u64> = self
            .0
            .under_way
            .iter()
            .filter(|entry| is_hopeless(entry.value()))
            .map(|entry| *entry.key())
            .collect();
        for request in hopeless {
            // Dropped unanswered, which tells the sender to try again.
            drop(self.take(request));
        }
    }
}
