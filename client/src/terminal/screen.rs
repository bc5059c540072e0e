//! What is shown, and what changes it: a pure machine. Time is milliseconds since the screen was made.

use std::collections::{BTreeMap, BTreeSet};

use colloquy_protocol::UnixMillis;
use colloquy_protocol::ids::{ConversationId, MessageId, UserId};
use colloquy_protocol::limits::PRESENCE_SUBSCRIPTIONS_MAX;
use colloquy_protocol::rest::accounts::UserCard;
use crossterm::event::KeyEvent;

use super::calendar::Calendar;
use super::composing::Composing;
use super::line::Line;
use super::request::Pages;
use crate::api::accounts::UserQuery;
use crate::crypto::Verdict;
use crate::event::{DisconnectReason, Event, GrowingAnswer};
use crate::message::{ConversationSummary, Message};
use crate::store::LocalMessageId;

/// Messages loaded at a time.
pub const HISTORY_PAGE: usize = 100;
/// Conversations opened by command and not written in yet; beyond it the first is forgotten.
const OPENED_MAX: usize = 64;
/// Requests that are remembered to have been read to their end.
pub(super) const READ_MAX: usize = 64;
/// How long a notice stays, ms.
const NOTICE_MS: u64 = 8000;

/// What the screen is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// A key was pressed.
    Key(KeyEvent),
    /// Text was pasted.
    Paste(String),
    /// The client tells of something.
    Happened(Event),
    /// The conversations there are.
    Conversations(Vec<ConversationSummary>),
    /// A page of a conversation.
    History {
        /// Of which.
        conversation: ConversationId,
        /// Messages below this number; without it, the newest.
        before: Option<u64>,
        /// The page, oldest first.
        page: Vec<Message>,
    },
    /// Somebody asked for by `/new` was found.
    Found(Found),
    /// A text asked for by `/ask` goes to this agent.
    Routed {
        /// The agent.
        agent: Found,
        /// The text.
        text: String,
        /// Why it goes there.
        reason: String,
    },
    /// The name of the other participant was looked up, or could not be.
    LookedUp(UserId),
    /// A safety number was asked for.
    SafetyNumber(String),
    /// Something asked for could not be done.
    Failed(String),
    /// How large the screen is: columns and rows. Until it is known, nothing counts as seen whole.
    Resized(u16, u16),
    /// Time has passed.
    Tick,
}

/// Somebody who was found. `Debug` shows no name (PRIVATE).
#[derive(Clone)]
pub struct Found(pub UserCard);

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Found({})", self.0.user_id)
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Answer with [`Input::Conversations`].
    LoadConversations,
    /// Answer with [`Input::History`].
    LoadHistory {
        /// Of which.
        conversation: ConversationId,
        /// Messages below this number; without it, the newest.
        before: Option<u64>,
    },
    /// Send a text.
    Send {
        /// To whom.
        to: UserId,
        /// What.
        text: String,
    },
    /// Send a failed message again.
    Retry(LocalMessageId),
    /// Delete a failed message.
    Discard(LocalMessageId),
    /// Everything there was seen.
    MarkRead(ConversationId),
    /// This user is writing there, or no longer.
    Typing(ConversationId, bool),
    /// Tell when these users come and go.
    Watch(Vec<UserId>),
    /// Answer with [`Input::Found`].
    Find(UserQuery),
    /// Answer with [`Input::Routed`].
    Ask(String),
    /// Answer with [`Input::LookedUp`].
    LookUp(UserId),
    /// Connect again, after the connection ended for good.
    Reconnect,
    /// Answer with [`Input::SafetyNumber`].
    SafetyNumber(UserId),
    /// Whoever is answering this is to stop.
    Stop(MessageId),
    /// Sign this verdict on a request, and send it.
    Decide(MessageId, Verdict),
    /// Leave.
    Quit,
}

/// Where keys go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Focus {
    /// The list of conversations.
    Conversations,
    /// The input line.
    Line,
}

/// How the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Not made yet.
    Connecting,
    /// There.
    Connected,
    /// It is made again at this time.
    Waiting {
        /// Why it ended.
        reason: DisconnectReason,
        /// When, ms.
        until_ms: u64,
    },
    /// It is not made again by itself.
    Ended(DisconnectReason),
    /// The log-in is no longer good.
    LoggedOut,
    /// The store failed.
    StoreFailed,
}

/// Something to read that covers the history until a key is pressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Panel {
    /// Which keys and commands there are.
    Help,
    /// The safety number of the conversation.
    SafetyNumber(String),
    /// All of a request for approval. Keys that move in it leave it there.
    Request(Pages),
}

/// A line in the status bar that goes away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) text: String,
    pub(super) until_ms: u64,
}

/// Everything on the screen.
pub struct Screen {
    /// Shown in the status bar: profile and server.
    pub(super) title: String,
    pub(super) own: UserId,
    pub(super) calendar: Calendar,
    pub(super) conversations: Vec<ConversationSummary>,
    /// Opened by `/new` and not in the store yet.
    opened: Vec<ConversationSummary>,
    pub(super) selected: Option<ConversationId>,
    /// The selected conversation, oldest first, as far as it is loaded.
    pub(super) history: Vec<Message>,
    /// Nothing is older than what is loaded.
    pub(super) is_whole: bool,
    is_loading_older: bool,
    /// Messages below the lower edge.
    pub(super) scroll: usize,
    pub(super) focus: Focus,
    pub(super) line: Line,
    /// What was being written elsewhere: switching must never send a text to somebody else.
    drafts: BTreeMap<ConversationId, Line>,
    pub(super) link: Link,
    pub(super) online: BTreeSet<UserId>,
    /// When those who are not online were last here. Only who is watched is in it.
    pub(super) last_seen: BTreeMap<UserId, UnixMillis>,
    /// Until when somebody is shown as writing, ms.
    pub(super) typing: BTreeMap<ConversationId, u64>,
    /// Answers that agents are writing; the client follows a bounded number of them.
    pub(super) answers: BTreeMap<ConversationId, GrowingAnswer>,
    pub(super) panel: Option<Panel>,
    /// Columns and rows.
    pub(super) size: (u16, u16),
    /// Requests that were read to their end; beyond [`READ_MAX`] the lowest id is forgotten, and has to be read again.
    pub(super) read: BTreeSet<MessageId>,
    pub(super) notice: Option<Notice>,
    pub(super) composing: Composing,
    pub(super) watched: BTreeSet<UserId>,
    /// Whose name was asked for since the connection was made.
    pub(super) looked_up: BTreeSet<UserId>,
    is_looking_up: bool,
    pub(super) now_ms: u64,
}

impl Screen {
    /// An empty screen, and what fills it.
    #[must_use]
    pub fn new(own: UserId, title: String, calendar: Calendar) -> (Self, Vec<Effect>) {
        let screen = Self {
            title,
            own,
            calendar,
            conversations: Vec::new(),
            opened: Vec::new(),
            selected: None,
            history: Vec::new(),
            is_whole: false,
            is_loading_older: false,
            scroll: 0,
            focus: Focus::Line,
            line: Line::default(),
            drafts: BTreeMap::new(),
            link: Link::Connecting,
            online: BTreeSet::new(),
            last_seen: BTreeMap::new(),
            typing: BTreeMap::new(),
            answers: BTreeMap::new(),
            panel: None,
            size: (0, 0),
            read: BTreeSet::new(),
            notice: None,
            composing: Composing::Silent,
            watched: BTreeSet::new(),
            looked_up: BTreeSet::new(),
            is_looking_up: false,
            now_ms: 0,
        };
        (screen, vec![Effect::LoadConversations])
    }

    /// Takes one input at a time that never goes back; returns what is to be done, in order.
    pub fn apply(&mut self, input: Input, now_ms: u64) -> Vec<Effect> {
        self.now_ms = self.now_ms.max(now_ms);
        let mut effects = Vec::new();
        match input {
            Input::Key(key) => self.press(key, &mut effects),
            Input::Paste(text) => self.write(&text, &mut effects),
            Input::Happened(event) => self.happened(event, &mut effects),
            Input::Conversations(list) => self.list(list, &mut effects),
            Input::History { conversation, before, page } => {
                self.show(conversation, before, page);
                self.mark_read(&mut effects);
            }
            Input::Found(Found(card)) => self.open(&card, &mut effects),
            Input::Routed { agent: Found(card), text, reason } => {
                self.open(&card, &mut effects);
                effects.push(Effect::Send { to: card.user_id, text });
                self.notify(format!("sent to {}: {reason}", card.name));
            }
            Input::LookedUp(_) => {
                self.is_looking_up = false;
                effects.push(Effect::LoadConversations);
            }
            Input::SafetyNumber(digits) => self.panel = Some(Panel::SafetyNumber(digits)),
            Input::Failed(why) => {
                // It may have been an older page: it can be asked for again.
                self.is_loading_older = false;
                self.notify(why);
            }
            Input::Resized(columns, rows) => {
                self.size = (columns, rows);
                if let Some(Panel::Request(pages)) = &mut self.panel {
                    // In other rows now: whoever reads it begins again.
                    pages.begin_again();
                }
                self.note_read();
            }
            Input::Tick => self.tick(&mut effects),
        }
        effects
    }

    /// The selected conversation.
    #[must_use]
    pub fn current(&self) -> Option<&ConversationSummary> {
        self.conversations.iter().find(|shown| Some(shown.conversation_id) == self.selected)
    }

    /// What time it is, by this device's clock.
    pub(super) fn now(&self) -> UnixMillis {
        self.calendar.now(self.now_ms)
    }

    pub(super) fn notify(&mut self, text: String) {
        self.notice = Some(Notice { text, until_ms: self.now_ms + NOTICE_MS });
    }

    pub(super) fn select(&mut self, conversation: ConversationId, effects: &mut Vec<Effect>) {
        if self.selected == Some(conversation) {
            return;
        }
        self.stop_composing(effects);
        if let Some(left) = self.selected
            && !self.line.is_empty()
        {
            self.drafts.insert(left, std::mem::take(&mut self.line));
        }
        self.line = self.drafts.remove(&conversation).unwrap_or_default();
        self.selected = Some(conversation);
        self.history.clear();
        self.is_whole = false;
        self.is_loading_older = false;
        self.scroll = 0;
        effects.push(Effect::LoadHistory { conversation, before: None });
        self.mark_read(effects);
    }

    /// What is on the screen counts as seen: nothing new is, while older messages are looked at.
    pub(super) fn mark_read(&mut self, effects: &mut Vec<Effect>) {
        if self.scroll > 0 {
            return;
        }
        let selected = self.selected;
        let shown = self.conversations.iter_mut().find(|shown| Some(shown.conversation_id) == selected);
        if let Some(shown) = shown
            && shown.unread > 0
        {
            shown.unread = 0;
            effects.push(Effect::MarkRead(shown.conversation_id));
        }
    }

    pub(super) fn stop_composing(&mut self, effects: &mut Vec<Effect>) {
        if let Some(conversation) = std::mem::take(&mut self.composing).ended() {
            effects.push(Effect::Typing(conversation, false));
        }
    }

    /// Older messages are wanted: the upper edge is near.
    pub(super) fn load_older(&mut self, effects: &mut Vec<Effect>) {
        let oldest = self.history.iter().find_map(|message| message.sequence_number);
        if let (Some(conversation), Some(before)) = (self.selected, oldest)
            && !self.is_whole
            && !self.is_loading_older
        {
            self.is_loading_older = true;
            effects.push(Effect::LoadHistory { conversation, before: Some(before) });
        }
    }

    fn list(&mut self, list: Vec<ConversationSummary>, effects: &mut Vec<Effect>) {
        self.conversations = list;
        let known: BTreeSet<_> = self.conversations.iter().map(|shown| shown.conversation_id).collect();
        self.opened.retain(|opened| !known.contains(&opened.conversation_id));
        self.conversations.splice(0..0, self.opened.iter().rev().cloned());
        let room = PRESENCE_SUBSCRIPTIONS_MAX.saturating_sub(self.watched.len());
        let peers = self.conversations.iter().filter(|shown| shown.is_at_server).map(|shown| shown.peer);
        let fresh: Vec<UserId> = peers.filter(|peer| !self.watched.contains(peer)).take(room).collect();
        if !fresh.is_empty() {
            self.watched.extend(&fresh);
            effects.push(Effect::Watch(fresh));
        }
        self.look_up(effects);
        if self.selected.is_none()
            && let Some(first) = self.conversations.first()
        {
            self.select(first.conversation_id, effects);
        }
        self.mark_read(effects);
    }

    /// Asks for one missing name at a time.
    fn look_up(&mut self, effects: &mut Vec<Effect>) {
        if self.is_looking_up || self.link != Link::Connected {
            return;
        }
        let mut nameless = self.conversations.iter().filter(|shown| shown.peer_name.is_none());
        if let Some(shown) = nameless.find(|shown| !self.looked_up.contains(&shown.peer)) {
            self.is_looking_up = true;
            self.looked_up.insert(shown.peer);
            effects.push(Effect::LookUp(shown.peer));
        }
    }

    fn show(&mut self, conversation: ConversationId, before: Option<u64>, page: Vec<Message>) {
        if self.selected != Some(conversation) {
            return;
        }
        let reaches_start = page.first().is_none_or(|first| first.sequence_number == Some(1));
        if before.is_some() {
            self.is_loading_older = false;
            self.is_whole = reaches_start;
            let oldest = self.history.first().and_then(|message| message.sequence_number);
            // Only if nothing changed at that end meanwhile.
            if oldest == before {
                self.history.splice(0..0, page);
                self.mark_decided();
            }
            return;
        }
        let looked_at = self.lowest_shown();
        let first = page.iter().find_map(|message| message.sequence_number);
        let newest = self.history.iter().filter_map(|message| message.sequence_number).next_back();
        match (first, newest) {
            // More came than one page holds: what lies between is loaded when it is scrolled to.
            (Some(first), Some(newest)) if first > newest + 1 => self.history.clear(),
            (Some(first), _) => {
                self.history.retain(|message| message.sequence_number.is_some_and(|own| own < first));
            }
            (None, _) => self.history.retain(|message| message.sequence_number.is_some()),
        }
        if self.history.is_empty() {
            self.is_whole = reaches_start || first.is_none();
        }
        self.history.extend(page);
        self.mark_decided();
        self.scroll = looked_at.map_or(0, |at| {
            let index = self.history.iter().rposition(|message| message.sequence_number == Some(at));
            index.map_or(0, |index| self.history.len() - 1 - index)
        });
    }

    /// The number of the lowest message on the screen, if the newest ones are not on it.
    fn lowest_shown(&self) -> Option<u64> {
        let shown = self.history.len().checked_sub(1 + self.scroll)?;
        if self.scroll == 0 { None } else { self.history[shown].sequence_number }
    }

    fn open(&mut self, card: &UserCard, effects: &mut Vec<Effect>) {
        if card.user_id == self.own {
            self.notify("that is you: a conversation needs somebody else".to_owned());
            return;
        }
        let id = ConversationId::of_pair(self.own, card.user_id);
        if !self.conversations.iter().any(|shown| shown.conversation_id == id) {
            let opened = ConversationSummary {
                conversation_id: id,
                peer: card.user_id,
                peer_name: Some(card.name.clone()),
                last_message: None,
                unread: 0,
                last_activity_at: 0,
                held_through: 0,
                is_at_server: false,
            };
            if self.opened.len() == OPENED_MAX {
                self.opened.remove(0);
            }
            self.opened.push(opened);
        }
        effects.push(Effect::LoadConversations);
        self.select(id, effects);
        self.focus = Focus::Line;
    }

    fn tick(&mut self, effects: &mut Vec<Effect>) {
        let now = self.now_ms;
        self.typing.retain(|_, until| *until > now);
        self.notice.take_if(|notice| notice.until_ms <= now);
        if self.composing.is_idle(now) {
            self.stop_composing(effects);
        }
    }
}
