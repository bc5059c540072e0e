//! The loop that drives the screen: it owns the terminal, and does what the screen says.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use colloquy_protocol::error_code::ErrorCode;
use colloquy_protocol::ids::ConversationId;
use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste, Event as TerminalEvent, EventStream};
use crossterm::execute;
use futures_util::StreamExt;
use ratatui::DefaultTerminal;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::calendar::Calendar;
use super::screen::{Effect, Found, HISTORY_PAGE, Input, Screen};
use crate::ambient::Clock;
use crate::api::accounts::UserQuery;
use crate::client::routing::RouteHints;
use crate::client::{Client, ClientError};
use crate::event::{Event, Events};

/// How often the clock of the screen moves on its own: what it counts down is in seconds.
const TICK: Duration = Duration::from_millis(500);
/// Events taken before the screen is drawn again.
const EVENTS_AT_ONCE_MAX: usize = 256;
/// Questions to the server open at once; one more is refused with a notice.
const ERRANDS_MAX: usize = 8;

/// Why the terminal client ended.
#[derive(Debug, thiserror::Error)]
pub enum TerminalError {
    /// The client failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The terminal failed.
    #[error("the terminal cannot be used")]
    Terminal(#[from] io::Error),
}

/// Shows `client` until the user leaves. The terminal is as before when this returns, and after a panic.
///
/// # Errors
/// [`ClientError::LoggedOut`]; [`TerminalError::Terminal`] if there is none, or it fails.
pub async fn run(client: &Client, title: String) -> Result<(), TerminalError> {
    let own = client.user_id()?.ok_or(ClientError::LoggedOut)?;
    let events = client.connect()?;
    let (screen, effects) = Screen::new(own, title, Calendar::of_this_machine(Clock::System.now()));
    let terminal = Raw::enter()?;
    let started = Instant::now();
    let mut shell = Shell { client, screen, events, errands: JoinSet::new(), started };
    let shown = shell.show(terminal, effects).await;
    client.shutdown().await;
    shown
}

/// The terminal while it is ours.
struct Raw(DefaultTerminal);

impl Raw {
    fn enter() -> io::Result<Self> {
        // This also sets a panic hook that gives the terminal back first.
        let terminal = ratatui::try_init()?;
        execute!(io::stdout(), EnableBracketedPaste)?;
        Ok(Self(terminal))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = execute!(io::stdout(), DisableBracketedPaste);
        let _ = ratatui::try_restore();
    }
}

struct Shell<'a> {
    client: &'a Client,
    screen: Screen,
    events: Events,
    errands: JoinSet<Input>,
    started: Instant,
}

impl Shell<'_> {
    async fn show(&mut self, mut terminal: Raw, effects: Vec<Effect>) -> Result<(), TerminalError> {
        let mut keys = EventStream::new();
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let size = terminal.0.size()?;
        self.screen.apply(Input::Resized(size.width, size.height), self.now_ms());
        if self.perform(effects).await {
            return Ok(());
        }
        loop {
            terminal.0.draw(|frame| self.screen.draw(frame))?;
            let mut inputs = Vec::new();
            tokio::select! {
                key = keys.next() => match key {
                    Some(Ok(event)) => inputs.extend(from_terminal(event)),
                    Some(Err(error)) => return Err(error.into()),
                    // The terminal is gone.
                    None => return Ok(()),
                },
                event = self.events.next() => match event {
                    Some(event) => inputs.push(Input::Happened(event)),
                    None => return Ok(()),
                },
                Some(done) = self.errands.join_next() => inputs.extend(done.ok()),
                _ = tick.tick() => inputs.push(Input::Tick),
                _ = terminate.recv() => return Ok(()),
            }
            while inputs.len() < EVENTS_AT_ONCE_MAX
                && let Some(event) = self.events.try_next()
            {
                inputs.push(Input::Happened(event));
            }
            let now = self.now_ms();
            let mut effects = Vec::new();
            for input in inputs {
                effects.extend(self.screen.apply(input, now));
            }
            if self.perform(effects).await {
                return Ok(());
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Does what is to be done, and what follows from it. `true` if the user leaves.
    async fn perform(&mut self, effects: Vec<Effect>) -> bool {
        let mut waiting: VecDeque<Effect> = effects.into();
        while let Some(effect) = waiting.pop_front() {
            if effect == Effect::Quit {
                return true;
            }
            // A burst of events asks for the same page many times: the last time is enough.
            let is_load = matches!(effect, Effect::LoadConversations | Effect::LoadHistory { .. });
            if is_load && waiting.contains(&effect) {
                continue;
            }
            let answers = match self.act(effect).await {
                Ok(answers) => answers,
                Err(error) => vec![Input::Failed(error.to_string())],
            };
            let now = self.now_ms();
            for input in answers {
                waiting.extend(self.screen.apply(input, now));
            }
        }
        false
    }

    async fn act(&mut self, effect: Effect) -> Result<Vec<Input>, ClientError> {
        let client = self.client;
        match effect {
            Effect::LoadConversations => return Ok(vec![Input::Conversations(client.conversations()?)]),
            Effect::LoadHistory { conversation, before } => {
                return Ok(vec![self.load(conversation, before)?]);
            }
            Effect::Send { to, text } => {
                client.send_text(to, text).await?;
                return self.reload();
            }
            Effect::Retry(id) => {
                client.retry(id).await?;
                return self.reload();
            }
            Effect::Decide(request, verdict) => {
                client.decide(request, verdict).await?;
                return self.reload();
            }
            Effect::Discard(id) => {
                client.discard(id).await?;
                return self.reload();
            }
            // All streams tell the same events: the one at hand goes on.
            Effect::Reconnect => match client.connect() {
                Ok(_) => {}
                Err(ClientError::LoggedOut) => return Ok(vec![Input::Happened(Event::LoggedOut)]),
                Err(error) => return Err(error),
            },
            Effect::MarkRead(conversation) => client.mark_read(conversation).await?,
            Effect::Typing(conversation, is_typing) => client.set_typing(conversation, is_typing).await,
            Effect::Stop(turn) => client.cancel_turn(turn).await?,
            Effect::Watch(users) => client.watch_presence(users).await,
            Effect::Find(query) => self.errand(|client| async move {
                match client.find_user(query).await {
                    Ok(card) => Input::Found(Found(card)),
                    Err(error) => Input::Failed(not_found(&error)),
                }
            }),
            Effect::Ask(text) => self.errand(|client| async move {
                let found = async {
                    let route = client.route(&text, RouteHints::default()).await?;
                    Ok((client.find_user(UserQuery::Id(route.user_id)).await?, route.reason))
                };
                match found.await {
                    Ok((card, reason)) => Input::Routed { agent: Found(card), text, reason },
                    Err(error) => Input::Failed(not_routed(&error)),
                }
            }),
            Effect::LookUp(user) => self.errand(move |client| async move {
                // A name that cannot be had now is asked for again after the next connection.
                let _ = client.find_user(UserQuery::Id(user)).await;
                Input::LookedUp(user)
            }),
            Effect::SafetyNumber(user) => self.errand(move |client| async move {
                match client.safety_number(user).await {
                    Ok(number) => Input::SafetyNumber(number.to_string()),
                    Err(error) => Input::Failed(format!("no safety number: {error}")),
                }
            }),
            Effect::Quit => {}
        }
        Ok(Vec::new())
    }

    fn load(&self, conversation: ConversationId, before: Option<u64>) -> Result<Input, ClientError> {
        let page = self.client.history(conversation, before, HISTORY_PAGE)?;
        Ok(Input::History { conversation, before, page })
    }

    /// What the outbox holds changed.
    fn reload(&self) -> Result<Vec<Input>, ClientError> {
        let mut inputs = vec![Input::Conversations(self.client.conversations()?)];
        if let Some(conversation) = self.screen.selected {
            inputs.push(self.load(conversation, None)?);
        }
        Ok(inputs)
    }

    /// Asks the server beside the loop: keys are answered meanwhile.
    fn errand<F: Future<Output = Input> + Send + 'static>(&mut self, work: impl FnOnce(Client) -> F) {
        if self.errands.len() >= ERRANDS_MAX {
            let now = self.now_ms();
            self.screen.apply(Input::Failed("too much at once: try again in a moment".to_owned()), now);
            return;
        }
        self.errands.spawn(work(self.client.clone()));
    }
}

fn not_routed(error: &ClientError) -> String {
    match error {
        ClientError::Api(api) if api.code() == Some(ErrorCode::UnknownAgent) => {
            "there is no agent for that".to_owned()
        }
        error => error.to_string(),
    }
}

fn not_found(error: &ClientError) -> String {
    match error {
        ClientError::Api(api) if api.code() == Some(ErrorCode::UnknownUser) => {
            "nobody has that address".to_owned()
        }
        error => error.to_string(),
    }
}

fn from_terminal(event: TerminalEvent) -> Option<Input> {
    match event {
        TerminalEvent::Key(key) => Some(Input::Key(key)),
        TerminalEvent::Paste(text) => Some(Input::Paste(text)),
        TerminalEvent::Resize(columns, rows) => Some(Input::Resized(columns, rows)),
        TerminalEvent::Mouse(_) | TerminalEvent::FocusGained | TerminalEvent::FocusLost => None,
    }
}

#[cfg(test)]
mod tests {
    use colloquy_protocol::problem::Problem;
    use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseEvent, MouseEventKind};

    use super::*;
    use crate::api::ApiError;

    #[test]
    fn keys_pastes_and_sizes_reach_the_screen_and_nothing_else_does() {
        let key = KeyEvent::new(KeyCode::Char('a'), KeyModifiers::NONE);
        assert!(matches!(from_terminal(TerminalEvent::Key(key)), Some(Input::Key(taken)) if taken == key));
        let paste = TerminalEvent::Paste("two\nlines".to_owned());
        assert!(matches!(from_terminal(paste), Some(Input::Paste(text)) if text == "two\nlines"));
        let kind = MouseEventKind::Moved;
        let mouse = MouseEvent { kind, column: 1, row: 1, modifiers: KeyModifiers::NONE };
        assert!(matches!(from_terminal(TerminalEvent::Resize(80, 24)), Some(Input::Resized(80, 24))));
        for other in [TerminalEvent::Mouse(mouse), TerminalEvent::FocusLost] {
            assert!(from_terminal(other).is_none());
        }
    }

    #[test]
    fn an_address_nobody_has_is_said_in_words_and_other_failures_as_they_are() {
        let refused = |code| ClientError::Api(ApiError::Refused(Box::new(Problem::new(code))));
        assert_eq!(not_found(&refused(ErrorCode::UnknownUser)), "nobody has that address");
        let other = refused(ErrorCode::RateLimited);
        assert_eq!(not_found(&other), other.to_string());
    }
}
