//! The text being written, and where in it the cursor stands.

use crate::crypto::plaintext::TEXT_MAX_BYTES;

/// An editable text, never longer than a message may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    text: String,
    /// A byte index; always between two characters.
    cursor: usize,
}

impl Line {
    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text left of the cursor.
    #[must_use]
    pub fn before_cursor(&self) -> &str {
        &self.text[..self.cursor]
    }

    /// Is there nothing?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Inserts `text` at the cursor; `false`, and nothing is inserted, if the whole would be too long.
    pub fn insert(&mut self, text: &str) -> bool {
        if self.text.len() + text.len() > TEXT_MAX_BYTES {
            return false;
        }
        self.text.insert_str(self.cursor, text);
        self.cursor += text.len();
        true
    }

    /// Removes the character left of the cursor.
    pub fn backspace(&mut self) {
        if let Some(last) = self.before_cursor().chars().next_back() {
            self.cursor -= last.len_utf8();
            self.text.remove(self.cursor);
        }
    }

    /// Removes the character right of the cursor.
    pub fn delete(&mut self) {
        if self.cursor < self.text.len() {
            self.text.remove(self.cursor);
        }
    }

    /// Removes the word left of the cursor.
    pub fn delete_word(&mut self) {
        let kept = self.before_cursor().trim_end();
        let start = kept.rfind(char::is_whitespace).map_or(0, |at| {
            let space = kept[at..].chars().next().map_or(1, char::len_utf8);
            at + space
        });
        self.text.replace_range(start..self.cursor, "");
        self.cursor = start;
    }

    /// Moves one character to the left.
    pub fn left(&mut self) {
        self.cursor -= self.before_cursor().chars().next_back().map_or(0, char::len_utf8);
    }

    /// Moves one character to the right.
    pub fn right(&mut self) {
        self.cursor += self.text[self.cursor..].chars().next().map_or(0, char::len_utf8);
    }

    /// Moves to the beginning.
    pub fn home(&mut self) {
        self.cursor = 0;
    }

    /// Moves to the end.
    pub fn end(&mut self) {
        self.cursor = self.text.len();
    }

    /// Empties it and returns what it was.
    pub fn take(&mut self) -> String {
        self.cursor = 0;
        std::mem::take(&mut self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_of_any_width_are_edited_whole() {
        let mut line = Line::default();
        assert!(line.insert("aé✓"));
        line.left();
        line.left();
        line.delete();
        assert_eq!((line.text(), line.before_cursor()), ("a✓", "a"));
        line.end();
        line.backspace();
        line.backspace();
        line.backspace();
        assert!(line.is_empty());
        line.left();
        line.right();
        line.delete();
        assert_eq!(line, Line::default());
    }

    #[test]
    fn the_word_left_of_the_cursor_is_deleted_with_the_spaces_behind_it() {
        let mut line = Line::default();
        line.insert("one two  ");
        line.delete_word();
        assert_eq!(line.text(), "one ");
        line.delete_word();
        line.delete_word();
        assert!(line.is_empty());
    }

    #[test]
    fn a_line_is_never_longer_than_a_message() {
        let mut line = Line::default();
        assert!(line.insert(&"x".repeat(TEXT_MAX_BYTES)));
        assert!(!line.insert("x"));
        assert_eq!(line.take().len(), TEXT_MAX_BYTES);
    }
}
