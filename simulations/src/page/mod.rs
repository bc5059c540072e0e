//! Results as a page: one HTML file that needs nothing else, for light and dark screens.
//!
//! | file | noun |
//! |---|---|
//! | [`lanes`] | what happened where and for how long, on a line of time |
//! | [`plot`] | points and curves in a frame with axes |
//! | [`load`] | the page of a load run |
//! | [`world`] | the page of a world |
//! | [`worlds`] | the page of many worlds |
//! | [`processes`] | the page of real pods under faults |

pub(crate) mod lanes;
pub(crate) mod load;
pub(crate) mod plot;
pub(crate) mod processes;
pub(crate) mod world;
pub(crate) mod worlds;

use std::fmt::{self, Display, Write};

/// How wide drawings are, in their own units; they grow and shrink with the page.
pub(crate) const WIDTH: f64 = 1000.0;
/// What stands left of the frame of every drawing, so that lines of time lie under each other.
pub(crate) const LEFT: f64 = 110.0;
/// What is free right of it.
pub(crate) const RIGHT: f64 = 20.0;

const STYLE: &str = include_str!("style.css");

/// Text that is shown as it is.
pub(crate) struct Plain<'a>(pub(crate) &'a str);

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// A page.
pub(crate) struct Page {
    title: String,
    body: String,
}

impl Page {
    /// An empty page.
    pub(crate) fn new(title: impl Into<String>) -> Self {
        let title = title.into();
        let body = format!("<h1>{}</h1>\n", Plain(&title));
        Self { title, body }
    }

    /// What a reader is to see first, and whether it is good.
    pub(crate) fn verdict(&mut self, is_good: bool, text: &str) {
        let class = if is_good { "good" } else { "bad" };
        self.add(format_args!("<p class=\"verdict {class}\">{}</p>\n", Plain(text)));
    }

    /// A few numbers and what each is.
    pub(crate) fn tiles(&mut self, tiles: &[(&str, String)]) {
        self.add(format_args!("<div class=tiles>"));
        for (name, value) in tiles {
            self.add(format_args!("<div><b>{}</b><span>{}</span></div>", Plain(value), Plain(name)));
        }
        self.add(format_args!("</div>\n"));
    }

    /// A heading, and a sentence on how to read what follows.
    pub(crate) fn section(&mut self, name: &str, how: &str) {
        self.add(format_args!("<h2>{}</h2>\n<p class=how>{}</p>\n", Plain(name), Plain(how)));
    }

    /// A drawing.
    pub(crate) fn drawing(&mut self, svg: &str) {
        self.add(format_args!("{svg}\n"));
    }

    /// A table; numbers stand to the right.
    pub(crate) fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        self.add(format_args!("<table><tr>"));
        for name in head {
            self.add(format_args!("<th>{}</th>", Plain(name)));
        }
        self.add(format_args!("</tr>\n"));
        for row in rows {
            self.add(format_args!("<tr>"));
            for cell in row {
                let class =
                    if cell.starts_with(|first: char| first.is_ascii_digit()) { " class=number" } else { "" };
                self.add(format_args!("<td{class}>{}</td>", Plain(cell)));
            }
            self.add(format_args!("</tr>\n"));
        }
        self.add(format_args!("</table>\n"));
    }

    /// Lines that are shown when they are asked for.
    pub(crate) fn lines<'a>(&mut self, name: &str, lines: impl Iterator<Item = (&'a str, String)>) {
        self.add(format_args!("<details><summary>{}</summary><pre>", Plain(name)));
        for (class, line) in lines {
            self.add(format_args!("<span class=\"{class}\">{}</span>\n", Plain(&line)));
        }
        self.add(format_args!("</pre></details>\n"));
    }

    /// The whole file.
    pub(crate) fn html(&self) -> String {
        format!(
            "<!doctype html>\n<html lang=en><meta charset=utf-8>\n\
             <meta name=viewport content=\"width=device-width, initial-scale=1\">\n\
             <title>{}</title>\n<style>{STYLE}</style>\n{}</html>\n",
            Plain(&self.title),
            self.body
        )
    }

    fn add(&mut self, text: fmt::Arguments<'_>) {
        self.body.write_fmt(text).expect("a string takes all that is written");
    }
}

/// Round numbers from 0 to `end` or a little less, about `count` of them.
pub(crate) fn ticks(end: f64, count: f64) -> Vec<f64> {
    let raw = (end / count).max(f64::MIN_POSITIVE);
    let magnitude = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * magnitude).into_iter().find(|step| *step >= raw);
    let step = step.unwrap_or(raw);
    (0_u32..).map(|n| f64::from(n) * step).take_while(|tick| *tick <= end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_never_markup() {
        let mut page = Page::new("a <b> & \"c\"");
        page.verdict(false, "<script>");
        assert!(page.html().contains("<h1>a &lt;b&gt; &amp; &quot;c&quot;</h1>"));
        assert!(!page.html().contains("<script>"));
    }

    #[test]
    fn ticks_are_round_and_end_where_the_axis_does() {
        assert_eq!(ticks(70.0, 7.0), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0]);
        assert_eq!(ticks(0.9, 4.0), [0.0, 0.5]);
    }
}
