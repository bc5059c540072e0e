//! The way to a conversation's owner: the actor on this pod, or the pod that ought to own it.

use std::sync::Arc;
use std::time::Duration;

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::ids::{ConversationId, MessageId, SessionId, UserId};
use colloquy_storage::ambient::Clock;
use colloquy_storage::model::conversation::Conversation;
use colloquy_storage::model::cursor::CursorKind;
use colloquy_storage::model::live::PodId;
use colloquy_storage::model::message::Message;
use colloquy_storage::ports::{Accounts, Conversations, StoreResult};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};

use super::ConversationMessage;
use super::correspondent::{Asker, Correspondent};
use super::directory::{Awake, ConversationIndex};
use super::ephemeral::Ephemeral;
use super::submission::{Answer, Reply, SenderOrder, Submission};
use crate::cluster::Cluster;
use crate::supervision::{Mailbox, Refused};

/// How long somebody who asks once waits: longer than an owner elsewhere is waited for.
const ANSWER_PATIENCE: Duration = Duration::from_secs(12);

/// How far a user has come in a conversation, on a device or by reading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// On a device, or by reading.
    pub kind: CursorKind,
    /// Up to here, inclusive.
    pub through: u64,
    /// As the client named them, for the receipt.
    pub message_ids: Vec<MessageId>,
}

/// Where a conversation is to be asked for.
enum Place {
    /// Its owner is here.
    Awake(Awake),
    /// It may be woken here.
    Asleep,
    /// Another pod ought to own it.
    Elsewhere(PodId),
}

/// Why a participant's word did not reach the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unheard {
    /// It is not the user's (AUTHZ), or there is none: which of the two is not said.
    Unknown,
    /// Try again.
    Later(ErrorCode),
}

/// Finds owners. Sessions have one that looks on all pods; what comes from other pods enters by one that looks only
/// here, so that nothing is passed on twice.
#[derive(Clone)]
pub struct Doorway {
    index: ConversationIndex,
    directory: Arc<dyn Conversations>,
    accounts: Arc<dyn Accounts>,
    clock: Clock,
    cluster: Option<Cluster>,
}

impl Doorway {
    /// To the conversations of `index`, and with a `cluster` to those of other pods.
    #[must_use]
    pub fn new(
        index: ConversationIndex,
        directory: Arc<dyn Conversations>,
        accounts: Arc<dyn Accounts>,
        clock: Clock,
        cluster: Option<Cluster>,
    ) -> Self {
        Self { index, directory, accounts, clock, cluster }
    }

    fn place(&self, conversation_id: ConversationId) -> Place {
        if let Some(awake) = self.index.awake(conversation_id) {
            return Place::Awake(awake);
        }
        let elsewhere = self.cluster.as_ref().and_then(|cluster| cluster.elsewhere(conversation_id));
        elsewhere.map_or(Place::Asleep, Place::Elsewhere)
    }

    /// Hands a message to its owner if that takes no waiting; otherwise hands it back.
    ///
    /// # Errors
    /// The message, whose conversation has to be woken first: see [`Self::pass_on`].
    pub fn hand_over(&self, submission: Box<Submission>) -> Result<(), Box<Submission>> {
        let conversation_id = submission.message.conversation_id;
        let awake = match self.place(conversation_id) {
            Place::Awake(awake) => awake,
            Place::Asleep => return Err(submission),
            Place::Elsewhere(pod_id) => {
                if let Some(cluster) = &self.cluster {
                    cluster.submit(&pod_id, *submission);
                }
                return Ok(());
            }
        };
        // AUTHZ: strangers take no room in a conversation's mailbox.
        if !awake.has(submission.message.sender_id) {
            submission.reply.give(Answer::Refused(ErrorCode::UnknownConversation));
            return Ok(());
        }
        let refused = match awake.mailbox.try_cast(ConversationMessage::Submit(submission)) {
            Ok(()) => return Ok(()),
            Err(refused) => refused,
        };
        let busy = matches!(refused, Refused::Busy(_));
        let ConversationMessage::Submit(submission) = refused.into_message() else { return Ok(()) };
        if busy {
            submission.reply.give(Answer::Refused(ErrorCode::Busy));
            return Ok(());
        }
        self.index.bury(conversation_id, &awake.mailbox);
        Err(submission)
    }

    /// Wakes the owner and hands it the message; one that dies meanwhile is woken once more.
    ///
    /// # Errors
    /// The store's. The message is dropped then, and its sender told to try again.
    pub async fn pass_on(&self, mut submission: Box<Submission>) -> StoreResult<()> {
        for _ in 0..2 {
            let (id, message) = (submission.message.conversation_id, &submission.message);
            let woken = self.wake(id, message.sender_id, Some(message.receiver_id)).await?;
            if let Err(code) = woken {
                submission.reply.give(Answer::Refused(code));
                return Ok(());
            }
            match self.hand_over(submission) {
                Ok(()) => return Ok(()),
                Err(back) => submission = back,
            }
        }
        submission.reply.give(Answer::Refused(ErrorCode::Unavailable));
        Ok(())
    }

    /// Puts one message into its conversation, wherever that is owned, and waits for the answer: at most
    /// [`ANSWER_PATIENCE`], after which nobody knows what became of it, and the key finds out (ONCE).
    ///
    /// # Errors
    /// The store's.
    pub async fn ask(&self, message: Message, session_id: SessionId) -> StoreResult<Answer> {
        let (asker, answered) = Asker::new(session_id);
        let reply = Reply::owed_to(Correspondent::Asker(Arc::new(asker)), 0);
        let submission = Box::new(Submission { message, order: None, reply, arrived: Instant::now() });
        if let Err(submission) = self.hand_over(submission) {
            self.pass_on(submission).await?;
        }
        let answer = timeout(ANSWER_PATIENCE, answered).await;
        self.session_ended(session_id);
        Ok(match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Answer::Refused(ErrorCode::Unavailable),
        })
    }

    /// The actor of a conversation the user takes part in. The first message between two users opens theirs.
    async fn wake(
        &self,
        conversation_id: ConversationId,
        user_id: UserId,
        receiver_id: Option<UserId>,
    ) -> StoreResult<Result<Mailbox<ConversationMessage>, ErrorCode>> {
        let conversation = match self.directory.get(conversation_id).await? {
            Some(conversation) if conversation.has(user_id) => conversation,
            Some(_) => return Ok(Err(ErrorCode::UnknownConversation)),
            None => match self.open_pair(conversation_id, user_id, receiver_id).await? {
                Some(conversation) => conversation,
                None => return Ok(Err(ErrorCode::UnknownConversation)),
            },
        };
        Ok(self.index.wake(conversation).await)
    }

    async fn open_pair(
        &self,
        conversation_id: ConversationId,
        user_id: UserId,
        receiver_id: Option<UserId>,
    ) -> StoreResult<Option<Conversation>> {
        let Some(receiver_id) = receiver_id else { return Ok(None) };
        let is_theirs =
            receiver_id != user_id && ConversationId::of_pair(user_id, receiver_id) == conversation_id;
        if !is_theirs || self.accounts.get(receiver_id).await?.is_none() {
            return Ok(None);
        }
        let (conversation, _) = self.directory.open_pair(user_id, receiver_id, self.clock.now()).await?;
        Ok(Some(conversation))
    }

    /// A message of this connection was refused before it came to its owner, who is not to wait for it. It may be lost:
    /// the next message says the same.
    pub fn skip(
        &self,
        from: &Correspondent,
        user_id: UserId,
        conversation_id: ConversationId,
        order: SenderOrder,
    ) {
        match self.place(conversation_id) {
            Place::Awake(awake) if awake.has(user_id) => {
                let _ = awake.mailbox.try_cast(ConversationMessage::Skip(from.clone(), order));
            }
            Place::Elsewhere(pod_id) => {
                if let (Some(cluster), Correspondent::Here(session)) = (&self.cluster, from) {
                    cluster.skip(&pod_id, (session.session_id, user_id), conversation_id, order);
                }
            }
            Place::Awake(_) | Place::Asleep => {}
        }
    }

    /// A session of this pod has ended: nothing more comes from it. What it left waiting here is found by its handle.
    pub fn session_ended(&self, session_id: SessionId) {
        if let Some(cluster) = &self.cluster {
            cluster.session_ended(session_id);
        }
    }

    /// Tells a conversation how far one of its participants has come, if that takes no waiting: its owner is awake here,
    /// or elsewhere and the user `is_known` to take part. A full mailbox may lose it: cursors are cumulative, the next one
    /// makes up for it.
    ///
    /// # Errors
    /// Hands it back: see [`Self::advance`].
    pub fn advance_at_once(
        &self,
        conversation_id: ConversationId,
        user_id: UserId,
        is_known: bool,
        moved: Moved,
    ) -> Result<(), Moved> {
        match self.place(conversation_id) {
            Place::Awake(awake) if awake.has(user_id) => {
                let advance = ConversationMessage::Advance(user_id, moved);
                match awake.mailbox.try_cast(advance) {
                    Err(Refused::Stopped(ConversationMessage::Advance(_, moved))) => {
                        self.index.bury(conversation_id, &awake.mailbox);
                        Err(moved)
                    }
                    _ => Ok(()),
                }
            }
            Place::Elsewhere(pod_id) if is_known => {
                if let Some(cluster) = &self.cluster {
                    cluster.advance(&pod_id, conversation_id, user_id, moved);
                }
                Ok(())
            }
            _ => Err(moved),
        }
    }

    /// As [`Self::advance_at_once`], and looks the user up, and wakes the conversation.
    ///
    /// # Errors
    /// The store's; [`Unheard`].
    pub async fn advance(
        &self,
        conversation_id: ConversationId,
        user_id: UserId,
        is_known: bool,
        moved: Moved,
    ) -> StoreResult<Result<(), Unheard>> {
        let mut moved = moved;
        for _ in 0..2 {
            if let Err(why) = self.reach(conversation_id, user_id, is_known).await? {
                return Ok(Err(why));
            }
            match self.advance_at_once(conversation_id, user_id, true, moved) {
                Ok(()) => return Ok(Ok(())),
                Err(back) => moved = back,
            }
        }
        // Cursors are cumulative: the next one makes up for it.
        Ok(Ok(()))
    }

    /// Tells a conversation what a participant says for now or never: one too busy to take it has better things to show.
    ///
    /// # Errors
    /// The store's; [`Unheard`].
    pub async fn say(
        &self,
        conversation_id: ConversationId,
        user_id: UserId,
        is_known: bool,
        said: Ephemeral,
    ) -> StoreResult<Result<(), Unheard>> {
        if let Err(why) = self.reach(conversation_id, user_id, is_known).await? {
            return Ok(Err(why));
        }
        match self.place(conversation_id) {
            Place::Awake(awake) => {
                let _ = awake.mailbox.try_cast(ConversationMessage::Said(user_id, said));
            }
            Place::Elsewhere(pod_id) => {
                if let Some(cluster) = &self.cluster {
                    cluster.say(&pod_id, conversation_id, user_id, said);
                }
            }
            Place::Asleep => {}
        }
        Ok(Ok(()))
    }

    /// Sees to it that the conversation has a place and that the user takes part in it (AUTHZ).
    async fn reach(
        &self,
        conversation_id: ConversationId,
        user_id: UserId,
        is_known: bool,
    ) -> StoreResult<Result<(), Unheard>> {
        let takes_part = match self.place(conversation_id) {
            Place::Awake(awake) => awake.has(user_id),
            Place::Elsewhere(_) if is_known => true,
            Place::Elsewhere(_) => {
                let conversation = self.directory.get(conversation_id).await?;
                conversation.is_some_and(|conversation| conversation.has(user_id))
            }
            Place::Asleep => {
                return Ok(match self.wake(conversation_id, user_id, None).await? {
                    Ok(_) => Ok(()),
                    Err(ErrorCode::UnknownConversation) => Err(Unheard::Unknown),
                    Err(code) => Err(Unheard::Later(code)),
                });
            }
        };
        Ok(if takes_part { Ok(()) } else { Err(Unheard::Unknown) })
    }
}
