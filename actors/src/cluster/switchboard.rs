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

    /// Sessions elsewhere that are remembered here.
    #[cfg(test)]
    pub(super) fn foreign_sessions(&self) -> usize {
        self.foreign.len()
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
            Frame::Said { conversation_id, user_id, said } => {
                let said = ReceptionMessage::Said(conversation_id, user_id, said);
                self.reception.tell(conversation_id, said);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use colloquy_protocol::error_code::ErrorCode;
    use colloquy_protocol::frame::TypingState;
    use colloquy_protocol::ids::SessionId;
    use colloquy_storage::model::cursor::CursorKind;
    use tokio::sync::mpsc;
    use uuid::Uuid;

    use super::*;
    use crate::cluster::bridge::FarEnd;
    use crate::cluster::encode;
    use crate::cluster::tests::stage::{
        Session, acked, conversation, frames, mailbox, message, pod, refused, user,
    };
    use crate::conversation::{Answer, Ephemeral, Moved, SenderOrder};

    const ROOM: usize = 16;

    /// Writes down what is heard of links, and looks at a session elsewhere at that moment.
    #[derive(Default)]
    struct Neighbours {
        heard: Mutex<Vec<(PodId, bool)>>,
        watched: Mutex<Option<Correspondent>>,
    }

    impl Neighbourhood for Neighbours {
        fn linked(&self, pod_id: &PodId, is_up: bool) {
            if let Some(watched) = &*self.watched.lock().unwrap() {
                assert!(!watched.has_ended(), "who places conversations hears of it first");
            }
            self.heard.lock().unwrap().push((pod_id.clone(), is_up));
        }
    }

    struct Desk {
        switchboard: Switchboard,
        forwarding: Forwarding,
        neighbours: Arc<Neighbours>,
        far_end: FarEnd,
        /// What the shard of the only conversation is told.
        shard: mpsc::Receiver<ReceptionMessage>,
    }

    impl Desk {
        async fn new() -> Self {
            let (links, reception) = (Links::default(), Reception::default());
            let (mailbox, shard) = mailbox(ROOM).await;
            reception.shard(conversation()).install(mailbox);
            let (forwarding, neighbours) =
                (Forwarding::over(links.clone(), 1), Arc::new(Neighbours::default()));
            let far_end = FarEnd::of(&links, &pod("b"));
            let hears = Arc::clone(&neighbours) as Arc<dyn Neighbourhood>;
            let switchboard = Switchboard::new(links, forwarding.clone(), reception, hears);
            Self { switchboard, forwarding, neighbours, far_end, shard }
        }

        fn hear(&self, frame: &Frame) {
            self.switchboard.received(&pod("b"), encode(frame).unwrap());
        }

        async fn submission(&mut self) -> Box<Submission> {
            match self.shard.recv().await {
                Some(ReceptionMessage::Submit(submission)) => submission,
                other => panic!("not a message: {other:?}"),
            }
        }

        fn answers(&self) -> Vec<(u64, Answer)> {
            let of = |frame| match frame {
                Frame::Answered(answers) => answers,
                other => panic!("not answers: {other:?}"),
            };
            frames(&self.far_end.take()).into_iter().flat_map(of).collect()
        }
    }

    fn session_id() -> SessionId {
        SessionId(Uuid::from_u128(1))
    }

    fn submit(request: u64) -> Frame {
        let order = Some(SenderOrder { client_sequence: request, expected: 1, follows_unanswered: false });
        Frame::Submit { request, session_id: session_id(), message: message(request.into()), order }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_from_another_pod_is_handed_on_and_answered_by_that_pods_number() {
        let mut desk = Desk::new().await;
        desk.hear(&submit(41));
        desk.hear(&submit(42));
        let (first, second) = (desk.submission().await, desk.submission().await);
        assert_eq!((&first.message, &second.message), (&message(41), &message(42)));
        assert_eq!(
            second.order,
            Some(SenderOrder { client_sequence: 42, expected: 1, follows_unanswered: false })
        );
        assert!(first.reply.to().is(second.reply.to()), "both are of one session");
        second.reply.give(acked(42));
        drop(first);
        assert_eq!(desk.answers(), [(42, acked(42)), (41, refused(ErrorCode::Unavailable))]);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_from_another_pod_reach_the_sessions_that_wait_for_them() {
        let (desk, mut session) = (Desk::new().await, Session::of(user(1), 1).await);
        desk.forwarding.submit(&pod("b"), session.submission(7));
        let [Frame::Submit { request, .. }] = frames(&desk.far_end.take())[..] else {
            panic!("one message is sent");
        };
        desk.hear(&Frame::Answered(vec![(request, acked(7))]));
        assert_eq!(session.answer().await, (7, acked(7)));
    }

    #[tokio::test(start_paused = true)]
    async fn everything_else_goes_to_the_shard_of_its_conversation_too() {
        let mut desk = Desk::new().await;
        let (conversation_id, user_id) = (conversation(), user(1));
        let order = SenderOrder { client_sequence: 2, expected: 1, follows_unanswered: false };
        let moved = Moved { kind: CursorKind::Read, through: 3, message_ids: Vec::new() };
        desk.hear(&Frame::Skip { session_id: session_id(), user_id, conversation_id, order });
        desk.hear(&Frame::Advance { conversation_id, user_id, moved: moved.clone() });
        let said = Ephemeral::Typing(TypingState::Started);
        desk.hear(&Frame::Said { conversation_id, user_id, said: said.clone() });
        let heard = desk.shard.recv().await.unwrap();
        assert!(matches!(&heard, ReceptionMessage::Skip(from, of, to, place)
            if (from.session_id(), *of, *to, *place) == (session_id(), user_id, conversation_id, order)));
        let heard = desk.shard.recv().await.unwrap();
        assert!(matches!(&heard, ReceptionMessage::Advance(to, of, how)
            if (*to, *of, how) == (conversation_id, user_id, &moved)));
        let heard = desk.shard.recv().await.unwrap();
        assert!(matches!(&heard, ReceptionMessage::Said(to, of, what)
            if (*to, *of, what) == (conversation_id, user_id, &said)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_is_not_understood_holds_up_none_after_it() {
        let mut desk = Desk::new().await;
        desk.switchboard.received(&pod("b"), b"not a frame".to_vec());
        desk.switchboard.received(&pod("b"), Vec::new());
        desk.hear(&submit(1));
        assert_eq!(desk.submission().await.message, message(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_has_ended_is_answered_no_more() {
        let mut desk = Desk::new().await;
        desk.hear(&submit(1));
        desk.hear(&Frame::SessionEnded(session_id()));
        let submission = desk.submission().await;
        assert!(submission.reply.to().has_ended());
        submission.reply.give(acked(1));
        assert!(desk.far_end.take().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_that_is_gone_ends_what_came_and_gives_up_what_went_over_it() {
        let (mut desk, mut session) = (Desk::new().await, Session::of(user(1), 1).await);
        desk.switchboard.up(&pod("b"), 1, 1);
        desk.forwarding.submit(&pod("b"), session.submission(7));
        desk.hear(&submit(1));
        let from = desk.submission().await.reply.to().clone();
        *desk.neighbours.watched.lock().unwrap() = Some(from.clone());
        desk.switchboard.down(&pod("b"));
        assert!(from.has_ended());
        assert_eq!(session.answer().await, (7, refused(ErrorCode::Unavailable)));
        assert_eq!(*desk.neighbours.heard.lock().unwrap(), [(pod("b"), true), (pod("b"), false)]);
        desk.hear(&submit(1));
        assert!(!desk.submission().await.reply.to().has_ended(), "over the next link it begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn a_shard_that_is_full_says_busy_and_one_that_is_being_restarted_says_try_again() {
        let desk = Desk::new().await;
        for request in 0..=ROOM as u64 {
            desk.hear(&submit(request));
        }
        assert_eq!(desk.answers(), [(ROOM as u64, refused(ErrorCode::Busy))]);
        let mut elsewhere = message(100);
        let other_shard =
            (1..).map(Uuid::from_u128).find(|id| id.as_u128() % 16 != conversation().0.as_u128() % 16);
        elsewhere.conversation_id.0 = other_shard.unwrap();
        let submit =
            Frame::Submit { request: 100, session_id: session_id(), message: elsewhere, order: None };
        desk.hear(&submit);
        assert_eq!(desk.answers(), [(100, refused(ErrorCode::Unavailable))]);
    }
}
