//! Who is told again what could not be decrypted, and how much of it.

use super::desk::{Desk, damaged, message_id, user};
use crate::connection::ingest::Ingested;
use crate::connection::mending::ask_again;
use crate::crypto::plaintext::{REPAIR_IDS_MAX, TEXT_MAX_BYTES};
use crate::crypto::repair::{REPAIR_WINDOW_MS, REPAIRS_MAX};
use crate::crypto::{Body, DecryptionFailure};
use crate::event::Event;
use crate::store::repairs::ASKS_MAX;

fn ask(ids: impl IntoIterator<Item = u64>) -> Body {
    Body::SessionRepair { message_ids: ids.into_iter().map(message_id).collect() }
}

#[test]
fn a_text_is_told_again_to_a_device_it_was_encrypted_for() {
    let mut desk = Desk::of_two();
    let number = desk.text(0, "hello");
    let broken = damaged(desk.shown(number, 1));
    desk.hand(1, [broken]);
    let asked = desk.send_all(1);
    desk.deliver(0, asked);
    let answers = desk.send_all(0);
    assert_eq!(answers.len(), 1);
    let told = desk.deliver(1, answers);
    assert!(matches!(&told.events[..], [Event::MessageRepaired(_)]), "{:?}", told.events);
}

#[test]
fn a_device_that_came_later_is_told_nothing_that_was_said_before() {
    let mut desk = Desk::of_two();
    let number = desk.text(0, "before");
    desk.deliver(1, [number]);
    let tablet = desk.sit(2, "tablet");
    let asked = desk.post(tablet, ask([number]), Some(0));
    desk.deliver(0, [asked]);
    assert!(desk.send_all(0).is_empty(), "nothing is answered");
    let number = desk.text(0, "after");
    let asked = desk.post(tablet, ask([number]), Some(0));
    desk.deliver(0, [asked]);
    assert_eq!(desk.send_all(0).len(), 1);
}

#[test]
fn what_was_resent_to_one_device_is_not_resent_to_another() {
    let mut desk = Desk::of_two();
    let number = desk.text(0, "for the laptop alone");
    let tablet = desk.sit(2, "tablet");
    let asked = desk.post(1, ask([number]), Some(0));
    desk.deliver(0, [asked]);
    let resent = desk.send_all(0);
    assert_eq!(resent.len(), 1);
    let asked = desk.post(tablet, ask(resent), Some(0));
    desk.deliver(0, [asked]);
    assert!(desk.send_all(0).is_empty());
}

fn repaired(out: &Ingested) -> usize {
    out.events.iter().filter(|event| matches!(event, Event::MessageRepaired(_))).count()
}

/// One exchange: the second device asks, the first answers.
fn repair(desk: &mut Desk) -> usize {
    let asked = desk.send_all(1);
    desk.deliver(0, asked);
    let answers = desk.send_all(0);
    repaired(&desk.deliver(1, answers))
}

fn look_again(desk: &Desk, seat: usize) {
    desk.seats[seat].store.update(|tx| ask_again(tx, desk.now)).unwrap();
}

#[test]
fn what_is_beyond_one_question_is_asked_for_once_that_is_answered() {
    let mut desk = Desk::of_two();
    let numbers: Vec<u64> = (0..REPAIR_IDS_MAX + 4).map(|n| desk.text(0, &format!("text {n}"))).collect();
    let broken: Vec<_> = numbers.iter().map(|number| damaged(desk.shown(*number, 1))).collect();
    desk.hand(1, broken);
    assert_eq!(repair(&mut desk), REPAIR_IDS_MAX);
    assert_eq!(repair(&mut desk), 4);
    look_again(&desk, 1);
    assert!(desk.send_all(1).is_empty(), "everything is told");
}

#[test]
fn however_much_is_lost_one_by_one_all_of_it_is_told_again() {
    let mut desk = Desk::of_two();
    let lost = REPAIR_IDS_MAX * (REPAIRS_MAX as usize + 2);
    for n in 0..lost {
        let number = desk.text(0, &format!("text {n}"));
        desk.hand(1, [damaged(desk.shown(number, 1))]);
    }
    let mut told = 0;
    loop {
        match repair(&mut desk) {
            0 => break,
            more => told += more,
        }
    }
    assert_eq!(told, lost);
}

#[test]
fn questions_in_vain_are_few_until_an_hour_has_passed() {
    let mut desk = Desk::of_two();
    for round in 0..=REPAIRS_MAX {
        let number = desk.text(0, "lost");
        desk.hand(1, [damaged(desk.shown(number, 1))]);
        let within_budget = round < REPAIRS_MAX;
        assert_eq!(desk.send_all(1).len(), usize::from(within_budget), "{round}");
    }
    desk.now += REPAIR_WINDOW_MS;
    look_again(&desk, 1);
    assert_eq!(repair(&mut desk), REPAIRS_MAX as usize + 1);
}

#[test]
fn a_message_nobody_tells_again_is_asked_for_so_often_and_then_no_more() {
    let mut desk = Desk::of_two();
    let number = desk.text(0, "hello");
    desk.hand(1, [damaged(desk.shown(number, 1))]);
    for _ in 0..ASKS_MAX {
        assert_eq!(desk.send_all(1).len(), 1);
        look_again(&desk, 1);
        assert!(desk.send_all(1).is_empty(), "an answer may be on its way");
        desk.now += REPAIR_WINDOW_MS;
        look_again(&desk, 1);
    }
    assert!(desk.send_all(1).is_empty());
    assert!(desk.seats[1].store.read(|tx| tx.repairs()).unwrap().is_empty());
}

#[test]
fn long_texts_are_told_again_in_as_many_messages_as_they_need() {
    let mut desk = Desk::of_two();
    let long = "x".repeat(TEXT_MAX_BYTES);
    let numbers: Vec<u64> = (0..REPAIR_IDS_MAX).map(|_| desk.text(0, &long)).collect();
    let broken: Vec<_> = numbers.iter().map(|number| damaged(desk.shown(*number, 1))).collect();
    desk.hand(1, broken);
    assert_eq!(repair(&mut desk), REPAIR_IDS_MAX);
}

#[test]
fn a_resend_that_is_lost_too_is_told_again_with_all_it_held() {
    let mut desk = Desk::of_two();
    let numbers: Vec<u64> = (0..REPAIR_IDS_MAX).map(|n| desk.text(0, &format!("text {n}"))).collect();
    let broken: Vec<_> = numbers.iter().map(|number| damaged(desk.shown(*number, 1))).collect();
    desk.hand(1, broken);
    let asked = desk.send_all(1);
    desk.deliver(0, asked);
    let lost = desk.send_all(0);
    assert_eq!(lost.len(), 1);
    desk.hand(1, [damaged(desk.shown(lost[0], 1))]);
    assert_eq!(repair(&mut desk), REPAIR_IDS_MAX);
}

#[test]
fn a_message_in_a_conversation_of_others_is_not_opened() {
    let mut desk = Desk::of_two();
    let number = desk.text(0, "hello");
    let mut moved = desk.shown(number, 1);
    moved.conversation_id = colloquy_protocol::ids::ConversationId::of_pair(user(2), user(3));
    let out = desk.hand(1, [moved]);
    let failure = match &out.events[..] {
        [Event::DecryptionFailed { failure, repair_asked: false, .. }] => *failure,
        other => panic!("{other:?}"),
    };
    assert_eq!(failure, DecryptionFailure::ForeignConversation);
}

#[test]
fn a_device_that_catches_up_with_one_conversation_after_the_other_reads_all_of_both() {
    let mut desk = Desk::of_two();
    let tablet = desk.sit(1, "tablet");
    desk.sit(3, "desktop");
    let (mut one, mut other) = (Vec::new(), Vec::new());
    for n in 0..100 {
        one.push(desk.text_to(0, 2, &format!("text {n}")));
        other.push(desk.text_to(0, 3, &format!("text {n}")));
    }
    for conversation in [one, other] {
        let read = desk.deliver(tablet, conversation.clone());
        let shown = read.events.iter().filter(|event| matches!(event, Event::MessageReceived(_))).count();
        assert_eq!(shown, conversation.len());
    }
}
