//! How a request for approval looks: all of it, wherever it is shown, because what is decided on is what was read.

use colloquy_protocol::ids::MessageId;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as Row, Span};

use super::draw::{Places, one_line, room};
use super::screen::{Panel, READ_MAX, Screen};
use super::wrap::{harmless, wrap, wrap_indented};
use crate::crypto::{ApprovalRequest, Verdict};
use crate::message::{Message, MessageState, ShownContent, ShownRequest};

/// Stands before every line of a request, in the first column. No line of a text begins there
/// ([`wrap_indented`](super::wrap::wrap_indented)), so that none can pass for one.
const EDGE: &str = "│ ";
/// Stands before every line of a request that begins with what the agent wrote, so that none can pass for the next part.
const DEEPER: &str = "│   ";
/// Columns of it.
const DEEPER_COLUMNS: usize = 4;

/// The parts of a request, in lines: what is to be done, with what, and how it stands.
type Parts = [Vec<String>; 3];

/// All of a request, to be read over the history. It is moved by rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pages {
    /// The message that asks.
    id: Option<MessageId>,
    /// Its number.
    number: u64,
    asked: ShownRequest,
    state: String,
    /// Rows above the upper edge.
    above: usize,
}

impl Pages {
    /// Moves down, or up, in this room of columns and rows.
    pub(super) fn turn(&mut self, rows: isize, room: (usize, usize)) {
        let last = self.lines(room.0).len().saturating_sub(room.1);
        // No row is passed over: whoever turns to the end has seen all.
        let page = isize::try_from(room.1).unwrap_or(isize::MAX);
        self.above = self.above.saturating_add_signed(rows.clamp(-page, page)).min(last);
    }

    /// Moves to its beginning.
    pub(super) fn begin_again(&mut self) {
        self.above = 0;
    }

    /// What is seen of it in this room of columns and rows.
    pub(super) fn rows(&self, (width, height): (usize, usize)) -> Vec<Row<'static>> {
        let lines = self.lines(width);
        let above = self.above.min(lines.len().saturating_sub(height));
        lines.into_iter().skip(above).take(height).map(Row::from).collect()
    }

    fn is_at_end(&self, (width, height): (usize, usize)) -> bool {
        self.above + height >= self.lines(width).len()
    }

    fn lines(&self, width: usize) -> Vec<String> {
        let ShownRequest { text, request, .. } = &self.asked;
        let mut lines = parts(self.number, request, &self.state, width).concat();
        if !text.is_empty() {
            // Beneath an empty line, so that its first line is indented too.
            lines.extend(wrap_indented(&format!("\n{}", harmless(text)), width));
        }
        lines
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
        let plain = Style::new().fg(colour(asked));
        let bold = plain.add_modifier(Modifier::BOLD);
        let parts = parts(number(message), &asked.request, &self.state_of(message, asked), width);
        let rows = parts.into_iter().zip([bold, plain, bold]).flat_map(|(lines, style)| {
            lines.into_iter().map(move |line| Row::from(Span::styled(line, style)))
        });
        rows.collect()
    }

    /// As [`Self::request_rows`], in so many rows, or one: the title stays, and how many rows are missing is said.
    pub(super) fn request_rows_within(
        &self,
        message: &Message,
        asked: &ShownRequest,
        width: usize,
        height: usize,
    ) -> Vec<Row<'static>> {
        let mut rows = self.request_rows(message, asked, width);
        if rows.len() <= height {
            return rows;
        }
        let (title, end) = (height.saturating_sub(1).min(1), height.saturating_sub(2));
        let hidden = rows.len() - title - end;
        let mut rest = rows.split_off(rows.len() - end);
        rows.truncate(title);
        let style = Style::new().fg(colour(asked)).add_modifier(Modifier::REVERSED);
        let line = format!("{EDGE}↑ {hidden} rows hidden: /request {}", number(message));
        rows.push(Row::from(Span::styled(line, style)));
        rows.append(&mut rest);
        rows
    }

    fn state_of(&self, message: &Message, asked: &ShownRequest) -> String {
        let until = self.calendar.moment(asked.request.expires_at, self.now_ms);
        let number = number(message);
        match asked.verdict {
            Some(verdict) => verdict.as_str().to_owned(),
            None if !asked.is_open(self.now()) => format!("expired {until}"),
            None if message.is_own => format!("open until {until}"),
            None => format!("open until {until}: /approve {number} or /deny {number}"),
        }
    }

    /// All of a request.
    pub(super) fn pages_of(&self, message: &Message) -> Option<Pages> {
        let ShownContent::Request(asked) = &message.content else { return None };
        Some(Pages {
            id: message.message_id,
            number: number(message),
            asked: (**asked).clone(),
            state: self.state_of(message, asked),
            above: 0,
        })
    }

    /// Columns and rows of what covers the history.
    pub(super) fn panel_room(&self) -> (usize, usize) {
        room(self.places().right)
    }

    fn places(&self) -> Places {
        Places::of(Rect::new(0, 0, self.size.0, self.size.1))
    }

    /// A request that is open to be read may have been read to its end.
    pub(super) fn note_read(&mut self) {
        let Some(Panel::Request(pages)) = &self.panel else { return };
        if pages.is_at_end(self.panel_room()) {
            self.read.extend(pages.id);
            while self.read.len() > READ_MAX {
                self.read.pop_first();
            }
        }
    }

    /// Does the history have room for all of a request, or was it read to its end?
    pub(super) fn was_seen_whole(&self, message: &Message) -> bool {
        let ShownContent::Request(asked) = &message.content else { return false };
        let (width, height) = room(self.places().history);
        self.request_rows(message, asked, width).len() <= height
            || message.message_id.is_some_and(|id| self.read.contains(&id))
    }

    /// The request that a command means: the one of this number, or without one the only one that is open.
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

    /// A verdict that counts, or waits to be sent, is seen on its request too, however far up that was loaded. Who has asked
    /// decides nothing.
    pub(super) fn mark_decided(&mut self) {
        let decided = |message: &Message| match message.content {
            _ if matches!(message.state, MessageState::Failed(_)) => None,
            ShownContent::Verdict { request_id, verdict, counts: true } => {
                Some((request_id, verdict, message.is_own))
            }
            _ => None,
        };
        let decided: Vec<_> = self.history.iter().filter_map(decided).collect();
        for (request_id, verdict, is_own) in decided {
            let is_asking =
                |message: &&mut Message| message.message_id == Some(request_id) && message.is_own != is_own;
            let asking = self.history.iter_mut().find(is_asking);
            if let Some(ShownContent::Request(asked)) = asking.map(|message| &mut message.content) {
                asked.verdict.get_or_insert(verdict);
            }
        }
    }
}

fn number(message: &Message) -> u64 {
    message.sequence_number.unwrap_or_default()
}

fn colour(asked: &ShownRequest) -> Color {
    match asked.verdict {
        Some(Verdict::Approved) => Color::Green,
        Some(Verdict::Denied) => Color::Red,
        None => Color::Yellow,
    }
}

fn parts(number: u64, request: &ApprovalRequest, state: &str, width: usize) -> Parts {
    let width = width.saturating_sub(DEEPER_COLUMNS);
    let deeper = |line: String| format!("{DEEPER}{line}");
    let headed = |text: &str| -> Vec<String> {
        let mut lines = wrap(text, width).into_iter();
        let first = lines.next().map(|line| format!("{EDGE}{line}"));
        first.into_iter().chain(lines.map(deeper)).collect()
    };
    let arguments = wrap(&harmless(&request.arguments), width).into_iter().map(deeper).collect();
    [headed(&format!("request {number}: {}", one_line(&request.action))), arguments, headed(state)]
}
