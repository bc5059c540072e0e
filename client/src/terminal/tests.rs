//! The screen, without a terminal and without a client.

mod requests;

use std::time::Duration;

use colloquy_protocol::frame::{PresenceStatus, TypingState};
use colloquy_protocol::ids::{ConversationId, DeviceId, MessageId, UserId};
use colloquy_protocol::rest::accounts::UserCard;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use jiff::tz::TimeZone;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

use self::requests::request;
use super::calendar::Calendar;
use super::screen::{Effect, Found, Input, Screen};
use crate::api::accounts::UserQuery;
use crate::event::{DisconnectReason, Event, GrowingAnswer};
use crate::message::{ConversationSummary, Message, MessageState, ShownContent};
use crate::store::{LocalMessageId, SendFailure};

const OWN: u8 = 1;
const ADA: u8 = 2;
const BOB: u8 = 3;
/// When the screen is made, on the day of every message.
const NOON: u64 = 12 * 3_600_000;
const DAY: u64 = 24 * 3_600_000;
/// How large the screen is.
const COLUMNS: u16 = 80;
const ROWS: u16 = 16;

fn user(number: u8) -> UserId {
    format!("0192f7a4-7c1e-7000-8000-0000000000{number:02x}").parse().unwrap()
}

fn with(peer: u8) -> ConversationId {
    ConversationId::of_pair(user(OWN), user(peer))
}

fn message(peer: u8, number: u64, state: MessageState, text: &str) -> Message {
    let is_own = state != MessageState::Received;
    Message {
        local_id: is_own.then_some(LocalMessageId(number)),
        message_id: None,
        conversation_id: with(peer),
        sequence_number: Some(number),
        sender_id: user(if is_own { OWN } else { peer }),
        sender_device_id: DeviceId::new("terminal-1").unwrap(),
        is_own,
        timestamp: 9 * 3_600_000 + 5 * 60_000,
        content: ShownContent::Text(text.to_owned()),
        state,
        given_up: false,
        reply_to: None,
    }
}

fn queued(peer: u8, state: MessageState, text: &str) -> Message {
    Message { sequence_number: None, ..message(peer, 900, state, text) }
}

fn summary(peer: u8, name: &str, unread: u64) -> ConversationSummary {
    ConversationSummary {
        conversation_id: with(peer),
        peer: user(peer),
        peer_name: Some(name.to_owned()),
        last_message: Some(message(peer, 1, MessageState::Received, "newest")),
        unread,
        last_activity_at: 0,
        held_through: 1,
        is_at_server: true,
    }
}

fn key(code: KeyCode) -> Input {
    Input::Key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn control(c: char) -> Input {
    Input::Key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL))
}

fn write(screen: &mut Screen, text: &str, now_ms: u64) -> Vec<Effect> {
    text.chars().flat_map(|c| screen.apply(key(KeyCode::Char(c)), now_ms)).collect()
}

fn run(screen: &mut Screen, command: &str) -> Vec<Effect> {
    write(screen, command, 0);
    screen.apply(key(KeyCode::Enter), 0)
}

fn page(screen: &mut Screen, peer: u8, messages: Vec<Message>) {
    screen.apply(Input::History { conversation: with(peer), before: None, page: messages }, 0);
}

/// Two conversations, the first of them shown.
fn two_conversations() -> (Screen, Vec<Effect>) {
    let (mut screen, first) =
        Screen::new(user(OWN), "default".to_owned(), Calendar::new(TimeZone::UTC, NOON));
    assert_eq!(first, [Effect::LoadConversations]);
    screen.apply(Input::Resized(COLUMNS, ROWS), 0);
    let list = vec![summary(ADA, "Left", 2), summary(BOB, "Bob", 3)];
    let effects = screen.apply(Input::Conversations(list), 0);
    (screen, effects)
}

fn drawn(screen: &Screen) -> (String, TestBackend) {
    let mut terminal = Terminal::new(TestBackend::new(COLUMNS, ROWS)).unwrap();
    terminal.draw(|frame| screen.draw(frame)).unwrap();
    let backend = terminal.backend().clone();
    (backend.to_string(), backend)
}

#[test]
fn the_first_conversation_is_shown_marked_as_read_and_its_people_are_watched() {
    let (screen, effects) = two_conversations();
    let expected = [
        Effect::Watch(vec![user(ADA), user(BOB)]),
        Effect::LoadHistory { conversation: with(ADA), before: None },
        Effect::MarkRead(with(ADA)),
    ];
    assert_eq!(effects, expected);
    let (text, _) = drawn(&screen);
    assert!(text.contains("Bob (3)"), "{text}");
    assert!(!text.contains("Left (2)"), "{text}");
}

#[test]
fn a_conversation_is_not_watched_before_the_server_knows_it() {
    let (mut screen, _) = two_conversations();
    let card = UserCard { user_id: user(9), name: "New".to_owned(), avatar_url: None };
    let effects = screen.apply(Input::Found(Found(card)), 0);
    assert!(effects.contains(&Effect::LoadHistory { conversation: with(9), before: None }));
    let unsent = ConversationSummary {
        last_message: Some(queued(9, MessageState::Queued, "x")),
        held_through: 0,
        is_at_server: false,
        ..summary(9, "New", 0)
    };
    assert_eq!(screen.apply(Input::Conversations(vec![unsent]), 0), []);
    assert_eq!(write(&mut screen, "hi", 0), []);
    let effects = screen.apply(Input::Conversations(vec![summary(9, "New", 0)]), 0);
    assert_eq!(effects, [Effect::Watch(vec![user(9)])]);
}

#[test]
fn what_is_opened_stays_in_the_list_until_the_store_has_it() {
    let (mut screen, _) = two_conversations();
    let card = UserCard { user_id: user(9), name: "New".to_owned(), avatar_url: None };
    screen.apply(Input::Found(Found(card)), 0);
    screen.apply(Input::Conversations(vec![summary(ADA, "Left", 0)]), 0);
    assert_eq!(screen.conversations.len(), 2);
    assert_eq!(screen.current().unwrap().peer, user(9));
    screen.apply(Input::Conversations(vec![summary(9, "New", 0), summary(ADA, "Left", 0)]), 0);
    assert_eq!(screen.conversations.len(), 2);
}

#[test]
fn marks_say_how_far_a_message_has_come() {
    let (mut screen, _) = two_conversations();
    let failed = MessageState::Failed(SendFailure::RecipientHasNoDevice);
    let messages = vec![
        message(ADA, 1, MessageState::Received, "from left"),
        message(ADA, 2, MessageState::Read, "was read"),
        message(ADA, 3, MessageState::Delivered, "was delivered"),
        message(ADA, 4, MessageState::Sent, "was sent"),
        queued(ADA, MessageState::Queued, "waits"),
        queued(ADA, failed, "failed"),
    ];
    page(&mut screen, ADA, messages);
    let (text, backend) = drawn(&screen);
    for expected in [
        "09:05 Left: from left ",
        "09:05 you: was read ✓✓",
        "09:05 you: was delivered ✓✓",
        "09:05 you: was sent ✓ ",
        "09:05 you: waits ◷",
        "✗ the recipient has no device",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let ticks = backend.buffer().content().iter().filter(|cell| cell.symbol() == "✓");
    let coloured = ticks.filter(|cell| cell.fg == Color::Cyan).count();
    assert_eq!(coloured, 2, "only what was read is coloured");
}

#[test]
fn marks_reach_what_was_loaded_long_ago_and_never_go_back() {
    let (mut screen, _) = two_conversations();
    let messages = (1..=3).map(|number| message(ADA, number, MessageState::Sent, "x")).collect();
    page(&mut screen, ADA, messages);
    let moved = |delivered_through, read_through| {
        let conversation_id = with(ADA);
        Input::Happened(Event::MarksMoved {
            conversation_id,
            delivered_through,
            read_through,
            own_read_through: 0,
        })
    };
    screen.apply(moved(2, 1), 0);
    screen.apply(moved(1, 0), 0);
    let states: Vec<MessageState> = screen.history.iter().map(|message| message.state).collect();
    assert_eq!(states, [MessageState::Read, MessageState::Delivered, MessageState::Sent]);
}

#[test]
fn enter_sends_to_the_conversation_that_is_shown() {
    let (mut screen, _) = two_conversations();
    assert_eq!(write(&mut screen, "hi", 0), [Effect::Typing(with(ADA), true)]);
    let effects = screen.apply(key(KeyCode::Enter), 10);
    let sent = Effect::Send { to: user(ADA), text: "hi".to_owned() };
    assert_eq!(effects, [sent, Effect::Typing(with(ADA), false)]);
    assert_eq!(screen.apply(key(KeyCode::Enter), 20), [], "an empty line sends nothing");
}

#[test]
fn a_text_stays_with_the_person_it_is_for() {
    let (mut screen, _) = two_conversations();
    write(&mut screen, "for left", 0);
    let effects = screen.apply(key(KeyCode::Down), 0);
    assert_eq!(effects[0], Effect::Typing(with(ADA), false));
    assert_eq!(effects.last(), Some(&Effect::MarkRead(with(BOB))));
    assert_eq!(screen.apply(key(KeyCode::Enter), 0), []);
    screen.apply(control('p'), 0);
    let effects = screen.apply(key(KeyCode::Enter), 0);
    assert_eq!(effects, [Effect::Send { to: user(ADA), text: "for left".to_owned() }]);
}

#[test]
fn others_are_told_of_typing_at_most_every_two_seconds_and_that_it_ended() {
    let (mut screen, _) = two_conversations();
    let here = with(ADA);
    assert_eq!(write(&mut screen, "a", 0), [Effect::Typing(here, true)]);
    assert_eq!(write(&mut screen, "b", 1999), []);
    assert_eq!(write(&mut screen, "c", 2000), [Effect::Typing(here, true)]);
    assert_eq!(screen.apply(Input::Tick, 5999), []);
    assert_eq!(screen.apply(Input::Tick, 6000), [Effect::Typing(here, false)]);
    assert_eq!(screen.apply(Input::Tick, 9000), []);
    screen.apply(control('u'), 9000);
    assert_eq!(write(&mut screen, "/help", 9000), [], "a command is no message");
}

#[test]
fn commands_do_what_they_say() {
    let (mut screen, _) = two_conversations();
    let mut run = |command: &str| {
        write(&mut screen, command, 0);
        screen.apply(key(KeyCode::Enter), 0)
    };
    assert_eq!(run("/new c@example.com"), [Effect::Find(UserQuery::Email("c@example.com".to_owned()))]);
    assert_eq!(run("/safety"), [Effect::SafetyNumber(user(ADA))]);
    assert_eq!(run("/quit"), [Effect::Quit]);
    assert_eq!(run("/new nobody"), []);
    assert_eq!(run("/shout"), []);
    assert!(drawn(&screen).0.contains("no such command"));
    assert_eq!(screen.apply(control('c'), 0), [Effect::Quit]);
}

#[test]
fn a_panel_covers_the_history_until_a_key_is_pressed() {
    let (mut screen, _) = two_conversations();
    screen.apply(Input::SafetyNumber("11111 22222 33333 44444 55555".to_owned()), 0);
    assert!(drawn(&screen).0.contains("11111  22222  33333  44444"));
    assert_eq!(write(&mut screen, "x", 0), [], "the key is spent on the panel");
    assert!(!drawn(&screen).0.contains("11111"));
}

#[test]
fn the_newest_failed_message_can_be_sent_again() {
    let (mut screen, _) = two_conversations();
    let failed = MessageState::Failed(SendFailure::TooManyAttempts);
    page(&mut screen, ADA, vec![queued(ADA, failed, "failed")]);
    write(&mut screen, "/retry", 0);
    assert_eq!(screen.apply(key(KeyCode::Enter), 0), [Effect::Retry(LocalMessageId(900))]);
    write(&mut screen, "/discard", 0);
    assert_eq!(screen.apply(key(KeyCode::Enter), 0), [Effect::Discard(LocalMessageId(900))]);
}

#[test]
fn a_lost_connection_is_counted_down_and_nobody_is_shown_as_online_meanwhile() {
    let (mut screen, _) = two_conversations();
    screen.apply(Input::Happened(Event::Connected { unread_count: 0 }), 0);
    let online =
        Event::PresenceChanged { user_id: user(ADA), status: PresenceStatus::Online, last_seen: None };
    screen.apply(Input::Happened(online), 0);
    let (text, _) = drawn(&screen);
    assert!(text.contains("connected") && text.contains("● Left") && text.contains("○ Bob"), "{text}");
    let reason = DisconnectReason::Lost;
    let lost = Event::Disconnected { reason, retry_in: Some(Duration::from_millis(2500)) };
    screen.apply(Input::Happened(lost), 1000);
    let (text, _) = drawn(&screen);
    assert!(text.contains("connection lost: reconnecting in 3 s") && text.contains("○ Left"), "{text}");
    screen.apply(Input::Tick, 2600);
    assert!(drawn(&screen).0.contains("reconnecting in 1 s"));
}

#[test]
fn somebody_is_shown_as_typing_for_six_seconds_or_until_their_message_comes() {
    let (mut screen, _) = two_conversations();
    let typing =
        Event::TypingChanged { conversation_id: with(ADA), user_id: user(ADA), state: TypingState::Started };
    screen.apply(Input::Happened(typing.clone()), 0);
    assert!(drawn(&screen).0.contains("Left is typing…"));
    screen.apply(Input::Tick, 6000);
    assert!(!drawn(&screen).0.contains("typing"));
    screen.apply(Input::Happened(typing), 7000);
    let received = Event::MessageReceived(Box::new(message(ADA, 2, MessageState::Received, "hi")));
    let effects = screen.apply(Input::Happened(received), 7001);
    assert_eq!(
        effects,
        [Effect::LoadConversations, Effect::LoadHistory { conversation: with(ADA), before: None }]
    );
    assert!(!drawn(&screen).0.contains("typing"));
}

#[test]
fn an_answer_is_shown_as_it_grows_until_it_has_come_and_can_be_stopped() {
    let (mut screen, _) = two_conversations();
    let turn_id = MessageId(uuid::Uuid::from_u128(7));
    let conversation_id = with(ADA);
    let grows = |text: &str, status: Option<&str>| {
        let (text, status) = (text.to_owned(), status.map(str::to_owned));
        Input::Happened(Event::AnswerGrows(Box::new(GrowingAnswer {
            turn_id,
            conversation_id,
            text,
            status,
        })))
    };
    write(&mut screen, "/stop", 0);
    assert!(screen.apply(key(KeyCode::Enter), 0).is_empty(), "nobody is answering");
    screen.apply(grows("", Some("thinking")), 0);
    assert!(drawn(&screen).0.contains("Left is thinking…"));
    screen.apply(grows("It is", None), 100);
    screen.apply(grows("It is open", None), 200);
    let (text, _) = drawn(&screen);
    assert!(text.contains("Left: It is open▌") && !text.contains("thinking"), "{text}");
    write(&mut screen, "/stop", 0);
    assert_eq!(screen.apply(key(KeyCode::Enter), 300), [Effect::Stop(turn_id)]);
    screen.apply(
        Input::Happened(Event::AnswerEnded { turn_id: MessageId(uuid::Uuid::nil()), conversation_id }),
        300,
    );
    assert!(drawn(&screen).0.contains('▌'), "another one");
    screen.apply(Input::Happened(Event::AnswerEnded { turn_id, conversation_id }), 300);
    assert!(!drawn(&screen).0.contains('▌'));
}

#[test]
fn a_question_that_was_given_up_is_told_of_and_shows_it_until_it_is_answered() {
    let (mut screen, _) = two_conversations();
    let turn_id = MessageId(uuid::Uuid::from_u128(7));
    let asked = |given_up| Message {
        message_id: Some(turn_id),
        given_up,
        ..message(ADA, 1, MessageState::Read, "are you open?")
    };
    let other = message(ADA, 2, MessageState::Read, "and now?");
    page(&mut screen, ADA, vec![asked(false), other.clone()]);
    let given_up = Event::TurnGivenUp { turn_id, conversation_id: with(ADA) };
    assert!(screen.apply(Input::Happened(given_up), 0).is_empty());
    let (text, _) = drawn(&screen);
    assert!(text.contains("are you open? ✗ not taken") && text.contains("and now? ✓✓"), "{text}");
    assert!(text.contains("Left could not take your question: whoever runs"), "{text}");
    page(&mut screen, ADA, vec![asked(true), other.clone()]);
    assert!(drawn(&screen).0.contains("are you open? ✗ not taken"));
    page(&mut screen, ADA, vec![asked(false), other]);
    assert!(drawn(&screen).0.contains("are you open? ✓✓"));
}

#[test]
fn what_is_asked_goes_to_the_agent_that_it_is_for_and_why_is_said() {
    let (mut screen, _) = two_conversations();
    write(&mut screen, "/ask are you open?", 0);
    let text = "are you open?".to_owned();
    assert_eq!(screen.apply(key(KeyCode::Enter), 0), [Effect::Ask(text.clone())]);
    let agent = Found(UserCard { user_id: user(9), name: "Clerk".to_owned(), avatar_url: None });
    let routed = Input::Routed { agent, text: text.clone(), reason: "it answers opening-hours".to_owned() };
    let effects = screen.apply(routed, 0);
    assert!(effects.contains(&Effect::Send { to: user(9), text }), "{effects:?}");
    assert!(drawn(&screen).0.contains("sent to Clerk: it answers opening-hours"));
}

#[test]
fn older_messages_are_loaded_once_when_the_upper_edge_is_near() {
    let (mut screen, _) = two_conversations();
    let texts = |from: u64, to: u64| -> Vec<Message> {
        (from..=to)
            .map(|number| message(ADA, number, MessageState::Received, &format!("text {number}")))
            .collect()
    };
    page(&mut screen, ADA, texts(101, 140));
    let load = Effect::LoadHistory { conversation: with(ADA), before: Some(101) };
    assert_eq!(screen.apply(key(KeyCode::PageUp), 0), [load]);
    assert_eq!(screen.apply(key(KeyCode::PageUp), 0), [], "one page at a time");
    let older = Input::History { conversation: with(ADA), before: Some(101), page: texts(1, 100) };
    screen.apply(older, 0);
    assert_eq!(screen.history.len(), 140);
    let (text, _) = drawn(&screen);
    assert!(text.contains("text 124") && !text.contains("text 125") && text.contains("↓ 16 newer"), "{text}");
    // What comes meanwhile does not move what is read.
    page(&mut screen, ADA, texts(42, 141));
    assert!(drawn(&screen).0.contains("↓ 17 newer"));
    assert_eq!(screen.history.len(), 141);
    for _ in 0..30 {
        assert_eq!(screen.apply(key(KeyCode::PageUp), 0), [], "there is nothing older");
    }
    let (text, _) = drawn(&screen);
    assert!(text.contains("text 1 ") && text.contains("text 8 "), "newer ones fill the frame\n{text}");
}

#[test]
fn a_gap_wider_than_a_page_is_not_shown_as_if_there_were_none() {
    let (mut screen, _) = two_conversations();
    page(&mut screen, ADA, vec![message(ADA, 1, MessageState::Received, "old")]);
    page(&mut screen, ADA, vec![message(ADA, 300, MessageState::Received, "new")]);
    assert_eq!(screen.history.len(), 1);
    assert!(!screen.is_whole);
}

#[test]
fn a_long_or_hostile_text_stays_in_its_frame() {
    let (mut screen, _) = two_conversations();
    let hostile = format!("\u{1b}[31m{}\u{202e}end", "wide 你好 ".repeat(20));
    page(&mut screen, ADA, vec![message(ADA, 1, MessageState::Received, &hostile)]);
    let (text, _) = drawn(&screen);
    assert!(text.contains("end") && !text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text}");
}

#[test]
fn a_screen_of_any_size_can_be_drawn() {
    let (mut screen, _) = two_conversations();
    let words = message(ADA, 1, MessageState::Read, "some words");
    page(&mut screen, ADA, vec![words, request(2, "{}", NOON + 1000)]);
    write(&mut screen, "and a line", 0);
    let draw_all = |screen: &Screen| {
        for (width, height) in [(1, 1), (10, 3), (30, 5), (48, 8), (200, 60)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            terminal.draw(|frame| screen.draw(frame)).unwrap();
        }
    };
    draw_all(&screen);
    screen.apply(control('u'), 0);
    run(&mut screen, "/request");
    assert!(screen.panel.is_some());
    draw_all(&screen);
}

#[test]
fn what_comes_while_older_messages_are_read_is_not_seen_until_the_newest_is_on_the_screen() {
    let (mut screen, _) = two_conversations();
    let messages = (1..=20).map(|number| message(ADA, number, MessageState::Received, "x")).collect();
    page(&mut screen, ADA, messages);
    screen.apply(key(KeyCode::PageUp), 0);
    assert_eq!(screen.apply(Input::Conversations(vec![summary(ADA, "Left", 1)]), 0), []);
    assert!(drawn(&screen).0.contains("Left (1)"));
    assert_eq!(screen.apply(key(KeyCode::PageDown), 0), [Effect::MarkRead(with(ADA))]);
    assert!(!drawn(&screen).0.contains("Left (1)"));
}

#[test]
fn a_new_day_is_announced_once() {
    let (mut screen, _) = two_conversations();
    let on = |number, day| Message {
        timestamp: day * DAY,
        ..message(ADA, number, MessageState::Received, "words")
    };
    page(&mut screen, ADA, vec![on(1, 0), on(2, 0), on(3, 1)]);
    let (text, _) = drawn(&screen);
    assert_eq!(text.matches("Thursday, 1 January 1970").count(), 1, "{text}");
    assert_eq!(text.matches("Friday, 2 January 1970").count(), 1, "{text}");
    let first = text.find("Thursday").unwrap();
    assert!(first < text.find("words").unwrap() && first < text.find("Friday").unwrap(), "{text}");
}

#[test]
fn messages_from_before_this_device_take_one_quiet_line() {
    let (mut screen, _) = two_conversations();
    let lost = |number| Message {
        content: ShownContent::Unavailable,
        ..message(ADA, number, MessageState::Received, "")
    };
    let mut messages: Vec<Message> = (1..=7).map(lost).collect();
    messages.push(message(ADA, 8, MessageState::Received, "the first to be read"));
    page(&mut screen, ADA, messages);
    let (text, _) = drawn(&screen);
    assert_eq!(text.matches("before this device").count(), 1, "{text}");
    assert!(text.contains("7 messages from before this device"), "{text}");
    assert!(text.contains("09:05 Left: the first to be read"), "{text}");
}

#[test]
fn somebody_who_is_gone_is_shown_with_when_they_were_last_seen() {
    let (mut screen, _) = two_conversations();
    let presence =
        |status, last_seen| Input::Happened(Event::PresenceChanged { user_id: user(ADA), status, last_seen });
    screen.apply(presence(PresenceStatus::Offline, Some(NOON - 60_000)), 0);
    assert!(drawn(&screen).0.contains("Left (last seen 11:59)"));
    screen.apply(presence(PresenceStatus::Online, None), 0);
    assert!(drawn(&screen).0.contains("Left (online)"));
    screen.apply(presence(PresenceStatus::Offline, Some(NOON)), 0);
    screen.apply(Input::Tick, DAY);
    assert!(drawn(&screen).0.contains("Left (last seen 1 Jan 12:00)"));
}

#[test]
fn a_connection_that_ended_for_good_is_made_again_on_request_and_everybody_is_watched_again() {
    let (mut screen, _) = two_conversations();
    screen.apply(Input::Happened(Event::Connected { unread_count: 0 }), 0);
    write(&mut screen, "/reconnect", 0);
    assert_eq!(screen.apply(key(KeyCode::Enter), 0), [], "there is a connection");
    let reason = DisconnectReason::Closed(4503);
    screen.apply(Input::Happened(Event::Disconnected { reason, retry_in: None }), 0);
    assert!(drawn(&screen).0.contains("/reconnect tries again"));
    write(&mut screen, "/reconnect", 0);
    let effects = screen.apply(key(KeyCode::Enter), 0);
    assert_eq!(effects, [Effect::Reconnect, Effect::LoadConversations]);
    let list = vec![summary(ADA, "Left", 0), summary(BOB, "Bob", 0)];
    let effects = screen.apply(Input::Conversations(list), 0);
    assert_eq!(effects, [Effect::Watch(vec![user(ADA), user(BOB)])]);
}

#[test]
fn a_screen_that_has_missed_that_there_is_a_connection_shows_it_all_the_same() {
    let (mut screen, _) = two_conversations();
    let (reason, retry_in) = (DisconnectReason::Lost, Some(Duration::from_secs(5)));
    screen.apply(Input::Happened(Event::Disconnected { reason, retry_in }), 0);
    let before = drawn(&screen).0;
    let effects = screen.apply(Input::Happened(Event::EventsMissed { count: 9, is_connected: true }), 0);
    assert_eq!(effects[0], Effect::LoadConversations);
    assert_ne!(drawn(&screen).0, before);
    screen.apply(Input::Happened(Event::EventsMissed { count: 9, is_connected: false }), 0);
    write(&mut screen, "/reconnect", 0);
    assert_eq!(
        screen.apply(key(KeyCode::Enter), 0),
        [],
        "there is a connection until something says otherwise"
    );
}

#[test]
fn what_waits_to_be_sent_stops_neither_presence_nor_typing() {
    let (mut screen, _) = Screen::new(user(OWN), String::new(), Calendar::new(TimeZone::UTC, NOON));
    let waiting = Some(queued(ADA, MessageState::Queued, "x"));
    let list = vec![ConversationSummary { last_message: waiting, ..summary(ADA, "Left", 0) }];
    let effects = screen.apply(Input::Conversations(list), 0);
    assert!(effects.contains(&Effect::Watch(vec![user(ADA)])), "{effects:?}");
    assert_eq!(write(&mut screen, "a", 0), [Effect::Typing(with(ADA), true)]);
}
