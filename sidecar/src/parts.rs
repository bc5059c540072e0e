//! An answer in as many messages as it takes, where one cannot hold it. Pure.

use colloquy_client::{Answer, WantedApproval};
use colloquy_protocol::limits::CONTINUATIONS_MAX;

/// What is said when an agent has answered with nothing.
const NOTHING_SAID: &str = "I have nothing to say to that.";
/// What is said when an agent wants to ask for more than a message to all these devices can hold. Of what it has done before, it
/// may say something as well.
const TOO_LONG_TO_ASK: &str = "I would have to ask for your consent, but that is too long for a message to all of your devices. \
                               What I wanted to ask for I have not done.";
/// Stands at the end of an answer that was too long, or that the agent was told to stop.
pub(crate) const CUT: &str = "\n[…]";

/// An answer whose text stands in messages of at most `room` bytes each; what it asks for is in the first, and is never cut: where
/// there is no room for it, nothing is asked for.
pub(crate) fn fitting(mut answer: Answer, room: usize) -> Answer {
    let length = |wanted: &WantedApproval| wanted.action.len() + wanted.arguments.len();
    if answer.approval.take_if(|wanted| length(wanted) > room).is_some() {
        answer.text = format!("{TOO_LONG_TO_ASK}\n\n{}", answer.text).trim_end().to_owned();
    }
    let asked = answer.approval.as_ref().map(length);
    if asked.is_none() && answer.text.trim().is_empty() {
        answer.text = NOTHING_SAID.to_owned();
    }
    let first = room.saturating_sub(asked.unwrap_or_default());
    if answer.text.len() <= first {
        return answer;
    }
    let text = std::mem::take(&mut answer.text);
    let mut rest = text.trim_end();
    if asked.is_some() {
        answer.text = next(&mut rest, first, room, CONTINUATIONS_MAX).to_owned();
    }
    let mut parts = Vec::new();
    let most = usize::from(CONTINUATIONS_MAX) + usize::from(asked.is_none());
    while !rest.is_empty() && parts.len() < most {
        let left = u8::try_from(most - parts.len() - 1).unwrap_or(0);
        let part = next(&mut rest, room, room, left);
        // Blank lines are no message.
        if !part.trim().is_empty() {
            parts.push(part.to_owned());
        }
    }
    if let Some(last) = parts.last_mut().filter(|_| !rest.is_empty()) {
        // It was cut before, if only by a byte.
        last.push_str(CUT);
        cut(last, room);
    }
    let mut parts = parts.into_iter();
    if asked.is_none() {
        answer.text = parts.next().unwrap_or_else(|| NOTHING_SAID.to_owned());
    }
    answer.continuations = parts.collect();
    answer
}

/// Leaves of a text what `room` bytes hold, and says so at its end.
pub(crate) fn cut(text: &mut String, room: usize) {
    if text.len() > room {
        text.truncate(text.floor_char_boundary(room.saturating_sub(CUT.len())));
        text.push_str(CUT);
    }
}

/// Takes the next part of at most `room` bytes off `rest`: up to the last line's end, or else the last space, of its second half.
/// Where that would leave more than `left` parts of `full` bytes can hold, it is as long as it can be.
fn next<'a>(rest: &mut &'a str, room: usize, full: usize, left: u8) -> &'a str {
    if rest.len() <= room {
        return std::mem::take(rest);
    }
    let most = rest.floor_char_boundary(room);
    let least = (room / 2).max(rest.len().saturating_sub(usize::from(left) * full));
    let late = &rest[rest.ceil_char_boundary(least).min(most)..most];
    let place = late.rfind('\n').or_else(|| late.rfind(' '));
    let at = place.map_or(most, |place| most - late.len() + place);
    let (part, after) = rest.split_at(at);
    // A line keeps what it is indented by.
    *rest = match (after.starts_with('\n'), place) {
        (true, _) => after.trim_start_matches(['\r', '\n']),
        (false, Some(_)) => after.trim_start_matches(' '),
        (false, None) => after,
    };
    part.trim_end()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use colloquy_client::{ACTION_MAX_BYTES, ANSWER_MAX_BYTES, ARGUMENTS_MAX_BYTES, TEXT_MAX_BYTES};

    use super::*;

    fn fit(text: impl Into<String>) -> Answer {
        fitting(text.into().into(), TEXT_MAX_BYTES)
    }

    fn parts(answer: &Answer) -> Vec<&str> {
        std::iter::once(&answer.text).chain(&answer.continuations).map(String::as_str).collect()
    }

    #[test]
    fn an_answer_that_fits_stays_as_it_is_and_one_of_nothing_says_so() {
        assert_eq!(fit("  short\n"), "  short\n".into());
        assert_eq!(fit(" \n".repeat(TEXT_MAX_BYTES)).text, NOTHING_SAID);
        let full = "x".repeat(TEXT_MAX_BYTES);
        assert_eq!(fit(full.clone()), full.into());
    }

    #[test]
    fn a_long_answer_goes_on_in_further_messages_at_the_ends_of_its_lines() {
        let line = format!("    {}\n", "ä b ".repeat(100).trim_end());
        let answer = fit(line.repeat(60));
        let parts = parts(&answer);
        assert!(parts.len() > 2, "{}", parts.len());
        assert!(parts.iter().all(|part| part.len() <= TEXT_MAX_BYTES));
        assert_eq!(format!("{}\n", parts.join("\n")), line.repeat(60), "with what each line is indented by");
    }

    #[test]
    fn as_much_is_said_as_an_answer_may_hold_however_its_lines_are_long() {
        for length in [1_000, 4_200, 8_000, 50_000] {
            let line = format!("{}\n", "y".repeat(length - 1));
            let mut text = line.repeat(ANSWER_MAX_BYTES / length + 1);
            text.truncate(ANSWER_MAX_BYTES);
            let answer = fit(text.clone());
            let said = parts(&answer).concat();
            assert!(said.replace('\n', "") == text.replace('\n', ""), "{length}: {}", said.len());
        }
    }

    #[test]
    fn blank_lines_are_no_message_wherever_they_are() {
        let blank = "\n".repeat(TEXT_MAX_BYTES + 1);
        assert_eq!(fit(format!("{blank}said{blank}")), "said".into());
        let answer = fit(format!("{}{blank}{blank}said", "x".repeat(TEXT_MAX_BYTES)));
        assert_eq!(parts(&answer), [&"x".repeat(TEXT_MAX_BYTES), "said"]);
        let answer = fit(format!("{}\n\nsaid", "x".repeat(TEXT_MAX_BYTES)));
        assert_eq!(parts(&answer), [&"x".repeat(TEXT_MAX_BYTES), "said"]);
    }

    #[test]
    fn what_no_answer_can_hold_is_cut_between_characters() {
        let answer = fit("ä".repeat(ANSWER_MAX_BYTES));
        assert_eq!(answer.continuations.len(), usize::from(CONTINUATIONS_MAX));
        let last = answer.continuations.last().unwrap();
        assert!(last.len() <= TEXT_MAX_BYTES && last.ends_with(CUT));
        assert!(last.len() > TEXT_MAX_BYTES - CUT.len() - 2);
        let small = fitting("ä".repeat(TEXT_MAX_BYTES).into(), 801);
        assert!(parts(&small).iter().all(|part| part.len() <= 801));
        assert_eq!(small.continuations.len(), usize::from(CONTINUATIONS_MAX));
    }

    #[test]
    fn beside_a_request_there_need_be_no_text_and_is_less_room_for_one() {
        let arguments = format!(r#"{{"a":"{}"}}"#, "x".repeat(ARGUMENTS_MAX_BYTES - 8));
        let good_for = Duration::from_secs(1);
        let wanted = WantedApproval { action: "a".repeat(ACTION_MAX_BYTES), arguments, good_for };
        let asking = |text: &str| Answer { approval: Some(wanted.clone()), ..text.into() };
        assert_eq!(fitting(asking(""), TEXT_MAX_BYTES), asking(""));
        let long = fitting(asking(&"x".repeat(TEXT_MAX_BYTES)), TEXT_MAX_BYTES);
        let room = TEXT_MAX_BYTES - ACTION_MAX_BYTES - ARGUMENTS_MAX_BYTES;
        assert_eq!((long.text.len(), long.continuations.len()), (room, 1));
        assert_eq!(long.approval, Some(wanted.clone()));
        let just = ACTION_MAX_BYTES + ARGUMENTS_MAX_BYTES;
        let beside = fitting(asking("all of it"), just);
        assert_eq!((beside.text.as_str(), &beside.continuations[..]), ("", &["all of it".to_owned()][..]));
        assert_eq!(fitting(asking(""), just - 1), TOO_LONG_TO_ASK.into());
        let done = fitting(asking("the first is paid"), just - 1);
        assert_eq!(done, format!("{TOO_LONG_TO_ASK}\n\nthe first is paid").into(), "what is done is done");
    }
}
