//! How the messages of a conversation look: rows, days, marks.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as Row, Span};
use ratatui::widgets::Paragraph;

use super::draw::{faint, framed, one_line, peer_name, room};
use super::screen::Screen;
use super::wrap::{columns, harmless, wrap_indented};
use crate::message::{ConversationSummary, Message, MessageState, ShownContent};

impl Screen {
    pub(super) fn draw_history(&self, frame: &mut Frame<'_>, area: Rect) {
        let title = self.current().map_or_else(|| "no conversation".to_owned(), |shown| self.title_of(shown));
        let (width, height) = room(area);
        // From the lower edge upwards, so that nothing above the upper edge is laid out.
        let mut rows: Vec<Row<'_>> = Vec::new();
        let mut shown = self.history.len().saturating_sub(self.scroll);
        if self.scroll == 0 {
            rows.extend(self.growing_rows(width).into_iter().rev());
        }
        for index in (0..shown).rev() {
            let room = height.saturating_sub(rows.len());
            rows.extend(self.rows_within(index, width, room).into_iter().rev());
            if rows.len() >= height {
                break;
            }
        }
        rows.truncate(height);
        rows.reverse();
        // At the beginning of the history newer messages fill what is left.
        while rows.len() < height && shown < self.history.len() {
            rows.extend(self.rows_within(shown, width, height - rows.len()));
            shown += 1;
        }
        rows.truncate(height);
        let blank = height - rows.len();
        rows.splice(0..0, std::iter::repeat_n(Row::default(), blank));
        let newer = self.history.len() - shown;
        let more = if newer > 0 { format!(" ↓ {newer} newer ") } else { String::new() };
        let block = framed(&title, false).title_bottom(Row::from(more).right_aligned());
        frame.render_widget(Paragraph::new(rows).block(block), area);
    }

    fn title_of(&self, shown: &ConversationSummary) -> String {
        let name = peer_name(shown);
        if self.online.contains(&shown.peer) {
            return format!("{name} (online)");
        }
        match self.last_seen.get(&shown.peer) {
            Some(at) => format!("{name} (last seen {})", self.calendar.moment(*at, self.now_ms)),
            None => name,
        }
    }

    /// As [`Self::rows_of`], but a request for which there is no room is one that says so: its ends must not pass for all of it.
    fn rows_within(&self, index: usize, width: usize, room: usize) -> Vec<Row<'static>> {
        let rows = self.rows_of(index, width);
        let message = &self.history[index];
        match &message.content {
            ShownContent::Request(asked) if rows.len() > room => {
                self.request_rows_within(message, asked, width, room)
            }
            _ => rows,
        }
    }

    /// A message with what stands above it. Of neighbours that cannot be shown the first stands for all.
    fn rows_of(&self, index: usize, width: usize) -> Vec<Row<'static>> {
        let message = &self.history[index];
        let before = index.checked_sub(1).map(|before| &self.history[before]);
        let before = before.filter(|before| before.content != ShownContent::Unavailable);
        if message.content == ShownContent::Unavailable {
            let is_first = before.is_some() || index == 0;
            return if is_first { vec![self.unavailable_row(index)] } else { Vec::new() };
        }
        let day = self.calendar.day(message.timestamp);
        let mut rows = Vec::new();
        if before.is_none_or(|before| self.calendar.day(before.timestamp) != day) {
            let day = format!("── {} ──", self.calendar.day_in_full(message.timestamp));
            rows.push(Row::from(day).style(faint()).centered());
        }
        rows.extend(self.message_rows(message, width));
        rows
    }

    /// The answer that is being written here, as far as it has come.
    fn growing_rows(&self, width: usize) -> Vec<Row<'static>> {
        let answer = self.selected.and_then(|selected| self.answers.get(&selected));
        let Some(answer) = answer.filter(|answer| !answer.text.is_empty()) else { return Vec::new() };
        let who = self.current().map(peer_name).unwrap_or_default();
        let lines = wrap_indented(&format!("… {who}: {}▌", harmless(&answer.text)), width);
        lines.into_iter().map(|line| Row::from(line).style(faint())).collect()
    }

    fn unavailable_row(&self, first: usize) -> Row<'static> {
        let unavailable = |message: &&Message| message.content == ShownContent::Unavailable;
        let text = match self.history[first..].iter().take_while(unavailable).count() {
            1 => "1 message from before this device".to_owned(),
            count => format!("{count} messages from before this device"),
        };
        Row::from(text).style(faint()).centered()
    }

    fn message_rows(&self, message: &Message, width: usize) -> Vec<Row<'static>> {
        let who = if message.is_own { "you".to_owned() } else { one_line(&self.name_of(message.sender_id)) };
        let head = format!("{} {who}: ", self.calendar.time_of_day(message.timestamp));
        let (text, style) = content(message);
        let mark = mark(message);
        let room = columns(&mark.content) + usize::from(!mark.content.is_empty());
        let mut lines = wrap_indented(&format!("{head}{text}"), width);
        if lines.last().is_some_and(|last| columns(last) + room > width) && room <= width {
            lines.push(String::new());
        }
        let last = lines.len() - 1;
        let name_style = Style::new().fg(if message.is_own { Color::Blue } else { Color::Magenta });
        let rows = lines.into_iter().enumerate().map(|(index, line)| {
            let mut spans = match line.strip_prefix(&head) {
                Some(rest) if index == 0 => {
                    vec![Span::styled(head.clone(), name_style), Span::styled(rest.to_owned(), style)]
                }
                _ => vec![Span::styled(line, style)],
            };
            if index == last && !mark.content.is_empty() {
                spans.extend([Span::raw(" "), mark.clone()]);
            }
            Row::from(spans)
        });
        let mut rows: Vec<Row<'static>> = rows.collect();
        if let ShownContent::Request(asked) = &message.content {
            rows.extend(self.request_rows(message, asked, width));
        }
        rows
    }
}

/// A message in one line of the list.
pub(super) fn preview(message: &Message) -> String {
    let text = match &message.content {
        ShownContent::Request(asked) if asked.text.is_empty() => one_line(&asked.request.action),
        _ => one_line(&content(message).0),
    };
    if message.is_own { format!("you: {text}") } else { text }
}

fn content(message: &Message) -> (String, Style) {
    match &message.content {
        ShownContent::Text(text) => (harmless(text), Style::new()),
        // What it asks for stands beneath it.
        ShownContent::Request(asked) => (harmless(&asked.text), Style::new()),
        // One that has failed has its mark.
        ShownContent::Verdict { verdict, counts: false, .. }
            if !matches!(message.state, MessageState::Failed(_)) =>
        {
            (format!("[{}, unconfirmed]", verdict.as_str()), faint())
        }
        ShownContent::Verdict { verdict, .. } => (format!("[{}]", verdict.as_str()), faint()),
        ShownContent::Undecryptable(why) => (format!("[cannot be read: {why}]"), faint()),
        ShownContent::Unavailable => ("[from before this device]".to_owned(), faint()),
    }
}

/// How far a message has come, as a sign.
fn mark(message: &Message) -> Span<'static> {
    match message.state {
        // That it was read says nothing more.
        _ if message.given_up => Span::styled("✗ not taken", Style::new().fg(Color::Red)),
        MessageState::Received => Span::raw(""),
        MessageState::Queued => Span::styled("◷", faint()),
        MessageState::Sent => Span::raw("✓"),
        MessageState::Delivered => Span::raw("✓✓"),
        MessageState::Read => Span::styled("✓✓", Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD)),
        MessageState::Failed(why) => Span::styled(format!("✗ {why}"), Style::new().fg(Color::Red)),
    }
}
