//! How a sink answers what it is posted: as the test says, from then on.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use colloquy_protocol::ids::MessageId;
use tokio::sync::watch;

use crate::http_server::Reply;

/// What a message is refused with: for good.
const REFUSED: u16 = 422;

/// Shared by the sink and the test. Cheap to clone.
#[derive(Clone)]
pub struct Manner {
    answers: Arc<Mutex<Answers>>,
    held: watch::Sender<bool>,
}

/// What is answered, and which messages are not wanted whatever else is.
struct Answers {
    reply: Reply,
    refused: BTreeSet<MessageId>,
}

impl Default for Manner {
    /// Takes everything.
    fn default() -> Self {
        let answers = Answers { reply: Reply::status(202), refused: BTreeSet::new() };
        Self { answers: Arc::new(Mutex::new(answers)), held: watch::Sender::new(false) }
    }
}

impl Manner {
    /// From now on everything is answered so.
    pub fn answers(&self, status: u16, headers: Vec<(&'static str, String)>) {
        self.locked().reply = Reply { status, headers };
    }

    /// From now on this message is not wanted, or is again.
    pub fn refuses(&self, message_id: MessageId, is_refused: bool) {
        let mut answers = self.locked();
        if is_refused {
            answers.refused.insert(message_id);
        } else {
            answers.refused.remove(&message_id);
        }
    }

    /// From now on messages come, and are not answered; or are again, those that wait as well.
    pub fn holds(&self, is_held: bool) {
        self.held.send_replace(is_held);
    }

    /// What is answered to what is no message.
    #[must_use]
    pub fn reply(&self) -> Reply {
        self.locked().reply.clone()
    }

    /// What is answered to a message, once the test has heard of it. What the test changes then is for the next one, unless
    /// this one is held.
    pub async fn reply_to(&self, message_id: MessageId, hearing: impl Future<Output = ()>) -> Reply {
        let at_once = self.reply_unless_held(message_id);
        hearing.await;
        match at_once {
            Some(reply) => reply,
            None => {
                // It lets go, or is gone with this task.
                let _ = self.held.subscribe().wait_for(|is_held| !is_held).await;
                self.reply_now(message_id)
            }
        }
    }

    fn reply_unless_held(&self, message_id: MessageId) -> Option<Reply> {
        let is_held = *self.held.borrow();
        (!is_held).then(|| self.reply_now(message_id))
    }

    fn reply_now(&self, message_id: MessageId) -> Reply {
        let answers = self.locked();
        if answers.refused.contains(&message_id) { Reply::status(REFUSED) } else { answers.reply.clone() }
    }

    fn locked(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
