//! How a request for approval looks: all of it, wherever it is shown, because what is decided on is what was read.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as Row, Span};

use super::draw::one_line;
use super::screen::Screen;
use super::wrap::{harmless, wrap};
use crate::crypto::Verdict;
use crate::message::{Message, MessageState, ShownContent, ShownRequest};

/// Stands before every line of a request, so that no text can pass for one.
const EDGE: &str = "│ ";
/// Columns of it.
const EDGE_COLUMNS: usize = 2;

/// All of a request, to be read over the history. It is moved by rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pages {
    text: String,
    /// Rows above the upper edge; drawing knows how many there are at most.
    above: usize,
}

impl Pages {
    /// A request, by the number of its message.
    pub(super) fn of(number: u64, asked: &ShownRequest) -> Self {
        let ShownRequest { text, request, .. } = asked;
        let parts = [title(number, &request.action), harmless(&request.arguments), harmless(text)];
        Self { text: parts.join("\n\n").trim_end().to_owned(), above: 0 }
    }

    /// Moves down, or up.
    pub(super) fn turn(&mut self, rows: isize) {
        // No row is shorter than a byte, but for those between the parts.
        self.above = self.above.saturating_add_signed(rows).min(self.text.len());
    }

    /// What is seen of it.
    pub(super) fn rows(&self, width: usize, height: usize) -> Vec<Row<'static>> {
        let rows = wrap(&self.text, width);
        let above = self.above.min(rows.len().saturating_sub(height));
        rows.into_iter().skip(above).take(height).map(Row::from).collect()
    }
}

impl Screen {
    /// A request beneath the text that came with it.
    pub(super) fn request_rows(
        &self,
        message: &Message,
        asked: &ShownRequest,
        width: usize,
    ) -> Vec<Row<'static>> {
        let number = message.sequence_number.unwrap_or_default();
        let request = &asked.request;
        let until = self.calendar.moment(request.expires_at, self.now_ms);
        let state = match asked.verdict {
            Some(verdict) => verdict.as_str().to_owned(),
            None if !asked.is_open(self.now()) => format!("expired {until}"),
            None if message.is_own => format!("open until {until}"),
            None => format!("open until {until}: /approve or /deny; /request shows all of it"),
        };
        let colour = match asked.verdict {
            Some(Verdict::Approved) => Color::Green,
            Some(Verdict::Denied) => Color::Red,
            None => Color::Yellow,
        };
        let bold = Style::new().fg(colour).add_modifier(Modifier::BOLD);
        let parts = [
            (title(number, &request.action), bold),
            (harmless(&request.arguments), Style::new().fg(colour)),
            (state, bold),
        ];
        let rows = parts.into_iter().flat_map(|(text, style)| {
            let lines = wrap(&text, width.saturating_sub(EDGE_COLUMNS));
            lines.into_iter().map(move |line| Row::from(Span::styled(format!("{EDGE}{line}"), style)))
        });
        rows.collect()
    }

    /// The request that a command means: the one of this number, or without one the only one that is open. Among several, one
    /// that has just come must not be decided on in place of the one that was read.
    pub(super) fn meant(&self, number: &str) -> Result<&Message, &'static str> {
        let now = self.now();
        let is_open = |message: &&Message| match &message.content {
            ShownContent::Request(asked) => !message.is_own && asked.is_open(now),
            _ => false,
        };
        let mut open = self.history.iter().rev().filter(is_open);
        if number.is_empty() {
            let newest = open.next().ok_or("nobody asks for your approval here")?;
            return match open.next() {
                None => Ok(newest),
                Some(_) => Err("several requests are open: say which, by its number"),
            };
        }
        let number = number.trim_start_matches('#').parse().ok();
        let is_it = |message: &&Message| number.is_some() && message.sequence_number == number;
        open.find(is_it).ok_or("no request of this number is open here")
    }

    /// A verdict that has come, or waits to be sent, is seen on its request too, however far up that was loaded.
    pub(super) fn mark_decided(&mut self) {
        let decided = |message: &Message| match message.content {
            _ if matches!(message.state, MessageState::Failed(_)) => None,
            ShownContent::Verdict { request_id, verdict } => Some((request_id, verdict)),
            _ => None,
        };
        let decided: Vec<_> = self.history.iter().filter_map(decided).collect();
        for (request_id, verdict) in decided {
            let asking = self.history.iter_mut().find(|message| message.message_id == Some(request_id));
            if let Some(ShownContent::Request(asked)) = asking.map(|message| &mut message.content) {
                asked.verdict.get_or_insert(verdict);
            }
        }
    }
}

fn title(number: u64, action: &str) -> String {
    format!("request {number}: {}", one_line(action))
}
