//! Turns that something newer was written after, if that is a person's. Pure.
//!
//! The server cannot tell what a person writes from what clients tell each other by themselves, such as when they ask for a message
//! again. That interrupts nothing; what a person has written is here soon, if it is not yet.

use colloquy_client::{Message, ShownContent};
use colloquy_protocol::frame::delta::TurnPlace;
use colloquy_protocol::ids::{ConversationId, MessageId};

use crate::noted::Noted;

/// What the server has said of such turns.
#[derive(Debug, Default)]
pub(crate) struct Interrupted(Noted);

impl Interrupted {
    /// Something newer than this turn's question was written.
    pub(crate) fn note(&mut self, turn: TurnPlace) {
        self.0.note(turn);
    }

    /// Is there none?
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes out those of the turns that can be stopped now which a person has written something after. `newest` are a
    /// conversation's last messages, oldest first. The others stay: a turn whose question is not here yet, or waits for something,
    /// can be stopped later.
    pub(crate) fn superseded(
        &mut self,
        is_open: impl Fn(MessageId) -> bool,
        newest: impl Fn(ConversationId) -> Vec<Message>,
    ) -> Vec<TurnPlace> {
        self.0.take_if(|turn| {
            is_open(turn.turn_id) && is_superseded(&newest(turn.conversation_id), turn.turn_id)
        })
    }
}

/// Has somebody else written something after this message? Where it is further back, all of `newest` came after it.
fn is_superseded(newest: &[Message], question: MessageId) -> bool {
    let at = newest.iter().position(|message| message.message_id == Some(question));
    let is_for_us = |message: &Message| {
        !message.is_own && matches!(message.content, ShownContent::Text(_) | ShownContent::Verdict { .. })
    };
    newest[at.map_or(0, |at| at + 1)..].iter().any(is_for_us)
}

#[cfg(test)]
mod tests {
    use colloquy_client::DecryptionFailure;
    use colloquy_protocol::ids::UserId;

    use super::*;
    use crate::noted::NOTED_MAX;
    use crate::test_message::{AGENT, PERSON, message_id, test_message};

    fn turn(number: u64) -> TurnPlace {
        TurnPlace { conversation_id: ConversationId::of_pair(AGENT, PERSON), turn_id: message_id(number) }
    }

    fn said(number: u64, by: UserId) -> Message {
        test_message(number, by, ShownContent::Text("something".into()))
    }

    fn unreadable(number: u64) -> Message {
        test_message(number, PERSON, ShownContent::Undecryptable(DecryptionFailure::UnknownSession))
    }

    #[test]
    fn only_what_a_person_has_written_after_a_question_interrupts_its_answer() {
        let question = said(5, PERSON);
        assert!(is_superseded(&[said(4, PERSON), question.clone(), said(6, PERSON)], message_id(5)));
        for newest in [
            vec![question.clone()],
            vec![said(3, PERSON), said(4, PERSON), question.clone()],
            vec![question, said(6, AGENT), unreadable(7)],
        ] {
            assert!(!is_superseded(&newest, message_id(5)), "{newest:?}");
        }
        assert!(is_superseded(&[said(60, PERSON), said(61, AGENT)], message_id(5)), "it is further back");
        assert!(!is_superseded(&[], message_id(5)));
    }

    #[test]
    fn a_turn_that_cannot_be_stopped_yet_is_stopped_later() {
        let mut interrupted = Interrupted::default();
        interrupted.note(turn(5));
        interrupted.note(turn(5));
        let newest = |_| vec![said(5, PERSON), said(6, PERSON)];
        assert!(interrupted.superseded(|_| false, newest).is_empty(), "its question is not here yet");
        assert!(
            interrupted.superseded(|_| true, |_| vec![said(5, PERSON)]).is_empty(),
            "nor is what is newer"
        );
        assert_eq!(interrupted.superseded(|_| true, newest), [turn(5)]);
        assert!(interrupted.superseded(|_| true, newest).is_empty(), "once");
    }

    #[test]
    fn the_newest_are_remembered() {
        let mut interrupted = Interrupted::default();
        (0..=NOTED_MAX as u64).for_each(|number| interrupted.note(turn(number)));
        let over = interrupted.superseded(|_| true, |_| vec![said(0, PERSON), said(5_000, PERSON)]);
        assert_eq!((over.len(), over.first()), (NOTED_MAX, Some(&turn(1))));
    }
}
