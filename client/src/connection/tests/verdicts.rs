//! Which verdict counts, on the devices of both sides, whatever else somebody sends.

use super::desk::{Desk, conversation, damaged, message_id};
use crate::ambient;
use crate::connection::verdicts::weigh;
use crate::crypto::{ApprovalRequest, Asked, Body, SignedVerdict, Statement, Verdict, VoidVerdict};
use crate::event::Event;
use crate::message::ShownContent;
use crate::store::{MessageContent, MessageRecord, StoreError};

/// Where a person sits, the agent, and the person's other device.
const PHONE: usize = 0;
const AGENT: usize = 1;
const TABLET: usize = 2;

fn request() -> ApprovalRequest {
    let (action, arguments) = ("delete".to_owned(), r#"{"paths": ["a"]}"#.to_owned());
    ApprovalRequest { action, arguments, expires_at: u64::MAX }
}

/// A person with two devices, and an agent that has asked them; nobody has heard of it yet. Returns the request's number.
fn asked() -> (Desk, u64) {
    let mut desk = Desk::of_two();
    assert_eq!(desk.sit(1, "tablet"), TABLET);
    let asked =
        Asked { text: "May I?".to_owned(), request: request(), verdict_key: ambient::idempotency_key() };
    let number = desk.post(AGENT, Body::ApprovalRequest(Box::new(asked)), None);
    (desk, number)
}

/// A verdict as a device signs it, on the request of this number.
fn signed(desk: &Desk, seat: usize, number: u64, verdict: Verdict) -> SignedVerdict {
    let seat = &desk.seats[seat];
    let account = seat.store.read(|tx| tx.account()).unwrap().unwrap();
    let statement = Statement {
        verdict,
        conversation_id: conversation(),
        request_id: message_id(number),
        agent: desk.seats[AGENT].address.user_id,
        decided_by: &seat.address,
        request: &request(),
    };
    let signature = statement.sign(&account);
    SignedVerdict { request_id: message_id(number), verdict, signature, stream_secret: None }
}

fn decide(desk: &mut Desk, seat: usize, number: u64, verdict: Verdict) -> u64 {
    let said = signed(desk, seat, number, verdict);
    desk.post(seat, Body::Verdict(said), None)
}

/// What a device holds for decided on the request of this number, and by which message.
fn decision(desk: &Desk, seat: usize, number: u64) -> Option<(Verdict, u64)> {
    let decision = desk.seats[seat].store.read(|tx| tx.decision(message_id(number))).unwrap()?;
    let by = (1..20).find(|by| message_id(*by) == decision.message_id).unwrap();
    Some((decision.verdict, by))
}

/// Why the message of this number does not count as a verdict.
fn void(desk: &Desk, seat: usize, number: u64) -> Option<VoidVerdict> {
    let weighed = desk.seats[seat].store.update(|tx| {
        let message = tx.message(message_id(number))?.expect("it is here");
        weigh(tx, &message)
    });
    weighed.unwrap().expect("it says a verdict").err()
}

#[test]
fn the_first_verdict_counts_on_every_device_and_a_later_one_is_void() {
    let (mut desk, request) = asked();
    desk.deliver(PHONE, [request]);
    desk.deliver(TABLET, [request]);
    let first = decide(&mut desk, PHONE, request, Verdict::Approved);
    let second = decide(&mut desk, TABLET, request, Verdict::Denied);
    desk.deliver(AGENT, [first, second]);
    desk.deliver(PHONE, [second]);
    for seat in [PHONE, AGENT] {
        assert_eq!(decision(&desk, seat, request), Some((Verdict::Approved, first)), "{seat}");
        assert_eq!(void(&desk, seat, first), None);
        assert_eq!(void(&desk, seat, second), Some(VoidVerdict::AlreadyDecided));
    }
    // What came with it is what was signed.
    let kept = desk.seats[AGENT].store.read(|tx| tx.decision(message_id(request))).unwrap().unwrap();
    assert_eq!(kept.signature, signed(&desk, PHONE, request, Verdict::Approved).signature);
    assert_eq!(kept.decided_by, desk.seats[PHONE].address);
}

#[test]
fn a_verdict_of_another_device_is_known_before_this_one_decides() {
    let (mut desk, request) = asked();
    desk.deliver(PHONE, [request]);
    desk.deliver(TABLET, [request]);
    let first = decide(&mut desk, PHONE, request, Verdict::Denied);
    desk.deliver(TABLET, [first]);
    assert_eq!(decision(&desk, TABLET, request), Some((Verdict::Denied, first)));
}

#[test]
fn what_the_device_has_not_signed_is_void_and_takes_nobodys_place() {
    let (mut desk, request) = asked();
    desk.deliver(PHONE, [request]);
    desk.deliver(TABLET, [request]);
    let denied = signed(&desk, PHONE, request, Verdict::Denied);
    let turned =
        desk.post(PHONE, Body::Verdict(SignedVerdict { verdict: Verdict::Approved, ..denied }), None);
    let of_another = Body::Verdict(signed(&desk, TABLET, request, Verdict::Approved));
    let of_another = desk.post(PHONE, of_another, None);
    desk.deliver(AGENT, [turned, of_another]);
    for number in [turned, of_another] {
        assert_eq!(void(&desk, AGENT, number), Some(VoidVerdict::BadSignature));
    }
    assert_eq!(decision(&desk, AGENT, request), None);
    let good = decide(&mut desk, PHONE, request, Verdict::Denied);
    desk.deliver(AGENT, [good]);
    assert_eq!(decision(&desk, AGENT, request), Some((Verdict::Denied, good)));
}

#[test]
fn nobody_decides_on_what_they_ask_for_themselves_or_on_what_is_no_request() {
    let (mut desk, request) = asked();
    desk.deliver(PHONE, [request]);
    let by_itself = decide(&mut desk, AGENT, request, Verdict::Approved);
    desk.deliver(PHONE, [by_itself]);
    let text = desk.text(AGENT, "hello");
    desk.deliver(PHONE, [text]);
    let on_a_text = decide(&mut desk, PHONE, text, Verdict::Approved);
    let on_nothing = decide(&mut desk, PHONE, 19, Verdict::Approved);
    desk.deliver(AGENT, [on_a_text, on_nothing]);
    for number in [by_itself, on_a_text, on_nothing] {
        assert_eq!(void(&desk, AGENT, number), Some(VoidVerdict::UnknownRequest), "{number}");
    }
    assert_eq!(void(&desk, PHONE, by_itself), Some(VoidVerdict::UnknownRequest));
    assert_eq!(decision(&desk, AGENT, request), None);
}

#[test]
fn a_verdict_that_is_told_again_counts_and_so_does_one_on_a_request_that_is() {
    let (mut desk, request) = asked();
    desk.deliver(PHONE, [request]);
    desk.hand(TABLET, [damaged(desk.shown(request, TABLET))]);
    let first = decide(&mut desk, PHONE, request, Verdict::Approved);
    desk.hand(AGENT, [damaged(desk.shown(first, AGENT))]);
    desk.deliver(TABLET, [first]);
    assert_eq!(
        void(&desk, TABLET, first),
        Some(VoidVerdict::UnreadableRequest),
        "it cannot be read there yet"
    );
    for (asking, telling) in [(AGENT, PHONE), (TABLET, AGENT)] {
        assert_eq!(decision(&desk, asking, request), None);
        let asked = desk.send_all(asking);
        desk.deliver(telling, asked);
        let told = desk.send_all(telling);
        let told = desk.deliver(asking, told);
        assert_eq!(decision(&desk, asking, request), Some((Verdict::Approved, first)));
        let [Event::MessageRepaired(message)] = &told.events[..] else { panic!("{:?}", told.events) };
        match &message.content {
            ShownContent::Request(shown) => {
                assert_eq!((&shown.request, shown.verdict), (&self::request(), Some(Verdict::Approved)));
            }
            ShownContent::Verdict { request_id, verdict, counts } => {
                assert_eq!((*request_id, *verdict), (message_id(request), Verdict::Approved));
                assert!(*counts);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A server that has taken a verdict says that another request, of which nobody has decided, is the one that was decided on.
#[test]
fn what_is_approved_is_not_moved_to_another_request_by_an_acknowledgement() {
    let (mut desk, harmless) = asked();
    desk.deliver(PHONE, [harmless]);
    let approved = decide(&mut desk, PHONE, harmless, Verdict::Approved);
    desk.deliver(AGENT, [approved]);
    assert_eq!(void(&desk, AGENT, approved), None);
    let other = Asked {
        text: String::new(),
        request: ApprovalRequest { action: "delete all".to_owned(), ..request() },
        verdict_key: ambient::idempotency_key(),
    };
    let body = Body::ApprovalRequest(Box::new(other));
    // Under the id of the first and its number, under the id alone, and under the number alone.
    for (id, number) in [(harmless, harmless), (harmless, 9), (9, harmless)] {
        let local_id = desk.write(AGENT, body.clone());
        let settled = desk.acknowledge(AGENT, local_id, id, number).settled;
        assert!(settled.is_empty(), "{id} {number}");
        let kept = desk.seats[AGENT].store.read(|tx| tx.message(message_id(harmless))).unwrap().unwrap();
        let MessageContent::Known(Body::ApprovalRequest(asked)) = kept.content else { panic!("it is there") };
        assert_eq!((kept.sequence_number, &asked.request), (harmless, &request()));
        assert!(desk.seats[AGENT].store.read(|tx| tx.outbox(local_id)).unwrap().is_some(), "it is owed yet");
    }
    // Nor would it count if another lay there all the same.
    let moved = desk.seats[AGENT].store.update(|tx| {
        let mut record = tx.message(message_id(harmless))?.expect("it is there");
        record.content = MessageContent::Known(body);
        tx.put_message(&record);
        Ok::<_, StoreError>(())
    });
    moved.unwrap();
    assert_eq!(void(&desk, AGENT, approved), Some(VoidVerdict::BadSignature));
}

#[test]
fn a_message_is_not_found_by_the_id_of_another_that_lay_in_its_place() {
    let (mut desk, request) = asked();
    let number = desk.text(PHONE, "hello");
    desk.deliver(AGENT, [number]);
    let store = &desk.seats[AGENT].store;
    let found = store.update(|tx| {
        let record = tx.message(message_id(number))?.expect("it is there");
        tx.put_message(&MessageRecord { sequence_number: request, ..record });
        tx.message(message_id(request))
    });
    assert_eq!(found.unwrap(), None);
}

#[test]
fn only_a_verdict_that_counts_is_shown_as_one_that_does() {
    let (mut desk, request) = asked();
    desk.deliver(PHONE, [request]);
    let unsigned =
        SignedVerdict { signature: String::new(), ..signed(&desk, PHONE, request, Verdict::Denied) };
    let unsigned = desk.post(PHONE, Body::Verdict(unsigned), None);
    let signed = decide(&mut desk, PHONE, request, Verdict::Approved);
    let counts = |event: &Event| match event {
        Event::MessageReceived(message) => match message.content {
            ShownContent::Verdict { verdict, counts, .. } => Some((verdict, counts)),
            _ => None,
        },
        _ => None,
    };
    let told = desk.deliver(AGENT, [unsigned, signed]);
    let shown: Vec<_> = told.events.iter().filter_map(counts).collect();
    assert_eq!(shown, [(Verdict::Denied, false), (Verdict::Approved, true)]);
}
