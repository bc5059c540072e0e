//! The desk: which turns there are, who is being asked, and what becomes of an agent that does not answer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use colloquy_client::{
    Answer, Client, ClientError, DisconnectReason, Event, LocalMessageId, Message, Note, ShownContent,
    TEXT_MAX_BYTES, Turn, TurnContent, VoidVerdict,
};
use colloquy_protocol::agent::WhenBusy;
use colloquy_protocol::event::{AgentCancel, CancelReason};
use colloquy_protocol::frame::delta::TurnPlace;
use colloquy_protocol::ids::{ConversationId, MessageId};
use colloquy_protocol::limits::TYPING_THROTTLE;
use rand::RngExt;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, interval, sleep};

use crate::draft::Draft;
use crate::interrupted::Interrupted;
use crate::noted::Noted;
use crate::parts::{CUT, cut, fitting};
use crate::prompt::{HistoryLimits, Prompt, Question};
use crate::sink::{self, Bell};
use crate::upstream::{Upstream, UpstreamError};

/// How often it is looked what is due, whatever has been heard.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// How often it is looked what the agent says of itself.
const LOOK_UP_INTERVAL: Duration = Duration::from_secs(60);
/// Before an agent is asked again the first time; each time it is twice as long, less a random part ...
const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// ... and at most this.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// After an answer could not be sent, before the agent is asked again.
const ANSWER_AGAIN: Duration = Duration::from_secs(10);
/// After it could not be looked up what the agent says of itself, until the next try.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(5);
/// How often "is composing" is said: it runs out by itself.
const TYPING_INTERVAL: Duration = TYPING_THROTTLE;

/// What is said to whoever wrote what cannot be read.
const UNREADABLE: &str = "I could not read your message. Please send it again.";
/// What is said to whoever decides on what this device cannot read: another device of the agent may have asked, and acted.
const UNREADABLE_REQUEST: &str = "I cannot read here what you have decided on, so I do not know whether it was done. Please look \
                                  before you ask me again.";
/// What is said to whoever writes while they are being answered, if the agent takes nothing then.
const BUSY: &str = "I am still answering what you wrote before. Please send this again when I have.";
/// What is said when an agent gives no answer.
const NO_ANSWER: &str = "I cannot answer at the moment. Please try again later.";
/// What is said when an agent was told to stop before it said anything.
const STOPPED: &str = "Stopped.";
/// Messages that are looked through for a newer question.
const NEWEST_LOOKED_AT: usize = 50;
/// Words of turns to be stopped that wait for the desk.
const CANCELS_MAX: usize = 1024;

/// How a sidecar works.
#[derive(Clone, Copy, Debug)]
pub struct DeskOptions {
    /// Turns that the agent is asked at the same time.
    pub at_once: usize,
    /// For how long an agent that cannot be asked is asked again, before people are told so. It does not bound how long an agent
    /// is told of a decision: that nobody can ask for again.
    pub patience: Duration,
    /// What of a conversation the agent is shown.
    pub history: HistoryLimits,
}

impl Default for DeskOptions {
    fn default() -> Self {
        Self { at_once: 16, patience: Duration::from_secs(300), history: HistoryLimits::default() }
    }
}

/// Why a sidecar has ended.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// The client cannot go on.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The log-in is no longer good: the agent's key was changed, or the agent removed.
    #[error("the agent was logged out")]
    LoggedOut,
    /// The server does not let the agent in any more, for this reason.
    #[error("the server has closed the connection for good: {0:?}")]
    TurnedAway(DisconnectReason),
    /// The store failed.
    #[error("the profile's store failed")]
    StoreFailed,
}

/// Answers for an agent until `stop` is ready. `client` is logged in as the agent; the server posts to `listener`.
///
/// # Errors
/// [`SidecarError`].
pub async fn run(
    client: Client,
    listener: TcpListener,
    upstream: Upstream,
    options: DeskOptions,
    stop: impl Future<Output = ()>,
) -> Result<(), SidecarError> {
    let mut events = client.connect()?;
    let taken = Arc::new(Notify::new());
    let (cancelled, mut cancels) = mpsc::channel(CANCELS_MAX);
    let bell = Bell { taken: Arc::clone(&taken), cancelled };
    // Ends with the desk.
    let mut sinks = JoinSet::new();
    sinks.spawn(sink::serve(listener, client.clone(), bell));
    let mut desk = Desk {
        client: client.clone(),
        upstream,
        options,
        busy: BTreeMap::new(),
        cancelled: Noted::default(),
        interrupted: Interrupted::default(),
        rejects: false,
        look_ups: JoinSet::new(),
        asking: JoinSet::new(),
        tasks: HashMap::new(),
    };
    // Whoever was here before may have been killed before it could.
    desk.discard_failed().await?;
    let mut look = interval(LOOK_INTERVAL);
    let mut look_up = interval(LOOK_UP_INTERVAL);
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            event = events.next() => match event {
                None | Some(Event::StoreFailed) => return Err(SidecarError::StoreFailed),
                Some(Event::LoggedOut) => return Err(SidecarError::LoggedOut),
                Some(Event::MessageReceived(message)) => desk.received(&message).await,
                Some(Event::Connected { .. }) => desk.look_up(),
                // Whatever it was, nobody connects again by himself.
                Some(Event::Disconnected { reason, retry_in: None }) => {
                    return Err(SidecarError::TurnedAway(reason));
                }
                Some(Event::MessageFailed { local_id, reason, .. }) => {
                    tracing::warn!(%reason, "a message was not sent");
                    desk.discard(local_id).await;
                }
                Some(Event::EventsMissed { .. }) => desk.discard_failed().await?,
                // What waits for an answer to go on is due now.
                Some(Event::MessageSent { .. } | Event::MessageRepaired(_)) => {}
                Some(_) => continue,
            },
            () = taken.notified() => {}
            Some(cancel) = cancels.recv() => desk.cancel(&cancel),
            Some(done) = desk.asking.join_next_with_id() => desk.done(done),
            _ = look.tick() => {}
            _ = look_up.tick() => desk.look_up(),
            Some(found) = desk.look_ups.join_next() => {
                match found {
                    Ok(Some(when_busy)) => desk.rejects = when_busy == WhenBusy::Reject,
                    Ok(None) | Err(_) => look_up.reset_after(LOOK_UP_AGAIN),
                }
                continue;
            }
        }
        desk.go_on().await?;
    }
    // Whoever is being asked is asked again after the next start: the turn is on disk.
    desk.asking.shutdown().await;
    client.shutdown().await;
    Ok(())
}

/// A turn that is being asked about.
struct Asked {
    conversation_id: ConversationId,
    /// The agent is told of a decision, for as long as that takes.
    is_decision: bool,
    /// Whoever is asked is told to stop.
    stop: Arc<Notify>,
}

struct Desk {
    client: Client,
    upstream: Upstream,
    options: DeskOptions,
    /// What is being asked about.
    busy: BTreeMap<MessageId, Asked>,
    /// Does the agent take nothing while it answers, in the same conversation?
    rejects: bool,
    look_ups: JoinSet<Option<WhenBusy>>,
    /// Turns that are not to be asked about any more.
    cancelled: Noted,
    /// Turns that something newer may have been asked since.
    interrupted: Interrupted,
    asking: JoinSet<()>,
    tasks: HashMap<Id, MessageId>,
}

impl Desk {
    /// Asks about every turn that is due and is not being asked, as far as the bound goes.
    async fn go_on(&mut self) -> Result<(), SidecarError> {
        let due = self.client.due_turns().await?;
        self.interrupt(&due);
        for turn in due {
            let (turn_id, conversation_id) = (turn.turn_id, turn.conversation_id);
            if self.busy.contains_key(&turn_id) {
                continue;
            }
            // What was decided cannot be sent again: it waits.
            let may_wait = matches!(turn.content, TurnContent::Decision(_) | TurnContent::Void(_));
            if self.rejects && !may_wait && self.is_answering(conversation_id) {
                reject(&self.client, turn_id).await;
                continue;
            }
            let is_decision = matches!(turn.content, TurnContent::Decision(_));
            // One after the other, as they were asked; but a decision may take for ever.
            if !is_decision && self.is_answering_a_question(conversation_id) {
                continue;
            }
            if self.busy.len() >= self.options.at_once || (is_decision && self.has_decisions_enough()) {
                continue;
            }
            let stop = Arc::new(Notify::new());
            if self.cancelled.contains(TurnPlace { conversation_id, turn_id }) {
                stop.notify_one();
            }
            self.busy.insert(turn_id, Asked { conversation_id, is_decision, stop: Arc::clone(&stop) });
            let asking = answer(self.client.clone(), self.upstream.clone(), self.options, turn, stop);
            let task = self.asking.spawn(asking);
            self.tasks.insert(task.id(), turn_id);
        }
        Ok(())
    }

    /// Nobody is here to send again what could not be sent: a note, or what an answer goes on with. An answer is given again with
    /// its turn.
    async fn discard(&self, failed: LocalMessageId) {
        if let Err(error) = self.client.discard(failed).await {
            tracing::warn!(%error, "a message that was not sent stays");
        }
    }

    /// The same, of everything there is.
    async fn discard_failed(&self) -> Result<(), SidecarError> {
        for failed in self.client.failed()? {
            self.discard(failed).await;
        }
        Ok(())
    }

    /// A turn is to be answered with what has been said so far; or is if something newer was asked.
    fn cancel(&mut self, cancel: &AgentCancel) {
        let &AgentCancel { conversation_id, turn_id, reason, .. } = cancel;
        let turn = TurnPlace { conversation_id, turn_id };
        match reason {
            CancelReason::Stopped => self.stop(turn),
            CancelReason::Interrupted => self.interrupted.note(turn),
        }
    }

    /// Stops what was interrupted by a person.
    fn interrupt(&mut self, due: &[Turn]) {
        if self.interrupted.is_empty() {
            return;
        }
        let due: BTreeSet<MessageId> = due.iter().map(|turn| turn.turn_id).collect();
        let is_open = |turn_id| self.busy.contains_key(&turn_id) || due.contains(&turn_id);
        let newest =
            |conversation| self.client.history(conversation, None, NEWEST_LOOKED_AT).unwrap_or_default();
        for turn in self.interrupted.superseded(is_open, newest) {
            self.stop(turn);
        }
    }

    fn stop(&mut self, turn: TurnPlace) {
        if let Some(asked) = self.busy.get(&turn.turn_id) {
            // AUTHZ: whoever takes part in one conversation has no say in another.
            if asked.conversation_id == turn.conversation_id {
                asked.stop.notify_one();
            }
        } else {
            self.cancelled.note(turn);
        }
    }

    /// Half of what is asked at once may be decisions: one that the agent cannot be told of takes for ever, and others are to
    /// have their turn.
    fn has_decisions_enough(&self) -> bool {
        let decisions = self.busy.values().filter(|asked| asked.is_decision).count();
        decisions >= (self.options.at_once / 2).max(1)
    }

    fn is_answering(&self, conversation_id: ConversationId) -> bool {
        self.busy.values().any(|asked| asked.conversation_id == conversation_id)
    }

    fn is_answering_a_question(&self, conversation_id: ConversationId) -> bool {
        self.busy.values().any(|asked| asked.conversation_id == conversation_id && !asked.is_decision)
    }

    /// A message has come. The server tells of its turn when the one before it is answered: who takes nothing until then
    /// says so now. Not to what may be an answer, such as another agent's that is busy as well: they would tell each other for ever.
    /// If it is none, its turn comes.
    async fn received(&self, message: &Message) {
        if let (true, false, Some(turn_id)) = (self.rejects, message.is_own, message.message_id)
            && message.reply_to.is_none()
            && !matches!(message.content, ShownContent::Verdict { .. })
            && self.is_answering(message.conversation_id)
            && let Err(error) = self.client.take_turn(turn_id, message.conversation_id).await
        {
            // Its turn comes all the same.
            tracing::warn!(%error, "a turn cannot be taken");
        }
    }

    /// Looks how the agent wants it, beside the desk.
    fn look_up(&mut self) {
        if self.look_ups.is_empty() {
            let client = self.client.clone();
            self.look_ups.spawn(async move {
                let own = client.user_id().ok()??;
                let agents = client.agents().await.ok()?;
                agents.into_iter().find(|agent| agent.user_id == own).map(|agent| agent.when_busy)
            });
        }
    }

    fn done(&mut self, done: Result<(Id, ()), tokio::task::JoinError>) {
        let id = match done {
            Ok((id, ())) => id,
            Err(error) => {
                tracing::error!("asking an agent ended by a fault");
                error.id()
            }
        };
        if let Some(turn_id) = self.tasks.remove(&id) {
            self.busy.remove(&turn_id);
        }
    }
}

async fn reject(client: &Client, turn_id: MessageId) {
    if let Err(error) = client.answer_turn(turn_id, BUSY).await {
        tracing::warn!(%error, "nobody is told that the agent is busy");
    }
}

/// Sees one turn to its answer.
async fn answer(client: Client, upstream: Upstream, options: DeskOptions, turn: Turn, stop: Arc<Notify>) {
    let question = match turn.content.clone() {
        TurnContent::Text(text) => Ok(Question::Text(text)),
        TurnContent::Decision(decision) => Ok(Question::Approval(Box::new((*decision).into()))),
        TurnContent::Void(why) => Err(void_text(why)),
        TurnContent::Unreadable => Err(UNREADABLE),
    };
    let mut said = match question {
        Err(text) => text.into(),
        Ok(question) => {
            // Whoever has decided does not take it back: what was approved is not dropped on the way.
            let stop = match question {
                Question::Text(_) => Some(&*stop),
                Question::Approval(_) => None,
            };
            let asking = ask_until(stop, &client, &upstream, options, &turn, question);
            while_typing(&client, turn.conversation_id, asking).await
        }
    };
    // To itself an agent writes nothing.
    let own = client.user_id().ok().flatten();
    said.notes.retain(|note| Some(note.to) != own);
    let room = |to| client.text_room(to).unwrap_or(TEXT_MAX_BYTES);
    for Note { to, text } in &mut said.notes {
        if text.len() > room(*to)
            && let Err(error) = client.learn_devices(*to).await
        {
            tracing::warn!(%error, "a note may be cut short for want of knowing how many devices it goes to");
        }
        cut(text, room(*to));
    }
    let room = room(turn.asked_by);
    if let Err(error) = client.answer_turn_with(turn.turn_id, fitting(said, room)).await {
        // It stays due.
        tracing::warn!(%error, turn = %turn.turn_id, "an answer cannot be sent");
        sleep(ANSWER_AGAIN).await;
    }
}

/// What the agent says, as far as it has come when it is told to stop, if it may be.
async fn ask_until(
    stop: Option<&Notify>,
    client: &Client,
    upstream: &Upstream,
    options: DeskOptions,
    turn: &Turn,
    question: Question,
) -> Answer {
    let mut draft = match Draft::begin(client.clone(), turn.turn_id).await {
        Ok(draft) => draft,
        Err(error) => {
            tracing::error!(%error, "a question is gone");
            return NO_ANSWER.into();
        }
    };
    let stopped = async {
        match stop {
            Some(stop) => stop.notified().await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        said = ask(client, upstream, options, turn, question, &mut draft) => return said,
        () = stopped => {}
    }
    let (said, notes) = draft.into_parts();
    let text = match said.trim_end() {
        "" => STOPPED.to_owned(),
        said => format!("{said}{CUT}"),
    };
    Answer { notes, ..text.into() }
}

/// What the agent says; or, if that is nothing for too long, what people are told instead. Of a decision an agent that cannot be
/// asked is told until it can: each pause is bounded, how many there are is not. The turn is on disk, and the server tells of it
/// again anyway.
async fn ask(
    client: &Client,
    upstream: &Upstream,
    options: DeskOptions,
    turn: &Turn,
    question: Question,
    draft: &mut Draft,
) -> Answer {
    let prompt = match Prompt::of(client, turn, question, options.history) {
        Ok(prompt) => prompt,
        Err(error) => {
            tracing::error!(%error, "what was said cannot be read");
            return NO_ANSWER.into();
        }
    };
    let until = match prompt.question {
        Question::Text(_) => Some(Instant::now() + options.patience),
        Question::Approval(_) => None,
    };
    let left = || until.map_or(BACKOFF_MAX, |until| until.saturating_duration_since(Instant::now()));
    let mut wait = BACKOFF_MIN;
    loop {
        match upstream.ask(&prompt, draft).await {
            Ok(answer) => return answer,
            Err(error @ UpstreamError::Unavailable(_)) if !left().is_zero() => {
                tracing::warn!(%error, turn = %turn.turn_id, "the agent is asked again");
                let pause = wait.mul_f64(rand::rng().random_range(0.5..=1.0));
                sleep(pause.min(left())).await;
                wait = (2 * wait).min(BACKOFF_MAX);
                if let Err(error) = draft.begin_again().await {
                    tracing::warn!(%error, "an answer is not shown while it is written");
                }
            }
            Err(error) => {
                tracing::error!(%error, turn = %turn.turn_id, "the agent does not answer");
                return NO_ANSWER.into();
            }
        }
    }
}

/// People see that the agent is at it.
async fn while_typing<T>(client: &Client, conversation: ConversationId, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let mut again = interval(TYPING_INTERVAL);
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            _ = again.tick() => client.set_typing(conversation, true).await,
        }
    };
    client.set_typing(conversation, false).await;
    done
}

/// What is said to whoever has decided in vain. The agent hears nothing of it.
fn void_text(why: VoidVerdict) -> &'static str {
    match why {
        VoidVerdict::UnknownRequest => "I did nothing: I have not asked you for this.",
        VoidVerdict::UnreadableRequest => UNREADABLE_REQUEST,
        VoidVerdict::BadSignature => "I did nothing: your device has not signed this.",
        VoidVerdict::AlreadyDecided => "I did nothing more: this was decided before.",
        VoidVerdict::Expired => "I did nothing: it was too late to decide on this. Please ask me again.",
    }
}
