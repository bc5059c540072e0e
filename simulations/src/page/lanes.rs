//! What happened where and for how long, on a line of time.

use std::fmt::Write;

use super::{LEFT, Plain, RIGHT, WIDTH, ticks};

/// Height of one lane, and of what stands below them.
const LANE: f64 = 22.0;
const FOOT: f64 = 24.0;
/// The least width that can be seen and pointed at.
const LEAST: f64 = 2.5;

/// Something that lasted, or just happened.
pub(crate) struct Span {
    /// Where: the name of its lane.
    pub(crate) lane: String,
    /// Seconds from the beginning.
    pub(crate) from: f64,
    /// If it lasted.
    pub(crate) until: Option<f64>,
    /// How it is coloured: `fault`, `wait` or `calm`.
    pub(crate) class: &'static str,
    /// Shown when it is pointed at.
    pub(crate) text: String,
}

/// Draws lanes in the order in which they first appear, and vertical lines at `marks`.
pub(crate) fn draw(spans: &[Span], marks: &[(f64, &str)], end: f64) -> String {
    let mut lanes: Vec<&str> = Vec::new();
    for span in spans {
        if !lanes.contains(&span.lane.as_str()) {
            lanes.push(&span.lane);
        }
    }
    lanes.sort_unstable();
    let bottom = LANE * lanes.len() as f64;
    let x = |seconds: f64| LEFT + (WIDTH - LEFT - RIGHT) * (seconds / end.max(0.001)).clamp(0.0, 1.0);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {}\" role=img>", bottom + FOOT);
    for (index, lane) in lanes.iter().enumerate() {
        let y = LANE * index as f64;
        let _ = write!(
            svg,
            "<rect class=lane x={LEFT} y={:.1} width={:.1} height={:.1} /><text x={:.1} y={:.1} text-anchor=end>{}</text>",
            y + 2.0,
            WIDTH - LEFT - RIGHT,
            LANE - 4.0,
            LEFT - 8.0,
            y + 15.0,
            Plain(lane)
        );
    }
    for tick in ticks(end, 10.0) {
        let at = x(tick);
        let _ = write!(
            svg,
            "<line class=grid x1={at:.1} x2={at:.1} y1=0 y2={bottom} /><text x={at:.1} y={:.1} text-anchor=middle>{tick} s</text>",
            bottom + 16.0
        );
    }
    for span in spans {
        let row = lanes.iter().position(|lane| *lane == span.lane).unwrap_or(0);
        let (from, until) = (x(span.from), x(span.until.unwrap_or(span.from)));
        let _ = write!(
            svg,
            "<rect class={} x={from:.1} y={:.1} width={:.1} height={:.1} rx=2 opacity=.8><title>{:.3} s: {}</title></rect>",
            span.class,
            LANE * row as f64 + 4.0,
            (until - from).max(LEAST),
            LANE - 8.0,
            span.from,
            Plain(&span.text)
        );
    }
    for (at, text) in marks {
        let at = x(*at);
        let _ = write!(
            svg,
            "<line class=mark x1={at:.1} x2={at:.1} y1=0 y2={bottom}><title>{}</title></line>",
            Plain(text)
        );
    }
    svg.push_str("</svg>");
    svg
}
