//! An answer while the agent is giving it: shown to whoever asked as it grows, and kept in case it is cut short.

use colloquy_client::{
    ANSWER_MAX_BYTES, Answer, AnswerStream, Client, ClientError, NOTES_MAX, Note, TEXT_MAX_BYTES,
    WantedApproval,
};
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
    approval: Option<WantedApproval>,
}

impl Draft {
    /// Nothing has been said yet.
    pub(crate) async fn begin(client: Client, turn_id: MessageId) -> Result<Self, ClientError> {
        let shown = client.show_answer(turn_id).await?;
        shown.set_status(Some(THINKING));
        Ok(Self { client, turn_id, shown, text: String::new(), notes: Vec::new(), approval: None })
    }

    /// What has been said so far.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Is it longer than an answer may be?
    pub(crate) fn is_full(&self) -> bool {
        self.text.len() > ANSWER_MAX_BYTES
    }

    /// The agent writes to somebody else. Says whether it may.
    pub(crate) fn note(&mut self, note: Note) -> bool {
        let fits = self.notes.len() < NOTES_MAX && (1..=TEXT_MAX_BYTES).contains(&note.text.len());
        if fits {
            self.notes.push(note);
        }
        fits
    }

    /// The agent asks to be allowed something. Says whether it may ask: for one thing in one answer.
    pub(crate) fn ask_for(&mut self, wanted: WantedApproval) -> bool {
        // When it is asked changes nothing about whether it may be.
        let fits = self.approval.is_none() && wanted.made_at(0).is_some();
        if fits {
            self.approval = Some(wanted);
        }
        fits
    }

    /// What has been said, to whoever asked and to others. Who was stopped asks for nothing.
    pub(crate) fn into_parts(self) -> (String, Vec<Note>) {
        (self.text, self.notes)
    }

    /// The answer, with this text.
    pub(crate) fn complete(&mut self, text: String) -> Answer {
        let (notes, approval) = (std::mem::take(&mut self.notes), self.approval.take());
        Answer { notes, approval, ..text.into() }
    }

    /// The agent has said more.
    pub(crate) fn append(&mut self, text: &str) {
        if text.is_empty() || self.is_full() {
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
        self.approval = None;
        // First: what was said is said again, also where it cannot be shown.
        if !std::mem::take(&mut self.text).is_empty() {
            self.shown = self.client.show_answer(self.turn_id).await?;
        }
        self.shown.set_status(Some(THINKING));
        Ok(())
    }
}
