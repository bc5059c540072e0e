//! An answer in as many messages as it takes, where one cannot hold it. Pure.

use colloquy_client::{Answer, TEXT_MAX_BYTES};
use colloquy_protocol::limits::CONTINUATIONS_MAX;

/// What is said when an agent has answered with nothing.
const NOTHING_SAID: &str = "I have nothing to say to that.";
/// Stands at the end of an answer that was too long, or that the agent was told to stop.
pub(crate) const CUT: &str = "\n[…]";

/// An answer whose text stands in messages that can hold it; what it asks for is in the first, and is never cut.
pub(crate) fn fitting(mut answer: Answer) -> Answer {
    let asked = answer.approval.as_ref().map(|wanted| wanted.action.len() + wanted.arguments.len());
    if asked.is_none() && answer.text.trim().is_empty() {
        answer.text = NOTHING_SAID.to_owned();
    }
    let room = TEXT_MAX_BYTES - asked.unwrap_or_default();
    let mut rest = split(&mut answer.text, room);
    while !rest.is_empty() && answer.continuations.len() < usize::from(CONTINUATIONS_MAX) {
        let mut part = rest;
        rest = split(&mut part, TEXT_MAX_BYTES);
        answer.continuations.push(part);
    }
    if let Some(last) = answer.continuations.last_mut().filter(|_| !rest.is_empty()) {
        last.truncate(last.floor_char_boundary(TEXT_MAX_BYTES - CUT.len()));
        last.push_str(CUT);
    }
    answer
}

/// Leaves in `text` what fits, and returns the rest without the space between the two: at the last line's end, or else the last
/// space, of the second half of the room.
fn split(text: &mut String, room: usize) -> String {
    if text.len() <= room {
        return String::new();
    }
    let most = text.floor_char_boundary(room);
    let half = text.floor_char_boundary(room / 2);
    let late = &text[half..most];
    let at = late.rfind('\n').or_else(|| late.rfind(' ')).map_or(most, |place| half + place);
    let rest = text[at..].trim_start().to_owned();
    text.truncate(at);
    text.truncate(text.trim_end().len());
    rest
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use colloquy_client::{ACTION_MAX_BYTES, ANSWER_MAX_BYTES, ARGUMENTS_MAX_BYTES, WantedApproval};

    use super::*;

    #[test]
    fn an_answer_that_fits_stays_as_it_is_and_one_of_nothing_says_so() {
        assert_eq!(fitting("short".into()), "short".into());
        assert_eq!(fitting(" \n".into()).text, NOTHING_SAID);
        let full = "x".repeat(TEXT_MAX_BYTES);
        assert_eq!(fitting(full.clone().into()), full.into());
    }

    #[test]
    fn a_long_answer_goes_on_in_further_messages_at_the_ends_of_its_lines() {
        let line = format!("{}\n", "ä b ".repeat(100));
        let text = line.repeat(60);
        let answer = fitting(text.clone().into());
        assert!(answer.continuations.len() >= 2, "{}", answer.continuations.len());
        let parts: Vec<&String> = std::iter::once(&answer.text).chain(&answer.continuations).collect();
        assert!(parts.iter().all(|part| part.len() <= TEXT_MAX_BYTES));
        // Nothing is lost but the spaces where it was split.
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(parts.iter().flat_map(|part| words(part)).collect::<Vec<_>>(), words(&text));
        assert!(parts.iter().all(|part| part.lines().all(|its| its.trim_end() == line.trim_end())));
    }

    #[test]
    fn what_no_message_can_hold_is_cut_between_characters() {
        let answer = fitting("ä".repeat(ANSWER_MAX_BYTES).into());
        assert_eq!(answer.continuations.len(), usize::from(CONTINUATIONS_MAX));
        let last = answer.continuations.last().unwrap();
        assert!(last.len() <= TEXT_MAX_BYTES && last.ends_with(CUT));
        assert!(last.len() > TEXT_MAX_BYTES - CUT.len() - 2);
    }

    #[test]
    fn beside_a_request_there_need_be_no_text_and_is_less_room_for_one() {
        let arguments = format!(r#"{{"a":"{}"}}"#, "x".repeat(ARGUMENTS_MAX_BYTES - 8));
        let good_for = Duration::from_secs(1);
        let wanted = WantedApproval { action: "a".repeat(ACTION_MAX_BYTES), arguments, good_for };
        let asking = |text: &str| Answer { approval: Some(wanted.clone()), ..text.into() };
        assert_eq!(fitting(asking("")), asking(""));
        let long = fitting(asking(&"x".repeat(TEXT_MAX_BYTES)));
        let room = TEXT_MAX_BYTES - ACTION_MAX_BYTES - ARGUMENTS_MAX_BYTES;
        assert_eq!((long.text.len(), long.continuations.len()), (room, 1));
        assert_eq!(long.approval, Some(wanted));
    }
}
