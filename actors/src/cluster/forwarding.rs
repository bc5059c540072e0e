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
            // Cursors are cumulative, everything else is ephemeral.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::bridge::FarEnd;
    use crate::cluster::tests::stage::{Session, acked, conversation, frames, message, pod, refused, user};

    const FIRST_REQUEST: u64 = 1000;

    fn forwarding() -> (Forwarding, Links) {
        let links = Links::default();
        (Forwarding::over(links.clone(), FIRST_REQUEST), links)
    }

    fn requests(far_end: &FarEnd) -> Vec<u64> {
        let request = |frame| match frame {
            Frame::Submit { request, .. } => request,
            other => panic!("not a message: {other:?}"),
        };
        frames(&far_end.take()).into_iter().map(request).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_goes_to_its_owner_whole_and_its_answer_reaches_the_sender_once() {
        let ((forwarding, links), mut session) = (forwarding(), Session::of(user(1), 1).await);
        let far_end = FarEnd::of(&links, &pod("b"));
        forwarding.submit(&pod("b"), session.submission_in_order(7, 1));
        let [Frame::Submit { request, session_id, message: carried, order }] = &frames(&far_end.take())[..]
        else {
            panic!("one message is sent");
        };
        assert_eq!((*request, *session_id, carried), (FIRST_REQUEST, session.id(), &message(7)));
        assert_eq!(*order, Some(SenderOrder { client_sequence: 1, expected: 1, follows_unanswered: false }));
        forwarding.answered(vec![(*request, acked(7))]);
        assert_eq!(session.answer().await, (7, acked(7)));
        forwarding.answered(vec![(*request, refused(ErrorCode::Busy)), (99, acked(7))]);
        forwarding.cut_off(&pod("b"));
        forwarding.expire(Instant::now() + PATIENCE);
        session.hears_nothing().await;
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_come_together_reach_each_session_together() {
        let (forwarding, links) = forwarding();
        let (mut one, mut other) = (Session::of(user(1), 1).await, Session::of(user(1), 2).await);
        let far_end = FarEnd::of(&links, &pod("b"));
        for (session, n) in [(&one, 1), (&other, 2), (&one, 3)] {
            forwarding.submit(&pod("b"), session.submission(n));
        }
        let answers = requests(&far_end).into_iter().zip([acked(1), acked(2), acked(3)]);
        forwarding.answered(answers.collect());
        assert_eq!(one.answers().await, [(1, acked(1)), (3, acked(3))]);
        assert_eq!(other.answers().await, [(2, acked(2))]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_link_does_not_take_is_answered_at_once() {
        let ((forwarding, links), mut session) = (forwarding(), Session::of(user(1), 1).await);
        forwarding.submit(&pod("b"), session.submission(1));
        assert_eq!(session.answer().await, (1, refused(ErrorCode::Unavailable)));
        let far_end = FarEnd::of(&links, &pod("b"));
        while links.send(&pod("b"), Vec::new()).is_ok() {}
        forwarding.submit(&pod("b"), session.submission(2));
        assert_eq!(session.answer().await, (2, refused(ErrorCode::Busy)));
        far_end.take();
        let mut huge = session.submission(3);
        huge.message.media_url = Some("x".repeat(crate::cluster::bridge::FRAME_MAX));
        forwarding.submit(&pod("b"), huge);
        assert_eq!(session.answer().await, (3, refused(ErrorCode::Internal)));
        assert!(forwarding.0.under_way.is_empty());
        assert_eq!(forwarding.0.count.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn senders_are_told_to_try_again_when_the_link_is_gone_and_only_that_link() {
        let ((forwarding, links), mut session) = (forwarding(), Session::of(user(1), 1).await);
        let (_b, c) = (FarEnd::of(&links, &pod("b")), FarEnd::of(&links, &pod("c")));
        forwarding.submit(&pod("b"), session.submission(1));
        forwarding.submit(&pod("c"), session.submission(2));
        forwarding.cut_off(&pod("b"));
        assert_eq!(session.answer().await, (1, refused(ErrorCode::Unavailable)));
        session.hears_nothing().await;
        forwarding.answered(vec![(requests(&c)[0], acked(2))]);
        assert_eq!(session.answer().await, (2, acked(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn senders_are_told_to_try_again_when_the_owner_takes_too_long() {
        let ((forwarding, links), mut session) = (forwarding(), Session::of(user(1), 1).await);
        let far_end = FarEnd::of(&links, &pod("b"));
        let start = Instant::now();
        forwarding.submit(&pod("b"), session.submission(1));
        forwarding.expire(start + PATIENCE - Duration::from_millis(1));
        session.hears_nothing().await;
        forwarding.expire(start + PATIENCE);
        assert_eq!(session.answer().await, (1, refused(ErrorCode::Unavailable)));
        // Too late; the retry finds it by its key (ONCE).
        forwarding.answered(vec![(requests(&far_end)[0], acked(1))]);
        session.hears_nothing().await;
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_messages_are_under_way_than_the_bound() {
        let ((forwarding, links), mut session) = (forwarding(), Session::of(user(1), 1).await);
        let far_end = FarEnd::of(&links, &pod("b"));
        let mut first = None;
        for n in 0..UNDER_WAY_MAX {
            forwarding.submit(&pod("b"), session.submission(n as u128));
            if n % 1000 == 0 {
                first = first.or(requests(&far_end).first().copied());
            }
        }
        session.hears_nothing().await;
        forwarding.submit(&pod("b"), session.submission(70_000));
        assert_eq!(session.answer().await, (70_000, refused(ErrorCode::Busy)));
        forwarding.answered(vec![(first.unwrap(), acked(1))]);
        session.answer().await;
        forwarding.submit(&pod("b"), session.submission(70_001));
        session.hears_nothing().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_ends_is_told_to_the_pods_that_have_had_something_from_it() {
        let ((forwarding, links), session) = (forwarding(), Session::of(user(1), 1).await);
        let ends = ["b", "c", "d", "e"].map(|name| FarEnd::of(&links, &pod(name)));
        forwarding.submit(&pod("b"), session.submission(1));
        forwarding.submit(&pod("b"), session.submission(2));
        let order = SenderOrder { client_sequence: 1, expected: 1, follows_unanswered: false };
        forwarding.skip(&pod("c"), (session.id(), user(1)), conversation(), order);
        forwarding.submit(&pod("d"), session.submission(3));
        // It has forgotten the session by itself.
        forwarding.cut_off(&pod("d"));
        ends.iter().for_each(|end| drop(end.take()));
        forwarding.session_ended(session.id());
        forwarding.session_ended(session.id());
        for (end, told) in ends.iter().zip([1, 1, 0, 0]) {
            let frames = frames(&end.take());
            assert!(
                frames.iter().all(|frame| matches!(frame, Frame::SessionEnded(id) if *id == session.id()))
            );
            assert_eq!(frames.len(), told);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_session_for_which_a_link_has_no_room_is_told_when_it_has() {
        let ((forwarding, links), session) = (forwarding(), Session::of(user(1), 1).await);
        let far_end = FarEnd::of(&links, &pod("b"));
        forwarding.submit(&pod("b"), session.submission(1));
        while links.send(&pod("b"), Vec::new()).is_ok() {}
        forwarding.session_ended(session.id());
        forwarding.expire(Instant::now());
        far_end.take();
        forwarding.expire(Instant::now());
        assert!(matches!(&frames(&far_end.take())[..], [Frame::SessionEnded(id)] if *id == session.id()));
        forwarding.expire(Instant::now());
        assert!(far_end.take().is_empty());
    }
}
