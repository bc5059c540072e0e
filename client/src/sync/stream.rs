//! Answers while they are being written, at both ends: what of a draft is to be told next, and what is known of one. Pieces say
//! where they belong, so it does not matter which are lost, doubled or late: what is missing is asked for, and told again from
//! the beginning.

use colloquy_protocol::ids::StreamId;
use colloquy_protocol::limits::{STREAM_INTERVAL, STREAM_TTL};

use crate::crypto::plaintext::ANSWER_MAX_BYTES;
use crate::crypto::stream::{PIECE_MAX_BYTES, Piece};

/// [`STREAM_INTERVAL`], ms.
const INTERVAL_MS: u64 = STREAM_INTERVAL.as_millis() as u64;
/// [`STREAM_TTL`], ms.
const TTL_MS: u64 = STREAM_TTL.as_millis() as u64;
/// Before what is missing is asked for again, ms.
const ASK_AGAIN_MS: u64 = 1_000;

/// What has been told of a draft.
#[derive(Debug, Default)]
pub struct Telling {
    /// The number of the last piece.
    sequence: u64,
    /// Bytes of the text that have been told.
    told: usize,
    status: Option<String>,
    told_at: Option<u64>,
}

impl Telling {
    /// The next piece of a draft, and its number, if there is something to tell.
    pub fn next(&mut self, text: &str, status: Option<&str>, now: u64) -> Option<(u64, Piece)> {
        // A draft only grows; one that did not would begin anew.
        if !text.is_char_boundary(self.told.min(text.len())) || self.told > text.len() {
            self.told = 0;
        }
        let is_news = self.told < text.len() || self.status.as_deref() != status;
        let is_due = self.told_at.is_none_or(|at| now.saturating_sub(at) >= INTERVAL_MS);
        if !is_news && !is_due {
            return None;
        }
        let rest = &text[self.told..];
        let added = &rest[..rest.floor_char_boundary(PIECE_MAX_BYTES)];
        let offset = u64::try_from(self.told).unwrap_or(u64::MAX);
        let piece = Piece { offset, text: added.to_owned(), status: status.map(str::to_owned) };
        self.told += added.len();
        self.status.clone_from(&piece.status);
        self.told_at = Some(now);
        self.sequence += 1;
        Some((self.sequence, piece))
    }

    /// Somebody lacks the beginning.
    pub fn again(&mut self) {
        self.told = 0;
    }
}

/// What is known of an answer that somebody else is writing.
#[derive(Debug)]
pub struct Hearing {
    stream_id: StreamId,
    /// The highest number heard.
    sequence: u64,
    text: String,
    status: Option<String>,
    heard_at: u64,
    asked_at: Option<u64>,
}

/// What a piece has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// More is known than before.
    News,
    /// The same as before.
    Nothing,
    /// What comes before it is missing, and is to be asked for.
    Missing,
}

impl Hearing {
    /// Nothing is known yet of this try at an answer.
    #[must_use]
    pub fn begin(stream_id: StreamId, now: u64) -> Self {
        Self { stream_id, sequence: 0, text: String::new(), status: None, heard_at: now, asked_at: None }
    }

    /// Which try this is.
    #[must_use]
    pub fn stream_id(&self) -> StreamId {
        self.stream_id
    }

    /// What has been written, from the beginning without a hole.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What the agent says it is doing.
    #[must_use]
    pub fn status(&self) -> Option<&str> {
        self.status.as_deref()
    }

    /// Takes a piece in.
    pub fn take(&mut self, sequence: u64, piece: &Piece, now: u64) -> Heard {
        self.heard_at = now;
        let mut heard = Heard::Nothing;
        if sequence > self.sequence {
            self.sequence = sequence;
            if self.status != piece.status {
                self.status.clone_from(&piece.status);
                heard = Heard::News;
            }
        }
        let Some(known) = usize::try_from(piece.offset).ok().and_then(|at| self.text.len().checked_sub(at))
        else {
            let is_asked = self.asked_at.is_some_and(|at| now.saturating_sub(at) < ASK_AGAIN_MS);
            if is_asked {
                return heard;
            }
            self.asked_at = Some(now);
            return Heard::Missing;
        };
        if let Some(added) = piece.text.get(known..).filter(|added| !added.is_empty()) {
            let room = ANSWER_MAX_BYTES.saturating_sub(self.text.len());
            self.text.push_str(&added[..added.floor_char_boundary(room)]);
            heard = Heard::News;
        }
        heard
    }

    /// Has nothing been heard for so long that whoever wrote has stopped?
    #[must_use]
    pub fn is_over(&self, now: u64) -> bool {
        now.saturating_sub(self.heard_at) >= TTL_MS
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn hearing() -> Hearing {
        Hearing::begin(StreamId(Uuid::from_u128(1)), 0)
    }

    #[test]
    fn a_draft_is_told_as_it_grows_and_now_and_then_that_it_goes_on() {
        let mut telling = Telling::default();
        let (number, first) = telling.next("", Some("thinking"), 0).unwrap();
        assert_eq!((number, first.offset, first.text.as_str()), (1, 0, ""));
        assert_eq!(first.status.as_deref(), Some("thinking"));
        assert_eq!(telling.next("", Some("thinking"), INTERVAL_MS - 1), None);
        let (number, piece) = telling.next("one", None, INTERVAL_MS - 1).unwrap();
        assert_eq!((number, piece.offset, piece.text.as_str(), piece.status), (2, 0, "one", None));
        let (_, piece) = telling.next("one two", None, INTERVAL_MS).unwrap();
        assert_eq!((piece.offset, piece.text.as_str()), (3, " two"));
        assert_eq!(telling.next("one two", None, INTERVAL_MS + 1), None);
        let (number, piece) = telling.next("one two", None, 2 * INTERVAL_MS).unwrap();
        assert_eq!((number, piece.offset, piece.text.as_str()), (4, 7, ""));
    }

    #[test]
    fn who_comes_late_asks_once_and_hears_all_of_it() {
        let (mut telling, mut hearing) = (Telling::default(), hearing());
        telling.next("one ", None, 0).unwrap();
        let (number, piece) = telling.next("one two ", None, 10).unwrap();
        assert_eq!(hearing.take(number, &piece, 10), Heard::Missing);
        assert_eq!(hearing.take(number, &piece, 20), Heard::Nothing, "it is asked for already");
        telling.again();
        let (number, piece) = telling.next("one two three", None, 30).unwrap();
        assert_eq!(hearing.take(number, &piece, 30), Heard::News);
        assert_eq!(hearing.text(), "one two three");
        assert_eq!(hearing.take(number, &piece, 40), Heard::Nothing, "it came twice");
        assert!(!hearing.is_over(40 + TTL_MS - 1) && hearing.is_over(40 + TTL_MS));
    }

    #[test]
    fn a_long_draft_is_told_in_pieces_and_cut_between_characters() {
        let text = "ä".repeat(ANSWER_MAX_BYTES);
        let (mut telling, mut hearing) = (Telling::default(), hearing());
        while let Some((number, piece)) = telling.next(&text, None, 0) {
            assert!(piece.text.len() <= PIECE_MAX_BYTES);
            hearing.take(number, &piece, 0);
        }
        assert_eq!(hearing.text().len(), ANSWER_MAX_BYTES);
        assert!(text.starts_with(hearing.text()));
    }

    proptest! {
        /// Whatever becomes of the pieces on their way, what is known is a beginning of what was written; and in the end all
        /// of it, once one that was asked for has come.
        #[test]
        fn what_is_heard_is_always_a_beginning_of_what_was_written(
            words in proptest::collection::vec("[a-zäß ]{1,12}", 1..20),
            fates in proptest::collection::vec(0_u8..5, 40),
        ) {
            let (mut telling, mut hearing) = (Telling::default(), hearing());
            let (mut text, mut kept, mut now) = (String::new(), Vec::new(), 0);
            let mut fates = fates.into_iter().cycle();
            for word in &words {
                text.push_str(word);
                now += 100;
                let Some((number, piece)) = telling.next(&text, None, now) else { continue };
                let mut came = match fates.next() {
                    Some(0) => Vec::new(),
                    Some(1) => { kept.push((number, piece)); Vec::new() }
                    Some(2) => vec![(number, piece.clone()), (number, piece)],
                    Some(3) => { let mut late = std::mem::take(&mut kept); late.push((number, piece)); late }
                    _ => vec![(number, piece)],
                };
                for (number, piece) in came.drain(..) {
                    if hearing.take(number, &piece, now) == Heard::Missing && fates.next() != Some(0) {
                        telling.again();
                    }
                    prop_assert!(text.starts_with(hearing.text()));
                }
            }
            telling.again();
            while let Some((number, piece)) = telling.next(&text, None, now) {
                hearing.take(number, &piece, now);
            }
            prop_assert_eq!(hearing.text(), text);
        }
    }
}
