//! Users, and sessions and shards whose letters the test reads.

use std::sync::Arc;
use std::time::Duration;

use colloquy_protocol::envelope::{Algorithm, CiphertextKind, DeviceCiphertext, Envelope};
use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::frame::MessageType;
use colloquy_protocol::frame::server::MessageAck;
use colloquy_protocol::ids::{ConversationId, DeviceId, IdempotencyKey, MessageId, SessionId, UserId};
use colloquy_storage::model::live::PodId;
use colloquy_storage::model::message::Message;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::cluster::{Frame, decode};
use crate::conversation::{Answer, Correspondent, Reply, SenderOrder, Submission, ack_of};
use crate::session::{SessionHandle, SessionMessage};
use crate::supervision::{Depth, Letter, Mailbox};

/// Reaching it is a failure, never a way to pass time.
pub(in crate::cluster) const DEADLINE: Duration = Duration::from_secs(20);
/// Letters that a test has not read yet; its reader waits at more.
const UNREAD_MAX: usize = 256;

pub(in crate::cluster) fn pod(name: &str) -> PodId {
    PodId::new(name).unwrap()
}

pub(in crate::cluster) fn user(n: u128) -> UserId {
    UserId(Uuid::from_u128(0x1000 + n))
}

/// Everybody's only device.
pub(in crate::cluster) fn phone() -> DeviceId {
    DeviceId::new("phone").unwrap()
}

/// What users 1 and 2 say to each other.
pub(in crate::cluster) fn conversation() -> ConversationId {
    ConversationId::of_pair(user(1), user(2))
}

/// What user 1 says to user 2 under key `n`.
pub(in crate::cluster) fn message(n: u128) -> Message {
    let key = uuid::Builder::from_random_bytes(n.to_be_bytes()).into_uuid();
    let ciphertext = DeviceCiphertext {
        user_id: user(2),
        device_id: phone(),
        kind: CiphertextKind::Normal,
        body: format!("text{n:04}"),
    };
    let content =
        Envelope { algorithm: Algorithm::OlmV1, sender_key: identity_key(), ciphertexts: vec![ciphertext] };
    Message {
        message_id: MessageId(Uuid::from_u128(n)),
        sequence_number: 0,
        conversation_id: conversation(),
        sender_id: user(1),
        sender_device_id: phone(),
        receiver_id: user(2),
        idempotency_key: IdempotencyKey::new(key).unwrap(),
        r#type: MessageType::Text,
        content,
        media_url: None,
        reply_to_message_id: None,
        sent_at: 1,
        created_at: 0,
    }
}

/// Of every phone.
pub(in crate::cluster) fn identity_key() -> String {
    "A".repeat(43)
}

/// The ack of message `n`.
pub(in crate::cluster) fn acked(n: u128) -> Answer {
    Answer::Acked(ack_of(&Message { sequence_number: 1, created_at: 1, ..message(n) }))
}

pub(in crate::cluster) fn refused(code: ErrorCode) -> Answer {
    Answer::Refused(code)
}

/// Number of a message that was answered with its ack.
pub(in crate::cluster) fn number_of(answer: &Answer) -> u64 {
    match answer {
        Answer::Acked(MessageAck { sequence_number, .. }) => *sequence_number,
        other => panic!("not acked: {other:?}"),
    }
}

pub(in crate::cluster) fn frames(bytes: &[Vec<u8>]) -> Vec<Frame> {
    bytes.iter().map(|bytes| decode(bytes).unwrap()).collect()
}

/// An actor that hands its letters to a test.
struct Reader<M>(std::marker::PhantomData<fn(M)>);

impl<M: Send + 'static> Actor for Reader<M> {
    type Msg = Letter<M>;
    type State = mpsc::Sender<M>;
    type Arguments = mpsc::Sender<M>;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        read: mpsc::Sender<M>,
    ) -> Result<mpsc::Sender<M>, ActorProcessingErr> {
        Ok(read)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        letter: Self::Msg,
        read: &mut mpsc::Sender<M>,
    ) -> Result<(), ActorProcessingErr> {
        // A test that has ended reads no more.
        let _ = read.send(letter.open().0).await;
        Ok(())
    }
}

/// A mailbox for so many letters, and where the test reads them.
pub(in crate::cluster) async fn mailbox<M: Send + 'static>(
    capacity: usize,
) -> (Mailbox<M>, mpsc::Receiver<M>) {
    let (read, letters) = mpsc::channel(UNREAD_MAX);
    let reader = Reader(std::marker::PhantomData);
    let (actor, _) = Actor::spawn(None, reader, read).await.expect("it starts");
    (Mailbox::new(actor, Depth::default(), capacity), letters)
}

/// A session.
pub(in crate::cluster) struct Session {
    pub(in crate::cluster) handle: Arc<SessionHandle>,
    letters: mpsc::Receiver<SessionMessage>,
}

impl Session {
    /// Number `number` of a user.
    pub(in crate::cluster) async fn of(user_id: UserId, number: u128) -> Self {
        let (mailbox, letters) = mailbox(UNREAD_MAX).await;
        let session_id = SessionId(Uuid::from_u128(number));
        let handle = Arc::new(SessionHandle::read_by(mailbox, session_id, (user_id, phone())));
        Self { handle, letters }
    }

    pub(in crate::cluster) fn id(&self) -> SessionId {
        self.handle.session_id
    }

    pub(in crate::cluster) fn correspondent(&self) -> Correspondent {
        Correspondent::Here(Arc::clone(&self.handle))
    }

    /// Its message `n`, which it knows by the same number.
    pub(in crate::cluster) fn submission(&self, n: u128) -> Submission {
        let token = u64::try_from(n).unwrap();
        let reply = Reply::owed_to(self.correspondent(), token);
        Submission { message: message(n), order: None, reply, arrived: Instant::now() }
    }

    /// Its message `n`, the `client_sequence`-th of its own order.
    pub(in crate::cluster) fn submission_in_order(&self, n: u128, client_sequence: u64) -> Submission {
        Submission {
            order: Some(SenderOrder { client_sequence, expected: 1, follows_unanswered: false }),
            ..self.submission(n)
        }
    }

    /// The next letter.
    pub(in crate::cluster) async fn next(&mut self) -> SessionMessage {
        let letter = timeout(DEADLINE, self.letters.recv()).await.expect("it hears something in time");
        let letter = letter.expect("its reader is there");
        if matches!(letter, SessionMessage::Resync) {
            self.handle.resyncing();
        }
        letter
    }

    /// The next answers.
    pub(in crate::cluster) async fn answers(&mut self) -> Vec<(u64, Answer)> {
        match self.next().await {
            SessionMessage::Answered(answers) => answers,
            SessionMessage::Lost(token) => vec![(token, refused(ErrorCode::Unavailable))],
            other => panic!("not an answer: {other:?}"),
        }
    }

    /// The next answer, the only one of its letter.
    pub(in crate::cluster) async fn answer(&mut self) -> (u64, Answer) {
        let answers = self.answers().await;
        let [answer] = <[_; 1]>::try_from(answers).expect("one answer");
        answer
    }

    /// On paused time: nothing has been said to it.
    pub(in crate::cluster) async fn hears_nothing(&mut self) {
        let heard = timeout(Duration::from_millis(1), self.letters.recv()).await;
        assert!(heard.is_err(), "{heard:?}");
    }
}

/// On paused time: lets so much of it pass, and everybody do what they have to do.
pub(in crate::cluster) async fn pass(time: Duration) {
    let never = std::future::pending::<()>();
    assert!(timeout(time, never).await.is_err());
}

/// A parent that says nothing.
pub(in crate::cluster) struct Quiet;

impl Actor for Quiet {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<()>,
        _: ractor::SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}
