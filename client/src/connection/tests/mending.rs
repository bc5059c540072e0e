//! Who is told again what could not be decrypted, and how much of it.

use super::desk::{Desk, damaged, message_id};
use crate::crypto::Body;
use crate::event::Event;

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
