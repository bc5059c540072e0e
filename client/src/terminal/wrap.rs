//! Text broken into lines of a given width. What others wrote is made harmless first.

use ratatui::text::Span;

/// Stands for a character that could move the cursor, turn the text around, or be there unseen.
const REPLACEMENT: char = '\u{fffd}';

/// `text` without anything a terminal, or the eye, could be deceived by. Line breaks stay.
#[must_use]
pub fn harmless(text: &str) -> String {
    let replace = |c: char| match c {
        '\n' => '\n',
        '\t' => ' ',
        // Overrides, isolates and marks of the direction: they can make a text read as another one.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}' => REPLACEMENT,
        // What breaks lines elsewhere, or cannot be seen: two texts could look the same.
        '\u{200b}'..='\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{2065}' => REPLACEMENT,
        '\u{ad}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}' => REPLACEMENT,
        c if c.is_control() => REPLACEMENT,
        c => c,
    };
    text.replace("\r\n", "\n").chars().map(replace).collect()
}

/// Columns a text takes.
#[must_use]
pub fn columns(text: &str) -> usize {
    Span::raw(text).width()
}

/// Breaks `text` at spaces, and inside a word that is longer than a line. `width` is at least 1.
#[must_use]
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        let mut used = 0;
        for word in paragraph.split_inclusive(' ') {
            let bare = columns(word.trim_end_matches(' '));
            if used > 0 && used + bare > width {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            for c in word.chars() {
                let wide = columns(c.encode_utf8(&mut [0; 4]));
                if used > 0 && used + wide > width {
                    lines.push(std::mem::take(&mut line));
                    used = 0;
                    if c == ' ' {
                        continue;
                    }
                }
                line.push(c);
                used += wide;
            }
        }
        lines.push(line);
    }
    for line in &mut lines {
        line.truncate(line.trim_end_matches(' ').len());
    }
    lines
}

/// As [`wrap`], but with a space before every line except the first: nothing that somebody writes stands in the first column.
#[must_use]
pub fn wrap_indented(text: &str, width: usize) -> Vec<String> {
    let mut lines = wrap(text, width.saturating_sub(1));
    lines.iter_mut().skip(1).for_each(|line| line.insert(0, ' '));
    lines
}

/// The end of `text` that fits into `width` columns: what is seen of a line while it is written.
#[must_use]
pub fn tail(text: &str, width: usize) -> &str {
    let mut used = 0;
    let mut start = text.len();
    for (at, c) in text.char_indices().rev() {
        used += columns(c.encode_utf8(&mut [0; 4]));
        if used > width {
            break;
        }
        start = at;
    }
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_breaks_at_spaces_and_inside_long_words() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("a\n\nb", 4), ["a", "", "b"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(wrap("你好吗", 4), ["你好", "吗"]);
        assert_eq!(wrap("abcd efgh", 4), ["abcd", "efgh"]);
    }

    #[test]
    fn nothing_another_user_writes_reaches_the_terminal_as_a_command() {
        assert_eq!(harmless("a\u{1b}[2Jb\rc\u{202e}d\te\nf"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d e\nf");
    }

    #[test]
    fn nothing_is_there_unseen() {
        for hidden in [
            '\u{ad}',
            '\u{61c}',
            '\u{200b}',
            '\u{200d}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{2060}',
            '\u{feff}',
            '\u{e0000}',
            '\u{e0041}',
            '\u{e007f}',
        ] {
            assert_eq!(harmless(&format!("a{hidden}b")), "a\u{fffd}b", "{}", hidden.escape_unicode());
        }
        assert_eq!(harmless("é 你 \u{1f600}"), "é 你 \u{1f600}");
    }

    #[test]
    fn only_the_first_line_of_a_text_begins_in_the_first_column() {
        assert_eq!(wrap_indented("one\n│ two three", 8), ["one", " │ two", " three"]);
    }

    #[test]
    fn the_end_of_a_long_line_is_what_is_seen() {
        assert_eq!(tail("abcdef", 3), "def");
        assert_eq!(tail("ab", 3), "ab");
        assert_eq!(tail("你好", 3), "好");
    }
}
