//! Points and curves in a frame with axes.

use std::fmt::Write;

use super::{LEFT, Plain, RIGHT, WIDTH, ticks};

/// Height of the frame, and of what stands above and below it.
const HEIGHT: f64 = 220.0;
const HEAD: f64 = 22.0;
const FOOT: f64 = 26.0;

/// How the upright axis counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Evenly, from 0.
    Linear,
    /// By powers of ten, from 1.
    Logarithmic,
}

/// A frame that points and curves are put into.
pub(crate) struct Plot {
    svg: String,
    end: f64,
    top: f64,
    scale: Scale,
    series: u32,
}

impl Plot {
    /// An empty frame: across from 0 to `end`, upright to `top`; `across` and `up` say what is counted.
    pub(crate) fn new((end, across): (f64, &str), (top, up): (f64, &str), scale: Scale) -> Self {
        let svg = format!("<svg viewBox=\"0 0 {WIDTH} {}\" role=img>", HEAD + HEIGHT + FOOT);
        let mut plot = Self { svg, end: end.max(0.001), top: top.max(1.0), scale, series: 0 };
        for tick in ticks(plot.end, 10.0) {
            let at = plot.x(tick);
            let _ = write!(
                plot.svg,
                "<line class=grid x1={at:.1} x2={at:.1} y1={HEAD} y2={:.1} /><text x={at:.1} y={:.1} text-anchor=middle>{tick} {}</text>",
                HEAD + HEIGHT,
                HEAD + HEIGHT + 16.0,
                Plain(across)
            );
        }
        let upright = match scale {
            Scale::Linear => ticks(plot.top, 5.0),
            Scale::Logarithmic => {
                (0..).map(|power| 10_f64.powi(power)).take_while(|tick| *tick <= plot.top).collect()
            }
        };
        for tick in upright {
            let at = plot.y(tick);
            let _ = write!(
                plot.svg,
                "<line class=grid x1={LEFT} x2={:.1} y1={at:.1} y2={at:.1} /><text x={:.1} y={:.1} text-anchor=end>{tick} {}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                at + 4.0,
                Plain(up)
            );
        }
        plot
    }

    /// A point for each, across and upright.
    pub(crate) fn dots(&mut self, dots: impl Iterator<Item = (f64, f64)>) {
        for (across, up) in dots {
            let (x, y) = (self.x(across), self.y(up));
            let _ = write!(self.svg, "<circle class=dot cx={x:.1} cy={y:.1} r=2 />");
        }
    }

    /// A curve through all of them, and its name.
    pub(crate) fn curve(&mut self, name: &str, points: impl Iterator<Item = (f64, f64)>) {
        let class = if self.series == 0 { "" } else { "second" };
        let mut path = String::new();
        for (across, up) in points {
            let command = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{command}{:.1} {:.1}", self.x(across), self.y(up));
        }
        let _ = write!(
            self.svg,
            "<path class=\"curve {class}\" d=\"{path}\" /><circle class=\"calm {class}\" cx={:.1} cy=11 r=4 /><text x={:.1} y=15>{}</text>",
            LEFT + 8.0 + 180.0 * f64::from(self.series),
            LEFT + 18.0 + 180.0 * f64::from(self.series),
            Plain(name)
        );
        self.series += 1;
    }

    /// The drawing.
    pub(crate) fn finish(mut self) -> String {
        self.svg.push_str("</svg>");
        self.svg
    }

    fn x(&self, across: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (across / self.end).clamp(0.0, 1.0)
    }

    fn y(&self, up: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => up / self.top,
            Scale::Logarithmic => up.max(1.0).log10() / self.top.log10().max(0.1),
        };
        HEAD + HEIGHT * (1.0 - share.clamp(0.0, 1.0))
    }
}
