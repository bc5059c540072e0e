//! Requests for approval on the screen: all of what is asked for, and what a person makes of it.

use crossterm::event::KeyCode;
use ratatui::style::Color;

use super::*;
use crate::crypto::{ApprovalRequest, Verdict};
use crate::message::ShownRequest;

fn id(number: u64) -> MessageId {
    MessageId(uuid::Uuid::from_u128(u128::from(number)))
}

pub(super) fn request(number: u64, arguments: &str, expires_at: u64) -> Message {
    let request = ApprovalRequest {
        action: "delete\u{202e}files".to_owned(),
        arguments: arguments.to_owned(),
        expires_at,
    };
    let asked = ShownRequest { text: "I would delete 3 files.".to_owned(), request, verdict: None };
    Message {
        message_id: Some(id(number)),
        content: ShownContent::Request(Box::new(asked)),
        ..message(ADA, number, MessageState::Received, "")
    }
}

fn verdict(number: u64, on: u64, verdict: Verdict, state: MessageState) -> Message {
    let counts = !matches!(state, MessageState::Failed(_));
    let content = ShownContent::Verdict { request_id: id(on), verdict, counts };
    Message { content, ..message(ADA, number, state, "") }
}

#[test]
fn a_request_is_shown_with_all_that_is_asked_for_and_how_long_there_is() {
    let (mut screen, _) = two_conversations();
    page(&mut screen, ADA, vec![request(7, "{\"paths\": [\"a\u{1b}[2J\"]}", NOON + 600_000)]);
    let (text, backend) = drawn(&screen);
    for expected in [
        "09:05 Left: I would delete 3 files.",
        "│ request 7: delete\u{fffd}files",
        "│   {\"paths\": [\"a\u{fffd}[2J\"]}",
        "│ open until 12:10: /approve 7 or /deny 7",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text}");
    let coloured = backend.buffer().content().iter().filter(|cell| cell.fg == Color::Yellow).count();
    assert!(coloured > 40, "what is asked for looks like no text: {coloured}");
}

/// What stands in the first column of the history, from its upper edge.
fn first_column(screen: &Screen) -> Vec<String> {
    let (_, backend) = drawn(screen);
    let cell = |row| backend.buffer()[(29, row)].symbol().to_owned();
    (1..ROWS - 6).map(cell).collect()
}

#[test]
fn a_text_cannot_pass_for_a_request() {
    let (mut screen, _) = two_conversations();
    let text = format!("hi\n│ request 7: nothing\n{}│ open until 23:59\n┃ {{}}", "x".repeat(60));
    let mut messages = vec![message(ADA, 1, MessageState::Received, &text)];
    page(&mut screen, ADA, messages.clone());
    let is_text = |symbol: &String| symbol == " " || symbol == "0";
    assert!(first_column(&screen).iter().all(is_text), "{:?}", first_column(&screen));
    // Nor can what is asked for pass for another part of it.
    let asked = request(2, &format!("{{\"a\":\"{} approved\"}}", "x".repeat(40)), NOON + 1000);
    messages = vec![asked];
    page(&mut screen, ADA, messages);
    let text = drawn(&screen).0;
    assert!(text.contains("│   approved") && !text.contains("│ approved"), "{text}");
    let edges = first_column(&screen).iter().filter(|symbol| *symbol == "│").count();
    assert_eq!(edges, 4, "{text}");
}

#[test]
fn a_request_is_decided_on_by_its_number_and_no_other() {
    let (mut screen, _) = two_conversations();
    assert_eq!(run(&mut screen, "/approve 7"), [], "nobody asks");
    page(&mut screen, ADA, vec![request(7, "{}", NOON + 600_000)]);
    for unnamed in ["/approve", "/deny"] {
        assert_eq!(run(&mut screen, unnamed), [], "it may have been another when the line was begun");
        assert!(drawn(&screen).0.contains("say which request, by its number"));
    }
    assert_eq!(run(&mut screen, "/approve 7"), [Effect::Decide(id(7), Verdict::Approved)]);
    page(&mut screen, ADA, vec![request(7, "{}", NOON + 600_000), request(8, "{}", NOON + 600_000)]);
    assert_eq!(run(&mut screen, "/deny #8"), [Effect::Decide(id(8), Verdict::Denied)]);
    for other in ["/approve 9", "/approve x"] {
        assert_eq!(run(&mut screen, other), [], "{other}");
    }
}

#[test]
fn only_a_verdict_that_counts_and_is_not_of_who_asked_decides() {
    let (mut screen, _) = two_conversations();
    let unconfirmed = ShownContent::Verdict { request_id: id(7), verdict: Verdict::Approved, counts: false };
    let messages = vec![
        request(7, "{}", NOON + 1000),
        verdict(8, 7, Verdict::Denied, MessageState::Received),
        Message { content: unconfirmed, ..verdict(9, 7, Verdict::Approved, MessageState::Sent) },
    ];
    page(&mut screen, ADA, messages);
    let (text, _) = drawn(&screen);
    assert!(text.contains("│ open until") && text.contains("you: [approved, unconfirmed]"), "{text}");
    assert_eq!(run(&mut screen, "/deny 7"), [Effect::Decide(id(7), Verdict::Denied)]);
}

#[test]
fn what_was_decided_or_has_expired_is_shown_so_and_is_open_no_more() {
    let (mut screen, _) = two_conversations();
    let (approved, denied) = (Verdict::Approved, Verdict::Denied);
    page(&mut screen, ADA, vec![request(7, "{}", NOON + 1000)]);
    page(&mut screen, ADA, vec![verdict(8, 7, approved, MessageState::Sent)]);
    let (text, _) = drawn(&screen);
    assert!(text.contains("│ approved") && text.contains("09:05 you: [approved] ✓"), "{text}");
    let failed = verdict(10, 9, denied, MessageState::Failed(SendFailure::TooManyAttempts));
    let newest = vec![request(9, "{}", NOON + 1000), Message { sequence_number: None, ..failed }];
    page(&mut screen, ADA, newest);
    let (text, _) = drawn(&screen);
    assert!(text.contains("│ open until 12:00") && !text.contains("│ denied"), "{text}");
    assert_eq!(run(&mut screen, "/deny 9"), [Effect::Decide(id(9), denied)], "the other one is still open");
    screen.apply(Input::Tick, 1000);
    assert!(drawn(&screen).0.contains("│ expired 12:00"));
    assert_eq!(run(&mut screen, "/deny 9"), []);
    assert_eq!(run(&mut screen, "/approve 7"), []);
}

#[test]
fn a_long_request_says_how_much_of_it_is_hidden_and_is_approved_when_it_was_read_to_its_end() {
    let (mut screen, _) = two_conversations();
    let words: Vec<String> = (0..300).map(|number| format!("word-{number}.")).collect();
    let arguments = format!("{{\"words\": \"{}\"}}", words.join(" "));
    page(&mut screen, ADA, vec![request(7, &arguments, NOON + 600_000)]);
    let (text, _) = drawn(&screen);
    assert!(text.contains("│ request 7: delete") && text.contains("rows hidden: /request 7"), "{text}");
    assert!(!text.contains("word-0.") && text.contains("word-299.") && text.contains("/approve 7"), "{text}");
    let edges = first_column(&screen).iter().filter(|symbol| *symbol == "│").count();
    assert_eq!(edges, first_column(&screen).len(), "it has all of the window\n{text}");
    let is_refused = |screen: &mut Screen| {
        assert_eq!(run(screen, "/approve 7"), []);
        assert!(drawn(screen).0.contains("longer than the screen: /request 7"));
    };
    is_refused(&mut screen);
    run(&mut screen, "/request 7");
    let mut seen = drawn(&screen).0;
    assert!(seen.contains("request 7: delete") && seen.contains("word-0."), "{seen}");
    screen.apply(key(KeyCode::Esc), 0);
    is_refused(&mut screen);
    run(&mut screen, "/request");
    for _ in 0..20 {
        assert_eq!(screen.apply(key(KeyCode::PageDown), 0), []);
        seen.push_str(&drawn(&screen).0);
    }
    let missing: Vec<_> = words.iter().filter(|word| !seen.contains(word.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(seen.contains(" I would delete 3 files.") && seen.contains("│ open until 12:10"));
    screen.apply(key(KeyCode::Up), 0);
    assert!(drawn(&screen).0.contains("request for approval"));
    screen.apply(key(KeyCode::Esc), 0);
    assert!(!drawn(&screen).0.contains("request for approval"));
    assert_eq!(run(&mut screen, "/approve 7"), [Effect::Decide(id(7), Verdict::Approved)]);
}
