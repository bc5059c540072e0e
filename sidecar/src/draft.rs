//! An answer while the agent is giving it: shown to whoever asked as it grows, and kept in case it is cut short.

use colloquy_client::{AnswerStream, Client, ClientError, NOTES_MAX, Note, TEXT_MAX_BYTES};
use colloquy_protocol::ids::MessageId;

/// Shown until the agent has said something, or says what it is doing.
const THINKING: &str = "thinking";

/// The answer to one turn.
pub struct Draft {
    client: Client,
    turn_id: MessageId,
    shown: AnswerStream,
    text: String,
    notes: Vec<Note>,
}

impl Draft {
    /// Nothing has been said yet.
    pub(crate) async fn begin(client: Client, turn_id: MessageId) -> Result<Self, ClientError> {
        let shown = client.show_answer(turn_id).await?;
        shown.set_status(Some(THINKING));
        Ok(Self { client, turn_id, shown, text: String::new(), notes: Vec::new() })
    }

    /// What has been said so far.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Is it as long as one message can hold?
    pub(crate) fn is_full(&self) -> bool {
        self.text.len() > TEXT_MAX_BYTES
    }

    /// The agent writes to somebody else. Says whether it may.
    pub(crate) fn note(&mut self, note: Note) -> bool {
        let fits = self.notes.len() < NOTES_MAX && (1..=TEXT_MAX_BYTES).contains(&note.text.len());
        if fits {
            self.notes.push(note);
        }
        fits
    }

    /// What has been said, to whoever asked and to others.
    pub(crate) fn into_parts(self) -> (String, Vec<Note>) {
        (self.text, self.notes)
    }

    /// The notes so far.
    pub(crate) fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// The agent has said more.
    pub(crate) fn append(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if self.text.is_empty() {
            self.shown.set_status(None);
        }
        self.text.push_str(text);
        self.shown.append(text);
    }

    /// The agent says what it is doing.
    pub(crate) fn set_status(&self, status: &str) {
        self.shown.set_status(Some(status).filter(|status| !status.is_empty()));
    }

    /// The agent is asked again, from the beginning.
    pub(crate) async fn begin_again(&mut self) -> Result<(), ClientError> {
        self.notes.clear();
        // First: what was said is said again, also where it cannot be shown.
        if !std::mem::take(&mut self.text).is_empty() {
            self.shown = self.client.show_answer(self.turn_id).await?;
        }
        self.shown.set_status(Some(THINKING));
        Ok(())
    }
}
