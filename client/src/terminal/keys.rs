//! What keys and commands do.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::address::parse_address;
use super::screen::{Effect, Focus, Link, Panel, Screen};
use crate::crypto::Verdict;
use crate::message::{Message, MessageState};
use crate::store::LocalMessageId;

/// Messages one press of a page key moves.
const PAGE_MESSAGES: usize = 8;
/// Rows of a long request that one press of a page key moves.
const PAGE_ROWS: isize = 8;
/// Messages above the lower edge below which older ones are loaded.
const LOAD_BELOW: usize = 40;

impl Screen {
    pub(super) fn press(&mut self, key: KeyEvent, effects: &mut Vec<Effect>) {
        if key.kind == KeyEventKind::Release {
            return;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            effects.push(Effect::Quit);
            return;
        }
        // Whatever covers the history goes first, and the key is spent on it.
        if let Some(panel) = self.panel.take() {
            self.panel = self.turned(panel, key.code);
            self.note_read();
            return;
        }
        match (key.code, control) {
            (KeyCode::Up, _) | (KeyCode::Char('p'), true) => self.step(-1, effects),
            (KeyCode::Down, _) | (KeyCode::Char('n'), true) => self.step(1, effects),
            (KeyCode::PageUp, _) => self.scroll_up(effects),
            (KeyCode::PageDown, _) => {
                self.scroll = self.scroll.saturating_sub(PAGE_MESSAGES);
                self.mark_read(effects);
            }
            (KeyCode::Tab | KeyCode::BackTab, _) => {
                self.focus = match self.focus {
                    Focus::Conversations => Focus::Line,
                    Focus::Line => Focus::Conversations,
                };
            }
            (KeyCode::Esc, _) => self.notice = None,
            (KeyCode::Enter, _) if self.focus == Focus::Conversations => self.focus = Focus::Line,
            (KeyCode::Enter, _) => self.submit(effects),
            (code, control) if self.focus == Focus::Line => self.edit(code, control, effects),
            _ => {}
        }
    }

    fn edit(&mut self, code: KeyCode, control: bool, effects: &mut Vec<Effect>) {
        match (code, control) {
            (KeyCode::Char('w'), true) => self.line.delete_word(),
            (KeyCode::Char('u'), true) => drop(self.line.take()),
            (KeyCode::Char('a'), true) | (KeyCode::Home, _) => self.line.home(),
            (KeyCode::Char('e'), true) | (KeyCode::End, _) => self.line.end(),
            (KeyCode::Char(c), false) => self.write(c.encode_utf8(&mut [0; 4]), effects),
            (KeyCode::Backspace, _) => self.line.backspace(),
            (KeyCode::Delete, _) => self.line.delete(),
            (KeyCode::Left, _) => self.line.left(),
            (KeyCode::Right, _) => self.line.right(),
            _ => {}
        }
        if self.line.is_empty() {
            self.stop_composing(effects);
        }
    }

    /// Text comes into the line, by key or by paste.
    pub(super) fn write(&mut self, text: &str, effects: &mut Vec<Effect>) {
        self.focus = Focus::Line;
        // Terminals paste line breaks as carriage returns.
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        if !self.line.insert(&text) {
            self.notify("a message cannot be longer than this".to_owned());
            return;
        }
        let is_command = self.line.text().starts_with('/');
        if let Some(here) =
            self.current().filter(|shown| shown.is_at_server).map(|shown| shown.conversation_id)
            && !is_command
        {
            let (composing, is_to_be_told) = self.composing.typed(here, self.now_ms);
            self.composing = composing;
            if is_to_be_told {
                effects.push(Effect::Typing(here, true));
            }
        }
    }

    fn step(&mut self, by: isize, effects: &mut Vec<Effect>) {
        let last = self.conversations.len().checked_sub(1);
        let at = self.conversations.iter().position(|shown| Some(shown.conversation_id) == self.selected);
        if let Some(last) = last {
            let to = at.map_or(0, |at| at.saturating_add_signed(by).min(last));
            self.select(self.conversations[to].conversation_id, effects);
        }
    }

    fn scroll_up(&mut self, effects: &mut Vec<Effect>) {
        let last = self.history.len().saturating_sub(1);
        self.scroll = (self.scroll + PAGE_MESSAGES).min(last);
        if last - self.scroll < LOAD_BELOW {
            self.load_older(effects);
        }
    }

    fn submit(&mut self, effects: &mut Vec<Effect>) {
        if self.line.text().trim().is_empty() {
            self.line.take();
            self.stop_composing(effects);
            return;
        }
        if self.line.text().starts_with('/') {
            let command = self.line.take();
            self.obey(command.trim(), effects);
            return;
        }
        let Some(to) = self.current().map(|shown| shown.peer) else {
            self.notify(
                "nobody to send this to: /new <email, phone or user id> opens a conversation".to_owned(),
            );
            return;
        };
        let text = self.line.take();
        self.scroll = 0;
        self.mark_read(effects);
        effects.push(Effect::Send { to, text });
        self.stop_composing(effects);
    }

    fn obey(&mut self, command: &str, effects: &mut Vec<Effect>) {
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        match (verb, rest.trim()) {
            ("/new", address) => match parse_address(address) {
                Some(query) => effects.push(Effect::Find(query)),
                None => self
                    .notify("/new needs an email address, a phone number like +49… or a user id".to_owned()),
            },
            ("/ask", "") => self.notify("/ask needs what you want to ask".to_owned()),
            ("/ask", text) => effects.push(Effect::Ask(text.to_owned())),
            ("/safety", "") => match self.current() {
                Some(shown) => effects.push(Effect::SafetyNumber(shown.peer)),
                None => self.notify("choose a conversation first".to_owned()),
            },
            ("/stop", "") => match self.selected.and_then(|selected| self.answers.get(&selected)) {
                Some(answer) => effects.push(Effect::Stop(answer.turn_id)),
                None => self.notify("nobody is answering here".to_owned()),
            },
            ("/approve", number) => self.decide(number, Verdict::Approved, effects),
            ("/deny", number) => self.decide(number, Verdict::Denied, effects),
            ("/request", number) => match self.meant(number) {
                Ok(asking) => {
                    self.panel = self.pages_of(asking).map(Panel::Request);
                    self.note_read();
                }
                Err(why) => self.notify(why.to_owned()),
            },
            ("/retry", "") => match self.newest_failed() {
                Some(id) => effects.push(Effect::Retry(id)),
                None => self.notify("no message here has failed".to_owned()),
            },
            ("/discard", "") => match self.newest_failed() {
                Some(id) => effects.push(Effect::Discard(id)),
                None => self.notify("no message here has failed".to_owned()),
            },
            ("/reconnect", "") => self.reconnect(effects),
            ("/help", "") => self.panel = Some(Panel::Help),
            ("/quit", "") => effects.push(Effect::Quit),
            _ => self.notify("no such command: /help lists them".to_owned()),
        }
    }

    /// The number is never left out: what has come, or run out, since the line was begun must not be decided on in place of what
    /// was read.
    fn decide(&mut self, number: &str, verdict: Verdict, effects: &mut Vec<Effect>) {
        if number.is_empty() {
            self.notify("say which request, by its number: /approve 7 or /deny 7".to_owned());
            return;
        }
        match self.meant(number) {
            Ok(asking) if verdict == Verdict::Approved && !self.was_seen_whole(asking) => {
                self.notify(format!("it is longer than the screen: /request {number} first, to its end"));
            }
            Ok(asking) => effects.extend(asking.message_id.map(|id| Effect::Decide(id, verdict))),
            Err(why) => self.notify(why.to_owned()),
        }
    }

    /// What a key leaves of what covers the history.
    fn turned(&self, panel: Panel, key: KeyCode) -> Option<Panel> {
        let Panel::Request(mut pages) = panel else { return None };
        let rows = match key {
            KeyCode::Up => -1,
            KeyCode::Down => 1,
            KeyCode::PageUp => -PAGE_ROWS,
            KeyCode::PageDown => PAGE_ROWS,
            _ => return None,
        };
        pages.turn(rows, self.panel_room());
        Some(Panel::Request(pages))
    }

    /// Only where nothing is tried by itself any more.
    fn reconnect(&mut self, effects: &mut Vec<Effect>) {
        if !matches!(self.link, Link::Ended(_)) {
            self.notify("/reconnect is for when the connection has ended for good".to_owned());
            return;
        }
        self.link = Link::Connecting;
        // Whom to watch went with the old connection.
        self.watched.clear();
        effects.extend([Effect::Reconnect, Effect::LoadConversations]);
    }

    fn newest_failed(&self) -> Option<LocalMessageId> {
        let failed = |message: &&Message| matches!(message.state, MessageState::Failed(_));
        self.history.iter().rev().find(failed).and_then(|message| message.local_id)
    }
}
