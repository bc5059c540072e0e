//! How the screen looks.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as Row, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph, Wrap};

use super::history::preview;
use super::screen::{Focus, Link, Panel, Screen};
use super::wrap::{columns, harmless, tail};
use crate::event::DisconnectReason;
use crate::message::ConversationSummary;

/// Columns of the list of conversations.
const LIST_WIDTH: u16 = 28;
/// Rows one conversation takes in the list.
const LIST_ROWS: usize = 2;

/// The keys and commands of the screen.
pub const KEYS: &str = "\
Enter              send, or run a command
Up, Down           choose a conversation (also Ctrl-N, Ctrl-P)
PageUp, PageDown   move through the history
Tab                between the list and the line
Ctrl-W, Ctrl-U     delete a word, the line
Ctrl-C             leave

/new <email, phone or user id>   open a conversation
/ask <text>        ask the agent that it is for
/stop              the agent that is answering here says no more
/approve 7, /deny 7   decide on the request of this number: what an agent
                   asks to be allowed
/request 7         show all of it; first, if it is longer than the screen
/safety            show the safety number, to compare it with the other person
/retry, /discard   send the newest failed message again, or delete it
/reconnect         connect again after the server closed the connection for good
/help, /quit

◷ waits to be sent   ✓ sent   ✓✓ delivered   ✓✓ (coloured) read   ✗ failed
✗ not taken: the agent could not; whoever runs the installation can have it
             delivered again
Times are those of your own time zone (TZ).";

impl Screen {
    /// Draws everything.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let Places { list, right, history, typing, line, status } = Places::of(frame.area());
        self.draw_list(frame, list);
        self.draw_history(frame, history);
        self.draw_typing(frame, typing);
        self.draw_line(frame, line);
        self.draw_status(frame, status);
        if let Some(panel) = &self.panel {
            draw_panel(frame, right, panel);
        }
    }

    fn draw_list(&self, frame: &mut Frame<'_>, area: Rect) {
        let block = framed("conversations", self.focus == Focus::Conversations);
        let inner = block.inner(area);
        let width = usize::from(inner.width);
        let room = (usize::from(inner.height) / LIST_ROWS).max(1);
        let at = self.conversations.iter().position(|shown| Some(shown.conversation_id) == self.selected);
        let first = at.map_or(0, |at| (at + 1).saturating_sub(room));
        let rows = self.conversations.iter().skip(first).take(room);
        let rows: Vec<Row<'_>> = rows.flat_map(|shown| self.list_rows(shown, width)).collect();
        let empty = "nobody yet\n\n/new <email>\nopens a conversation";
        let content =
            if rows.is_empty() { Paragraph::new(empty).style(faint()) } else { Paragraph::new(rows) };
        frame.render_widget(content.block(block), area);
    }

    fn list_rows(&self, shown: &ConversationSummary, width: usize) -> [Row<'static>; LIST_ROWS] {
        let is_selected = Some(shown.conversation_id) == self.selected;
        let style = if is_selected { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        let dot = match self.online.contains(&shown.peer) {
            true => Span::styled("● ", style.fg(Color::Green)),
            false => Span::styled("○ ", style.fg(Color::DarkGray)),
        };
        let count = if shown.unread > 0 { format!(" ({})", shown.unread) } else { String::new() };
        let name = fit(&peer_name(shown), width.saturating_sub(2 + columns(&count)));
        let count = Span::styled(count, style.fg(Color::Yellow).add_modifier(Modifier::BOLD));
        let said = shown.last_message.as_ref().map(preview).unwrap_or_default();
        [
            Row::from(vec![dot, Span::styled(name, style.add_modifier(Modifier::BOLD)), count]),
            Row::from(Span::styled(format!("  {}", fit(&said, width.saturating_sub(2))), faint())),
        ]
    }

    fn draw_typing(&self, frame: &mut Frame<'_>, area: Rect) {
        let doing = self.current().and_then(|shown| {
            let id = &shown.conversation_id;
            let status = self.answers.get(id).and_then(|answer| answer.status.as_deref());
            let typing = || self.typing.contains_key(id).then_some("typing");
            status.or_else(typing).map(|doing| (peer_name(shown), one_line(doing)))
        });
        let text = doing.map(|(who, doing)| format!(" {who} is {doing}…")).unwrap_or_default();
        frame.render_widget(Paragraph::new(text).style(faint()), area);
    }

    fn draw_line(&self, frame: &mut Frame<'_>, area: Rect) {
        let has_focus = self.focus == Focus::Line;
        let block = framed("message", has_focus);
        let inner = block.inner(area);
        let width = usize::from(inner.width).saturating_sub(1);
        let visible = |text: &str| harmless(text).replace('\n', "↵");
        let before = visible(self.line.before_cursor());
        let before = tail(&before, width);
        let after = visible(&self.line.text()[self.line.before_cursor().len()..]);
        let column = columns(before);
        let content = if self.line.is_empty() && !has_focus {
            Paragraph::new("Tab to write").style(faint())
        } else {
            Paragraph::new(format!("{before}{after}"))
        };
        frame.render_widget(content.block(block), area);
        if has_focus && self.panel.is_none() {
            let x = inner.x.saturating_add(u16::try_from(column).unwrap_or(u16::MAX));
            frame.set_cursor_position((x.min(inner.right().saturating_sub(1)), inner.y));
        }
    }

    fn draw_status(&self, frame: &mut Frame<'_>, area: Rect) {
        let (link, colour) = self.link_text();
        let mut spans = vec![
            Span::styled(format!(" {link} "), Style::new().fg(Color::Black).bg(colour)),
            Span::styled(format!(" {} ", self.title), faint()),
        ];
        match &self.notice {
            Some(notice) => {
                spans.push(Span::styled(one_line(&notice.text), Style::new().fg(Color::Yellow)));
            }
            None => spans.push(Span::styled("/help", faint())),
        }
        frame.render_widget(Paragraph::new(Row::from(spans)), area);
    }

    fn link_text(&self) -> (String, Color) {
        match self.link {
            Link::Connecting => ("connecting".to_owned(), Color::Yellow),
            Link::Connected => ("connected".to_owned(), Color::Green),
            Link::Waiting { reason, until_ms } => {
                let seconds = until_ms.saturating_sub(self.now_ms).div_ceil(1000);
                let when = if seconds == 0 {
                    "reconnecting".to_owned()
                } else {
                    format!("reconnecting in {seconds} s")
                };
                (format!("{}: {when}", reason_text(reason)), Color::Yellow)
            }
            Link::Ended(reason) => (format!("{}; /reconnect tries again", reason_text(reason)), Color::Red),
            Link::LoggedOut => ("logged out: leave and start again to log in".to_owned(), Color::Red),
            Link::StoreFailed => ("the profile cannot be written: is the disk full?".to_owned(), Color::Red),
        }
    }
}

/// Where things are.
pub(super) struct Places {
    list: Rect,
    /// All beside the list: what a panel covers.
    pub(super) right: Rect,
    pub(super) history: Rect,
    typing: Rect,
    line: Rect,
    status: Rect,
}

impl Places {
    /// On a screen of this size.
    pub(super) fn of(area: Rect) -> Self {
        let [body, status] = Layout::vertical([Constraint::Min(5), Constraint::Length(1)]).areas(area);
        let [list, right] =
            Layout::horizontal([Constraint::Length(LIST_WIDTH), Constraint::Min(20)]).areas(body);
        let [history, typing, line] =
            Layout::vertical([Constraint::Min(2), Constraint::Length(1), Constraint::Length(3)]).areas(right);
        Self { list, right, history, typing, line, status }
    }
}

/// Columns and rows inside the frame of a place.
pub(super) fn room(place: Rect) -> (usize, usize) {
    let inner = framed("", false).inner(place);
    (usize::from(inner.width), usize::from(inner.height))
}

fn draw_panel(frame: &mut Frame<'_>, area: Rect, panel: &Panel) {
    let (title, keys) = match panel {
        Panel::Help => ("help", " any key closes "),
        Panel::SafetyNumber(_) => ("safety number", " any key closes "),
        Panel::Request(_) => ("request for approval", " PageUp, PageDown move; other keys close "),
    };
    let block = framed(title, true).title_bottom(Row::from(keys).right_aligned());
    let content = match panel {
        Panel::Help => Paragraph::new(KEYS),
        Panel::SafetyNumber(digits) => Paragraph::new(safety_text(digits)),
        Panel::Request(pages) => Paragraph::new(pages.rows(room(area))),
    };
    frame.render_widget(Clear, area);
    frame.render_widget(content.wrap(Wrap { trim: false }).block(block), area);
}

/// Four groups a row, as they are read aloud.
fn safety_text(digits: &str) -> String {
    let groups: Vec<&str> = digits.split(' ').collect();
    let rows: Vec<String> = groups.chunks(4).map(|row| format!("  {}", row.join("  "))).collect();
    format!(
        "{}\n\nCompare it with the other person, by voice or side by side. If both see the same number, nobody \
         stands between you. It changes when one of you adds or removes a device.",
        rows.join("\n")
    )
}

pub(super) fn framed(title: &str, has_focus: bool) -> Block<'static> {
    let style = if has_focus { Style::new().fg(Color::Cyan) } else { faint() };
    Block::new().borders(Borders::ALL).border_style(style).title(format!(" {} ", one_line(title)))
}

pub(super) fn faint() -> Style {
    Style::new().fg(Color::DarkGray)
}

pub(super) fn peer_name(shown: &ConversationSummary) -> String {
    one_line(&shown.peer_name.clone().unwrap_or_else(|| shown.peer.to_string()))
}

pub(super) fn one_line(text: &str) -> String {
    harmless(text).replace('\n', " ")
}

/// As much of a text as fits, with a sign that there is more.
fn fit(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    for c in text.chars() {
        kept.push(c);
        if columns(&kept) + 1 > width {
            kept.pop();
            break;
        }
    }
    kept + "…"
}

fn reason_text(reason: DisconnectReason) -> String {
    match reason {
        DisconnectReason::Closed(code) => format!("closed by the server ({code})"),
        DisconnectReason::Lost => "connection lost".to_owned(),
        DisconnectReason::Unreachable => "server not reachable".to_owned(),
        DisconnectReason::Migrating => "the server moves".to_owned(),
        DisconnectReason::Unresponsive => "the server does not answer".to_owned(),
        DisconnectReason::NotAuthenticated => "log-in not renewed".to_owned(),
    }
}
