//! The desk: which turns there are, who is being asked, and what becomes of an agent that does not answer.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use colloquy_client::{Client, ClientError, Event, TEXT_MAX_BYTES, Turn};
use colloquy_protocol::ids::{ConversationId, MessageId};
use colloquy_protocol::limits::TYPING_THROTTLE;
use rand::RngExt;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, interval, sleep};

use crate::draft::Draft;
use crate::prompt::{HistoryLimits, Prompt};
use crate::sink::{self, Bell};
use crate::upstream::{Answer, Upstream, UpstreamError};

/// How often it is looked what is due, whatever has been heard.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Before an agent is asked again the first time; each time it is twice as long, less a random part ...
const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// ... and at most this.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// How often "is composing" is said: it runs out by itself.
const TYPING_INTERVAL: Duration = TYPING_THROTTLE;

/// What is said to whoever wrote what cannot be read.
const UNREADABLE: &str = "I could not read your message. Please send it again.";
/// What is said when an agent gives no answer.
const NO_ANSWER: &str = "I cannot answer at the moment. Please try again later.";
/// What is said when an agent has answered with nothing.
const NOTHING_SAID: &str = "I have nothing to say to that.";
/// What is said when an agent was told to stop before it said anything.
const STOPPED: &str = "Stopped.";
/// Turns that are to be stopped and have not begun.
const CANCELS_MAX: usize = 1024;
/// Stands at the end of an answer that was too long, or that the agent was told to stop.
const CUT: &str = "\n[…]";

/// How a sidecar works.
#[derive(Clone, Copy, Debug)]
pub struct DeskOptions {
    /// Turns that the agent is asked at the same time.
    pub at_once: usize,
    /// For how long an agent that cannot be asked is asked again, before people are told so.
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
        cancelled: VecDeque::new(),
        asking: JoinSet::new(),
        tasks: HashMap::new(),
    };
    let mut look = interval(LOOK_INTERVAL);
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            event = events.next() => match event {
                None | Some(Event::StoreFailed) => return Err(SidecarError::StoreFailed),
                Some(Event::LoggedOut) => return Err(SidecarError::LoggedOut),
                Some(Event::MessageReceived(_) | Event::MessageRepaired(_) | Event::EventsMissed { .. }) => {}
                Some(_) => continue,
            },
            () = taken.notified() => {}
            Some(turn_id) = cancels.recv() => desk.cancel(turn_id),
            Some(done) = desk.asking.join_next_with_id() => desk.done(done),
            _ = look.tick() => {}
        }
        desk.go_on().await?;
    }
    // Whoever is being asked is asked again after the next start: the turn is on disk.
    desk.asking.shutdown().await;
    client.shutdown().await;
    Ok(())
}

struct Desk {
    client: Client,
    upstream: Upstream,
    options: DeskOptions,
    /// Who is being asked, and how they are told to stop.
    busy: BTreeMap<MessageId, Arc<Notify>>,
    /// Turns that are not to be asked about any more; the newest [`CANCELS_MAX`].
    cancelled: VecDeque<MessageId>,
    asking: JoinSet<()>,
    tasks: HashMap<Id, MessageId>,
}

impl Desk {
    /// Asks about every turn that is due and is not being asked, as far as the bound goes.
    async fn go_on(&mut self) -> Result<(), SidecarError> {
        for turn in self.client.due_turns().await? {
            if self.busy.len() >= self.options.at_once {
                return Ok(());
            }
            let turn_id = turn.turn_id;
            if self.busy.contains_key(&turn_id) {
                continue;
            }
            let stop = Arc::new(Notify::new());
            if self.cancelled.contains(&turn_id) {
                stop.notify_one();
            }
            self.busy.insert(turn_id, Arc::clone(&stop));
            let asking = answer(self.client.clone(), self.upstream.clone(), self.options, turn, stop);
            let task = self.asking.spawn(asking);
            self.tasks.insert(task.id(), turn_id);
        }
        Ok(())
    }

    /// A turn is to be answered with what has been said so far.
    fn cancel(&mut self, turn_id: MessageId) {
        if let Some(stop) = self.busy.get(&turn_id) {
            stop.notify_one();
        } else {
            if self.cancelled.len() >= CANCELS_MAX {
                self.cancelled.pop_front();
            }
            self.cancelled.push_back(turn_id);
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

/// Sees one turn to its answer.
async fn answer(client: Client, upstream: Upstream, options: DeskOptions, turn: Turn, stop: Arc<Notify>) {
    let said = match turn.text.clone() {
        None => UNREADABLE.to_owned().into(),
        Some(text) => {
            let asking = ask_until(&stop, &client, &upstream, options, &turn, text);
            while_typing(&client, turn.conversation_id, asking).await
        }
    };
    let Answer { text, notes } = said;
    if let Err(error) = client.answer_turn_with(turn.turn_id, fitting(text), notes).await {
        // It stays due.
        tracing::warn!(%error, turn = %turn.turn_id, "an answer cannot be sent");
    }
}

/// What the agent says, as far as it has come when it is told to stop.
async fn ask_until(
    stop: &Notify,
    client: &Client,
    upstream: &Upstream,
    options: DeskOptions,
    turn: &Turn,
    text: String,
) -> Answer {
    let mut draft = match Draft::begin(client.clone(), turn.turn_id).await {
        Ok(draft) => draft,
        Err(error) => {
            tracing::error!(%error, "a question is gone");
            return NO_ANSWER.to_owned().into();
        }
    };
    tokio::select! {
        biased;
        () = stop.notified() => {}
        said = ask(client, upstream, options, turn, text, &mut draft) => return said,
    }
    match draft.text().trim_end() {
        "" => STOPPED.to_owned().into(),
        said => format!("{said}{CUT}").into(),
    }
}

/// What the agent says; or, if that is nothing for too long, what people are told instead.
async fn ask(
    client: &Client,
    upstream: &Upstream,
    options: DeskOptions,
    turn: &Turn,
    text: String,
    draft: &mut Draft,
) -> Answer {
    let prompt = match Prompt::of(client, turn, text, options.history) {
        Ok(prompt) => prompt,
        Err(error) => {
            tracing::error!(%error, "what was said cannot be read");
            return NO_ANSWER.to_owned().into();
        }
    };
    let (until, mut wait) = (Instant::now() + options.patience, BACKOFF_MIN);
    loop {
        match upstream.ask(&prompt, draft).await {
            Ok(answer) => return answer,
            Err(error @ UpstreamError::Unavailable(_)) if Instant::now() < until => {
                tracing::warn!(%error, turn = %turn.turn_id, "the agent is asked again");
                let pause = wait.mul_f64(rand::rng().random_range(0.5..=1.0));
                sleep(pause.min(until.saturating_duration_since(Instant::now()))).await;
                wait = (2 * wait).min(BACKOFF_MAX);
                if let Err(error) = draft.begin_again().await {
                    tracing::warn!(%error, "an answer is not shown while it is written");
                }
            }
            Err(error) => {
                tracing::error!(%error, turn = %turn.turn_id, "the agent does not answer");
                return NO_ANSWER.to_owned().into();
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

/// An answer as one message can hold it.
fn fitting(mut text: String) -> String {
    if text.trim().is_empty() {
        return NOTHING_SAID.to_owned();
    }
    if text.len() > TEXT_MAX_BYTES {
        text.truncate(text.floor_char_boundary(TEXT_MAX_BYTES - CUT.len()));
        text.push_str(CUT);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_too_long_is_cut_between_characters_and_one_of_nothing_says_so() {
        assert_eq!(fitting("short".into()), "short");
        assert_eq!(fitting(" \n".into()), NOTHING_SAID);
        let cut = fitting("ä".repeat(TEXT_MAX_BYTES));
        assert!(cut.len() <= TEXT_MAX_BYTES && cut.ends_with(CUT));
        assert!(cut.len() > TEXT_MAX_BYTES - CUT.len() - 2);
    }
}
